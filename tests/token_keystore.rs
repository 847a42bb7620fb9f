//! Guards against a keystore over a token that cannot be opened again, opens with another token, or whose destroyed
//! tenants an old copy of its directory brings back.

#[path = "common/token.rs"]
mod token;

use std::fs;
use std::path::Path;

use strongroom::clock::ManualClock;
use strongroom::crypto;
use strongroom::keys::keystore::Unlock;
use strongroom::keys::keystore::custody::CustodyKind;
use strongroom::keys::keystore::pkcs11::TokenConfig;
use strongroom::keys::{Keystore, Profile};
use strongroom::{Epoch, ErrorKind, TenantId};
use token::{KRYOPTIC, KRYOPTIC_2, SOFTHSM, SOFTHSM_2, in_own_process, pin};

const NOW: u64 = 1_760_000_000_000;

fn unlock(token: &TokenConfig) -> Unlock {
    match token.label.as_str() {
        SOFTHSM | SOFTHSM_2 => Unlock::WrappingToken(token.clone(), pin()),
        _ => Unlock::Token(token.clone(), pin()),
    }
}

fn create(dir: &Path, token: &TokenConfig) -> Keystore {
    Keystore::create(dir, crypto::default_provider(), unlock(token), &ManualClock::at(NOW)).unwrap()
}

fn open(dir: &Path, token: &TokenConfig) -> strongroom::Result<Keystore> {
    Keystore::open(dir, crypto::default_provider(), unlock(token))
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn derive(keystore: &Keystore, name: &str) -> strongroom::Result<[u8; 32]> {
    Ok(*keystore.epoch_secret(&tenant(name), Epoch::FIRST)?.derive(b"info")?.expose_secret())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn each(test: impl Fn(&TokenConfig, &TokenConfig)) {
    test(&token::kryoptic(KRYOPTIC), &token::kryoptic(KRYOPTIC_2));
    test(&token::softhsm(SOFTHSM), &token::softhsm(SOFTHSM_2));
}

#[test]
fn a_keystore_over_a_token_opens_again_and_with_no_other() {
    in_own_process("a_keystore_over_a_token_opens_again_and_with_no_other", || {
        each(|token, other| {
            let dir = tempfile::tempdir().unwrap();
            let keystore = create(dir.path(), token);
            for (name, profile) in [("acme", Profile::Hybrid), ("cautious", Profile::Cnsa2)] {
                keystore.onboard(&tenant(name), profile, NOW).unwrap();
            }
            let keys = ["acme", "cautious"].map(|name| derive(&keystore, name).unwrap());
            assert_ne!(keys[0], keys[1]);
            drop(keystore);

            let keystore = open(dir.path(), token).unwrap();
            assert!(matches!(keystore.kind(), CustodyKind::Pkcs11 | CustodyKind::Pkcs11Wrapped));
            assert_eq!(["acme", "cautious"].map(|name| derive(&keystore, name).unwrap()), keys);
            for name in ["acme", "cautious"] {
                let signer = keystore.signer(&tenant(name)).unwrap();
                let signature = signer.sign(b"context", b"message").unwrap();
                let provider = crypto::default_provider();
                provider.verify(signer.algorithm(), signer.public_key(), b"context", b"message", &signature).unwrap();
            }
            drop(keystore);

            assert_eq!(open(dir.path(), other).err().unwrap().kind(), ErrorKind::Denied);
            let absent = TokenConfig { label: "absent".into(), ..token.clone() };
            let error = match unlock(token) {
                Unlock::Token(..) => Unlock::Token(absent, pin()),
                _ => Unlock::WrappingToken(absent, pin()),
            };
            let error = Keystore::open(dir.path(), crypto::default_provider(), error).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        });
    });
}

#[test]
fn an_old_copy_does_not_bring_a_shredded_tenant_back() {
    in_own_process("an_old_copy_does_not_bring_a_shredded_tenant_back", || {
        each(|token, _| {
            let dir = tempfile::tempdir().unwrap();
            let (now, before) = (dir.path().join("now"), dir.path().join("before"));
            fs::create_dir(&now).unwrap();
            let keystore = create(&now, token);
            for name in ["acme", "other"] {
                keystore.onboard(&tenant(name), Profile::Pure, NOW).unwrap();
            }
            let kept = derive(&keystore, "other").unwrap();
            copy(&now, &before);
            keystore.shred(&tenant("acme"), NOW).unwrap();
            assert!(derive(&keystore, "acme").is_err());
            assert_eq!(derive(&keystore, "other").unwrap(), kept);
            drop(keystore);

            let old = open(&before, token).unwrap();
            assert_eq!(derive(&old, "other").unwrap(), kept);
            assert_eq!(derive(&old, "acme").err().unwrap().kind(), ErrorKind::NotFound);
            let signed = old.signer(&tenant("acme")).and_then(|signer| signer.sign(b"", b"message"));
            assert!(signed.is_err());
        });
    });
}
