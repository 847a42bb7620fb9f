//! How the library walks the links and measures rows: its traits, on our table.

use std::sync::Arc;

use diskann::graph::glue::{
    HybridPredicate, InsertStrategy, PruneAccessor, PruneStrategy, SearchAccessor, SearchPostProcess, SearchStrategy,
};
use diskann::graph::{AdjacencyList, SearchOutputBuffer, workingset};
use diskann::neighbor::Neighbor;
use diskann::provider::{DefaultContext, HasId, NeighborAccessor, NeighborAccessorMut};
use diskann::{ANNError, ANNResult};
use diskann_utils::Reborrow;
use diskann_vector::DistanceFunction;

use super::links::Links;
use super::{Near, Space};

/// A search begins at so many of the entries.
const BEGIN: usize = 4;

/// A row of the table, as the element that the library hands around.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row(pub u32);

impl Reborrow<'_> for Row {
    type Target = Row;

    fn reborrow(&self) -> Row {
        *self
    }
}

/// A row of the table that others are measured from.
pub(super) struct FromRow<'a, S> {
    space: &'a S,
    row: u32,
}

impl<S: Space> Near for FromRow<'_, S> {
    fn to(&self, row: u32) -> f32 {
        self.space.between(self.row, row)
    }
}

/// One walk along the links.
pub(super) struct Walk<'a, Q> {
    links: &'a Links,
    query: Q,
    /// The entries nearest to the query.
    begin: Vec<(u32, f32)>,
    /// What one slot links to.
    near: Vec<u32>,
}

impl<'a, Q: Near> Walk<'a, Q> {
    fn new(links: &'a Links, query: Q) -> Self {
        let mut walk = Self { links, query, begin: Vec::new(), near: Vec::new() };
        let mut begin = Vec::new();
        let near = links.entries().collect();
        walk.measure(near, |slot, distance| begin.push((slot, distance)));
        begin.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        begin.dedup_by_key(|(slot, _)| *slot);
        begin.truncate(BEGIN);
        walk.begin = begin;
        walk
    }

    /// Measures what each of `slots` links to, of that what is in use and `wanted`.
    fn step(
        &mut self,
        slots: impl Iterator<Item = u32>,
        mut wanted: impl FnMut(u32) -> bool,
        mut found: impl FnMut(u32, f32),
    ) {
        for slot in slots {
            let mut near = std::mem::take(&mut self.near);
            self.links.read(slot, &mut near);
            near.retain(|slot| self.links.is_live(*slot) && wanted(*slot));
            self.measure(near, &mut found);
        }
    }

    /// Measures each of `near`.
    fn measure(&mut self, near: Vec<u32>, mut found: impl FnMut(u32, f32)) {
        near.iter().for_each(|slot| found(*slot, ordered(self.query.to(*slot))));
        self.near = near;
    }
}

impl<Q> HasId for Walk<'_, Q> {
    type Id = u32;
}

impl<Q: Near + Send> SearchAccessor for Walk<'_, Q> {
    async fn starting_points(&self) -> ANNResult<Vec<u32>> {
        Ok(self.begin.iter().map(|(slot, _)| *slot).collect())
    }

    async fn start_point_distances<F: FnMut(u32, f32) + Send>(&mut self, mut f: F) -> ANNResult<()> {
        self.begin.iter().for_each(|(slot, distance)| f(*slot, *distance));
        Ok(())
    }

    async fn expand_beam<I, P, F>(&mut self, slots: I, mut wanted: P, mut f: F) -> ANNResult<()>
    where
        I: Iterator<Item = u32> + Send,
        P: HybridPredicate<u32> + Send + Sync,
        F: FnMut(u32, f32) + Send,
    {
        self.step(slots, |slot| wanted.eval_mut(&slot), &mut f);
        Ok(())
    }
}

/// A search for what a query is near to.
pub(super) struct Ask;

impl<'a> SearchStrategy<'a, Links, &'a dyn Near> for Ask {
    type SearchAccessorError = ANNError;
    type SearchAccessor = Walk<'a, &'a dyn Near>;

    fn search_accessor(
        &'a self,
        links: &'a Links,
        _: &'a DefaultContext,
        query: &'a dyn Near,
    ) -> ANNResult<Self::SearchAccessor> {
        Ok(Walk::new(links, query))
    }
}

/// Leaves out what is no longer in use.
pub(super) struct Sift;

