//! Undoing an optimisation that a crash ended half-way.
//!
//! The engine replaces segments one by one, and loads whatever it finds: after a crash, both those that were rebuilt
//! and what they were rebuilt from, so that points are there twice. So the segments are linked to `before` ahead of an
//! optimisation and unlinked after it. If `before` is there on open, the segments that it has are made whole again and
//! all others removed; what was written meanwhile is in the journal, which must not be trimmed as long as `before`
//! exists.
//!
//! A segment that is still there stays as it is: its files are the same ones as in `before`, written to in place, and may
//! already tell of others that came after the links were made.

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
    let (before, segments) = (shard.join(BEFORE), shard.join(SEGMENTS));
    if before.exists() {
        fs::create_dir_all(&segments)?;
        for entry in fs::read_dir(&segments)? {
            let entry = entry?;
            if !before.join(entry.file_name()).exists() {
                remove(&entry.path())?;
            }
        }
        fill_in(&before, &segments)?;
        forget(shard)?;
    }
    remove(&shard.join(BEFORE_PARTIAL))?;
    remove(&shard.join(BUILDING))
}

/// Links what `from` has and `to` lacks.
fn fill_in(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fill_in(&source, &target)?;
        } else if !target.exists() {
            link(&source, &target)?;
        }
    }
    sync(to)
}

/// The same files in another directory, without a copy where the file system can.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link_tree(&source, &target)?;
        } else {
            link(&source, &target)?;
        }
    }
    sync(to)
}

fn link(source: &Path, target: &Path) -> Result<()> {
    if fs::hard_link(source, target).is_err() {
        fs::copy(source, target)?;
        sync(target)?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)?.sync_all()
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_file() { fs::remove_file(path) } else { fs::remove_dir_all(path) };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What an optimisation may have done when its process ends: a segment half removed, another written to in place and
    /// grown by a file, a third one new.
    #[test]
    fn what_was_removed_comes_back_and_what_grew_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let segments = dir.path().join(SEGMENTS);
        write(&segments.join("a/one"), "1");
        write(&segments.join("a/deep/two"), "2");
        write(&segments.join("b/pages"), "1 page");
        keep(dir.path()).unwrap();
        fs::remove_file(segments.join("a/deep/two")).unwrap();
        write(&segments.join("b/pages"), "2 pages");
        write(&segments.join("b/page_1"), "the second");
        write(&segments.join("c/one"), "new");
        write(&dir.path().join(BUILDING).join("half"), "built");
        restore(dir.path()).unwrap();
        let read = |name: &str| fs::read_to_string(segments.join(name)).ok();
        assert_eq!(read("a/one").as_deref(), Some("1"));
        assert_eq!(read("a/deep/two").as_deref(), Some("2"));
        assert_eq!(read("b/pages").as_deref(), Some("2 pages"));
        assert_eq!(read("b/page_1").as_deref(), Some("the second"));
        assert!(!segments.join("c").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
