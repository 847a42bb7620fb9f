//! The sealed files of the keystore, one per tenant: their names reveal nobody, their content opens under the master
//! key only, and they are replaced atomically.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::custody::{HeldKey, KeyAlgorithm, KeyPurpose, KeyRole};
use crate::crypto::{Aead, AeadKey, Kdf, MacKey, NONCE_LEN, Provider, Signature, SuiteId};
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{EpochRecord, EpochState, Fingerprint, Profile, TenantRecord};
use crate::limits;
use crate::secret::{Secret, SecretBytes};

pub(super) const TENANT_SUFFIX: &str = "tenant";
const VERSION: u8 = 2;
const TENANT_AAD: &[u8] = b"strongroom keystore tenant v2";
const ROW_AAD: &[u8] = b"strongroom keystore row v1";

/// The sealed files below a directory.
pub(super) struct Records {
    dir: PathBuf,
    sealing: Box<dyn AeadKey>,
    naming: Box<dyn MacKey>,
}

/// The content of a tenant's file.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Stored {
    pub(super) tenant: String,
    #[zeroize(skip)]
    pub(super) state: TenantState,
    #[zeroize(skip)]
    pub(super) profile: Profile,
    pub(super) created_at_ms: u64,
    pub(super) keys: Vec<StoredKey>,
    pub(super) epochs: Vec<StoredEpoch>,
    /// DER; empty until it is issued.
    pub(super) certificate: Vec<u8>,
}

/// Where a tenant stands between nothing and nothing. `src/manual/lifecycle.md` draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TenantState {
    /// Its keys are being made.
    Onboarding,
    /// It can be used.
    Live,
    /// Its keys are being destroyed.
    Shredding,
    /// Its keys are gone.
    Shredded,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct StoredKey {
    purpose: u8,
    pub(super) serial: [u8; 16],
    algorithm: u8,
    pub(super) public_key: Vec<u8>,
    private: Vec<u8>,
}

#[derive(Serialize, Deserialize, Zeroize)]
pub(super) struct StoredEpoch {
    pub(super) epoch: u32,
    #[zeroize(skip)]
    pub(super) state: EpochState,
    suite: u16,
    pub(super) created_at_ms: u64,
    /// When it got its state: Unix time in milliseconds.
    pub(super) since_ms: u64,
    #[zeroize(skip)]
    fingerprint: Fingerprint,
    /// The epoch secret encapsulated to the root key; empty once destroyed.
    pub(super) ciphertext: Vec<u8>,
}

