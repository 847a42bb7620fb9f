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
mod shape;
mod sieve;
#[cfg(test)]
mod tests;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::locked::LockPolicy;
use crate::vectors::metric::Metric;
use crate::vectors::slots::{Slot, Slots};
use block::Block;

pub use budget::{BudgetTotals, Evict, Lease, ResidentBudget};
pub use keep::Keep;
pub use prepared::Prepared;
pub use shape::Shape;

/// Rows of a block where nothing else is asked for: the fewest, and the most.
const BLOCK_ROWS: (usize, usize) = (64, 8192);
/// From so many rows on the first pass reads signs, unless told otherwise.
const SIGNS_FROM: usize = 4096;
/// Of a slot that has no row.
const NO_ROW: u32 = u32::MAX;

/// What a first pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The codes: cannot miss.
    Codes,
    /// The signs, and the codes of whatever may be among the best, but for odds of one in thousands.
    Odds,
    /// The signs, of which some hundreds are left: misses one of the best now and then.
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
    /// Who is in which slot.
    pub records: &'a Slots,
    /// Which may be found; `None` is all.
    pub filter: Option<&'a (dyn Fn(Slot) -> bool + Sync)>,
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
/// copied or serialized.
pub struct Resident {
    shape: Shape,
    policy: LockPolicy,
    keep: Keep,
    /// Rows that the next block should have at least.
    wanted: usize,
    blocks: Vec<Block>,
    /// The slot of each row; rows are dense, so their number is this length.
    slots: Vec<Slot>,
    /// The row of each slot.
    rows: Vec<u32>,
}

impl Resident {
    /// An empty index of vectors of `shape`. Takes no locked memory before the first vector.
    pub fn new(shape: Shape, policy: LockPolicy) -> Self {
        Self::keeping(Keep::Vectors, shape, policy)
    }

    /// The same that keeps less than the vectors.
    pub fn keeping(keep: Keep, shape: Shape, policy: LockPolicy) -> Self {
        Self { shape, policy, keep, wanted: 0, blocks: Vec::new(), slots: Vec::new(), rows: Vec::new() }
    }

    /// What it keeps of each vector.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// What its vectors have in common.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Says that `additional` more vectors are to come, so that the next block has exactly the rows they need.
    pub fn reserve(&mut self, additional: usize) {
        self.wanted = additional.saturating_sub(self.capacity() - self.slots.len());
    }

    /// Adds a vector, or replaces the one that `slot` has. On an error nothing has changed.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`]; [`crate::ErrorKind::Unavailable`] where
    /// there is no memory, or none that can be locked under [`LockPolicy::Require`].
    pub fn upsert(&mut self, slot: Slot, vector: &[f32]) -> Result<()> {
        let prepared = self.shape.prepare(vector);
        self.insert(slot, &prepared?)
    }

