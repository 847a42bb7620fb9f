//! How fast rotations go that can wait: by a rate, and slower while those who use the store are kept waiting.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};

/// How often it is looked anew how the others fare.
const LOOK: Duration = Duration::from_millis(100);
/// The least share of its time that a rotation works, so that it comes to an end.
const LEAST: f64 = 0.02;
/// The share that the first begins with: it is not known yet who waits.
const FIRST: f64 = 0.25;
/// What the share is multiplied by when others wait too long, and what is added when they do not.
const BACK: f64 = 0.6;
const ON: f64 = 0.03;
/// The longest wait between two writes for what others need, and between two looks at whether a window has opened.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether those who use the store wait too long: `None` when nobody does anything.
pub(crate) type Slow<'a> = &'a (dyn Fn() -> Option<bool> + Sync);

/// What all rotations of a store that can wait have together.
pub(crate) struct Throttle {
    rate: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
    state: Mutex<State>,
    stop: Condvar,
}

struct State {
    /// The share of its time that each rotation works.
    share: f64,
    looked: Option<Instant>,
    stopped: bool,
}

/// One rotation under a [`Throttle`].
pub(crate) struct Pacer<'a> {
    throttle: &'a Throttle,
    slow: Slow<'a>,
    /// Whether it may run at this time of the day.
    open: &'a (dyn Fn() -> bool + Sync),
    /// When it went on last.
    since: Mutex<Instant>,
}

impl Throttle {
    /// Lets through `mib_per_s` MiB in a second; 0 is no limit.
    pub(crate) fn new(mib_per_s: u32) -> Self {
        // Counted in KiB.
        let rate =
            NonZeroU32::new(mib_per_s.saturating_mul(1024)).map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        let state = State { share: FIRST, looked: None, stopped: false };
        Self { rate, clock: DefaultClock::default(), state: Mutex::new(state), stop: Condvar::new() }
    }

    /// Every rotation ends after what it writes now, to be gone on with later. So does every one that begins.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.stop.notify_all();
    }

    /// An error once rotations are to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.state.lock().stopped {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Partial, "the rotation was told to stop")
            .with_remedy("run `strongroom rotate` again: it goes on where it was"))
    }

    /// The share of its time that each rotation works, in percent.
    pub(crate) fn percent(&self) -> u8 {
        (self.state.lock().share * 100.0).clamp(0.0, 100.0).round() as u8
    }

    pub(crate) fn pacer<'a>(&'a self, slow: Slow<'a>, open: &'a (dyn Fn() -> bool + Sync)) -> Pacer<'a> {
        Pacer { throttle: self, slow, open, since: Mutex::new(Instant::now()) }
    }

    fn share(&self, slow: Slow<'_>) -> f64 {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK) {
            state.looked = Some(now);
            state.share = match slow() {
                None => 1.0,
                Some(true) => (state.share * BACK).max(LEAST),
                Some(false) => (state.share + ON).min(1.0),
            };
        }
        state.share
    }

    /// Waits, unless told to stop.
    fn wait(&self, how_long: Duration) -> Result<()> {
        let mut state = self.state.lock();
        if !state.stopped {
            self.stop.wait_for(&mut state, how_long);
        }
        drop(state);
        self.check()
    }
}

impl Pacer<'_> {
    /// Waits until the next records, of about `bytes` bytes, may be written.
    pub(crate) fn before(&self, bytes: usize) -> Result<()> {
        self.throttle.check()?;
        let worked = self.since.lock().elapsed();
        while !(self.open)() {
            self.throttle.wait(PAUSE)?;
        }
        let share = self.throttle.share(self.slow);
        let rest = worked.mul_f64(1.0 / share - 1.0).min(PAUSE);
        if !rest.is_zero() {
            self.throttle.wait(rest)?;
        }
        if let Some(rate) = &self.throttle.rate {
            let kib = u32::try_from(bytes.div_ceil(1024)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
            // What is more than a second's worth goes as that: it may not be split.
            while let Ok(Err(not_until)) = rate.check_n(kib) {
                self.throttle.wait(not_until.wait_time_from(self.throttle.clock.now()))?;
            }
        }
        *self.since.lock() = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn looked_long_ago(throttle: &Throttle) {
        throttle.state.lock().looked = None;
    }

    #[test]
    fn it_gives_way_and_comes_back_and_never_stands_still() {
        let throttle = Throttle::new(0);
        let mut shares = Vec::new();
        for slow in [Some(true); 20].into_iter().chain([Some(false); 50]).chain([Some(true), None]) {
            looked_long_ago(&throttle);
            shares.push(throttle.share(&|| slow));
        }
        assert!(shares[0] < 1.0);
        assert!((shares[19] - LEAST).abs() < 1e-9, "{shares:?}");
        assert!((shares[69] - 1.0).abs() < 1e-9, "{shares:?}");
        assert!(shares[70] < 1.0 && (shares[71] - 1.0).abs() < 1e-9, "nobody there is nobody who waits");
        // Between two looks it stays.
        assert!((throttle.share(&|| Some(true)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_rotation_that_waits_is_told_to_stop() {
        let (throttle, open) = (Throttle::new(0), AtomicBool::new(false));
        let is_open = || open.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| throttle.pacer(&|| None, &is_open).before(1));
            throttle.stop();
            assert_eq!(waits.join().unwrap().err().unwrap().kind(), ErrorKind::Partial);
        });
        open.store(true, Ordering::SeqCst);
        assert!(throttle.pacer(&|| None, &is_open).before(1).is_err(), "it begins no more");
    }

    #[test]
    fn a_rate_is_kept_and_a_write_beyond_it_still_goes() {
        let throttle = Throttle::new(1);
        let pacer = throttle.pacer(&|| None, &|| true);
        let is_used_up = || throttle.rate.as_ref().unwrap().check().is_err();
        assert!(!is_used_up());
        pacer.before((1 << 20) - 1024).unwrap();
        assert!(is_used_up());
        // These wait for a part of a second, and not at all.
        pacer.before(32 << 10).unwrap();
        pacer.before(8 << 20).unwrap();
        assert!(Throttle::new(0).rate.is_none());
    }
}
