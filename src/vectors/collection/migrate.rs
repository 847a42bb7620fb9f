//! Moving to another engine or placement, or to a home for another mode, while everybody goes on reading and writing.
//!
//! From the beginning both engines are given every write; reads stay with the old one. Page by page the new one is given
//! what it lacks, then every record in it is opened against the registry, and then the description changes hands in one
//! batch. A move that ends half-way leaves the old engine as it is; taken up again, it gives the new one what it lacks.
//!
//! With another mode, the new engine is given the same sealed fields and what is derived from them for that mode. The
//! journal, which has points as the old mode derived them, is emptied by the batch that changes the description.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;
use rayon::prelude::*;
use serde::Serialize;
use uuid::Uuid;

use crate::crypto::MacKey;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Writing;
use crate::kv::{Batch, Table};
use crate::limits;
use crate::vectors::engine::{EngineCollection, Fields, Point};
use crate::vectors::journal;
use crate::vectors::registry::Entry;
use crate::vectors::router::Target;
use crate::vectors::seat::Derive;
use crate::vectors::shaping::Shaping;
use crate::vectors::{Engine, Mode, Placement};

use super::read::{Listed, registered_id};
use super::{Collection, Open};

/// How often is looked whether anybody still reads in the engine that was left.
const LOOK: Duration = Duration::from_millis(5);

/// How often is looked whether a backup still needs the journal.
const LOOK_FOR_BACKUP: Duration = Duration::from_millis(50);

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

/// How the description changes hands.
pub(in crate::vectors) struct Describing<H, C> {
    /// Keeps everybody else from describing the collection, for as long as what it returns lives.
    pub(in crate::vectors) hold: H,
    /// Writes the description, together with a batch.
    pub(in crate::vectors) commit: C,
}

struct Move<'a> {
    collection: &'a Collection,
    target: Target,
    open: Arc<Open>,
    next: Arc<dyn EngineCollection>,
    derive: Derive,
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

    /// Refuses a mode that the collection cannot have.
    pub(in crate::vectors) fn check_mode(&self, mode: Mode) -> Result<()> {
        self.spec().clone().mode(mode).validate()?;
        let same_place = self.searchable(mode) == self.searchable(self.mode());
        if mode != self.mode() && same_place && self.engine() == Engine::Server(Placement::Shared) {
            // Points have the same ids, and would lie in the same physical collection.
            return Err(Error::invalid("a collection without vectors cannot change its mode where it is shared")
                .with_remedy(
                    "move it with `strongroom collection migrate --engine server --placement dedicated` first",
                ));
        }
        Ok(())
    }

    /// Takes over what gives noise to vectors that were not written as veiled ones.
    pub(in crate::vectors) fn set_noise(&self, noise: Arc<dyn MacKey>) {
        self.sealer.reshape(|shaping| shaping.noise = Some(noise));
    }

    /// Moves to `target`, which is written down by `describing` once everything is there.
    pub(in crate::vectors) fn migrate<G>(
        &self,
        target: Target,
        describing: &Describing<impl Fn() -> G, impl Fn(&Writing<'_>, Batch) -> Result<()>>,
        progress: &mut dyn FnMut(Migration),
    ) -> Result<Migration> {
        let open = self.open()?;
        let shape = self.shape(target.mode.unwrap_or(self.mode()));
        let next: Arc<dyn EngineCollection> = self.context.engine.open(self.id(), &target.home, &shape)?.into();
        let points = open.engine.status()?.points;
        let derive = self.derive_for(target.mode);
        let done = Migration { points: points as u64, ..Migration::default() };
        let mut moving = Move {
            collection: self,
            target,
            open: open.clone(),
            next: next.clone(),
            derive: derive.clone(),
            done,
            progress,
        };
        {
            let _settled = self.settled();
            if target.mode == Some(Mode::Veiled) {
                self.make_parts()?;
            }
            open.engine.begin(next, derive);
        }
        let moved = moving.run(describing);
        if moved.is_err() {
            open.engine.give_up();
        }
        moved
    }

    /// What is made of points for an engine in another mode; without one they stay as they are.
    fn derive_for(&self, mode: Option<Mode>) -> Derive {
        match mode {
            None => Arc::new(Ok),
            Some(mode) => {
                let sealer = self.sealer.clone();
                Arc::new(move |points| sealer.in_mode(mode, points))
            }
        }
    }

    /// Makes as many parts as there are to be for what is registered. Nobody may write meanwhile.
    fn make_parts(&self) -> Result<()> {
        let parts = self.sealer.parts.for_points(self.registry_len()?);
        let mut batch = Batch::default();
        self.sealer.parts.put(&mut batch, self.id(), parts);
        self.context.kv.write(batch)?;
        self.context.kv.sync()?;
        self.sealer.parts.stored(parts, None, 0);
        Ok(())
    }

    /// `point` of the new engine as it is to be, if its tokens are other ones. Refuses one that is not what was written.
    fn mended(&self, shaping: &Arc<Shaping>, point: &Point, entry: &Entry) -> Result<Option<Point>> {
        if !self.is_sound_as(shaping, point, entry)? {
            return Err(unsound());
        }
        if point.tokens.is_empty() && (shaping.mode == Mode::Sealed || shaping.declared.is_empty()) {
            return Ok(None);
        }
        let right = self.sealer.derive_anew(shaping, point, entry)?.point;
        let tokens = |point: &Point| point.tokens.iter().copied().collect::<BTreeSet<_>>();
        Ok((tokens(&right) != tokens(point)).then_some(right))
    }
}

