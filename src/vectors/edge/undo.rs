//! Undoing an optimisation that a crash ended half-way.
//!
//! The engine replaces segments one by one, and loads whatever it finds: after a crash, both those that were rebuilt
//! and what they were rebuilt from, so that points are there twice. So the segments are linked to `before` ahead of an
//! optimisation and unlinked after it. If `before` is there on open, it takes the place of the segments; what was
//! written meanwhile is in the journal, which must not be trimmed as long as `before` exists.

use std::fs::{self, File};
use std::io::{ErrorKind, Result};
use std::path::Path;

const SEGMENTS: &str = "segments";
const BEFORE: &str = "before";
/// `before` while it is made or removed: it counts for nothing.
const BEFORE_PARTIAL: &str = "before.partial";
/// Where the engine builds segments.
const BUILDING: &str = "temp_segments";

/// Keeps the segments of `shard`, which is flushed, until [`forget`].
pub(super) fn keep(shard: &Path) -> Result<()> {
    let partial = shard.join(BEFORE_PARTIAL);
    remove(&partial)?;
    link_tree(&shard.join(SEGMENTS), &partial)?;
    fs::rename(partial, shard.join(BEFORE))?;
    sync(shard)
}

/// Lets go of what [`keep`] kept: `shard` is flushed again and has no half-built segments.
pub(super) fn forget(shard: &Path) -> Result<()> {
    let partial = shard.join(BEFORE_PARTIAL);
    fs::rename(shard.join(BEFORE), &partial)?;
    sync(shard)?;
    remove(&partial)
}

/// Puts the segments of `shard` back that an interrupted optimisation replaced, and removes what it had built.
pub(super) fn restore(shard: &Path) -> Result<()> {
    let before = shard.join(BEFORE);
    if before.exists() {
        remove(&shard.join(SEGMENTS))?;
        fs::rename(before, shard.join(SEGMENTS))?;
        sync(shard)?;
    }
    remove(&shard.join(BEFORE_PARTIAL))?;
    remove(&shard.join(BUILDING))
}

/// The same files in another directory, without a copy where the file system can.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link_tree(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
            sync(&target)?;
        }
    }
    sync(to)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)?.sync_all()
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
