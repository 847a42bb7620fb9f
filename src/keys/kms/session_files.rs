//! The sealed files of open sessions, one per session: `schema/keys.md` has their layout.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::{Error, ErrorKind, Result};
use crate::id::SessionId;
use crate::keys::{Keystore, Profile};
use crate::limits;
use crate::secret::SecretBytes;

const DIR: &str = "sessions";
const SUFFIX: &str = "session";
const VERSION: u8 = 1;

/// The content of a session's file.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Row {
    pub(super) tenant: String,
    pub(super) agent: String,
    #[zeroize(skip)]
    pub(super) profile: Profile,
    /// Empty once the session is revoked, and for a signer, whose key is with its owner.
    pub(super) seed: Vec<u8>,
    /// Unix time in milliseconds.
    pub(super) expires_at_ms: u64,
    pub(super) revoked: bool,
    /// The SHA-256 of the one ciphertext that the key serves.
    pub(super) served: Option<[u8; 32]>,
    /// The ciphertext that is kept for the session.
    pub(super) ciphertext: Option<Kept>,
}

/// A ciphertext that the service keeps.
#[derive(Serialize, Deserialize, Zeroize)]
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    /// Unix time in milliseconds.
    pub(super) expires_at_ms: u64,
}

/// The directory of the files.
pub(super) struct SessionFiles {
    keystore: Arc<Keystore>,
    dir: PathBuf,
}

impl SessionFiles {
    /// The files below the keystore's directory. What interrupted writes left is removed.
    pub(super) fn open(keystore: Arc<Keystore>) -> Result<Self> {
        let dir = keystore.dir().join(DIR);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        File::open(keystore.dir())?.sync_all()?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if id_of(&path).is_none() {
                fs::remove_file(&path)?;
            }
        }
        Ok(Self { keystore, dir })
    }

    /// Every session that has a file.
    pub(super) fn all(&self) -> Result<Vec<(SessionId, Row)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            if let Some(id) = id_of(&entry?.path()) {
                all.push((id, self.read(id)?));
            }
        }
        Ok(all)
    }

    pub(super) fn read(&self, id: SessionId) -> Result<Row> {
        let bad = || {
            Error::integrity(format!("the file of session {id}"))
                .with_remedy("remove the file; its agent must open another session")
        };
        let mut bytes = Vec::new();
        let file = File::open(self.path(id)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => bad().with_source(e),
            _ => e.into(),
        })?;
        file.take(limits::SESSION_FILE_BYTES).read_to_end(&mut bytes)?;
        let Some((&VERSION, sealed)) = bytes.split_first() else { return Err(bad()) };
        let plain = self.keystore.open_sealed(&what(id), sealed).map_err(|_| bad())?;
        let (row, rest) = postcard::take_from_bytes(plain.expose_secret()).map_err(|_| bad())?;
        if rest.is_empty() { Ok(row) } else { Err(bad()) }
    }

    /// Replaces the file at once or not at all. It is there for good only after [`settle`](Self::settle).
    pub(super) fn write(&self, id: SessionId, row: &Row) -> Result<()> {
        let plain = postcard::to_stdvec(row).map_err(|e| Error::internal("encoding").with_source(e))?;
        let plain = SecretBytes::new(plain);
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.keystore.seal(&what(id), plain.expose_secret())?);
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(id)).map_err(|e| Error::from(e.error))?;
        Ok(())
    }

    /// Removes the file. That there is none is no error.
    pub(super) fn remove(&self, id: SessionId) -> Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Waits until everything written and removed so far survives a loss of power.
    pub(super) fn settle(&self) -> Result<()> {
        Ok(File::open(&self.dir)?.sync_all()?)
    }

    fn path(&self, id: SessionId) -> PathBuf {
        self.dir.join(id.to_string()).with_extension(SUFFIX)
    }
}

impl Row {
    /// Erases what leads to the key, and keeps what is needed to refuse the session until its credential has expired.
    pub(super) fn revoke(&mut self) {
        self.revoked = true;
        self.seed.zeroize();
        self.ciphertext.zeroize();
        self.ciphertext = None;
    }
}

/// The answer for a session that never was, has ended, or is another tenant's: always the same.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such session, or it has ended").with_remedy("open another session")
}

fn what(id: SessionId) -> Vec<u8> {
    [b"session", &id.as_bytes()[..]].concat()
}

fn id_of(path: &Path) -> Option<SessionId> {
    if path.extension()? != SUFFIX {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
