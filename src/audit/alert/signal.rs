//! What an event says to the rules: most say nothing.

use super::Rule;
use crate::audit::actions;
use crate::audit::{Event, Outcome, Reason, What};
use crate::{envelope, token};

/// What the rules learn of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) at_ms: u64,
    pub(super) tenant: Option<String>,
    pub(super) service: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something that a rule counts.
    Count(Rule, u64),
    /// Records were opened for somebody.
    Read(Amount),
}

/// How much was read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Signal {
    /// What `event` says; `None` when that is nothing.
    pub(super) fn of(event: &Event) -> Option<Self> {
        kind(event).map(|kind| Self::new(event, kind))
    }

    pub(super) fn new(event: &Event, kind: Kind) -> Self {
        Self { at_ms: event.at_ms, tenant: event.tenant.clone(), service: event.service.clone(), kind }
    }
}

/// What is in `event` for the rules; `None` when that is nothing.
pub(super) fn kind(event: &Event) -> Option<Kind> {
    let once = |rule| Some(Kind::Count(rule, 1));
    match &event.what {
        // What is begun is counted when it is done.
        What::Read { .. } if event.outcome != Outcome::Done => None,
        What::Read { records, bytes, .. } => Some(Kind::Read(Amount { records: *records, bytes: *bytes })),
        What::Redeemed { records, .. } => Some(Kind::Read(Amount { records: (*records).into(), bytes: 0 })),
        What::OpenFailed { .. } => once(Rule::OpenFailures),
        What::SignaturesRefused { signatures } => Some(Kind::Count(Rule::SignatureFailures, (*signatures).into())),
        What::Refused { reason: Reason::Scope } => once(Rule::CrossTenant),
        What::RedeemRefused { reason } => redeem(*reason).and_then(once),
        What::EnvelopeRefused { reason } => received(*reason).and_then(once),
        What::ActionRefused { reason: actions::Refusal::Signature } => once(Rule::SignatureFailures),
        What::ActionRefused { reason: actions::Refusal::Tenant } => once(Rule::CrossTenant),
        What::HealthTestFailed { .. } => once(Rule::RandomSource),
        _ => None,
    }
}

fn redeem(reason: token::Refusal) -> Option<Rule> {
    use token::Refusal;
    match reason {
        Refusal::Signature | Refusal::Proof => Some(Rule::SignatureFailures),
        Refusal::Tenant => Some(Rule::CrossTenant),
        Refusal::Replay | Refusal::UsedUp => Some(Rule::TokenReplays),
        Refusal::Open => Some(Rule::OpenFailures),
        _ => None,
    }
}

fn received(reason: envelope::Refusal) -> Option<Rule> {
    use envelope::Refusal;
    match reason {
        Refusal::Signature => Some(Rule::SignatureFailures),
        Refusal::Tenant => Some(Rule::CrossTenant),
        Refusal::Replay => Some(Rule::TokenReplays),
        Refusal::Open | Refusal::Ciphertext => Some(Rule::OpenFailures),
        _ => None,
    }
}
