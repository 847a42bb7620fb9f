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
        let service = service.chars().take(limits::SERVICE_NAME_BYTES).collect();
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
            | What::Heartbeat { .. } => false,
            What::TenantOnboarded { .. }
            | What::TenantShredded { .. }
            | What::EpochMoved { .. }
            | What::TokensRevoked { .. }
            | What::RevocationLifted { .. }
            | What::SessionRevoked { .. }
            | What::Started { .. }
            | What::Stopped
            | What::KeystoreChanged { .. }
            | What::NamespacesForgotten { .. }
            | What::CollectionChanged { .. }
            | What::Rotation { .. }
            | What::BackupMade { .. }
            | What::BackupRestored { .. }
            | What::DataRemoved
            | What::HealthTestFailed { .. }
            | What::AgentAction { .. }
            | What::BreakerTripped { .. }
            | What::BreakerReleased => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::audit::{Access, CollectionChange, Reason, RecordType, RotationStep, WriteKind, actions};
    use crate::crypto::default_provider;
    use crate::envelope;
    use crate::id::Epoch;
    use crate::keys::certificate::SignerUse;
    use crate::keys::{EpochState, Fingerprint, Profile};
    use crate::token::Refusal;
    use crate::vectors::Mode;

    fn events() -> Vec<Event> {
        let fingerprints = vec![Fingerprint::of(default_provider(), b"x")];
        let (session, place) = ("0".repeat(32), Some("0".repeat(32)));
        let (id, digest) = ("0".repeat(32), "0".repeat(64));
        let print = fingerprints.clone();
        let mut kinds = vec![
            What::Started { program: "0.1.0".into(), configuration: digest.clone(), changed: None },
            What::Stopped,
            What::KeystoreChanged { change: "passphrase" },
            What::CertificatesExported { fingerprints: print.clone() },
            What::TokenMinted {
                token: id.clone(),
                holder: digest.clone(),
                uses: 1,
                records: 1,
                digest: digest.clone(),
            },
            What::NamespacesForgotten { place: digest.clone(), records: None },
            What::SignaturesRefused { signatures: 1 },
            What::BackupMade { number: Some(1), records: 1 },
            What::BackupRestored { number: None, records: 0 },
            What::DataRemoved,
            What::HealthTestFailed { failures: 1 },
            What::Heartbeat { events: 0 },
            What::AgentAction {
                action: id.clone(),
                parent: None,
                acted_at_ms: 1,
                signer: digest.clone(),
                digest: digest.clone(),
                signature: "AA==".into(),
            },
            What::BreakerTripped { cause: "operator".into() },
            What::BreakerReleased,
            What::TenantOnboarded { profile: Profile::Hybrid, fingerprints: fingerprints.clone() },
            What::TenantShredded { fingerprints: fingerprints.clone() },
            What::EpochMoved { epoch: None, state: EpochState::PreActive, fingerprints: Vec::new() },
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
        ];
        let reads = [
            Access::Search,
            Access::Get,
            Access::Scroll,
            Access::Recall,
            Access::List,
            Access::History,
            Access::Lookup,
            Access::Fetch,
            Access::Namespaces,
        ];
        let read = |access| What::Read { access, place: place.clone(), records: 1, bytes: 1, digest: digest.clone() };
        kinds.extend(reads.map(read));
        let writes = [
            WriteKind::Ingest,
            WriteKind::Delete,
            WriteKind::Remember,
            WriteKind::Update,
            WriteKind::Forget,
            WriteKind::Purge,
            WriteKind::Batch,
        ];
        kinds.extend(writes.map(|write| What::Written { write, place: None, records: 1, digest: digest.clone() }));
        for (change, mode) in [(CollectionChange::Made, Some(Mode::Sealed)), (CollectionChange::Dropped, None)] {
            kinds.push(What::CollectionChanged { change, place: place.clone(), mode });
        }
        for record in [RecordType::Chunk, RecordType::Memory, RecordType::Catalog] {
            kinds.push(What::OpenFailed { record, place: None, id: Some(id.clone()) });
        }
        let steps = [
            RotationStep::Planned,
            RotationStep::Reencrypting,
            RotationStep::Verified,
            RotationStep::Retained,
            RotationStep::Destroyed,
            RotationStep::Failed,
        ];
        kinds.extend(steps.map(|step| What::Rotation {
            step,
            from: print.clone(),
            to: print.clone(),
            suites: Vec::new(),
            records: 0,
        }));
        kinds.extend(actions::Refusal::ALL.map(|reason| What::ActionRefused { reason }));
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