impl<'a, Q: Near + Send> SearchPostProcess<Walk<'a, Q>, &'a dyn Near> for Sift {
    type Error = ANNError;

    async fn post_process<I, B>(
        &self,
        walk: &mut Walk<'a, Q>,
        _: &'a dyn Near,
        seen: I,
        output: &mut B,
    ) -> ANNResult<usize>
    where
        I: Iterator<Item = Neighbor<u32>> + Send,
        B: SearchOutputBuffer<u32> + Send + ?Sized,
    {
        Ok(output.extend(seen.filter(|seen| walk.links.is_live(*seen.id()))))
    }
}

/// Changes to the links by the distances between rows.
///
/// The library wants what changes links by for as long as the program runs: hence shared, not borrowed.
pub(super) struct Change<S>(pub Arc<S>);

impl<S> Clone for Change<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Space> Change<S> {
    fn walk<'a>(&'a self, links: &'a Links, row: Row) -> Walk<'a, FromRow<'a, S>> {
        Walk::new(links, FromRow { space: &*self.0, row: row.0 })
    }
}

impl<'a, S: Space> InsertStrategy<'a, Links, Row> for Change<S> {
    type SearchAccessor = Walk<'a, FromRow<'a, S>>;
    type SearchAccessorError = ANNError;
    type PruneStrategy = Self;

    fn insert_search_accessor(
        &'a self,
        links: &'a Links,
        _: &'a DefaultContext,
        row: Row,
    ) -> ANNResult<Self::SearchAccessor> {
        Ok(self.walk(links, row))
    }

    fn prune_strategy(&self) -> Self {
        self.clone()
    }
}

impl<S: Space> PruneStrategy<Links> for Change<S> {
    type PruneAccessor<'a> = Prune<'a, S>;
    type PruneAccessorError = ANNError;

    fn prune_accessor<'a>(
        &'a self,
        links: &'a Links,
        _: &'a DefaultContext,
        _: usize,
    ) -> ANNResult<Self::PruneAccessor<'a>> {
        Ok(Prune { links, space: &*self.0 })
    }
}

/// The choice of the links to keep.
pub(super) struct Prune<'a, S> {
    links: &'a Links,
    space: &'a S,
}

impl<S> HasId for Prune<'_, S> {
    type Id = u32;
}

impl<S: Space> PruneAccessor for Prune<'_, S> {
    type Neighbors<'b>
        = &'b Links
    where
        Self: 'b;
    type ElementRef<'b> = Row;
    type View<'b>
        = &'b Links
    where
        Self: 'b;
    type Distance<'b>
        = Between<'b, S>
    where
        Self: 'b;

    fn neighbors(&mut self) -> &Links {
        self.links
    }

    async fn fill<I>(&mut self, _: I) -> ANNResult<(&Links, Between<'_, S>)>
    where
        I: ExactSizeIterator<Item = u32> + Clone + Send + Sync,
    {
        Ok((self.links, Between(self.space)))
    }
}

/// Measures two rows.
pub(super) struct Between<'a, S>(&'a S);

impl<S: Space> DistanceFunction<Row, Row> for Between<'_, S> {
    fn evaluate_similarity(&self, a: Row, b: Row) -> f32 {
        ordered(self.0.between(a.0, b.0))
    }
}

/// `distance`, or the largest there is: what is no number has no place in an order.
fn ordered(distance: f32) -> f32 {
    if distance.is_nan() { f32::MAX } else { distance }
}

impl workingset::View<u32> for &Links {
    type ElementRef<'a> = Row;
    type Element<'a>
        = Row
    where
        Self: 'a;

    fn get(&self, slot: u32) -> Option<Row> {
        self.is_live(slot).then_some(Row(slot))
    }
}

impl HasId for Links {
    type Id = u32;
}

impl NeighborAccessor for &Links {
    async fn get_neighbors(&mut self, slot: u32, links: &mut AdjacencyList<u32>) -> ANNResult<()> {
        self.read_settled(slot, links);
        Ok(())
    }
}

impl NeighborAccessorMut for &Links {
    async fn set_neighbors(&mut self, slot: u32, links: &[u32]) -> ANNResult<()> {
        self.write(slot, links)
    }

    async fn append_vector(&mut self, slot: u32, links: &[u32]) -> ANNResult<()> {
        self.append(slot, links)
    }
}
