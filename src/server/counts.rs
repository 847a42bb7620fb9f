//! What a server counts of its peers.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tokio_rustls::rustls::NamedGroup;

/// What a server has seen since it was started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections of known peers.
    pub connections: AtomicU64,
    /// Those whose key exchange was X25519MLKEM768: over TLS, all but the exceptions.
    pub post_quantum: AtomicU64,
    /// Those of exceptions whose key exchange was X25519.
    pub x25519: AtomicU64,
    /// Those of exceptions whose key exchange was ECDHE over P-384.
    pub secp384r1: AtomicU64,
    /// Connections of peers that nobody knows.
    pub unknown_peers: AtomicU64,
    /// Connections that never got through the TLS handshake.
    pub handshakes_failed: AtomicU64,
    /// Those that were refused because their key exchange was classical.
    pub classical_refused: AtomicU64,
    /// Connections and requests beyond what a service may have at once.
    pub over_limit: AtomicU64,
}

impl Counts {
    /// A known peer has connected.
    pub(super) fn connected(&self, group: Option<NamedGroup>) {
        add(&self.connections);
        match group {
            Some(NamedGroup::X25519MLKEM768) => add(&self.post_quantum),
            Some(NamedGroup::X25519) => add(&self.x25519),
            Some(NamedGroup::secp384r1) => add(&self.secp384r1),
            // On a Unix socket; others are not offered.
            _ => {}
        }
    }

    fn by_group(&self) -> [(&'static str, u64); 4] {
        let [all, hybrid, x25519, secp384r1] =
            [&self.connections, &self.post_quantum, &self.x25519, &self.secp384r1].map(of);
        let local = all.saturating_sub(hybrid).saturating_sub(x25519).saturating_sub(secp384r1);
        [("X25519MLKEM768", hybrid), ("X25519", x25519), ("secp384r1", secp384r1), ("none", local)]
    }

    fn by_refusal(&self) -> [(&'static str, u64); 4] {
        let [failed, classical] = [&self.handshakes_failed, &self.classical_refused].map(of);
        [
            ("peer", of(&self.unknown_peers)),
            ("classical", classical),
            ("handshake", failed.saturating_sub(classical)),
            ("limit", of(&self.over_limit)),
        ]
    }
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let families = [
            ("connections", "Connections of known peers, by TLS key exchange", "group", self.by_group()),
            ("connections_refused", "Connections and requests that were refused", "reason", self.by_refusal()),
        ];
        for (name, help, label, counts) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, n) in counts {
                ConstCounter::new(n).encode(family.encode_family(&[(label, value)])?)?;
            }
        }
        Ok(())
    }
}
