//! A search graph over vectors that the caller has: slots of a table, and for each the slots near it.
//!
//! The graph is Vamana (Subramanya et al., "DiskANN", NeurIPS 2019) by Microsoft's `diskann`. It holds links only; distances
//! are asked of the caller. Links say who is near whom: they lie in ordinary memory, as metadata does, and are erased when
//! it is freed where the allocator does that, as the program's does.

mod links;
mod steps;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;

use diskann::graph::config::{Builder, MaxDegree, PruneKind};
use diskann::graph::search::Knn;
use diskann::graph::{AdjacencyList, Config, DiskANNIndex};
use diskann::neighbor::Neighbor;
use diskann::provider::DefaultContext;
use diskann::{ANNError, ANNResult};
use futures_util::FutureExt as _;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::vectors::slots::Slot;
use links::Links;
use steps::{Ask, Change, Row, Sift};

/// Links that a slot is pruned to.
const DEGREE: usize = 32;
/// Links that it may have before it is pruned.
const MAX_DEGREE: usize = 42;
/// Candidates that are kept by the search for the links of a new slot.
const BUILD_LIST: usize = 64;
/// More keeps more of the long links.
const ALPHA: f32 = 1.1;
/// A search begins at the nearest of so many slots.
const ENTRIES: usize = 64;

/// The distances between the rows of the caller's table. Any slot that the graph was given may be asked for.
pub(super) trait Space: Send + Sync + 'static {
    /// How far two rows are apart, 0 at least: less is nearer.
    fn between(&self, a: Slot, b: Slot) -> f32;
}

/// What is searched for.
pub(super) trait Near: Sync {
    /// How far the row of `slot` is from it: less is nearer.
    fn to(&self, slot: Slot) -> f32;
}

impl<Q: Near + ?Sized> Near for &Q {
    fn to(&self, slot: Slot) -> f32 {
        (**self).to(slot)
    }
}

/// The links between the slots of a table.
pub(super) struct Graph {
    index: DiskANNIndex<Links>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Result<Self> {
        let degree = MaxDegree::new(MAX_DEGREE);
        let builder = Builder::new_with(DEGREE, degree, BUILD_LIST, PruneKind::TriangleInequality, |builder| {
            builder.alpha(ALPHA);
        });
        let config = Config::try_from_builder(builder).map_err(|e| failed("is configured wrongly", e.to_string()))?;
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(Self { index: DiskANNIndex::new(config, Links::new(MAX_DEGREE, ENTRIES), Some(threads)) })
    }

    /// Makes room for the slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        self.index.data_provider.reserve(slots);
    }

    /// How many slots are linked.
    pub fn len(&self) -> usize {
        self.links().count()
    }

    /// Whether `slot` is linked.
    pub fn contains(&self, slot: Slot) -> bool {
        self.links().is_live(slot)
    }

    /// The bytes that the links take.
    pub fn bytes(&self) -> usize {
        self.links().bytes()
    }

    /// The bytes that the links of `slots` slots take.
    pub fn bytes_of(slots: usize) -> usize {
        slots.saturating_mul((1 + MAX_DEGREE) * size_of::<Slot>())
    }

    /// Links `slots`, which have rows in the table and are not linked yet, to what is near each, on rayon's threads.
    pub fn build<S: Space>(&self, space: &Arc<S>, slots: &[Slot]) -> Result<()> {
        let change = Change(Arc::clone(space));
        slots.par_iter().try_for_each(|slot| {
            at_once(self.index.insert(&change, &DefaultContext, slot, Row(*slot)))?
                .map_err(|e| failed("does not take a vector", e))
        })
    }

    /// Takes `slot` out, and returns whether it was linked. What links to it is passed over until another vector has the
    /// slot, and may lead to that then.
    pub fn forget(&self, slot: Slot) -> bool {
        self.links().vacate(slot)
    }

    /// The nearest slots that a search with a list of `list` saw, nearest first.
    pub fn search(&self, query: &dyn Near, list: usize) -> Result<Vec<Slot>> {
        let list = list.clamp(1, self.len().max(1));
        let knn = Knn::new_default(list).map_err(|e| failed("takes no such list", e.to_string()))?;
        let mut found: Vec<Neighbor<Slot>> = Vec::with_capacity(list);
        at_once(self.index.search_with(knn, &Ask, Sift, &DefaultContext, query, &mut found))?
            .map_err(|e| failed("cannot be searched", e))?;
        Ok(found.into_iter().map(|neighbor| *neighbor.id()).collect())
    }

    /// The linked slots from `from` to before `end`, each with what it links to.
    pub fn export(&self, from: usize, end: usize) -> impl Iterator<Item = (Slot, Vec<Slot>)> + '_ {
        let slots = (from..end.min(self.links().slots())).filter_map(|slot| Slot::try_from(slot).ok());
        slots.filter(|slot| self.contains(*slot)).map(|slot| {
            let mut links = Vec::new();
            self.links().read(slot, &mut links);
            links.retain(|link| self.contains(*link));
            (slot, links)
        })
    }

    /// Takes over links as [`export`](Self::export) gave them, into an empty graph with room for all slots. Links to slots
    /// that are not there are left out.
    ///
    /// # Errors
    ///
    /// [`Integrity`](crate::ErrorKind::Integrity) for a slot or a link outside that room, a slot that is there twice, or
    /// one with more links than a graph gives.
    pub fn import<'a>(&mut self, rows: impl Iterator<Item = (&'a Slot, &'a Vec<Slot>)> + Clone) -> Result<()> {
        let outside = |slot: &Slot| *slot as usize >= self.links().slots();
        for (slot, links) in rows.clone() {
            if outside(slot) || self.contains(*slot) || links.len() > MAX_DEGREE || links.iter().any(outside) {
                return Err(Error::integrity("a search graph"));
            }
            self.links().occupy(*slot).map_err(|e| failed("does not take a slot", e))?;
        }
        for (slot, links) in rows {
            let mut there = AdjacencyList::new();
            there.extend_from_slice(links);
            there.retain(|link| link != slot && self.contains(*link));
            self.links().write(*slot, &there).map_err(|e| failed("does not take links", e))?;
        }
        Ok(())
    }

    fn links(&self) -> &Links {
        self.index.provider()
    }
}

/// The outcome of a future that waits for nothing, as all of ours.
fn at_once<T>(future: impl Future<Output = ANNResult<T>>) -> Result<ANNResult<T>> {
    future.now_or_never().ok_or_else(|| Error::internal("a search graph that waits"))
}

fn failed(what: &str, e: impl Into<Cause>) -> Error {
    Error::internal(format!("a search graph {what}")).with_source(e.into().0)
}

/// Why.
struct Cause(String);

impl From<String> for Cause {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<ANNError> for Cause {
    fn from(e: ANNError) -> Self {
        Self(e.to_string())
    }
}
