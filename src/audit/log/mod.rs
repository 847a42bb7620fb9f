//! The log: entries are *assigned* an index when they are appended, *integrated* into the tree soon after, and *published*
//! by a checkpoint that is signed.
//!
//! ```text
//! record → encoded → room? → written, index assigned → (durable: shared disk sync) → the effect is revealed
//!                                │
//!          another thread:       └→ integrated, 4 times a second → published: synced, signed, every 10 s at most
//! ```

mod db;
mod key;
mod prune;
mod publisher;
mod reader;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::db::Db;
use self::key::KeyAtRest;
use self::publisher::Publisher;
use super::checkpoint::{LogKey, SignatureLine, SignedCheckpoint};
use super::tree::{Hash, Nodes as _};
use super::{AuditSink, Event, Outcome, What};
use crate::clock::Clock;
use crate::crypto::{Provider, Signature, default_provider};
use crate::disk::{self, Room};
use crate::error::{Error, ErrorKind, Result};
use crate::keys::kms::worker::{Signal, Worker};
use crate::limits;

pub use key::{KEY_FILE, KeyKeeper};
pub use prune::Pruned;
pub use reader::Reader;

/// The log's directory, in that of the process that it belongs to.
pub const LOG_DIR: &str = "audit";
/// The newest checkpoint, for those who want only that.
pub const CHECKPOINT_FILE: &str = "checkpoint";
const DB_DIR: &str = "db";
/// The name under which the log's own events stand where no service has one.
const SELF: &str = "audit-log";

/// What happens when an event cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// What it is about is refused: nothing happens unrecorded.
    Refuse,
    /// It goes on. How many events were lost is written when the log can be written again.
    Continue,
}

/// What a log signs its checkpoints with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignatureChoice {
    /// SLH-DSA-SHA2-128s: rests on nothing but a hash.
    #[serde(rename = "slh-dsa-sha2-128s")]
    SlhDsa,
    /// ML-DSA-87, as CNSA 2.0 has it.
    #[serde(rename = "ml-dsa-87")]
    MlDsa,
}

impl SignatureChoice {
    /// The scheme.
    pub fn algorithm(self) -> Signature {
        match self {
            SignatureChoice::SlhDsa => Signature::SlhDsaSha2_128s,
            SignatureChoice::MlDsa => Signature::MlDsa87,
        }
    }
}

/// Signs checkpoints that it has found to continue what it saw before.
pub trait Witness: Send + Sync {
    /// The signature lines for `checkpoint`, without the log's own. `prove` gives the hashes which prove that the log
    /// continues the one of so many entries.
    fn cosign(
        &self,
        checkpoint: &SignedCheckpoint,
        prove: &dyn Fn(u64) -> Result<Vec<Hash>>,
    ) -> Result<Vec<SignatureLine>>;
}

/// How a log runs.
#[derive(Clone)]
pub struct LogOptions {
    /// What a new log signs with: SLH-DSA-SHA2-128s or ML-DSA-87.
    pub algorithm: Signature,
    /// Shortest time between two checkpoints that nobody asked for, in milliseconds.
    pub checkpoint_ms: u64,
    /// Below how much free space nothing is appended, in bytes.
    pub min_free_bytes: u64,
    /// What happens when an event cannot be written.
    pub on_failure: OnFailure,
    /// How long entries are kept, in milliseconds; `None` is for ever.
    pub retention_ms: Option<u64>,
    /// The service whose log it is: its opening and closing are recorded. `None` for commands.
    pub service: Option<String>,
    /// Who else is to sign checkpoints.
    pub witnesses: Vec<Arc<dyn Witness>>,
}

impl Default for LogOptions {
    /// SLH-DSA; ten seconds; 64 MiB; refuse; for ever; no service; nobody.
    fn default() -> Self {
        Self {
            algorithm: Signature::SlhDsaSha2_128s,
            checkpoint_ms: limits::AUDIT_CHECKPOINT_MS,
            min_free_bytes: 64 << 20,
            on_failure: OnFailure::Refuse,
            retention_ms: None,
            service: None,
            witnesses: Vec::new(),
        }
    }
}

/// How far a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Entries that have an index.
    pub assigned: u64,
    /// Entries that are in the tree.
    pub integrated: u64,
    /// Entries that the newest checkpoint is of.
    pub published: u64,
}

/// The index of an entry that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assigned(u64);

impl Assigned {
    /// The number.
    pub fn index(self) -> u64 {
        self.0
    }
}

