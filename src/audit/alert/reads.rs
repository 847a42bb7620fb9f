//! What was read since the rules looked last: added up by who reads, so that nobody wakes a thread for it.

use std::collections::HashMap;

use super::signal::{Amount, Kind, Signal};
use super::volume::HOUR_MS;
use crate::limits;

/// Reads by tenant and hour, in the order in which they began.
#[derive(Default)]
pub(super) struct Reads {
    signals: Vec<Signal>,
    /// The latest of a tenant.
    latest: HashMap<String, usize>,
}

impl Reads {
    /// Adds what was read, unless there is too much to keep apart.
    pub(super) fn add(&mut self, tenant: &str, service: &str, at_ms: u64, amount: Amount) -> bool {
        let latest = self.latest.get(tenant).and_then(|at| self.signals.get_mut(*at));
        if let Some(Signal { at_ms: then_ms, kind: Kind::Read(sum), .. }) = latest
            && *then_ms / HOUR_MS == at_ms / HOUR_MS
        {
            sum.records = sum.records.saturating_add(amount.records);
            sum.bytes = sum.bytes.saturating_add(amount.bytes);
            return true;
        }
        if self.signals.len() >= limits::ALERT_QUEUE {
            return false;
        }
        self.latest.insert(tenant.to_owned(), self.signals.len());
        let (tenant, service) = (Some(tenant.to_owned()), service.to_owned());
        self.signals.push(Signal { at_ms, tenant, service, kind: Kind::Read(amount) });
        true
    }

    /// What was added since this was called last.
    pub(super) fn take(&mut self) -> Vec<Signal> {
        self.latest.clear();
        std::mem::take(&mut self.signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_add_up_by_tenant_and_hour() {
        let mut reads = Reads::default();
        let amount = Amount { records: 2, bytes: 3 };
        for (tenant, at_ms) in [("a", 1), ("b", 1), ("a", 2), ("a", HOUR_MS), ("a", HOUR_MS + 1), ("b", 2)] {
            assert!(reads.add(tenant, "s", at_ms, amount));
        }
        let taken = reads.take();
        let sums: Vec<_> = taken.iter().map(|s| (s.tenant.as_deref().unwrap(), s.at_ms, s.kind)).collect();
        let sum = |n: u64| Kind::Read(Amount { records: 2 * n, bytes: 3 * n });
        assert_eq!(sums, [("a", 1, sum(2)), ("b", 1, sum(2)), ("a", HOUR_MS, sum(2))]);
        assert!(reads.take().is_empty());
        let added = (0..limits::ALERT_QUEUE + 5).filter(|n| reads.add(&n.to_string(), "s", 1, amount)).count();
        assert_eq!(added, limits::ALERT_QUEUE);
    }
}
