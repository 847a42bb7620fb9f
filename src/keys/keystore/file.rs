//! The keystore in a directory: one sealed file per tenant under a master key that a passphrase opens.
//!
//! `keystore.json` holds the Argon2id parameters (RFC 9106) and the master key sealed under what they give. Each
//! `<tag>.tenant` holds one tenant's root seed and encapsulated epoch secrets, sealed under the master key; its name is
//! a keyed tag, so that a listing of the directory names nobody. Files are replaced atomically. The layouts stand in
//! `schema/keys.md`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{EpochSecret, Keystore, TenantRecord};
use crate::crypto::{Aead, AeadKey, Kdf, Kem, KemKey, MacKey, NONCE_LEN, Provider, SuiteId};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{EpochRecord, EpochState, Fingerprint, Passphrase};
use crate::secret::{Secret, SecretBytes};

/// The file that makes a directory a keystore.
pub const HEADER_FILE: &str = "keystore.json";
const TENANT_SUFFIX: &str = "tenant";
const VERSION: u8 = 1;
const MASTER_AAD: &[u8] = b"strongroom file keystore master v1";
const TENANT_AAD: &[u8] = b"strongroom file keystore tenant v1";

/// The cost of opening the keystore: Argon2id (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for KdfCost {
    /// The second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl KdfCost {
    /// For tests only: opens in under a millisecond and resists nothing.
    pub const INSECURE_FAST: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
    /// The most that a header may ask for, so that a forged one cannot exhaust the machine.
    const MOST: KdfCost = KdfCost { memory_kib: 4 << 20, passes: 100, lanes: 64 };

    fn is_sane(self) -> bool {
        self.memory_kib <= Self::MOST.memory_kib && self.passes <= Self::MOST.passes && self.lanes <= Self::MOST.lanes
    }
}

/// A keystore in a directory.
pub struct FileKeystore {
    dir: PathBuf,
    provider: &'static dyn Provider,
    sealing: Box<dyn AeadKey>,
    naming: Box<dyn MacKey>,
    /// Held while a tenant file is written.
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u8,
    kdf: String,
    cost: KdfCost,
    salt: String,
    master: String,
}

/// The content of a tenant file.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct TenantFile {
    tenant: String,
    /// `d ‖ z` of the ML-KEM-1024 root key.
    root_seed: Vec<u8>,
    created_at_ms: u64,
    epochs: Vec<StoredEpoch>,
}

#[derive(Serialize, Deserialize, Zeroize)]
struct StoredEpoch {
    epoch: u32,
    #[zeroize(skip)]
    state: EpochState,
    suite: u16,
    created_at_ms: u64,
    /// The epoch secret encapsulated to the root key; empty once destroyed.
    ciphertext: Vec<u8>,
}

impl FileKeystore {
    /// Makes a new keystore in `dir`, which is created if need be. An existing one is never overwritten.
    pub fn create(dir: &Path, provider: &'static dyn Provider, passphrase: &Passphrase, cost: KdfCost) -> Result<Self> {
        fs::create_dir_all(dir)?;
        if !cost.is_sane() {
            return Err(Error::invalid("the Argon2id parameters are out of range"));
        }
        let path = dir.join(HEADER_FILE);
        if path.try_exists()? {
            return Err(Error::new(ErrorKind::Conflict, "there is a keystore already")
                .with_remedy("use it, or choose another directory"));
        }
        let salt = Secret::<32>::random()?;
        let master = Secret::<32>::random()?;
        let wrapping = wrapping_key(provider, passphrase, cost, salt.expose_secret())?;
        let header = Header {
            version: VERSION,
            kdf: "argon2id".into(),
            cost,
            salt: BASE64.encode(salt.expose_secret()),
            master: BASE64.encode(seal(&*wrapping, MASTER_AAD, master.expose_secret())?),
        };
        let json = serde_json::to_vec_pretty(&header).map_err(|e| Error::internal("encoding").with_source(e))?;
        replace(dir, &path, &json)?;
        Self::with_master(dir, provider, &master)
    }

