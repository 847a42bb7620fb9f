//! A log as others read it, also while a service writes it.

use std::path::{Path, PathBuf};

use super::db::Db;
use super::key;
use super::{DB_DIR, Progress};
use crate::audit::checkpoint::{LogKey, SignatureLine, SignedCheckpoint};
use crate::audit::proof::{Consistency, Inclusion};
use crate::audit::tree::{Hash, Nodes, leaf_hash};
use crate::crypto::default_provider;
use crate::error::{Error, Result};

/// A log that is read along. It shows the log as of its opening, or of the last [`catch_up`](Self::catch_up).
pub struct Reader {
    dir: PathBuf,
    db: Db,
    key: LogKey,
}

impl Reader {
    /// Opens the log in `dir` to read.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        let key = key::public(dir, default_provider())?;
        Ok(Self { dir: dir.to_owned(), db: Db::read_along(&dir.join(DB_DIR))?, key })
    }

    /// Sees what was written until now.
    pub fn catch_up(&self) -> Result<()> {
        self.db.catch_up()
    }

    /// The key that checkpoints are verified with.
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// How far the log is.
    pub fn progress(&self) -> Result<Progress> {
        let published = self.newest()?.map_or(0, |signed| signed.checkpoint.size);
        Ok(Progress { assigned: self.db.next_index()?, integrated: self.db.integrated()?, published })
    }

    /// How many entries from the first on were removed.
    pub fn pruned(&self) -> Result<u64> {
        self.db.pruned()
    }

    /// An entry: the bytes of an event.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when it is not there, or not any more.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>> {
        let none = || {
            let what = format!("there is no entry {index} in the log");
            Error::not_found(what)
                .with_remedy("`strongroom audit tail` shows the newest; old ones may have been pruned")
        };
        self.db.entry(index)?.ok_or_else(none)
    }

    /// The entries from `from` (inclusive) to `to` (exclusive) that are there, in order.
    pub fn entries(&self, from: u64, to: u64) -> Result<impl Iterator<Item = Result<(u64, Box<[u8]>)>> + '_> {
        self.db.entries(from, to)
    }

    /// The newest checkpoint, with the signatures of witnesses that were added to it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when none was published yet.
    pub fn checkpoint(&self) -> Result<SignedCheckpoint> {
        let mut signed = self.newest()?.ok_or_else(|| {
            Error::not_found("the log has no checkpoint yet").with_remedy(
                "a service publishes one within ten seconds; otherwise `strongroom audit checkpoint --now` does",
            )
        })?;
        signed.add(cosignatures::read(&self.dir, signed.checkpoint.size)?);
        Ok(signed)
    }

    /// Keeps signatures of witnesses under the newest checkpoint. `note` is that checkpoint with their lines, or the
    /// lines alone.
    pub fn add_cosignatures(&self, note: &str) -> Result<SignedCheckpoint> {
        let mut signed = self.checkpoint()?;
        let lines = match note.rsplit_once("\n\n") {
            Some((text, lines)) if *signed.text() == format!("{text}\n") => lines,
            Some(_) => {
                return Err(Error::invalid("the witness signed another checkpoint than the newest")
                    .with_remedy("have it sign what `strongroom audit checkpoint` prints"));
            }
            None => note,
        };
        let lines: Vec<_> = lines.lines().map(SignatureLine::parse).collect::<Result<_>>()?;
        signed.add(lines);
        cosignatures::write(&self.dir, &signed)?;
        Ok(signed)
    }

    /// Proves that entry `index` is in the log of `size` entries, which are published.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Inclusion> {
        let leaf = match self.db.entry(index)? {
            Some(entry) => leaf_hash(&entry),
            // Pruned: its hash is still there.
            None if index < size => self.leaf(index)?,
            None => return Err(self.entry(index).err().unwrap_or_else(|| Error::integrity("an entry"))),
        };
        Inclusion::of(&self.db, index, size, leaf)
    }

    /// Proves that the log of `new` entries begins with the one of `old` entries.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Consistency> {
        Consistency::of(&self.db, old, new)
    }

    fn leaf(&self, index: u64) -> Result<Hash> {
        self.db.node(crate::audit::path::Node { level: 0, index })
    }

    fn newest(&self) -> Result<Option<SignedCheckpoint>> {
        let note = self.db.newest_checkpoint()?;
        note.map(|note| SignedCheckpoint::read(&note, &self.key, default_provider())).transpose()
    }
}

impl Nodes for Reader {
    fn tile(&self, level: u8, number: u64) -> Result<Vec<Hash>> {
        self.db.tile(level, number)
    }
}

/// Signatures of witnesses, beside the database: whoever adds one need not be who writes the log.
pub(super) mod cosignatures {
    use super::*;
    use crate::disk;
    use crate::error::ErrorKind;
    use crate::limits;

    const DIR: &str = "cosignatures";

    /// Those under the checkpoint of `size` entries.
    pub(in super::super) fn read(dir: &Path, size: u64) -> Result<Vec<SignatureLine>> {
        let path = dir.join(DIR).join(size.to_string());
        let text = match std::fs::metadata(&path) {
            Ok(found) if found.len() <= limits::AUDIT_NOTE_BYTES as u64 => std::fs::read_to_string(&path)?,
            Ok(_) => return Err(Error::integrity("a witness's signature")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        text.lines().map(SignatureLine::parse).collect()
    }

    pub(super) fn write(dir: &Path, signed: &SignedCheckpoint) -> Result<()> {
        let text: String = signed.signatures().iter().skip(1).map(ToString::to_string).collect();
        disk::make_private_dir(&dir.join(DIR))?;
        disk::replace(&dir.join(DIR).join(signed.checkpoint.size.to_string()), text.as_bytes())
    }

    /// Removes those under checkpoints that are not the newest any more.
    pub(in super::super) fn forget_before(dir: &Path, size: u64) -> Result<()> {
        let entries = match std::fs::read_dir(dir.join(DIR)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let older = entry.file_name().to_str().and_then(|name| name.parse().ok()).is_some_and(|n: u64| n < size);
            if older
                && let Err(e) = std::fs::remove_file(entry.path()).map_err(Error::from)
                && e.kind() != ErrorKind::NotFound
            {
                return Err(e);
            }
        }
        Ok(())
    }
}
