//! What happens by itself: flushing, building search graphs, closing what nobody uses.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::Result;
use crate::id::TenantId;
use crate::vectors::Collection;

use super::StoreOptions;
use super::tenant::Open;

/// How often is looked for something to do.
const TICK: Duration = Duration::from_millis(500);
/// A collection is optimized once nothing was written to it for this long.
const QUIET: Duration = Duration::from_secs(2);

type Tenants = Arc<Mutex<HashMap<TenantId, Arc<Open>>>>;

/// The thread that maintains a store.
pub(super) struct Maintenance {
    stopping: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Maintenance {
    pub(super) fn start(tenants: Tenants, options: &StoreOptions) -> Result<Self> {
        let stopping = Arc::new((Mutex::new(false), Condvar::new()));
        let flush_interval = Duration::from_secs(options.config.flush_interval_s.into());
        let idle_close = Duration::from_secs(options.config.idle_close_s.into());
        let stop = stopping.clone();
        let thread = std::thread::Builder::new().name("strongroom-maintenance".into()).spawn(move || {
            let mut flushed = Instant::now();
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
                tend(&tenants, flush_all, idle_close);
            }
        })?;
        Ok(Self { stopping, thread: Mutex::new(Some(thread)) })
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
}

fn tend(tenants: &Tenants, flush_all: bool, idle_close: Duration) {
    let open: Vec<_> = tenants.lock().values().cloned().collect();
    for tenant in &open {
        for collection in tenant.catalog.all().iter().filter(|c| c.is_open()) {
            if let Err(e) = tend_collection(collection, flush_all, idle_close) {
                tracing::warn!(collection = %collection.id(), error = %e, "maintenance failed and will be tried again");
            }
        }
    }
    drop(open);
    // A tenant whose collections are closed and whom nobody holds goes, and its keys with it.
    tenants.lock().retain(|_, tenant| {
        let idle = tenant.idle() > idle_close && tenant.catalog.all().iter().all(|c| !c.is_open());
        !(idle && Arc::strong_count(tenant) == 1)
    });
}

fn tend_collection(collection: &Arc<Collection>, flush_all: bool, idle_close: Duration) -> Result<()> {
    if collection.idle() > idle_close {
        return collection.close().map(|_| ());
    }
    if collection.has_pending() && (flush_all || collection.flush_is_due()) {
        collection.flush()?;
    }
    if collection.wants_optimizing() && collection.unwritten_for() > QUIET {
        collection.optimize()?;
    }
    Ok(())
}
