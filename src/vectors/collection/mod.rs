//! A collection: one description, one engine collection, one resident index per vector, and the order between writes.

mod copy;
mod filter;
mod graph;
mod index;
mod keywords;
mod load;
mod migrate;
mod query;
mod read;
mod rotate;
mod sealed;
mod search;
mod veiled;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Keyring;
use crate::kv::{Batch, KvBackend};
use crate::limits;
use crate::locked::LockPolicy;

use super::blind::{Declared, FieldIndexSpec};
use super::engine::{EngineCollection, SearchableVector, Shape};
use super::inverted::{KeywordIndex, SparseIndex};
use super::journal::{self, JournalEntry};
use super::payload::PayloadIndex;
use super::point::{Embedding, PointSealer};
use super::resident::{Lease, Resident, ResidentBudget};
use super::router::{Home, Router};
use super::seat::Seat;
use super::shaping::{NoiseKey, Shaping};
use super::slots::Slots;
use super::veiling::Parts;
use super::{CollectionId, CollectionKind, CollectionSpec, Engine, HandedOut, JournalPins, Metric, Mode};

pub(in crate::vectors) use migrate::Describing;
pub use migrate::Migration;
pub use sealed::{SealedChunk, SealedHit};
pub use verify::CollectionReport;
pub use write::Staged;

/// What every collection of a tenant works with.
#[derive(Clone)]
pub struct CollectionContext {
    /// The tenant's keys.
    pub keyring: Arc<Keyring>,
    /// Where registry and journal are.
    pub kv: Arc<dyn KvBackend>,
    /// The vector engines.
    pub engine: Router,
    /// Whether resident indexes must be locked in memory.
    pub lock_policy: LockPolicy,
    /// From how many vectors on a resident index gets a search graph.
    pub graph_from: usize,
    /// Who wants journals whole.
    pub pins: JournalPins,
    /// What tokens name.
    pub handed: HandedOut,
    /// What resident indexes may take.
    pub budget: ResidentBudget,
}

/// A collection of a tenant.
pub struct Collection {
    name: String,
    kind: CollectionKind,
    sealer: Arc<PointSealer>,
    /// The declared fields as they are described now.
    indexes: RwLock<BTreeMap<String, FieldIndexSpec>>,
    context: CollectionContext,
    /// The last sequence number that was given out. Held while a write is sealed and put into the journal.
    head: Mutex<u64>,
    /// The last sequence number that the engine was given. Held while the engine and the indexes take a write.
    applied: Mutex<u64>,
    turn: Condvar,
    open: RwLock<Slot>,
    /// Held while the engine is opened, which may wait for a server; [`open`](Self::open) is free meanwhile. When that
    /// failed last, and why.
    opening: Mutex<Option<(Instant, Error)>>,
    home: RwLock<Home>,
    /// Held while it moves to another engine.
    moving: Mutex<()>,
    /// Held while fields are declared and their tokens made.
    indexing: Mutex<()>,
    /// Held while vectors are linked.
    linking: Mutex<()>,
    /// Held while kept graphs are written or sealed anew.
    rewriting: Mutex<()>,
    /// How often the engine failed and was closed.
    failures: AtomicU64,
    /// What the journal holds since the last flush.
    pending_entries: AtomicUsize,
    pending_bytes: AtomicUsize,
    /// Whether the journal was kept whole by the last flush, for somebody who copies.
    untrimmed: AtomicBool,
    /// Milliseconds after `made` of the last use and of the last write.
    used_ms: AtomicU64,
    written_ms: AtomicU64,
    /// Whether anything was written since the last optimisation.
    wants_optimizing: AtomicBool,
    made: Instant,
}

/// The open parts of a collection, and a watch over those that are being let go: the engine's files must never be open
/// twice.
#[derive(Default)]
struct Slot {
    current: Option<Arc<Open>>,
    last: Weak<()>,
    dropped: bool,
}

/// The parts of a collection that are in memory only while it is used.
struct Open {
    engine: Seat,
    /// `None` until the first search.
    resident: Arc<RwLock<Option<Indexes>>>,
    /// Lives until the engine's files are closed: fields are dropped in order.
    files: Arc<()>,
}

/// What searching in trusted memory needs.
struct Indexes {
    /// The slot of each record.
    records: Slots,
    /// Which embeddings of a record the indexes hold, by its slot.
    embeddings: Vec<Embedding>,
    /// One index per vector, by position.
    by_vector: BTreeMap<u8, Resident>,
    /// One index per sparse vector, by position; in every mode, since engines never have these.
    by_sparse: BTreeMap<u8, SparseIndex>,
    /// `None` until the first keyword search.
    keywords: Option<KeywordIndex>,
    /// What filters ask about; `None` until the first filter.
    payload: Option<PayloadIndex>,
    /// Its part of the budget. Given back last: fields are dropped in order.
    lease: Lease,
}

