//! Making one backup: parts that are not there yet, then the manifest, which makes it one.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use super::{Archive, CopiedFile, Hash, Manifest, Part, Signed};
use crate::crypto::MacKey;
use crate::disk;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// A backup that is being made. What it wrote is removed again when it is dropped before it is whole.
pub struct Writer<'a> {
    archive: &'a Archive,
    number: u32,
    /// What backups that are there have, and this one so far.
    known: HashMap<Hash, u64>,
    /// What this one wrote, and where.
    written: Vec<PathBuf>,
    dirs: BTreeSet<PathBuf>,
    written_bytes: u64,
}

impl<'a> Writer<'a> {
    /// Begins the next backup of `archive`, which is open for that, and removes what interrupted ones left.
    ///
    /// A manifest that cannot be read does not keep new backups from being made: what it needs is not known, so that
    /// nothing is removed then.
    pub fn new(archive: &'a Archive) -> Result<Self> {
        let numbers = archive.numbers()?;
        let number = numbers.last().map_or(Some(1), |last| last.checked_add(1));
        let number = number.filter(|_| numbers.len() < limits::BACKUPS).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "there are too many backups in this directory")
                .with_remedy("remove some with `strongroom backup prune`, or use another directory")
        })?;
        let known = match archive.needed(&numbers) {
            Ok(needed) => {
                archive.sweep(&needed)?;
                needed
            }
            Err(e) if e.kind() == ErrorKind::Integrity => {
                tracing::warn!(error = %e, "a manifest cannot be read; nothing is shared with earlier backups");
                HashMap::new()
            }
            Err(e) => return Err(e),
        };
        Ok(Self { archive, number, known, written: Vec::new(), dirs: BTreeSet::new(), written_bytes: 0 })
    }

    /// The number of the backup.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Bytes and parts that had to be written so far.
    pub fn written(&self) -> (u64, usize) {
        (self.written_bytes, self.written.len())
    }

    /// Whether a part is there already.
    pub fn has(&self, part: &Part) -> bool {
        let known = self.known.get(&part.sha256) == Some(&part.bytes);
        known && fs::metadata(self.archive.part_path(part.sha256)).is_ok_and(|file| file.len() == part.bytes)
    }

    /// Writes a part, unless it is there already.
    ///
    /// # Errors
    ///
    /// [`StorageFull`](ErrorKind::StorageFull) when there is no room.
    pub fn put(&mut self, bytes: &[u8]) -> Result<Part> {
        let part = Part { sha256: Hash::of(bytes), bytes: bytes.len() as u64 };
        if part.bytes > limits::BACKUP_PART_BYTES {
            return Err(Error::internal("a part of a backup is too long"));
        }
        if self.has(&part) {
            return Ok(part);
        }
        let free = disk::free_bytes(self.archive.dir())?;
        if free < part.bytes {
            return Err(full(free));
        }
        let path = self.archive.part_path(part.sha256);
        let dir = path.parent().ok_or_else(|| Error::internal("a file without a directory"))?.to_owned();
        if self.dirs.insert(dir.clone()) {
            disk::make_private_dir(&dir)?;
        }
        let (_, file) = disk::unfinished(&path, bytes)?;
        file.persist(&path).map_err(|e| e.error)?;
        self.known.insert(part.sha256, part.bytes);
        self.written.push(path);
        self.written_bytes += part.bytes;
        Ok(part)
    }

    /// Writes the parts of a file of the database.
    pub fn put_file(&mut self, name: String, mut file: impl Read) -> Result<CopiedFile> {
        let mut parts = Vec::new();
        loop {
            let mut bytes = Vec::new();
            file.by_ref().take(limits::BACKUP_FILE_PART_BYTES).read_to_end(&mut bytes)?;
            if bytes.is_empty() {
                return Ok(CopiedFile { name, parts });
            }
            parts.push(self.put(&bytes)?);
        }
    }

    /// Makes it a backup: from here on it is listed, whatever happens.
    pub fn commit(mut self, manifest: Manifest, key: &dyn MacKey) -> Result<()> {
        let bytes = Signed::new(manifest, key)?.to_bytes()?;
        if bytes.len() as u64 > limits::BACKUP_MANIFEST_BYTES {
            return Err(Error::internal("the manifest of a backup is too long"));
        }
        // The parts first, and the names of their directories.
        for dir in std::mem::take(&mut self.dirs) {
            fs::File::open(&dir)?.sync_all()?;
            if let Some(parent) = dir.parent() {
                fs::File::open(parent)?.sync_all()?;
            }
        }
        fs::File::open(self.archive.dir())?.sync_all()?;
        // From here on the parts may be needed, even if the manifest's name cannot be made durable.
        self.written.clear();
        disk::create(&self.archive.manifest_path(self.number), &bytes)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        for path in &self.written {
            // What cannot be removed now is by the next backup.
            let _ = fs::remove_file(path);
        }
    }
}

fn full(free: u64) -> Error {
    Error::new(ErrorKind::StorageFull, format!("only {} MiB are free on the disk of the backup", free >> 20))
        .with_remedy("free some space or `strongroom backup prune`; the backups that are there stay as they are")
}
