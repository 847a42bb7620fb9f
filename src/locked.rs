//! Memory for secrets that are too big for a box: anonymous pages kept out of swap and core dumps, zeroized on drop.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::{AnyBitPattern, NoUninit};
use memmap2::MmapMut;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::error::{Error, ErrorKind, Result};

/// Regions are a whole number of cache lines, in bytes, so that every view of them can start on one.
pub const LINE_BYTES: usize = 64;

static LOCKED_BYTES: AtomicU64 = AtomicU64::new(0);
static UNLOCKED_BYTES: AtomicU64 = AtomicU64::new(0);
static REFUSALS: AtomicU64 = AtomicU64::new(0);

/// What to do about `mlock`, which keeps pages out of swap but needs a limit (`RLIMIT_MEMLOCK`) that is high enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockPolicy {
    /// Lock where the limit allows it, go on unlocked where it does not, and count that in [`LockTotals`].
    #[default]
    Prefer,
    /// Fail where memory cannot be locked and kept out of core dumps.
    Require,
    /// Do not lock: swap is off or encrypted. Core dumps still leave the memory out.
    Never,
}

/// What this process holds in [`LockedBuf`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LockTotals {
    /// Bytes that cannot be swapped out.
    pub locked_bytes: u64,
    /// Bytes that can, because of [`LockPolicy::Never`] or a refusal.
    pub unlocked_bytes: u64,
    /// How often the system refused to lock since the process started.
    pub refusals: u64,
}

impl LockTotals {
    /// The totals of this process now.
    pub fn current() -> Self {
        Self {
            locked_bytes: LOCKED_BYTES.load(Ordering::Relaxed),
            unlocked_bytes: UNLOCKED_BYTES.load(Ordering::Relaxed),
            refusals: REFUSALS.load(Ordering::Relaxed),
        }
    }
}

/// A region of fixed size for secrets: outside core dumps, not inherited by `fork`, locked as [`LockPolicy`] says,
/// zeroized before it is given back. It has no way to be printed, copied or serialized.
///
/// ```compile_fail
/// # use strongroom::locked::{LockPolicy, LockedBuf};
/// println!("{:?}", LockedBuf::zeroed(64, LockPolicy::Never)); // no Debug
/// ```
/// ```compile_fail
/// # use strongroom::locked::{LockPolicy, LockedBuf};
/// let _ = LockedBuf::zeroed(64, LockPolicy::Never).ok().unwrap().clone(); // no Clone
/// ```
pub struct LockedBuf {
    map: MmapMut,
    locked: bool,
}

impl LockedBuf {
    /// A region of at least `bytes` zero bytes, rounded up to whole lines of [`LINE_BYTES`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] where the system has no memory left, or under [`LockPolicy::Require`] does not lock.
    pub fn zeroed(bytes: usize, policy: LockPolicy) -> Result<Self> {
        let rounded = bytes.max(1).checked_next_multiple_of(LINE_BYTES).ok_or_else(|| no_memory(bytes))?;
        let map = MmapMut::map_anon(rounded).map_err(|e| no_memory(rounded).with_source(e))?;
        let hidden = hide(&map);
        if policy == LockPolicy::Require {
            hidden.map_err(|e| refused(rounded).with_source(e))?;
        }
        let locked = match policy {
            LockPolicy::Never => false,
            LockPolicy::Prefer | LockPolicy::Require => match map.lock() {
                Ok(()) => true,
                Err(e) => {
                    REFUSALS.fetch_add(1, Ordering::Relaxed);
                    if policy == LockPolicy::Require {
                        return Err(refused(rounded).with_source(e));
                    }
                    false
                }
            },
        };
        total(locked).fetch_add(rounded as u64, Ordering::Relaxed);
        Ok(Self { map, locked })
    }

    /// Whether the pages are locked, so that they never reach swap.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// The size in bytes, a multiple of [`LINE_BYTES`].
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never true: the smallest region is one line.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// `count` values of `T` from byte `offset` on; empty where that is not inside or not aligned. The region itself
    /// starts on a page.
    pub fn view<T: AnyBitPattern>(&self, offset: usize, count: usize) -> &[T] {
        let bytes = window::<T>(offset, count).and_then(|range| self.map.get(range)).unwrap_or_default();
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }

    /// As [`LockedBuf::view`], for writing.
    pub fn view_mut<T: AnyBitPattern + NoUninit>(&mut self, offset: usize, count: usize) -> &mut [T] {
        let bytes = window::<T>(offset, count).and_then(|range| self.map.get_mut(range)).unwrap_or_default();
        bytemuck::try_cast_slice_mut(bytes).unwrap_or_default()
    }
}

