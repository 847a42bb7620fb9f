//! Copies of a keystore with several root keys: what comes back with them, and what does not.

use strongroom::crypto::default_provider;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::keystore::pkcs11::TokenConfig;
use strongroom::keys::keystore::{Unlock, copy};
use strongroom::keys::{DataKeys as _, Keystore, RootKeyState};
use strongroom::{Passphrase, RotateOptions, Store};

use super::{RECORDS, Test, acme, compromised, epoch, fill, in_token, reads, root_key};
use crate::common::passphrase;
use crate::token::{self, KRYOPTIC, SOFTHSM, pin};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_the_keystore_has_all_root_keys() {
    let test = Test::new(None).await;
    fill(&test.store.create_tenant(&acme()).await.unwrap(), 0).await;
    test.rotate(root_key()).await;
    let before = test.keys(&acme()).await;
    let (backups, keys) = (test.dir.join("backups"), test.dir.join("keys.backup"));
    let secret = || Passphrase::new(b"of the backup".to_vec()).unwrap();
    test.store.backup(&backups, |_| ()).await.unwrap();
    let from = test.dir.join("keys");
    copy::back_up(&from, &keys, default_provider(), &secret(), KdfCost::INSECURE_FAST).unwrap();
    test.store.close().await.unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    let options = crate::common::options(elsewhere.path()).clock(test.clock.clone());
    copy::restore(&keys, &options.keystore_dir(), default_provider(), &secret()).unwrap();
    let report = Store::restore(options.clone(), Some(passphrase()), &backups, None, |_| ()).await.unwrap();
    assert!(report.is_clean() && report.unreadable.is_empty(), "{report:?}");
    let store = Store::open(options, passphrase()).await.unwrap();
    assert_eq!(store.tenant_keys(&acme()).await.unwrap(), before);
    reads(&store.tenant(&acme()).await.unwrap(), RECORDS).await;
    // It goes on from there.
    store.rotate(&acme(), RotateOptions::default(), |_| ()).await.unwrap();
    store.destroy_epoch(&acme(), epoch(1)).await.unwrap();
    let record = store.tenant_keys(&acme()).await.unwrap();
    assert_eq!(record.root_keys[0].state, RootKeyState::Destroyed);
    reads(&store.tenant(&acme()).await.unwrap(), RECORDS).await;
    store.close().await.unwrap();
}

/// With a token, a copy of the directory from before has the old epoch's ciphertext, and nothing opens it.
async fn an_old_copy_opens_nothing(token: TokenConfig) {
    let test = Test::new(Some(token.clone())).await;
    fill(&test.store.create_tenant(&acme()).await.unwrap(), 0).await;
    let (keys, before) = (test.dir.join("keys"), tempfile::tempdir().unwrap());
    super::copy(&keys, before.path());
    test.rotate(compromised()).await;
    test.store.close().await.unwrap();
    let unlock = match token.label.as_str() {
        SOFTHSM => Unlock::WrappingToken(token, pin()),
        _ => Unlock::Token(token, pin()),
    };
    let old = Keystore::open(before.path(), default_provider(), unlock).unwrap();
    let record = old.tenant(&acme()).unwrap();
    assert_eq!(record.active().unwrap().epoch, epoch(1));
    let opened = old.epoch_secret(&acme(), epoch(1)).and_then(|secret| secret.derive(b"info").map(|_| ()));
    assert_eq!(opened.err().unwrap().kind(), strongroom::ErrorKind::NotFound);
}

#[test]
fn an_old_copy_over_a_token_opens_nothing() {
    in_token("copies::an_old_copy_over_a_token_opens_nothing", async {
        an_old_copy_opens_nothing(token::kryoptic(KRYOPTIC)).await;
    });
}

#[test]
fn an_old_copy_over_a_wrapping_token_opens_nothing() {
    in_token("copies::an_old_copy_over_a_wrapping_token_opens_nothing", async {
        an_old_copy_opens_nothing(token::softhsm(SOFTHSM)).await;
    });
}
