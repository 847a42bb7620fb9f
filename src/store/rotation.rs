//! Rotating the tenants of an open store.

use std::sync::Arc;

use parking_lot::Mutex;
use rayon::ThreadPool;

use super::foreground::Foreground;
use super::tenant::Open;
use super::{Inner, Store, StoreOptions, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::keystore::Destroyed;
use crate::keys::policy::Due;
use crate::limits;
use crate::rotation::{self, Phase, RotateOptions, Rotating, RotationStatus, Throttle, Windows};

/// How much less often than others the threads of a rotation run.
const NICE: i32 = 10;

/// What all rotations of a store have together.
pub(super) struct Rotations {
    pub(super) foreground: Arc<Foreground>,
    pub(super) windows: Windows,
    pub(super) throttle: Throttle,
    /// The threads of those that can wait, made by the first.
    pool: Mutex<Option<Arc<ThreadPool>>>,
    threads: usize,
}

impl Rotations {
    pub(super) fn new(options: &StoreOptions) -> Result<Self> {
        let config = options.settings();
        Ok(Self {
            foreground: Arc::new(Foreground::new(config.rotation_p99_percent)?),
            windows: options.windows()?,
            throttle: Throttle::new(config.rotation_mib_per_s),
            pool: Mutex::default(),
            threads: config.rotation_threads as usize,
        })
    }

    /// Threads that open and seal. Those of rotations that can wait give way to others, and are the same for all.
    fn pool(&self, urgent: bool) -> Result<Arc<ThreadPool>> {
        if urgent {
            return pool(0, 0).map(Arc::new);
        }
        let mut made = self.pool.lock();
        if let Some(pool) = &*made {
            return Ok(pool.clone());
        }
        let pool = Arc::new(pool(self.threads, NICE)?);
        *made = Some(pool.clone());
        Ok(pool)
    }
}

impl Store {
    /// Moves a tenant to a new epoch with everything that it has stored, or goes on with a rotation that was
    /// interrupted. The tenant is used meanwhile. `watch` is told after every write.
    ///
    /// # Errors
    ///
    /// [`Busy`](ErrorKind::Busy) while the tenant is rotated already. [`Integrity`](ErrorKind::Integrity) when records
    /// do not open: everything else is moved, and the old epoch is kept.
    pub async fn rotate(
        &self,
        id: &TenantId,
        options: RotateOptions,
        watch: impl Fn(&RotationStatus) + Send + Sync + 'static,
    ) -> Result<RotationStatus> {
        let open = self.tenant(id).await?.open;
        let inner = self.inner.clone();
        blocking(move || {
            let _rotating = open.rotating.try_lock().ok_or_else(under_way)?;
            let done = inner.rotate(&open, &options, &watch);
            inner.metrics.rotated(&done);
            done
        })
        .await
    }

    /// What is due for a tenant's epochs, by the policy of this store.
    pub async fn due(&self, id: &TenantId) -> Result<Vec<Due>> {
        let keys = self.tenant_keys(id).await?;
        Ok(self.inner.options.policy().due(&keys, self.inner.options.clock.now_ms()))
    }

    /// Has every rotation end after what it writes now, and no other begin. What was not moved yet is moved by the next.
    pub fn stop_rotations(&self) {
        self.inner.rotations.throttle.stop();
    }

    /// Where the rotation of a tenant stands.
    pub async fn rotation(&self, id: &TenantId) -> Result<RotationStatus> {
        let open = self.tenant(id).await?.open;
        let inner = self.inner.clone();
        blocking(move || inner.rotation(&open).status()).await
    }

    /// Destroys the epochs of a tenant that were rotated out and whose retention is over.
    ///
    /// # Errors
    ///
    /// [`Busy`](ErrorKind::Busy) while the tenant is rotated.
    pub async fn destroy_retained(&self, id: &TenantId) -> Result<Vec<Destroyed>> {
        let open = self.tenant(id).await?.open;
        let inner = self.inner.clone();
        blocking(move || {
            let _rotating = open.rotating.try_lock().ok_or_else(under_way)?;
            let destroyed = inner.rotation(&open).destroy_due(&*inner.keys.admin)?;
            inner.metrics.destroyed(destroyed.len());
            Ok(destroyed)
        })
        .await
    }

    /// Destroys an epoch that seals no more, retained or not.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) while anything stored is sealed in it, [`Busy`](ErrorKind::Busy) while the tenant
    /// is rotated.
    pub async fn destroy_epoch(&self, id: &TenantId, epoch: Epoch) -> Result<Destroyed> {
        let open = self.tenant(id).await?.open;
        let inner = self.inner.clone();
        blocking(move || {
            let _rotating = open.rotating.try_lock().ok_or_else(under_way)?;
            let (tenant, admin) = (inner.rotation(&open), &*inner.keys.admin);
            let destroyed = tenant.destroy(epoch, admin)?;
            tenant.destroy_idle_roots(admin)?;
            destroyed.ok_or_else(|| Error::new(ErrorKind::Conflict, format!("epoch {epoch} is destroyed already")))
        })
        .await
    }
}

/// What somebody is told who comes while a tenant is rotated.
pub(super) fn under_way() -> Error {
    Error::new(ErrorKind::Busy, "the tenant is being rotated already")
        .with_remedy("`strongroom rotate status` shows how far it is")
}

impl Inner {
    pub(super) fn rotation<'a>(&'a self, open: &'a Arc<Open>) -> rotation::Tenant<'a> {
        open.rotation(&*self.keys.data, &*self.options.clock)
    }

    fn rotate(
        &self,
        open: &Arc<Open>,
        options: &RotateOptions,
        watch: &(dyn Fn(&RotationStatus) + Sync),
    ) -> Result<RotationStatus> {
        let (rotations, urgent) = (&self.rotations, options.compromised);
        rotations.throttle.check()?;
        let tenant = self.rotation(open);
        let before = tenant.status()?;
        let counted = Mutex::new(if before.phase == Phase::Idle { (0, 0) } else { (before.records, before.bytes) });
        let _running = self.metrics.running();
        let _unusual = rotations.foreground.rotating();
        let (slow, pool) = (|| rotations.foreground.is_slow(), rotations.pool(urgent)?);
        let open_now = || !options.in_windows || rotations.windows.is_open(self.options.clock.now_ms());
        let pacer = rotations.throttle.pacer(&slow, &open_now);
        let with = Rotating {
            admin: &*self.keys.admin,
            pool: &pool,
            retention_ms: self.options.policy().retention_ms,
            rows: &|| {
                let alone = urgent || rotations.foreground.is_slow().is_none();
                if alone { limits::ROTATION_ROWS } else { limits::ROTATION_ROWS_BESIDE }
            },
            before: &|_, bytes| if urgent { rotations.throttle.check() } else { pacer.before(bytes) },
            watch: &|status| {
                self.metrics.moved(&mut counted.lock(), (status.records, status.bytes));
                let speed_percent = if urgent { 100 } else { rotations.throttle.percent() };
                watch(&RotationStatus { speed_percent, ..status.clone() });
            },
        };
        if urgent {
            return tenant.rotate(options, &with);
        }
        // On a thread of its own, which can be made to give way; those that it starts are as it is.
        std::thread::scope(|scope| {
            let rotating = std::thread::Builder::new().name("strongroom-rotate".into());
            let rotating = rotating.spawn_scoped(scope, || {
                give_way(NICE);
                tenant.rotate(options, &with)
            });
            let rotating = rotating.map_err(|e| Error::internal("a thread for a rotation").with_source(e))?;
            rotating.join().map_err(|_| Error::internal("a rotation ended unexpectedly"))?
        })
    }
}

/// `threads` threads, 0 for one for each core, that run less often than others by `nice`.
fn pool(threads: usize, nice: i32) -> Result<ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let pool = pool.thread_name(|n| format!("strongroom-rotate-{n}")).start_handler(move |_| give_way(nice));
    pool.build().map_err(|e| Error::internal("the threads of a rotation").with_source(e))
}

/// Has this thread run less often than others, by `nice`.
fn give_way(nice: i32) {
    if nice > 0
        && let Err(e) = rustix::process::nice(nice)
    {
        tracing::debug!(error = %e, "a rotation's thread runs as often as others");
    }
}
