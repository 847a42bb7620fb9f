//! What a sidecar counts.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::audit::alert::Alerts;
use crate::server::Counts;
use crate::token::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shown(Refusal);

impl EncodeLabelValue for Shown {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

/// Counters and gauges, and how they are shown.
pub(super) struct Metrics {
    registry: Registry,
    redeemed: Counter,
    records: Counter,
    refused: Family<Reason, Counter>,
    pub(super) failed: Counter,
    pub(super) busy: Counter,
    pub(super) verified: Counter,
    pub(super) contacts: Counter,
    connections: Arc<Counts>,
    seconds: Histogram,
    open_contacts: Gauge,
    tenants: Gauge,
    tokens: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("strongroom_sidecar");
        // From 4 µs to half a second.
        let seconds = Histogram::new(exponential_buckets(4e-6, 2.0, 18));
        let (redeemed, records, failed, busy, verified) = <(Counter, Counter, Counter, Counter, Counter)>::default();
        let (contacts, connections) = <(Counter, Arc<Counts>)>::default();
        let refused = Family::<Reason, Counter>::default();
        let (open_contacts, tenants, tokens) = <(Gauge, Gauge, Gauge)>::default();
        registry.register("redeems", "Requests that were answered", redeemed.clone());
        registry.register("records", "Records that were opened", records.clone());
        registry.register("refusals", "Requests that were refused, by reason", refused.clone());
        registry.register("failures", "Requests that failed for no fault of the caller", failed.clone());
        registry.register("busy", "Requests that came too fast", busy.clone());
        registry.register("tokens_verified", "Tokens whose signature was checked", verified.clone());
        registry.register("contacts", "Contacts that were made", contacts.clone());
        registry.register_collector(Box::new(connections.clone()));
        let help = "How long answered requests took";
        registry.register_with_unit("redeem_duration", help, Unit::Seconds, seconds.clone());
        registry.register("contacts_open", "Contacts that have not ended", open_contacts.clone());
        registry.register("tenants_held", "Tenants whose keys are in memory", tenants.clone());
        registry.register("tokens_counted", "Tokens whose uses are counted", tokens.clone());
        Self {
            registry,
            redeemed,
            records,
            refused,
            failed,
            busy,
            verified,
            contacts,
            connections,
            seconds,
            open_contacts,
            tenants,
            tokens,
        }
    }
}

impl Metrics {
    /// Shows what alerts count too.
    pub(super) fn watched_by(&mut self, alerts: &Alerts) {
        alerts.register(&mut self.registry);
    }

    /// What its server counts.
    pub(super) fn connections(&self) -> &Arc<Counts> {
        &self.connections
    }

    pub(super) fn answered(&self, records: usize, took: Duration) {
        self.redeemed.inc();
        self.records.inc_by(records as u64);
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused.get_or_create(&Reason { reason: Shown(refusal) }).inc();
    }

    pub(super) fn render(&self, contacts: usize, tenants: usize, tokens: usize) -> String {
        let set = |gauge: &Gauge, n: usize| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        set(&self.open_contacts, contacts);
        set(&self.tenants, tenants);
        set(&self.tokens, tokens);
        let mut shown = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut shown, &self.registry);
        shown
    }
}
