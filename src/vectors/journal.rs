//! The journal: what the vector engine may lose on a crash, kept until the engine has it on disk.
//!
//! Keys are collection id ‖ sequence number (u64, big-endian); the value is a format byte and the entry. The row under
//! the bare collection id is the head: the last sequence number that was given out.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::kv::{Batch, KvBackend, Table};
use crate::limits;

use super::CollectionId;
use super::engine::Point;

const FORMAT_VERSION: u8 = 1;

/// One write to the engine.
#[derive(Serialize, Deserialize)]
pub(super) enum JournalEntry {
    Upsert(Vec<Point>),
    Delete(Vec<Uuid>),
}

impl JournalEntry {
    /// About how many bytes it takes, rather more than less.
    fn weight(&self) -> usize {
        // Lengths, version, epoch and id of a point; a vector's position and length.
        const POINT: usize = 48;
        match self {
            Self::Upsert(points) => {
                let vectors =
                    |p: &Point| p.searchable.iter().map(|(_, v)| v.len() * size_of::<f32>() + 8).sum::<usize>();
                points.iter().map(|p| POINT + p.payload.len() + p.vector.len() + vectors(p)).sum::<usize>() + 16
            }
            Self::Delete(ids) => ids.len() * 17 + 16,
        }
    }
}

/// Adds `entries` as write number `seq` of a collection to `batch` and moves the head. Returns the bytes it takes.
pub(super) fn append(batch: &mut Batch, id: CollectionId, seq: u64, entries: &[JournalEntry]) -> Result<usize> {
    let mut value = Vec::with_capacity(1 + entries.iter().map(JournalEntry::weight).sum::<usize>());
    value.push(FORMAT_VERSION);
    let value =
        postcard::to_extend(entries, value).map_err(|e| Error::internal("encoding a journal entry").with_source(e))?;
    let bytes = value.len();
    if bytes > limits::WRITE_BYTES {
        return Err(Error::invalid(format!("a write of {} MiB is too large", bytes >> 20))
            .with_remedy(format!("split it into writes of at most {} MiB", limits::WRITE_BYTES >> 20)));
    }
    batch.put(Table::Journal, key(id, seq), value);
    batch.put(Table::Journal, id.as_bytes().to_vec(), seq.to_be_bytes());
    Ok(bytes)
}

/// Adds the removal of every entry up to number `through` to `batch`.
pub(super) fn trim(batch: &mut Batch, id: CollectionId, through: u64) {
    batch.delete_range(Table::Journal, key(id, 0), key(id, through.saturating_add(1)));
}

/// The last sequence number that was given out; 0 before the first.
pub(super) fn head(kv: &dyn KvBackend, id: CollectionId) -> Result<u64> {
    let Some(row) = kv.get(Table::Journal, id.as_bytes())? else { return Ok(0) };
    let bytes = row.try_into().map_err(|_| Error::integrity("the head of a journal"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The entries that are still there, oldest first.
pub(super) fn entries(kv: &dyn KvBackend, id: CollectionId) -> impl Iterator<Item = Result<(u64, Vec<JournalEntry>)>> {
    kv.scan(Table::Journal, id.as_bytes()).filter_map(|row| match row {
        Err(e) => Some(Err(e)),
        Ok((key, _)) if key.len() == 16 => None,
        Ok((key, value)) => Some(decode(&key, &value)),
    })
}

fn decode(key: &[u8], value: &[u8]) -> Result<(u64, Vec<JournalEntry>)> {
    let bad = || Error::integrity("a journal entry");
    let seq = key.get(16..).and_then(|s| s.try_into().ok()).map(u64::from_be_bytes).ok_or_else(bad)?;
    let body = value.strip_prefix(&[FORMAT_VERSION]).ok_or_else(bad)?;
    Ok((seq, postcard::from_bytes(body).map_err(|_| bad())?))
}

fn key(id: CollectionId, seq: u64) -> Vec<u8> {
    [&id.as_bytes()[..], &seq.to_be_bytes()].concat()
}
