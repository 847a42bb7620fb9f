//! Session keys made ahead: whoever opens a session takes one that is there, and never waits for one to be made.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::worker::{Signal, Worker};
use crate::clock::Clock;
use crate::crypto::{Kem, KemKey, Provider};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::secret::SecretBytes;

/// How many session keys are kept ready, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// How many are made, of each kind that is in use.
    pub target: usize,
    /// How few may be left before more are made.
    pub low_water: usize,
    /// After how many milliseconds one that was not taken is erased.
    pub max_age_ms: u64,
}

impl Default for PoolOptions {
    /// 128 keys, made anew below 64, for an hour.
    fn default() -> Self {
        Self { target: 128, low_water: 64, max_age_ms: 3_600_000 }
    }
}

/// A key pair that nobody has used yet.
pub(super) struct Ready {
    pub(super) seed: SecretBytes,
    pub(super) key: Box<dyn KemKey>,
    made_at_ms: u64,
}

/// What the pool has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolCounts {
    /// Keys made by the pool's own thread.
    pub generated_in_background: u64,
    /// Keys made by any other thread. Always 0.
    pub generated_on_request: u64,
    /// Keys handed out.
    pub taken: u64,
    /// Keys that were too old, and erased.
    pub expired: u64,
    /// Requests that found no key.
    pub empty: u64,
}

/// The pool. Dropping it ends its thread and erases its keys.
pub(super) struct Pool {
    shelves: Arc<Shelves>,
    signal: Arc<Signal>,
    _worker: Worker,
}

struct Shelves {
    provider: &'static dyn Provider,
    clock: Arc<dyn Clock>,
    options: PoolOptions,
    kinds: [Shelf; Kem::ALL.len()],
    /// The pool's own thread, once it runs.
    own: Mutex<Option<ThreadId>>,
    counters: Counters,
}

struct Shelf {
    kem: Kem,
    wanted: AtomicBool,
    ready: Mutex<VecDeque<Ready>>,
    filled: Condvar,
}

#[derive(Default)]
struct Counters {
    generated_in_background: AtomicU64,
    generated_on_request: AtomicU64,
    taken: AtomicU64,
    expired: AtomicU64,
    empty: AtomicU64,
}

impl PoolOptions {
    pub(super) fn check(&self) -> Result<()> {
        if self.target == 0 || self.target > limits::POOL_KEYS || self.low_water > self.target || self.max_age_ms == 0 {
            return Err(Error::invalid("the pool of session keys cannot be kept like this").with_remedy(format!(
                "keep 1 to {} keys, a low-water mark not above that, and an age above 0",
                limits::POOL_KEYS
            )));
        }
        Ok(())
    }
}

impl Pool {
    pub(super) fn start(
        provider: &'static dyn Provider,
        clock: Arc<dyn Clock>,
        options: PoolOptions,
        tick: Duration,
    ) -> Result<Self> {
        options.check()?;
        let shelf = |kem| Shelf {
            kem,
            wanted: AtomicBool::new(false),
            ready: Mutex::new(VecDeque::new()),
            filled: Condvar::new(),
        };
        let shelves = Arc::new(Shelves {
            provider,
            clock,
            options,
            kinds: Kem::ALL.map(shelf),
            own: Mutex::new(None),
            counters: Counters::default(),
        });
        let (signal, theirs) = (Arc::new(Signal::default()), shelves.clone());
        let worker = Worker::start("session-keys", tick, signal.clone(), move |signal| theirs.tend(signal))?;
        Ok(Self { shelves, signal, _worker: worker })
    }

    /// Has keys of `kem` made from now on.
    pub(super) fn warm(&self, kem: Kem) {
        if let Some(shelf) = self.shelves.shelf(kem)
            && !shelf.wanted.swap(true, Ordering::SeqCst)
        {
            self.signal.wake();
        }
    }

    /// A key that nobody else gets. [`Unavailable`](ErrorKind::Unavailable) when none is there within `patience`.
    pub(super) fn take(&self, kem: Kem, patience: Duration) -> Result<Ready> {
        self.warm(kem);
        let shelf = self.shelves.shelf(kem).ok_or_else(|| Error::internal("there is no pool for this KEM"))?;
        let until = Instant::now() + patience;
        let mut ready = shelf.ready.lock();
        loop {
            self.shelves.drop_old(&mut ready);
            let taken = ready.pop_front();
            if ready.len() < self.shelves.options.low_water.max(1) {
                self.signal.wake();
            }
            if let Some(taken) = taken {
                self.shelves.counters.taken.fetch_add(1, Ordering::Relaxed);
                return Ok(taken);
            }
            if patience.is_zero() || shelf.filled.wait_until(&mut ready, until).timed_out() {
                self.shelves.counters.empty.fetch_add(1, Ordering::Relaxed);
                return Err(Error::new(ErrorKind::Unavailable, "no session key is ready: try again").with_remedy(
                    "if this happens often, keep more session keys in the pool (`session_pool` in the configuration)",
                ));
            }
        }
    }

    /// How many keys of `kem` are there.
    pub(super) fn ready(&self, kem: Kem) -> usize {
        self.shelves.shelf(kem).map_or(0, |shelf| shelf.ready.lock().len())
    }

    pub(super) fn counts(&self) -> PoolCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shelves.counters;
        PoolCounts {
            generated_in_background: of(&counters.generated_in_background),
            generated_on_request: of(&counters.generated_on_request),
            taken: of(&counters.taken),
            expired: of(&counters.expired),
            empty: of(&counters.empty),
        }
    }
}

impl Shelves {
    fn shelf(&self, kem: Kem) -> Option<&Shelf> {
        self.kinds.iter().find(|shelf| shelf.kem == kem)
    }

    /// Erases keys that are too old, and makes new ones where too few are left.
    fn tend(&self, signal: &Signal) {
        self.own.lock().get_or_insert_with(|| thread::current().id());
        for shelf in self.kinds.iter().filter(|shelf| shelf.wanted.load(Ordering::SeqCst)) {
            let left = {
                let mut ready = shelf.ready.lock();
                self.drop_old(&mut ready);
                ready.len()
            };
            if left > 0 && left >= self.options.low_water {
                continue;
            }
            for _ in left..self.options.target {
                if signal.stopped() {
                    return;
                }
                // A failing random source is reported by whoever finds the pool empty; the next tick tries again.
                let Ok(made) = self.make(shelf.kem) else { return };
                shelf.ready.lock().push_back(made);
                shelf.filled.notify_one();
            }
        }
    }

    /// The only place where session keys are made. It counts on whose time.
    fn make(&self, kem: Kem) -> Result<Ready> {
        let on_request = *self.own.lock() != Some(thread::current().id());
        let counters = &self.counters;
        let counter = if on_request { &counters.generated_on_request } else { &counters.generated_in_background };
        let seed = SecretBytes::random(kem.seed_len())?;
        let key = self.provider.kem_key(kem, &seed)?;
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(Ready { seed, key, made_at_ms: self.clock.now_ms() })
    }

    /// The oldest are in front.
    fn drop_old(&self, ready: &mut VecDeque<Ready>) {
        let now_ms = self.clock.now_ms();
        while ready.front().is_some_and(|key| now_ms.saturating_sub(key.made_at_ms) >= self.options.max_age_ms) {
            ready.pop_front();
            self.counters.expired.fetch_add(1, Ordering::Relaxed);
        }
    }
}
