//! Guards against a keystore that gives keys to the wrong caller, loses them, or derives others than it did before.

use std::fs;
use std::path::{Path, PathBuf};

use strongroom::clock::ManualClock;
use strongroom::crypto::{self, Kdf, Provider, SuiteId, aws_lc::AwsLc, rustcrypto::RustCrypto};
use strongroom::keys::keystore::Unlock;
use strongroom::keys::keystore::custody::CustodyKind;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::{DataKeys as _, EpochState, Keyring, Keystore, Label, Profile};
use strongroom::record::{Field, Place, StoreKind};
use strongroom::{Epoch, ErrorKind, Passphrase, TenantId};

const SUITE: SuiteId = SuiteId::Aes256GcmSivSha3_512;
const NOW: u64 = 1_760_000_000_000;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn epoch(number: u32) -> Epoch {
    Epoch::try_from(number).unwrap()
}

fn create(dir: &Path) -> Keystore {
    let unlock = Unlock::Passphrase(passphrase(), KdfCost::INSECURE_FAST);
    Keystore::create(dir, crypto::default_provider(), unlock, &ManualClock::at(NOW)).unwrap()
}

fn open_with(dir: &Path, passphrase: Passphrase) -> strongroom::Result<Keystore> {
    Keystore::open(dir, crypto::default_provider(), Unlock::Passphrase(passphrase, KdfCost::INSECURE_FAST))
}

fn open(dir: &Path) -> strongroom::Result<Keystore> {
    open_with(dir, passphrase())
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"a passphrase for tests".to_vec()).unwrap()
}

fn another_passphrase() -> Passphrase {
    Passphrase::new(b"another passphrase".to_vec()).unwrap()
}

