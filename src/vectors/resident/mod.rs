//! The resident index: exact nearest-neighbour search over vectors held in trusted memory.
//!
//! Rows lie dense in blocks of [locked memory](crate::locked). A search reads one byte per value (the *first pass*),
//! which bounds every score from both sides, and then scores exactly those rows whose bound reaches the k-th best. The
//! result is that of comparing with every vector in `f64`, by construction; there is no recall to tune.
//!
//! Where that would take too long the first pass reads one bit per value and leaves some hundreds, and now and then one of
//! the best is missed; [`crate::manual::search`] says from where on, and how it was measured. Where memory is short an
//! index [keeps](Keep) less than the vectors, and the second pass reads them from where they are sealed.

mod block;
mod budget;
mod keep;
mod prepared;
mod quantize;
mod rough;
mod scan;
mod sieve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::locked::LockPolicy;
use crate::vectors::metric::{self, Metric};
use block::Block;

pub use budget::{BudgetTotals, Evict, Lease, ResidentBudget};
pub use keep::Keep;
pub use prepared::Prepared;

/// Rows of a block where nothing else is asked for: the fewest, and the most.
const BLOCK_ROWS: (usize, usize) = (64, 8192);

/// From so many values on the first pass reads signs, unless told otherwise: 350 000 vectors of 384. One core reads as many
/// codes in about 4 milliseconds.
const SIGNS_FROM_VALUES: usize = 128 << 20;
/// Vectors that are searched for to see whether signs can be trusted in this collection, and how many of their nearest the
/// signs must leave, of which half as many rows as of a question.
const PROBES: usize = 32;
const PROBE_K: usize = 10;
const TRUSTED_RECALL: f64 = 0.99;

/// What a first pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The codes: cannot miss.
    Codes,
    /// The signs: misses one of the best now and then.
    Signs,
    /// Nothing: every vector is scored.
    All,
}

/// Gives exact vectors for the ids that it is asked for, in their order; `None` for one that is gone.
pub type Source<'a> = &'a dyn Fn(&[&RecordId]) -> Result<Vec<Option<Zeroizing<Vec<f32>>>>>;

