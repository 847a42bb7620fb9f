//! The keystore: tenants' root and signing keys, their epochs' encapsulated secrets, and their certificates.
//!
//! A directory that one process holds at a time. What it keeps is sealed under a master key, which the [`Custody`] of
//! the private keys wraps: under a passphrase (`file`), or in a PKCS#11 token. The layouts stand in `schema/keys.md`,
//! the states of a tenant and of an epoch in [`crate::manual::lifecycle`].

pub mod copy;
pub mod custody;
mod epochs;
pub mod file;
mod header;
mod onboarding;
pub mod pkcs11;
mod records;
mod roots;
mod shredding;
mod stored;
mod stored_v2;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::audit::Outcome;
use crate::clock::Clock;
use crate::crypto::{Provider, SigningKey, SuiteId, composite};
use crate::disk::DirLock;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::secret::{Secret, SecretBytes};

use super::{Label, Passphrase, TenantRecord};
use custody::{Custody, CustodyKind, KeyPurpose};
use records::Records;
use stored::{Stored, TenantState};

pub use epochs::Destroyed;
pub use header::{HEADER_FILE, Unlock};
pub use roots::DestroyedRootKey;

/// The secret of one epoch, in memory or in a token.
pub trait EpochSecret: Send + Sync {
    /// HKDF expand (RFC 5869, section 2.3) with `info` to 32 bytes.
    fn derive(&self, info: &[u8]) -> Result<Secret<32>>;
}

/// The data keys of one epoch: derived from its secret at hand, or by the key service.
pub trait EpochKeys: Send + Sync {
    /// The data key for `label` and `scope`: see `schema/keys.md`.
    fn dek(&self, label: Label, scope: &[u8]) -> Result<Secret<32>>;
}

/// Where data keys come from: a keystore of one's own, or the key service.
pub trait DataKeys: Send + Sync {
    /// What may be shown of a tenant.
    fn tenant(&self, tenant: &TenantId) -> Result<TenantRecord>;

    /// The keys of one epoch, which must be one that opens.
    fn epoch_keys(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochKeys>>;

    /// Erases what is kept ready of a tenant that is closed.
    fn forget(&self, _tenant: &TenantId) {}
}

/// An open keystore.
pub struct Keystore {
    provider: &'static dyn Provider,
    custody: Box<dyn Custody>,
    records: Records,
    /// Held from reading a record until it is replaced.
    changing: Mutex<()>,
    /// Whether a key service works with it.
    served: AtomicBool,
    _lock: DirLock,
}

/// The right to serve a keystore's keys, given back when dropped.
pub(in crate::keys) struct Serving(Arc<Keystore>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.served.store(false, Ordering::Release);
    }
}

impl Keystore {
    /// Makes a new keystore in `dir`, which is created if need be, with the store's own entry and the authority that
    /// issues tenants' certificates. An existing one is never overwritten.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) when there is one already.
    pub fn create(dir: &Path, provider: &'static dyn Provider, unlock: Unlock, clock: &dyn Clock) -> Result<Self> {
        let lock = hold(dir)?;
        let (custody, master) = header::create(dir, provider, unlock)?;
        let keystore = Self::with_master(dir, provider, custody, &master, lock)?;
        keystore.create_system(clock.now_ms())?;
        Ok(keystore)
    }

    /// Opens the keystore in `dir`. A wrong passphrase or PIN is [`Denied`](crate::ErrorKind::Denied).
    pub fn open(dir: &Path, provider: &'static dyn Provider, unlock: Unlock) -> Result<Self> {
        header::exists(dir)?;
        let lock = hold(dir)?;
        let (custody, master) = header::open(dir, provider, unlock)?;
        Self::with_master(dir, provider, custody, &master, lock)
    }

    /// What the keystore in `dir` calls `tenant`, found while whoever has it goes on working with it.
    pub fn pseudonym_in(
        dir: &Path,
        provider: &'static dyn Provider,
        unlock: Unlock,
        tenant: &TenantId,
    ) -> Result<String> {
        header::exists(dir)?;
        let (_, master) = header::open(dir, provider, unlock)?;
        Ok(Records::new(dir, provider, &master)?.stem(tenant.as_str()))
    }

