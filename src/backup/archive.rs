//! The directory that backups are in: listed, read, verified, pruned.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{ErrorKind as Io, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::manifest::changed;
use super::{Hash, Manifest, Part, Progress, Signed};
use crate::disk::{self, DirLock};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

const MANIFESTS: &str = "manifests";
const PARTS: &str = "parts";
const SUFFIX: &str = ".json";

/// A directory of backups.
pub struct Archive {
    dir: PathBuf,
    /// Held by who changes something.
    _lock: Option<DirLock>,
}

/// What may be said of a backup without keys.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Its number.
    pub number: u32,
    /// Its point in time: Unix time in milliseconds.
    pub at_ms: u64,
    /// The program that made it.
    pub program: String,
    /// Collections, those of memories' embeddings too.
    pub collections: usize,
    /// Points.
    pub points: u64,
    /// Bytes that restoring it reads. Backups share most of theirs.
    pub bytes: u64,
}

/// What [`Archive::verify`] found sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Backups.
    pub backups: u64,
    /// Different parts of them.
    pub parts: u64,
    /// Bytes of those.
    pub bytes: u64,
}

impl From<&Manifest> for Listed {
    fn from(manifest: &Manifest) -> Self {
        Self {
            number: manifest.number,
            at_ms: manifest.at_ms,
            program: manifest.program.clone(),
            collections: manifest.collections.len(),
            points: manifest.points(),
            bytes: manifest.bytes(),
        }
    }
}

impl Archive {
    /// Opens `dir` for reading: also one that nobody may write to.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) where there are no backups.
    pub fn open(dir: &Path) -> Result<Self> {
        if dir.join(MANIFESTS).is_dir() {
            return Ok(Self { dir: dir.to_owned(), _lock: None });
        }
        Err(Error::not_found(format!("there are no backups in `{}`", dir.display()))
            .with_remedy("name the directory that `strongroom backup create --to` was given"))
    }

    /// Opens `dir` for making backups; nobody else may meanwhile. It is made if there is none.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is something else in it, [`Busy`](ErrorKind::Busy) while somebody
    /// else changes it.
    pub fn create(dir: &Path) -> Result<Self> {
        let strange = match fs::read_dir(dir) {
            Ok(mut entries) => !dir.join(MANIFESTS).is_dir() && entries.next().is_some() && !is_begun(dir)?,
            Err(e) if e.kind() == Io::NotFound => false,
            Err(e) => return Err(e.into()),
        };
        if strange {
            return Err(Error::new(ErrorKind::Conflict, format!("`{}` has something else in it", dir.display()))
                .with_remedy("name a directory of backups, an empty one, or one that is not there yet"));
        }
        let lock = DirLock::hold(dir, "directory of backups")?;
        disk::make_private_dir(&dir.join(PARTS))?;
        disk::make_private_dir(&dir.join(MANIFESTS))?;
        Ok(Self { dir: dir.to_owned(), _lock: Some(lock) })
    }

