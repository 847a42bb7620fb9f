//! How long those who use a store wait: now, and when nothing is rotated.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// What is timed, each apart: a search takes a thousand times as long as a memory by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Searches and lists.
    Search,
    /// Single memories by their keys.
    Lookup,
    /// Durable writes.
    Write,
}

/// What was measured counts for one to two of these.
const PERIOD: Duration = Duration::from_millis(500);
/// Calls in that time that say something.
const ENOUGH: u64 = 20;
/// Calls after which what is usual is learnt anew, and how few say what is usual.
const USUAL: u64 = 20_000;
const USUAL_LEAST: u64 = 200;
/// One in so many lookups is timed: two looks at the clock are a part of one.
const ONE_IN: u8 = 16;
/// What nobody notices over a network, in microseconds: less is never too long.
const UNNOTICED_US: u64 = 300;
/// What is too long while nothing is known of what is usual, in microseconds.
const UNKNOWN_US: u64 = 20_000;
/// The longest time that is told apart, in microseconds.
const LONGEST_US: u64 = 60_000_000;
/// Figures that are kept of each time.
const DIGITS: u8 = 2;

/// The calls of a store that somebody waits for.
pub(super) struct Foreground {
    classes: [Mutex<Times>; 3],
    /// Rotations that run now.
    rotating: AtomicUsize,
    /// How many times what is usual is too long, in percent; 0 is never.
    percent: u32,
}

struct Times {
    since: Instant,
    now: Histogram<u32>,
    before: Histogram<u32>,
    /// Of calls while nothing was rotated.
    usual: [Histogram<u32>; 2],
}

/// Ends with the call that it times.
pub(super) struct Timing<'a>(Option<(&'a Foreground, Class, Instant)>);

/// While it lives, what is measured says nothing of what is usual.
pub(super) struct Unusual<'a>(&'a Foreground);

impl Foreground {
    pub(super) fn new(percent: u32) -> Result<Self> {
        let classes = [Times::new()?, Times::new()?, Times::new()?].map(Mutex::new);
        Ok(Self { classes, rotating: AtomicUsize::new(0), percent })
    }

