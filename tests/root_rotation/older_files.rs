//! Files of a keystore from before root keys were rotated, made by a build of that time: they open, give the same secrets,
//! and go on.

use std::path::Path;

use strongroom::crypto::default_provider;
use strongroom::keys::keystore::Unlock;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::{DataKeys as _, EpochState, Keystore, Profile, RootKeyState};
use strongroom::{ErrorKind, TenantId};

use super::{acme, copy, epoch, roots};
use crate::common::{hex, passphrase};

const NOW_MS: u64 = 1_795_700_000_000;
/// HKDF expand of the secrets of the epochs 1 and 2 with `info`.
const SECRETS: [&str; 2] = [
    "f953d66d7e26062103ba92daf82a8cf5fa7b2a9051a9ab0d5b7bcca764590710",
    "12e06d710866bf33a8984279af750c490c7612b06c8f900d9a10ba761a4239e3",
];

fn open(dir: &Path) -> Keystore {
    let cost = KdfCost { memory_kib: 1024, passes: 1, ..KdfCost::default() };
    Keystore::open(dir, default_provider(), Unlock::Passphrase(passphrase(), cost)).unwrap()
}

fn versions(dir: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut versions: Vec<u8> =
        files.filter(|p| p.extension().is_some_and(|e| e == "tenant")).map(|p| std::fs::read(p).unwrap()[0]).collect();
    versions.sort_unstable();
    versions
}

#[test]
fn a_keystore_of_version_2_is_read_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/root_rotation/keystore_v2"), dir.path());
    assert_eq!(versions(dir.path()), [2; 4]);
    let keystore = open(dir.path());
    let record = keystore.tenant(&acme()).unwrap();
    assert_eq!(record.root_fingerprint.to_string(), "fc9155ac3f6f9ed9");
    assert_eq!(record.certificate_fingerprint.to_string(), "e1e1e9403ff77c1b");
    let states: Vec<_> = record.epochs.iter().map(|epoch| epoch.state).collect();
    assert_eq!(states, [EpochState::Deactivated, EpochState::Active, EpochState::PreActive]);
    assert!(record.epochs.iter().all(|epoch| epoch.root_fingerprint == record.root_fingerprint));
    assert_eq!(roots(&record), [(RootKeyState::Active, vec![1, 2, 3])]);
    let secret = |keystore: &Keystore, number| {
        hex(keystore.epoch_secret(&acme(), epoch(number)).unwrap().derive(b"info").unwrap().expose_secret())
    };
    assert_eq!([1, 2].map(|number| secret(&keystore, number)), SECRETS);
    let gone: TenantId = "gone".parse().unwrap();
    assert!(keystore.is_shredded(&gone).unwrap());
    assert_eq!(keystore.onboard(&gone, Profile::Pure, NOW_MS).err().unwrap().kind(), ErrorKind::Conflict);
    // The authority and the signing key are what they were.
    let signature = keystore.signer(&acme()).unwrap().sign(b"", b"message").unwrap();
    let public = keystore.public_keys(&acme()).unwrap();
    let signed = default_provider().verify(Profile::Pure.signature(), &public.signing, b"", b"message", &signature);
    signed.unwrap();

    let rotated = keystore.rotate_root_key(&acme(), &record.root_fingerprint, NOW_MS).unwrap();
    assert_eq!(versions(dir.path()), [2, 2, 2, 3], "only what changes is written anew");
    assert_eq!(roots(&rotated), [(RootKeyState::Deactivated, vec![1, 2]), (RootKeyState::Active, vec![3])]);
    drop(keystore);
    let keystore = open(dir.path());
    assert_eq!(keystore.tenant(&acme()).unwrap(), rotated);
    assert_eq!([1, 2].map(|number| secret(&keystore, number)), SECRETS);
    keystore.shred(&acme(), NOW_MS).unwrap();
}
