//! Rotating the tenants of an open store.

use std::sync::Arc;

use super::tenant::Open;
use super::{Inner, Store, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::keystore::Destroyed;
use crate::rotation::{self, RotateOptions, Rotating, RotationStatus};

/// How much less often than others the threads of a rotation run.
const NICE: i32 = 10;

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
            let _rotating = open.rotating.try_lock().ok_or_else(|| {
                Error::new(ErrorKind::Busy, "the tenant is being rotated already")
                    .with_remedy("`strongroom rotate status` shows how far it is")
            })?;
            let urgent = options.compromised;
            let pool = pool(urgent)?;
            let with = Rotating {
                admin: &*inner.keys.admin,
                pool: &pool,
                retention_ms: inner.options.policy().retention_ms,
                before: &|_, _| Ok(()),
                watch: &watch,
            };
            inner.rotation(&open).rotate(&options, &with)
        })
        .await
    }

    /// Where the rotation of a tenant stands.
    pub async fn rotation(&self, id: &TenantId) -> Result<RotationStatus> {
        let open = self.tenant(id).await?.open;
        let inner = self.inner.clone();
        blocking(move || inner.rotation(&open).status()).await
    }

    /// Destroys the epochs of a tenant that were rotated out and whose retention is over.
    pub async fn destroy_retained(&self, id: &TenantId) -> Result<Vec<Destroyed>> {
        let open = self.tenant(id).await?.open;
        let inner = self.inner.clone();
        blocking(move || {
            let _rotating = open.rotating.lock();
            inner.rotation(&open).destroy_due(&*inner.keys.admin)
        })
        .await
    }

    /// Destroys an epoch that seals no more, retained or not.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) while anything stored is sealed in it.
    pub async fn destroy_epoch(&self, id: &TenantId, epoch: Epoch) -> Result<Destroyed> {
        let open = self.tenant(id).await?.open;
        let inner = self.inner.clone();
        blocking(move || {
            let _rotating = open.rotating.lock();
            let destroyed = inner.rotation(&open).destroy(epoch, &*inner.keys.admin)?;
            destroyed.ok_or_else(|| Error::new(ErrorKind::Conflict, format!("epoch {epoch} is destroyed already")))
        })
        .await
    }
}

impl Inner {
    pub(super) fn rotation<'a>(&'a self, open: &'a Arc<Open>) -> rotation::Tenant<'a> {
        open.rotation(&*self.keys.data, &*self.options.clock)
    }
}

/// Threads that open and seal. Those of a rotation that can wait give way to others.
fn pool(urgent: bool) -> Result<rayon::ThreadPool> {
    let pool =
        rayon::ThreadPoolBuilder::new().thread_name(|n| format!("strongroom-rotate-{n}")).start_handler(move |_| {
            if !urgent && let Err(e) = rustix::process::nice(NICE) {
                tracing::debug!(error = %e, "a rotation's thread runs as often as others");
            }
        });
    pool.build().map_err(|e| Error::internal("the threads of a rotation").with_source(e))
}
