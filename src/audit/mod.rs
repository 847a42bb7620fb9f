//! The audit log: who asked for what, and what became of it. Never key bytes, names of tenants or payloads.
//!
//! [`AuditSink`] is the joint. `schema/audit-event.schema.json` describes an [`Event`] as JSON, `schema/audit.md` the log
//! that keeps them, [`crate::manual::audit`] how it is used.
//!
//! [`log`] writes, [`export`] makes files of it, and [`verify`], which shares nothing with either, says whether to believe
//! them.

pub mod checkpoint;
pub mod export;
pub mod log;
pub mod path;
pub mod proof;
pub mod tree;
pub mod verify;

use parking_lot::Mutex;
use serde::Serialize;

use crate::envelope;
use crate::error::{ErrorKind, Result};
use crate::id::Epoch;
use crate::keys::certificate::SignerUse;
use crate::keys::kms::{Operation, Role};
use crate::keys::{EpochState, Fingerprint, Profile};
use crate::limits;
use crate::token::Refusal;

pub use log::{Log, LogOptions};

/// Where events go.
pub trait AuditSink: Send + Sync {
    /// Records `event`. When it is [durable](Event::durable), it is on stable storage on return.
    fn record(&self, event: &Event) -> Result<()>;
}

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
    /// A tenant got another root key.
    RootKeyRotated {
        /// The one before, the new one and its certificate, by fingerprint; only the one before when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// A root key was destroyed that was not active any more.
    RootKeyDestroyed {
        /// That one and the active one, by fingerprint; only that one when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// A session was opened.
    SessionOpened {
        /// Its name.
        session: String,
    },
    /// A key was certified that signs for the tenant.
    SignerCertified {
        /// The session that it ends with.
        session: String,
        /// What it is for.
        purpose: SignerUse,
        /// The key, by fingerprint.
        fingerprints: Vec<Fingerprint>,
    },
    /// Records were opened for the holder of a token.
    Redeemed {
        /// The token's id.
        token: String,
        /// The holder.
        holder: String,
        /// How many records.
        records: u32,
        /// SHA-256 over their digests.
        digest: String,
    },
    /// An agent refused an envelope.
    EnvelopeRefused {
        /// Why.
        reason: envelope::Refusal,
    },
    /// A redeem was refused.
    RedeemRefused {
        /// Why.
        reason: Refusal,
    },
    /// Tokens were revoked.
    TokensRevoked {
        /// `token`, `holder` or `tenant`.
        kind: &'static str,
        /// Which: a token's id, a holder, or a tenant's pseudonym.
        id: String,
    },
    /// A revocation was taken back.
    RevocationLifted {
        /// `token`, `holder` or `tenant`.
        kind: &'static str,
        /// Which: a token's id, a holder, or a tenant's pseudonym.
        id: String,
    },
    /// A session was revoked.
    SessionRevoked {
        /// Its name.
        session: String,
    },
    /// A service connected over TLS.
    PeerConnected {
        /// The key exchange.
        group: String,
        /// SHA-256 of its certificate.
        certificate: String,
    },
    /// A peer was refused because its key exchange is classical and it is no exception.
    ClassicalRefused {
        /// The key exchanges that it offered.
        groups: String,
    },
    /// The log was begun: its first entry.
    LogBegun {
        /// Its name, which its checkpoints have.
        origin: String,
    },
    /// A service began to write the log.
    LogOpened {
        /// How many entries it had.
        entries: u64,
    },
    /// A service that wrote the log ended in good order.
    LogClosed,
    /// Old entries are to be removed, or were.
    LogPruned {
        /// The first.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// A checkpoint could not be published. It is tried again; only the first attempt in a row is recorded.
    CheckpointFailed,
    /// Events could not be written, and what they were about went on.
    EventsLost {
        /// How many.
        count: u64,
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
    /// Not yet: it is about to be tried. What became of it follows, unless the process ended in between or the log could
    /// not be written; then the keystore says.
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
        Event {
            v: EVENT_VERSION,
            at_ms,
            service: self.service.chars().take(limits::SERVICE_NAME_BYTES).collect(),
            role: self.role,
            operation: None,
            tenant: None,
            what: self.what.clone(),
            outcome: if self.is_refused() { Outcome::Refused } else { Outcome::Done },
        }
    }
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
    /// An event of `service`, which has no role, operation or tenant yet.
    pub fn new(at_ms: u64, service: &str, what: What, outcome: Outcome) -> Self {
        let service = service.chars().take(limits::SERVICE_NAME_BYTES).collect();
        Self { v: EVENT_VERSION, at_ms, service, role: None, operation: None, tenant: None, what, outcome }
    }

    /// The same, about the tenant with this pseudonym.
    #[must_use]
    pub fn tenant(mut self, pseudonym: impl Into<String>) -> Self {
        self.tenant = Some(pseudonym.into());
        self
    }

    /// Whether the event must be on stable storage before its effect is revealed: every change of keys, and the end of
    /// a session. Refusals, connections and new sessions are not waited for.
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
            | What::LogBegun { .. }
            | What::LogPruned { .. } => true,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::crypto::default_provider;

    fn events() -> Vec<Event> {
        let print = Fingerprint::of(default_provider(), b"x");
        let fingerprints = vec![print];
        let session = "0".repeat(32);
        let mut kinds = vec![
            What::TenantOnboarded { profile: Profile::Hybrid, fingerprints: fingerprints.clone() },
            What::TenantShredded { fingerprints: fingerprints.clone() },
            What::EpochMoved { epoch: None, state: EpochState::PreActive, fingerprints: Vec::new() },
            What::RootKeyRotated { fingerprints: fingerprints.clone() },
            What::RootKeyDestroyed { fingerprints: fingerprints.clone() },
            What::EpochMoved { epoch: Some(Epoch::FIRST), state: EpochState::Active, fingerprints },
            What::SessionOpened { session: session.clone() },
            What::SignerCertified {
                session: session.clone(),
                purpose: SignerUse::Tokens,
                fingerprints: vec![Fingerprint::of(default_provider(), b"x")],
            },
            What::SessionRevoked { session },
            What::PeerConnected { group: "X25519MLKEM768".into(), certificate: "0".repeat(64) },
            What::ClassicalRefused { groups: "X25519 secp256r1".into() },
            What::Redeemed { token: "0".repeat(32), holder: "0".repeat(64), records: 1, digest: "0".repeat(64) },
            What::TokensRevoked { kind: "token", id: "0".repeat(32) },
            What::RevocationLifted { kind: "holder", id: "0".repeat(64) },
            What::LogBegun { origin: "strongroom.audit/0".into() },
            What::LogOpened { entries: 1 },
            What::LogClosed,
            What::LogPruned { from: 0, to: 256 },
            What::CheckpointFailed,
            What::EventsLost { count: 1 },
        ];
        kinds.extend(envelope::Refusal::ALL.map(|reason| What::EnvelopeRefused { reason }));
        kinds.extend(Refusal::ALL.map(|reason| What::RedeemRefused { reason }));
        let reasons =
            [Reason::Scope, Reason::Role, Reason::SingleUse, Reason::Credential, Reason::Profile, Reason::Peer];
        kinds.extend(reasons.map(|reason| What::Refused { reason }));
        let event = |(what, operation): (What, Operation)| Event {
            v: EVENT_VERSION,
            at_ms: 1,
            service: "s".into(),
            role: Some(Role::Admin),
            operation: Some(operation),
            tenant: Some("0".repeat(32)),
            what,
            outcome: Outcome::Done,
        };
        kinds.into_iter().zip(Operation::ALL.into_iter().cycle()).map(event).collect()
    }

    /// Guards against a schema that describes other events than are written.
    #[test]
    fn events_are_those_of_the_schema() {
        let schema: Value = serde_json::from_str(include_str!("../../schema/audit-event.schema.json")).unwrap();
        let kinds = schema["oneOf"].as_array().unwrap();
        let common = schema["properties"].as_object().unwrap();
        let mut seen = BTreeSet::new();
        for event in events() {
            let event = serde_json::to_value(&event).unwrap();
            let name = event["type"].as_str().unwrap();
            let kind = kinds.iter().find(|kind| kind["properties"]["type"]["const"] == name).unwrap();
            let own = kind["properties"].as_object().unwrap();
            let described: BTreeSet<_> = common.keys().chain(own.keys()).collect();
            assert_eq!(event.as_object().unwrap().keys().collect::<BTreeSet<_>>(), described, "{name}");
            for (key, value) in event.as_object().unwrap() {
                for one in [common.get(key), own.get(key)].into_iter().flatten() {
                    let allowed = one["enum"].as_array().is_none_or(|allowed| allowed.contains(value));
                    assert!(allowed, "{name}: {key} is {value}");
                }
            }
            seen.insert(name.to_owned());
        }
        assert_eq!(seen.len(), kinds.len());
    }
}
