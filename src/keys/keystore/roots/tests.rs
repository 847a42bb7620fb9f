//! Guards against a root key that an interruption loses, doubles or leaves in its custody, or that opens what it should
//! not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::custody::{Custody, CustodyKind, HeldKey, KeyAlgorithm, KeyPurpose, KeyRole};
use super::super::file::KdfCost;
use super::super::{EpochSecret, Keystore, Unlock, header, hold};
use crate::clock::ManualClock;
use crate::crypto::{Kdf, SigningKey, default_provider};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::certificate::{Certificate, Expect, verify_chain};
use crate::keys::{DataKeys as _, EpochState, Fingerprint, Passphrase, Profile, RootKeyState, TenantRecord};
use crate::secret::SecretBytes;

const NOW: u64 = 1_800_000_000_000;

/// Where a call ends that would have gone on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// Before the custody does anything.
    Before,
    /// When the custody has done it, and before anybody knows.
    After,
    /// The custody has done it and says so, and the disk is gone.
    Disk,
}

/// What a custody holds, and when it fails: shared by every keystore that is opened over it, as a token would be.
#[derive(Default)]
struct World {
    /// The private halves that are there: roles by their bytes.
    held: Vec<Vec<u8>>,
    cut: Option<Cut>,
    dir: PathBuf,
}

/// A custody that keeps account, and fails once where it is told to.
struct Watched {
    inner: Box<dyn Custody>,
    world: Arc<Mutex<World>>,
}

impl Watched {
    fn cut<T>(&self, role: &KeyRole, work: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let mut world = self.world.lock();
        let cut = if role.purpose() == KeyPurpose::Root { world.cut.take() } else { None };
        if cut == Some(Cut::Before) {
            return Err(Error::new(ErrorKind::Unavailable, "cut before"));
        }
        let done = work(&mut world)?;
        match cut {
            Some(Cut::After) => Err(Error::new(ErrorKind::Unavailable, "cut after")),
            Some(Cut::Disk) => {
                std::fs::rename(&world.dir, away(&world.dir)).unwrap();
                Ok(done)
            }
            _ => Ok(done),
        }
    }
}

impl Custody for Watched {
    fn kind(&self) -> CustodyKind {
        self.inner.kind()
    }

    fn generate(&self, role: &KeyRole, algorithm: KeyAlgorithm) -> Result<HeldKey> {
        self.cut(role, |world| {
            let held = self.inner.generate(role, algorithm)?;
            world.held.retain(|other| *other != role.bytes());
            world.held.push(role.bytes());
            Ok(held)
        })
    }

    fn epoch_secret(
        &self,
        role: &KeyRole,
        key: &HeldKey,
        ciphertext: &[u8],
        kdf: Kdf,
        salt: &[u8],
    ) -> Result<Box<dyn EpochSecret>> {
        if !self.world.lock().held.contains(&role.bytes()) {
            return Err(Error::not_found("the key is gone"));
        }
        self.inner.epoch_secret(role, key, ciphertext, kdf, salt)
    }

    fn signer(&self, role: &KeyRole, key: &HeldKey) -> Result<Box<dyn SigningKey>> {
        self.inner.signer(role, key)
    }

    fn destroy(&self, role: &KeyRole, key: &HeldKey) -> Result<()> {
        self.cut(role, |world| {
            world.held.retain(|other| *other != role.bytes());
            self.inner.destroy(role, key)
        })
    }

    fn wrap(&self, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        self.inner.wrap(aad, secret)
    }

    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<SecretBytes> {
        self.inner.unwrap(aad, wrapped)
    }
}

fn away(dir: &Path) -> PathBuf {
    dir.with_extension("away")
}

