//! What `strongroom ingest` reads: JSON lines, `.npy` vectors and an embeddings endpoint, joined into batches.
//!
//! Nothing here holds a whole file, and no error repeats a record's text: ids and field names are all that is shown.

mod batches;
mod embed;
mod jsonl;
mod npy;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

pub use batches::{Batch, Batches, VectorSource};
pub use embed::{ApiKey, Embedder};
pub use jsonl::JsonlReader;
pub use npy::NpyReader;

use crate::error::Error;
use crate::id::{Name, RecordId};
use crate::vectors::SparseVector;

/// One chunk as it was given. It has no `Debug`, since its text may be confidential.
pub struct InputRecord {
    /// The file it came from, as shown in messages.
    pub file: Arc<str>,
    /// Its line there, counted from 1.
    pub line: u64,
    /// Its id, unique within the input.
    pub id: RecordId,
    /// Its text.
    pub text: String,
    /// Its metadata, empty if none was given.
    pub metadata: Map<String, Value>,
    /// Its dense vectors.
    pub vectors: InputVectors,
    /// Its sparse vectors.
    pub sparse: BTreeMap<Name, SparseVector>,
    /// Roughly the memory it takes: its line and its attached vector.
    bytes: usize,
}

/// The dense vectors of a chunk: each finite and with 1 to [`crate::limits::VECTOR_DIMENSIONS`] elements.
#[derive(Clone, PartialEq)]
pub enum InputVectors {
    /// None was given; one comes from a `.npy` file or an embeddings endpoint.
    Missing,
    /// The one vector of a collection without vector names.
    Single(Vec<f32>),
    /// A vector per name.
    Named(BTreeMap<Name, Vec<f32>>),
}

/// A line that cannot be used. Reading goes on with the next one.
#[derive(Debug)]
pub struct LineError {
    /// The file, as shown in messages.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u64,
    /// Where, why, and what to do about it.
    pub error: Error,
}

impl LineError {
    /// Puts the place in front of the message of `reason`.
    pub(super) fn new(file: &Arc<str>, line: u64, reason: &Error) -> Self {
        let error = Error::new(reason.kind(), format!("`{file}` line {line}: {reason}"));
        let error = match reason.remedy() {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        };
        Self { file: Arc::clone(file), line, error }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl From<LineError> for Error {
    fn from(e: LineError) -> Self {
        e.error
    }
}

/// How far reading has come, in bytes. Clones share the count, so that one can be watched from another thread.
#[derive(Debug, Clone)]
pub struct Progress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        Self { read: Arc::default(), total }
    }

    fn add(&self, bytes: usize) {
        self.read.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes there are, unless a pipe is among the inputs.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

/// A path as it may be shown: short enough for a line, its end kept, without control characters.
fn shown_path(path: &Path) -> Arc<str> {
    const LONGEST: usize = 120;
    let text = path.to_string_lossy();
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let skip = text.chars().count().saturating_sub(LONGEST);
    let dots = if skip > 0 { "…" } else { "" };
    format!("{dots}{}", text.chars().skip(skip).map(clean).collect::<String>()).into()
}

/// The error for a file that cannot be opened.
fn cannot_open(name: &str, e: std::io::Error) -> Error {
    let kind = Error::from(std::io::Error::from(e.kind())).kind();
    Error::new(kind, format!("`{name}` cannot be opened"))
        .with_remedy("check the path and who may read it; `-` is standard input")
        .with_source(e)
}

/// The error for a file that stops giving bytes.
fn cannot_read(place: impl fmt::Display, e: std::io::Error) -> Error {
    let kind = Error::from(std::io::Error::from(e.kind())).kind();
    Error::new(kind, format!("{place} cannot be read"))
        .with_remedy("check the disk or the program behind the pipe, then run the same command again")
        .with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_are_shown_short_and_clean() {
        assert_eq!(&*shown_path(Path::new("a\u{1b}[2J.jsonl")), "a\u{fffd}[2J.jsonl");
        let long = format!("{}/end.jsonl", "ä".repeat(5000));
        let shown = shown_path(Path::new(&long));
        assert!(shown.starts_with('…') && shown.ends_with("/end.jsonl") && shown.chars().count() == 121);
    }
}
