//! What the alerts count. No tenant is named: that would tell who they are.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Rule;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    rule: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shown(Rule);

impl EncodeLabelValue for Shown {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

/// Counters and gauges. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Metrics {
    raised: Family<Of, Counter>,
    pub(super) held_back: Counter,
    pub(super) missed: Counter,
    pub(super) unwritten: Counter,
    pub(super) delivered: Counter,
    pub(super) undelivered: Counter,
    pub(super) tripped: Gauge,
}

impl Metrics {
    pub(super) fn raised(&self, rule: Rule) {
        self.raised.get_or_create(&Of { rule: Shown(rule) }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("alerts", "Alerts, by rule", self.raised.clone());
        registry.register("alerts_held_back", "Alerts that said what was just said", self.held_back.clone());
        registry.register("audit_events_missed", "Events that the rules did not see", self.missed.clone());
        registry.register("audit_events_unwritten", "Events that could not be recorded", self.unwritten.clone());
        registry.register("webhooks_delivered", "Alerts that the webhook has taken", self.delivered.clone());
        registry.register("webhooks_undelivered", "Alerts that the webhook never got", self.undelivered.clone());
        registry.register("tenants_paused", "Tenants whose reads are paused", self.tripped.clone());
    }
}
