//! Inverted indexes in trusted memory: which records have a key, and with what value. Exact: nothing is left out of a
//! search that could be among its results.
//!
//! A record gets the next slot and keeps it; lists of entries so stay in the order of the slots. One that is removed
//! leaves entries behind whose values are erased; they go when there are as many of them as of others.

mod keywords;
mod sparse;
#[cfg(test)]
mod tests;
mod words;

pub(super) use keywords::Counted;
pub use keywords::KeywordIndex;
pub use sparse::SparseIndex;
pub use words::Language;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

use rayon::prelude::*;
use zeroize::Zeroize;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;

use super::Metric;
use super::slots::text_bytes;

/// Slots whose scores are summed up at a time: they fit into a core's own cache.
const BLOCK: usize = 1 << 14;
/// Slots of removed records that are never worth rebuilding for.
const FEW: usize = 1024;

/// Which ids may be found; `None` is all.
pub(super) type Filter<'a> = Option<&'a (dyn Fn(&RecordId) -> bool + Sync)>;

/// Records by the keys that they have.
struct Inverted<K: Copy + Eq + Hash + Zeroize> {
    lists: HashMap<K, List>,
    /// By slot.
    rows: Vec<Option<Row<K>>>,
    /// The sum of the values of each slot.
    sums: Vec<f32>,
    slots: HashMap<RecordId, u32>,
    /// Entries of all lists.
    entries: usize,
    /// Of ids, once.
    text_bytes: usize,
}

/// Who has a key.
#[derive(Default)]
struct List {
    /// Ascending by slot.
    entries: Vec<Entry>,
    /// How many of them are of records that are there.
    live: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    slot: u32,
    value: f32,
}

/// What a record has, by ascending key or as it came.
struct Row<K: Zeroize> {
    id: RecordId,
    keys: Box<[K]>,
    values: Box<[f32]>,
}

impl<K: Copy + Eq + Hash + Zeroize + Send + Sync> Inverted<K> {
    fn new() -> Self {
        Self {
            lists: HashMap::new(),
            rows: Vec::new(),
            sums: Vec::new(),
            slots: HashMap::new(),
            entries: 0,
            text_bytes: 0,
        }
    }

    /// How many records there are.
    fn len(&self) -> usize {
        self.slots.len()
    }

    fn row(&self, id: &RecordId) -> Option<&Row<K>> {
        self.rows.get(*self.slots.get(id)? as usize)?.as_ref()
    }

    /// How many records have `key`.
    fn having(&self, key: &K) -> usize {
        self.lists.get(key).map_or(0, |list| list.live)
    }

    /// Adds a record, or replaces the one with its id. `keys` are there once each.
    fn upsert(&mut self, id: RecordId, keys: Box<[K]>, values: Box<[f32]>) -> Result<()> {
        self.remove(&id);
        let slot = u32::try_from(self.rows.len()).map_err(|_| {
            Error::new(ErrorKind::Unavailable, "the index is full").with_remedy("divide the collection")
        })?;
        self.add_entries(slot, &keys, &values);
        self.sums.push(values.iter().sum());
        self.text_bytes += text_bytes(&id);
        self.rows.push(Some(Row { id: id.clone(), keys, values }));
        self.slots.insert(id, slot);
        Ok(())
    }

    fn add_entries(&mut self, slot: u32, keys: &[K], values: &[f32]) {
        for (key, value) in keys.iter().zip(values) {
            let list = self.lists.entry(*key).or_default();
            list.entries.push(Entry { slot, value: *value });
            list.live += 1;
        }
        self.entries += keys.len();
    }

