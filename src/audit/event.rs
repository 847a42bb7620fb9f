//! An event: when, who, for whom, what, and how it ended.

use serde::Serialize;

use super::What;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::kms::{Operation, Role};
use crate::limits;

/// The version of the form of an event.
pub const EVENT_VERSION: u8 = 1;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The version of its form: [`EVENT_VERSION`].
    pub v: u8,
    /// When: Unix time in milliseconds.
    pub at_ms: u64,
    /// The service that asked; for a peer that nobody knows, what its connection says of it.
    pub service: String,
    /// Its role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What it asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The pseudonym of the tenant: only who holds the keystore can tell whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not yet: it is about to be tried. What became of it follows, unless the process ended in between or the log could
    /// not be written; then the keystore says. Of a [write](What::Written) only a failure follows.
    Begun,
    /// As asked.
    Done,
    /// Not at all.
    Refused,
    /// With an error that is no refusal.
    Failed,
}

/// A peer that has connected to a server, or was refused: an event but for the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The service; of a peer that nobody knows, what its connection says of it.
    pub service: String,
    /// Its role.
    pub role: Option<Role>,
    /// What happened.
    pub what: What,
}

impl Arrival {
    /// Whether it was refused.
    pub fn is_refused(&self) -> bool {
        !matches!(self.what, What::PeerConnected { .. })
    }

    /// The event.
    pub fn event(&self, at_ms: u64) -> Event {
        let outcome = if self.is_refused() { Outcome::Refused } else { Outcome::Done };
        let mut event = Event::new(at_ms, &self.service, self.what.clone(), outcome);
        event.role = self.role;
        event
    }
}

impl Outcome {
    /// How something ended.
    pub fn of<T>(result: &Result<T>) -> Self {
        result.as_ref().map_or_else(Self::of_error, |_| Outcome::Done)
    }

    /// How something ended that did not end well.
    pub fn of_error(error: &Error) -> Self {
        if error.kind() == ErrorKind::Denied { Outcome::Refused } else { Outcome::Failed }
    }
}

impl Event {
    /// An event of `service`, which has no role, operation or tenant yet.
    pub fn new(at_ms: u64, service: &str, what: What, outcome: Outcome) -> Self {
        let service = match service.get(..limits::SERVICE_NAME_BYTES) {
            None => service.to_owned(),
            Some(_) => service.chars().take(limits::SERVICE_NAME_BYTES).collect(),
        };
        Self { v: EVENT_VERSION, at_ms, service, role: None, operation: None, tenant: None, what, outcome }
    }

    /// The same, about the tenant with this pseudonym.
    #[must_use]
    pub fn tenant(mut self, pseudonym: impl Into<String>) -> Self {
        self.tenant = Some(pseudonym.into());
        self
    }

    /// Whether the event must be on stable storage before its effect is revealed: every change of keys, data as a whole
    /// or policy, the end of a session, and what an agent was told is in the log. Refusals, connections, new sessions,
    /// and single reads and writes are not waited for: they survive the death of the process, and a loss of power a
    /// moment later.
    pub fn durable(&self) -> bool {
        match self.what {
            What::Refused { .. }
            | What::SessionOpened { .. }
            | What::SignerCertified { .. }
            | What::EnvelopeRefused { .. }
            | What::PeerConnected { .. }
            | What::ClassicalRefused { .. }
            | What::Redeemed { .. }
            | What::RedeemRefused { .. }
            | What::CertificatesExported { .. }
            | What::TokenMinted { .. }
            | What::Read { .. }
            | What::Written { .. }
            | What::OpenFailed { .. }
            | What::SignaturesRefused { .. }
            | What::ActionRefused { .. }
            | What::Heartbeat { .. }
            | What::LogOpened { .. }
            | What::LogClosed
            | What::CheckpointFailed
            | What::EventsLost { .. } => false,
            What::TenantOnboarded { .. }
            | What::TenantShredded { .. }
            | What::EpochMoved { .. }
            | What::RootKeyRotated { .. }
            | What::RootKeyDestroyed { .. }
            | What::TokensRevoked { .. }
            | What::RevocationLifted { .. }
            | What::SessionRevoked { .. }
            | What::Started { .. }
            | What::Stopped
            | What::KeystoreChanged { .. }
            | What::NamespacesForgotten { .. }
            | What::CollectionChanged { .. }
            | What::ApiKeyChanged { .. }
            | What::Rotation { .. }
            | What::BackupMade { .. }
            | What::BackupRestored { .. }
            | What::DataRemoved
            | What::HealthTestFailed { .. }
            | What::AgentAction { .. }
            | What::BreakerTripped { .. }
            | What::BreakerReleased
            | What::LogBegun { .. }
            | What::LogPruned { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests;