fn unlock() -> Unlock {
    Unlock::Passphrase(Passphrase::new(b"a passphrase for tests".to_vec()).unwrap(), KdfCost::INSECURE_FAST)
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn epoch(number: u32) -> Epoch {
    Epoch::try_from(number).unwrap()
}

/// A keystore in a directory of its own.
struct Test {
    keystore: Option<Keystore>,
    world: Arc<Mutex<World>>,
    dir: PathBuf,
    _whole: tempfile::TempDir,
}

impl Test {
    fn new() -> Self {
        let whole = tempfile::tempdir().unwrap();
        let dir = whole.path().join("keys");
        let world = Arc::new(Mutex::new(World { dir: dir.clone(), ..World::default() }));
        drop(Keystore::create(&dir, default_provider(), unlock(), &ManualClock::at(NOW)).unwrap());
        let mut test = Self { keystore: None, world, dir, _whole: whole };
        test.reopen();
        test.keystore().onboard(&acme(), Profile::Hybrid, NOW).unwrap();
        test
    }

    /// As a process that was ended and started again.
    fn reopen(&mut self) {
        self.keystore = None;
        if away(&self.dir).exists() {
            std::fs::rename(away(&self.dir), &self.dir).unwrap();
        }
        let lock = hold(&self.dir).unwrap();
        let (inner, master) = header::open(&self.dir, default_provider(), unlock()).unwrap();
        let custody = Box::new(Watched { inner, world: self.world.clone() });
        self.keystore = Some(Keystore::with_master(&self.dir, default_provider(), custody, &master, lock).unwrap());
    }

    fn keystore(&self) -> &Keystore {
        self.keystore.as_ref().unwrap()
    }

    fn record(&self) -> TenantRecord {
        self.keystore().tenant(&acme()).unwrap()
    }

    fn secret(&self, number: u32) -> Result<[u8; 32]> {
        Ok(*self.keystore().epoch_secret(&acme(), epoch(number))?.derive(b"info")?.expose_secret())
    }

    fn rotate_root(&self) -> Result<TenantRecord> {
        let before = self.record().root_fingerprint;
        self.keystore().rotate_root_key(&acme(), &before, NOW)
    }

    /// How many root keys of the tenant there are in the custody.
    fn roots_held(&self) -> usize {
        let root = KeyRole::new(acme(), KeyPurpose::Root, [0; 16]).bytes();
        let prefix = &root[..root.len() - 16];
        self.world.lock().held.iter().filter(|role| role.starts_with(prefix)).count()
    }

    /// Makes the epoch 2 under the root key that is active now, and lets it seal.
    fn next_epoch(&self) {
        let made = self.keystore().create_epoch(&acme(), None, NOW).unwrap();
        self.keystore().activate_epoch(&acme(), made.epoch, NOW).unwrap();
    }
}

/// What a record says apart from what is random and when it was.
fn shape(record: &TenantRecord) -> Vec<(RootKeyState, Vec<Epoch>)> {
    record.root_keys.iter().map(|root| (root.state, root.epochs.clone())).collect()
}

#[test]
fn epochs_stay_with_their_root_key_and_it_goes_after_the_last() {
    let test = Test::new();
    let first = test.record().root_fingerprint;
    let one = test.secret(1).unwrap();
    let rotated = test.rotate_root().unwrap();
    assert_ne!(rotated.root_fingerprint, first);
    assert_eq!(shape(&rotated), [(RootKeyState::Deactivated, vec![epoch(1)]), (RootKeyState::Active, vec![])]);
    assert_eq!(test.secret(1).unwrap(), one, "it goes on opening, and sealing until another epoch does");
    test.next_epoch();
    let record = test.record();
    assert_eq!(record.epochs[0].root_fingerprint, first);
    assert_eq!(record.epochs[1].root_fingerprint, rotated.root_fingerprint);
    assert_ne!(test.secret(2).unwrap(), one);
    assert_eq!((test.secret(1).unwrap(), test.roots_held()), (one, 2));

    let destroy = |root: &Fingerprint| test.keystore().destroy_root_key(&acme(), root, NOW);
    let active = destroy(&rotated.root_fingerprint).err().unwrap();
    assert_eq!(active.kind(), ErrorKind::Conflict, "{active}");
    let used = destroy(&first).err().unwrap();
    assert_eq!((used.kind(), used.to_string().contains("epoch 1")), (ErrorKind::Conflict, true), "{used}");
    let unknown = Fingerprint::of(default_provider(), b"another");
    assert_eq!(destroy(&unknown).err().unwrap().kind(), ErrorKind::NotFound);

    test.keystore().destroy_epoch(&acme(), epoch(1), NOW).unwrap();
    let gone = destroy(&first).unwrap();
    assert_eq!((&gone.fingerprint, &gone.active_fingerprint), (&first, &rotated.root_fingerprint));
    assert_eq!(test.roots_held(), 1);
    assert_eq!(destroy(&first).err().unwrap().kind(), ErrorKind::Conflict);
    let record = test.record();
    assert_eq!(shape(&record), [(RootKeyState::Destroyed, vec![]), (RootKeyState::Active, vec![epoch(2)])]);
    assert_eq!(record.root_keys[0].fingerprint, first, "what it was stays known");
    assert!(test.secret(1).is_err() && test.secret(2).is_ok());
}

/// Neither the seed nor what was encapsulated to it may be in the record that is left, which is all that a file keystore
/// has of them. The public half is in the earlier certificate, for anybody to read.
#[test]
fn nothing_is_left_of_a_destroyed_root_key_in_the_record() {
    let test = Test::new();
    let stored = test.keystore().live(&acme()).unwrap();
    let root = stored.key(KeyPurpose::Root).unwrap();
    let secrets = [root.private.clone(), stored.epochs[0].ciphertext.clone()];
    let first = test.record().root_fingerprint;
    test.rotate_root().unwrap();
    test.next_epoch();
    test.keystore().destroy_epoch(&acme(), epoch(1), NOW).unwrap();
    test.keystore().destroy_root_key(&acme(), &first, NOW).unwrap();
    let left = postcard::to_stdvec(&test.keystore().live(&acme()).unwrap()).unwrap();
    for secret in &secrets {
        assert!(!secret.is_empty() && !left.windows(16).any(|at| at == &secret[..16]), "something is left");
    }
    for entry in std::fs::read_dir(&test.dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(crate::disk::UNFINISHED), "{name}");
    }
}

