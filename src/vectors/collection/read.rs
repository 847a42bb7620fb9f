//! Reading: by id, page by page. Everything is opened against the registry before it is returned.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::keys::Live;
use crate::kv::Table;
use crate::limits;
use crate::vectors::StoredChunk;
use crate::vectors::engine::{EngineCollection as _, EngineStatus, Fields, Point};
use crate::vectors::point::OpenedVector;
use crate::vectors::registry::Entry;

use super::{Collection, Open};

/// Points that are read from the engine at a time when all are.
pub(super) const SCROLL_POINTS: usize = 1024;

/// Rows of the registry that are read at a time when all are.
const REGISTRY_ROWS: usize = 8192;

/// What the registry says a collection holds.
#[derive(Default)]
pub(super) struct Registered {
    pub(super) entries: HashMap<Uuid, Entry>,
    /// Points whose row is not what Strongroom wrote.
    pub(super) damaged: HashSet<Uuid>,
}

/// How many points a listing has had. An engine that makes points up would never come to an end.
#[derive(Default)]
pub(super) struct Listed {
    points: usize,
    /// As many are believed.
    most: usize,
}

impl Listed {
    /// Counts a page.
    ///
    /// # Errors
    ///
    /// [`Integrity`](ErrorKind::Integrity) when there are far more than there are records in `collection`.
    pub(super) fn add(&mut self, collection: &Collection, points: usize) -> Result<()> {
        self.points = self.points.saturating_add(points);
        if self.points > self.most {
            // Records may have been added since it was counted last.
            self.most = collection.registry_len()?.saturating_mul(2).saturating_add(limits::STRANGE_POINTS);
        }
        if self.points > self.most { Err(Error::integrity("the list of the vector engine's points")) } else { Ok(()) }
    }
}

impl Collection {
    /// How many records the registry has.
    pub(super) fn registry_len(&self) -> Result<usize> {
        let rows = self.context.kv.scan(Table::Registry, self.id().as_bytes());
        rows.map(|row| row.map(|_| 1_usize)).sum()
    }

    /// The chunks with `ids` that are there, in the order of `ids`.
    pub fn get(&self, ids: &[RecordId]) -> Result<Vec<StoredChunk>> {
        let found = self.fetch(ids)?;
        Ok(found.into_iter().flatten().map(|(_, chunk)| chunk).collect())
    }

    /// How many chunks there are, as the engine says; [`Collection::verify`] proves it.
    pub fn count(&self) -> Result<usize> {
        self.engine_status().map(|status| status.points)
    }

    /// What the engine says of it.
    pub fn engine_status(&self) -> Result<EngineStatus> {
        let open = self.open()?;
        // Between two writes: within one that moves records they are there twice.
        let _turn = self.applied.lock();
        open.engine.status()
    }

    /// Up to `limit` chunks after the one called `after`, in the order of their ids, and whether there are more.
    pub fn scroll(&self, after: Option<&RecordId>, limit: usize) -> Result<(Vec<StoredChunk>, bool)> {
        self.steadily(|| {
            check_page(limit)?;
            let open = self.open()?;
            let mut after = after.cloned();
            loop {
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                // Not in the order of blinded ids: that is another one after a rotation.
                let mut ids: Vec<RecordId> = self.with_indexes(&open, |indexes| {
                    Ok(indexes.records.from(from).take(limit + 1).map(|(id, _)| id.clone()).collect())
                })?;
                let more = ids.len() > limit;
                ids.truncate(limit);
                // What was deleted since the index was asked is left out. Who is told that there is more gets something to
                // go on from.
                let page = self.get(&ids)?;
                if !page.is_empty() || !more {
                    return Ok((page, more));
                }
                after = ids.pop();
            }
        })
    }

    pub(super) fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<(OpenedVector, StoredChunk)>>> {
        self.steadily(|| {
            let open = self.open()?;
            self.context.keyring.looking(|live| {
                let candidates = self.candidates(live, ids)?;
                let points = open.engine.retrieve(&candidates, Fields::Both)?;
                let mut opened = self.open_points(&open, &candidates, points)?;
                let lives = 1 + live.older().len();
                // A record is in one epoch.
                Ok(opened.chunks_mut(lives).map(|epochs| epochs.iter_mut().find_map(Option::take)).collect())
            })
        })
    }

    /// What the engine may know the records with `ids` by: an id for each live epoch, record by record.
    pub(super) fn candidates<'a>(&self, live: &Live, ids: impl IntoIterator<Item = &'a RecordId>) -> Result<Vec<Uuid>> {
        let each = ids.into_iter().flat_map(|id| live.newest_first().map(move |epoch| (epoch, id)));
        each.map(|(epoch, id)| self.sealer.blind(epoch, id)).collect()
    }

    /// Opens the points with `ids` against the registry. `None` stands for a record that does not exist.
    pub(super) fn open_points(
        &self,
        open: &Open,
        ids: &[Uuid],
        points: Vec<Point>,
    ) -> Result<Vec<Option<(OpenedVector, StoredChunk)>>> {
        match self.try_open_points(ids, points) {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write may have been under way between registry and engine. Without one, it has to fit.
                let _settled = self.settled();
                self.try_open_points(ids, open.engine.retrieve(ids, Fields::Both)?)
            }
            other => other,
        }
    }

    pub(super) fn try_open_points(
        &self,
        ids: &[Uuid],
        points: Vec<Point>,
    ) -> Result<Vec<Option<(OpenedVector, StoredChunk)>>> {
        let entries = self.registry_rows(ids)?;
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

    /// What the registry says the collection holds.
    pub(super) fn registered(&self) -> Result<Registered> {
        let mut registered = Registered::default();
        let mut rows = self.context.kv.scan(Table::Registry, self.id().as_bytes());
        loop {
            let some: Vec<_> = rows.by_ref().take(REGISTRY_ROWS).collect::<Result<_>>()?;
            if some.is_empty() {
                return Ok(registered);
            }
            let read = some.par_iter().with_min_len(256).map(|(key, value)| {
                let id = registered_id(key)?;
                Ok((id, self.entry(&id, value)))
            });
            for (id, entry) in read.collect::<Result<Vec<_>>>()? {
                match entry {
                    Ok(entry) => {
                        registered.entries.insert(id, entry);
                    }
                    Err(_) => {
                        registered.damaged.insert(id);
                    }
                }
            }
        }
    }

    pub(super) fn entry(&self, id: &Uuid, row: &[u8]) -> Result<Entry> {
        Entry::from_row(&self.context.keyring, &self.registry_key(id), row)
    }
}

/// Refuses a page of so many records.
pub(super) fn check_page(limit: usize) -> Result<()> {
    if limit == 0 || limit > limits::PAGE_RECORDS {
        return Err(Error::invalid(format!("a page has 1 to {} records", limits::PAGE_RECORDS)));
    }
    Ok(())
}

/// The id in the key of a registry row.
pub(super) fn registered_id(key: &[u8]) -> Result<Uuid> {
    let id = key.get(16..).and_then(|id| Uuid::from_slice(id).ok());
    id.ok_or_else(|| Error::integrity("a registry row"))
}
