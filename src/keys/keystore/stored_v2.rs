//! What version 2 of a tenant's file has: one root key, which all epochs open with. It is read, never written: the next
//! change of the tenant replaces it.

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::custody::KeyPurpose;
use super::stored::{Stored, StoredEpoch, StoredKey, TenantState, number_of};
use crate::error::{Error, Result};
use crate::keys::{EpochState, Fingerprint, Profile, RootKeyState};

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredV2 {
    tenant: String,
    #[zeroize(skip)]
    state: TenantState,
    #[zeroize(skip)]
    profile: Profile,
    created_at_ms: u64,
    keys: Vec<KeyV2>,
    epochs: Vec<EpochV2>,
    certificate: Vec<u8>,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct KeyV2 {
    purpose: u8,
    serial: [u8; 16],
    algorithm: u8,
    public_key: Vec<u8>,
    private: Vec<u8>,
}

#[derive(Deserialize, Zeroize)]
struct EpochV2 {
    epoch: u32,
    #[zeroize(skip)]
    state: EpochState,
    suite: u16,
    created_at_ms: u64,
    since_ms: u64,
    #[zeroize(skip)]
    fingerprint: Fingerprint,
    ciphertext: Vec<u8>,
}

/// The record that `plain` is, as it is kept today.
pub(super) fn read(plain: &[u8]) -> Result<Stored> {
    let bad = || Error::integrity("a tenant's key file");
    let Ok((mut old, [])) = postcard::take_from_bytes::<StoredV2>(plain) else { return Err(bad()) };
    let root = old.keys.iter().find(|key| key.purpose == number_of(KeyPurpose::Root)).map(|key| key.serial);
    let (created_at_ms, shredded) = (old.created_at_ms, old.state == TenantState::Shredded);
    let key = |mut key: KeyV2| StoredKey {
        purpose: key.purpose,
        serial: key.serial,
        algorithm: key.algorithm,
        state: match (shredded, key.public_key.is_empty()) {
            (true, _) => RootKeyState::Destroyed,
            (false, true) => RootKeyState::PreActive,
            (false, false) => RootKeyState::Active,
        },
        public_key: std::mem::take(&mut key.public_key),
        private: std::mem::take(&mut key.private),
        created_at_ms,
        since_ms: created_at_ms,
        fingerprint: None,
    };
    let epoch = |old: EpochV2| {
        Ok(StoredEpoch {
            epoch: old.epoch,
            state: old.state,
            suite: old.suite,
            created_at_ms: old.created_at_ms,
            since_ms: old.since_ms,
            fingerprint: old.fingerprint,
            ciphertext: old.ciphertext,
            root: root.ok_or_else(bad)?,
        })
    };
    Ok(Stored {
        tenant: std::mem::take(&mut old.tenant),
        state: old.state,
        profile: old.profile,
        created_at_ms,
        keys: std::mem::take(&mut old.keys).into_iter().map(key).collect(),
        epochs: std::mem::take(&mut old.epochs).into_iter().map(epoch).collect::<Result<_>>()?,
        certificate: std::mem::take(&mut old.certificate),
        earlier: Vec::new(),
    })
}
