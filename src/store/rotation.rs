//! Rotating the tenants of an open store.

use std::sync::Arc;

use parking_lot::Mutex;
use rayon::ThreadPool;

use super::foreground::Foreground;
use super::tenant::Open;
use super::{Inner, Store, StoreOptions, blocking};
use crate::audit::{Outcome, RotationStep, What};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::Fingerprint;
use crate::keys::keystore::Destroyed;
use crate::keys::policy::Due;
use crate::limits;
use crate::rotation::{self, Phase, RotateOptions, Rotating, RotationStatus, Step, Throttle, Windows};

/// How much less often than others the threads of a rotation run.
const NICE: i32 = 19;

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
            if let Err(e) = &done {
                inner.rotation_failed(&open, e);
            }
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
            let note = |destroyed: &Destroyed| inner.note(&open, &Step::Destroyed(destroyed));
            let destroyed = inner.rotation(&open).destroy_due(&*inner.keys.admin, &note)?;
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
            let note = |destroyed: &Destroyed| inner.note(&open, &Step::Destroyed(destroyed));
            let (tenant, admin) = (inner.rotation(&open), &*inner.keys.admin);
            let destroyed = tenant.destroy(epoch, admin, &note)?;
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
            give_way: &|| give_way(if urgent { 0 } else { NICE }),
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
            note: &|step| self.note(open, &step),
        };
        tenant.rotate(options, &with)
    }

    /// Writes a step into the audit log.
    fn note(&self, open: &Open, step: &Step<'_>) -> Result<()> {
        open.book.record(event_of(step), Outcome::Done)
    }

    /// That it failed is told whoever asked, whether it can be written down or not.
    fn rotation_failed(&self, open: &Arc<Open>, e: &Error) {
        let status = self.rotation(open).status().ok();
        let what = status.as_ref().map_or_else(
            || rotation(RotationStep::Failed, Vec::new(), Vec::new(), 0),
            |status| moving(RotationStep::Failed, status),
        );
        if open.book.record(what, Outcome::of_error(e)).is_err() {
            tracing::error!("a rotation that failed could not be written into the audit log");
        }
    }
}

/// What the log says of a step.
fn event_of(step: &Step<'_>) -> What {
    match step {
        Step::Planned(status, suite) => {
            let suites = suite.map(|suite| vec![status.active.suite.clone(), suite.as_str().to_owned()]);
            let (step, from) = (RotationStep::Planned, vec![status.active.fingerprint.clone()]);
            What::Rotation { step, from, to: Vec::new(), suites: suites.unwrap_or_default(), records: 0 }
        }
        Step::Reencrypting(status) => moving(RotationStep::Reencrypting, status),
        Step::Verified(status) => moving(RotationStep::Verified, status),
        Step::Retained(status) => {
            let from = status.retained.iter().map(|retained| retained.fingerprint.clone()).collect();
            rotation(RotationStep::Retained, from, vec![status.active.fingerprint.clone()], status.records)
        }
        Step::Destroyed(destroyed) => {
            let Destroyed { fingerprint, active_fingerprint, .. } = destroyed;
            rotation(RotationStep::Destroyed, vec![fingerprint.clone()], vec![active_fingerprint.clone()], 0)
        }
    }
}

fn moving(step: RotationStep, status: &RotationStatus) -> What {
    let from = status.from.iter().map(|epoch| epoch.fingerprint.clone()).collect();
    let before = status.from.last().map(|epoch| &epoch.suite).filter(|suite| **suite != status.active.suite);
    let suites = before.map(|before| vec![before.clone(), status.active.suite.clone()]).unwrap_or_default();
    let to = vec![status.active.fingerprint.clone()];
    What::Rotation { step, from, to, suites, records: status.records }
}

fn rotation(step: RotationStep, from: Vec<Fingerprint>, to: Vec<Fingerprint>, records: u64) -> What {
    What::Rotation { step, from, to, suites: Vec::new(), records }
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
