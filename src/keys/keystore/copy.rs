//! A backup of a keystore: its files in one, sealed under a passphrase of its own.
//!
//! No key is opened for it, and it is made while a key service works with the keystore: every file is replaced as a
//! whole, and none says anything about another, so that each as of some instant make a keystore.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::HEADER_FILE;
use super::custody::{Custody as _, CustodyKind};
use super::file::{FileCustody, KdfCost};
use super::header;
use super::records::{self, TENANT_SUFFIX, open, read_bounded, seal};
use crate::crypto::{Aead, Provider};
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Passphrase;
use crate::limits;
use crate::secret::{Secret, SecretBytes};

/// The audit log of versions before it was a Merkle tree, where there is one.
const EARLIER_LOG: &str = "audit.jsonl";
const MAGIC: &[u8; 8] = b"SRKEYS\0\x01";
const WRAPPED_AAD: &[u8] = b"strongroom keystore backup key v1";
const FILES_AAD: &[u8] = b"strongroom keystore backup files v1";
const SALT_LEN: usize = 32;
/// Nonce, key, tag.
const WRAPPED_LEN: usize = 12 + 32 + 16;
/// Magic, cost, salt, wrapped key.
const HEAD_LEN: usize = 8 + 12 + SALT_LEN + WRAPPED_LEN;

/// What a keystore's backup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeystoreCopy {
    /// Where private keys are: with a token, they are not in it.
    pub custody: CustodyKind,
    /// Tenants, destroyed ones and the keystore's own entries included.
    pub tenants: usize,
    /// Bytes of the backup.
    pub bytes: u64,
}

/// A file of the keystore.
#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// Backs the keystore in `dir` up to the file `to`, under `passphrase`. Sessions are not in it.
///
/// # Errors
///
/// [`Conflict`](ErrorKind::Conflict) when the file is there already.
pub fn back_up(
    dir: &Path,
    to: &Path,
    provider: &'static dyn Provider,
    passphrase: &Passphrase,
    cost: KdfCost,
) -> Result<KeystoreCopy> {
    header::exists(dir)?;
    cost.check()?;
    let files = read(dir)?;
    let plain = postcard::to_stdvec(&files).map_err(|e| Error::internal("encoding").with_source(e))?;
    let plain = SecretBytes::new(plain);
    let salt = Secret::<SALT_LEN>::random()?;
    let mut bytes = MAGIC.to_vec();
    [cost.memory_kib, cost.passes, cost.lanes].iter().for_each(|n| bytes.extend(n.to_be_bytes()));
    bytes.extend(salt.expose_secret());
    let key = Secret::<32>::random()?;
    let custody = FileCustody::open(provider, passphrase, cost, salt.expose_secret())?;
    bytes.extend(custody.wrap(&[WRAPPED_AAD, &bytes].concat(), key.expose_secret())?);
    seal(&*provider.aead(Aead::Aes256GcmSiv, &key)?, FILES_AAD, plain.expose_secret(), &mut bytes)?;
    let copy = KeystoreCopy { custody: header::kind(dir)?, tenants: tenants(&files), bytes: bytes.len() as u64 };
    let to = std::path::absolute(to)?;
    disk::create(&to, &bytes).map_err(|e| match e.kind() {
        ErrorKind::Conflict => e.with_remedy("name a file that is not there yet: a backup never replaces another"),
        _ => e,
    })?;
    Ok(copy)
}

/// Makes the keystore directory `dir` of the backup in the file `from`.
///
/// # Errors
///
/// [`Conflict`](ErrorKind::Conflict) when there is something in `dir`, [`Denied`](ErrorKind::Denied) for a wrong
/// passphrase, [`Integrity`](ErrorKind::Integrity) when the file is not what was written. Nothing is made then.
pub fn restore(
    from: &Path,
    dir: &Path,
    provider: &'static dyn Provider,
    passphrase: &Passphrase,
) -> Result<KeystoreCopy> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::new(ErrorKind::Conflict, format!("there is a keystore in `{}` already", dir.display()))
            .with_remedy("move it away first: a restore never replaces anything"));
    }
    let bytes = read_bounded(from, limits::KEYSTORE_BACKUP_BYTES)?;
    let files = decode(&bytes, provider, passphrase)?;
    // Made apart and moved into place whole. Moving a directory never replaces one that has something in it.
    let dir = std::path::absolute(dir)?;
    let parent = dir.parent().ok_or_else(|| Error::invalid("the keystore's directory has no parent"))?;
    fs::create_dir_all(parent)?;
    let apart = tempfile::Builder::new().prefix(".keys-").tempdir_in(parent)?;
    for file in &files {
        disk::create(&apart.path().join(&file.name), &file.bytes)?;
    }
    let copy =
        KeystoreCopy { custody: header::kind(apart.path())?, tenants: tenants(&files), bytes: bytes.len() as u64 };
    fs::rename(apart.keep(), &dir)?;
    fs::File::open(parent)?.sync_all()?;
    Ok(copy)
}