    /// Replaces the passphrase of a `file` keystore. The old one opens it no more, but it still opens an old copy of
    /// `keystore.json`.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::ErrorKind::Denied) when `old` is wrong, [`Busy`](crate::ErrorKind::Busy) while the keystore is in use.
    pub fn change_passphrase(
        dir: &Path,
        provider: &'static dyn Provider,
        old: Passphrase,
        new: Passphrase,
        cost: Option<file::KdfCost>,
    ) -> Result<()> {
        Self::change_passphrase_noted(dir, provider, old, new, cost, |_| Ok(()))
    }

    /// The same, with `note` told that it is begun and how it ended, while nobody else works with the keystore.
    pub(crate) fn change_passphrase_noted(
        dir: &Path,
        provider: &'static dyn Provider,
        old: Passphrase,
        new: Passphrase,
        cost: Option<file::KdfCost>,
        note: impl Fn(Outcome) -> Result<()>,
    ) -> Result<()> {
        header::exists(dir)?;
        let _lock = hold(dir)?;
        note(Outcome::Begun)?;
        let change = || {
            let before = header::cost(dir)?;
            let (_, master) = header::open(dir, provider, Unlock::Passphrase(old, before))?;
            header::write(dir, provider, Unlock::Passphrase(new, cost.unwrap_or(before)), &master).map(|_| ())
        };
        let changed = change();
        note(Outcome::of(&changed))?;
        changed
    }

    fn with_master(
        dir: &Path,
        provider: &'static dyn Provider,
        custody: Box<dyn Custody>,
        master: &Secret<32>,
        lock: DirLock,
    ) -> Result<Self> {
        let records = Records::new(dir, provider, master)?;
        Ok(Self { provider, custody, records, changing: Mutex::new(()), served: AtomicBool::new(false), _lock: lock })
    }