/// A log that this process writes. Dropping it [closes](Self::close) it.
pub struct Log {
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

struct Shared {
    dir: std::path::PathBuf,
    db: Db,
    key: KeyAtRest,
    options: LogOptions,
    clock: Arc<dyn Clock>,
    provider: &'static dyn Provider,
    room: Room,
    /// The next index. Held while an entry is written: a gap would end the log.
    next: Mutex<u64>,
    assigned: AtomicU64,
    integrated: AtomicU64,
    published: AtomicU64,
    lost: AtomicU64,
    closed: AtomicBool,
    publisher: Mutex<Publisher>,
}

impl Log {
    /// Opens the log in `dir`, or begins one.
    ///
    /// # Errors
    ///
    /// [`Integrity`](ErrorKind::Integrity) when what is there is not what the newest checkpoint signs,
    /// [`Busy`](ErrorKind::Busy) while another process writes it.
    pub fn open(dir: &Path, keeper: KeyKeeper, options: LogOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let provider = default_provider();
        disk::make_private_dir(dir)?;
        let db = Db::open(&dir.join(DB_DIR))?;
        let next = db.next_index()?.max(db.pruned()?);
        let (key, signer) = if key::exists(dir) || next > 0 {
            (KeyAtRest::open(dir, keeper, provider)?, None)
        } else {
            let (key, signer) = KeyAtRest::create(dir, keeper, options.algorithm, provider)?;
            (key, Some(signer))
        };
        let published = check(&db, key.public(), next, provider)?;
        let publisher = Publisher::new(&db, published, signer)?;
        let integrated = publisher.integrated();
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            room: Room::new(dir, options.min_free_bytes),
            db,
            key,
            options,
            clock,
            provider,
            next: Mutex::new(next),
            assigned: AtomicU64::new(next),
            integrated: AtomicU64::new(integrated),
            published: AtomicU64::new(published),
            lost: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            publisher: Mutex::new(publisher),
        });
        if next == 0 {
            let what = What::LogBegun { origin: shared.key.public().name().to_owned() };
            shared.append_event(&shared.own(what, Outcome::Done))?;
        }
        if shared.options.service.is_some() {
            shared.append_event(&shared.own(What::LogOpened { entries: next }, Outcome::Done))?;
        }
        let worker = {
            let shared = shared.clone();
            let tick = Duration::from_millis(limits::AUDIT_INTEGRATE_MS);
            let turn = move |_: &Signal| shared.publisher.lock().turn(&shared);
            Worker::start("audit-log", tick, Arc::new(Signal::default()), turn)?
        };
        Ok(Self { shared, worker: Some(worker) })
    }

    /// Appends an event. When it is [durable](Event::durable), it is on stable storage on return; otherwise it survives
    /// the death of the process.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) when it cannot be written, or not be made durable. What it is about must
    /// not be revealed then.
    pub fn append(&self, event: &Event) -> Result<Assigned> {
        self.shared.append_event(event)
    }

    /// Integrates and publishes what was appended before the call, unless it is published already.
    pub fn publish(&self) -> Result<Progress> {
        self.shared.publisher.lock().publish_all(&self.shared)?;
        Ok(self.progress())
    }

    /// Removes the entries older than `older_than_ms`, in whole bundles, as far as they are published. Their hashes stay,
    /// so that every proof is what it was.
    pub fn prune(&self, older_than_ms: u64) -> Result<Pruned> {
        self.publish()?;
        prune::prune(&self.shared, older_than_ms)
    }

    /// Records that the service ends, and publishes everything. What is recorded after that is published by the next start.
    pub fn close(&self) {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.shared.options.service.is_some() {
            self.shared.note(What::LogClosed, Outcome::Done);
        }
        self.shared.say_lost();
        if let Err(e) = self.publish() {
            tracing::warn!(error = %e, "the end of the audit log is not published; the next start does it");
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let published = self.shared.published.load(Ordering::Acquire);
        let integrated = self.shared.integrated.load(Ordering::Acquire);
        Progress { assigned: self.shared.assigned.load(Ordering::Acquire), integrated, published }
    }

    /// The key that its checkpoints are verified with.
    pub fn key(&self) -> &LogKey {
        self.shared.key.public()
    }
}

impl AuditSink for Log {
    fn record(&self, event: &Event) -> Result<()> {
        self.append(event).map_or_else(|e| self.shared.lose(1, e), |_| Ok(()))
    }

    fn record_all(&self, events: &[Event]) -> Result<()> {
        self.shared.say_lost();
        for (nth, event) in events.iter().enumerate() {
            if let Err(e) = encode(event).and_then(|entry| self.shared.append(&entry)) {
                return self.shared.lose(events.len() - nth, e);
            }
        }
        // One sync for all of them.
        if events.iter().any(Event::durable) { self.shared.sync() } else { Ok(()) }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.worker = None;
        self.close();
    }
}