    /// Opens the keystore in `dir`. A wrong passphrase is [`Denied`](ErrorKind::Denied).
    pub fn open(dir: &Path, provider: &'static dyn Provider, passphrase: &Passphrase) -> Result<Self> {
        let json = fs::read(dir.join(HEADER_FILE)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found("there is no keystore here")
                .with_remedy("run `strongroom init` first, or name the right directory with `--dir`"),
            _ => Error::from(e),
        })?;
        let bad = || Error::integrity("the keystore header");
        let header: Header = serde_json::from_slice(&json).map_err(|e| bad().with_source(e))?;
        if header.version != VERSION || header.kdf != "argon2id" || !header.cost.is_sane() {
            return Err(bad());
        }
        let salt = BASE64.decode(&header.salt).map_err(|_| bad())?;
        let sealed = BASE64.decode(&header.master).map_err(|_| bad())?;
        let wrapping = wrapping_key(provider, passphrase, header.cost, &salt).map_err(|e| bad().with_source(e))?;
        let master = open(&*wrapping, MASTER_AAD, &sealed).map_err(|_| {
            Error::new(ErrorKind::Denied, "the passphrase does not open the keystore")
                .with_remedy("check the passphrase; if it is right, `keystore.json` was changed: restore it")
        })?;
        let master = Secret::try_fill(|bytes| {
            bytes.copy_from_slice(master.expose_secret().get(..32).ok_or_else(bad)?);
            Ok::<_, Error>(())
        })?;
        Self::with_master(dir, provider, &master)
    }

    fn with_master(dir: &Path, provider: &'static dyn Provider, master: &Secret<32>) -> Result<Self> {
        let prk = provider.hkdf_extract(Kdf::HkdfSha3_512, b"strongroom file keystore v1", master.expose_secret());
        let key = |info: &[u8]| Secret::<32>::try_fill(|k| provider.hkdf_expand(Kdf::HkdfSha3_512, &prk, info, k));
        Ok(Self {
            dir: dir.to_owned(),
            provider,
            sealing: provider.aead(Aead::Aes256GcmSiv, &key(b"tenant-file-v1")?)?,
            naming: provider.mac(&key(b"tenant-name-v1")?),
            writing: Mutex::new(()),
        })
    }

    fn stem(&self, tenant: &str) -> String {
        self.naming.tag(&[tenant.as_bytes()]).iter().take(16).map(|b| format!("{b:02x}")).collect()
    }

    fn path(&self, stem: &str) -> PathBuf {
        self.dir.join(stem).with_extension(TENANT_SUFFIX)
    }

    fn read(&self, tenant: &TenantId) -> Result<TenantFile> {
        let stem = self.stem(tenant.as_str());
        match self.read_stem(&stem) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(Error::not_found(format!("there is no tenant `{}`", tenant.as_str()))
                    .with_remedy("`strongroom tenant list` shows the tenants, `strongroom tenant create` makes one"))
            }
            other => other,
        }
    }

    fn read_stem(&self, stem: &str) -> Result<TenantFile> {
        let bad = || Error::integrity("a tenant's key file");
        let bytes = fs::read(self.path(stem))?;
        let (version, sealed) = bytes.split_first().ok_or_else(bad)?;
        if *version != VERSION {
            return Err(bad());
        }
        let plain = open(&*self.sealing, &[TENANT_AAD, stem.as_bytes()].concat(), sealed).map_err(|_| bad())?;
        let file: TenantFile = postcard::from_bytes(plain.expose_secret()).map_err(|_| bad())?;
        if self.stem(&file.tenant) != stem { Err(bad()) } else { Ok(file) }
    }

    fn write(&self, file: &TenantFile) -> Result<()> {
        let stem = self.stem(&file.tenant);
        let plain = postcard::to_stdvec(file).map_err(|e| Error::internal("encoding").with_source(e))?;
        let plain = SecretBytes::new(plain);
        let mut bytes = vec![VERSION];
        bytes.extend(seal(&*self.sealing, &[TENANT_AAD, stem.as_bytes()].concat(), plain.expose_secret())?);
        replace(&self.dir, &self.path(&stem), &bytes)
    }

    fn record(&self, file: &TenantFile) -> Result<TenantRecord> {
        let root = root_key(self.provider, file)?;
        let epochs = file.epochs.iter().map(|stored| {
            Ok(EpochRecord {
                epoch: Epoch::try_from(stored.epoch)?,
                state: stored.state,
                suite: SuiteId::try_from(stored.suite)?.as_str().to_owned(),
                created_at_ms: stored.created_at_ms,
                fingerprint: Fingerprint::of(self.provider, &stored.ciphertext),
            })
        });
        Ok(TenantRecord {
            root_fingerprint: Fingerprint::of(self.provider, root.public_key()),
            created_at_ms: file.created_at_ms,
            epochs: epochs.collect::<Result<_>>()?,
        })
    }
}