/// The files of tenants, in no order.
fn tenant_files(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    names.filter(|p| p.extension().is_some_and(|e| e == "tenant")).collect()
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
    assert_eq!(keystore.kind(), CustodyKind::File);
    let record = keystore.onboard(&tenant("a"), Profile::Pure, NOW).unwrap();
    keystore.onboard(&tenant("b"), Profile::Pure, NOW).unwrap();
    assert_eq!(record.epochs.len(), 1);
    assert_eq!((record.epochs[0].epoch, record.epochs[0].state), (Epoch::FIRST, EpochState::Active));
    let derive = |keystore: &Keystore, name: &str, info: &[u8]| {
        *keystore.epoch_secret(&tenant(name), Epoch::FIRST).unwrap().derive(info).unwrap().expose_secret()
    };
    let key = derive(&keystore, "a", b"x");
    assert_ne!(key, derive(&keystore, "b", b"x"));
    assert_ne!(key, derive(&keystore, "a", b"y"));
    drop(keystore);
    let keystore = open(dir.path()).unwrap();
    assert_eq!(key, derive(&keystore, "a", b"x"));
    assert_eq!(keystore.tenants().unwrap(), [tenant("a"), tenant("b")]);
    assert_eq!(keystore.tenant(&tenant("a")).unwrap(), record);
    assert_eq!(keystore.onboard(&tenant("a"), Profile::Pure, NOW).err().unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(keystore.tenant(&tenant("c")).err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(keystore.epoch_secret(&tenant("a"), epoch(2)).err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn every_purpose_and_scope_has_a_key_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    keystore.onboard(&tenant("a"), Profile::Pure, NOW).unwrap();
    let secret = keystore.epoch_secret(&tenant("a"), Epoch::FIRST).unwrap();
    let mut keys = std::collections::HashSet::new();
    let mut expected = 0;
    for label in Label::ALL {
        for suite in SuiteId::ALL {
            for epoch in [Epoch::FIRST, epoch(2)] {
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
    drop(create(dir.path()));
    let denied = open_with(dir.path(), another_passphrase()).err().unwrap();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    let unlock = Unlock::Passphrase(another_passphrase(), KdfCost::INSECURE_FAST);
    let again = Keystore::create(dir.path(), crypto::default_provider(), unlock, &ManualClock::at(NOW));
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Conflict);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn after_a_change_only_the_new_passphrase_opens_the_same_keys() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let record = keystore.onboard(&tenant("a"), Profile::Pure, NOW).unwrap();
    let provider = crypto::default_provider();
    let (old, new) = (passphrase, another_passphrase);
    let change = |old: Passphrase, new: Passphrase| Keystore::change_passphrase(dir.path(), provider, old, new, None);
    assert_eq!(change(old(), new()).err().unwrap().kind(), ErrorKind::Busy);
    drop(keystore);
    assert_eq!(change(new(), old()).err().unwrap().kind(), ErrorKind::Denied);
    let backup = fs::read(dir.path().join("keystore.json")).unwrap();
    change(old(), new()).unwrap();
    assert_eq!(open(dir.path()).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(open_with(dir.path(), new()).unwrap().tenant(&tenant("a")).unwrap(), record);
    // As the manual says: an old copy of the header still opens with the old passphrase.
    fs::write(dir.path().join("keystore.json"), backup).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_keystore_is_held_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let _held = create(dir.path());
    assert_eq!(open(dir.path()).err().unwrap().kind(), ErrorKind::Busy);
}

#[test]
fn a_tenants_file_under_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let before = tenant_files(dir.path());
    keystore.onboard(&tenant("a"), Profile::Pure, NOW).unwrap();
    let both = tenant_files(dir.path());
    keystore.onboard(&tenant("b"), Profile::Pure, NOW).unwrap();
    let b = tenant_files(dir.path()).into_iter().find(|p| !both.contains(p)).unwrap();
    for other in both.iter().filter(|p| !before.contains(p)) {
        fs::copy(other, &b).unwrap();
        assert_eq!(keystore.epoch_secret(&tenant("b"), Epoch::FIRST).err().unwrap().kind(), ErrorKind::Integrity);
    }
    assert!(keystore.epoch_secret(&tenant("a"), Epoch::FIRST).is_ok());
    // Whole names: one digit of a blinded name may well be an `a`.
    assert!(both.iter().all(|p| !p.ends_with("a.tenant")), "names are blinded");
}

#[test]
fn a_keyring_refuses_epochs_that_were_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    keystore.onboard(&tenant("a"), Profile::Pure, NOW).unwrap();
    let keyring = Keyring::open(&keystore, crypto::default_provider(), &tenant("a")).unwrap();
    assert!(keyring.sealing(Label::MemoryStore, Epoch::FIRST, b"").is_ok());
    assert_eq!(keyring.sealing(Label::MemoryStore, epoch(2), b"").err().unwrap().kind(), ErrorKind::Integrity);
}

#[test]
fn an_epoch_goes_through_its_states_and_some_epoch_always_seals() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let a = tenant("a");
    keystore.onboard(&a, Profile::Pure, NOW).unwrap();
    let states = || keystore.tenant(&a).unwrap().epochs.iter().map(|e| e.state).collect::<Vec<_>>();
    use EpochState::{Active, Compromised, Deactivated, Destroyed, PreActive};
    let conflict = |result: strongroom::Result<_>| assert_eq!(result.err().unwrap().kind(), ErrorKind::Conflict);
    conflict(keystore.deactivate_epoch(&a, Epoch::FIRST, NOW).map(drop));
    conflict(keystore.destroy_epoch(&a, Epoch::FIRST, NOW).map(drop));
    keystore.create_epoch(&a, None, NOW).unwrap();
    assert_eq!(states(), [Active, PreActive]);
    assert!(keystore.epoch_secret(&a, epoch(2)).is_err(), "a pre-active epoch opens nothing");
    keystore.activate_epoch(&a, epoch(2), NOW + 1).unwrap();
    assert_eq!(states(), [Deactivated, Active]);
    conflict(keystore.activate_epoch(&a, Epoch::FIRST, NOW).map(drop));
    keystore.mark_epoch_compromised(&a, epoch(2), NOW + 2).unwrap();
    assert_eq!(states(), [Deactivated, Compromised, Active]);
    let gone = keystore.destroy_epoch(&a, Epoch::FIRST, NOW + 3).unwrap();
    keystore.destroy_epoch(&a, epoch(2), NOW + 3).unwrap();
    assert_eq!(states(), [Destroyed, Destroyed, Active]);
    conflict(keystore.destroy_epoch(&a, Epoch::FIRST, NOW).map(drop));
    let record = keystore.tenant(&a).unwrap();
    assert_eq!(record.epochs[0].fingerprint, gone.fingerprint);
    assert_eq!(record.epochs[0].since_ms, NOW + 3);
    assert_eq!(record.active().unwrap().fingerprint, gone.active_fingerprint);
    let all: std::collections::HashSet<_> = record.epochs.iter().map(|e| e.fingerprint.to_string()).collect();
    assert_eq!(all.len(), 3, "every epoch is an encapsulation of its own");
}

#[test]
fn what_was_sealed_in_a_destroyed_epoch_answers_that_it_is_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let a = tenant("a");
    keystore.onboard(&a, Profile::Pure, NOW).unwrap();
    let place = Place {
        tenant: &a,
        store: StoreKind::Memory,
        scope: b"",
        record: b"1",
        version: 1,
        field: Field::Payload,
        embedding: None,
    };
    let keyring = Keyring::open(&keystore, crypto::default_provider(), &a).unwrap();
    let sealed = keyring.sealing(Label::MemoryStore, Epoch::FIRST, b"").unwrap().seal(&place, b"secret").unwrap();
    keystore.create_epoch(&a, None, NOW).unwrap();
    keystore.activate_epoch(&a, epoch(2), NOW).unwrap();
    let keyring = Keyring::open(&keystore, crypto::default_provider(), &a).unwrap();
    let opened = keyring.sealing(Label::MemoryStore, Epoch::FIRST, b"").unwrap().open(&place, &sealed).unwrap();
    assert_eq!(opened.expose_secret(), b"secret");
    // A backup of the keystore from before would still open it: that is why those are kept apart, and expire.
    keystore.destroy_epoch(&a, Epoch::FIRST, NOW).unwrap();
    let keyring = Keyring::open(&keystore, crypto::default_provider(), &a).unwrap();
    let gone = keyring.sealing(Label::MemoryStore, Epoch::FIRST, b"").err().unwrap();
    assert_eq!((gone.kind(), gone.to_string()), (ErrorKind::NotFound, "epoch 1 is destroyed".into()));
    assert!(keyring.sealing(Label::MemoryStore, epoch(2), b"").unwrap().open(&place, &sealed).is_err());
}

#[test]
fn a_shredded_tenant_is_gone_for_ever_and_its_id_stays_taken() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let a = tenant("a");
    let made = keystore.onboard(&a, Profile::Hybrid, NOW).unwrap();
    keystore.onboard(&tenant("b"), Profile::Pure, NOW).unwrap();
    let gone = keystore.shred(&a, NOW + 1).unwrap();
    assert_eq!(gone.root_fingerprint, made.root_fingerprint);
    assert!(keystore.is_shredded(&a).unwrap());
    assert_eq!(keystore.tenants().unwrap(), [tenant("b")]);
    for error in [
        keystore.tenant(&a).err(),
        keystore.epoch_secret(&a, Epoch::FIRST).err(),
        keystore.signer(&a).err(),
        keystore.shred(&a, NOW).err(),
    ] {
        assert_eq!(error.unwrap().kind(), ErrorKind::NotFound);
    }
    assert_eq!(keystore.onboard(&a, Profile::Pure, NOW).err().unwrap().kind(), ErrorKind::Conflict);
}

/// Onboarding and shredding write a state first and do the work then: a process may end between any two steps.
#[test]
fn an_interrupted_onboarding_is_not_a_tenant_and_is_finished_by_doing_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    let before = tenant_files(dir.path());
    keystore.onboard(&tenant("b"), Profile::Pure, NOW).unwrap();
    let a = tenant("a");
    let seen = tenant_files(dir.path());
    keystore.onboard(&a, Profile::Hybrid, NOW).unwrap();
    let file = tenant_files(dir.path()).into_iter().find(|p| !seen.contains(p)).unwrap();
    assert!(!before.contains(&file));
    // No file is what a crash before the first write leaves: nothing of the tenant is there.
    fs::remove_file(&file).unwrap();
    assert_eq!(keystore.tenant(&a).err().unwrap().kind(), ErrorKind::NotFound);
    keystore.onboard(&a, Profile::Pure, NOW).unwrap();
    assert_eq!(keystore.tenant(&a).unwrap().profile, Profile::Pure);
}

