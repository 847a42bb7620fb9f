//! The search graph of an index, with what it lacks: vectors that were written since, which a search looks at one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::vectors::resident::graph::{Graph, Near, Space};
use crate::vectors::resident::quantize::{self, Query};
use crate::vectors::resident::table::Table;
use crate::vectors::slots::Slot;

/// So many vectors are candidates of a search: by that, and by alpha and degree, is decided what it misses.
const LIST: usize = 128;
/// And so many for each result that is wanted.
const LIST_FOR_EACH: usize = 8;
/// A graph is used where it lacks no more than one in so many of the vectors.
const LACKING: u64 = 16;
/// And made anew when so many have been taken out of it, which leave gaps: one in so many.
const WORN: usize = 8;

/// What slots link to.
pub type SlotLinks = BTreeMap<Slot, Vec<Slot>>;

/// A graph, and what it lacks.
pub(super) struct Linked {
    graph: Graph,
    /// Slots whose vectors it lacks. Who links takes them out when they are linked, so that a search that asks for these
    /// first misses none.
    waiting: Mutex<RoaringBitmap>,
    /// Vectors that were taken out since it was begun.
    gone: usize,
    /// Slots that were linked or taken out since it was written.
    changed: AtomicUsize,
}

impl Linked {
    /// An empty graph of the vectors of `table`, all of which wait.
    pub fn begin(table: &Table) -> Result<Self> {
        Self::of(table, &SlotLinks::new())
    }

    /// The graph with `links`, without what the table does not have. What is not in it waits.
    pub fn of(table: &Table, links: &SlotLinks) -> Result<Self> {
        let mut graph = Graph::new()?;
        graph.reserve(table.slots_end());
        graph.import(links.iter().filter(|(slot, _)| table.row(**slot).is_some()))?;
        let waiting = table.slots.iter().copied().filter(|slot| !graph.contains(*slot)).collect();
        Ok(Self { graph, waiting: Mutex::new(waiting), gone: 0, changed: AtomicUsize::new(0) })
    }

    /// The vector of `slot` is another now, or a first one.
    pub fn came(&mut self, slot: Slot) {
        self.graph.reserve(slot as usize + 1);
        self.left(slot);
        self.waiting.get_mut().insert(slot);
    }

    /// The vector of `slot` is gone.
    pub fn left(&mut self, slot: Slot) {
        self.waiting.get_mut().remove(slot);
        if self.graph.forget(slot) {
            self.gone += 1;
            *self.changed.get_mut() += 1;
        }
    }

    /// Links up to `most` of those that wait, on rayon's threads, and returns how many.
    pub fn link(&self, table: &Arc<Table>, most: usize) -> Result<usize> {
        let some: RoaringBitmap = self.waiting.lock().iter().take(most).collect();
        let slots: Vec<Slot> = some.iter().collect();
        self.graph.build(table, &slots)?;
        *self.waiting.lock() -= some;
        self.changed.fetch_add(slots.len(), Ordering::Relaxed);
        Ok(slots.len())
    }

    /// Whether it lacks any of the vectors.
    pub fn is_lacking(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Whether it has enough of the vectors to be asked.
    pub fn is_ready(&self) -> bool {
        let (linked, waiting) = (self.graph.len() as u64, self.waiting.lock().len());
        waiting <= (linked + waiting) / LACKING
    }

    /// Whether it is better made anew.
    pub fn is_worn(&self) -> bool {
        self.gone > self.graph.len() / WORN
    }

    /// The slots of what may be nearest to `query`, for the best `k`.
    pub fn near(&self, table: &Table, query: &Query<'_>, k: usize) -> Result<Vec<Slot>> {
        // Before the graph is asked: what is linked in between is in either.
        let mut near: Vec<Slot> = self.waiting.lock().iter().collect();
        let list = LIST.max(k.saturating_mul(LIST_FOR_EACH));
        near.extend(self.graph.search(&FromQuery { table, query }, list)?);
        near.sort_unstable();
        near.dedup();
        Ok(near)
    }

    /// How many vectors are linked.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.graph.bytes() + self.waiting.lock().serialized_size()
    }

    /// How many slots have changed since it was written.
    pub fn changed(&self) -> usize {
        self.changed.load(Ordering::Relaxed)
    }

    /// So many of the changes are written now.
    pub fn saved(&self, changed: usize) {
        let _ =
            self.changed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(changed)));
    }

    /// Bytes that the links of `slots` slots will take.
    pub fn bytes_of(slots: usize) -> usize {
        Graph::bytes_of(slots)
    }

    /// What the slots from `from` to before `end` link to.
    pub fn links(&self, from: usize, end: usize) -> impl Iterator<Item = (Slot, Vec<Slot>)> + '_ {
        self.graph.export(from, end)
    }
}

/// Distances from a query, by its code.
struct FromQuery<'a> {
    table: &'a Table,
    query: &'a Query<'a>,
}

impl Near for FromQuery<'_> {
    fn to(&self, slot: Slot) -> f32 {
        let Some((block, row)) = self.table.locate(slot) else { return f32::MAX };
        self.query.distance(block.codes(row, 1), block.scale(row)).max(0.0) as f32
    }
}

impl Space for Table {
    fn between(&self, a: Slot, b: Slot) -> f32 {
        let (Some((block_a, a)), Some((block_b, b))) = (self.locate(a), self.locate(b)) else { return f32::MAX };
        let mut dot = [0.0];
        quantize::code_dots(block_a.codes(a, 1), block_b.codes(b, 1), &mut dot);
        let [dot] = dot;
        (1.0 - dot * block_a.scale(a) * block_b.scale(b)).max(0.0) as f32
    }
}
