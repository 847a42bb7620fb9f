//! Filtered reading and deleting: who passes is decided in trusted memory, by the payload index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use parking_lot::RwLockUpgradableReadGuard;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use uuid::Uuid;
use zeroize::Zeroize as _;

use crate::error::{Error, Result};
use crate::filter::{Condition, Filter, Record, erase_fields};
use crate::id::RecordId;
use crate::kv::Batch;
use crate::vectors::engine::{EngineCollection as _, Fields, Point};
use crate::vectors::payload::{self, PayloadIndex};
use crate::vectors::point::{OpenedPayload, OpenedVector};
use crate::vectors::registry::Entry;
use crate::vectors::slots::{Slot, Slots};
use crate::vectors::{Hit, StoredChunk};

use super::load::{give_back, make_room};
use super::read::{Registered, SCROLL_POINTS};
use super::{Collection, Indexes, Open, Staged};

/// Records that are opened at a time where their texts decide, or where they are about to be deleted.
const OPENED: usize = 256;

/// The records that pass a filter, at one moment.
pub(super) struct Passing<'a> {
    records: &'a Slots,
    slots: RoaringBitmap,
}

impl Passing<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.slots.len()
    }

    /// Whether the record in `slot` is one of them.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.slots.contains(slot)
    }

    /// Their slots.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter()
    }

    /// Their ids, in no particular order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &RecordId> {
        self.slots.iter().filter_map(|slot| self.records.id(slot))
    }
}

impl Collection {
    /// Up to `limit` chunks that pass `filter` after the one called `after`, in the order of their ids, and whether there
    /// are more.
    pub fn scroll_filtered(
        &self,
        after: Option<&RecordId>,
        limit: usize,
        filter: &Filter,
    ) -> Result<(Vec<StoredChunk>, bool)> {
        self.steadily(|| {
            super::read::check_page(limit)?;
            filter.validate()?;
            let open = self.open()?;
            if self.has_tokens() {
                // No more than the page and one at a time.
                let add = |page: &mut BTreeMap<RecordId, StoredChunk>, chunk: StoredChunk| {
                    if after.is_none_or(|after| chunk.id > *after) {
                        page.insert(chunk.id.clone(), chunk);
                    }
                    if page.len() > limit + 1 {
                        page.pop_last();
                    }
                };
                let mut page = self.each_passing(&open, filter, add)?;
                let more = page.len() > limit;
                if more {
                    page.pop_last();
                }
                return Ok((page.into_values().collect(), more));
            }
            let mut after = after.cloned();
            loop {
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let mut ids: Vec<RecordId> = self.with_passing(&open, filter, |indexes, passing| {
                    let passing = indexes.records.from(from).filter(|(_, slot)| passing.has(*slot));
                    Ok(passing.take(limit + 1).map(|(id, _)| id.clone()).collect())
                })?;
                let more = ids.len() > limit;
                ids.truncate(limit);
                let mut page = self.get(&ids)?;
                // What was written since the index was asked is looked at as it is now.
                page.retain(|chunk| passes(filter, chunk));
                if !page.is_empty() || !more {
                    return Ok((page, more));
                }
                after = ids.pop();
            }
        })
    }

    /// How many chunks pass `filter`.
    pub fn count_filtered(&self, filter: &Filter) -> Result<usize> {
        self.steadily(|| {
            filter.validate()?;
            let open = self.open()?;
            if self.has_tokens() {
                return self.each_passing(&open, filter, |count: &mut usize, _| *count += 1);
            }
            self.with_passing(&open, filter, |_, passing| Ok(usize::try_from(passing.len()).unwrap_or(usize::MAX)))
        })
    }

    /// The ids of the chunks that pass `filter`, in no particular order.
    pub fn passing(&self, filter: &Filter) -> Result<Vec<RecordId>> {
        self.steadily(|| {
            filter.validate()?;
            let open = self.open()?;
            if self.has_tokens() {
                return self.each_passing(&open, filter, |ids: &mut Vec<RecordId>, chunk| ids.push(chunk.id.clone()));
            }
            self.with_passing(&open, filter, |_, passing| Ok(passing.ids().cloned().collect()))
        })
    }

    /// Deletes those of the chunks with `ids` that pass `filter`, each as it was when it passed, and returns how many
    /// there were. They are not all deleted at once.
    pub fn delete_passing(&self, ids: &[RecordId], filter: &Filter) -> Result<usize> {
        filter.validate()?;
        let open = self.open()?;
        let mut deleted = 0;
        for ids in ids.chunks(OPENED) {
            let writing = self.context.keyring.writing();
            let (head, applied) = self.settled();
            // Nobody else writes until these are gone.
            let chunks = self.fetch_settled(&open, writing.live(), ids)?;
            drop(applied);
            let deletes: Vec<RecordId> =
                chunks.into_iter().filter(|chunk| passes(filter, chunk)).map(|chunk| chunk.id).collect();
            let staged = Staged { upserts: Vec::new(), deletes };
            let (_, gone) = self.write_after(&open, head, &writing, staged, Batch::default())?;
            deleted += gone;
        }
        Ok(deleted)
    }

