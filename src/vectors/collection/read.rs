//! Reading: by id, by nearness, page by page. Everything is opened against the registry before it is returned.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::limits;
use crate::memory::Table;
use crate::vectors::engine::{EngineStatus, Nearest, Point};
use crate::vectors::point::OpenedVector;
use crate::vectors::registry::Entry;
use crate::vectors::resident::Resident;
use crate::vectors::{Hit, Mode, SearchRequest, StoredChunk};

use super::{Collection, Open};

/// Points that are read from the engine at a time when all are.
const SCROLL_POINTS: usize = 1024;

/// What the registry says a collection holds.
#[derive(Default)]
pub(super) struct Registered {
    pub(super) entries: HashMap<Uuid, Entry>,
    /// Points whose row is not what Strongroom wrote.
    pub(super) damaged: HashSet<Uuid>,
}

impl Collection {
    /// The chunks with `ids` that are there, in the order of `ids`.
    pub fn get(&self, ids: &[RecordId]) -> Result<Vec<StoredChunk>> {
        let found = self.fetch(ids)?;
        Ok(found.into_iter().flatten().map(|(_, chunk)| chunk).collect())
    }

    /// The nearest chunks, best first.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>> {
        let nearest = self.nearest(request, None)?;
        let ids: Vec<_> = nearest.iter().map(|(id, _)| id.clone()).collect();
        let chunks = self.fetch(&ids)?;
        // What was deleted since the index was asked is left out.
        let hits = nearest.into_iter().zip(chunks).filter_map(|((id, score), found)| {
            let (_, chunk) = found?;
            Some(Hit { id, score, text: chunk.text, metadata: chunk.metadata })
        });
        Ok(hits.collect())
    }

    /// The ids and exact scores of the nearest records, best first; with a filter, among those whose ids pass.
    pub fn nearest(
        &self,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        let (position, params) = self.spec().vector(request.using.as_deref())?;
        request.validate(params.size, params.metric)?;
        let open = self.open()?;
        let mut found = match self.spec().mode {
            Mode::Sealed => self.search_resident(&open, position, request, filter)?,
            Mode::Plain => self.search_engine(&open, position, request, filter)?,
        };
        if let Some(worst) = request.score_threshold {
            found.retain(|(_, score)| !params.metric.better(f64::from(worst), f64::from(*score)));
        }
        Ok(found)
    }

    /// How many chunks there are, as the engine says; [`Collection::verify`] proves it.
    pub fn count(&self) -> Result<usize> {
        self.engine_status().map(|status| status.points)
    }

    /// What the engine says of it.
    pub fn engine_status(&self) -> Result<EngineStatus> {
        self.open()?.engine.status()
    }

    /// Up to `limit` chunks after the one called `after`, in an order that stays the same, and whether there are more.
    pub fn scroll(&self, after: Option<&RecordId>, limit: usize) -> Result<(Vec<StoredChunk>, bool)> {
        if limit == 0 || limit > limits::PAGE_RECORDS {
            return Err(Error::invalid(format!("a page has 1 to {} records", limits::PAGE_RECORDS)));
        }
        let open = self.open()?;
        let from = match after {
            // The next id after a given one is the one that is greater by one.
            Some(id) => {
                let last = self.sealer.blind(self.context.keyring.active(), id)?.as_u128();
                let Some(next) = last.checked_add(1) else { return Ok((Vec::new(), false)) };
                Uuid::from_u128(next)
            }
            None => Uuid::nil(),
        };
        // The registry says what there is: an engine that leaves something out is noticed.
        let rows = self.context.kv.scan_from(Table::Registry, self.id().as_bytes(), self.registry_key(&from));
        let mut ids = rows.take(limit + 1).map(|row| registered_id(&row?.0)).collect::<Result<Vec<_>>>()?;
        let more = ids.len() > limit;
        ids.truncate(limit);
        let points = open.engine.retrieve(&ids)?;
        let opened = self.open_points(&open, &ids, points)?;
        Ok((opened.into_iter().flatten().map(|(_, chunk)| chunk).collect(), more))
    }

    fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<(OpenedVector, StoredChunk)>>> {
        let open = self.open()?;
        let epoch = self.context.keyring.active();
        let blinded: Vec<_> = ids.iter().map(|id| self.sealer.blind(epoch, id)).collect::<Result<_>>()?;
        let points = open.engine.retrieve(&blinded)?;
        self.open_points(&open, &blinded, points)
    }

    /// Opens the points with `ids` against the registry. `None` stands for a record that does not exist.
    fn open_points(
        &self,
        open: &Open,
        ids: &[Uuid],
        points: Vec<Point>,
    ) -> Result<Vec<Option<(OpenedVector, StoredChunk)>>> {
        match self.try_open_points(ids, points) {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write may have been under way between registry and engine. Without one, it has to fit.
                let _settled = self.settled();
                self.try_open_points(ids, open.engine.retrieve(ids)?)
            }
            other => other,
        }
    }

    fn try_open_points(&self, ids: &[Uuid], points: Vec<Point>) -> Result<Vec<Option<(OpenedVector, StoredChunk)>>> {
        let keys: Vec<_> = ids.iter().map(|id| self.registry_key(id)).collect();
        let entries = self.context.kv.get_many(Table::Registry, &keys)?;
        let points: HashMap<Uuid, Point> = points.into_iter().map(|p| (p.id, p)).collect();
        let open_one = |(id, row): (&Uuid, &Option<Vec<u8>>)| match (points.get(id), row) {
            (None, None) => Ok(None),
            (Some(point), Some(row)) => self.sealer.open(point, &self.entry(id, row)?).map(Some),
            (None, Some(_)) => Err(Error::integrity("a record that the vector engine dropped")),
            (Some(_), None) => Err(Error::integrity("a record that the vector engine made up")),
        };
        // Opening takes microseconds: only a long page is worth other threads.
        ids.par_iter().zip(entries.par_iter()).with_min_len(64).map(open_one).collect()
    }

    fn search_resident(
        &self,
        open: &Open,
        position: u8,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        loop {
            if let Some(indexes) = open.resident.read().as_ref() {
                let index = indexes.get(&position).ok_or_else(|| Error::internal("a vector without an index"))?;
                let hits = index.search(&request.vector, request.limit, filter)?;
                return Ok(hits.into_iter().map(|hit| (hit.id, hit.score)).collect());
            }
            self.load_resident(open)?;
        }
    }

    /// Opens every sealed vector into the resident indexes, and notices whatever the engine dropped or changed.
    fn load_resident(&self, open: &Open) -> Result<()> {
        let _settled = self.settled();
        if open.resident.read().is_some() {
            return Ok(());
        }
        let Registered { mut entries, damaged } = self.registered()?;
        if !damaged.is_empty() {
            return Err(Error::integrity("a registry row"));
        }
        let mut indexes: BTreeMap<u8, Resident> = (0_u8..)
            .zip(self.spec().vectors.values())
            .map(|(position, p)| Ok((position, Resident::new(p.size, p.metric, self.context.lock_policy)?)))
            .collect::<Result<_>>()?;
        for index in indexes.values_mut() {
            index.reserve(entries.len());
        }
        let mut from = None;
        loop {
            let (points, next) = open.engine.scroll(from, SCROLL_POINTS)?;
            let expected: Vec<_> = points
                .iter()
                .map(|p| {
                    entries.remove(&p.id).ok_or_else(|| Error::integrity("a record that the vector engine made up"))
                })
                .collect::<Result<_>>()?;
            let opened: Vec<OpenedVector> = points
                .par_iter()
                .zip(expected.par_iter())
                .with_min_len(32)
                .map(|(point, entry)| {
                    entry.check(self.context.keyring.provider(), &point.payload)?;
                    self.sealer.open_vector(point, entry)
                })
                .collect::<Result<_>>()?;
            for vector in &opened {
                for (position, index) in &mut indexes {
                    index.upsert(vector.id.clone(), vector.at(*position)?)?;
                }
            }
            match next {
                Some(id) => from = Some(id),
                None => break,
            }
        }
        if !entries.is_empty() {
            return Err(Error::integrity(format!("the vector engine dropped {} records: it", entries.len())));
        }
        *open.resident.write() = Some(indexes);
        Ok(())
    }

    /// What the registry says the collection holds.
    pub(super) fn registered(&self) -> Result<Registered> {
        let mut registered = Registered::default();
        for row in self.context.kv.scan(Table::Registry, self.id().as_bytes()) {
            let (key, value) = row?;
            let id = registered_id(&key)?;
            match self.entry(&id, &value) {
                Ok(entry) => {
                    registered.entries.insert(id, entry);
                }
                Err(_) => {
                    registered.damaged.insert(id);
                }
            }
        }
        Ok(registered)
    }

    fn entry(&self, id: &Uuid, row: &[u8]) -> Result<Entry> {
        Entry::from_row(&self.context.keyring, &self.registry_key(id), row)
    }

    /// Asks the engine, then trusts nothing but the sealed vectors: the score is computed from them, and an engine that
    /// scored something else is refused.
    fn search_engine(
        &self,
        open: &Open,
        position: u8,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        match self.try_search_engine(open, position, request, filter) {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write may have been under way between the engine's score and our look. Without one, it has to fit.
                let _settled = self.settled();
                self.try_search_engine(open, position, request, filter)
            }
            other => other,
        }
    }

    fn try_search_engine(
        &self,
        open: &Open,
        position: u8,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        let (_, params) = self.spec().vector(request.using.as_deref())?;
        let metric = params.metric;
        // The engine cannot filter by what it must not know: ask for everything and filter here.
        let limit = if filter.is_some() { open.engine.status()?.points } else { request.limit };
        if limit == 0 {
            return Ok(Vec::new());
        }
        let nearest = Nearest { position, vector: &request.vector, limit, exact: request.exact, ef: request.ef };
        let (points, scores): (Vec<Point>, Vec<f32>) = open.engine.search(&nearest)?.into_iter().unzip();
        let ids: Vec<_> = points.iter().map(|p| p.id).collect();
        if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
            return Err(Error::integrity("what the vector engine found"));
        }
        let opened = self.try_open_points(&ids, points)?;
        let mut found = Vec::with_capacity(opened.len());
        for (opened, engine_score) in opened.into_iter().zip(scores) {
            let Some((vector, chunk)) = opened else { continue };
            let exact = metric.score_f64(&request.vector, vector.at(position)?);
            let slack = metric.engine_slack(&request.vector, vector.at(position)?);
            if (exact - f64::from(engine_score)).abs() > slack {
                return Err(Error::integrity("a vector that the engine searches"));
            }
            if filter.is_none_or(|pass| pass(&chunk.id)) {
                found.push((chunk.id.clone(), exact));
            }
        }
        found.sort_by(|a, b| metric.best_first(a.1, b.1).then_with(|| a.0.cmp(&b.0)));
        found.truncate(request.limit);
        #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
        let found = found.into_iter().map(|(id, score)| (id, score as f32)).collect();
        Ok(found)
    }
}

/// The id in the key of a registry row.
fn registered_id(key: &[u8]) -> Result<Uuid> {
    let id = key.get(16..).and_then(|id| Uuid::from_slice(id).ok());
    id.ok_or_else(|| Error::integrity("a registry row"))
}
