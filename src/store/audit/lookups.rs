//! Lookups of single memories: they take microseconds, so one event counts many.
//!
//! ```text
//! first lookup ─► event `begun` ─► up to 1000 lookups, or half a second of them ─► event `done`: count, bytes, digest
//! ```
//! Before the first memory of such a stretch is revealed, the log says that lookups have begun: a crash may leave that
//! without its count, but no lookup without its event.

use super::desk::Book;
use crate::audit::{Access, Outcome, RecordDigest, Tag, What};
use crate::error::Result;
use crate::limits;

/// The lookups since the last event that counts them.
#[derive(Default)]
pub(super) struct Lookups {
    begun: bool,
    digest: RecordDigest,
    bytes: u64,
}

impl Lookups {
    /// Counts a memory that is about to be revealed.
    pub(super) fn count(&mut self, book: &Book, tag: &Tag, bytes: u64) -> Result<()> {
        // What could not be written last time is tried again first: there are never more than that.
        if self.digest.records() >= limits::LOOKUPS_PER_EVENT {
            self.flush(book)?;
        }
        if !self.begun {
            book.record(self.event(book), Outcome::Begun)?;
            self.begun = true;
        }
        self.digest.push(tag);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.digest.records() >= limits::LOOKUPS_PER_EVENT { self.flush(book) } else { Ok(()) }
    }

    /// Writes down what was counted.
    pub(super) fn flush(&mut self, book: &Book) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        book.record(self.event(book), Outcome::Done)?;
        *self = Self::default();
        Ok(())
    }

    fn event(&self, book: &Book) -> What {
        let digest = self.digest.finish(book.provider());
        What::Read { access: Access::Lookup, place: None, records: self.digest.records(), bytes: self.bytes, digest }
    }
}
