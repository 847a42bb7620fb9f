//! The state of a rotation, as it is and as it is sent.

use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as NotKnown, StrDeserializer};
use serde::{Deserialize, Serialize};

use super::wire;
use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::keys::{EpochRecord, RootKeyRecord};
use crate::rotation::{Finished, Retained, RotationStatus};

/// What a service says of a tenant's rotation.
#[derive(Debug)]
pub struct RotationState {
    /// Where it stands.
    pub status: RotationStatus,
    /// Whether the tenant's epoch is due, or a rotation was interrupted.
    pub due: bool,
    /// Whether a rotation that was asked for runs.
    pub running: bool,
    /// How the last one of those failed.
    pub failure: Option<Error>,
}

pub(super) fn to_wire(state: &RotationState) -> Result<wire::RotationState> {
    let status = &state.status;
    Ok(wire::RotationState {
        phase: name(&status.phase)?,
        active: Some(epoch_to_wire(&status.active)?),
        from: status.from.iter().map(epoch_to_wire).collect::<Result<_>>()?,
        records: status.records,
        bytes: status.bytes,
        total: status.total,
        damaged: status.damaged,
        started_at_ms: status.started_at_ms,
        speed_percent: status.speed_percent.into(),
        retained: status.retained.iter().map(retained_to_wire).collect(),
        last: status.last.as_ref().map(last_to_wire),
        due: state.due,
        running: state.running,
        root_keys: status.root_keys.iter().map(root_to_wire).collect::<Result<_>>()?,
        failure: state.failure.as_ref().map(failure_to_wire),
    })
}

pub(super) fn from_wire(state: wire::RotationState) -> Result<RotationState> {
    let status = RotationStatus {
        phase: named(&state.phase)?,
        active: epoch(state.active.ok_or_else(bad)?)?,
        from: state.from.into_iter().map(epoch).collect::<Result<_>>()?,
        records: state.records,
        bytes: state.bytes,
        total: state.total,
        damaged: state.damaged,
        started_at_ms: state.started_at_ms,
        speed_percent: u8::try_from(state.speed_percent).map_err(|_| bad())?,
        retained: state.retained.into_iter().map(retained).collect::<Result<_>>()?,
        last: state.last.map(last).transpose()?,
        root_keys: state.root_keys.into_iter().map(root).collect::<Result<_>>()?,
    };
    Ok(RotationState { status, due: state.due, running: state.running, failure: state.failure.map(failure) })
}

pub(super) fn failure_to_wire(e: &Error) -> wire::Failure {
    wire::Failure { kind: e.kind().exit_code().into(), message: e.to_string(), remedy: e.remedy().map(str::to_owned) }
}

pub(super) fn failure(failure: wire::Failure) -> Error {
    let made = Error::new(kind(failure.kind), failure.message);
    match failure.remedy {
        Some(remedy) => made.with_remedy(remedy),
        None => made,
    }
}

fn kind(code: i32) -> crate::error::ErrorKind {
    let mut all = crate::error::ErrorKind::ALL.into_iter();
    all.find(|kind| i32::from(kind.exit_code()) == code).unwrap_or(crate::error::ErrorKind::Internal)
}

fn epoch_to_wire(epoch: &EpochRecord) -> Result<wire::RotationEpoch> {
    Ok(wire::RotationEpoch {
        epoch: epoch.epoch.as_u32(),
        state: name(&epoch.state)?,
        suite: epoch.suite.clone(),
        created_at_ms: epoch.created_at_ms,
        since_ms: epoch.since_ms,
        fingerprint: epoch.fingerprint.to_string(),
        root_fingerprint: epoch.root_fingerprint.to_string(),
    })
}

fn epoch(epoch: wire::RotationEpoch) -> Result<EpochRecord> {
    Ok(EpochRecord {
        epoch: number(epoch.epoch)?,
        state: named(&epoch.state)?,
        suite: epoch.suite,
        created_at_ms: epoch.created_at_ms,
        since_ms: epoch.since_ms,
        fingerprint: epoch.fingerprint.parse()?,
        root_fingerprint: epoch.root_fingerprint.parse()?,
    })
}

fn root_to_wire(root: &RootKeyRecord) -> Result<wire::TenantRootKey> {
    Ok(wire::TenantRootKey {
        fingerprint: root.fingerprint.to_string(),
        state: name(&root.state)?,
        created_at_ms: root.created_at_ms,
        since_ms: root.since_ms,
        epochs: root.epochs.iter().map(|epoch| epoch.as_u32()).collect(),
    })
}

fn root(root: wire::TenantRootKey) -> Result<RootKeyRecord> {
    Ok(RootKeyRecord {
        fingerprint: root.fingerprint.parse()?,
        state: named(&root.state)?,
        created_at_ms: root.created_at_ms,
        since_ms: root.since_ms,
        epochs: root.epochs.into_iter().map(number).collect::<Result<_>>()?,
    })
}