    /// The numbers of all backups, oldest first.
    pub fn numbers(&self) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.dir.join(MANIFESTS))? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
            numbers.extend(number.filter(|number| self.manifest_path(*number).ends_with(&name)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number asked for, if there is such a backup, or the latest one.
    pub fn number(&self, asked: Option<u32>) -> Result<u32> {
        let numbers = self.numbers()?;
        let found = match asked {
            Some(number) => numbers.contains(&number).then_some(number),
            None => numbers.last().copied(),
        };
        found.ok_or_else(|| {
            let which = asked.map_or_else(|| "no backup".into(), |number| format!("no backup {number}"));
            Error::not_found(format!("there is {which} in `{}`", self.dir.display()))
                .with_remedy("`strongroom backup list` shows the backups of a directory")
        })
    }

    /// The manifest of a backup.
    ///
    /// # Errors
    ///
    /// [`Integrity`](ErrorKind::Integrity) when it is not what was written.
    pub fn manifest(&self, number: u32) -> Result<Signed> {
        Signed::from_bytes(number, &self.read(&self.manifest_path(number), limits::BACKUP_MANIFEST_BYTES, number)?)
    }

    /// What may be said of every backup, oldest first; or why nothing can be.
    pub fn list(&self) -> Result<BTreeMap<u32, Result<Listed>>> {
        let listed = |number| Ok(Listed::from(self.manifest(number)?.claimed()));
        Ok(self.numbers()?.into_iter().map(|number| (number, listed(number))).collect())
    }

    /// The bytes of a part of backup `number`, which are what the manifest says.
    pub fn part(&self, number: u32, part: &Part) -> Result<Vec<u8>> {
        let bytes = self.read(&self.part_path(part.sha256), part.bytes, number)?;
        let same = bytes.len() as u64 == part.bytes && Hash::of(&bytes) == part.sha256;
        if same { Ok(bytes) } else { Err(changed(number)) }
    }

    /// Reads every part of the backup `asked` for, or of all, and compares it with its hash. Whether a store wrote them
    /// is seen when one is restored.
    ///
    /// # Errors
    ///
    /// [`Integrity`](ErrorKind::Integrity) when something is missing or changed.
    pub fn verify(&self, asked: Option<u32>, mut progress: impl FnMut(Progress)) -> Result<Verified> {
        let numbers = match asked {
            Some(number) => vec![self.number(Some(number))?],
            None => self.numbers()?,
        };
        let mut parts = HashMap::new();
        for number in &numbers {
            self.manifest(*number)?
                .claimed()
                .parts()
                .for_each(|part| _ = parts.entry(part.sha256).or_insert((*number, *part)));
        }
        let mut verified = Verified { backups: numbers.len() as u64, ..Verified::default() };
        for (number, part) in parts.values() {
            verified.bytes += self.part(*number, part)?.len() as u64;
            verified.parts += 1;
            progress(Progress { done: verified.parts, of: parts.len() as u64, bytes: verified.bytes });
        }
        Ok(verified)
    }

    /// Removes all backups but the latest `keep`, and what only they need. Returns the numbers of those removed.
    ///
    /// # Errors
    ///
    /// [`Integrity`](ErrorKind::Integrity), with nothing removed, when a manifest that is to stay cannot be read: nobody
    /// knows what it needs.
    pub fn prune(&self, keep: usize) -> Result<Vec<u32>> {
        let mut removed = self.numbers()?;
        let kept = removed.split_off(removed.len().saturating_sub(keep));
        let needed = self.needed(&kept)?;
        for number in &removed {
            fs::remove_file(self.manifest_path(*number))?;
        }
        fs::File::open(self.dir.join(MANIFESTS))?.sync_all()?;
        self.sweep(&needed)?;
        Ok(removed)
    }

    /// The parts that the backups with `numbers` need, and their sizes.
    pub(super) fn needed(&self, numbers: &[u32]) -> Result<HashMap<Hash, u64>> {
        let mut needed = HashMap::new();
        for number in numbers {
            needed.extend(self.manifest(*number)?.claimed().parts().map(|part| (part.sha256, part.bytes)));
        }
        Ok(needed)
    }

    /// Removes every part that nobody needs: what pruned and interrupted backups left.
    pub(super) fn sweep(&self, needed: &HashMap<Hash, u64>) -> Result<()> {
        for dir in [self.dir.join(MANIFESTS)].into_iter().chain(below(&self.dir.join(PARTS))?) {
            for file in below(&dir)? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let part = dir.parent().is_some_and(|parent| parent.ends_with(PARTS));
                let unneeded = part && name.parse().is_ok_and(|hash: Hash| !needed.contains_key(&hash));
                if unneeded || name.starts_with(disk::UNFINISHED) {
                    fs::remove_file(&file)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn manifest_path(&self, number: u32) -> PathBuf {
        self.dir.join(MANIFESTS).join(format!("{number:06}{SUFFIX}"))
    }

    pub(super) fn part_path(&self, hash: Hash) -> PathBuf {
        let name = hash.to_string();
        // 256 directories, so that none has too many entries.
        self.dir.join(PARTS).join(name.get(..2).unwrap_or_default()).join(name)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of a file of backup `number`, of at most `most` bytes.
    fn read(&self, path: &Path, most: u64, number: u32) -> Result<Vec<u8>> {
        let file = fs::File::open(path).map_err(|e| match e.kind() {
            Io::NotFound => changed(number),
            _ => e.into(),
        })?;
        let mut bytes = Vec::new();
        let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if read as u64 > most { Err(changed(number)) } else { Ok(bytes) }
    }
}

/// Whether `dir` has only what the making of a first backup leaves that ended before it had begun.
fn is_begun(dir: &Path) -> Result<bool> {
    Ok(below(dir)?.iter().all(|path| path.ends_with(PARTS) || path.ends_with(disk::LOCK_FILE)))
}

fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}
