//! The audit log: who asked for what, and what became of it. Never key bytes, names of tenants or payloads.
//!
//! [`AuditSink`] is the joint. `schema/audit-event.schema.json` describes an [`Event`] as JSON,
//! [`crate::manual::audit_events`] which operation leaves which, `schema/audit.md` the log that keeps them, and
//! [`crate::manual::audit`] how it is used.
//!
//! [`log`] writes, [`export`] makes files of it, and [`verify`], which shares nothing with either, says whether to believe
//! them.

pub mod actions;
pub mod alert;
pub mod checkpoint;
mod digest;
mod event;
pub mod export;
pub mod log;
pub mod path;
pub mod proof;
pub mod tree;
pub mod verify;
mod what;

use parking_lot::Mutex;

use crate::error::Result;

pub(crate) use digest::hex;
pub use digest::{RecordDigest, Tag};
pub use event::{Arrival, EVENT_VERSION, Event, Outcome};
pub use log::{Log, LogOptions};
pub use what::{Access, CollectionChange, KeyChange, Reason, RecordType, RotationStep, What, WriteKind};

/// Where events go.
pub trait AuditSink: Send + Sync {
    /// Records `event`. When it is [durable](Event::durable), it is on stable storage on return.
    fn record(&self, event: &Event) -> Result<()>;

    /// Records `events` in their order. On return, all are as [`record`](Self::record) leaves them; after an error, some
    /// may be.
    fn record_all(&self, events: &[Event]) -> Result<()> {
        events.iter().try_for_each(|event| self.record(event))
    }
}

impl<S: AuditSink + ?Sized> AuditSink for std::sync::Arc<S> {
    fn record(&self, event: &Event) -> Result<()> {
        (**self).record(event)
    }

    fn record_all(&self, events: &[Event]) -> Result<()> {
        (**self).record_all(events)
    }
}

/// Forgets everything: for tests and benchmarks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl AuditSink for Discard {
    fn record(&self, _event: &Event) -> Result<()> {
        Ok(())
    }
}

/// Keeps everything in memory: for tests.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<Vec<Event>>);

impl InMemory {
    /// What was recorded, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().clone()
    }
}

impl AuditSink for InMemory {
    fn record(&self, event: &Event) -> Result<()> {
        self.0.lock().push(event.clone());
        Ok(())
    }
}
