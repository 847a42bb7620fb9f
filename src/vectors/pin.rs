//! Keeping journals whole while somebody copies what the engine has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many want the journals of a store whole. Clones share the count.
#[derive(Clone, Default)]
pub struct JournalPins(Arc<AtomicUsize>);

/// Keeps every journal whole until it is dropped: engines are flushed as ever, and what they have stays in the journal
/// too.
pub struct Pinned(JournalPins);

impl JournalPins {
    /// From now on whole.
    pub fn pin(&self) -> Pinned {
        self.0.fetch_add(1, Ordering::SeqCst);
        Pinned(self.clone())
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
