//! The resident index: exact nearest-neighbour search over vectors held in trusted memory.
//!
//! Rows lie dense in blocks of [locked memory](crate::locked). A search reads one byte per value (the *first pass*),
//! which bounds every score from both sides, and then scores exactly those rows whose bound reaches the k-th best. The
//! result is that of comparing with every vector in `f64`, by construction; there is no recall to tune.

mod block;
mod quantize;
mod scan;
mod sieve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::error::Result;
use crate::id::RecordId;
use crate::locked::LockPolicy;
use crate::vectors::metric::{self, Metric};
use block::Block;

/// Rows of a block where nothing else is asked for: the fewest, and the most.
const BLOCK_ROWS: (usize, usize) = (64, 8192);

/// One result of a search.
#[derive(Clone, PartialEq)]
pub struct Hit {
    /// The record.
    pub id: RecordId,
    /// Its score, as [`Metric::score`] gives it.
    pub score: f32,
}

/// The vectors of one collection, searchable. Holds plaintext embeddings: it is zeroized on drop and cannot be printed,
/// copied or serialized. Ids are kept in ordinary memory.
pub struct Resident {
    dimension: usize,
    metric: Metric,
    policy: LockPolicy,
    /// Rows that the next block should have at least.
    wanted: usize,
    blocks: Vec<Block>,
    /// The id of each row; rows are dense, so their number is this length.
    ids: Vec<RecordId>,
    rows: HashMap<RecordId, usize>,
    /// Heap bytes of the textual ids, counted once.
    text_bytes: usize,
}

impl Resident {
    /// An empty index of vectors of `dimension` values. Takes no locked memory before the first vector.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] for an impossible dimension.
    pub fn new(dimension: usize, metric: Metric, policy: LockPolicy) -> Result<Self> {
        metric::validate_dimension(dimension)?;
        let (blocks, ids, rows) = (Vec::new(), Vec::new(), HashMap::new());
        Ok(Self { dimension, metric, policy, wanted: 0, blocks, ids, rows, text_bytes: 0 })
    }

    /// Says that `additional` more vectors are to come, so that the next block has exactly the rows they need.
    pub fn reserve(&mut self, additional: usize) {
        self.wanted = additional.saturating_sub(self.capacity() - self.ids.len());
    }

    /// Adds a vector, or replaces the one that `id` has. On an error nothing has changed.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`]; [`crate::ErrorKind::Unavailable`] where
    /// there is no memory, or none that can be locked under [`LockPolicy::Require`].
    pub fn upsert(&mut self, id: RecordId, vector: &[f32]) -> Result<()> {
        let squared = self.metric.validate(vector, self.dimension)?;
        let known = self.rows.get(&id).copied();
        let row = known.unwrap_or(self.ids.len());
        if row == self.capacity() {
            self.grow()?;
        }
        if let Some(block) = scan::position(&self.blocks, row).and_then(|i| self.blocks.get_mut(i)) {
            block.write(row - block.base, self.metric, vector, squared);
        }
        if known.is_none() {
            self.text_bytes += text_bytes(&id);
            self.ids.push(id.clone());
            self.rows.insert(id, row);
        }
        Ok(())
    }

    /// Takes a vector out and erases it; false where `id` has none. The last row moves into the gap.
    pub fn remove(&mut self, id: &RecordId) -> bool {
        let Some(row) = self.rows.remove(id) else { return false };
        self.text_bytes -= text_bytes(id);
        self.ids.swap_remove(row);
        let last = self.ids.len();
        if let Some(moved) = self.ids.get(row).and_then(|id| self.rows.get_mut(id)) {
            *moved = row;
        }
        self.move_row(last, row);
        self.shrink();
        true
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The number of values of each vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Resident bytes, ids included; those of the id table are an estimate.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        let ids = self.ids.capacity() * size_of::<RecordId>();
        // A hash table keeps an eighth of its slots free and a control byte for each.
        let table = self.rows.capacity() * 8 / 7 * (size_of::<(RecordId, usize)>() + 1);
        size_of::<Self>() + blocks + ids + table + 2 * self.text_bytes
    }

