//! A store whose log a test can read, and refuse to write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use strongroom::audit::{AuditSink, Event, InMemory, Outcome, What};
use strongroom::clock::ManualClock;
use strongroom::{
    Chunk, Collection, CollectionSpec, Error, ErrorKind, Memory, Metric, Namespace, Result, Store, StoreOptions, Tenant,
};

use crate::common;

pub const NOW_MS: u64 = 1_800_000_000_000;

/// A log in memory that can be told to refuse.
#[derive(Default)]
pub struct Log {
    pub kept: InMemory,
    pub full: AtomicBool,
}

impl AuditSink for Log {
    fn record(&self, event: &Event) -> Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the log is full"));
        }
        self.kept.record(event)
    }
}

impl Log {
    pub fn fill(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// What was recorded since `from`.
    pub fn since(&self, from: usize) -> Vec<Event> {
        self.kept.events().split_off(from)
    }

    pub fn len(&self) -> usize {
        self.kept.events().len()
    }
}

/// A store in a directory of its own.
pub struct World {
    pub store: Store,
    pub log: Arc<Log>,
    pub clock: ManualClock,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let (dir, log, clock) = (tempfile::tempdir().unwrap(), Arc::<Log>::default(), ManualClock::at(NOW_MS));
        let options = Self::options(&dir, &log, &clock);
        Store::init(&options, common::passphrase()).await.unwrap();
        let store = Store::open(options, common::passphrase()).await.unwrap();
        Self { store, log, clock, dir }
    }

    fn options(dir: &tempfile::TempDir, log: &Arc<Log>, clock: &ManualClock) -> StoreOptions {
        common::options(dir.path()).clock(clock.clone()).audit(log.clone())
    }

    pub async fn reopen(self) -> Self {
        let Self { store, log, clock, dir } = self;
        store.close().await.unwrap();
        let store = Store::open(Self::options(&dir, &log, &clock), common::passphrase()).await.unwrap();
        Self { store, log, clock, dir }
    }

    /// What `work` has recorded, but for heartbeats.
    pub async fn events<T>(&self, work: impl AsyncFnOnce() -> T) -> (T, Vec<Event>) {
        let from = self.log.len();
        let done = work().await;
        let mut events = self.log.since(from);
        events.retain(|event| !matches!(event.what, What::Heartbeat { .. }));
        (done, events)
    }
}

/// The events in short: the type and how it ended.
pub fn short(events: &[Event]) -> Vec<(String, Outcome)> {
    let kind = |event: &Event| serde_json::to_value(event).unwrap()["type"].as_str().unwrap().to_owned();
    events.iter().map(|event| (kind(event), event.outcome)).collect()
}

pub fn chunk(id: u64, text: &str) -> Chunk {
    Chunk::new(id, text, vec![1.0, id as f32])
}

pub fn notes() -> Namespace {
    Namespace::new(["notes"]).unwrap()
}

/// A collection with two chunks, and a memory.
pub async fn fill(tenant: &Tenant) -> Collection {
    let docs = tenant.create_collection("docs", CollectionSpec::new(2, Metric::Dot)).await.unwrap();
    docs.ingest(vec![chunk(1, "one"), chunk(2, "two")]).await.unwrap();
    tenant.remember(Memory::new(notes(), "k", &json!({"a": 1})).unwrap()).await.unwrap();
    docs
}
