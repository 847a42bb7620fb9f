//! Root keys between the wire and the library.

use super::convert::{epoch, missing};
use super::wire;
use crate::error::Result;
use crate::keys::keystore::DestroyedRootKey;
use crate::keys::{RootKeyRecord, RootKeyState};

pub(super) fn record(root: wire::RootKey) -> Result<RootKeyRecord> {
    Ok(RootKeyRecord {
        fingerprint: root.fingerprint.parse()?,
        state: state(root.state)?,
        created_at_ms: root.created_at_ms,
        since_ms: root.since_ms,
        epochs: root.epochs.into_iter().map(epoch).collect::<Result<_>>()?,
    })
}

pub(super) fn record_to_wire(root: &RootKeyRecord) -> wire::RootKey {
    wire::RootKey {
        fingerprint: root.fingerprint.to_string(),
        state: state_to_wire(root.state).into(),
        created_at_ms: root.created_at_ms,
        since_ms: root.since_ms,
        epochs: root.epochs.iter().map(|epoch| epoch.as_u32()).collect(),
    }
}

pub(super) fn destroyed(answer: &wire::DestroyRootKeyResponse) -> Result<DestroyedRootKey> {
    let (fingerprint, active_fingerprint) = (answer.fingerprint.parse()?, answer.active_fingerprint.parse()?);
    Ok(DestroyedRootKey { fingerprint, active_fingerprint })
}

pub(super) fn destroyed_to_wire(destroyed: &DestroyedRootKey) -> wire::DestroyRootKeyResponse {
    wire::DestroyRootKeyResponse {
        fingerprint: destroyed.fingerprint.to_string(),
        active_fingerprint: destroyed.active_fingerprint.to_string(),
    }
}

fn state(state: i32) -> Result<RootKeyState> {
    match wire::RootKeyState::try_from(state) {
        Ok(wire::RootKeyState::Active) => Ok(RootKeyState::Active),
        Ok(wire::RootKeyState::Deactivated) => Ok(RootKeyState::Deactivated),
        Ok(wire::RootKeyState::Destroyed) => Ok(RootKeyState::Destroyed),
        Ok(wire::RootKeyState::Unspecified) | Err(_) => Err(missing("root key's state that is known")),
    }
}

fn state_to_wire(state: RootKeyState) -> wire::RootKeyState {
    match state {
        // No record shows one that is only written down.
        RootKeyState::PreActive => wire::RootKeyState::Unspecified,
        RootKeyState::Active => wire::RootKeyState::Active,
        RootKeyState::Deactivated => wire::RootKeyState::Deactivated,
        RootKeyState::Destroyed => wire::RootKeyState::Destroyed,
    }
}
