//! Loading the resident indexes: every sealed vector is opened on all cores, into memory of the store's budget.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use rayon::prelude::*;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::scrub::scrub_workers;
use crate::vectors::engine::{EngineCollection as _, Fields, Point};
use crate::vectors::inverted::{KeywordIndex, SparseIndex};
use crate::vectors::payload::PayloadIndex;
use crate::vectors::point::{Embedding, OpenedVector};
use crate::vectors::registry::Entry;
use crate::vectors::resident::{Evict, Keep, Prepared, Resident, Shape};
use crate::vectors::slots::{Slot, Slots};
use crate::vectors::{Mode, VectorParams};

use super::read::{Registered, SCROLL_POINTS};
use super::{Collection, Indexes, Open};

/// Records from which on the engine is read in several places at once.
const READ_APART: usize = 4096;
/// Places for each thread: those who are done first take over from those who are not.
const PLACES_PER_THREAD: usize = 4;
/// Ordinary memory that a record takes in the indexes beside its vectors, about, in bytes: its id in the tree and by its
/// slot, its embedding's digest, and the numbers of slots and rows.
const RECORD_BYTES: usize = 136;

/// Indexes on the way.
struct Filling {
    by_vector: BTreeMap<u8, Resident>,
    by_sparse: BTreeMap<u8, SparseIndex>,
    /// By slot.
    ids: Vec<RecordId>,
    embeddings: Vec<Embedding>,
}

impl Indexes {
    /// What embeddings of the record in `slot` they hold.
    pub(super) fn set_embedding(&mut self, slot: Slot, embedding: Embedding) {
        match self.embeddings.get_mut(slot as usize) {
            Some(place) => *place = embedding,
            // Slots are given one after the other.
            None => self.embeddings.push(embedding),
        }
    }

    /// Which embeddings of `id` they hold.
    pub(super) fn embedding(&self, id: &RecordId) -> Option<Embedding> {
        self.embeddings.get(self.records.slot(id)? as usize).copied()
    }

    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let embeddings = self.embeddings.capacity() * size_of::<Embedding>();
        self.by_vector.values().map(Resident::bytes).sum::<usize>()
            + self.by_sparse.values().map(SparseIndex::bytes).sum::<usize>()
            + self.keywords.as_ref().map_or(0, KeywordIndex::bytes)
            + self.payload.as_ref().map_or(0, PayloadIndex::bytes)
            + self.records.bytes()
            + embeddings
    }

    /// Has the budget know how large they have become.
    pub(super) fn account(&self) -> Result<()> {
        self.lease.resize(self.bytes() as u64)
    }

    /// Takes as much more of the budget as what is about to be added.
    pub(super) fn make_room(&self, bytes: usize) -> Result<()> {
        self.lease.resize(self.bytes().saturating_add(bytes) as u64)
    }
}

/// Takes as much more of the budget as what is being made beside the indexes of `open` has by now.
pub(super) fn make_room(open: &Open, bytes: usize) -> Result<()> {
    // Where they were erased meanwhile, what is made is not put in.
    open.resident.read().as_ref().map_or(Ok(()), |indexes| indexes.make_room(bytes))
}

/// Gives back what was taken for something that was not made after all.
pub(super) fn give_back(open: &Open) {
    if let Some(Err(e)) = open.resident.read().as_ref().map(Indexes::account) {
        tracing::warn!(error = %e, "indexes take more than they may");
    }
}

impl Evict for RwLock<Option<Indexes>> {
    fn evict(&self) -> bool {
        let Some(mut slot) = self.try_write() else { return false };
        let Some(indexes) = slot.take() else { return false };
        drop(slot);
        // Locked memory is erased here, the rest when it is freed; and what is left of it on the stacks of threads.
        drop(indexes);
        scrub_workers();
        true
    }
}

impl Collection {
    /// Calls `work` with the resident indexes, which are loaded if need be.
    pub(super) fn with_indexes<T>(&self, open: &Open, work: impl FnOnce(&Indexes) -> Result<T>) -> Result<T> {
        let mut resident = open.resident.read();
        if resident.is_none() {
            drop(resident);
            resident = self.load_resident(open)?;
        }
        let indexes = resident.as_ref().ok_or_else(|| Error::internal("indexes that were loaded are gone"))?;
        indexes.lease.touch();
        work(indexes)
    }

