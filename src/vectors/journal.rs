//! The journal: what the vector engine may lose on a crash, kept until the engine has it on disk.
//!
//! Keys are collection id ‖ sequence number (u64, big-endian); the value is a format byte and the entry. The row under
//! the bare collection id is the head: the last sequence number that was given out.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::kv::{Batch, KvBackend, Table};
use crate::limits;

use super::engine::Point;
use super::{CollectionId, FirstPoint};

const FORMAT_VERSION: u8 = 2;
/// The format before points had tags and tokens.
const FIRST_FORMAT: u8 = 1;

/// One write to the engine.
#[derive(Serialize, Deserialize)]
pub(super) enum JournalEntry {
    Upsert(Vec<Point>),
    Delete(Vec<Uuid>),
}

/// The same in the first format.
#[derive(Serialize, Deserialize)]
enum FirstEntry {
    Upsert(Vec<FirstPoint>),
    Delete(Vec<Uuid>),
}

impl From<FirstEntry> for JournalEntry {
    fn from(first: FirstEntry) -> Self {
        match first {
            FirstEntry::Upsert(points) => Self::Upsert(points.into_iter().map(Point::from).collect()),
            FirstEntry::Delete(ids) => Self::Delete(ids),
        }
    }
}

impl JournalEntry {
    /// About how many bytes it takes, rather more than less.
    fn weight(&self) -> usize {
        // Lengths, version, epoch, id and tag of a point; a vector's position and length.
        const POINT: usize = 72;
        match self {
            Self::Upsert(points) => {
                let vectors =
                    |p: &Point| p.searchable.iter().map(|(_, v)| v.len() * size_of::<f32>() + 8).sum::<usize>();
                let point = |p: &Point| POINT + p.payload.len() + p.vector.len() + vectors(p) + 16 * p.tokens.len();
                points.iter().map(point).sum::<usize>() + 16
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

/// Adds the removal of every entry up to number `through`, the head, to `batch`, and moves the head as a write would: who
/// compares heads sees that something was changed. Returns the new one.
pub(super) fn start_anew(batch: &mut Batch, id: CollectionId, through: u64) -> Result<u64> {
    let seq = through.checked_add(1).ok_or_else(|| Error::integrity("the head of a journal"))?;
    trim(batch, id, through);
    batch.put(Table::Journal, id.as_bytes().to_vec(), seq.to_be_bytes());
    Ok(seq)
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
    let entries = match value.split_first().ok_or_else(bad)? {
        (&FORMAT_VERSION, body) => postcard::from_bytes(body).map_err(|_| bad())?,
        (&FIRST_FORMAT, body) => {
            let entries: Vec<FirstEntry> = postcard::from_bytes(body).map_err(|_| bad())?;
            entries.into_iter().map(JournalEntry::from).collect()
        }
        _ => return Err(bad()),
    };
    Ok((seq, entries))
}

fn key(id: CollectionId, seq: u64) -> Vec<u8> {
    [&id.as_bytes()[..], &seq.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(tag: Option<[u8; 16]>, tokens: Vec<[u8; 16]>) -> Point {
        let searchable = vec![(0, vec![0.5, -1.0])];
        Point {
            id: Uuid::from_u128(7),
            epoch: 3,
            version: 9,
            payload: vec![1],
            vector: vec![2],
            searchable,
            tag,
            tokens,
        }
    }

    fn decoded(value: &[u8]) -> Result<(u64, Vec<JournalEntry>)> {
        decode(&[&[0; 16][..], &5_u64.to_be_bytes()].concat(), value)
    }

    fn upserted(value: &[u8]) -> Vec<Point> {
        match decoded(value).unwrap() {
            (5, entries) => match entries.into_iter().next() {
                Some(JournalEntry::Upsert(points)) => points,
                _ => panic!("no upsert"),
            },
            (seq, _) => panic!("number {seq}"),
        }
    }

    #[test]
    fn both_formats_are_read() {
        for point in [point(None, Vec::new()), point(Some([4; 16]), vec![[5; 16], [6; 16]])] {
            let entries = [JournalEntry::Upsert(vec![point.clone()])];
            let value = [vec![FORMAT_VERSION], postcard::to_stdvec(&entries[..]).unwrap()].concat();
            assert!(upserted(&value) == [point]);
        }
        // As the first version of Strongroom wrote it: number of entries, kind, number of points, and the point.
        let mut first = vec![FIRST_FORMAT, 2, 0, 1, 16];
        first.extend(7_u128.to_be_bytes());
        first.extend([3, 9, 1, 1, 1, 2, 1, 0, 2]);
        first.extend([0.5_f32, -1.0].into_iter().flat_map(f32::to_le_bytes));
        first.extend([1, 0]);
        assert!(upserted(&first) == [point(None, Vec::new())]);
        first[0] = 3;
        assert!(decoded(&first).is_err());
    }

    proptest! {
        #[test]
        fn hostile_entries_never_panic(bytes: Vec<u8>) {
            let _ = decoded(&bytes);
            let _ = decoded(&[&[FORMAT_VERSION][..], &bytes].concat());
            let _ = decoded(&[&[FIRST_FORMAT][..], &bytes].concat());
        }
    }
}
