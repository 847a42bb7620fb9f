//! How much is usually read of a tenant, by the hour, and whether this hour is far beyond that.
//!
//! Usual is what nine of ten hours of the last week do not exceed, or, if that is more, what the same hour of the day has
//! in the middle of the days before: so neither nights nor a job that runs once a day make an ordinary hour look like a
//! burst. One burst moves neither, and an hour that raised an alert counts as no more than what was allowed.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::signal::Amount;
use crate::limits;

/// An hour, in milliseconds.
pub(super) const HOUR_MS: u64 = 3_600_000;
const DAY: usize = 24;
/// Hours that are remembered: a week.
const HOURS: usize = 7 * DAY;

/// When a volume is too much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) factor: u64,
    pub(super) floor: u64,
    pub(super) warm_up_ms: u64,
}

/// What was read of every tenant.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Volumes {
    tenants: HashMap<String, Tenant>,
}

/// What was read of one: pairs of records and bytes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    first_ms: u64,
    /// The hour that is counted, since 1970.
    hour: u64,
    now: (u64, u64),
    /// The hours before it, oldest first.
    before: VecDeque<(u64, u64)>,
    /// What is allowed in this hour, once that was asked for.
    #[serde(skip)]
    allowed: Option<(u64, u64)>,
}

/// An hour that is beyond what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excess {
    /// Records in this hour so far.
    pub(super) records: u64,
    /// As many are allowed.
    pub(super) allowed: u64,
}

impl Volumes {
    /// Counts what was read, and says whether that is too much in this hour.
    pub(super) fn read(&mut self, tenant: &str, at_ms: u64, amount: Amount, bounds: Bounds) -> Option<Excess> {
        let hour = at_ms / HOUR_MS;
        if !self.tenants.contains_key(tenant) {
            self.make_room();
            let new = Tenant { first_ms: at_ms, hour, now: (0, 0), before: VecDeque::new(), allowed: None };
            self.tenants.insert(tenant.to_owned(), new);
        }
        let known = self.tenants.get_mut(tenant)?;
        known.turn(hour, bounds);
        known.now.0 = known.now.0.saturating_add(amount.records);
        known.now.1 = known.now.1.saturating_add(amount.bytes);
        let warm = at_ms.saturating_sub(known.first_ms) >= bounds.warm_up_ms;
        if bounds.factor == 0 || !warm {
            return None;
        }
        let (records, bytes) = known.allowed(bounds);
        let beyond = known.now.0 > records || known.now.1 > bytes;
        beyond.then_some(Excess { records: known.now.0, allowed: records })
    }

    /// Lets go of the tenant that was read longest ago when there are too many.
    fn make_room(&mut self) {
        if self.tenants.len() < limits::ALERT_TENANTS {
            return;
        }
        let oldest = self.tenants.iter().min_by_key(|(_, tenant)| tenant.hour).map(|(name, _)| name.clone());
        oldest.and_then(|name| self.tenants.remove(&name));
    }
}

impl Tenant {
    /// Goes on to `hour`. A clock that was set back goes on counting where it was.
    fn turn(&mut self, hour: u64, bounds: Bounds) {
        if hour <= self.hour {
            return;
        }
        let allowed = self.allowed(bounds);
        self.before.push_back((self.now.0.min(allowed.0), self.now.1.min(allowed.1)));
        let idle = usize::try_from(hour - self.hour - 1).unwrap_or(HOURS).min(HOURS);
        self.before.extend(std::iter::repeat_n((0, 0), idle));
        let surplus = self.before.len().saturating_sub(HOURS);
        self.before.drain(..surplus);
        (self.hour, self.now, self.allowed) = (hour, (0, 0), None);
    }

    /// Records and bytes that are allowed in this hour. While a tenant is new, anything is.
    fn allowed(&mut self, bounds: Bounds) -> (u64, u64) {
        match self.allowed {
            Some(allowed) => allowed,
            None => *self.allowed.insert(self.look(bounds)),
        }
    }

