//! What the endpoint counts: calls and how long they take, connections. No tenant and no collection is named.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The upper bounds of what calls are sorted into by how long they take, in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    api: &'static str,
    call: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    api: &'static str,
    call: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Group {
    group: &'static str,
}

/// Counters, and how they are shown.
pub(super) struct Metrics {
    registry: Registry,
    calls: Family<Ended, Counter>,
    durations: Family<Call, Histogram>,
    running: Gauge,
    connections: Family<Group, Counter>,
    handshakes_failed: Counter,
    keys_refused: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("strongroom_qdrant");
        let calls = Family::<Ended, Counter>::default();
        let durations = Family::<Call, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let connections = Family::<Group, Counter>::default();
        let (running, handshakes_failed, keys_refused) = <(Gauge, Counter, Counter)>::default();
        registry.register("calls", "Calls that were answered, by status", calls.clone());
        registry.register_with_unit("call_duration", "How long calls take", Unit::Seconds, durations.clone());
        registry.register("calls_running", "Calls under way", running.clone());
        registry.register("connections", "Connections, by TLS key exchange", connections.clone());
        registry.register("handshakes_failed", "Connections without a handshake", handshakes_failed.clone());
        registry.register("keys_refused", "Calls without an API key that is good", keys_refused.clone());
        Self { registry, calls, durations, running, connections, handshakes_failed, keys_refused }
    }

    pub(super) fn connected(&self, group: &'static str) {
        self.connections.get_or_create(&Group { group }).inc();
    }

    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    pub(super) fn key_refused(&self) {
        self.keys_refused.inc();
    }

    /// A call runs until the answer is dropped.
    pub(super) fn running(&self) -> impl Drop + Send + use<> {
        self.running.inc();
        Running(self.running.clone())
    }

    /// A call was answered.
    pub(super) fn ended(&self, api: &'static str, call: &str, status: u16, took: Duration) {
        let call = call.to_owned();
        self.durations.get_or_create(&Call { api, call: call.clone() }).observe(took.as_secs_f64());
        self.calls.get_or_create(&Ended { api, call, status }).inc();
    }

    /// All of them, in the text form of OpenMetrics 1.0.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut shown, &self.registry);
        shown
    }
}

struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