#[test]
fn a_call_that_is_cut_anywhere_is_finished_by_doing_it_again() {
    for cut in [Cut::Before, Cut::After, Cut::Disk] {
        let mut test = Test::new();
        let (first, one) = (test.record().root_fingerprint, test.secret(1).unwrap());
        test.world.lock().cut = Some(cut);
        assert!(test.rotate_root().is_err(), "{cut:?}");
        test.reopen();
        // Nothing has happened yet, and nobody sees that something was begun.
        let record = test.record();
        assert_eq!((&record.root_fingerprint, record.root_keys.len()), (&first, 1), "{cut:?}");
        assert_eq!(test.secret(1).unwrap(), one);
        test.rotate_root().unwrap();
        assert_eq!(test.roots_held(), 2, "{cut:?}: one for each, and nothing that was left");
        test.next_epoch();
        assert_eq!(test.secret(1).unwrap(), one);
        test.secret(2).unwrap();
        test.keystore().destroy_epoch(&acme(), epoch(1), NOW).unwrap();

        test.world.lock().cut = Some(cut);
        assert!(test.keystore().destroy_root_key(&acme(), &first, NOW).is_err(), "{cut:?}");
        test.reopen();
        assert_eq!(test.record().root_keys[0].state, RootKeyState::Deactivated);
        test.keystore().destroy_root_key(&acme(), &first, NOW).unwrap();
        assert_eq!(test.roots_held(), 1);
        assert_eq!(
            shape(&test.record()),
            [(RootKeyState::Destroyed, vec![]), (RootKeyState::Active, vec![epoch(2)])],
            "{cut:?}"
        );
        test.secret(2).unwrap();
    }
}

#[test]
fn shredding_destroys_every_generation_and_what_was_only_begun() {
    let mut test = Test::new();
    test.rotate_root().unwrap();
    test.rotate_root().unwrap();
    test.world.lock().cut = Some(Cut::After);
    assert!(test.rotate_root().is_err());
    assert_eq!(test.roots_held(), 4);
    test.world.lock().cut = Some(Cut::After);
    assert!(test.keystore().shred(&acme(), NOW).is_err());
    test.reopen();
    test.keystore().shred(&acme(), NOW).unwrap();
    assert_eq!(test.roots_held(), 0);
    assert!(test.keystore().is_shredded(&acme()).unwrap());
    assert!(test.rotate_root_of_nobody().is_err());
}