/// The files that make a keystore: its header and its tenants. Sessions live a day at most, and one that was revoked must
/// not come back. The audit log is exported by itself: whoever restored it here would continue it a second time.
fn read(dir: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if belongs(&name) {
            files.push(File { bytes: read_bounded(&entry.path(), limits::KEYSTORE_BACKUP_BYTES)?, name });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn belongs(name: &str) -> bool {
    let tenant = name.strip_suffix(TENANT_SUFFIX).and_then(|stem| stem.strip_suffix('.'));
    let tag = |stem: &str| stem.len() == 32 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    [HEADER_FILE, EARLIER_LOG].contains(&name) || tenant.is_some_and(tag)
}

fn tenants(files: &[File]) -> usize {
    files.iter().filter(|file| file.name.ends_with(records::TENANT_SUFFIX)).count()
}

fn decode(bytes: &[u8], provider: &'static dyn Provider, passphrase: &Passphrase) -> Result<Vec<File>> {
    let (head, sealed) = bytes.split_at_checked(HEAD_LEN).ok_or_else(damaged)?;
    let (clear, wrapped) = head.split_at_checked(HEAD_LEN - WRAPPED_LEN).ok_or_else(damaged)?;
    let rest = clear.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (cost, salt) = rest.split_at_checked(12).ok_or_else(damaged)?;
    let (numbers, _) = cost.as_chunks::<4>();
    let &[memory_kib, passes, lanes] = numbers else { return Err(damaged()) };
    let [memory_kib, passes, lanes] = [memory_kib, passes, lanes].map(u32::from_be_bytes);
    let cost = KdfCost { memory_kib, passes, lanes };
    cost.check().map_err(|_| damaged())?;
    let custody = FileCustody::open(provider, passphrase, cost, salt)?;
    let key = custody.unwrap(&[WRAPPED_AAD, clear].concat(), wrapped).map_err(|_| {
        Error::new(ErrorKind::Denied, "the passphrase does not open the backup of the keystore")
            .with_remedy("use the passphrase that the backup was made with; if it is right, the file was changed")
    })?;
    let key = Secret::copy_from(key.expose_secret())?;
    let plain = open(&*provider.aead(Aead::Aes256GcmSiv, &key)?, FILES_AAD, sealed).map_err(|_| damaged())?;
    let (files, rest) = postcard::take_from_bytes::<Vec<File>>(plain.expose_secret()).map_err(|_| damaged())?;
    let sound = rest.is_empty()
        && files.is_sorted_by(|a, b| a.name < b.name)
        && files.iter().all(|file| belongs(&file.name))
        && files.iter().any(|file| file.name == HEADER_FILE);
    if sound { Ok(files) } else { Err(damaged()) }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Integrity, "the backup of the keystore is not what was written")
        .with_remedy("use another one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::default_provider;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_backups_never_panic(bytes: Vec<u8>, salt: [u8; SALT_LEN]) {
            let passphrase = Passphrase::new(b"a passphrase".to_vec()).unwrap();
            prop_assert!(decode(&bytes, default_provider(), &passphrase).is_err());
            let cost = [8_u32, 1, 1].map(u32::to_be_bytes).concat();
            let whole = [&MAGIC[..], &cost, &salt, &bytes].concat();
            prop_assert!(decode(&whole, default_provider(), &passphrase).is_err());
        }
    }

    #[test]
    fn only_files_of_a_keystore_are_made() {
        for name in ["keystore.json", "audit.jsonl", "00112233445566778899aabbccddeeff.tenant"] {
            assert!(belongs(name));
        }
        for name in
            ["", "x", "../keystore.json", "strongroom.lock", "00.tenant", "../2233445566778899aabbccddeeff.tenant"]
        {
            assert!(!belongs(name), "{name}");
        }
    }
}
