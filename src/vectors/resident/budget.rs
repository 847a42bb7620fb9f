//! The bytes that the resident indexes of all collections may take together, and whose goes when they would take more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Where an index is held, and can be erased when somebody else needs its bytes.
pub trait Evict: Send + Sync {
    /// Erases the index. `false`, at once, when somebody uses it.
    fn evict(&self) -> bool;
}

/// A budget that all collections of a store share. Clones share it.
#[derive(Clone)]
pub struct ResidentBudget {
    shared: Arc<Shared>,
}

/// What the budget has given out and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetTotals {
    /// Bytes that may be given out.
    pub limit: u64,
    /// Bytes that are.
    pub used: u64,
    /// Indexes that were loaded.
    pub loads: u64,
    /// Indexes that were erased for others.
    pub evictions: u64,
}

/// Bytes of a budget: given back when dropped.
pub struct Lease {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
}

struct Shared {
    limit: u64,
    state: Mutex<State>,
    /// Counts uses: the larger, the later.
    clock: AtomicU64,
    used: Gauge,
    held: Gauge,
    loads: Counter,
    evictions: Counter,
}

#[derive(Default)]
struct State {
    used: u64,
    entries: Vec<Arc<Entry>>,
}

struct Entry {
    bytes: AtomicU64,
    last_used: AtomicU64,
    /// Who can be made to give it back; nobody while an index is being loaded.
    holder: Mutex<Option<Weak<dyn Evict>>>,
}

impl ResidentBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        let shared = Shared {
            limit,
            state: Mutex::default(),
            clock: AtomicU64::new(1),
            used: Gauge::default(),
            held: Gauge::default(),
            loads: Counter::default(),
            evictions: Counter::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A budget that nothing exhausts.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Bytes that may be given out.
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// What it has given out and done.
    pub fn totals(&self) -> BudgetTotals {
        BudgetTotals {
            limit: self.shared.limit,
            used: self.shared.state.lock().used,
            loads: self.shared.loads.get(),
            evictions: self.shared.evictions.get(),
        }
    }

