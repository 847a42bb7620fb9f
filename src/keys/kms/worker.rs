//! A thread that does a small job again and again, until its owner is dropped.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};

/// The owner of the thread. Dropping it ends the thread and waits for that.
pub(crate) struct Worker {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// How the thread is told what to do.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    stopped: bool,
}

impl Signal {
    /// Has the job done now.
    pub(super) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    /// Whether the job should be broken off.
    pub(super) fn stopped(&self) -> bool {
        self.state.lock().stopped
    }

    fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits for `tick` or until it is woken; `false` when it is over.
    fn wait(&self, tick: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.woken && !state.stopped {
            self.changed.wait_for(&mut state, tick);
        }
        state.woken = false;
        !state.stopped
    }
}

impl Worker {
    /// Does `job` at once, then every `tick` and whenever `signal` is woken. The job leaves nothing in the registers
    /// and on the stack of its thread.
    pub(crate) fn start(
        name: &str,
        tick: Duration,
        signal: Arc<Signal>,
        mut job: impl FnMut(&Signal) + Send + 'static,
    ) -> Result<Self> {
        let theirs = signal.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                job(&theirs);
                crate::scrub::scrub();
                if !theirs.wait(tick) {
                    return;
                }
            }
        });
        let thread =
            thread.map_err(|e| Error::new(ErrorKind::Unavailable, "a thread could not be started").with_source(e))?;
        Ok(Self { signal, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // A job that panicked has nothing more to say.
            drop(thread.join());
        }
    }
}