fn retained_to_wire(retained: &Retained) -> wire::RetainedEpoch {
    let Retained { epoch, fingerprint, since_ms, destroy_at_ms, left_ms } = retained;
    wire::RetainedEpoch {
        epoch: epoch.as_u32(),
        fingerprint: fingerprint.to_string(),
        since_ms: *since_ms,
        destroy_at_ms: *destroy_at_ms,
        left_ms: *left_ms,
    }
}

fn retained(retained: wire::RetainedEpoch) -> Result<Retained> {
    let wire::RetainedEpoch { epoch, fingerprint, since_ms, destroy_at_ms, left_ms } = retained;
    Ok(Retained { epoch: number(epoch)?, fingerprint: fingerprint.parse()?, since_ms, destroy_at_ms, left_ms })
}

fn last_to_wire(last: &Finished) -> wire::FinishedRotation {
    let Finished { epoch, fingerprint, started_at_ms, finished_at_ms, records, bytes, damaged } = last;
    wire::FinishedRotation {
        epoch: epoch.as_u32(),
        fingerprint: fingerprint.to_string(),
        started_at_ms: *started_at_ms,
        finished_at_ms: *finished_at_ms,
        records: *records,
        bytes: *bytes,
        damaged: *damaged,
    }
}

fn last(last: wire::FinishedRotation) -> Result<Finished> {
    let wire::FinishedRotation { epoch, fingerprint, started_at_ms, finished_at_ms, records, bytes, damaged } = last;
    let (epoch, fingerprint) = (number(epoch)?, fingerprint.parse()?);
    Ok(Finished { epoch, fingerprint, started_at_ms, finished_at_ms, records, bytes, damaged })
}

fn number(epoch: u32) -> Result<Epoch> {
    Epoch::try_from(epoch).map_err(|_| bad())
}

/// The name of a state, as in JSON.
fn name(state: &impl Serialize) -> Result<String> {
    let value = serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned));
    value.ok_or_else(|| Error::internal("a state without a name"))
}

/// The state of a name.
fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Result<T> {
    let name: StrDeserializer<'a, NotKnown> = name.into_deserializer();
    T::deserialize(name).map_err(|_| bad())
}

pub(super) fn bad() -> Error {
    Error::invalid("the answer of the store says something that this program does not know")
        .with_remedy("use the same release on both sides")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::default_provider;
    use crate::error::ErrorKind;
    use crate::keys::{EpochState, Fingerprint, RootKeyState};
    use crate::rotation::Phase;

    #[test]
    fn a_state_arrives_as_it_was_sent() {
        let fingerprint = Fingerprint::of(default_provider(), b"x");
        let epoch = |number, state| EpochRecord {
            epoch: Epoch::try_from(number).unwrap(),
            state,
            suite: "a suite".into(),
            created_at_ms: 1,
            since_ms: 2,
            fingerprint: fingerprint.clone(),
            root_fingerprint: fingerprint.clone(),
        };
        let (one, two) = (Epoch::FIRST, fingerprint.clone());
        let last = Finished {
            epoch: one,
            fingerprint: two.clone(),
            started_at_ms: 3,
            finished_at_ms: 4,
            records: 5,
            bytes: 6,
            damaged: 7,
        };
        let retained = Retained { epoch: one, fingerprint: two, since_ms: 8, destroy_at_ms: 9, left_ms: 10 };
        let status = RotationStatus {
            phase: Phase::Reencrypting,
            active: epoch(3, EpochState::Active),
            from: vec![epoch(1, EpochState::Compromised), epoch(2, EpochState::Deactivated)],
            records: 11,
            bytes: 12,
            total: 13,
            damaged: 14,
            started_at_ms: Some(15),
            speed_percent: 16,
            retained: vec![retained],
            last: Some(last),
            root_keys: vec![RootKeyRecord {
                fingerprint: fingerprint.clone(),
                state: RootKeyState::Deactivated,
                created_at_ms: 17,
                since_ms: 18,
                epochs: vec![one],
            }],
        };
        let failure = || Some(Error::new(ErrorKind::Integrity, "x").with_remedy("y"));
        let sent = RotationState { status, due: true, running: true, failure: failure() };
        let wire = to_wire(&sent).unwrap();
        let arrived = from_wire(wire.clone()).unwrap();
        assert_eq!((&arrived.status, arrived.due, arrived.running), (&sent.status, true, true));
        let (arrived, sent) = (arrived.failure.unwrap(), failure().unwrap());
        assert_eq!((arrived.kind(), arrived.to_string(), arrived.remedy()), (sent.kind(), sent.to_string(), Some("y")));
        let spoil = |change: fn(&mut wire::RotationState)| {
            let mut wire = wire.clone();
            change(&mut wire);
            assert!(from_wire(wire).is_err());
        };
        spoil(|state| state.phase = "sleeping".into());
        spoil(|state| state.active = None);
        spoil(|state| state.from[0].epoch = 0);
        spoil(|state| state.from[0].state = "well".into());
        spoil(|state| state.retained[0].fingerprint = "x".into());
        spoil(|state| state.speed_percent = 1000);
        spoil(|state| state.root_keys[0].state = "well".into());
        spoil(|state| state.active.as_mut().unwrap().root_fingerprint.clear());
    }
}
