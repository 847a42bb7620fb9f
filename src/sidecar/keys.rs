//! The keys of tenants whose tokens are redeemed: fetched when first needed, erased when nobody needs them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::crypto::Provider;
use crate::error::Result;
use crate::id::{Epoch, TenantId};
use crate::keys::{DataKeys, Keyring};
use crate::limits;

/// Keyrings by tenant.
pub(super) struct TenantKeys {
    source: Arc<dyn DataKeys>,
    provider: &'static dyn Provider,
    idle_ms: u64,
    slots: Mutex<HashMap<TenantId, Arc<Slot>>>,
}

/// One tenant's.
struct Slot {
    held: RwLock<Option<Held>>,
    /// Held by who fetches the keys: the others wait for them instead of fetching them too.
    fetching: Mutex<()>,
    used_at_ms: AtomicU64,
}

struct Held {
    keyring: Arc<Keyring>,
    fetched_at_ms: u64,
}

impl TenantKeys {
    pub(super) fn new(source: Arc<dyn DataKeys>, provider: &'static dyn Provider, idle_ms: u64) -> Self {
        Self { source, provider, idle_ms, slots: Mutex::default() }
    }

    /// The keys of `tenant`, with those of `epoch` if there is such an epoch. What is older than
    /// [`limits::KEYRING_AGE_MS`] is fetched again: keys may have been destroyed meanwhile.
    pub(super) fn of(&self, tenant: &TenantId, epoch: Option<Epoch>, now_ms: u64) -> Result<Arc<Keyring>> {
        let slot = self.slot(tenant, now_ms);
        if let Some(keyring) = slot.serving(epoch, now_ms) {
            return Ok(keyring);
        }
        let _fetching = slot.fetching.lock();
        if let Some(keyring) = slot.serving(epoch, now_ms) {
            return Ok(keyring);
        }
        self.source.forget(tenant);
        let keyring = Arc::new(Keyring::open(&*self.source, self.provider, tenant)?);
        *slot.held.write() = Some(Held { keyring: keyring.clone(), fetched_at_ms: now_ms });
        Ok(keyring)
    }

    /// Where the keys of `tenant` are, or will be. A new tenant takes the place of the one that was not used for longest.
    fn slot(&self, tenant: &TenantId, now_ms: u64) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(tenant) {
            slot.used_at_ms.store(now_ms, Ordering::Relaxed);
            return slot.clone();
        }
        if slots.len() >= limits::SIDECAR_TENANTS {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.used_at_ms.load(Ordering::Relaxed));
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.and_then(|id| slots.remove(&id));
        }
        let slot = Slot { held: RwLock::default(), fetching: Mutex::default(), used_at_ms: AtomicU64::new(now_ms) };
        slots.entry(tenant.clone()).or_insert(Arc::new(slot)).clone()
    }

    /// Erases what was not used for a while, and what is so old that it would be fetched again: keys that were destroyed
    /// meanwhile must not stay where nobody asks for them.
    pub(super) fn drop_idle(&self, now_ms: u64) {
        let before_ms = now_ms.saturating_sub(self.idle_ms);
        self.slots.lock().retain(|tenant, slot| {
            // Whoever is at it renews it.
            if let Some(mut held) = slot.held.try_write()
                && held.as_ref().is_some_and(|held| held.is_old(now_ms))
            {
                *held = None;
                self.source.forget(tenant);
            }
            slot.used_at_ms.load(Ordering::Relaxed) >= before_ms
        });
    }

    pub(super) fn forget(&self, tenant: &TenantId) {
        self.slots.lock().remove(tenant);
    }

    pub(super) fn len(&self) -> usize {
        self.slots.lock().values().filter(|slot| slot.held.read().is_some()).count()
    }
}

impl Slot {
    fn serving(&self, epoch: Option<Epoch>, now_ms: u64) -> Option<Arc<Keyring>> {
        let held = self.held.read();
        held.as_ref().filter(|held| held.serves(epoch, now_ms)).map(|held| held.keyring.clone())
    }
}

impl Held {
    fn serves(&self, epoch: Option<Epoch>, now_ms: u64) -> bool {
        // An epoch that nobody has heard of may be new; asking for one that never was must not cost more than a second's
        // worth of work.
        let knows =
            epoch.is_none_or(|epoch| self.keyring.knows(epoch)) || self.age_ms(now_ms) < limits::KEYRING_RETRY_MS;
        !self.is_old(now_ms) && knows
    }

    fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.abs_diff(self.fetched_at_ms)
    }

    fn is_old(&self, now_ms: u64) -> bool {
        self.age_ms(now_ms) >= limits::KEYRING_AGE_MS
    }
}
