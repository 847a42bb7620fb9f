//! Keeping journals whole while somebody copies what the engine has.

use std::sync::Arc;

use parking_lot::Mutex;

/// How many want the journals of a store whole. Clones share the count.
#[derive(Clone, Default)]
pub struct JournalPins(Arc<Mutex<usize>>);

/// Keeps every journal whole until it is dropped: engines are flushed as ever, and what they have stays in the journal
/// too.
pub struct Pinned(JournalPins);

impl JournalPins {
    /// From now on whole.
    pub fn pin(&self) -> Pinned {
        *self.0.lock() += 1;
        Pinned(self.clone())
    }

    pub(super) fn any(&self) -> bool {
        *self.0.lock() > 0
    }

    /// What `work` does while nobody wants them whole, nor begins to; `None` when somebody does already.
    pub(super) fn unless_any<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let pins = self.0.lock();
        (*pins == 0).then(work)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        *self.0.0.lock() -= 1;
    }
}