impl Keystore for FileKeystore {
    fn tenants(&self) -> Result<Vec<TenantId>> {
        let mut tenants = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == TENANT_SUFFIX)
                && let Some(stem) = path.file_stem().and_then(|s| s.to_str())
            {
                let file = self.read_stem(stem)?;
                // The store's own entry has a name that no tenant can have.
                tenants.extend(file.tenant.parse::<TenantId>().ok());
            }
        }
        tenants.sort();
        Ok(tenants)
    }

    fn create(&self, tenant: &TenantId, suite: SuiteId, now_ms: u64) -> Result<TenantRecord> {
        let _writing = self.writing.lock();
        if self.path(&self.stem(tenant.as_str())).exists() {
            return Err(Error::new(ErrorKind::Conflict, format!("tenant `{}` exists already", tenant.as_str())));
        }
        let seed = SecretBytes::random(Kem::MlKem1024.seed_len())?;
        let root = self.provider.kem_key(Kem::MlKem1024, &seed)?;
        // The shared secret is dropped here: only the root key gives it back.
        let (ciphertext, _) = self.provider.kem_encapsulate(Kem::MlKem1024, root.public_key())?;
        let first = StoredEpoch {
            epoch: Epoch::FIRST.as_u32(),
            state: EpochState::Active,
            suite: suite.as_u16(),
            created_at_ms: now_ms,
            ciphertext,
        };
        let file = TenantFile {
            tenant: tenant.as_str().to_owned(),
            root_seed: seed.expose_secret().to_vec(),
            created_at_ms: now_ms,
            epochs: vec![first],
        };
        self.write(&file)?;
        self.record(&file)
    }

    fn tenant(&self, tenant: &TenantId) -> Result<TenantRecord> {
        self.record(&self.read(tenant)?)
    }

    fn open_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochSecret>> {
        let file = self.read(tenant)?;
        let stored = file
            .epochs
            .iter()
            .find(|e| e.epoch == epoch.as_u32() && e.state.can_open())
            .ok_or_else(|| Error::not_found(format!("epoch {epoch} cannot be opened")))?;
        let kdf = SuiteId::try_from(stored.suite)?.kdf();
        let root = root_key(self.provider, &file)?;
        let shared = root.decapsulate(&stored.ciphertext)?;
        let prk = self.provider.hkdf_extract(kdf, tenant.as_str().as_bytes(), shared.expose_secret());
        Ok(Box::new(InMemory { provider: self.provider, kdf, prk }))
    }
}

/// An epoch secret in this process's memory, already extracted.
struct InMemory {
    provider: &'static dyn Provider,
    kdf: Kdf,
    prk: SecretBytes,
}

impl EpochSecret for InMemory {
    fn derive(&self, info: &[u8]) -> Result<Secret<32>> {
        Secret::try_fill(|okm| self.provider.hkdf_expand(self.kdf, &self.prk, info, okm))
    }
}

fn root_key(provider: &dyn Provider, file: &TenantFile) -> Result<Box<dyn KemKey>> {
    let seed = SecretBytes::new(file.root_seed.clone());
    provider.kem_key(Kem::MlKem1024, &seed).map_err(|_| Error::integrity("a tenant's root key"))
}

fn wrapping_key(
    provider: &dyn Provider,
    passphrase: &Passphrase,
    cost: KdfCost,
    salt: &[u8],
) -> Result<Box<dyn AeadKey>> {
    let bad = |e: argon2::Error| Error::invalid("the Argon2id parameters are out of range").with_source(e.to_string());
    let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(bad)?;
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let key = Secret::try_fill(|key| argon.hash_password_into(passphrase.expose_secret(), salt, key)).map_err(bad)?;
    provider.aead(Aead::Aes256GcmSiv, &key)
}

fn seal(key: &dyn AeadKey, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
    let nonce = Secret::<NONCE_LEN>::random()?;
    let mut sealed = nonce.expose_secret().to_vec();
    key.seal(nonce.expose_secret(), aad, plaintext, &mut sealed)?;
    Ok(sealed)
}

fn open(key: &dyn AeadKey, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(crate::crypto::open_failed)?;
    key.open(nonce, aad, ciphertext)
}

/// Writes `bytes` to `path` so that a crash leaves either the old file or the new one.
fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| Error::from(e.error))?;
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}