    fn look(&self, bounds: Bounds) -> (u64, u64) {
        if self.before.len() < DAY {
            return (u64::MAX, u64::MAX);
        }
        let of = |pick: fn(&(u64, u64)) -> u64, floor: u64| {
            let hours: Vec<u64> = self.before.iter().map(pick).collect();
            usual(&hours).saturating_mul(bounds.factor).max(floor)
        };
        (of(|hour| hour.0, bounds.floor), of(|hour| hour.1, limits::ALERT_VOLUME_FLOOR_BYTES))
    }
}

/// What is usual in the hour after `hours`.
fn usual(hours: &[u64]) -> u64 {
    let mut sorted = hours.to_vec();
    sorted.sort_unstable();
    let most = sorted.get((sorted.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(0);
    let mut same: Vec<u64> = hours.iter().rev().skip(DAY - 1).step_by(DAY).copied().collect();
    same.sort_unstable();
    // The lower of the two in the middle: one day alone says nothing against another.
    let same = same.get(same.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    most.max(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { factor: 10, floor: 1_000, warm_up_ms: 86_400_000 };

    /// Reads so much in each hour, and returns the hours with an excess.
    fn excesses(volumes: &mut Volumes, hours: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let read = |(hour, records): (usize, u64)| {
            let at_ms = hour as u64 * HOUR_MS + 1;
            volumes.read("t", at_ms, Amount { records, bytes: 0 }, BOUNDS).map(|_| hour)
        };
        hours.into_iter().enumerate().filter_map(read).collect()
    }

    fn found(hours: impl IntoIterator<Item = u64>) -> Vec<usize> {
        excesses(&mut Volumes::default(), hours)
    }

    #[test]
    fn ordinary_weeks_raise_nothing() {
        let steady = (0..400).map(|_| 500);
        assert!(found(steady).is_empty());
        let office = (0..400).map(|hour| if (8..17).contains(&(hour % 24)) { 20_000 } else { 0 });
        assert!(found(office).is_empty(), "nights");
        // Twice as much every three days.
        let growing = (0..600).map(|hour| 500 << (hour / 72));
        assert!(found(growing).is_empty(), "growth");
        // The first day of a new tenant, whatever it is.
        assert!(found([1, 1_000_000, 3]).is_empty());
    }

    #[test]
    fn a_burst_raises_an_alert_and_a_second_one_too() {
        let burst = |at: usize| move |hour: usize| if hour == at || hour == at + 30 { 50_000 } else { 500 };
        assert_eq!(found((0..300).map(burst(100))), [100, 130]);
        // A nightly job is noticed while nobody knows it, and then it is usual.
        let nightly = (0..24 * 10).map(|hour| if hour % 24 == 2 { 100_000 } else { 500 });
        let first = found(nightly);
        assert!(first.len() <= 1, "{first:?}");
    }

    #[test]
    fn a_tenant_that_was_away_is_judged_by_what_it_did() {
        let mut volumes = Volumes::default();
        excesses(&mut volumes, (0..48).map(|_| 5_000));
        let read = |volumes: &mut Volumes, hour: u64, records| {
            volumes.read("t", hour * HOUR_MS, Amount { records, bytes: 0 }, BOUNDS)
        };
        assert_eq!(read(&mut volumes, 60, 40_000), None, "within a week");
        assert!(read(&mut volumes, 60, 40_000).is_some());
        assert!(read(&mut volumes, 500, 1_001).is_some(), "after weeks without anything");
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let mut volumes = Volumes::default();
        excesses(&mut volumes, (0..50).map(|_| 200));
        let kept = serde_json::to_string(&volumes).unwrap();
        let mut again: Volumes = serde_json::from_str(&kept).unwrap();
        let amount = Amount { records: 50_000, bytes: 0 };
        assert!(again.read("t", 50 * HOUR_MS, amount, BOUNDS).is_some());
    }

    #[test]
    fn tenants_are_bounded() {
        let mut volumes = Volumes::default();
        for n in 0..limits::ALERT_TENANTS + 10 {
            volumes.read(&n.to_string(), n as u64 * HOUR_MS, Amount::default(), BOUNDS);
        }
        assert_eq!(volumes.tenants.len(), limits::ALERT_TENANTS);
        assert!(!volumes.tenants.contains_key("0"));
    }
}
