//! The rules: what they have seen, and what they find. No thread, no clock and no file: all of that is passed in.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::limiter::{Limiter, Subject};
use super::signal::{Kind, Signal};
use super::volume::{Bounds, Volumes};
use super::{Alert, AlertOptions, Rule};
use crate::audit::actions::ActionId;
use crate::clock::Uptime;
use crate::error::Result;
use crate::limits;

/// What the rules know beyond a restart.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    volumes: Volumes,
    /// The time at the last look, by the clock and since the machine was started.
    seen: Option<(u64, Uptime)>,
}

/// The rules.
pub(super) struct Rules {
    options: AlertOptions,
    counts: HashMap<Subject, VecDeque<(u64, u64)>>,
    known: Known,
    limiter: Limiter,
    /// Alerts that were held back.
    pub(super) held_back: u64,
}

/// What a rule found, before it is known whether anybody is told.
struct Finding {
    rule: Rule,
    tenant: Option<String>,
    service: Option<String>,
    count: u64,
    threshold: u64,
}

impl Rules {
    pub(super) fn new(options: AlertOptions, known: Known) -> Self {
        Self { options, counts: HashMap::new(), known, limiter: Limiter::default(), held_back: 0 }
    }

    pub(super) fn options(&self) -> &AlertOptions {
        &self.options
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// What an event says.
    pub(super) fn take(&mut self, signal: Signal) -> Result<Option<Alert>> {
        let at_ms = signal.at_ms;
        let finding = match signal.kind {
            Kind::Count(rule, count) => self.count(rule, count, signal),
            Kind::Read(amount) => {
                let Some(tenant) = signal.tenant else { return Ok(None) };
                let bounds = Bounds {
                    factor: self.options.volume_factor.into(),
                    floor: self.options.volume_floor.into(),
                    warm_up_ms: self.options.warm_up_ms,
                };
                let excess = self.known.volumes.read(&tenant, at_ms, amount, bounds);
                excess.map(|excess| Finding {
                    rule: Rule::ReadingVolume,
                    tenant: Some(tenant),
                    service: Some(signal.service),
                    count: excess.records,
                    threshold: excess.allowed,
                })
            }
        };
        finding.map_or(Ok(None), |finding| self.found(finding, at_ms))
    }

    /// What the time says.
    pub(super) fn look(&mut self, now_ms: u64, uptime: &Uptime) -> Result<Option<Alert>> {
        let jump_ms = self.known.seen.as_ref().map_or(0, |(seen_ms, then)| {
            if then.boot == uptime.boot {
                let passed_ms = uptime.ms.saturating_sub(then.ms);
                let off_ms = now_ms.abs_diff(seen_ms.saturating_add(passed_ms));
                // A clock that is kept right goes a little faster or slower than the machine's own.
                off_ms.saturating_sub(passed_ms / limits::CLOCK_DRIFT)
            } else {
                // While the machine was off, any time may have passed, but not less than none.
                seen_ms.saturating_sub(now_ms)
            }
        });
        self.known.seen = Some((now_ms, uptime.clone()));
        let threshold = self.options.clock_jump_ms;
        if jump_ms <= threshold {
            return Ok(None);
        }
        self.found(Finding { rule: Rule::ClockJump, tenant: None, service: None, count: jump_ms, threshold }, now_ms)
    }

    /// The log could not be written, or says nothing; or events were missed.
    pub(super) fn trouble(&mut self, rule: Rule, count: u64, now_ms: u64) -> Result<Option<Alert>> {
        self.found(Finding { rule, tenant: None, service: None, count, threshold: 1 }, now_ms)
    }

    fn count(&mut self, rule: Rule, count: u64, signal: Signal) -> Option<Finding> {
        let Signal { at_ms, tenant, service, .. } = signal;
        let (window_ms, threshold) = (self.options.window_ms, self.options.threshold(rule));
        let subject = (rule, tenant.clone().unwrap_or_else(|| service.clone()));
        if !self.counts.contains_key(&subject) && self.counts.len() >= limits::ALERT_SUBJECTS {
            let last = |seen: &VecDeque<(u64, u64)>| seen.back().map_or(0, |(at_ms, _)| *at_ms);
            let oldest = self.counts.iter().min_by_key(|(_, seen)| last(seen)).map(|(subject, _)| subject.clone());
            oldest.and_then(|subject| self.counts.remove(&subject));
        }
        let seen = self.counts.entry(subject.clone()).or_default();
        seen.push_back((at_ms, count));
        // A clock that was set back does not make old counts young.
        while seen.front().is_some_and(|(then_ms, _)| at_ms.abs_diff(*then_ms) >= window_ms) {
            seen.pop_front();
        }
        let count = seen.iter().map(|(_, count)| count).sum();
        if count < threshold {
            return None;
        }
        // Counted anew, so that what is kept stays short.
        self.counts.remove(&subject);
        Some(Finding { rule, tenant, service: Some(service), count, threshold })
    }

    fn found(&mut self, finding: Finding, at_ms: u64) -> Result<Option<Alert>> {
        let Finding { rule, tenant, service, count, threshold } = finding;
        let about = tenant.clone().or_else(|| service.clone()).unwrap_or_default();
        let Some(held_back) = self.limiter.admit(&(rule, about), at_ms, self.options.repeat_ms) else {
            self.held_back += 1;
            return Ok(None);
        };
        let id = format!("msg_{}", ActionId::random()?);
        Ok(Some(Alert { id, at_ms, rule, tenant, service, count, threshold, held_back, tripped: false }))
    }
}
