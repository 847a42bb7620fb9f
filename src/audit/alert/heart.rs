//! Has the log say that it is written: so a gap shows, and a log that hangs is noticed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use super::watch::{SERVICE, Shared};
use crate::audit::{AuditSink, Event, Outcome, What};
use crate::clock::Clock;

/// Has the log say that it is written, on a thread of its own: a log that hangs must not keep anybody from noticing.
pub(super) struct Heart {
    pub(super) audit: Arc<dyn AuditSink>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shared: Arc<Shared>,
}

impl Heart {
    /// Beats once for each of `beats`.
    pub(super) fn run(&self, beats: &Receiver<()>) {
        while beats.recv().is_ok() {
            let events = self.shared.events.swap(0, Ordering::Relaxed);
            let now_ms = self.clock.now_ms();
            match self.audit.record(&Event::new(now_ms, SERVICE, What::Heartbeat { events }, Outcome::Done)) {
                Ok(()) => {}
                Err(_) => _ = self.shared.unwritten.fetch_add(1, Ordering::Relaxed),
            }
            self.shared.beating.store(false, Ordering::Release);
        }
    }
}