impl Test {
    fn rotate_root_of_nobody(&self) -> Result<TenantRecord> {
        self.keystore().rotate_root_key(&acme(), &Fingerprint::of(default_provider(), b"x"), NOW)
    }
}

#[test]
fn the_certificate_binds_the_new_root_key_and_the_same_signing_key() {
    let test = Test::new();
    let before = test.record();
    let old = test.keystore().certificates(&acme()).unwrap();
    let record = test.rotate_root().unwrap();
    assert_eq!(record.signing_fingerprint, before.signing_fingerprint);
    assert_ne!(record.certificate_fingerprint, before.certificate_fingerprint);
    let keys = test.keystore().public_keys(&acme()).unwrap();
    assert_eq!(Fingerprint::of(default_provider(), &keys.root), record.root_fingerprint);
    let [authority, own] = test.keystore().certificates(&acme()).unwrap();
    assert_eq!(authority, old[0], "the same authority");
    let expect = Expect { tenant: Some(acme()), profile: Some(Profile::Hybrid), ..Expect::default() };
    let authority = Certificate::from_der(&authority).unwrap();
    let chain = [Certificate::from_der(&own).unwrap()];
    let verified = verify_chain(default_provider(), &authority, &chain, NOW, &expect).unwrap();
    assert_eq!(verified.root_key(), keys.root);
    assert_eq!(test.keystore().earlier_certificates(&acme()).unwrap(), [old[1].clone()]);
}

#[test]
fn epochs_that_were_never_used_are_made_anew() {
    let test = Test::new();
    let made = test.keystore().create_epoch(&acme(), None, NOW).unwrap();
    let record = test.rotate_root().unwrap();
    let now = &record.epochs[1];
    assert_eq!((now.epoch, now.state, &now.suite), (made.epoch, EpochState::PreActive, &made.suite));
    assert_eq!(now.root_fingerprint, record.root_fingerprint);
    assert_ne!(now.fingerprint, made.fingerprint);
    test.keystore().activate_epoch(&acme(), epoch(2), NOW).unwrap();
    test.secret(2).unwrap();
}

#[test]
fn asking_twice_makes_one_and_too_many_are_refused() {
    let test = Test::new();
    let first = test.record().root_fingerprint;
    test.rotate_root().unwrap();
    let again = test.keystore().rotate_root_key(&acme(), &first, NOW).err().unwrap();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(test.record().root_keys.len(), 2);
    for _ in 1..crate::limits::ROOT_KEYS_A_DAY {
        test.rotate_root().unwrap();
    }
    assert_eq!(test.rotate_root().err().unwrap().kind(), ErrorKind::Conflict);
    let active = test.record().root_fingerprint;
    let tomorrow = NOW + crate::limits::SESSION_CREDENTIAL_MS;
    test.keystore().rotate_root_key(&acme(), &active, tomorrow).unwrap();
    assert_eq!(test.keystore().earlier_certificates(&acme()).unwrap().len(), 1);
}

#[test]
fn tenants_have_root_keys_of_their_own() {
    let test = Test::new();
    let other: TenantId = "other".parse().unwrap();
    let theirs = test.keystore().onboard(&other, Profile::Pure, NOW).unwrap();
    test.rotate_root().unwrap();
    assert_eq!(test.keystore().tenant(&other).unwrap(), theirs, "nothing of the other has changed");
    test.next_epoch();
    test.keystore().destroy_epoch(&acme(), epoch(1), NOW).unwrap();
    let root = &theirs.root_fingerprint;
    assert_eq!(test.keystore().destroy_root_key(&acme(), root, NOW).err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(test.keystore().rotate_root_key(&acme(), root, NOW).err().unwrap().kind(), ErrorKind::Conflict);
    test.keystore().epoch_secret(&other, epoch(1)).unwrap();
}