    /// Times a call until the answer is dropped.
    pub(super) fn time(&self, class: Class) -> Timing<'_> {
        thread_local!(static LOOKUPS: Cell<u8> = const { Cell::new(0) });
        let counted = || LOOKUPS.with(|lookups| lookups.replace(lookups.get().wrapping_add(1)));
        let skipped = self.percent == 0 || (class == Class::Lookup && counted() % ONE_IN != 0);
        Timing((!skipped).then(|| (self, class, Instant::now())))
    }

    /// A rotation begins.
    pub(super) fn rotating(&self) -> Unusual<'_> {
        if self.rotating.fetch_add(1, Ordering::SeqCst) == 0 {
            self.classes.iter().for_each(|times| times.lock().turn(Instant::now(), true));
        }
        Unusual(self)
    }

    /// Whether somebody waits too long; `None` when nobody asks for anything.
    pub(super) fn is_slow(&self) -> Option<bool> {
        let now = Instant::now();
        let slow = self.classes.iter().filter_map(|times| {
            let mut times = times.lock();
            times.turn(now, false);
            times.is_slow(self.percent)
        });
        slow.reduce(|a, b| a || b)
    }

    fn record(&self, class: Class, took: Duration) {
        let Some(times) = self.classes.get(class as usize) else { return };
        // Whoever comes while another writes down its time has one that says as much.
        let Some(mut times) = times.try_lock() else { return };
        times.turn(Instant::now(), self.rotating.load(Ordering::Relaxed) == 0);
        times.now.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Times {
    fn new() -> Result<Self> {
        let new = || {
            Histogram::new_with_bounds(1, LONGEST_US, DIGITS)
                .map_err(|e| Error::internal("the bounds of a histogram").with_source(e))
        };
        Ok(Self { since: Instant::now(), now: new()?, before: new()?, usual: [new()?, new()?] })
    }

    /// Lets go of what is old, once it is; it is kept as usual if it was.
    fn turn(&mut self, now: Instant, usual: bool) {
        if now.saturating_duration_since(self.since) < PERIOD {
            return;
        }
        let stale = now.saturating_duration_since(self.since) >= 2 * PERIOD;
        self.since = now;
        if usual && !self.now.is_empty() {
            let [newer, older] = &mut self.usual;
            if newer.len() >= USUAL {
                std::mem::swap(newer, older);
                newer.reset();
            }
            // Both have the same bounds.
            let _ = newer.add(&self.now);
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.reset();
        if stale {
            self.before.reset();
        }
    }

    fn is_slow(&self, percent: u32) -> Option<bool> {
        let count = self.now.len() + self.before.len();
        if percent == 0 || count == 0 {
            return None;
        }
        // A few calls say nothing of one in a hundred; the slowest of them must do.
        let rank = if count < ENOUGH { 1.0 } else { 0.99 };
        Some(p(&self.now, &self.before, rank) > self.bound_us(percent))
    }

    fn bound_us(&self, percent: u32) -> u64 {
        let [newer, older] = &self.usual;
        if newer.len() + older.len() < USUAL_LEAST {
            return UNKNOWN_US;
        }
        (p(newer, older, 0.99).saturating_mul(percent.into()) / 100).max(UNNOTICED_US)
    }
}

/// A percentile of two histograms together.
fn p(a: &Histogram<u32>, b: &Histogram<u32>, rank: f64) -> u64 {
    let mut both = a.clone();
    let _ = both.add(b);
    both.value_at_quantile(rank)
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        if let Some((foreground, class, start)) = self.0.take() {
            foreground.record(class, start.elapsed());
        }
    }
}

impl Drop for Unusual<'_> {
    fn drop(&mut self) {
        self.0.rotating.fetch_sub(1, Ordering::SeqCst);
        // What the rotation was noticed by is forgotten.
        self.0.classes.iter().for_each(|times| times.lock().turn(Instant::now() + PERIOD, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(foreground: &Foreground, calls: u64, took_us: u64) {
        for _ in 0..calls {
            foreground.record(Class::Write, Duration::from_micros(took_us));
        }
    }

    /// Lets what was measured become old enough to be put away.
    fn pass(foreground: &Foreground) {
        let mut times = foreground.classes[Class::Write as usize].lock();
        times.since -= PERIOD;
    }

    #[test]
    fn slow_is_what_is_slower_than_usual() {
        let foreground = Foreground::new(150).unwrap();
        assert_eq!(foreground.is_slow(), None, "nobody asks");
        after(&foreground, 100, 5_000);
        assert_eq!(foreground.is_slow(), Some(false), "nothing is known yet, and nobody waits for ever");
        after(&foreground, 100, 30_000);
        assert_eq!(foreground.is_slow(), Some(true));
        let foreground = Foreground::new(150).unwrap();
        after(&foreground, 1000, 2_000);
        pass(&foreground);
        let rotating = foreground.rotating();
        pass(&foreground);
        after(&foreground, 100, 2_900);
        assert_eq!(foreground.is_slow(), Some(false));
        after(&foreground, 100, 3_200);
        assert_eq!(foreground.is_slow(), Some(true));
        // What is measured meanwhile does not become usual.
        for _ in 0..100 {
            pass(&foreground);
            after(&foreground, 100, 3_200);
        }
        assert_eq!(foreground.is_slow(), Some(true));
        drop(rotating);
        for _ in 0..100 {
            pass(&foreground);
            after(&foreground, 1000, 3_200);
        }
        assert_eq!(foreground.is_slow(), Some(false), "now it is");
    }

    #[test]
    fn what_nobody_notices_is_not_slow_and_old_calls_are_forgotten() {
        let foreground = Foreground::new(150).unwrap();
        after(&foreground, 1000, 10);
        pass(&foreground);
        after(&foreground, 100, UNNOTICED_US - 10);
        assert_eq!(foreground.is_slow(), Some(false));
        pass(&foreground);
        pass(&foreground);
        assert_eq!(foreground.is_slow(), None);
        let never = Foreground::new(0).unwrap();
        after(&never, 100, LONGEST_US * 2);
        assert_eq!(never.is_slow(), None);
        drop(never.time(Class::Search));
    }
}
