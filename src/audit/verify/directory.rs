//! An export in the tlog-tiles layout, read once from left to right: entries, tiles, checkpoint.

use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::compact::Compact;
use super::finding::{Attack, Failure, Finding};
use super::hash::{self, Sum};
use super::note::{PublicKey, Signed};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

const WIDTH: u64 = 256;

/// What a sound log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// How many entries the checkpoint is of.
    pub size: u64,
    /// The root of their tree, in hexadecimal.
    pub root: String,
    /// How many of the entries are there, each with the hash that was logged.
    pub entries: u64,
    /// How many were pruned: of them the hashes are there, and an event that says so.
    pub pruned: u64,
    /// The sizes of the earlier checkpoints that the log continues.
    pub continues: Vec<u64>,
    /// Who else has signed the checkpoint, as it says.
    pub witnesses: Vec<String>,
}

/// Verifies the export in `dir`: that every entry is what was logged, at its place, and none is missing, as `key` signed
/// it; and that the log continues each of the `earlier` checkpoints. `progress` hears how many entries are done.
///
/// # Errors
///
/// [`Failure::Found`] with what was done to the log, [`Failure::Unread`] when it cannot be read.
pub fn directory(
    dir: &Path,
    key: &PublicKey,
    earlier: &[Signed],
    mut progress: impl FnMut(u64),
) -> Result<Report, Failure> {
    let note = read(&dir.join("checkpoint"), limits::AUDIT_NOTE_BYTES)?.ok_or_else(|| {
        Error::not_found(format!("there is no checkpoint in `{}`", dir.display()))
            .with_remedy("name the directory that `strongroom audit export` made")
    })?;
    let note = String::from_utf8(note).map_err(|_| Finding::new(Attack::Malformed, "the checkpoint is no text"))?;
    let signed = Signed::verify(&note, key)?;
    compare_sizes(&signed, earlier)?;
    let mut walk = Walk::new(dir, signed.size(), earlier);
    for number in 0..signed.size().div_ceil(WIDTH) {
        walk.bundle(number)?;
        progress(walk.tree.size());
    }
    walk.finish(&signed, earlier)
}

/// What two checkpoints say without any entry.
fn compare_sizes(signed: &Signed, earlier: &[Signed]) -> Result<(), Finding> {
    let (size, root) = (signed.size(), signed.root());
    for old in earlier {
        if old.size() > size {
            let what = format!("an earlier checkpoint is of {} entries, this one of {size}", old.size());
            return Err(Finding::new(Attack::Truncated, format!("{what}: the end of the log was cut off")));
        }
        if old.size() == size && old.root() != root {
            return Err(forked(size));
        }
    }
    Ok(())
}

fn forked(size: u64) -> Finding {
    let what = format!("two signed checkpoints disagree about the first {size} entries");
    Finding::new(Attack::Forked, format!("{what}: the log was shown with two histories"))
}

/// A bundle whose entries do not have the hashes of its tile.
struct Difference {
    number: u64,
    entries: Vec<Sum>,
    tile: Vec<Sum>,
}

struct Walk<'a> {
    dir: &'a Path,
    size: u64,
    /// The tree of the entries that are there.
    entries: Compact,
    /// The tree of the hashes that are there.
    tree: Compact,
    /// Hashes of each level of tiles above the first that are not yet compared.
    levels: Vec<(u64, Vec<Sum>)>,
    changed_tile: Option<String>,
    differences: Vec<Difference>,
    /// Leading entries that are not there.
    missing: u64,
    present: u64,
    /// How many leading entries events say were pruned.
    said_pruned: u64,
    /// The sizes of earlier checkpoints in order, and the roots that the log had then.
    marks: Vec<(u64, Option<Sum>)>,
}

impl<'a> Walk<'a> {
    fn new(dir: &'a Path, size: u64, earlier: &[Signed]) -> Self {
        Self {
            dir,
            size,
            entries: Compact::default(),
            tree: Compact::default(),
            levels: Vec::new(),
            changed_tile: None,
            differences: Vec::new(),
            missing: 0,
            present: 0,
            said_pruned: 0,
            marks: earlier.iter().map(|old| (old.size(), None)).collect(),
        }
    }

