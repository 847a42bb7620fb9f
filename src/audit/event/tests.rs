use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::audit::{Access, CollectionChange, KeyChange, Reason, RecordType, RotationStep, WriteKind, actions};
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
        What::TokenMinted { token: id.clone(), holder: digest.clone(), uses: 1, records: 1, digest: digest.clone() },
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
        What::LogBegun { origin: "strongroom.audit/0".into() },
        What::LogOpened { entries: 1 },
        What::LogClosed,
        What::LogPruned { from: 0, to: 256 },
        What::CheckpointFailed,
        What::EventsLost { count: 1 },
        What::RootKeyRotated { fingerprints: fingerprints.clone() },
        What::RootKeyDestroyed { fingerprints: fingerprints.clone() },
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
    let changes = [
        (CollectionChange::Made, Some(Mode::Sealed)),
        (CollectionChange::Dropped, None),
        (CollectionChange::Moved, None),
        (CollectionChange::ModeChanged, Some(Mode::Veiled)),
        (CollectionChange::Indexed, None),
        (CollectionChange::Noted, None),
    ];
    for (change, mode) in changes {
        kinds.push(What::CollectionChanged { change, place: place.clone(), mode });
    }
    for change in [KeyChange::Added, KeyChange::Changed, KeyChange::Removed] {
        let key = "0".repeat(16);
        kinds.push(What::ApiKeyChanged { change, key, grants: "read", collections: 0, expires_at_ms: 0 });
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
    let reasons = [Reason::Scope, Reason::Role, Reason::SingleUse, Reason::Credential, Reason::Profile, Reason::Peer];
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
    let schema: Value = serde_json::from_str(include_str!("../../../schema/audit-event.schema.json")).unwrap();
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
