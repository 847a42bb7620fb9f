//! The time, passed in: so that expiry can be tested without waiting.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> u64;

    /// How long this machine has been running, by a clock that nobody sets.
    fn uptime(&self) -> Result<Uptime>;
}

/// How long a machine has been running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// Which start of the machine that is since.
    pub boot: String,
    /// Milliseconds since then, asleep or not.
    pub ms: u64,
}

impl Uptime {
    /// How many milliseconds have passed since `earlier` at least. The time before this start of the machine was seen by
    /// nobody and does not count.
    pub fn since(&self, earlier: &Self) -> u64 {
        if self.boot == earlier.boot { self.ms.saturating_sub(earlier.ms) } else { self.ms }
    }
}

/// Where the kernel names this start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Where it says how long ago that was, in seconds.
const UPTIME: &str = "/proc/uptime";

/// What names this start of the machine.
pub fn boot_id() -> Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn uptime(&self) -> Result<Uptime> {
        let text = fs::read_to_string(UPTIME)?;
        let seconds = text.split_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
        let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        let seconds = seconds.ok_or_else(|| Error::internal(format!("`{UPTIME}` is not what it should be")))?;
        Ok(Uptime { boot: boot_id()?, ms: Duration::from_secs_f64(seconds).as_millis() as u64 })
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    now_ms: AtomicU64,
    uptime_ms: AtomicU64,
    boots: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    pub fn at(now_ms: u64) -> Self {
        let clock = Self::default();
        clock.jump(now_ms);
        clock
    }

    /// Lets time pass until `now_ms`, on the clock and all its clones; to an earlier time, it jumps.
    pub fn set(&self, now_ms: u64) {
        let before_ms = self.0.now_ms.swap(now_ms, Ordering::SeqCst);
        self.0.uptime_ms.fetch_add(now_ms.saturating_sub(before_ms), Ordering::SeqCst);
    }

    /// Sets the clock to `now_ms`, whatever time it is.
    pub fn jump(&self, now_ms: u64) {
        self.0.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Starts the machine anew.
    pub fn reboot(&self) {
        self.0.boots.fetch_add(1, Ordering::SeqCst);
        self.0.uptime_ms.store(0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.now_ms.load(Ordering::SeqCst)
    }

    fn uptime(&self) -> Result<Uptime> {
        let boot = self.0.boots.load(Ordering::SeqCst).to_string();
        Ok(Uptime { boot, ms: self.0.uptime_ms.load(Ordering::SeqCst) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_passes_and_is_of_this_boot() {
        let (first, second) = (SystemClock.uptime().unwrap(), SystemClock.uptime().unwrap());
        assert!(first.ms > 0 && second.since(&first) < 60_000 && first.boot.len() == 36, "{first:?}");
        // A clock that went back within one boot says that nothing has passed; another boot, that its own time has.
        let of = |boot: &str, ms| Uptime { boot: boot.into(), ms };
        assert_eq!((of("a", 5).since(&of("a", 9)), of("b", 5).since(&of("a", 9))), (0, 5));
    }
}