impl Move<'_> {
    fn run<G>(
        &mut self,
        describing: &Describing<impl Fn() -> G, impl Fn(&Writing<'_>, Batch) -> Result<()>>,
    ) -> Result<Migration> {
        self.copy()?;
        self.remove_strangers()?;
        loop {
            let shaping = self.collection.sealer.shaping();
            self.verify(&shaping)?;
            if self.change(&shaping, describing)? {
                break;
            }
            // A field was declared meanwhile: everything is looked at again.
            self.done.verified = 0;
        }
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
                self.next.upsert((self.derive)(lacking)?)?;
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

    /// Opens every record in the new engine. What was looked at stays right: every write since goes there too. Tokens that
    /// an earlier move has made when other fields were declared are made anew.
    fn verify(&mut self, shaping: &Shaping) -> Result<()> {
        let shaping = Arc::new(shaping.in_mode(self.target.mode.unwrap_or(shaping.mode)));
        let mut from = None;
        loop {
            let _settled = self.collection.settled();
            self.check()?;
            let (points, next) = self.next.scroll(from, limits::MIGRATE_POINTS, Fields::Both)?;
            let mut entries = self.registered(from, next)?;
            let registered = points.iter().map(|point| Some((point, entries.remove(&point.id)?)));
            let registered: Vec<(&Point, Entry)> = registered.collect::<Option<_>>().ok_or_else(unsound)?;
            if !entries.is_empty() {
                return Err(unsound());
            }
            let collection = self.collection;
            let mended = registered.par_iter().with_min_len(16);
            let mended = mended.map(|(point, entry)| collection.mended(&shaping, point, entry));
            let mended: Vec<Point> = mended.filter_map(Result::transpose).collect::<Result<_>>()?;
            if !mended.is_empty() {
                self.next.upsert(mended)?;
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

    /// Makes the new engine the collection's. `false` when points are derived in another way than by `shaping` by now.
    fn change<G>(
        &self,
        shaping: &Arc<Shaping>,
        describing: &Describing<impl Fn() -> G, impl Fn(&Writing<'_>, Batch) -> Result<()>>,
    ) -> Result<bool> {
        let collection = self.collection;
        let left = loop {
            // Who holds off writes for long is waited for before anybody else has to wait.
            drop(collection.settled());
            // Before any other, and in this order: as who writes and who describes take them.
            let writing = collection.context.keyring.writing();
            let held = (describing.hold)();
            let (mut head, mut applied) = collection.settled();
            self.check()?;
            // Nobody closes what is open, nor opens it again where it was.
            let slot = collection.open.read();
            if !slot.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.open)) {
                return Err(failed_meanwhile());
            }
            if !Arc::ptr_eq(shaping, &collection.sealer.shaping()) {
                return Ok(false);
            }
            // The journal is trimmed when the new engine has everything on disk.
            collection.context.kv.sync()?;
            if !self.next.flush()? {
                return Err(Error::new(ErrorKind::Busy, "the engine that the collection moves to is busy")
                    .with_remedy("try again"));
            }
            let commit = |batch| (describing.commit)(&writing, batch);
            let Some(mode) = self.target.mode else {
                commit(Batch::default())?;
                break self.take_seat(None)?;
            };
            let changed = collection.context.pins.unless_any(|| {
                let mut batch = Batch::default();
                let seq = journal::start_anew(&mut batch, collection.id(), *head)?;
                commit(batch)?;
                (*head, *applied) = (seq, seq);
                self.take_seat(Some(mode))
            });
            if let Some(left) = changed {
                break left?;
            }
            // A backup has begun that needs the journal whole: it is of the old mode.
            drop((slot, applied, head, held, writing));
            std::thread::sleep(LOOK_FOR_BACKUP);
        };
        // Its files may only go when nobody reads them any more; every call to it ends.
        while Arc::strong_count(&left) > 1 {
            std::thread::sleep(LOOK);
        }
        Ok(true)
    }

    /// Sits in the new engine, and returns the other. Nobody may write meanwhile, and the description says so already.
    fn take_seat(&self, mode: Option<Mode>) -> Result<Arc<dyn EngineCollection>> {
        let collection = self.collection;
        if mode.is_some() {
            // Before the mode: who finds none loads them, and that waits until this is done.
            *self.open.resident.write() = None;
            collection.pending_entries.store(0, Ordering::SeqCst);
            collection.pending_bytes.store(0, Ordering::SeqCst);
            collection.wants_optimizing.store(true, Ordering::Relaxed);
        }
        let mut left = None;
        collection.sealer.reshape(|shaping| {
            // Who asks for the mode waits here: it is that of the engine that is asked.
            left = Some(self.open.engine.change());
            *collection.home.write() = self.target.home;
            if let Some(mode) = mode {
                (shaping.mode, shaping.changes) = (mode, shaping.changes + 1);
            }
        });
        left.ok_or_else(|| Error::internal("a move that was not made"))?
    }

    /// That the collection is still open as it was, and the new engine has not missed a write. Called between writes.
    fn check(&self) -> Result<()> {
        if let Some(e) = self.open.engine.take_failure() {
            return Err(e);
        }
        if self.collection.is_current(&self.open) {
            return Ok(());
        }
        Err(failed_meanwhile())
    }
}

fn failed_meanwhile() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine failed while the collection moved")
        .with_remedy("try again: the move goes on where it was")
}

fn unsound() -> Error {
    Error::integrity("a record of the collection that moves")
}
