//! The keys of tenants whose tokens are redeemed: fetched when first needed, erased when nobody needs them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::crypto::Provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{DataKeys, Keyring};
use crate::limits;

/// Keyrings by tenant.
pub(super) struct TenantKeys {
    source: Arc<dyn DataKeys>,
    provider: &'static dyn Provider,
    idle_ms: u64,
    held: Mutex<HashMap<TenantId, Arc<Held>>>,
}

struct Held {
    keyring: Arc<Keyring>,
    opened_at_ms: u64,
    used_at_ms: AtomicU64,
}

impl TenantKeys {
    pub(super) fn new(source: Arc<dyn DataKeys>, provider: &'static dyn Provider, idle_ms: u64) -> Self {
        Self { source, provider, idle_ms, held: Mutex::default() }
    }

    /// The keys of `tenant`, with those of `epoch` if there is such an epoch. What is older than
    /// [`limits::KEYRING_AGE_MS`] is fetched again: keys may have been destroyed meanwhile.
    pub(super) fn of(&self, tenant: &TenantId, epoch: Option<Epoch>, now_ms: u64) -> Result<Arc<Keyring>> {
        if let Some(held) = self.held.lock().get(tenant).filter(|held| held.serves(epoch, now_ms)) {
            held.used_at_ms.store(now_ms, Ordering::Relaxed);
            return Ok(held.keyring.clone());
        }
        self.source.forget(tenant);
        let keyring = Arc::new(Keyring::open(&*self.source, self.provider, tenant)?);
        let held = Held { keyring: keyring.clone(), opened_at_ms: now_ms, used_at_ms: AtomicU64::new(now_ms) };
        let mut all = self.held.lock();
        if all.len() >= limits::SIDECAR_TENANTS && !all.contains_key(tenant) {
            let oldest = all.iter().min_by_key(|(_, held)| held.used_at_ms.load(Ordering::Relaxed));
            let oldest = oldest.map(|(id, _)| id.clone());
            let oldest = oldest.ok_or_else(|| Error::new(ErrorKind::Busy, "no tenant can be served"))?;
            all.remove(&oldest);
        }
        all.insert(tenant.clone(), Arc::new(held));
        Ok(keyring)
    }

    /// Erases what was not used for a while.
    pub(super) fn drop_idle(&self, now_ms: u64) {
        let before_ms = now_ms.saturating_sub(self.idle_ms);
        self.held.lock().retain(|_, held| held.used_at_ms.load(Ordering::Relaxed) >= before_ms);
    }

    pub(super) fn forget(&self, tenant: &TenantId) {
        self.held.lock().remove(tenant);
    }

    pub(super) fn len(&self) -> usize {
        self.held.lock().len()
    }
}

impl Held {
    fn serves(&self, epoch: Option<Epoch>, now_ms: u64) -> bool {
        let age_ms = now_ms.abs_diff(self.opened_at_ms);
        // An epoch that nobody has heard of may be new; asking for one that never was must not cost more than a second's
        // worth of work.
        let knows = epoch.is_none_or(|epoch| self.keyring.knows(epoch)) || age_ms < limits::KEYRING_RETRY_MS;
        age_ms < limits::KEYRING_AGE_MS && knows
    }
}
