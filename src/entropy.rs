//! Random bytes for keys, nonces and signatures, from the operating system and under the health tests of
//! NIST SP 800-90B.
//!
//! One byte is one sample. The claim tested is a min-entropy of at least [`CLAIM_BITS`] bits a byte, on purpose half of
//! what the source should give: a source that just meets the claim fails by chance with probability at most 2^-30 (α) per
//! sample or window, and one of full entropy with 2^-64, once in about fifty thousand years of ten megabytes a second. What
//! the tests find is a source that broke: stuck, repeating, or far from uniform. They cannot tell good bytes
//! from those of a generator whose seed somebody knows.
//!
//! - Repetition count (section 4.4.1): [`REPETITION_CUTOFF`] equal bytes in a row, 1 + ⌈30 / 4⌉.
//! - Adaptive proportion (section 4.4.2): in a window of [`WINDOW`] bytes the first one occurs [`PROPORTION_CUTOFF`]
//!   times, 1 + the (1 − α) quantile of the binomial distribution of 512 trials at 2^-4.
//! - Start-up (section 4.3): both over [`START_UP`] bytes, which are then thrown away, before the first byte is given.
//!
//! A failure is for good: until the process restarts, every request is refused, and with it all making of keys, all
//! sealing and all signing. Each thread tests what it draws, so that nobody waits for anybody else.
//!
//! Everything longer than a nonce is the operating system's bytes themselves. A nonce has to be new, not secret, and is
//! made once per sealed field: nonces come from a ChaCha12 generator of the thread, with 32 tested bytes as its seed and
//! a new seed after 64 KiB. That takes 22 ns a nonce where the system's own, tested, take 55. A process
//! that forks must start a new program: a copy that went on would make the same nonces.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Error, ErrorKind, Result};

/// Min-entropy that is claimed of each byte, in bits.
pub const CLAIM_BITS: u32 = 4;
/// Equal bytes in a row that fail the repetition count test.
pub const REPETITION_CUTOFF: u32 = 9;
/// Length of a window of the adaptive proportion test, in bytes.
pub const WINDOW: u32 = 512;
/// Occurrences of a window's first byte, itself included, that fail the adaptive proportion test.
pub const PROPORTION_CUTOFF: u32 = 71;
/// Bytes that are tested before the first one is given.
pub const START_UP: usize = 1024;

/// The longest request that is taken for a nonce. No key is as short.
const NONCE: usize = 16;
/// Bytes of nonces that a thread makes from one seed.
const RESEED: usize = 64 << 10;

/// Fills `bytes` with tested random bytes. [`Unavailable`](ErrorKind::Unavailable) when the operating system gives none,
/// or when a health test has failed in this process; `bytes` is zero then.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    let mut fill = |local: &mut Local| local.fill(&GATE, &mut getrandom, bytes);
    // While a thread ends its state may be gone already: then one is made for this call.
    let filled = LOCAL.try_with(|local| local.try_borrow_mut().map(|mut local| fill(&mut local)));
    match filled {
        Ok(Ok(filled)) => filled,
        _ => fill(&mut Local::new()),
    }
}

/// Refuses as [`fill`] would: for libraries that draw their own random bytes and cannot be given ours.
pub fn check() -> Result<()> {
    GATE.ready(&mut getrandom)
}

/// What the health tests have seen in this process so far.
pub fn health() -> Health {
    GATE.health()
}

/// The state of the health tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether the start-up tests have passed and no test has failed since.
    pub healthy: bool,
    /// How many bytes have been tested.
    pub samples: u64,
    /// How many tests have failed.
    pub failures: u64,
}

/// Where bytes come from: fills the whole slice or says why not.
type Source<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<()>;

fn getrandom(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|e| {
        Error::new(ErrorKind::Unavailable, "the operating system gave no random bytes")
            .with_source(e)
            .with_remedy("try again; early in a machine's start its random source may not be ready")
    })
}

static GATE: Gate = Gate::new();

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local::new()) };
}

/// What all threads share: whether bytes may be given at all.
struct Gate {
    starting: Mutex<()>,
    started: AtomicBool,
    failed: AtomicBool,
    samples: AtomicU64,
    failures: AtomicU64,
}