    /// Adds what it counts to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Shared { used, held, loads, evictions, .. } = &*self.shared;
        let help = "What the indexes in memory take of their budget";
        registry.register_with_unit("resident", help, Unit::Bytes, used.clone());
        registry.register("resident_indexes", "Indexes in memory", held.clone());
        registry.register("resident_loads", "Indexes that were loaded", loads.clone());
        registry.register("resident_evictions", "Indexes that were erased to make room for others", evictions.clone());
    }

    /// `bytes` for an index that is about to be loaded. Those that were unused longest are erased for it; ones in use are
    /// waited for.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) when so many can never be had, [`Busy`](ErrorKind::Busy) when others use
    /// theirs for too long.
    pub fn lease(&self, bytes: u64) -> Result<Lease> {
        let entry = Arc::new(Entry {
            bytes: AtomicU64::new(0),
            last_used: AtomicU64::new(self.shared.tick()),
            holder: Mutex::new(None),
        });
        let lease = Lease { shared: self.shared.clone(), entry };
        self.shared.state.lock().entries.push(lease.entry.clone());
        self.shared.held.inc();
        let give_up = Instant::now() + Duration::from_millis(limits::RESIDENT_WAIT_MS);
        while !self.shared.take(&lease.entry, bytes)? {
            if Instant::now() > give_up {
                return Err(Error::new(ErrorKind::Busy, "the memory for search indexes is in use")
                    .with_remedy("try again, or raise `resident_mib`"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.loads.inc();
        Ok(lease)
    }
}

impl Default for ResidentBudget {
    fn default() -> Self {
        Self::unlimited()
    }
}

impl Lease {
    /// From now on `holder` may be asked to give the bytes back.
    pub fn held_by(&self, holder: Weak<dyn Evict>) {
        *self.entry.holder.lock() = Some(holder);
    }

    /// Notes that the index was used: others go before it.
    pub fn touch(&self) {
        self.entry.last_used.store(self.shared.tick(), Ordering::Relaxed);
    }

    /// Makes it `bytes`, more or fewer, without waiting for anybody.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) when so many cannot be had; it then has what it had.
    pub fn resize(&self, bytes: u64) -> Result<()> {
        if self.shared.take(&self.entry, bytes)? { Ok(()) } else { Err(self.shared.too_large(bytes)) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.used -= self.entry.bytes.load(Ordering::Relaxed);
        state.entries.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
        self.shared.show(&state);
        self.shared.held.dec();
    }
}

impl Shared {
    /// Makes `entry` hold `bytes`. `false` when all that could make room is in use.
    fn take(&self, entry: &Arc<Entry>, bytes: u64) -> Result<bool> {
        if bytes > self.limit {
            return Err(self.too_large(bytes));
        }
        let mut passed_over = Vec::new();
        loop {
            let victim = {
                let mut state = self.state.lock();
                let before = entry.bytes.load(Ordering::Relaxed);
                let used = state.used - before + bytes;
                if used <= self.limit || bytes <= before {
                    state.used = used;
                    entry.bytes.store(bytes, Ordering::Relaxed);
                    self.show(&state);
                    return Ok(true);
                }
                let others = state.entries.iter().filter(|other| {
                    !Arc::ptr_eq(other, entry) && !passed_over.iter().any(|passed| Arc::ptr_eq(passed, other))
                });
                others.min_by_key(|other| other.last_used.load(Ordering::Relaxed)).cloned()
            };
            let Some(victim) = victim else { return Ok(false) };
            // Outside the lock: what is erased gives its bytes back, and takes that lock.
            let holder = victim.holder.lock().as_ref().and_then(Weak::upgrade);
            if holder.is_some_and(|holder| holder.evict()) {
                self.evictions.inc();
            }
            passed_over.push(victim);
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn show(&self, state: &State) {
        self.used.set(i64::try_from(state.used).unwrap_or(i64::MAX));
    }

    fn too_large(&self, bytes: u64) -> Error {
        let (needed, limit) = (bytes.div_ceil(1 << 20), self.limit >> 20);
        Error::new(
            ErrorKind::Unavailable,
            format!("the search index needs {needed} MiB of memory and there are {limit} MiB for all"),
        )
        .with_remedy("raise `resident_mib`, or divide the collection")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::RwLock;

    /// An index that is nothing but its lease.
    type Slot = RwLock<Option<Lease>>;

    impl Evict for Slot {
        fn evict(&self) -> bool {
            self.try_write().is_some_and(|mut slot| slot.take().is_some())
        }
    }

    fn load(budget: &ResidentBudget, bytes: u64) -> Result<Arc<Slot>> {
        let slot = Arc::new(Slot::default());
        let lease = budget.lease(bytes)?;
        let holder: Arc<dyn Evict> = slot.clone();
        lease.held_by(Arc::downgrade(&holder));
        *slot.write() = Some(lease);
        Ok(slot)
    }

    fn touch(slot: &Slot) {
        slot.read().as_ref().unwrap().touch();
    }

    #[test]
    fn the_one_unused_longest_goes() {
        let budget = ResidentBudget::new(100);
        let slots: Vec<_> = (0..3).map(|_| load(&budget, 30).unwrap()).collect();
        touch(&slots[0]);
        let fourth = load(&budget, 30).unwrap();
        let held: Vec<_> = slots.iter().map(|slot| slot.read().is_some()).collect();
        assert_eq!((held, fourth.read().is_some()), (vec![true, false, true], true));
        let totals = budget.totals();
        assert_eq!((totals.used, totals.loads, totals.evictions), (90, 4, 1));
        drop((slots, fourth));
        assert_eq!(budget.totals().used, 0);
    }

    #[test]
    fn one_in_use_stays_and_another_goes() {
        let budget = ResidentBudget::new(100);
        let slots: Vec<_> = (0..2).map(|_| load(&budget, 50).unwrap()).collect();
        let using = slots[0].read();
        let third = load(&budget, 50).unwrap();
        assert!(using.is_some() && slots[1].read().is_none() && third.read().is_some());
    }

    #[test]
    fn who_waits_gets_what_is_given_back() {
        let budget = ResidentBudget::new(100);
        let first = load(&budget, 80).unwrap();
        let using = first.read();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| load(&budget, 80).map(|slot| slot.read().is_some()));
            std::thread::sleep(Duration::from_millis(20));
            assert!(using.is_some());
            drop(using);
            assert!(waiting.join().unwrap().unwrap());
        });
        assert!(first.read().is_none());
    }

    #[test]
    fn what_never_fits_is_said_at_once_and_evicts_nobody() {
        let budget = ResidentBudget::new(100);
        let small = load(&budget, 60).unwrap();
        let error = load(&budget, 101).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.remedy().unwrap().contains("`resident_mib`"));
        assert!(small.read().is_some());
        assert_eq!(budget.totals().used, 60);
    }

    #[test]
    fn growing_evicts_and_shrinking_always_works() {
        let budget = ResidentBudget::new(100);
        let (a, b) = (load(&budget, 40).unwrap(), load(&budget, 40).unwrap());
        b.read().as_ref().unwrap().resize(70).unwrap();
        assert!(a.read().is_none());
        assert!(b.read().as_ref().unwrap().resize(101).is_err());
        b.read().as_ref().unwrap().resize(10).unwrap();
        assert_eq!(budget.totals().used, 10);
    }
}