    /// One bundle of entries, and the tile of their hashes.
    fn bundle(&mut self, number: u64) -> Result<(), Failure> {
        let width = WIDTH.min(self.size - number * WIDTH);
        let tile = self.tile(0, number, width)?.ok_or_else(|| self.truncated(number))?;
        let path = self.dir.join("tile/entries").join(place(number, width));
        let bytes = read(&path, limits::AUDIT_BUNDLE_BYTES)?;
        let hashes = match bytes {
            Some(bytes) => {
                let entries = split(&bytes).ok_or_else(|| malformed(&path))?;
                self.present += entries.len() as u64;
                entries.iter().for_each(|entry| self.look_for_pruning(entry));
                entries.iter().map(|entry| hash::entry(entry)).collect()
            }
            // What is missing at the beginning may have been pruned: its hashes take its place.
            None if self.present == 0 => {
                self.missing += width;
                tile.clone()
            }
            None => {
                let (first, last) = (number * WIDTH, number * WIDTH + width - 1);
                return Err(Finding::new(Attack::DroppedEntry, format!("entries {first} to {last} are missing")).into());
            }
        };
        hashes.iter().for_each(|hash| self.entries.push(*hash));
        for hash in &tile {
            self.tree.push(*hash);
            let (size, tree) = (self.tree.size(), &self.tree);
            self.marks.iter_mut().filter(|(mark, _)| *mark == size).for_each(|(_, root)| *root = Some(tree.root()));
        }
        if width == WIDTH {
            self.above(1, whole(&tile))?;
        }
        if hashes != tile && self.differences.len() < limits::AUDIT_DIFFERENCES {
            self.differences.push(Difference { number, entries: hashes, tile });
        }
        Ok(())
    }

    /// The root of a whole tile belongs into the tile above.
    fn above(&mut self, level: u8, root: Sum) -> Result<(), Failure> {
        let at = usize::from(level) - 1;
        if self.levels.len() == at {
            self.levels.push((0, Vec::new()));
        }
        let Some((number, hashes)) = self.levels.get_mut(at) else { return Ok(()) };
        hashes.push(root);
        if hashes.len() as u64 == WIDTH {
            let (number, hashes) = (std::mem::replace(number, *number + 1), std::mem::take(hashes));
            self.compare(level, number, &hashes)?;
            self.above(level + 1, whole(&hashes))?;
        }
        Ok(())
    }

    fn compare(&mut self, level: u8, number: u64, hashes: &[Sum]) -> Result<(), Failure> {
        let stored = self.tile(level, number, hashes.len() as u64)?;
        if stored.as_deref() != Some(hashes) && self.changed_tile.is_none() {
            self.changed_tile = Some(format!("tile/{level}/{}", place(number, hashes.len() as u64)));
        }
        Ok(())
    }

    fn tile(&self, level: u8, number: u64, width: u64) -> Result<Option<Vec<Sum>>, Failure> {
        let path = self.dir.join(format!("tile/{level}")).join(place(number, width));
        let Some(bytes) = read(&path, 32 * WIDTH as usize)? else { return Ok(None) };
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() as u64 != width {
            return Err(malformed(&path).into());
        }
        Ok(Some(hashes.to_vec()))
    }

    /// The tile `number` is not there. Where does the log end?
    fn truncated(&self, number: u64) -> Failure {
        let before = number * WIDTH;
        let shorter = (1..WIDTH).rev().find(|width| self.dir.join("tile/0").join(place(number, *width)).exists());
        let end = before + shorter.unwrap_or(0);
        let what = format!("the checkpoint is of {} entries, and the log ends after {end}", self.size);
        Finding::new(Attack::Truncated, format!("{what}: its end was cut off")).into()
    }

    fn look_for_pruning(&mut self, entry: &[u8]) {
        #[derive(Deserialize)]
        struct Pruned {
            r#type: String,
            to: u64,
        }
        if let Ok(event) = serde_json::from_slice::<Pruned>(entry)
            && event.r#type == "log-pruned"
        {
            self.said_pruned = self.said_pruned.max(event.to);
        }
    }

    fn finish(mut self, signed: &Signed, earlier: &[Signed]) -> Result<Report, Failure> {
        for (level, (number, hashes)) in (1..).zip(std::mem::take(&mut self.levels)) {
            if !hashes.is_empty() {
                self.compare(level, number, &hashes)?;
            }
        }
        if let Some(finding) = self.judge(signed) {
            return Err(finding.into());
        }
        for old in earlier {
            let root = match old.size() {
                0 => Some(Compact::default().root()),
                size => self.marks.iter().find(|(mark, _)| *mark == size).and_then(|(_, root)| *root),
            };
            if root.as_ref() != Some(old.root()) {
                return Err(forked(old.size()).into());
            }
        }
        if self.missing > self.said_pruned {
            let (from, to) = (self.said_pruned, self.missing - 1);
            let what = format!("entries {from} to {to} are missing, and no event says that they were pruned");
            return Err(Finding::new(Attack::DroppedEntry, what).into());
        }
        Ok(Report {
            origin: signed.origin().to_owned(),
            size: signed.size(),
            root: signed.root().iter().map(|byte| format!("{byte:02x}")).collect(),
            entries: self.present,
            pruned: self.missing,
            continues: earlier.iter().map(Signed::size).collect(),
            witnesses: signed.witnesses().to_vec(),
        })
    }

