//! When there is an alert, and where it goes.

use std::collections::BTreeSet;

use super::{Rule, WebhookTarget};
use crate::error::{Error, Result};
use crate::limits;

/// When there is an alert, and where it goes. Times are in milliseconds.
pub struct AlertOptions {
    /// The time that counts are of.
    pub window_ms: u64,
    /// Records that did not open.
    pub open_failures: u32,
    /// Signatures that did not verify.
    pub signature_failures: u32,
    /// Requests for a tenant by who does not work for it.
    pub cross_tenant: u32,
    /// Tokens and proofs that were used before.
    pub token_replays: u32,
    /// How many times the usual volume is too much; 0 is never.
    pub volume_factor: u32,
    /// Records an hour that are never too many.
    pub volume_floor: u32,
    /// How long a tenant is only watched before any volume of it is too much.
    pub warm_up_ms: u64,
    /// How often the log says that it is written; 0 is never.
    pub heartbeat_ms: u64,
    /// By how much the clock may part from the time that has passed.
    pub clock_jump_ms: u64,
    /// How long further alerts of one rule about one tenant are held back.
    pub repeat_ms: u64,
    /// Rules that pause the reads of the tenant they are about.
    pub trips: BTreeSet<Rule>,
    /// Whom to tell over HTTP.
    pub webhook: Option<WebhookTarget>,
}

impl Default for AlertOptions {
    /// See [`crate::manual::defaults`].
    fn default() -> Self {
        Self {
            window_ms: 300_000,
            open_failures: 1,
            signature_failures: 5,
            cross_tenant: 3,
            token_replays: 3,
            volume_factor: 10,
            volume_floor: 1_000,
            warm_up_ms: 86_400_000,
            heartbeat_ms: 300_000,
            clock_jump_ms: 10_000,
            repeat_ms: 3_600_000,
            trips: BTreeSet::new(),
            webhook: None,
        }
    }
}

impl AlertOptions {
    /// Refuses what cannot be kept.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(rule) = self.trips.iter().find(|rule| !rule.is_about_tenants()) {
            return Err(Error::invalid(format!("`{rule}` is about no tenant and cannot pause one"))
                .with_remedy("leave it out of the setting `alert_trips`"));
        }
        let counts = [self.open_failures, self.signature_failures, self.cross_tenant, self.token_replays];
        if self.window_ms == 0 || counts.iter().any(|count| !(1..=limits::ALERT_COUNT).contains(count)) {
            return Err(Error::invalid("an alert has no such threshold or time").with_remedy(format!(
                "set thresholds of 1 to {}, and a window of a second or more",
                limits::ALERT_COUNT
            )));
        }
        Ok(())
    }

    /// From how many on within the window there is an alert of a rule that counts.
    pub(super) fn threshold(&self, rule: Rule) -> u64 {
        u64::from(match rule {
            Rule::OpenFailures => self.open_failures,
            Rule::SignatureFailures => self.signature_failures,
            Rule::CrossTenant => self.cross_tenant,
            Rule::TokenReplays => self.token_replays,
            Rule::ReadingVolume | Rule::LogStalled | Rule::ClockJump | Rule::RandomSource | Rule::EventsMissed => 1,
        })
    }
}