    /// Takes a record out and erases it; false where there is none.
    fn remove(&mut self, id: &RecordId) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        self.text_bytes -= text_bytes(id);
        let row = self.rows.get_mut(slot as usize).and_then(Option::take);
        if let Some(sum) = self.sums.get_mut(slot as usize) {
            *sum = 0.0;
        }
        for key in row.iter().flat_map(|row| row.keys.iter()) {
            let Some(list) = self.lists.get_mut(key) else { continue };
            list.live -= 1;
            if list.live == 0 {
                self.entries -= list.entries.len();
                self.lists.remove(key);
            } else if let Ok(at) = list.entries.binary_search_by_key(&slot, |entry| entry.slot)
                && let Some(entry) = list.entries.get_mut(at)
            {
                entry.value = 0.0;
            }
        }
        drop(row);
        if self.rows.len() > FEW + 2 * self.slots.len() {
            self.rebuild();
        }
        true
    }

    /// Leaves out what was removed.
    fn rebuild(&mut self) {
        let rows: Vec<_> = std::mem::take(&mut self.rows).into_iter().flatten().collect();
        self.lists.clear();
        self.sums.clear();
        self.entries = 0;
        for (slot, row) in (0_u32..).zip(rows) {
            self.add_entries(slot, &row.keys, &row.values);
            self.sums.push(row.values.iter().sum());
            if let Some(known) = self.slots.get_mut(&row.id) {
                *known = slot;
            }
            self.rows.push(Some(row));
        }
    }

    /// Resident bytes; those of tables are an estimate.
    fn bytes(&self) -> usize {
        let row = size_of::<K>() + size_of::<f32>();
        let tables = self.slots.capacity() * (size_of::<(RecordId, u32)>() + 2)
            + self.lists.capacity() * (size_of::<(K, List)>() + 2);
        let slots = self.rows.capacity() * size_of::<Option<Row<K>>>() + self.sums.capacity() * size_of::<f32>();
        // Lists grow by doubling: a third of what they have is unused on average.
        tables + slots + 2 * self.text_bytes + self.entries * (size_of::<Entry>() * 4 / 3 + row)
    }

    /// The `k` best of the records that have any of `terms` and pass `filter`, best first, ties by ascending id.
    ///
    /// The score is the sum over the terms, in their order, of the term's weight times what `merit` makes of the
    /// record's value and the sum of its values.
    fn search(
        &self,
        terms: &[(K, f64)],
        k: usize,
        merit: impl Fn(f32, f32) -> f64 + Sync,
        filter: Filter<'_>,
    ) -> Vec<(&RecordId, f64)> {
        let k = k.min(self.len());
        let lists: Vec<(&[Entry], f64)> =
            terms.iter().filter_map(|(key, weight)| Some((self.lists.get(key)?.entries.as_slice(), *weight))).collect();
        if k == 0 || lists.is_empty() {
            return Vec::new();
        }
        let block = |block: usize| self.search_block(block * BLOCK, &lists, k, &merit, filter);
        let blocks = self.rows.len().div_ceil(BLOCK);
        let best = if blocks == 1 {
            block(0)
        } else {
            (0..blocks).into_par_iter().map(block).reduce(|| Best::new(k), Best::merge)
        };
        best.into_sorted()
    }

    fn search_block(
        &self,
        base: usize,
        lists: &[(&[Entry], f64)],
        k: usize,
        merit: &(impl Fn(f32, f32) -> f64 + Sync),
        filter: Filter<'_>,
    ) -> Best<'_> {
        let end = self.rows.len().min(base + BLOCK);
        let mut best = Best::new(k);
        let mut scores: Vec<Option<f64>> = Vec::new();
        for (entries, weight) in lists {
            let from = entries.partition_point(|entry| (entry.slot as usize) < base);
            let through = entries.partition_point(|entry| (entry.slot as usize) < end);
            let here = entries.get(from..through).unwrap_or_default();
            if !here.is_empty() && scores.is_empty() {
                scores.resize(end - base, None);
            }
            for entry in here {
                let slot = entry.slot as usize;
                let sum = self.sums.get(slot).copied().unwrap_or_default();
                if let Some(score) = scores.get_mut(slot - base) {
                    *score = Some(score.unwrap_or(0.0) + weight * merit(entry.value, sum));
                }
            }
        }
        for (score, row) in scores.iter().zip(self.rows.get(base..end).unwrap_or_default()) {
            // What was removed has entries still.
            if let (Some(score), Some(row)) = (score, row) {
                best.offer(&row.id, *score, filter);
            }
        }
        best
    }

    /// The `k` best of all records that pass `filter` by what `score` makes of each one's keys and values.
    fn scan(&self, k: usize, score: impl Fn(&[K], &[f32]) -> f64 + Sync, filter: Filter<'_>) -> Vec<(&RecordId, f64)> {
        let k = k.min(self.len());
        if k == 0 {
            return Vec::new();
        }
        let block = |rows: &'_ [Option<Row<K>>]| -> Vec<(usize, f64)> {
            let scored = rows.iter().enumerate().filter_map(|(at, row)| {
                let row = row.as_ref()?;
                Some((at, score(&row.keys, &row.values)))
            });
            scored.collect()
        };
        let scored: Vec<Vec<(usize, f64)>> = self.rows.par_chunks(BLOCK).map(block).collect();
        let mut best = Best::new(k);
        for (rows, scored) in self.rows.chunks(BLOCK).zip(&scored) {
            for (at, score) in scored {
                if let Some(Some(row)) = rows.get(*at) {
                    best.offer(&row.id, *score, filter);
                }
            }
        }
        best.into_sorted()
    }
}

impl<K: Zeroize> Drop for Row<K> {
    fn drop(&mut self) {
        self.keys.zeroize();
        self.values.zeroize();
    }
}

impl Drop for List {
    fn drop(&mut self) {
        for entry in &mut self.entries {
            entry.slot.zeroize();
            entry.value.zeroize();
        }
    }
}

/// The best so far, higher scores first.
pub(super) struct Best<'a> {
    k: usize,
    heap: BinaryHeap<Ranked<'a>>,
}

/// Greater is worse, so that a heap shows the worst first.
struct Ranked<'a> {
    score: f64,
    id: &'a RecordId,
}

impl<'a> Best<'a> {
    pub(super) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// Takes a record in if it is among the best that pass `filter`, which is asked only then.
    pub(super) fn offer(&mut self, id: &'a RecordId, score: f64, filter: Filter<'_>) {
        let ranked = Ranked { score, id };
        let full = self.heap.len() >= self.k;
        if full && self.heap.peek().is_none_or(|worst| ranked >= *worst) || !filter.is_none_or(|pass| pass(id)) {
            return;
        }
        if full {
            self.heap.pop();
        }
        self.heap.push(ranked);
    }

    fn merge(mut self, other: Self) -> Self {
        // They have passed.
        other.heap.into_iter().for_each(|ranked| self.offer(ranked.id, ranked.score, None));
        self
    }

    pub(super) fn into_sorted(self) -> Vec<(&'a RecordId, f64)> {
        self.heap.into_sorted_vec().into_iter().map(|ranked| (ranked.id, ranked.score)).collect()
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        Metric::Dot.best_first(self.score, other.score).then_with(|| self.id.cmp(other.id))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}
