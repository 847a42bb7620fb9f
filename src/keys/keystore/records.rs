//! The sealed files of the keystore, one per tenant: their names reveal nobody, their content opens under the master
//! key only, and they are replaced atomically.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::stored::Stored;
use super::stored_v2;
use crate::crypto::{Aead, AeadKey, Kdf, MacKey, NONCE_LEN, Provider};
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::limits;
use crate::secret::{Secret, SecretBytes};

pub(super) const TENANT_SUFFIX: &str = "tenant";
const VERSION: u8 = 3;
const TENANT_AAD: &[u8] = b"strongroom keystore tenant v3";
/// That of releases before root keys were rotated.
const VERSION_2: u8 = 2;
const TENANT_AAD_2: &[u8] = b"strongroom keystore tenant v2";
const ROW_AAD: &[u8] = b"strongroom keystore row v1";

/// The sealed files below a directory.
pub(super) struct Records {
    dir: PathBuf,
    sealing: Box<dyn AeadKey>,
    naming: Box<dyn MacKey>,
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
        let aad = match *version {
            VERSION => TENANT_AAD,
            VERSION_2 => TENANT_AAD_2,
            _ => return Err(bad()),
        };
        let plain = open(&*self.sealing, &[aad, stem.as_bytes()].concat(), sealed).map_err(|_| bad())?;
        let stored = match *version {
            VERSION_2 => stored_v2::read(plain.expose_secret())?,
            _ => match postcard::take_from_bytes::<Stored>(plain.expose_secret()) {
                Ok((stored, [])) => stored,
                _ => return Err(bad()),
            },
        };
        if self.stem(&stored.tenant) == stem { Ok(stored) } else { Err(bad()) }
    }
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