    /// As [`Resident::upsert`], with what takes longest done before, by the [`Shape`] of this index.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] for a vector of another dimension; [`crate::ErrorKind::Unavailable`] as
    /// [`Resident::upsert`].
    pub fn insert(&mut self, slot: Slot, vector: &Prepared<'_>) -> Result<()> {
        if vector.values().len() != self.shape.dimension {
            return Err(Error::invalid(format!("the vector does not have {} dimensions", self.shape.dimension)));
        }
        let known = self.row(slot);
        let row = known.unwrap_or(self.slots.len());
        let number = u32::try_from(row).ok().filter(|row| *row != NO_ROW).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the index is full").with_remedy("divide the collection")
        })?;
        if row == self.capacity() {
            self.grow()?;
        }
        if let Some(block) = scan::position(&self.blocks, row).and_then(|i| self.blocks.get_mut(i)) {
            block.write(row - block.base, vector);
        }
        if known.is_none() {
            let at = slot as usize;
            if self.rows.len() <= at {
                self.rows.resize(at + 1, NO_ROW);
            }
            if let Some(place) = self.rows.get_mut(at) {
                *place = number;
            }
            self.slots.push(slot);
        }
        Ok(())
    }

    /// Takes a vector out and erases it; false where `slot` has none. The last row moves into the gap.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let Some(number) = self.rows.get(slot as usize).copied().filter(|row| *row != NO_ROW) else { return false };
        let row = number as usize;
        self.slots.swap_remove(row);
        let last = self.slots.len();
        if let Some(place) = self.rows.get_mut(slot as usize) {
            *place = NO_ROW;
        }
        if let Some(moved) = self.slots.get(row).copied()
            && let Some(place) = self.rows.get_mut(moved as usize)
        {
            *place = number;
        }
        self.move_row(last, row);
        self.shrink();
        true
    }

    fn row(&self, slot: Slot) -> Option<usize> {
        self.rows.get(slot as usize).filter(|row| **row != NO_ROW).map(|row| *row as usize)
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The number of values of each vector.
    pub fn dimension(&self) -> usize {
        self.shape.dimension
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.shape.metric
    }

    /// Resident bytes.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        let numbers = self.slots.capacity() * size_of::<Slot>() + self.rows.capacity() * size_of::<u32>();
        size_of::<Self>() + blocks + numbers
    }

    /// Whether every vector is in locked memory.
    pub fn is_locked(&self) -> bool {
        self.blocks.iter().all(Block::is_locked)
    }

    /// Whether `slot` has a vector.
    pub fn contains(&self, slot: Slot) -> bool {
        self.row(slot).is_some()
    }

    /// The vector of `slot`, if it has one and vectors are kept.
    pub(crate) fn vector(&self, slot: Slot) -> Option<&[f32]> {
        if self.keep != Keep::Vectors {
            return None;
        }
        let (block, row) = scan::locate(&self.blocks, self.row(slot)?)?;
        Some(block.vector(row))
    }

    /// The records nearest to a vector: best first, ties by ascending id. Exactly those that [`Metric::score_f64`] ranks
    /// first over the whole collection, but for what the [`Pass`] misses.
    ///
    /// The filter is called only for records that may be among the results. Large collections are searched on rayon's
    /// threads.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`], and whatever the source fails with.
    pub fn answer(&self, question: &Question<'_>) -> Result<Vec<Hit>> {
        let query = quantize::prepare(&self.shape, question.vector)?;
        let pass = self.pass(question.pass);
        let source = self.source(question)?;
        let rows = self.scan(question.records);
        let hits = rows.search(&query, question.k, question.filter, pass, source)?;
        Ok(hits.into_iter().map(|(id, score)| Hit { id: id.clone(), score: score as f32 }).collect())
    }

    /// As [`Resident::answer`] among the records in `slots`, looking at these only; it always misses nothing. Slots without
    /// a vector are passed over.
    ///
    /// # Errors
    ///
    /// As [`Resident::answer`].
    pub fn answer_among(&self, question: &Question<'_>, slots: impl IntoIterator<Item = Slot>) -> Result<Vec<Hit>> {
        let query = quantize::prepare(&self.shape, question.vector)?;
        let source = self.source(question)?;
        let passing = slots.into_iter().filter(|slot| question.filter.is_none_or(|passes| passes(*slot)));
        let among = passing.filter_map(|slot| self.row(slot)).collect();
        let rows = self.scan(question.records);
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

    fn pass(&self, asked: Option<Pass>) -> Pass {
        match (self.keep, asked) {
            (Keep::Signs, Some(Pass::Codes)) => Pass::All,
            (Keep::Signs, None | Some(Pass::Odds)) => Pass::Signs,
            (_, Some(pass)) => pass,
            (_, None) if self.slots.len() < SIGNS_FROM => Pass::Codes,
            (_, None) => Pass::Odds,
        }
    }

    fn scan<'a>(&'a self, records: &'a Slots) -> scan::Rows<'a> {
        scan::Rows { metric: self.shape.metric, blocks: &self.blocks, slots: &self.slots, records }
    }

    fn capacity(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.base + block.capacity)
    }

    fn grow(&mut self) -> Result<()> {
        let total = self.capacity();
        let (fewest, most) = BLOCK_ROWS;
        let rows = if self.wanted > 0 { self.wanted } else { total.clamp(fewest, most) };
        self.blocks.push(Block::new(total, rows, self.shape.dimension, self.keep, self.policy)?);
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
            && self.slots.len() <= before.last().map_or(0, |block| block.base + block.capacity / 2)
        {
            debug_assert!(self.slots.len() <= last.base, "the last block is empty");
            self.blocks.pop();
        }
    }
}