impl Shared {
    fn append_event(&self, event: &Event) -> Result<Assigned> {
        self.say_lost();
        let assigned = self.append(&encode(event)?)?;
        if event.durable() {
            self.db.sync().map_err(unwritten)?;
        }
        Ok(assigned)
    }

    /// Makes what was appended durable, or goes on without, as the options say.
    fn sync(&self) -> Result<()> {
        self.db.sync().map_err(unwritten).or_else(|e| self.lose(0, e))
    }

    /// What `count` events are about is refused, or goes on without them.
    fn lose(&self, count: usize, e: Error) -> Result<()> {
        if self.options.on_failure == OnFailure::Refuse {
            return Err(e);
        }
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
        tracing::error!(error = %e, "events could not be written to the audit log, and are lost");
        Ok(())
    }

    fn append(&self, entry: &[u8]) -> Result<Assigned> {
        if let Some(free) = self.room.lacking(0).map_err(unwritten)? {
            return Err(full(free, self.options.min_free_bytes));
        }
        let mut next = self.next.lock();
        let index = *next;
        self.db.append(index, entry).map_err(unwritten)?;
        *next = index + 1;
        self.assigned.store(index + 1, Ordering::Release);
        Ok(Assigned(index))
    }

    /// Writes down how many events could not be written, as soon as something can.
    fn say_lost(&self) {
        if self.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        let count = self.lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let event = self.own(What::EventsLost { count }, Outcome::Done);
            if encode(&event).and_then(|entry| self.append(&entry)).is_err() {
                self.lost.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Writes an event of the log's own. Without it the log is what it was.
    fn note(&self, what: What, outcome: Outcome) {
        if let Err(e) = self.append_event(&self.own(what, outcome)) {
            tracing::warn!(error = %e, "the audit log could not write an event of its own");
        }
    }

    /// An event of the log's own.
    fn own(&self, what: What, outcome: Outcome) -> Event {
        let service = self.options.service.as_deref().unwrap_or(SELF);
        Event::new(self.clock.now_ms(), service, what, outcome)
    }
}

/// The bytes of an event.
fn encode(event: &Event) -> Result<Vec<u8>> {
    // Growing costs more than writing: what is left behind is erased.
    let mut entry = Vec::with_capacity(1024);
    serde_json::to_writer(&mut entry, event).map_err(|e| Error::internal("encoding").with_source(e))?;
    if entry.len() > limits::AUDIT_ENTRY_BYTES {
        return Err(Error::internal("an audit event is too long"));
    }
    Ok(entry)
}

/// Compares what is there with the newest checkpoint, and returns how many entries that is of.
fn check(db: &Db, key: &LogKey, next: u64, provider: &dyn Provider) -> Result<u64> {
    let (integrated, pruned) = (db.integrated()?, db.pruned()?);
    if integrated > next || pruned > integrated {
        return Err(tampered("entries are missing"));
    }
    if let Some((first, _)) = db.entries(0, next)?.next().transpose()?
        && first != pruned
    {
        return Err(tampered("entries are missing at its beginning"));
    }
    let Some(note) = db.newest_checkpoint()? else { return Ok(0) };
    let signed = SignedCheckpoint::read(&note, key, provider)
        .map_err(|e| tampered("its newest checkpoint is not signed by its key").with_source(e))?;
    let size = signed.checkpoint.size;
    if signed.checkpoint.origin != key.name() || size > integrated {
        return Err(tampered("its newest checkpoint is of more than there is"));
    }
    if db.root(size)? != signed.checkpoint.root {
        return Err(tampered("its tree is not what the newest checkpoint signs"));
    }
    Ok(size)
}

fn tampered(why: &str) -> Error {
    Error::new(ErrorKind::Integrity, format!("the audit log is not what was written: {why}")).with_remedy(
        "keep the directory as evidence, and compare it with an export or a witness's checkpoint; a new log is begun \
         when it has been moved away",
    )
}

fn unwritten(e: Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the audit log cannot be written")
        .with_remedy("what was asked for is not revealed; free space or mend the disk, then ask again")
        .with_source(e)
}

fn full(free: u64, min_free: u64) -> Error {
    let words = format!("the audit log cannot be written: only {} MiB are free on its disk", free >> 20);
    Error::new(ErrorKind::Unavailable, words).with_remedy(format!(
        "what was asked for is not revealed; free some space: nothing is recorded below {} MiB (`audit_min_free_mib`)",
        min_free >> 20
    ))
}