    /// Opens every sealed vector into the resident indexes, and notices whatever the engine dropped or changed. Nobody can
    /// erase them before they were used once.
    pub(super) fn load_resident<'a>(&self, open: &'a Open) -> Result<RwLockReadGuard<'a, Option<Indexes>>> {
        let _settled = self.settled();
        let resident = open.resident.read();
        if resident.is_some() {
            return Ok(resident);
        }
        drop(resident);
        let Registered { entries, damaged } = self.registered()?;
        if !damaged.is_empty() {
            return Err(Error::integrity("a registry row"));
        }
        let (keep, bytes) = self.plan(entries.len());
        let lease = self.context.budget.lease(bytes)?;
        let Filling { mut by_vector, by_sparse, ids, embeddings } = self.fill(open, &entries, keep)?;
        if ids.len() < entries.len() {
            let dropped = entries.len() - ids.len();
            return Err(Error::integrity(format!("the vector engine dropped {dropped} records: it")));
        }
        let records = Slots::numbered(ids)?;
        for (position, index) in &mut by_vector {
            self.load_graph(*position, index, &embeddings);
        }
        if by_vector.values().any(Resident::is_large) {
            self.wants_optimizing.store(true, Ordering::Relaxed);
        }
        let mut indexes = Indexes { records, embeddings, by_vector, by_sparse, keywords: None, payload: None, lease };
        indexes.fit()?;
        let holder: Weak<RwLock<Option<Indexes>>> = Arc::downgrade(&open.resident);
        indexes.lease.held_by(holder);
        let mut slot = open.resident.write();
        *slot = Some(indexes);
        Ok(RwLockWriteGuard::downgrade(slot))
    }

    /// What the indexes of `records` records are to keep, and the bytes of that: the vectors if they take at most half of
    /// the budget, so that one collection does not push out all others; or else as much as fits. What sparse vectors take
    /// is known once they are there.
    fn plan(&self, records: usize) -> (Keep, u64) {
        let limit = self.context.budget.limit();
        let bytes = |keep: Keep| {
            let vectors: usize = self.indexed().map(|(_, params)| keep.row_bytes(params.size)).sum();
            records.saturating_mul(vectors.saturating_add(RECORD_BYTES)) as u64
        };
        if bytes(Keep::Vectors) <= limit / 2 {
            return (Keep::Vectors, bytes(Keep::Vectors));
        }
        let keep = if bytes(Keep::Codes) <= limit { Keep::Codes } else { Keep::Signs };
        (keep, bytes(keep))
    }

    /// The vectors that are searched in memory: the engine searches by itself in other modes, and then only the ids are
    /// wanted.
    pub(super) fn indexed(&self) -> impl Iterator<Item = (u8, &VectorParams)> {
        (0_u8..).zip(self.spec().vectors.values().filter(|_| self.mode() == Mode::Sealed))
    }

    fn fill(&self, open: &Open, entries: &HashMap<Uuid, Entry>, keep: Keep) -> Result<Filling> {
        let shape = |(position, params): (u8, &VectorParams)| Ok((position, Shape::new(params.size, params.metric)?));
        let shapes: BTreeMap<u8, Shape> = self.indexed().map(shape).collect::<Result<_>>()?;
        let empty = |(position, shape): (&u8, &Shape)| {
            let mut index = Resident::keeping(keep, shape.clone(), self.context.lock_policy);
            index.reserve(entries.len())?;
            index.link_from(self.context.graph_from);
            Ok((*position, index))
        };
        let by_vector = shapes.iter().map(empty).collect::<Result<_>>()?;
        let sparse = (0_u8..).zip(self.spec().sparse.values());
        let by_sparse = sparse.map(|(position, params)| (position, SparseIndex::new(params.modifier))).collect();
        let (ids, embeddings) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        let filling = Mutex::new(Filling { by_vector, by_sparse, ids, embeddings });
        let places = if entries.len() < READ_APART { 1 } else { rayon::current_num_threads() * PLACES_PER_THREAD };
        // Ids of points are MACs: equal parts of their range have about as many.
        let width = u128::MAX / places as u128;
        (0..places).into_par_iter().try_for_each(|place| {
            let from = width * place as u128;
            let end = (place + 1 < places).then(|| Uuid::from_u128(from + width));
            self.fill_from(open, (entries, &shapes), Uuid::from_u128(from), end, &filling)
        })?;
        Ok(filling.into_inner())
    }

    /// Takes in the points from `from` to before `end`.
    fn fill_from(
        &self,
        open: &Open,
        expected: (&HashMap<Uuid, Entry>, &BTreeMap<u8, Shape>),
        from: Uuid,
        end: Option<Uuid>,
        filling: &Mutex<Filling>,
    ) -> Result<()> {
        let mut from = from;
        loop {
            let (mut points, next) = open.engine.scroll(Some(from), SCROLL_POINTS, Fields::Both)?;
            let read = points.len();
            points.retain(|point| point.id >= from && end.is_none_or(|end| point.id < end));
            let past_end = points.len() < read;
            self.take_in(&points, expected, filling)?;
            match next {
                // An engine that went back would never come to an end.
                Some(next) if next <= from => return Err(Error::integrity("the order of the vector engine's points")),
                Some(next) if !past_end && end.is_none_or(|end| next < end) => from = next,
                _ => return Ok(()),
            }
        }
    }

    fn take_in(
        &self,
        points: &[Point],
        (entries, shapes): (&HashMap<Uuid, Entry>, &BTreeMap<u8, Shape>),
        filling: &Mutex<Filling>,
    ) -> Result<()> {
        let open_one = |point: &Point| {
            let entry = entries.get(&point.id);
            let entry = entry.ok_or_else(|| Error::integrity("a record that the vector engine made up"))?;
            entry.check(self.context.keyring.provider(), &point.payload)?;
            self.sealer.open_vector(point, entry)
        };
        let opened: Vec<OpenedVector> = points.par_iter().with_min_len(32).map(open_one).collect::<Result<_>>()?;
        let prepared: Vec<Vec<(u8, Prepared<'_>)>> =
            opened.par_iter().with_min_len(32).map(|vector| prepare(shapes, vector)).collect::<Result<_>>()?;
        let mut filling = filling.lock();
        for (vector, prepared) in opened.iter().zip(&prepared) {
            let slot = Slot::try_from(filling.ids.len()).map_err(|_| Error::internal("too many records"))?;
            for (position, prepared) in prepared {
                if let Some(index) = filling.by_vector.get_mut(position) {
                    index.insert(slot, prepared)?;
                }
            }
            for (position, values) in &vector.vectors.sparse {
                if let Some(index) = filling.by_sparse.get_mut(position) {
                    index.upsert(vector.id.clone(), values)?;
                }
            }
            filling.ids.push(vector.id.clone());
            filling.embeddings.push(vector.embedding);
        }
        Ok(())
    }

    /// The vectors at `position` of the records with `ids`, opened from the engine; `None` for one that is gone.
    pub(super) fn sealed_vectors(
        &self,
        open: &Open,
        position: u8,
        ids: &[&RecordId],
    ) -> Result<Vec<Option<Zeroizing<Vec<f32>>>>> {
        self.context.keyring.looking(|live| {
            let lives = 1 + live.older().len();
            let candidates = self.candidates(live, ids.iter().copied())?;
            let rows = self.registry_rows(&candidates)?;
            let points = open.engine.retrieve(&candidates, Fields::Both)?;
            let points: HashMap<Uuid, Point> = points.into_iter().map(|point| (point.id, point)).collect();
            let one = |(epochs, rows): (&[Uuid], &[Option<Vec<u8>>])| {
                // The epoch that the record is in.
                let registered = epochs.iter().zip(rows).find_map(|(id, row)| Some((id, row.as_ref()?)));
                let Some((id, row)) = registered else { return Ok(None) };
                let point =
                    points.get(id).ok_or_else(|| Error::integrity("a record that the vector engine dropped"))?;
                let entry = self.entry(id, row)?;
                entry.check(self.context.keyring.provider(), &point.payload)?;
                let mut dense = self.sealer.open_vector(point, &entry)?.vectors.dense;
                let at = dense.iter().position(|(p, _)| *p == position);
                Ok(at.map(|at| dense.swap_remove(at).1))
            };
            candidates.par_chunks(lives).zip(rows.par_chunks(lives)).with_min_len(16).map(one).collect()
        })
    }
}

/// What the indexes keep of the vectors that a record has, by position.
fn prepare<'a>(shapes: &BTreeMap<u8, Shape>, vector: &'a OpenedVector) -> Result<Vec<(u8, Prepared<'a>)>> {
    let of = |(position, shape): (&u8, &Shape)| {
        let prepared = shape.prepare(vector.vectors.at(*position)?);
        Some(prepared.map(|prepared| (*position, prepared)))
    };
    shapes.iter().filter_map(of).collect()
}
