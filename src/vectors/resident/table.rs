//! The rows of an index: dense over blocks of locked memory, and found by slots.

use crate::error::{Error, ErrorKind, Result};
use crate::locked::LockPolicy;
use crate::vectors::resident::block::Block;
use crate::vectors::resident::keep::Keep;
use crate::vectors::resident::prepared::Prepared;
use crate::vectors::resident::scan;
use crate::vectors::resident::shape::Shape;
use crate::vectors::slots::{Slot, Slots};

/// Rows of a block where nothing else is asked for: the fewest, and the most.
const BLOCK_ROWS: (usize, usize) = (64, 8192);
/// Of a slot that has no row.
const NO_ROW: u32 = u32::MAX;

/// A row for each slot that has a vector. Zeroized on drop.
pub(super) struct Table {
    pub shape: Shape,
    policy: LockPolicy,
    pub keep: Keep,
    /// Rows that the next block should have at least.
    wanted: usize,
    pub blocks: Vec<Block>,
    /// The slot of each row; rows are dense, so their number is this length.
    pub slots: Vec<Slot>,
    /// The row of each slot.
    rows: Vec<u32>,
}

impl Table {
    pub fn new(keep: Keep, shape: Shape, policy: LockPolicy) -> Self {
        Self { shape, policy, keep, wanted: 0, blocks: Vec::new(), slots: Vec::new(), rows: Vec::new() }
    }

    /// Says that `additional` more vectors are to come, so that the next block has exactly the rows they need.
    pub fn reserve(&mut self, additional: usize) {
        self.wanted = additional.saturating_sub(self.capacity() - self.slots.len());
    }

    /// Adds a vector, or replaces the one that `slot` has. On an error nothing has changed.
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

    /// The row of `slot`.
    pub fn row(&self, slot: Slot) -> Option<usize> {
        self.rows.get(slot as usize).filter(|row| **row != NO_ROW).map(|row| *row as usize)
    }

    /// The block that has the row of `slot`, and which it is there.
    pub fn locate(&self, slot: Slot) -> Option<(&Block, usize)> {
        scan::locate(&self.blocks, self.row(slot)?)
    }

    /// All slots are below this one.
    pub fn slots_end(&self) -> usize {
        self.rows.len()
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Resident bytes.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        let numbers = self.slots.capacity() * size_of::<Slot>() + self.rows.capacity() * size_of::<u32>();
        blocks + numbers
    }

    /// Whether every vector is in locked memory.
    pub fn is_locked(&self) -> bool {
        self.blocks.iter().all(Block::is_locked)
    }

    /// The vector of `slot`, if it has one and vectors are kept.
    pub fn vector(&self, slot: Slot) -> Option<&[f32]> {
        if self.keep != Keep::Vectors {
            return None;
        }
        let (block, row) = self.locate(slot)?;
        Some(block.vector(row))
    }

    /// All rows, to be looked through.
    pub fn scan<'a>(&'a self, records: &'a Slots) -> scan::Rows<'a> {
        scan::Rows { metric: self.shape.metric, blocks: &self.blocks, slots: &self.slots, records }
    }

    pub fn capacity(&self) -> usize {
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
