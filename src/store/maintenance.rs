//! What happens by itself: flushing, building search graphs, closing what nobody uses.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::Result;
use crate::id::TenantId;
use crate::keys::DataKeys;
use crate::vectors::Collection;

use super::StoreOptions;
use super::tenant::Open;

/// How often is looked for something to do.
const TICK: Duration = Duration::from_millis(500);
/// A collection is optimized once nothing was written to it for this long.
const QUIET: Duration = Duration::from_secs(2);

/// How often the key service is asked which epochs there are.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// How often expired memories are removed, and how many at a time.
const REAP_INTERVAL: Duration = Duration::from_secs(60);
const REAP_AT_A_TIME: usize = 4096;

/// How long closing waits for the optimisation of a collection, which cannot be stopped: less than systemd waits.
const OPTIMIZED_WITHIN: Duration = Duration::from_secs(60);
const OPTIMIZED_LOOKS: Duration = Duration::from_millis(10);

type Tenants = Arc<Mutex<HashMap<TenantId, Arc<Open>>>>;

/// The thread that optimises a collection, one at a time: building a graph takes minutes, and flushing must go on.
type Optimizing = Arc<Mutex<Option<JoinHandle<()>>>>;

/// The thread that maintains a store.
pub(super) struct Maintenance {
    stopping: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
    optimizing: Optimizing,
    /// Held while it looks after tenants, and has a hold of them.
    passing: Arc<Mutex<()>>,
}

impl Maintenance {
    /// `finish` does what could not be done while an engine was away.
    pub(super) fn start(
        tenants: Tenants,
        keys: Arc<dyn DataKeys>,
        options: &StoreOptions,
        finish: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let stopping = Arc::new((Mutex::new(false), Condvar::new()));
        let flush_interval = Duration::from_secs(options.config.flush_interval_s.into());
        let idle_close = Duration::from_secs(options.config.idle_close_s.into());
        let stop = stopping.clone();
        let optimizing = Optimizing::default();
        let optimizer = optimizing.clone();
        let passing = Arc::new(Mutex::new(()));
        let pass = passing.clone();
        let thread = std::thread::Builder::new().name("strongroom-maintenance".into()).spawn(move || {
            let (mut flushed, mut reaped, mut refreshed) = (Instant::now(), Instant::now(), Instant::now());
            loop {
                {
                    let (stopped, wake) = &*stop;
                    let mut stopped = stopped.lock();
                    if !*stopped {
                        wake.wait_for(&mut stopped, TICK);
                    }
                    if *stopped {
                        return;
                    }
                }
                let flush_all = flushed.elapsed() >= flush_interval;
                if flush_all {
                    flushed = Instant::now();
                }
                let reap = reaped.elapsed() >= REAP_INTERVAL;
                if reap {
                    reaped = Instant::now();
                    finish();
                }
                let _passing = pass.lock();
                tend(&tenants, flush_all, reap, idle_close, &optimizer);
                if refreshed.elapsed() >= REFRESH_INTERVAL {
                    refresh(&tenants, &*keys);
                    refreshed = Instant::now();
                }
            }
        })?;
        Ok(Self { stopping, thread: Mutex::new(Some(thread)), optimizing, passing })
    }

    /// Returns once the thread has ended.
    pub(super) fn stop(&self) {
        let (stopped, wake) = &*self.stopping;
        *stopped.lock() = true;
        wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }

    /// Waits until it has a hold of no tenant; as long as what is returned lives it takes hold of none.
    pub(super) fn keep_out(&self) -> MutexGuard<'_, ()> {
        self.passing.lock()
    }

    /// Waits until no collection is being optimised, after [`stop`](Self::stop): until then the thread that does it has
    /// the store's directory. One that goes on for long is left to itself: a kill does it no harm.
    pub(super) fn wait_for_optimizing(&self) {
        let began = Instant::now();
        while is_running(&self.optimizing.lock()) {
            if began.elapsed() > OPTIMIZED_WITHIN {
                tracing::warn!(
                    "a collection is still being optimised: the directory stays in use until that has ended"
                );
                return;
            }
            std::thread::sleep(OPTIMIZED_LOOKS);
        }
    }
}

fn is_running(optimizing: &Option<JoinHandle<()>>) -> bool {
    optimizing.as_ref().is_some_and(|thread| !thread.is_finished())
}

/// Takes over which epochs there are by now: somebody else may have changed them at the key service.
fn refresh(tenants: &Tenants, keys: &dyn DataKeys) {
    let open: Vec<_> = tenants.lock().values().cloned().collect();
    for tenant in open {
        if let Err(e) = tenant.keyring().refresh(keys) {
            tracing::warn!(error = %e, "the epochs of a tenant could not be looked up and will be again");
        }
    }
}

fn tend(tenants: &Tenants, flush_all: bool, reap: bool, idle_close: Duration, optimizing: &Optimizing) {
    let open: Vec<_> = tenants.lock().values().cloned().collect();
    for tenant in &open {
        if let Err(e) = tenant.book.flush() {
            tracing::warn!(error = %e, "lookups could not be written into the audit log and will be again");
        }
        if reap && let Err(e) = tenant.memories.reap(REAP_AT_A_TIME) {
            tracing::warn!(error = %e, "expired memories could not be removed and will be tried again");
        }
        for collection in tenant.catalog.all().iter().filter(|c| c.is_open()) {
            if let Err(e) = tend_collection(collection, flush_all, idle_close, optimizing) {
                tracing::warn!(collection = %collection.id(), error = %e, "maintenance failed and will be tried again");
            }
        }
    }
    // A tenant whose collections are closed and whom nobody holds goes, and its keys with it. Whether its collections
    // are open is looked at before the list is locked: everybody waits for that.
    let idle: Vec<_> = open
        .into_iter()
        .filter(|tenant| tenant.idle() > idle_close && tenant.catalog.all().iter().all(|c| !c.is_open()))
        .collect();
    // The list's reference and ours.
    tenants.lock().retain(|_, tenant| !(idle.iter().any(|i| Arc::ptr_eq(i, tenant)) && Arc::strong_count(tenant) == 2));
}

fn tend_collection(
    collection: &Arc<Collection>,
    flush_all: bool,
    idle_close: Duration,
    optimizing: &Optimizing,
) -> Result<()> {
    if collection.idle() > idle_close {
        return collection.close().map(|_| ());
    }
    if collection.has_pending() && (flush_all || collection.flush_is_due()) {
        collection.flush()?;
    }
    if collection.wants_optimizing() && collection.unwritten_for() > QUIET {
        let mut optimizing = optimizing.lock();
        if !is_running(&optimizing) {
            let collection = collection.clone();
            let thread = std::thread::Builder::new().name("strongroom-optimize".into());
            *optimizing = Some(thread.spawn(move || {
                if let Err(e) = collection.optimize() {
                    tracing::warn!(collection = %collection.id(), error = %e, "optimizing failed and will be tried again");
                }
            })?);
        }
    }
    Ok(())
}