    /// The right to serve these keys, which one has at a time: what a service remembers of single use and revocation, and
    /// what it keeps ready, another would not know of.
    pub(in crate::keys) fn serve(self: &Arc<Self>) -> Result<Serving> {
        if self.served.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Busy, "the keystore has a key service already")
                .with_remedy("use that one: `LocalKms::caller` gives as many handles as are needed"));
        }
        Ok(Serving(self.clone()))
    }

    /// Where private keys are.
    pub fn kind(&self) -> CustodyKind {
        self.custody.kind()
    }

    /// The implementation of the algorithms.
    pub fn provider(&self) -> &'static dyn Provider {
        self.provider
    }

    /// The ids of all tenants that can be used, in order.
    pub fn tenants(&self) -> Result<Vec<TenantId>> {
        let mut tenants = Vec::new();
        for stored in self.records.all()? {
            // The store's own entry has a name that no tenant can have.
            if stored.state == TenantState::Live
                && let Ok(tenant) = stored.tenant.parse()
            {
                tenants.push(tenant);
            }
        }
        tenants.sort();
        Ok(tenants)
    }

    /// A key of the tenant that signs as its profile says: ML-DSA, or the composite of ML-DSA-65 and ECDSA P-384.
    pub fn signer(&self, tenant: &TenantId) -> Result<Box<dyn SigningKey>> {
        let stored = self.live(tenant)?;
        self.stored_signer(&stored)
    }

    /// The tenant's certificates, DER: the authority's first, then its own.
    pub fn certificates(&self, tenant: &TenantId) -> Result<[Vec<u8>; 2]> {
        let stored = self.live(tenant)?;
        let authority = stored.profile.authority_signature();
        Ok([self.authority_certificate(authority)?, stored.certificate.clone()])
    }

    /// The tenant's own certificates, DER, that the present one has replaced and that something unexpired may have been
    /// issued under.
    pub fn earlier_certificates(&self, tenant: &TenantId) -> Result<Vec<Vec<u8>>> {
        let stored = self.live(tenant)?;
        Ok(stored.earlier.iter().map(|earlier| earlier.certificate.clone()).collect())
    }

    /// The public half of the tenant's root key, ML-KEM-1024, and of the key that signs.
    pub fn public_keys(&self, tenant: &TenantId) -> Result<PublicKeys> {
        let stored = self.live(tenant)?;
        Ok(PublicKeys { root: stored.key(KeyPurpose::Root)?.public_key.clone(), signing: stored.signing_public_key()? })
    }

    /// What the keystore's files and the audit log call a tenant: 16 bytes in hexadecimal.
    pub fn pseudonym(&self, tenant: &TenantId) -> String {
        self.records.stem(tenant.as_str())
    }

    /// Seals something that belongs to the keystore, like a session, as `what`.
    pub fn seal(&self, what: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
        self.records.seal(what, plaintext)
    }

    /// Opens what was sealed as `what`.
    pub fn open_sealed(&self, what: &[u8], sealed: &[u8]) -> Result<SecretBytes> {
        self.records.open(what, sealed)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.records.dir()
    }

    /// The secret of one epoch, which must be one that opens.
    pub fn epoch_secret(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochSecret>> {
        Ok(self.open_epoch(tenant, epoch)?.1)
    }

    fn open_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<(SuiteId, Box<dyn EpochSecret>)> {
        let stored = self.live(tenant)?;
        let found = stored.epoch(epoch)?;
        if !found.state.can_open() {
            return Err(Error::not_found(format!("epoch {epoch} is {} and cannot be opened", found.state)));
        }
        let suite = found.suite()?;
        let (role, root) = stored.root_of(found)?;
        let salt = tenant.as_str().as_bytes();
        let secret = self.custody.epoch_secret(&role, &root, &found.ciphertext, suite.kdf(), salt)?;
        Ok((suite, secret))
    }

    fn stored_signer(&self, stored: &Stored) -> Result<Box<dyn SigningKey>> {
        let one = |purpose| {
            let (role, key) = stored.held(purpose)?;
            self.custody.signer(&role, &key)
        };
        let post_quantum = one(KeyPurpose::Signing)?;
        if stored.has(KeyPurpose::SigningClassical) {
            return Ok(composite::join(post_quantum, one(KeyPurpose::SigningClassical)?));
        }
        Ok(post_quantum)
    }

    /// The record of a tenant that can be used.
    fn live(&self, tenant: &TenantId) -> Result<Stored> {
        let unknown = || {
            Error::not_found(format!("there is no tenant `{}`", tenant.as_str()))
                .with_remedy("`strongroom tenant list` shows the tenants, `strongroom tenant create` makes one")
        };
        let stored = self.records.read(tenant)?.ok_or_else(unknown)?;
        match stored.state {
            TenantState::Live => Ok(stored),
            TenantState::Onboarding => Err(Error::not_found(format!("tenant `{}` is half made", tenant.as_str()))
                .with_remedy("its creation was interrupted: run `strongroom tenant create` again to finish it")),
            TenantState::Shredding | TenantState::Shredded => Err(shredded(tenant)),
        }
    }

    /// Reads a live tenant's record, changes it and replaces it, with nobody else in between.
    fn change<T>(&self, tenant: &TenantId, change: impl FnOnce(&mut Stored) -> Result<T>) -> Result<T> {
        let _changing = self.changing.lock();
        let mut stored = self.live(tenant)?;
        let value = change(&mut stored)?;
        self.records.write(&stored)?;
        Ok(value)
    }
}

impl DataKeys for Keystore {
    fn tenant(&self, tenant: &TenantId) -> Result<TenantRecord> {
        self.live(tenant)?.record(self.provider)
    }

    fn epoch_keys(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochKeys>> {
        let (suite, secret) = self.open_epoch(tenant, epoch)?;
        Ok(Box::new(HeldEpoch { suite, epoch, secret: secret.into() }))
    }
}

/// An epoch whose secret is at hand.
pub(super) struct HeldEpoch {
    pub(super) suite: SuiteId,
    pub(super) epoch: Epoch,
    pub(super) secret: Arc<dyn EpochSecret>,
}

impl EpochKeys for HeldEpoch {
    fn dek(&self, label: Label, scope: &[u8]) -> Result<Secret<32>> {
        self.secret.derive(&label.info(self.suite, self.epoch, scope))
    }
}

/// The public halves of a tenant's keys.
pub struct PublicKeys {
    /// ML-KEM-1024, 1568 bytes.
    pub root: Vec<u8>,
    /// As the tenant's profile says.
    pub signing: Vec<u8>,
}

/// Holds the directory, with nothing in it that an interrupted change left.
fn hold(dir: &Path) -> Result<DirLock> {
    let lock = DirLock::hold(dir, "keystore")?;
    records::remove_unfinished(dir)?;
    Ok(lock)
}

fn shredded(tenant: &TenantId) -> Error {
    Error::not_found(format!("tenant `{}` was shredded: its keys are destroyed", tenant.as_str()))
        .with_remedy("its data can never be opened again; a new tenant needs another id")
}
