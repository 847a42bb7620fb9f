//! The resident index: nearest-neighbour search over vectors held in trusted memory. Scores are always exact.
//!
//! Rows lie dense in blocks of [locked memory](crate::locked). By [`Pass::Codes`] a search reads one byte per value, which
//! bounds every score from both sides, and then scores exactly those rows whose bound reaches the k-th best: the result is
//! that of comparing with every vector in `f64`, by construction. The other passes look at less and may miss one of the
//! best; [`crate::manual::search`] says which is used when, and how it was measured. Where memory is short an index
//! [keeps](Keep) less than the vectors, and the second pass reads them from where they are sealed.

mod block;
mod budget;
mod graph;
mod keep;
mod linked;
mod prepared;
mod quantize;
mod rough;
mod scan;
mod shape;
mod sieve;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::locked::LockPolicy;
use crate::vectors::metric::Metric;
use crate::vectors::slots::{Slot, Slots};
use linked::Linked;
use table::Table;

pub use budget::{BudgetTotals, Evict, Lease, ResidentBudget};
pub use keep::Keep;
pub(in crate::vectors) use linked::SlotLinks;
pub use prepared::Prepared;
pub use shape::Shape;

/// From so many rows on the first pass reads signs, unless told otherwise.
const SIGNS_FROM: usize = 4096;
/// More results than this are looked for without it.
const GRAPH_RESULTS: usize = 100;
/// What a first pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The codes: cannot miss.
    Codes,
    /// The signs, and the codes of whatever may be among the best, but for odds of one in thousands.
    Odds,
    /// The signs, of which some hundreds are left: misses one of the best now and then.
    Signs,
    /// The graph: misses one of the best now and then.
    Graph,
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
    /// Shared with who links rows, and with nobody while it is changed.
    table: Arc<Table>,
    graph: Option<Linked>,
    /// From how many vectors on one is wanted.
    graph_from: usize,
}

impl Resident {
    /// An empty index of vectors of `shape`. Takes no locked memory before the first vector.
    pub fn new(shape: Shape, policy: LockPolicy) -> Self {
        Self::keeping(Keep::Vectors, shape, policy)
    }

    /// The same that keeps less than the vectors.
    pub fn keeping(keep: Keep, shape: Shape, policy: LockPolicy) -> Self {
        Self { table: Arc::new(Table::new(keep, shape, policy)), graph: None, graph_from: usize::MAX }
    }

    /// What it keeps of each vector.
    pub fn keep(&self) -> Keep {
        self.table.keep
    }

    /// What its vectors have in common.
    pub fn shape(&self) -> &Shape {
        &self.table.shape
    }

    /// Says that `additional` more vectors are to come, so that the next block has exactly the rows they need.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) while rows are linked.
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        self.change()?.reserve(additional);
        Ok(())
    }

    /// Adds a vector, or replaces the one that `slot` has. On an error nothing has changed.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`]; [`crate::ErrorKind::Unavailable`] where
    /// there is no memory, or none that can be locked under [`LockPolicy::Require`].
    pub fn upsert(&mut self, slot: Slot, vector: &[f32]) -> Result<()> {
        let prepared = self.table.shape.prepare(vector)?;
        self.insert(slot, &prepared)
    }

    /// As [`Resident::upsert`], with what takes longest done before, by the [`Shape`] of this index.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] for a vector of another dimension; [`crate::ErrorKind::Unavailable`] as
    /// [`Resident::upsert`].
    pub fn insert(&mut self, slot: Slot, vector: &Prepared<'_>) -> Result<()> {
        self.change()?.insert(slot, vector)?;
        if let Some(graph) = &mut self.graph {
            graph.came(slot);
        }
        Ok(())
    }

    /// Takes a vector out and erases it; false where `slot` has none. The last row moves into the gap.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) while rows are linked.
    pub fn remove(&mut self, slot: Slot) -> Result<bool> {
        if let Some(graph) = &mut self.graph {
            graph.left(slot);
        }
        Ok(self.change()?.remove(slot))
    }

    fn change(&mut self) -> Result<&mut Table> {
        Arc::get_mut(&mut self.table).ok_or_else(|| Error::internal("an index is changed while its rows are linked"))
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of values of each vector.
    pub fn dimension(&self) -> usize {
        self.table.shape.dimension
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.table.shape.metric
    }

    /// Resident bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<Table>() + self.table.bytes() + self.graph.as_ref().map_or(0, Linked::bytes)
    }

    /// Whether every vector is in locked memory.
    pub fn is_locked(&self) -> bool {
        self.table.is_locked()
    }

    /// Whether `slot` has a vector.
    pub fn contains(&self, slot: Slot) -> bool {
        self.table.row(slot).is_some()
    }

    /// The vector of `slot`, if it has one and vectors are kept.
    pub(crate) fn vector(&self, slot: Slot) -> Option<&[f32]> {
        self.table.vector(slot)
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
        let query = quantize::prepare(&self.table.shape, question.vector)?;
        let pass = self.pass(question);
        let source = self.source(question)?;
        let rows = self.table.scan(question.records);
        if let (Pass::Graph, Some(graph)) = (pass, &self.graph) {
            let near = graph.near(&self.table, &query, question.k)?;
            return self.answer_among(question, near);
        }
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
        let query = quantize::prepare(&self.table.shape, question.vector)?;
        let source = self.source(question)?;
        let passing = slots.into_iter().filter(|slot| question.filter.is_none_or(|passes| passes(*slot)));
        let among = passing.filter_map(|slot| self.table.row(slot)).collect();
        let rows = self.table.scan(question.records);
        let hits = rows.search_among(&query, question.k, among, source)?;
        Ok(hits.into_iter().map(|(id, score)| Hit { id: id.clone(), score: score as f32 }).collect())
    }

    /// Where the vectors come from that are not kept.
    fn source<'a>(&self, question: &Question<'a>) -> Result<Option<Source<'a>>> {
        match (self.table.keep, question.source) {
            (Keep::Vectors, _) => Ok(None),
            (_, Some(source)) => Ok(Some(source)),
            (_, None) => Err(Error::internal("an index without vectors was searched without a source")),
        }
    }

    fn pass(&self, question: &Question<'_>) -> Pass {
        match (self.table.keep, question.pass) {
            (Keep::Signs, Some(Pass::Codes)) => Pass::All,
            (Keep::Signs, None | Some(Pass::Odds)) => Pass::Signs,
            (_, Some(pass)) => pass,
            (_, None) if self.len() < SIGNS_FROM => Pass::Codes,
            // A graph finds too little of what a filter leaves.
            (_, None) if question.filter.is_none() && question.k <= GRAPH_RESULTS && self.is_linked() => Pass::Graph,
            (_, None) => Pass::Odds,
        }
    }
}