/// What to look for.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The query.
    pub vector: &'a [f32],
    /// How many results at most.
    pub k: usize,
    /// Which ids may be found; `None` is all.
    pub filter: Option<&'a (dyn Fn(&RecordId) -> bool + Sync)>,
    /// What the first pass reads; `None` leaves that to the index.
    pub pass: Option<Pass>,
    /// Where vectors are that the index does not keep.
    pub source: Option<Source<'a>>,
}

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
    keep: Keep,
    /// From how many values on they are used.
    signs_from: usize,
    /// Whether signs have been seen to miss next to nothing here.
    signs_trusted: bool,
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
        Self::keeping(Keep::Vectors, dimension, metric, policy)
    }

    /// The same that keeps less than the vectors.
    ///
    /// # Errors
    ///
    /// As [`Resident::new`].
    pub fn keeping(keep: Keep, dimension: usize, metric: Metric, policy: LockPolicy) -> Result<Self> {
        metric::validate_dimension(dimension)?;
        Ok(Self {
            dimension,
            metric,
            policy,
            keep,
            signs_from: SIGNS_FROM_VALUES,
            signs_trusted: keep == Keep::Signs,
            wanted: 0,
            blocks: Vec::new(),
            ids: Vec::new(),
            rows: HashMap::new(),
            text_bytes: 0,
        })
    }

    /// What it keeps of each vector.
    pub fn keep(&self) -> Keep {
        self.keep
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
        let prepared = self.metric.validate(vector, self.dimension);
        self.insert(id, &Prepared::new(self.metric, vector, prepared?))
    }

    /// Computes what an index with this dimension and metric keeps of `vector`, for [`Resident::insert`].
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`].
    pub fn prepare(dimension: usize, metric: Metric, vector: &[f32]) -> Result<Prepared<'_>> {
        Ok(Prepared::new(metric, vector, metric.validate(vector, dimension)?))
    }

    /// As [`Resident::upsert`], with what takes longest done before.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] for a vector of another dimension; [`crate::ErrorKind::Unavailable`] as
    /// [`Resident::upsert`].
    pub fn insert(&mut self, id: RecordId, vector: &Prepared<'_>) -> Result<()> {
        if vector.values().len() != self.dimension {
            return Err(Error::invalid(format!("the vector does not have {} dimensions", self.dimension)));
        }
        let known = self.rows.get(&id).copied();
        let row = known.unwrap_or(self.ids.len());
        if row == self.capacity() {
            self.grow()?;
        }
        if let Some(block) = scan::position(&self.blocks, row).and_then(|i| self.blocks.get_mut(i)) {
            block.write(row - block.base, vector);
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

    /// The vector of `id`, if it has one and vectors are kept.
    pub(crate) fn vector(&self, id: &RecordId) -> Option<&[f32]> {
        if self.keep != Keep::Vectors {
            return None;
        }
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
        self.answer(&Question { vector: query, k, filter, pass: None, source: None })
    }

    /// The same, as `question` says: with other passes, or without vectors of its own. It is exact unless the pass is
    /// [`Pass::Signs`], which is chosen from some size on where it has been seen to find next to everything.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`], and whatever the source fails with.
    pub fn answer(&self, question: &Question<'_>) -> Result<Vec<Hit>> {
        let query = quantize::prepare(self.metric, self.dimension, question.vector)?;
        let pass = self.pass(question.pass);
        let source = self.source(question)?;
        let rows = self.rows();
        let hits = rows.search(&query, question.k, question.filter, pass, source)?;
        Ok(hits.into_iter().map(|(id, score)| Hit { id: id.clone(), score: score as f32 }).collect())
    }

    /// As [`Resident::answer`] among `ids`, looking at these only; it always misses nothing. Ids without a vector are passed
    /// over.
    ///
    /// # Errors
    ///
    /// As [`Resident::answer`].
    pub fn answer_among<'a>(
        &self,
        question: &Question<'_>,
        ids: impl IntoIterator<Item = &'a RecordId>,
    ) -> Result<Vec<Hit>> {
        let query = quantize::prepare(self.metric, self.dimension, question.vector)?;
        let source = self.source(question)?;
        let passing = ids.into_iter().filter(|id| question.filter.is_none_or(|passes| passes(id)));
        let among = passing.filter_map(|id| self.rows.get(id)).copied().collect();
        let rows = self.rows();
        let hits = rows.search_among(&query, question.k, among, source)?;
        Ok(hits.into_iter().map(|(id, score)| Hit { id: id.clone(), score: score as f32 }).collect())
    }

    /// Where the vectors come from that are not kept.
    fn source<'a>(&self, question: &Question<'a>) -> Result<Option<Source<'a>>> {
        match (self.keep, question.source) {
            (Keep::Vectors, _) => Ok(None),
            (_, Some(source)) => Ok(Some(source)),
            (_, None) => Err(Error::internal("an index without vectors was searched without a source")),
        }
    }

    /// Looks whether signs can be trusted here, if the index is so large that they would be used. Until then they are not.
    pub fn calibrate(&mut self) {
        if self.keep == Keep::Signs || !self.is_large() {
            return;
        }
        self.signs_trusted = self.recall_of_signs() >= TRUSTED_RECALL;
        if !self.signs_trusted {
            tracing::warn!(vectors = self.ids.len(), "signs say too little of these vectors: searches read the codes");
        }
    }

    /// The share of the nearest of some of its own vectors that the signs leave.
    fn recall_of_signs(&self) -> f64 {
        let rows = self.rows();
        let (mut left, mut all) = (0, 0);
        for at in (0..self.ids.len()).step_by(self.ids.len().div_ceil(PROBES).max(1)) {
            let probe = self.restored(at);
            let Ok(query) = quantize::prepare(self.metric, self.dimension, &probe) else { continue };
            // It finds itself, which says nothing.
            let nearest = rows.by_codes(&query, PROBE_K + 1);
            let by_signs = rows.by_signs(&query, scan::left_by_signs(PROBE_K) / 2, None);
            let others = nearest.iter().filter(|row| **row != at);
            all += others.clone().count();
            left += others.filter(|row| by_signs.contains(row)).count();
        }
        left as f64 / f64::from(u32::try_from(all).unwrap_or(u32::MAX).max(1))
    }

    /// A vector by its code.
    fn restored(&self, row: usize) -> Zeroizing<Vec<f32>> {
        let Some((block, row)) = scan::locate(&self.blocks, row) else { return Zeroizing::default() };
        let scale = block.bounds(row, 1).scale.first().map_or(0.0, |scale| *scale as f32);
        Zeroizing::new(block.codes(row, 1).iter().take(self.dimension).map(|c| f32::from(*c) * scale).collect())
    }

    fn pass(&self, asked: Option<Pass>) -> Pass {
        match (self.keep, asked) {
            (Keep::Signs, Some(Pass::Codes)) => Pass::All,
            (Keep::Signs, None) => Pass::Signs,
            (_, Some(pass)) => pass,
            (_, None) if self.signs_trusted && self.is_large() => Pass::Signs,
            (_, None) => Pass::Codes,
        }
    }

    /// Whether reading codes takes too long here.
    fn is_large(&self) -> bool {
        self.ids.len().saturating_mul(self.dimension) >= self.signs_from
    }

    fn rows(&self) -> scan::Rows<'_> {
        scan::Rows { metric: self.metric, blocks: &self.blocks, ids: &self.ids }
    }

    fn capacity(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.base + block.capacity)
    }

    fn grow(&mut self) -> Result<()> {
        let total = self.capacity();
        let (fewest, most) = BLOCK_ROWS;
        let rows = if self.wanted > 0 { self.wanted } else { total.clamp(fewest, most) };
        self.blocks.push(Block::new(total, rows, self.dimension, self.keep, self.policy)?);
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

/// Bytes that an id has besides itself.
pub(super) fn text_bytes(id: &RecordId) -> usize {
    match id {
        RecordId::Number(_) | RecordId::Uuid(_) => 0,
        RecordId::Text(text) => text.len(),
    }
}
