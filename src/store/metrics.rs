//! What a store counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::audit::alert::Alerts;
use crate::error::{ErrorKind, Result};
use crate::rotation::RotationStatus;
use crate::server::Counts;
use crate::vectors::ResidentBudget;

use super::Store;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "these are the values of the label")]
enum Outcome {
    done,
    stopped,
    failed,
}

/// Counters and gauges, and how they are shown. No tenant is named: that would tell who they are.
pub(super) struct Metrics {
    registry: Registry,
    connections: Arc<Counts>,
    records: Counter,
    bytes: Counter,
    rotations: Family<Ended, Counter>,
    running: Gauge,
    speed: Gauge,
    last_done: Gauge,
    destroyed: Counter,
    overdue: Gauge,
    retained: Gauge,
    oldest: Gauge<f64, AtomicU64>,
}

/// How the epochs of a tenant are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epochs {
    /// Whether the active one is due.
    pub(super) overdue: bool,
    /// How many seal no more and are not destroyed.
    pub(super) retained: usize,
    /// Since when the active one seals: Unix time in milliseconds.
    pub(super) active_since_ms: Option<u64>,
}

impl Metrics {
    /// All of them, with those of `alerts`.
    pub(super) fn new(alerts: &Alerts, budget: &ResidentBudget) -> Self {
        let mut registry = Registry::with_prefix("strongroom_store");
        let (records, bytes, destroyed) = <(Counter, Counter, Counter)>::default();
        let rotations = Family::<Ended, Counter>::default();
        let (running, speed, last_done) = <(Gauge, Gauge, Gauge)>::default();
        let (overdue, retained, oldest) = <(Gauge, Gauge, Gauge<f64, AtomicU64>)>::default();
        let connections = Arc::<Counts>::default();
        registry.register_collector(Box::new(connections.clone()));
        alerts.register(&mut registry);
        budget.register(&mut registry);
        registry.register("rotated_records", "Records that rotations moved", records.clone());
        registry.register_with_unit("rotated", "Sealed bytes that rotations moved", Unit::Bytes, bytes.clone());
        registry.register("rotations", "Rotations that ended, by outcome", rotations.clone());
        registry.register("rotations_running", "Rotations under way", running.clone());
        registry.register("rotation_speed_percent", "How fast rotations go that can wait", speed.clone());
        let help = "When a rotation was done last, as Unix time";
        registry.register_with_unit("rotation_last_done", help, Unit::Seconds, last_done.clone());
        registry.register("epochs_destroyed", "Epochs that were destroyed", destroyed.clone());
        registry.register("tenants_overdue", "Tenants whose epoch is due to be rotated", overdue.clone());
        registry.register("epochs_retained", "Epochs that only open", retained.clone());
        let help = "For how long the oldest active epoch has sealed";
        registry.register_with_unit("oldest_epoch_age", help, Unit::Seconds, oldest.clone());
        Self {
            registry,
            connections,
            records,
            bytes,
            rotations,
            running,
            speed,
            last_done,
            destroyed,
            overdue,
            retained,
            oldest,
        }
    }
}

impl Metrics {
    /// A rotation runs until the answer is dropped.
    pub(super) fn running(&self) -> impl Drop {
        self.running.inc();
        Running(self.running.clone())
    }

    /// A rotation has moved everything up to `now`, records and bytes, since `counted`.
    pub(super) fn moved(&self, counted: &mut (u64, u64), now: (u64, u64)) {
        self.records.inc_by(now.0.saturating_sub(counted.0));
        self.bytes.inc_by(now.1.saturating_sub(counted.1));
        *counted = now;
    }

    /// A rotation has ended.
    pub(super) fn rotated(&self, done: &Result<RotationStatus>) {
        let outcome = match done {
            Ok(status) => {
                let at_ms = status.last.as_ref().map_or(0, |last| last.finished_at_ms);
                self.last_done.set(i64::try_from(at_ms / 1000).unwrap_or(i64::MAX));
                Outcome::done
            }
            Err(e) if e.kind() == ErrorKind::Partial => Outcome::stopped,
            Err(_) => Outcome::failed,
        };
        self.rotations.get_or_create(&Ended { outcome }).inc();
    }

    pub(super) fn destroyed(&self, epochs: usize) {
        self.destroyed.inc_by(epochs as u64);
    }

    /// What is known of all tenants.
    pub(super) fn epochs(&self, all: impl Iterator<Item = Epochs> + Clone, now_ms: u64) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.overdue.set(count(all.clone().filter(|epochs| epochs.overdue).count()));
        self.retained.set(count(all.clone().map(|epochs| epochs.retained).sum()));
        let oldest_ms = all.filter_map(|epochs| epochs.active_since_ms).min().map(|since| now_ms.saturating_sub(since));
        self.oldest.set(oldest_ms.unwrap_or(0) as f64 / 1000.0);
    }
}

struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Store {
    /// The metrics, in the text form of OpenMetrics 1.0.
    pub fn metrics(&self) -> String {
        let metrics = &self.inner.metrics;
        let percent = if metrics.running.get() > 0 { self.inner.rotations.throttle.percent() } else { 100 };
        metrics.speed.set(percent.into());
        let mut shown = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut shown, &metrics.registry);
        shown
    }

    /// What a server of this store counts: part of the metrics.
    pub fn connections(&self) -> Arc<Counts> {
        self.inner.metrics.connections.clone()
    }
}
