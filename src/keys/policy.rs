//! Cryptoperiods (NIST SP 800-57 part 1 rev. 5, section 5.3): how long keys are used, and what is overdue.

use serde::{Deserialize, Serialize};

use super::{EpochState, TenantRecord};
use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::limits;

const DAY_MS: u64 = 86_400_000;

/// How long keys are used. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How long an epoch seals: its originator-usage period.
    pub epoch_ms: u64,
    /// How long an epoch that seals no more still opens, before it is destroyed.
    pub retention_ms: u64,
    /// How long a session lasts when nothing else is asked for.
    pub session_ms: u64,
    /// The longest that may be asked for.
    pub session_max_ms: u64,
}

impl Default for Policy {
    /// 30 days, 7 days, an hour, a day.
    fn default() -> Self {
        Self {
            epoch_ms: 30 * DAY_MS,
            retention_ms: 7 * DAY_MS,
            session_ms: DAY_MS / 24,
            session_max_ms: limits::SESSION_CREDENTIAL_MS,
        }
    }
}

/// What should be done with an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "due")]
pub enum Due {
    /// Another epoch should take over.
    Rotate {
        /// The one that has sealed for too long.
        epoch: Epoch,
        /// For how long that has been overdue.
        overdue_ms: u64,
    },
    /// Its retention is over. What is still sealed in it must be sealed anew first.
    Destroy {
        /// The one that seals no more.
        epoch: Epoch,
        /// For how long that has been overdue.
        overdue_ms: u64,
    },
}

impl Policy {
    /// Refuses what cannot be kept.
    pub fn check(&self) -> Result<()> {
        if self.epoch_ms < limits::EPOCH_MIN_MS {
            return Err(Error::invalid(format!("an epoch seals for at least {} ms", limits::EPOCH_MIN_MS)));
        }
        if self.session_ms == 0 || self.session_ms > self.session_max_ms {
            return Err(Error::invalid("the default length of a session is 0 or above the longest one"));
        }
        if self.session_max_ms > limits::SESSION_CREDENTIAL_MS {
            return Err(Error::invalid(format!("a session lasts at most {} ms", limits::SESSION_CREDENTIAL_MS)));
        }
        Ok(())
    }

    /// Refuses a session's length that the policy does not allow.
    pub fn check_session(&self, lifetime_ms: u64) -> Result<()> {
        if lifetime_ms == 0 || lifetime_ms > self.session_max_ms {
            return Err(Error::invalid(format!("a session cannot last {lifetime_ms} ms"))
                .with_remedy(format!("ask for 1 to {} ms", self.session_max_ms)));
        }
        Ok(())
    }

    /// What is due at `now_ms`, in the order of the epochs.
    pub fn due(&self, tenant: &TenantRecord, now_ms: u64) -> Vec<Due> {
        let overdue = |since_ms: u64, period_ms: u64| now_ms.checked_sub(since_ms.saturating_add(period_ms));
        let one = |e: &super::EpochRecord| match e.state {
            EpochState::Active => {
                // One that began in days to come was made by a clock that was wrong. Waiting for them could take years.
                let from_the_future = (e.since_ms > now_ms.saturating_add(DAY_MS)).then_some(0);
                let overdue_ms = overdue(e.since_ms, self.epoch_ms).or(from_the_future);
                overdue_ms.map(|overdue_ms| Due::Rotate { epoch: e.epoch, overdue_ms })
            }
            EpochState::Deactivated | EpochState::Compromised => {
                overdue(e.since_ms, self.retention_ms).map(|overdue_ms| Due::Destroy { epoch: e.epoch, overdue_ms })
            }
            EpochState::PreActive | EpochState::Destroyed => None,
        };
        tenant.epochs.iter().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{SuiteId, default_provider};
    use crate::keys::{EpochRecord, Fingerprint, Profile};

    fn tenant(epochs: &[(EpochState, u64)]) -> TenantRecord {
        let print = Fingerprint::of(default_provider(), b"x");
        let epochs = (1..).zip(epochs).map(|(number, (state, since_ms))| EpochRecord {
            epoch: Epoch::try_from(number).unwrap(),
            state: *state,
            suite: SuiteId::ALL[0].as_str().to_owned(),
            created_at_ms: 0,
            since_ms: *since_ms,
            fingerprint: print.clone(),
            root_fingerprint: print.clone(),
        });
        TenantRecord {
            profile: Profile::default(),
            root_fingerprint: print.clone(),
            signing_fingerprint: print.clone(),
            certificate_fingerprint: print.clone(),
            created_at_ms: 0,
            epochs: epochs.collect(),
            root_keys: Vec::new(),
        }
    }

    /// Guards against an epoch that is used for longer than its period, or destroyed before its retention is over.
    #[test]
    fn periods_end_on_the_millisecond() {
        use EpochState::{Active, Compromised, Deactivated, Destroyed, PreActive};
        let policy = Policy { epoch_ms: 60_000, retention_ms: 1_000, ..Policy::default() };
        let states = [(Destroyed, 0), (Compromised, 99_500), (Deactivated, 99_000), (Active, 40_000), (PreActive, 0)];
        let tenant = tenant(&states);
        let number = |n| Epoch::try_from(n).unwrap();
        assert_eq!(policy.due(&tenant, 99_999), []);
        assert_eq!(
            policy.due(&tenant, 100_000),
            [Due::Destroy { epoch: number(3), overdue_ms: 0 }, Due::Rotate { epoch: number(4), overdue_ms: 0 }]
        );
        assert_eq!(policy.due(&tenant, 100_501).first(), Some(&Due::Destroy { epoch: number(2), overdue_ms: 1 }));
        assert_eq!(policy.due(&tenant, 0), []);
        // Set back by more than a day, it is due at once.
        let from_tomorrow = self::tenant(&[(Active, 2 * DAY_MS)]);
        assert_eq!(policy.due(&from_tomorrow, DAY_MS), []);
        assert_eq!(policy.due(&from_tomorrow, DAY_MS - 1), [Due::Rotate { epoch: number(1), overdue_ms: 0 }]);
    }

    #[test]
    fn a_policy_that_cannot_be_kept_is_refused() {
        let good = Policy::default();
        good.check().unwrap();
        let bad = [
            Policy { epoch_ms: limits::EPOCH_MIN_MS - 1, ..good },
            Policy { session_ms: 0, ..good },
            Policy { session_ms: good.session_max_ms + 1, ..good },
            Policy { session_max_ms: limits::SESSION_CREDENTIAL_MS + 1, ..good },
        ];
        for policy in bad {
            assert!(policy.check().is_err(), "{policy:?}");
        }
        assert!(good.check_session(0).is_err() && good.check_session(good.session_max_ms + 1).is_err());
        good.check_session(good.session_max_ms).unwrap();
    }
}