impl Gate {
    const fn new() -> Self {
        Self {
            starting: Mutex::new(()),
            started: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            samples: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    fn health(&self) -> Health {
        Health {
            healthy: self.started.load(Ordering::Acquire) && !self.failed.load(Ordering::Acquire),
            samples: self.samples.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Passes when the start-up tests have passed, after running them if need be, and nothing has failed since.
    fn ready(&self, source: Source<'_>) -> Result<()> {
        if !self.started.load(Ordering::Acquire) {
            let _starting = self.starting.lock();
            if !self.started.load(Ordering::Acquire) && !self.failed.load(Ordering::Acquire) {
                let mut bytes = [0; START_UP];
                let tested = source(&mut bytes).and_then(|()| self.test(&mut HealthTests::new(), &bytes));
                bytes.zeroize();
                tested?;
                self.started.store(true, Ordering::Release);
            }
        }
        if self.failed.load(Ordering::Acquire) { Err(unhealthy()) } else { Ok(()) }
    }

    /// Runs `tests` over `bytes`; a failure closes the gate.
    fn test(&self, tests: &mut HealthTests, bytes: &[u8]) -> Result<()> {
        self.samples.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if tests.pass(bytes) {
            return Ok(());
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failed.store(true, Ordering::Release);
        tracing::error!("the entropy source failed its health test");
        Err(unhealthy())
    }
}

fn unhealthy() -> Error {
    Error::new(ErrorKind::Unavailable, "the entropy source failed its health test").with_remedy(
        "restart the process; if it fails again, repair the machine's random source before making keys on it",
    )
}

/// What each thread has of its own: the state of the tests, and the generator of its nonces.
struct Local {
    tests: HealthTests,
    nonces: Option<StdRng>,
    /// Bytes that `nonces` may still give before it is seeded again.
    left: usize,
}

impl Local {
    const fn new() -> Self {
        Self { tests: HealthTests::new(), nonces: None, left: 0 }
    }

    fn fill(&mut self, gate: &Gate, source: Source<'_>, bytes: &mut [u8]) -> Result<()> {
        let filled = gate.ready(source).and_then(|()| match bytes.len() {
            0..=NONCE => self.nonce(gate, source, bytes),
            _ => source(bytes).and_then(|()| gate.test(&mut self.tests, bytes)),
        });
        if filled.is_err() {
            bytes.zeroize();
        }
        filled
    }

    fn nonce(&mut self, gate: &Gate, source: Source<'_>, bytes: &mut [u8]) -> Result<()> {
        if self.left < bytes.len() {
            // Gone until the new seed is tested, whatever happens in between.
            (self.nonces, self.left) = (None, 0);
            let mut seed = Zeroizing::new([0; 32]);
            source(&mut *seed)?;
            gate.test(&mut self.tests, &*seed)?;
            (self.nonces, self.left) = (Some(StdRng::from_seed(*seed)), RESEED);
        }
        let nonces = self.nonces.as_mut().ok_or_else(|| Error::internal("no generator of nonces"))?;
        nonces.fill_bytes(bytes);
        self.left -= bytes.len();
        Ok(())
    }
}

/// The two continuous tests, over a sequence of samples that may come in pieces.
struct HealthTests {
    last: Option<u8>,
    /// How often `last` has come in a row.
    run: u32,
    /// The first sample of the window.
    first: u8,
    /// How often `first` has come in the window.
    count: u32,
    /// Samples of the window seen.
    seen: u32,
}

impl HealthTests {
    const fn new() -> Self {
        Self { last: None, run: 0, first: 0, count: 0, seen: 0 }
    }

    fn pass(&mut self, samples: &[u8]) -> bool {
        samples.iter().all(|&sample| self.pass_one(sample))
    }

    fn pass_one(&mut self, sample: u8) -> bool {
        self.run = if self.last == Some(sample) { self.run + 1 } else { 1 };
        self.last = Some(sample);
        if self.seen == 0 {
            (self.first, self.count) = (sample, 0);
        }
        self.count += u32::from(sample == self.first);
        self.seen = (self.seen + 1) % WINDOW;
        self.run < REPETITION_CUTOFF && self.count < PROPORTION_CUTOFF
    }
}

#[cfg(test)]
#[path = "entropy/tests.rs"]
mod tests;
