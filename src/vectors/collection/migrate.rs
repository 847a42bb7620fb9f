//! Moving to another engine or placement, while everybody goes on reading and writing.
//!
//! From the beginning both engines are given every write; reads stay with the old one. Page by page the new one is given
//! what it lacks, then every record in it is opened against the registry, and then the description changes hands in one
//! batch. A move that ends half-way leaves the old engine as it is; taken up again, it gives the new one what it lacks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Writing;
use crate::kv::Table;
use crate::limits;
use crate::vectors::engine::{EngineCollection, Fields, Point};
use crate::vectors::registry::Entry;
use crate::vectors::router::Home;

use super::read::{Listed, registered_id};
use super::{Collection, Open};

/// How often is looked whether anybody still reads in the engine that was left.
const LOOK: Duration = Duration::from_millis(5);

/// How far a move is, or was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Points that there are.
    pub points: u64,
    /// Those that were looked at, and given to the new engine if it lacked them.
    pub copied: u64,
    /// Those that were opened in the new engine.
    pub verified: u64,
}

struct Move<'a> {
    collection: &'a Collection,
    open: Arc<Open>,
    next: Arc<dyn EngineCollection>,
    done: Migration,
    progress: &'a mut dyn FnMut(Migration),
}

impl Collection {
    /// Holds other moves off. [`Busy`](ErrorKind::Busy) while there is one.
    pub(in crate::vectors) fn start_moving(&self) -> Result<MutexGuard<'_, ()>> {
        self.moving.try_lock().ok_or_else(|| {
            Error::new(ErrorKind::Busy, "the collection moves already").with_remedy("wait until it has moved")
        })
    }

    /// Moves to `target`, which `commit` writes down once everything is there.
    pub(in crate::vectors) fn migrate(
        &self,
        target: Home,
        commit: impl FnOnce(&Writing<'_>) -> Result<()>,
        progress: &mut dyn FnMut(Migration),
    ) -> Result<Migration> {
        let open = self.open()?;
        let next: Arc<dyn EngineCollection> = self.context.engine.open(self.id(), &target, &self.shape())?.into();
        let points = open.engine.status()?.points as u64;
        let done = Migration { points, ..Migration::default() };
        let mut moving = Move { collection: self, open: open.clone(), next: next.clone(), done, progress };
        {
            let _settled = self.settled();
            open.engine.begin(next);
        }
        let moved = moving.run(target, commit);
        if moved.is_err() {
            open.engine.give_up();
        }
        moved
    }
}

