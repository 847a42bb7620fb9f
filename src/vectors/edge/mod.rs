//! `qdrant-edge` as the vector engine: one shard directory per collection, in this process.
//!
//! What the joint does not show: an upsert is lost on `kill -9` until the shard is flushed, a flush panics when the
//! shard is busy or the disk fails, the engine's own log is never read back nor trimmed, and an optimisation that a crash
//! ends leaves points twice. So writes and flushes take turns here, panics become errors, closed log files are removed
//! after each flush, and an optimisation either ends or is undone.

mod filter;
mod shard;
mod undo;

pub(crate) use shard::in_engine;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::DataDir;
use crate::error::{Error, Result};

use super::CollectionId;
use super::engine::{EngineCollection, Shape, VectorBackend};

/// Shards below one directory.
pub struct Edge {
    dir: PathBuf,
    disk: Arc<DataDir>,
}

impl Edge {
    /// Shards below `dir`, which exists on `disk`.
    pub fn new(dir: PathBuf, disk: Arc<DataDir>) -> Self {
        Self { dir, disk }
    }

    /// The collections that have a directory here, for finding those that nobody knows any more.
    pub fn collections(&self) -> Result<Vec<CollectionId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let bytes = name.to_str().and_then(|hex| uuid::Uuid::try_parse(hex).ok());
            found.extend(bytes.and_then(|u| CollectionId::try_from(&u.as_bytes()[..]).ok()));
        }
        Ok(found)
    }
}

impl VectorBackend for Edge {
    fn open(&self, id: CollectionId, shape: &Shape) -> Result<Box<dyn EngineCollection>> {
        let dir = self.dir.join(id.to_string());
        undo::restore(&dir)?;
        Ok(Box::new(shard::Shard::open(dir, self.disk.clone(), shape)?))
    }

    fn drop_collection(&self, id: CollectionId) -> Result<()> {
        match fs::remove_dir_all(self.dir.join(id.to_string())) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}

/// Removes the closed files of the engine's log but the newest, which carries the numbering on. An open shard may go on
/// holding them: nobody reads them.
fn trim_engine_log(shard: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(shard.join("wal")) else { return Ok(()) };
    let mut closed = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let first = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("closed-"));
        if let Some(first) = first.and_then(|n| n.parse::<u64>().ok()) {
            closed.push((first, path));
        }
    }
    closed.sort();
    closed.pop();
    for (_, path) in closed {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Has the kernel write what it keeps back of the files below `dir`. Files may come and go meanwhile, and what fails here
/// is told when it counts.
fn sync_below(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sync_below(&entry.path()),
            Ok(kind) if kind.is_file() => {
                let _ = fs::File::open(entry.path()).and_then(|file| file.sync_data());
            }
            _ => {}
        }
    }
}

/// Bytes of the files below `dir`.
fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

pub(super) fn failed(what: &str, e: impl std::fmt::Display) -> Error {
    let text = e.to_string();
    if text.contains("No space left") || text.contains("os error 28") {
        return Error::new(crate::ErrorKind::StorageFull, "the disk is full")
            .with_remedy("free some space and start again; every acknowledged write is kept")
            .with_source(text);
    }
    Error::internal(format!("the vector engine failed to {what}")).with_source(text)
}
