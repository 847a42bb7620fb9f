//! Guards against a keystore that gives keys to the wrong caller, loses them, or derives others than it did before.

mod common;

use std::fs;
use std::path::Path;

use strongroom::crypto::{self, Kdf, Provider, SuiteId, aws_lc::AwsLc, rustcrypto::RustCrypto};
use strongroom::keys::keystore::file::{FileKeystore, KdfCost};
use strongroom::keys::{EpochState, Keyring, Keystore, Label};
use strongroom::{Epoch, ErrorKind, Passphrase, Store, TenantId};

const SUITE: SuiteId = SuiteId::Aes256GcmSivSha3_512;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn create(dir: &Path) -> FileKeystore {
    FileKeystore::create(dir, crypto::default_provider(), &common::passphrase(), KdfCost::INSECURE_FAST).unwrap()
}

fn open(dir: &Path) -> strongroom::Result<FileKeystore> {
    FileKeystore::open(dir, crypto::default_provider(), &common::passphrase())
}

/// The expected key comes from Python's `hmac` and `hashlib`: see `schema/keys.md`.
#[test]
fn a_data_key_is_derived_as_documented() {
    for provider in [&AwsLc as &dyn Provider, &RustCrypto] {
        let prk = provider.hkdf_extract(Kdf::HkdfSha3_512, b"acme", &[7; 32]);
        let mut key = [0; 32];
        let info = Label::VectorStore.info(SUITE, Epoch::FIRST, &[9; 16]);
        provider.hkdf_expand(Kdf::HkdfSha3_512, &prk, &info, &mut key).unwrap();
        let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ac3e00a1d20b3074a33aa0c081a738f8a11c68fdbe2251eb6c4a1454fcb5e111");
    }
}

#[test]
fn a_tenants_keys_are_the_same_after_opening_again_and_unlike_anybody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let record = keystore.create(&tenant("a"), SUITE, 1).unwrap();
    keystore.create(&tenant("b"), SUITE, 2).unwrap();
    assert_eq!(record.epochs.len(), 1);
    assert_eq!((record.epochs[0].epoch, record.epochs[0].state), (Epoch::FIRST, EpochState::Active));
    let derive = |keystore: &FileKeystore, name: &str, info: &[u8]| {
        *keystore.open_epoch(&tenant(name), Epoch::FIRST).unwrap().derive(info).unwrap().expose_secret()
    };
    let key = derive(&keystore, "a", b"x");
    assert_ne!(key, derive(&keystore, "b", b"x"));
    assert_ne!(key, derive(&keystore, "a", b"y"));
    drop(keystore);
    let keystore = open(dir.path()).unwrap();
    assert_eq!(key, derive(&keystore, "a", b"x"));
    assert_eq!(keystore.tenants().unwrap(), [tenant("a"), tenant("b")]);
    assert_eq!(keystore.tenant(&tenant("a")).unwrap().root_fingerprint, record.root_fingerprint);
    assert_eq!(keystore.create(&tenant("a"), SUITE, 3).err().unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(keystore.tenant(&tenant("c")).err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(
        keystore.open_epoch(&tenant("a"), Epoch::FIRST.next().unwrap()).err().unwrap().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn every_purpose_and_scope_has_a_key_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    keystore.create(&tenant("a"), SUITE, 1).unwrap();
    let secret = keystore.open_epoch(&tenant("a"), Epoch::FIRST).unwrap();
    let mut keys = std::collections::HashSet::new();
    let mut expected = 0;
    for label in Label::ALL {
        for suite in SuiteId::ALL {
            for epoch in [Epoch::FIRST, Epoch::FIRST.next().unwrap()] {
                for scope in [&b""[..], b"a", b"b"] {
                    keys.insert(*secret.derive(&label.info(suite, epoch, scope)).unwrap().expose_secret());
                    expected += 1;
                }
            }
        }
    }
    assert_eq!(keys.len(), expected);
}

#[test]
fn a_wrong_passphrase_is_denied_and_a_new_keystore_never_replaces_one() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path());
    let wrong = Passphrase::new(b"another passphrase".to_vec()).unwrap();
    let denied = FileKeystore::open(dir.path(), crypto::default_provider(), &wrong).err().unwrap();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    let again = FileKeystore::create(dir.path(), crypto::default_provider(), &wrong, KdfCost::INSECURE_FAST);
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Conflict);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_tenants_file_under_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let files = || {
        let names = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        names.filter(|p| p.extension().is_some_and(|e| e == "tenant")).collect::<Vec<_>>()
    };
    keystore.create(&tenant("a"), SUITE, 1).unwrap();
    let a = files().remove(0);
    keystore.create(&tenant("b"), SUITE, 1).unwrap();
    let b = files().into_iter().find(|p| *p != a).unwrap();
    fs::copy(&a, &b).unwrap();
    assert_eq!(keystore.open_epoch(&tenant("b"), Epoch::FIRST).err().unwrap().kind(), ErrorKind::Integrity);
    assert!(keystore.open_epoch(&tenant("a"), Epoch::FIRST).is_ok());
    assert!(!a.to_string_lossy().ends_with("a.tenant"), "names are blinded");
}

#[test]
fn a_keyring_refuses_epochs_that_were_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    keystore.create(&tenant("a"), SUITE, 1).unwrap();
    let keyring = Keyring::open(&keystore, crypto::default_provider(), &tenant("a")).unwrap();
    assert!(keyring.sealing(Label::MemoryStore, Epoch::FIRST, b"").is_ok());
    let next = Epoch::FIRST.next().unwrap();
    assert_eq!(keyring.sealing(Label::MemoryStore, next, b"").err().unwrap().kind(), ErrorKind::Integrity);
}

#[tokio::test]
async fn data_without_its_keys_cannot_be_opened() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    let spec = strongroom::CollectionSpec::new(1, strongroom::Metric::Dot);
    acme.create_collection("docs", spec).await.unwrap();
    drop(acme);
    test.store.close().await.unwrap();
    let dir = test.dir;
    // The same passphrase and the same tenant name, but other keys.
    fs::remove_dir_all(dir.path().join("keys")).unwrap();
    Store::init(&common::options(dir.path()), common::passphrase()).await.unwrap();
    let store = Store::open(common::options(dir.path()), common::passphrase()).await.unwrap();
    let acme = store.create_tenant(&tenant("acme")).await.unwrap();
    assert!(acme.collections().is_empty(), "the name of the old tenant cannot even be found");
}