/// The search graph.
impl Resident {
    /// From how many vectors on it gets a graph; without this it gets none.
    pub fn link_from(&mut self, vectors: usize) {
        self.graph_from = vectors;
    }

    /// Whether it is so large that a graph is worth it, and of a kind that graphs are made for.
    pub fn is_large(&self) -> bool {
        // By dot product nearness knows no triangle, and codes are too coarse for distances far from the origin.
        self.len() >= self.graph_from && self.keep() != Keep::Signs && self.metric() == Metric::Cosine
    }

    /// Whether a graph is to be begun, for the first time or anew.
    pub(in crate::vectors) fn wants_graph(&self) -> bool {
        self.is_large() && self.graph.as_ref().is_none_or(Linked::is_worn)
    }

    /// Whether a graph has enough of the vectors to be asked.
    pub(in crate::vectors) fn is_linked(&self) -> bool {
        self.graph.as_ref().is_some_and(Linked::is_ready)
    }

    /// Whether there is something to link.
    pub(in crate::vectors) fn lacks_links(&self) -> bool {
        self.wants_graph() || self.graph.as_ref().is_some_and(Linked::is_lacking)
    }

    /// Bytes that a graph will take, if one is wanted.
    pub(in crate::vectors) fn graph_bytes(&self) -> usize {
        if self.wants_graph() { Linked::bytes_of(self.slots_end()) } else { 0 }
    }

    /// Begins a graph if one is wanted.
    pub(in crate::vectors) fn begin_graph(&mut self) -> Result<()> {
        if self.wants_graph() {
            self.graph = Some(Linked::begin(&self.table)?);
        }
        Ok(())
    }

    /// Takes over a graph with these links, without what there is no vector of.
    pub(in crate::vectors) fn set_graph(&mut self, links: &SlotLinks) -> Result<()> {
        self.graph = Some(Linked::of(&self.table, links)?);
        Ok(())
    }

    /// Does without a graph.
    pub(in crate::vectors) fn drop_graph(&mut self) {
        self.graph = None;
    }

    /// Whether there is a graph.
    pub(in crate::vectors) fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// Links up to `most` vectors that are not linked yet, on rayon's threads, and returns how many.
    pub(in crate::vectors) fn link(&self, most: usize) -> Result<usize> {
        self.graph.as_ref().map_or(Ok(0), |graph| graph.link(&self.table, most))
    }

    /// How many vectors are linked.
    pub(in crate::vectors) fn linked(&self) -> usize {
        self.graph.as_ref().map_or(0, Linked::len)
    }

    /// How many slots have changed in the graph since it was written.
    pub(in crate::vectors) fn graph_changes(&self) -> usize {
        self.graph.as_ref().map_or(0, Linked::changed)
    }

    /// So many of the changes are written now.
    pub(in crate::vectors) fn graph_saved(&self, changes: usize) {
        if let Some(graph) = &self.graph {
            graph.saved(changes);
        }
    }

    /// All slots are below this one.
    pub(in crate::vectors) fn slots_end(&self) -> usize {
        self.table.slots_end()
    }

    /// What the slots from `from` to before `end` link to.
    pub(in crate::vectors) fn links(&self, from: usize, end: usize) -> impl Iterator<Item = (Slot, Vec<Slot>)> + '_ {
        self.graph.iter().flat_map(move |graph| graph.links(from, end))
    }
}