/// Guards against a destroyed epoch that comes back from what a crash had left of an earlier change.
#[test]
fn what_a_crash_left_is_removed_before_anything_is_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(dir.path()));
    // A change that ends between writing the new file and moving it into place.
    let files = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let header = fs::read(dir.path().join("keystore.json")).unwrap();
    let left = dir.path().join(".unfinished-Ab12Cd");
    fs::write(&left, &header).unwrap();
    drop(open(dir.path()).unwrap());
    assert!(!left.exists(), "{:?}", files(dir.path()));
    fs::write(&left, &header).unwrap();
    let (old, new) = (passphrase(), Passphrase::new(b"another one".to_vec()).unwrap());
    Keystore::change_passphrase(dir.path(), crypto::default_provider(), old, new, None).unwrap();
    assert!(!left.exists(), "{:?}", files(dir.path()));
}

/// Guards against a file that takes all memory before it is refused.
#[test]
fn an_endless_file_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = create(dir.path());
    keystore.onboard(&tenant("acme"), Profile::Pure, NOW).unwrap();
    let file = dir.path().join(keystore.pseudonym(&tenant("acme"))).with_extension("tenant");
    let grow = |path: &Path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 36).unwrap();
    grow(&file);
    assert_eq!(keystore.public_keys(&tenant("acme")).err().unwrap().kind(), ErrorKind::Integrity);
    drop(keystore);
    grow(&dir.path().join("keystore.json"));
    assert_eq!(open(dir.path()).err().unwrap().kind(), ErrorKind::Integrity);
}
