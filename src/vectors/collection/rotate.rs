//! Moving the points of a collection to the epoch that seals.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::Epoch;
use crate::kv::{Batch, Table};
use crate::rotation::{Load, Mover, Tally};
use crate::vectors::engine::{EngineCollection as _, Fields, Point};
use crate::vectors::journal::{self, JournalEntry};
use crate::vectors::point::Sealed;
use crate::vectors::registry;

use super::Collection;
use super::read::{Listed, SCROLL_POINTS, registered_id};

/// Points that are asked for at a time: what is read twice, or held in memory, stays bounded when they are large.
const RETRIEVED: usize = 32;

/// Moves points to one epoch from all others.
pub(crate) struct PointMover<'a> {
    collection: &'a Collection,
    to: Epoch,
    /// Whether points that do not open are removed.
    discard: bool,
    /// Whether points are removed whatever they are: nobody refers to them.
    orphans: bool,
    /// Whether points that are in that epoch are looked at too, and what is derived from them is made anew.
    all: bool,
}

/// A point as registry and engine have it.
pub(crate) struct PointRow {
    id: Uuid,
    registry: Box<[u8]>,
    point: Option<Point>,
}

/// A point that is ready to be moved, and the registry row that must still be there for it.
pub(crate) struct MovedPoint {
    id: Uuid,
    before: Box<[u8]>,
    /// As it is sealed now, with its version; `None` for one that does not open.
    sealed: Option<(Sealed, Was)>,
}

/// What a point was.
struct Was {
    version: u64,
    payload: Vec<u8>,
}

impl Collection {
    /// Moves every point that is not sealed in `to`.
    pub(crate) fn point_mover(&self, to: Epoch, discard: bool) -> PointMover<'_> {
        PointMover { collection: self, to, discard, orphans: false, all: false }
    }

    /// Removes every point that is not sealed in `to`: of embeddings whose memories have moved or gone.
    pub(crate) fn orphan_remover(&self, to: Epoch) -> PointMover<'_> {
        PointMover { collection: self, to, discard: true, orphans: true, all: false }
    }

    /// Moves every point that is not sealed in `to`, and makes the tokens of all others anew.
    pub(super) fn token_maker(&self, to: Epoch) -> PointMover<'_> {
        PointMover { collection: self, to, discard: false, orphans: false, all: true }
    }

    /// How many points registry, journal and engine have in `epoch`.
    pub(crate) fn sealed_in(&self, epoch: Epoch) -> Result<u64> {
        let open = self.open()?;
        // Nothing of the journal is needed any more that the engine has on disk.
        self.flush()?;
        let graphs = self.graph_rows_in(epoch)?;
        let _settled = self.settled();
        let mut found = graphs + self.registered_in(epoch)?;
        // One that is kept whole for a backup still has what was moved since; the engine has come out the same without.
        let whole = self.untrimmed.load(Ordering::SeqCst);
        for entry in journal::entries(&*self.context.kv, self.id()).take_while(|_| !whole) {
            for write in entry?.1 {
                if let JournalEntry::Upsert(points) = write {
                    found += points.iter().filter(|point| point.epoch == epoch.as_u32()).count() as u64;
                }
            }
        }
        let (mut from, mut listed) = (None, Listed::default());
        loop {
            let (points, next) = open.engine.scroll(from, SCROLL_POINTS, Fields::Head)?;
            listed.add(self, points.len())?;
            found += points.iter().filter(|point| point.epoch == epoch.as_u32()).count() as u64;
            match next {
                Some(id) => from = Some(id),
                None => return Ok(found),
            }
        }
    }
}

impl Collection {
    /// How many records the registry has in `epoch`.
    pub(crate) fn registered_in(&self, epoch: Epoch) -> Result<u64> {
        let rows = self.context.kv.scan(Table::Registry, self.id().as_bytes());
        rows.map(|row| Ok(u64::from(registry::claimed_epoch(&row?.1).is_ok_and(|claimed| claimed == epoch)))).sum()
    }
}

impl PointMover<'_> {
    /// `sealed` as it is derived now: another field may have been declared since, or the mode changed. Nobody else writes.
    fn up_to_date(&self, sealed: Sealed) -> Result<Sealed> {
        let shaping = self.collection.sealer.shaping();
        if Arc::ptr_eq(&sealed.shaping, &shaping) {
            return Ok(sealed);
        }
        self.collection.sealer.derive_anew(&shaping, &sealed.point, &sealed.entry)
    }

    /// Whether a point that did not open when it was read does now: the engine had not been given it yet, or had failed.
    /// Nobody else writes, and `head` is the last write.
    fn opens_by_now(&self, head: u64, open: &super::Open, id: &Uuid, registered: &[u8]) -> Result<bool> {
        let collection = self.collection;
        let before = collection.failures.load(Ordering::SeqCst);
        let mut applied = collection.applied.lock();
        while *applied != head {
            collection.turn.wait(&mut applied);
        }
        let opened = collection.entry(id, registered).and_then(|entry| {
            let found = open.engine.retrieve(&[*id], Fields::Both)?;
            let point = found.into_iter().find(|point| point.id == *id).ok_or_else(crate::crypto::open_failed)?;
            collection.sealer.open(&point, &entry)
        });
        match opened {
            Ok(_) => Ok(true),
            Err(e) if e.kind() != ErrorKind::Integrity => Err(e),
            Err(e) if collection.failures.load(Ordering::SeqCst) != before || !collection.is_current(open) => {
                Err(Error::new(ErrorKind::Unavailable, "the engine failed while points moved")
                    .with_remedy("try again")
                    .with_source(e))
            }
            Err(_) => Ok(false),
        }
    }
}