    /// What entries, tiles and checkpoint say of each other.
    fn judge(&self, signed: &Signed) -> Option<Finding> {
        let (by_tiles, by_entries) = (self.tree.root() == *signed.root(), self.entries.root() == *signed.root());
        match (self.differences.first(), by_tiles) {
            (Some(_), true) => Some(self.diagnose()),
            (Some(first), false) if by_entries => {
                let what =
                    format!("the tile {} of hashes of entries is not what was logged; the entries are", first.number);
                Some(Finding::new(Attack::ChangedTree, what))
            }
            (_, false) => {
                let what = "the entries and the tree fit together, and not the checkpoint";
                let what =
                    if self.differences.is_empty() { what } else { "neither entries nor tree fit the checkpoint" };
                Some(Finding::new(Attack::Rewritten, format!("{what}: the log was written anew")))
            }
            (None, true) => self.changed_tile.as_ref().map(|tile| {
                Finding::new(Attack::ChangedTree, format!("`{tile}` is not the tree of the entries below it"))
            }),
        }
    }

    /// The hashes are those that were signed, the entries are not.
    fn diagnose(&self) -> Finding {
        let entries: Vec<_> = self.differences.iter().flat_map(|d| &d.entries).collect();
        let tile: Vec<_> = self.differences.iter().flat_map(|d| &d.tile).collect();
        let start = self.differences.first().map_or(0, |d| d.number * WIDTH);
        let first = entries.iter().zip(&tile).take_while(|(entry, hash)| entry == hash).count();
        let index = start + first as u64;
        let (is, was) = (entries.get(first), tile.get(first));
        let (mut there, mut logged) = (entries.clone(), tile.clone());
        there.sort_unstable();
        logged.sort_unstable();
        if there == logged {
            let from = tile.iter().position(|hash| Some(hash) == is).map_or(0, |at| self.logged_at(at as u64));
            let what = format!("entry {index} is what was logged as entry {from}: entries are not in their order");
            return Finding::new(Attack::Reordered, what);
        }
        if is.is_none() || shifted(&tile, &entries, first) {
            return Finding::new(Attack::DroppedEntry, format!("entry {index} is missing"));
        }
        if was.is_none() || shifted(&entries, &tile, first) {
            return Finding::new(Attack::InsertedEntry, format!("entry {index} was not logged there"));
        }
        Finding::new(Attack::ChangedEntry, format!("entry {index} is not what was logged: it was changed"))
    }

    /// The index in the log of the `nth` hash of all differences.
    fn logged_at(&self, nth: u64) -> u64 {
        let mut rest = nth;
        for difference in &self.differences {
            let len = difference.tile.len() as u64;
            if rest < len {
                return difference.number * WIDTH + rest;
            }
            rest -= len;
        }
        rest
    }
}

/// Whether `short` is `long` without what that has at `at`, as far as the next two show.
fn shifted(long: &[&Sum], short: &[&Sum], at: usize) -> bool {
    long.len() > at && (0..2).all(|next| long.get(at + 1 + next) == short.get(at + next))
}

/// The root of a whole tile.
fn whole(hashes: &[Sum]) -> Sum {
    let mut compact = Compact::default();
    hashes.iter().for_each(|hash| compact.push(*hash));
    compact.root()
}

/// Length (u16, big-endian) and entry, again and again.
fn split(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        entries.push(entry);
        bytes = rest;
    }
    Some(entries)
}

/// The number of a tile as a path: three digits at a time, an `x` before all but the last.
fn place(number: u64, width: u64) -> String {
    let digits = number.to_string();
    let padded = format!("{digits:0>width$}", width = digits.len().next_multiple_of(3));
    let groups: Vec<_> = padded.as_bytes().chunks(3).map(String::from_utf8_lossy).collect();
    let path = groups.join("/x");
    // The last group has no mark.
    let path = match path.rsplit_once("/x") {
        Some((head, last)) => format!("x{head}/{last}"),
        None => path,
    };
    if width == WIDTH { path } else { format!("{path}.p/{width}") }
}

/// A file of at most `most` bytes, if it is there.
fn read(path: &Path, most: usize) -> Result<Option<Vec<u8>>, Failure> {
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| unread(path, e))?,
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|e| unread(path, e))?;
    if bytes.len() > most { Err(malformed(path).into()) } else { Ok(Some(bytes)) }
}

fn malformed(path: &Path) -> Finding {
    Finding::new(Attack::Malformed, format!("`{}` is not of the form that it must have", path.display()))
}

fn unread(path: &Path, e: std::io::Error) -> Failure {
    let message = format!("`{}` cannot be read", path.display());
    Error::new(ErrorKind::Unavailable, message).with_source(e).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_those_of_the_specification() {
        assert_eq!(place(1_234_067, 256), "x001/x234/067");
        assert_eq!((place(0, 256), place(273, 112)), ("000".to_owned(), "273.p/112".to_owned()));
    }

    proptest! {
        #[test]
        fn hostile_bundles_never_panic(bytes: Vec<u8>) {
            if let Some(entries) = split(&bytes) {
                prop_assert_eq!(entries.iter().map(|entry| entry.len() + 2).sum::<usize>(), bytes.len());
            }
        }
    }
}