    /// Calls `work` with the resident indexes and the records that pass `filter`.
    pub(super) fn with_passing<T>(
        &self,
        open: &Open,
        filter: &Filter,
        work: impl Fn(&Indexes, &Passing<'_>) -> Result<T>,
    ) -> Result<T> {
        let by_text = if payload::asks_for_text(filter) { Some(self.passing_by_text(open, filter)?) } else { None };
        self.with_payload(open, filter, |indexes, payload| {
            let records = &indexes.records;
            let mut bounds = payload.bound(filter, records)?;
            if let Some(ids) = &by_text {
                let passed: RoaringBitmap = ids.iter().filter_map(|id| records.slot(id)).collect();
                bounds.sure |= passed & &bounds.possible;
            }
            work(indexes, &Passing { records, slots: bounds.sure })
        })
    }

    /// What `add` makes, beginning with nothing, of the chunks that pass `filter`, of those that the engine finds by their
    /// tokens: one after the other.
    fn each_passing<T: Default>(&self, open: &Open, filter: &Filter, add: impl Fn(&mut T, StoredChunk)) -> Result<T> {
        self.context.keyring.looking(|live| {
            // While records move between epochs, and so in the order of the engine, nobody writes.
            let quiet = (!live.older().is_empty()).then(|| self.settled());
            let tokens = self.token_filter(live, filter)?;
            let (mut made, mut from) = (T::default(), None);
            loop {
                let (points, next) = open.engine.scroll_filtered(from, OPENED, Fields::Both, Some(&tokens))?;
                let ids: Vec<Uuid> = points.iter().map(|point| point.id).collect();
                let opened = match quiet {
                    Some(_) => self.try_open_points(&ids, points)?,
                    None => self.open_points(open, &ids, points)?,
                };
                let chunks = opened.into_iter().flatten().map(|(_, chunk)| chunk);
                chunks.filter(|chunk| passes(filter, chunk)).for_each(|chunk| add(&mut made, chunk));
                match next {
                    Some(id) => from = Some(id),
                    None => return Ok(made),
                }
            }
        })
    }

    /// The records of which only their texts can tell that they pass. They are opened, which takes its time.
    fn passing_by_text(&self, open: &Open, filter: &Filter) -> Result<BTreeSet<RecordId>> {
        let undecided: Vec<RecordId> = self.with_payload(open, filter, |indexes, payload| {
            let bounds = payload.bound(filter, &indexes.records)?;
            let undecided = (bounds.possible - bounds.sure).into_iter();
            Ok(undecided.filter_map(|slot| indexes.records.id(slot)).cloned().collect())
        })?;
        let mut passing = BTreeSet::new();
        for ids in undecided.chunks(OPENED) {
            let chunks = self.get(ids)?;
            passing.extend(chunks.into_iter().filter(|chunk| passes(filter, chunk)).map(|chunk| chunk.id));
        }
        Ok(passing)
    }

    /// Calls `work` with the resident indexes and the payload index, which are loaded and have an index of every field
    /// that `filter` asks about, as far as there is room.
    fn with_payload<T>(
        &self,
        open: &Open,
        filter: &Filter,
        work: impl Fn(&Indexes, &PayloadIndex) -> Result<T>,
    ) -> Result<T> {
        loop {
            if let Some(indexes) = open.resident.read().as_ref()
                && let Some(payload) = &indexes.payload
                && payload.wanted(filter).is_empty()
            {
                indexes.lease.touch();
                return work(indexes, payload);
            }
            self.with_indexes(open, |_| Ok(()))?;
            self.load_payload(open)?;
            index_fields(open, filter)?;
        }
    }

    /// Opens every payload into the payload index, unless that is there.
    fn load_payload(&self, open: &Open) -> Result<()> {
        let _settled = self.settled();
        if open.resident.read().as_ref().is_none_or(|indexes| indexes.payload.is_some()) {
            return Ok(());
        }
        let Registered { entries, damaged } = self.registered()?;
        if !damaged.is_empty() {
            return Err(Error::integrity("a registry row"));
        }
        let names = self.spec().vectors.keys().chain(self.spec().sparse.keys());
        let index = PayloadIndex::new(names.cloned().collect());
        let index = self.fill_payload(open, index, entries).inspect_err(|_| give_back(open))?;
        if let Some(indexes) = open.resident.write().as_mut() {
            indexes.make_room(index.bytes())?;
            indexes.payload = Some(index);
        }
        Ok(())
    }

    /// Opens every payload into `index`. Room is made page by page: what does not fit is not opened first.
    fn fill_payload(
        &self,
        open: &Open,
        mut index: PayloadIndex,
        mut entries: HashMap<Uuid, Entry>,
    ) -> Result<PayloadIndex> {
        let mut from = None;
        loop {
            let (points, next) = open.engine.scroll(from, SCROLL_POINTS, Fields::Both)?;
            let expected: Vec<Entry> = points
                .iter()
                .map(|p| {
                    entries.remove(&p.id).ok_or_else(|| Error::integrity("a record that the vector engine made up"))
                })
                .collect::<Result<_>>()?;
            let opened: Vec<(OpenedVector, OpenedPayload)> = points
                .par_iter()
                .zip(expected.par_iter())
                .with_min_len(32)
                .map(|(point, entry)| self.open_for_index(point, entry))
                .collect::<Result<_>>()?;
            let resident = open.resident.read();
            // Where they were erased meanwhile there is nothing to put it into.
            let Some(indexes) = resident.as_ref() else { return Ok(index) };
            for (vector, OpenedPayload { mut text, mut metadata }) in opened {
                let slot = indexes.records.slot(&vector.id);
                let slot = slot.ok_or_else(|| Error::integrity("a record that the vector engine made up"))?;
                index.upsert(slot, &metadata, |name| self.has_vector(&vector, name))?;
                erase_fields(&mut metadata);
                text.zeroize();
            }
            drop(resident);
            make_room(open, index.bytes())?;
            match next {
                Some(id) => from = Some(id),
                None => break,
            }
        }
        if !entries.is_empty() {
            return Err(Error::integrity(format!("the vector engine dropped {} records: it", entries.len())));
        }
        Ok(index)
    }

    fn has_vector(&self, opened: &OpenedVector, name: &str) -> bool {
        let (spec, vectors) = (self.spec(), &opened.vectors);
        let dense = (0_u8..).zip(spec.vectors.keys()).find(|(_, known)| *known == name);
        let sparse = (0_u8..).zip(spec.sparse.keys()).find(|(_, known)| *known == name);
        dense.is_some_and(|(at, _)| vectors.at(at).is_some())
            || sparse.is_some_and(|(at, _)| vectors.sparse_at(at).is_some())
    }

    fn open_for_index(&self, point: &Point, entry: &Entry) -> Result<(OpenedVector, OpenedPayload)> {
        let vector = self.sealer.open_vector(point, entry)?;
        let payload = self.sealer.open_payload(point, entry, &vector.embedding)?;
        Ok((vector, payload))
    }

    /// The chunks with `ids` that are there, while nobody writes.
    fn fetch_settled(&self, open: &Open, live: &crate::keys::Live, ids: &[RecordId]) -> Result<Vec<StoredChunk>> {
        let candidates: Vec<Uuid> = self.candidates(live, ids)?;
        let points = open.engine.retrieve(&candidates, Fields::Both)?;
        let opened = self.try_open_points(&candidates, points)?;
        Ok(opened.into_iter().flatten().map(|(_, chunk)| chunk).collect())
    }
}

/// Whether a chunk passes.
pub(super) fn passes(filter: &Filter, chunk: &StoredChunk) -> bool {
    let dense = chunk.vectors.iter().map(|(name, _)| name);
    let vectors: Vec<&str> = dense.chain(chunk.vectors.iter_sparse().map(|(name, _)| name)).collect();
    filter.matches(&Record { id: &chunk.id, metadata: &chunk.metadata, text: &chunk.text, vectors: &vectors })
}

/// Whether a hit still passes a filter, which does not ask for vectors, that it passed when the index was asked.
pub(super) fn still_passes(filter: &Filter, hit: &Hit) -> bool {
    filter.matches(&Record { id: &hit.id, metadata: &hit.metadata, text: &hit.text, vectors: &[] })
}

/// Whether a payload alone does not tell if a record passes.
pub(super) fn asks_for_vectors(filter: &Filter) -> bool {
    filter.conditions().any(|condition| match condition {
        Condition::HasVector(_) => true,
        Condition::Filter(filter) => asks_for_vectors(filter),
        _ => false,
    })
}

/// Makes indexes of the fields that `filter` asks about. Searches go on meanwhile, writes wait.
fn index_fields(open: &Open, filter: &Filter) -> Result<()> {
    let resident = open.resident.upgradable_read();
    let Some(payload) = resident.as_ref().and_then(|indexes| indexes.payload.as_ref()) else { return Ok(()) };
    let wanted = payload.wanted(filter);
    if wanted.is_empty() {
        return Ok(());
    }
    let made = payload.make_fields(&wanted)?;
    let mut resident = RwLockUpgradableReadGuard::upgrade(resident);
    let Some(indexes) = resident.as_mut() else { return Ok(()) };
    if let Some(payload) = indexes.payload.as_mut() {
        payload.add_fields(made);
    }
    if let Err(e) = indexes.account() {
        // There is no room for them. Without payloads it takes less than it had.
        indexes.payload = None;
        indexes.account()?;
        return Err(e);
    }
    Ok(())
}
