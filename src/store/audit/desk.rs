//! Where what is asked of a tenant is written down, and where it is refused while the tenant's reads are paused.

use std::sync::Arc;

use parking_lot::Mutex;

use super::lookups::Lookups;
use super::{Asker, Recorder};
use crate::audit::alert::Gate;
use crate::audit::{Access, Outcome, RecordDigest, RecordType, Tag, What, WriteKind};
use crate::crypto::Provider;
use crate::error::{ErrorKind, Result};
use crate::id::TenantId;

/// What all who work with an open tenant share.
pub(in crate::store) struct Book {
    recorder: Arc<Recorder>,
    /// What the log calls the tenant.
    tenant: String,
    gate: Gate,
    lookups: Mutex<Lookups>,
}

/// One who works with an open tenant. Clones are the same one.
#[derive(Clone)]
pub(in crate::store) struct Desk {
    book: Arc<Book>,
    asker: Arc<Asker>,
}

impl Book {
    pub(in crate::store) fn open(recorder: Arc<Recorder>, tenant: &TenantId) -> Result<Self> {
        let (gate, tenant) = (recorder.gate(tenant)?, recorder.pseudonym(tenant)?);
        Ok(Self { recorder, tenant, gate, lookups: Mutex::default() })
    }

    /// Writes down the lookups that were counted.
    pub(in crate::store) fn flush(&self) -> Result<()> {
        self.lookups.lock().flush(self)
    }

    /// Writes down what the store does for the tenant by itself.
    pub(in crate::store) fn record(&self, what: What, outcome: Outcome) -> Result<()> {
        self.recorder.record(&Asker::own(), Some(&self.tenant), what, outcome)
    }

    pub(super) fn provider(&self) -> &'static dyn Provider {
        self.recorder.provider
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        if let Err(e) = self.flush() {
            tracing::error!(error = %e, "lookups stand in the audit log as begun, without their number");
        }
    }
}

impl Desk {
    pub(in crate::store) fn new(book: Arc<Book>, asker: Asker) -> Self {
        Self { book, asker: Arc::new(asker) }
    }

    /// Refuses while the tenant's reads are paused.
    pub(in crate::store) fn check(&self) -> Result<()> {
        self.book.gate.check()
    }

    /// Writes down that records were opened. Nothing of them leaves before that.
    pub(in crate::store) fn read(
        &self,
        access: Access,
        place: Option<String>,
        digest: &RecordDigest,
        bytes: usize,
    ) -> Result<()> {
        let (records, bytes) = (digest.records(), bytes as u64);
        let digest = digest.finish(self.book.provider());
        self.record(What::Read { access, place, records, bytes, digest }, Outcome::Done)
    }

    /// Counts the lookup of a memory. It does not leave before that.
    pub(in crate::store) fn lookup(&self, tag: &Tag, bytes: usize) -> Result<()> {
        self.book.lookups.lock().count(&self.book, tag, bytes as u64)
    }

    /// Writes down when what came of opening records is that they did not open.
    pub(in crate::store) fn opened<T>(
        &self,
        record: RecordType,
        place: impl FnOnce() -> Option<String>,
        opened: Result<T>,
    ) -> Result<T> {
        opened.inspect_err(|e| {
            if e.kind() != ErrorKind::Integrity {
                return;
            }
            let id = e.record().map(|id| crate::audit::hex(id));
            if self.record(What::OpenFailed { record, place: place(), id }, Outcome::Failed).is_err() {
                tracing::error!("a record that does not open could not be written into the audit log");
            }
        })
    }

    /// Makes a write once the log says that it is begun. Only a failure is written down after it.
    pub(in crate::store) fn write<T>(
        &self,
        write: WriteKind,
        place: Option<String>,
        digest: &RecordDigest,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let records = digest.records();
        let digest = digest.finish(self.book.provider());
        let what = What::Written { write, place, records, digest };
        self.record(what.clone(), Outcome::Begun)?;
        let done = work();
        if let Err(e) = &done
            && self.record(what, Outcome::of_error(e)).is_err()
        {
            tracing::error!("a write that failed stands in the audit log as begun");
        }
        done
    }

    /// As [`Recorder::change`], for this tenant.
    pub(in crate::store) fn change<T>(
        &self,
        begun: What,
        work: impl FnOnce() -> Result<T>,
        ended: impl FnOnce(Option<&T>) -> What,
    ) -> Result<T> {
        self.book.recorder.change(&self.asker, Some(&self.book.tenant), begun, work, ended)
    }

    pub(in crate::store) fn record(&self, what: What, outcome: Outcome) -> Result<()> {
        self.book.recorder.record(&self.asker, Some(&self.book.tenant), what, outcome)
    }
}
