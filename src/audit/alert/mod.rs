//! Alerts: what an operator should hear of at once, found in the stream of events beside its way into the log.
//!
//! ```text
//! event ─► Watched ─► the log
//!             │ off the caller's way, through a bounded queue
//!             ▼
//!           Rules ─► Limiter ─► log line, metric, Webhook, Breaker
//! ```
//! An [`Alert`] never names a tenant but by its pseudonym. `src/manual/alerts.md` says what each [`Rule`] finds and what to
//! do about it.

mod baseline;
mod breaker;
mod heart;
mod limiter;
mod metrics;
mod options;
mod reads;
mod rules;
mod signal;
mod target;
mod volume;
mod watch;
mod watched;
mod webhook;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use baseline::BASELINE_FILE;
pub use breaker::{Breaker, Gate, Operator, Trip};
pub use options::AlertOptions;
pub use target::{WebhookSecret, WebhookTarget};
pub use watch::{Alerts, WatchParts};
pub use watched::Watched;

/// What is looked out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Records that do not open.
    OpenFailures,
    /// Signatures that do not verify.
    SignatureFailures,
    /// Requests for a tenant by who does not work for it.
    CrossTenant,
    /// Tokens or proofs that were used before.
    TokenReplays,
    /// A tenant from whom far more is read than usual.
    ReadingVolume,
    /// The log is not written any more.
    LogStalled,
    /// The clock was set.
    ClockJump,
    /// The random source failed a health test.
    RandomSource,
    /// Events came faster than the rules could look at them.
    EventsMissed,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 9] = [
        Rule::OpenFailures,
        Rule::SignatureFailures,
        Rule::CrossTenant,
        Rule::TokenReplays,
        Rule::ReadingVolume,
        Rule::LogStalled,
        Rule::ClockJump,
        Rule::RandomSource,
        Rule::EventsMissed,
    ];

    /// The name in settings, metrics and alerts.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::OpenFailures => "open-failures",
            Rule::SignatureFailures => "signature-failures",
            Rule::CrossTenant => "cross-tenant",
            Rule::TokenReplays => "token-replays",
            Rule::ReadingVolume => "reading-volume",
            Rule::LogStalled => "log-stalled",
            Rule::ClockJump => "clock-jump",
            Rule::RandomSource => "random-source",
            Rule::EventsMissed => "events-missed",
        }
    }

    /// Whether it can be about a tenant, and so trip a breaker.
    pub fn is_about_tenants(self) -> bool {
        match self {
            Rule::OpenFailures
            | Rule::SignatureFailures
            | Rule::CrossTenant
            | Rule::TokenReplays
            | Rule::ReadingVolume => true,
            Rule::LogStalled | Rule::ClockJump | Rule::RandomSource | Rule::EventsMissed => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Rule::ALL.into_iter().find(|rule| rule.as_str() == name).ok_or_else(|| {
            let names = Rule::ALL.map(Rule::as_str).join(", ");
            Error::invalid(format!("`{}` is not a rule", crate::id::shown(name))).with_remedy(format!("use {names}"))
        })
    }
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its own name.
    pub id: String,
    /// When: Unix time in milliseconds.
    pub at_ms: u64,
    /// The rule that found it.
    pub rule: Rule,
    /// The tenant that it is about, by its pseudonym.
    pub tenant: Option<String>,
    /// The service whose doing it is, where there is one.
    pub service: Option<String>,
    /// How many; of [`Rule::ReadingVolume`] records in this hour, of [`Rule::ClockJump`] milliseconds.
    pub count: u64,
    /// From how many on there is an alert.
    pub threshold: u64,
    /// Alerts of this rule about this tenant that were held back since the last one.
    pub held_back: u64,
    /// Whether the tenant's reads were paused because of it.
    pub tripped: bool,
}