impl Collection {
    /// A collection that the catalog describes. Nothing is opened yet.
    pub(super) fn new(
        id: CollectionId,
        name: String,
        kind: CollectionKind,
        spec: CollectionSpec,
        home: Home,
        noise: Option<&NoiseKey>,
        context: CollectionContext,
    ) -> Result<Self> {
        let head = journal::head(&*context.kv, id)?;
        let parts = Parts::load(&*context.kv, id)?;
        let declared = Arc::new(Declared::new(&spec.indexes)?);
        let noise = noise.map(|noise| noise.key(context.keyring.provider()));
        let shaping = RwLock::new(Arc::new(Shaping { mode: spec.mode, declared, noise, changes: 0 }));
        let indexes = RwLock::new(spec.indexes.clone());
        Ok(Self {
            name,
            kind,
            sealer: Arc::new(PointSealer { keyring: context.keyring.clone(), id, spec, shaping, parts }),
            indexes,
            context,
            head: Mutex::new(head),
            applied: Mutex::new(head),
            turn: Condvar::new(),
            open: RwLock::default(),
            opening: Mutex::default(),
            home: RwLock::new(home),
            moving: Mutex::new(()),
            indexing: Mutex::new(()),
            linking: Mutex::new(()),
            rewriting: Mutex::new(()),
            failures: AtomicU64::new(0),
            pending_entries: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            untrimmed: AtomicBool::new(false),
            used_ms: AtomicU64::new(0),
            written_ms: AtomicU64::new(0),
            wants_optimizing: AtomicBool::new(false),
            made: Instant::now(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom it belongs to.
    pub fn kind(&self) -> CollectionKind {
        self.kind
    }

    /// Its id.
    pub fn id(&self) -> CollectionId {
        self.sealer.id
    }

    /// Its description as it was opened. What may have been changed since is told by [`mode`](Self::mode),
    /// [`engine`](Self::engine) and [`indexes`](Self::indexes).
    pub fn spec(&self) -> &CollectionSpec {
        &self.sealer.spec
    }

    /// How its embeddings are protected now.
    pub fn mode(&self) -> Mode {
        self.sealer.shaping().mode
    }

    /// Which engine holds its points now.
    pub fn engine(&self) -> Engine {
        self.home().engine()
    }

    /// Where its points are now.
    pub(super) fn home(&self) -> Home {
        *self.home.read()
    }

    /// How long it has not been used.
    pub fn idle(&self) -> Duration {
        self.since(&self.used_ms)
    }

    /// How long nothing was written to it.
    pub fn unwritten_for(&self) -> Duration {
        self.since(&self.written_ms)
    }

    /// Whether anything was written since the last optimisation.
    pub fn wants_optimizing(&self) -> bool {
        self.wants_optimizing.load(Ordering::Relaxed)
    }

    /// Bytes that the journal holds for this collection since the last flush.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    /// Whether the journal holds anything that a flush could remove.
    pub fn has_pending(&self) -> bool {
        self.pending_entries.load(Ordering::Relaxed) > 0 || self.untrimmed.load(Ordering::Relaxed)
    }

    /// Whether the journal has grown so long that a flush is due. Maintenance makes it, and rotations.
    pub fn flush_is_due(&self) -> bool {
        self.is_pending_beyond(limits::JOURNAL_BYTES, limits::JOURNAL_ENTRIES)
    }

    /// Whether it has grown so far beyond that who writes has to wait for a flush.
    pub(crate) fn flush_is_overdue(&self) -> bool {
        self.is_pending_beyond(2 * limits::JOURNAL_BYTES, 2 * limits::JOURNAL_ENTRIES)
    }

    fn is_pending_beyond(&self, bytes: usize, entries: usize) -> bool {
        self.pending_bytes() > bytes || self.pending_entries.load(Ordering::Relaxed) > entries
    }

    /// Bytes of the resident indexes.
    pub fn resident_bytes(&self) -> usize {
        let Some(open) = self.open.read().current.clone() else { return 0 };
        let resident = open.resident.read();
        resident.as_ref().map_or(0, Indexes::bytes)
    }

    /// Vectors that the indexes in memory have in search graphs.
    pub fn linked_vectors(&self) -> usize {
        let Some(open) = self.open.read().current.clone() else { return 0 };
        let resident = open.resident.read();
        resident.as_ref().map_or(0, |indexes| indexes.by_vector.values().map(Resident::linked).sum())
    }

    /// Whether the engine's files are open.
    pub fn is_open(&self) -> bool {
        self.open.read().current.is_some()
    }

    /// Makes the engine put everything on disk and trims the journal, unless it is pinned. `false` when a running
    /// optimisation is in the way: the journal then keeps what it has.
    pub fn flush(&self) -> Result<bool> {
        // Nobody can write while the engine flushes: most of what it waits for is done before.
        let open = self.open.read().current.clone();
        if let Some(open) = open {
            open.engine.write_back();
        }
        // First the turn, then the engine: one that failed is let go while its turn lasts, and must not be flushed.
        let applied = self.applied.lock();
        let Some(open) = self.open.read().current.clone() else { return Ok(true) };
        // What the engine has on disk must never be newer than what the journal and the registry have.
        self.context.kv.sync()?;
        let through = *applied;
        if !open.engine.flush()? {
            return Ok(false);
        }
        self.pending_entries.store(0, Ordering::SeqCst);
        self.pending_bytes.store(0, Ordering::SeqCst);
        // Looked at while nothing can be applied: who pins it after that finds in the engine all that is trimmed.
        let pinned = self.context.pins.any();
        self.untrimmed.store(pinned, Ordering::SeqCst);
        drop(applied);
        if pinned {
            return Ok(true);
        }
        let mut batch = Batch::default();
        journal::trim(&mut batch, self.id(), through);
        self.context.kv.write(batch)?;
        Ok(true)
    }

    /// Lets the engine build search graphs and reclaim space, and builds those of the indexes in memory; long. Returns
    /// whether anything was done.
    pub fn optimize(&self) -> Result<bool> {
        self.wants_optimizing.store(false, Ordering::Relaxed);
        let engine = self.open()?.engine.optimize().inspect_err(|_| {
            // The engine has to be opened again after it failed: only then what it had begun is undone.
            self.give_up();
            self.wants_optimizing.store(true, Ordering::Relaxed);
        })?;
        Ok(self.link_indexes()? || engine)
    }

    /// Closes it for good, before everything in it is removed. [`Busy`](ErrorKind::Busy) while somebody reads or writes.
    pub(super) fn retire(&self) -> Result<()> {
        let in_use = || Error::new(ErrorKind::Busy, "the collection is in use").with_remedy("try again");
        let _opening = self.opening.try_lock().ok_or_else(in_use)?;
        let mut slot = self.open.write();
        if slot.current.as_ref().is_some_and(|open| Arc::strong_count(open) > 1) || is_closing(&slot) {
            return Err(in_use());
        }
        slot.current = None;
        slot.dropped = true;
        Ok(())
    }

    /// Drops the resident indexes, which erases them, flushes, and closes the engine's files.
    ///
    /// Returns `false`, with the indexes gone all the same, when a reader still has it open.
    pub fn close(&self) -> Result<bool> {
        if let Some(open) = self.open.read().current.clone() {
            *open.resident.write() = None;
        }
        self.flush()?;
        let mut slot = self.open.write();
        let in_use = slot.current.as_ref().is_some_and(|open| Arc::strong_count(open) > 1);
        if !in_use {
            slot.current = None;
        }
        Ok(!in_use)
    }

    /// Opens it, if need be.
    pub(crate) fn make_ready(&self) -> Result<()> {
        self.open().map(|_| ())
    }

    /// The open engine collection, opened and brought up to date with the journal if need be.
    fn open(&self) -> Result<Arc<Open>> {
        self.touch();
        if let Some(open) = self.open.read().current.clone() {
            return Ok(open);
        }
        let came = Instant::now();
        let mut failed = self.opening.lock();
        {
            let slot = self.open.read();
            if let Some(open) = slot.current.clone() {
                return Ok(open);
            }
            if slot.dropped {
                return Err(Error::not_found("the collection was dropped"));
            }
            if is_closing(&slot) {
                return Err(Error::new(ErrorKind::Busy, "the collection is being closed").with_remedy("try again"));
            }
        }
        // Who has waited for an attempt that failed does not wait for another of the same length.
        if let Some((_, e)) = failed.as_ref().filter(|(at, _)| *at >= came) {
            return Err(again(e));
        }
        let opened = self.open_engine();
        *failed = opened.as_ref().err().map(|e| (Instant::now(), again(e)));
        let open = opened?;
        // Nobody has it open until here, so nobody has written since the journal was replayed.
        let mut slot = self.open.write();
        slot.last = Arc::downgrade(&open.files);
        slot.current = Some(open.clone());
        drop(slot);
        self.wants_optimizing.store(true, Ordering::Relaxed);
        Ok(open)
    }

    /// The engine collection, brought up to date with the journal. Nobody else may have it open.
    fn open_engine(&self) -> Result<Arc<Open>> {
        let engine = Seat::new(self.context.engine.open(self.id(), &self.home(), &self.shape(self.mode()))?);
        let (mut entries, mut bytes) = (0, 0);
        for entry in journal::entries(&*self.context.kv, self.id()) {
            let (seq, writes) = entry?;
            entries += 1;
            for write in writes {
                bytes += apply(&engine, seq, write)?;
            }
        }
        self.pending_entries.store(entries, Ordering::SeqCst);
        self.pending_bytes.store(bytes, Ordering::SeqCst);
        Ok(Arc::new(Open { engine, resident: Arc::default(), files: Arc::new(()) }))
    }

    /// Reads; a mismatch counts only if the engine did not fail meanwhile. One that failed misses what is registered and
    /// in the journal, until that is replayed. When the mode is changed meanwhile it reads again: it may have asked both
    /// engines.
    fn steadily<T>(&self, mut read: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            let changes = self.sealer.shaping().changes;
            let before = self.failures.load(Ordering::SeqCst);
            let found = read();
            if self.sealer.shaping().changes != changes {
                continue;
            }
            return match found {
                Err(e) if e.kind() == ErrorKind::Integrity && self.failures.load(Ordering::SeqCst) != before => {
                    let failed = Error::new(ErrorKind::Unavailable, "the engine failed while it was read");
                    Err(failed.with_remedy("try again: it is brought up to date first").with_source(e))
                }
                other => other,
            };
        }
    }

    /// Closes the engine after it failed: the next use opens it again and replays the journal.
    fn give_up(&self) {
        self.failures.fetch_add(1, Ordering::SeqCst);
        self.open.write().current = None;
    }

    /// Whether these are the parts that are used: they are not any more once the engine has failed.
    fn is_current(&self, open: &Open) -> bool {
        self.open.read().current.as_ref().is_some_and(|current| std::ptr::eq(&**current, open))
    }

    /// Waits until every write that has a number has been applied, and holds off new ones.
    fn settled(&self) -> (MutexGuard<'_, u64>, MutexGuard<'_, u64>) {
        let head = self.head.lock();
        let mut applied = self.applied.lock();
        while *applied != *head {
            self.turn.wait(&mut applied);
        }
        (head, applied)
    }

    /// What an engine is to know of the points in `mode`.
    fn shape(&self, mode: Mode) -> Shape {
        Shape { vectors: self.searchable(mode), tags: mode == Mode::Veiled, tokens: mode != Mode::Sealed }
    }

    fn searchable(&self, mode: Mode) -> Vec<SearchableVector> {
        let metric = |metric| match mode {
            Mode::Sealed => None,
            // Scaled to length 1 before they are veiled.
            Mode::Veiled => Some(Metric::Dot),
            Mode::Plain => Some(metric),
        };
        let vectors = (0_u8..).zip(self.spec().vectors.values());
        let searchable = vectors
            .filter_map(|(position, p)| Some(SearchableVector { position, size: p.size, metric: metric(p.metric)? }));
        searchable.collect()
    }

    fn touch(&self) {
        self.used_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn note_write(&self, bytes: usize) {
        self.pending_entries.fetch_add(1, Ordering::SeqCst);
        self.pending_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.written_ms.store(self.now_ms(), Ordering::Relaxed);
        self.wants_optimizing.store(true, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, ms: &AtomicU64) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(ms.load(Ordering::Relaxed)))
    }
}

/// Whether the engine's files are still being closed.
fn is_closing(slot: &Slot) -> bool {
    slot.current.is_none() && slot.last.strong_count() > 0
}

/// The same for somebody else.
fn again(e: &Error) -> Error {
    let again = Error::new(e.kind(), e.to_string());
    match e.remedy() {
        Some(remedy) => again.with_remedy(remedy),
        None => again,
    }
}

/// Gives one write, which is of number `seq`, to the engine; returns about how many bytes it was.
fn apply(engine: &dyn EngineCollection, seq: u64, write: JournalEntry) -> Result<usize> {
    match write {
        JournalEntry::Upsert(points) => {
            let bytes = points.iter().map(|p| p.payload.len() + p.vector.len()).sum();
            engine.upsert(points)?;
            Ok(bytes)
        }
        JournalEntry::Delete(ids) => {
            // Versions are numbers of writes: what is there has an older one.
            engine.delete(&ids, seq)?;
            Ok(ids.len() * 16)
        }
    }
}
