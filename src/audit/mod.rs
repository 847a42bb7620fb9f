//! The audit log: who asked for what, and what became of it. Never key bytes, names of tenants or payloads.
//!
//! [`AuditSink`] is the joint. `schema/audit-event.schema.json` describes an [`Event`] as JSON.

mod journal;

use parking_lot::Mutex;
use serde::Serialize;

use crate::error::{ErrorKind, Result};
use crate::id::Epoch;
use crate::keys::kms::{Operation, Role};
use crate::keys::{EpochState, Fingerprint, Profile};

pub use journal::{JOURNAL_FILE, Journal};

/// Where events go.
pub trait AuditSink: Send + Sync {
    /// Records `event`. When it is [durable](Event::durable), it is on stable storage on return.
    fn record(&self, event: &Event) -> Result<()>;
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
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

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum What {
    /// A request was refused.
    Refused {
        /// Why.
        reason: Reason,
    },
    /// A tenant was made.
    TenantOnboarded {
        /// Its profile.
        profile: Profile,
        /// Its root key, signing key and certificate, by fingerprint; empty when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// All keys of a tenant were destroyed.
    TenantShredded {
        /// Its root key, signing key and certificate, by fingerprint; empty when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// An epoch got a state.
    EpochMoved {
        /// Which; none when it was to be made and was not.
        epoch: Option<Epoch>,
        /// The state that it was to have.
        state: EpochState,
        /// Its encapsulated secret, by fingerprint; empty when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// A session was opened.
    SessionOpened {
        /// Its name.
        session: String,
    },
    /// A session was revoked.
    SessionRevoked {
        /// Its name.
        session: String,
    },
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The tenant is outside the service's scope.
    Scope,
    /// The service's role may not.
    Role,
    /// The session key has served another ciphertext.
    SingleUse,
    /// The presented credential is not believed.
    Credential,
    /// The two tenants have no profile in common.
    Profile,
    /// Nobody knows the peer.
    Peer,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As asked.
    Done,
    /// Not at all.
    Refused,
    /// With an error that is no refusal.
    Failed,
}

impl Outcome {
    /// How something ended.
    pub fn of<T>(result: &Result<T>) -> Self {
        match result {
            Ok(_) => Outcome::Done,
            Err(e) if e.kind() == ErrorKind::Denied => Outcome::Refused,
            Err(_) => Outcome::Failed,
        }
    }
}

impl Event {
    /// Whether the event must be on stable storage before its effect is revealed: every change of keys, and the end of a
    /// session. Refusals and new sessions are not waited for.
    pub fn durable(&self) -> bool {
        match self.what {
            What::Refused { .. } | What::SessionOpened { .. } => false,
            What::TenantOnboarded { .. }
            | What::TenantShredded { .. }
            | What::EpochMoved { .. }
            | What::SessionRevoked { .. } => true,
        }
    }
}

/// Forgets everything: for tests and benchmarks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl AuditSink for Discard {
    fn record(&self, _event: &Event) -> Result<()> {
        Ok(())
    }
}

/// Keeps everything in memory: for tests.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<Vec<Event>>);

impl InMemory {
    /// What was recorded, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().clone()
    }
}

impl AuditSink for InMemory {
    fn record(&self, event: &Event) -> Result<()> {
        self.0.lock().push(event.clone());
        Ok(())
    }
}