    /// Whether every vector is in locked memory.
    pub fn is_locked(&self) -> bool {
        self.blocks.iter().all(Block::is_locked)
    }

    /// Whether `id` has a vector.
    pub fn contains(&self, id: &RecordId) -> bool {
        self.rows.contains_key(id)
    }

    /// The vector of `id`, if it has one.
    pub(crate) fn vector(&self, id: &RecordId) -> Option<&[f32]> {
        let (block, row) = scan::locate(&self.blocks, *self.rows.get(id)?)?;
        Some(block.vector(row))
    }

    /// Every id, in no particular order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &RecordId> {
        self.ids.iter()
    }

    /// The `k` records nearest to `query` among those that pass `filter`: best first, ties by ascending id. Exactly
    /// those that [`Metric::score_f64`] ranks first over the whole collection.
    ///
    /// `filter` is called once at most for a record, and only for records that may be among the results. Large
    /// collections are searched on rayon's threads.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`].
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<Hit>> {
        let query = quantize::prepare(self.metric, self.dimension, query)?;
        let rows = scan::Rows { metric: self.metric, blocks: &self.blocks, ids: &self.ids };
        let hits = rows.search(&query, k, filter);
        Ok(hits.into_iter().map(|(id, score)| Hit { id: id.clone(), score: score as f32 }).collect())
    }

    /// As [`Resident::search`] among `ids`, looking at these only. Ids without a vector are passed over.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`].
    pub fn search_among<'a>(
        &self,
        query: &[f32],
        k: usize,
        ids: impl IntoIterator<Item = &'a RecordId>,
    ) -> Result<Vec<Hit>> {
        let query = quantize::prepare(self.metric, self.dimension, query)?;
        let rows = scan::Rows { metric: self.metric, blocks: &self.blocks, ids: &self.ids };
        let among = ids.into_iter().filter_map(|id| self.rows.get(id)).copied().collect();
        let hits = rows.search_among(&query, k, among);
        Ok(hits.into_iter().map(|(id, score)| Hit { id: id.clone(), score: score as f32 }).collect())
    }

    fn capacity(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.base + block.capacity)
    }

    fn grow(&mut self) -> Result<()> {
        let total = self.capacity();
        let (fewest, most) = BLOCK_ROWS;
        let rows = if self.wanted > 0 { self.wanted } else { total.clamp(fewest, most) };
        self.blocks.push(Block::new(total, rows, self.dimension, self.policy)?);
        self.wanted = 0;
        Ok(())
    }

    /// Moves row `from` to `to`, and erases it there.
    fn move_row(&mut self, from: usize, to: usize) {
        let (Some(source), Some(target)) = (scan::position(&self.blocks, from), scan::position(&self.blocks, to))
        else {
            return;
        };
        if let Ok([target, source]) = self.blocks.get_disjoint_mut([target, source]) {
            target.copy_from(to - target.base, source, from - source.base);
            source.erase(from - source.base);
        } else if let Some(block) = self.blocks.get_mut(source) {
            block.copy_within(to - block.base, from - block.base);
            block.erase(from - block.base);
        }
    }

    /// Gives back the last block when it is empty and the one before it half empty, so that a collection that hovers
    /// around a boundary does not map and lock a block at every other write.
    fn shrink(&mut self) {
        while let Some((last, before)) = self.blocks.split_last()
            && self.ids.len() <= before.last().map_or(0, |block| block.base + block.capacity / 2)
        {
            debug_assert!(self.ids.len() <= last.base, "the last block is empty");
            self.blocks.pop();
        }
    }
}

fn text_bytes(id: &RecordId) -> usize {
    match id {
        RecordId::Number(_) | RecordId::Uuid(_) => 0,
        RecordId::Text(text) => text.len(),
    }
}