impl Records {
    pub(super) fn new(dir: &Path, provider: &dyn Provider, master: &Secret<32>) -> Result<Self> {
        let prk = provider.hkdf_extract(Kdf::HkdfSha3_512, b"strongroom keystore v2", master.expose_secret());
        let key = |info: &[u8]| Secret::<32>::try_fill(|k| provider.hkdf_expand(Kdf::HkdfSha3_512, &prk, info, k));
        Ok(Self {
            dir: dir.to_owned(),
            sealing: provider.aead(Aead::Aes256GcmSiv, &key(b"tenant-file-v1")?)?,
            naming: provider.mac(&key(b"tenant-name-v1")?),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of a tenant's file.
    pub(super) fn stem(&self, tenant: &str) -> String {
        self.naming.tag(&[tenant.as_bytes()]).iter().take(16).map(|b| format!("{b:02x}")).collect()
    }

    pub(super) fn read(&self, tenant: &TenantId) -> Result<Option<Stored>> {
        match self.read_stem(&self.stem(tenant.as_str())) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    pub(super) fn all(&self) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == TENANT_SUFFIX)
                && let Some(stem) = path.file_stem().and_then(|s| s.to_str())
            {
                all.push(self.read_stem(stem)?);
            }
        }
        Ok(all)
    }

    pub(super) fn write(&self, stored: &Stored) -> Result<()> {
        let stem = self.stem(&stored.tenant);
        let plain = postcard::to_stdvec(stored).map_err(|e| Error::internal("encoding").with_source(e))?;
        let plain = SecretBytes::new(plain);
        let mut bytes = vec![VERSION];
        seal(&*self.sealing, &[TENANT_AAD, stem.as_bytes()].concat(), plain.expose_secret(), &mut bytes)?;
        disk::replace(&self.path(&stem), &bytes)
    }

    pub(super) fn seal(&self, what: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = Vec::new();
        seal(&*self.sealing, &[ROW_AAD, what].concat(), plaintext, &mut sealed)?;
        Ok(sealed)
    }

    pub(super) fn open(&self, what: &[u8], sealed: &[u8]) -> Result<SecretBytes> {
        open(&*self.sealing, &[ROW_AAD, what].concat(), sealed)
    }

    fn path(&self, stem: &str) -> PathBuf {
        self.dir.join(stem).with_extension(TENANT_SUFFIX)
    }

    fn read_stem(&self, stem: &str) -> Result<Stored> {
        let bad = || Error::integrity("a tenant's key file");
        let bytes = read_bounded(&self.path(stem), limits::TENANT_FILE_BYTES)?;
        let (version, sealed) = bytes.split_first().ok_or_else(bad)?;
        if *version != VERSION {
            return Err(bad());
        }
        let plain = open(&*self.sealing, &[TENANT_AAD, stem.as_bytes()].concat(), sealed).map_err(|_| bad())?;
        let (stored, rest) = postcard::take_from_bytes::<Stored>(plain.expose_secret()).map_err(|_| bad())?;
        if self.stem(&stored.tenant) != stem || !rest.is_empty() { Err(bad()) } else { Ok(stored) }
    }
}

impl Stored {
    /// A tenant of which nothing is made yet.
    pub(super) fn new(tenant: &TenantId, profile: Profile, now_ms: u64) -> Self {
        Self {
            tenant: tenant.as_str().to_owned(),
            state: TenantState::Onboarding,
            profile,
            created_at_ms: now_ms,
            keys: Vec::new(),
            epochs: Vec::new(),
            certificate: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> Result<TenantId> {
        TenantId::stored(&self.tenant)
    }

    pub(super) fn has(&self, purpose: KeyPurpose) -> bool {
        self.key(purpose).is_ok()
    }

    pub(super) fn key(&self, purpose: KeyPurpose) -> Result<&StoredKey> {
        self.keys
            .iter()
            .find(|key| key.purpose == number_of(purpose))
            .ok_or_else(|| Error::integrity("a tenant's keys"))
    }

    /// The key for `purpose`, as its custody wants it.
    pub(super) fn held(&self, purpose: KeyPurpose) -> Result<(KeyRole, HeldKey)> {
        let key = self.key(purpose)?;
        Ok((KeyRole::new(self.id()?, purpose, key.serial), key.held()?))
    }

    /// Composite keys are the concatenation of their halves.
    pub(super) fn signing_public_key(&self) -> Result<Vec<u8>> {
        let mut public_key = self.key(KeyPurpose::Signing)?.public_key.clone();
        if let Ok(classical) = self.key(KeyPurpose::SigningClassical) {
            public_key.extend_from_slice(&classical.public_key);
        }
        Ok(public_key)
    }

    pub(super) fn epoch(&self, epoch: Epoch) -> Result<&StoredEpoch> {
        self.epochs.iter().find(|e| e.epoch == epoch.as_u32()).ok_or_else(|| no_epoch(epoch))
    }

    pub(super) fn epoch_mut(&mut self, epoch: Epoch) -> Result<&mut StoredEpoch> {
        self.epochs.iter_mut().find(|e| e.epoch == epoch.as_u32()).ok_or_else(|| no_epoch(epoch))
    }

    /// What may be shown.
    pub(super) fn record(&self, provider: &dyn Provider) -> Result<TenantRecord> {
        // The store's own entry does not sign.
        let signing = if self.has(KeyPurpose::Signing) { self.signing_public_key()? } else { Vec::new() };
        Ok(TenantRecord {
            profile: self.profile,
            root_fingerprint: Fingerprint::of(provider, &self.key(KeyPurpose::Root)?.public_key),
            signing_fingerprint: Fingerprint::of(provider, &signing),
            certificate_fingerprint: Fingerprint::of(provider, &self.certificate),
            created_at_ms: self.created_at_ms,
            epochs: self.epochs.iter().map(StoredEpoch::record).collect::<Result<_>>()?,
        })
    }
}

impl StoredKey {
    pub(super) fn new(role: &KeyRole, held: &HeldKey) -> Self {
        Self {
            purpose: number_of(role.purpose()),
            serial: *role.serial(),
            algorithm: number_of_algorithm(held.algorithm),
            public_key: held.public_key.clone(),
            private: held.private.expose_secret().to_vec(),
        }
    }

    pub(super) fn held(&self) -> Result<HeldKey> {
        Ok(HeldKey {
            algorithm: algorithm_of(self.algorithm).ok_or_else(|| Error::integrity("a tenant's keys"))?,
            public_key: self.public_key.clone(),
            private: SecretBytes::new(self.private.clone()),
        })
    }

    pub(super) fn purpose(&self) -> Result<KeyPurpose> {
        PURPOSES.into_iter().find(|p| number_of(*p) == self.purpose).ok_or_else(|| Error::integrity("a tenant's keys"))
    }

    /// Forgets what led to the private half.
    pub(super) fn forget(&mut self) {
        self.private.zeroize();
    }
}

impl StoredEpoch {
    pub(super) fn new(provider: &dyn Provider, epoch: Epoch, suite: SuiteId, ciphertext: Vec<u8>, now_ms: u64) -> Self {
        Self {
            epoch: epoch.as_u32(),
            state: EpochState::PreActive,
            suite: suite.as_u16(),
            created_at_ms: now_ms,
            since_ms: now_ms,
            fingerprint: Fingerprint::of(provider, &ciphertext),
            ciphertext,
        }
    }

    pub(super) fn suite(&self) -> Result<SuiteId> {
        SuiteId::try_from(self.suite)
    }

    /// Moves on to `next`, if there is such an arrow. A destroyed epoch's secret is erased.
    pub(super) fn become_(&mut self, next: EpochState, now_ms: u64) -> Result<()> {
        self.state = self.state.to(next)?;
        self.since_ms = now_ms;
        if next == EpochState::Destroyed {
            self.ciphertext.zeroize();
        }
        Ok(())
    }

    pub(super) fn record(&self) -> Result<EpochRecord> {
        Ok(EpochRecord {
            epoch: Epoch::try_from(self.epoch)?,
            state: self.state,
            suite: self.suite()?.as_str().to_owned(),
            created_at_ms: self.created_at_ms,
            since_ms: self.since_ms,
            fingerprint: self.fingerprint.clone(),
        })
    }
}

const PURPOSES: [KeyPurpose; 4] =
    [KeyPurpose::Root, KeyPurpose::Signing, KeyPurpose::SigningClassical, KeyPurpose::Authority];

fn number_of(purpose: KeyPurpose) -> u8 {
    match purpose {
        KeyPurpose::Root => 1,
        KeyPurpose::Signing => 2,
        KeyPurpose::SigningClassical => 3,
        KeyPurpose::Authority => 4,
    }
}

/// The algorithms of keys that are held, with the numbers that stand for them.
const ALGORITHMS: [(u8, KeyAlgorithm); 5] = [
    (1, KeyAlgorithm::MlKem1024),
    (2, KeyAlgorithm::Signature(Signature::MlDsa65)),
    (3, KeyAlgorithm::Signature(Signature::MlDsa87)),
    (4, KeyAlgorithm::Signature(Signature::EcdsaP384)),
    (5, KeyAlgorithm::Signature(Signature::SlhDsaSha2_192s)),
];

fn number_of_algorithm(algorithm: KeyAlgorithm) -> u8 {
    ALGORITHMS.iter().find(|(_, a)| *a == algorithm).map_or(0, |(number, _)| *number)
}

fn algorithm_of(number: u8) -> Option<KeyAlgorithm> {
    ALGORITHMS.iter().find(|(n, _)| *n == number).map(|(_, algorithm)| *algorithm)
}

fn no_epoch(epoch: Epoch) -> Error {
    Error::not_found(format!("there is no epoch {epoch}"))
        .with_remedy("`strongroom epoch list` shows the epochs of a tenant")
}

/// Appends nonce and ciphertext to `out`.
pub(super) fn seal(key: &dyn AeadKey, aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let nonce = Secret::<NONCE_LEN>::random()?;
    out.extend_from_slice(nonce.expose_secret());
    key.seal(nonce.expose_secret(), aad, plaintext, out)
}

/// Opens nonce and ciphertext.
pub(super) fn open(key: &dyn AeadKey, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(crate::crypto::open_failed)?;
    key.open(nonce, aad, ciphertext)
}

/// Removes what interrupted replacements left below `dir`: records from before an epoch or a tenant was destroyed, and
/// master keys under an earlier passphrase.
pub(super) fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(disk::UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(fs::File::open(dir)?.sync_all()?)
}

/// The content of `path`, which must not have more than `most` bytes.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)? as u64 > most {
        return Err(Error::integrity("a file of the keystore: it is too long"));
    }
    Ok(bytes)
}