impl Move<'_> {
    fn run(&mut self, target: Home, commit: impl FnOnce(&Writing<'_>) -> Result<()>) -> Result<Migration> {
        self.copy()?;
        self.remove_strangers()?;
        self.verify()?;
        self.change(target, commit)?;
        self.done.points = self.done.verified;
        Ok(self.done)
    }

    /// Gives the new engine what it lacks.
    fn copy(&mut self) -> Result<()> {
        let (mut from, mut listed) = (None, Listed::default());
        loop {
            let _settled = self.collection.settled();
            self.check()?;
            let (points, next) = self.open.engine.scroll(from, limits::MIGRATE_POINTS, Fields::Both)?;
            listed.add(self.collection, points.len())?;
            let ids: Vec<Uuid> = points.iter().map(|point| point.id).collect();
            let there = self.next.retrieve(&ids, Fields::Head)?;
            let there: HashMap<Uuid, (u32, u64)> = there.iter().map(|p| (p.id, (p.epoch, p.version))).collect();
            let rows = self.collection.registry_rows(&ids)?;
            // What the registry does not know was never written.
            let known = points.into_iter().zip(rows).filter_map(|(point, row)| Some((point, row?)));
            let lacking = known.filter(|(point, _)| there.get(&point.id) != Some(&(point.epoch, point.version)));
            // What is derived from the sealed fields is made anew: the old engine need not be right about it.
            let lacking = lacking.map(|(point, row)| {
                let entry = self.collection.entry(&point.id, &row)?;
                Ok(self.collection.sealer.rederive(&point, &entry)?.point)
            });
            let lacking: Vec<Point> = lacking.collect::<Result<_>>()?;
            if !lacking.is_empty() {
                self.next.upsert(lacking)?;
            }
            self.done.copied += ids.len() as u64;
            (self.progress)(self.done);
            match next {
                Some(id) => from = Some(id),
                None => return Ok(()),
            }
        }
    }

    /// Removes from the new engine what an earlier move left there.
    fn remove_strangers(&self) -> Result<()> {
        let (mut from, mut listed) = (None, Listed::default());
        loop {
            let (head, _applied) = self.collection.settled();
            self.check()?;
            let (points, next) = self.next.scroll(from, limits::MIGRATE_POINTS, Fields::Head)?;
            listed.add(self.collection, points.len())?;
            let ids: Vec<Uuid> = points.iter().map(|point| point.id).collect();
            let rows = self.collection.registry_rows(&ids)?;
            let strangers: Vec<Uuid> =
                ids.into_iter().zip(rows).filter_map(|(id, row)| row.is_none().then_some(id)).collect();
            if !strangers.is_empty() {
                self.next.delete(&strangers, *head)?;
            }
            match next {
                Some(id) => from = Some(id),
                None => return Ok(()),
            }
        }
    }

    /// Opens every record in the new engine. What was looked at stays right: every write since goes there too.
    fn verify(&mut self) -> Result<()> {
        let mut from = None;
        loop {
            let _settled = self.collection.settled();
            self.check()?;
            let (points, next) = self.next.scroll(from, limits::MIGRATE_POINTS, Fields::Both)?;
            let mut entries = self.registered(from, next)?;
            for point in &points {
                let entry = entries.remove(&point.id).ok_or_else(unsound)?;
                if !self.collection.is_sound(point, &entry)? {
                    return Err(unsound());
                }
            }
            if !entries.is_empty() {
                return Err(unsound());
            }
            self.done.verified += points.len() as u64;
            (self.progress)(self.done);
            match next {
                Some(id) => from = Some(id),
                None => return Ok(()),
            }
        }
    }

    /// What the registry has from one id up to another.
    fn registered(&self, from: Option<Uuid>, to: Option<Uuid>) -> Result<HashMap<Uuid, Entry>> {
        let collection = self.collection;
        let (id, start) = (collection.id(), collection.registry_key(&from.unwrap_or_default()));
        let mut entries = HashMap::new();
        for row in collection.context.kv.scan_from(Table::Registry, id.as_bytes(), start) {
            let (key, value) = row?;
            let id = registered_id(&key)?;
            if to.is_some_and(|to| id >= to) {
                break;
            }
            entries.insert(id, collection.entry(&id, &value)?);
        }
        Ok(entries)
    }

    /// Makes the new engine the collection's.
    fn change(&self, target: Home, commit: impl FnOnce(&Writing<'_>) -> Result<()>) -> Result<()> {
        let collection = self.collection;
        // Before any other: who writes takes these in the same order.
        let writing = collection.context.keyring.writing();
        let left = {
            let _settled = collection.settled();
            self.check()?;
            // The journal is trimmed when the new engine has everything on disk.
            collection.context.kv.sync()?;
            if !self.next.flush()? {
                return Err(Error::new(ErrorKind::Busy, "the engine that the collection moves to is busy")
                    .with_remedy("try again"));
            }
            commit(&writing)?;
            *collection.home.write() = target;
            self.open.engine.change()?
        };
        drop(writing);
        // Its files may only go when nobody reads them any more; every call to it ends.
        while Arc::strong_count(&left) > 1 {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// That the collection is still open as it was, and the new engine has not missed a write. Called between writes.
    fn check(&self) -> Result<()> {
        if let Some(e) = self.open.engine.take_failure() {
            return Err(e);
        }
        if self.collection.is_current(&self.open) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "the engine failed while the collection moved")
            .with_remedy("try again: the move goes on where it was"))
    }
}

fn unsound() -> Error {
    Error::integrity("a record of the collection that moves")
}