impl Drop for LockedBuf {
    fn drop(&mut self) {
        // As words, because zeroize writes one volatile element at a time.
        let words = self.map.len() / size_of::<u64>();
        self.view_mut::<u64>(0, words).zeroize();
        total(self.locked).fetch_sub(self.map.len() as u64, Ordering::Relaxed);
    }
}

/// Leaves the pages out of core dumps and of forked children (which only ever `exec`), and asks for huge pages, which
/// a scan over megabytes feels; the last is only a wish.
#[cfg(target_os = "linux")]
fn hide(map: &MmapMut) -> io::Result<()> {
    use memmap2::Advice;
    let _ = map.advise(Advice::HugePage);
    map.advise(Advice::DontDump)?;
    map.advise(Advice::DontFork)
}

/// Elsewhere there is no such advice.
#[cfg(not(target_os = "linux"))]
fn hide(_: &MmapMut) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn window<T>(offset: usize, count: usize) -> Option<std::ops::Range<usize>> {
    Some(offset..offset.checked_add(count.checked_mul(size_of::<T>())?)?)
}

fn total(locked: bool) -> &'static AtomicU64 {
    if locked { &LOCKED_BYTES } else { &UNLOCKED_BYTES }
}

fn no_memory(bytes: usize) -> Error {
    Error::new(ErrorKind::Unavailable, format!("no memory for {bytes} bytes of secrets"))
        .with_remedy("close collections, lower the budget of resident indexes or add memory")
}

fn refused(bytes: usize) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the system refuses to lock {bytes} bytes in memory")).with_remedy(
        "raise the limit with `ulimit -l` or `LimitMEMLOCK=` in the systemd unit, or set the lock policy to `prefer`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_starts_zero_and_keeps_what_is_written() {
        let mut buf = LockedBuf::zeroed(100, LockPolicy::Never).unwrap();
        assert_eq!((buf.len(), buf.is_empty(), buf.is_locked()), (128, false, false));
        assert!(buf.view::<u8>(0, 128).iter().all(|b| *b == 0));
        buf.view_mut::<f32>(64, 16).fill(1.5);
        assert_eq!(buf.view::<f32>(64, 16), [1.5; 16]);
        assert_eq!(buf.view::<f32>(0, 16), [0.0; 16]);
    }

    #[test]
    fn views_outside_are_empty() {
        let mut buf = LockedBuf::zeroed(64, LockPolicy::Never).unwrap();
        assert!(buf.view::<u64>(0, 9).is_empty());
        assert!(buf.view::<u64>(64, 1).is_empty());
        assert!(buf.view::<u64>(8, usize::MAX).is_empty());
        assert!(buf.view_mut::<u64>(usize::MAX - 7, 1).is_empty());
        assert!(buf.view::<u64>(4, 1).is_empty());
        assert!(buf.view_mut::<f32>(1, 2).is_empty());
    }

    #[test]
    fn an_absurd_size_is_an_error() {
        for bytes in [usize::MAX, usize::MAX - LINE_BYTES, 1 << 62] {
            let e = LockedBuf::zeroed(bytes, LockPolicy::Prefer).err().unwrap();
            assert_eq!(e.kind(), ErrorKind::Unavailable);
        }
    }

    #[test]
    fn the_refusal_says_what_to_do() {
        let e = refused(1);
        assert_eq!(e.kind(), ErrorKind::Unavailable);
        assert!(e.remedy().is_some_and(|r| r.contains("ulimit -l") && r.contains("LimitMEMLOCK=")));
    }

    #[test]
    fn totals_count_what_is_held() {
        let buf = LockedBuf::zeroed(1 << 20, LockPolicy::Prefer).unwrap();
        let totals = LockTotals::current();
        assert!(if buf.is_locked() { totals.locked_bytes } else { totals.unlocked_bytes } >= 1 << 20);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_are_marked_in_smaps() {
        let buf = LockedBuf::zeroed(3 << 20, LockPolicy::Prefer).unwrap();
        let start = buf.view::<u8>(0, 1).as_ptr().addr();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            if let Some((low, high)) = line.split(' ').next().and_then(|range| range.split_once('-'))
                && let (Ok(low), Ok(high)) = (usize::from_str_radix(low, 16), usize::from_str_radix(high, 16))
            {
                inside = (low..high).contains(&start);
            }
            if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                let has = |flag| flags.split_whitespace().any(|f| f == flag);
                assert!(has("dd") && has("dc"), "not hidden: {flags}");
                assert_eq!(has("lo"), buf.is_locked());
                return;
            }
        }
        panic!("the region is not in smaps");
    }
}