impl Mover for PointMover<'_> {
    type Row = PointRow;
    type Sealed = MovedPoint;

    fn read(&self, after: Option<&[u8]>, most: usize) -> Result<Option<Load<PointRow>>> {
        let collection = self.collection;
        let id = collection.id();
        let prefix = id.as_bytes();
        let from = after.map_or_else(|| prefix.to_vec(), |after| [after, &[0]].concat());
        let (mut rows, mut through) = (Vec::new(), None);
        for row in collection.context.kv.scan_from(Table::Registry, prefix, from) {
            let (key, value) = row?;
            if self.all || registry::claimed_epoch(&value).ok() != Some(self.to) {
                rows.push((registered_id(&key)?, value));
            }
            through = Some(key);
            if rows.len() == most {
                break;
            }
        }
        let Some(through) = through else { return Ok(None) };
        let mut load = Load::new(most);
        let mut rows = rows.into_iter();
        loop {
            let some: Vec<_> = rows.by_ref().take(RETRIEVED).collect();
            if some.is_empty() {
                load.reach(through.into_vec());
                return Ok(Some(load));
            }
            let ids: Vec<Uuid> = some.iter().map(|(id, _)| *id).collect();
            let points = collection.open()?.engine.retrieve(&ids, Fields::Both)?;
            let mut points: HashMap<Uuid, Point> = points.into_iter().map(|point| (point.id, point)).collect();
            for (id, registry) in some {
                if !load.has_room() {
                    // The rest is read again for the next load.
                    return Ok(Some(load));
                }
                let point = points.remove(&id);
                let bytes = point.as_ref().map_or(0, |point| point.payload.len() + point.vector.len());
                load.push(PointRow { id, registry, point }, collection.registry_key(&id), bytes);
            }
        }
    }

    fn seal(&self, row: PointRow) -> Result<MovedPoint> {
        let PointRow { id, registry, point } = row;
        let sealed = point.ok_or_else(crate::crypto::open_failed).and_then(|point| {
            let entry = self.collection.entry(&id, &registry)?;
            let sealer = &self.collection.sealer;
            let sealed = if entry.epoch == self.to {
                sealer.rederive(&point, &entry)?
            } else {
                sealer.reseal(self.to, &point, &entry)?
            };
            Ok((sealed, Was { version: entry.version, payload: point.payload }))
        });
        let sealed = match sealed {
            Err(e) if e.kind() == ErrorKind::Integrity => None,
            other => Some(other?),
        };
        Ok(MovedPoint { id, before: registry, sealed })
    }

    fn write(&self, load: Vec<MovedPoint>, beside: Batch) -> Result<Tally> {
        let collection = self.collection;
        let writing = collection.context.keyring.writing();
        crate::rotation::check_epoch(&writing, self.to)?;
        let open = collection.open()?;
        let mut tally = Tally::default();
        let (mut batch, mut points, mut gone) = (beside, Vec::new(), Vec::new());
        let mut moving = None;
        let mut head = collection.head.lock();
        // From here on nobody else writes: what is still registered as it was read may move.
        let ids: Vec<Uuid> = load.iter().map(|moved| moved.id).collect();
        for (moved, now) in load.into_iter().zip(collection.registry_rows(&ids)?) {
            if now.as_deref() != Some(&*moved.before) {
                tally.passed += 1;
                continue;
            }
            match moved.sealed {
                Some(_) if self.orphans => tally.passed += 1,
                Some((sealed, _)) if sealed.point.id == moved.id => {
                    let Sealed { point, .. } = self.up_to_date(sealed)?;
                    tally.moved(point.payload.len() + point.vector.len());
                    points.push(point);
                    moving.get_or_insert_with(|| collection.sealer.parts.moving());
                    continue;
                }
                Some((sealed, was)) => {
                    let Sealed { point, entry, .. } = self.up_to_date(sealed)?;
                    tally.moved(point.payload.len() + point.vector.len());
                    let handed = &collection.context.handed;
                    handed.moves(collection.id(), moved.id, point.id, was.version, was.payload);
                    collection.register(&mut batch, &point.id, &entry)?;
                    points.push(point);
                }
                None if self.opens_by_now(*head, &open, &moved.id, &moved.before)? => {
                    tally.passed += 1;
                    tally.again += 1;
                    continue;
                }
                None => {
                    tally.damaged += 1;
                    tracing::warn!(point = %moved.id, discarded = self.discard, "a point does not open");
                    if !self.discard {
                        continue;
                    }
                }
            }
            batch.delete(Table::Registry, collection.registry_key(&moved.id));
            gone.push(moved.id);
        }
        if gone.is_empty() && points.is_empty() {
            collection.context.kv.write(batch)?;
            return Ok(tally);
        }
        let seq = head.checked_add(1).ok_or_else(|| Error::integrity("the head of a journal"))?;
        let writes = [JournalEntry::Upsert(points), JournalEntry::Delete(gone)];
        let bytes = journal::append(&mut batch, collection.id(), seq, &writes)?;
        collection.context.kv.write(batch)?;
        *head = seq;
        drop(head);
        // The embeddings are what they were, so the indexes stay as they are. Only what was discarded may be in them.
        let discards = tally.damaged > 0 && self.discard;
        collection.give_to_engine(&open, seq, bytes, Ok(()), writes, |_| Ok(()))?;
        if discards {
            *open.resident.write() = None;
        }
        drop((moving, writing));
        if collection.flush_is_due() {
            collection.flush()?;
        }
        Ok(tally)
    }
}
