//! What is kept ready of tenants: records, public keys, signers and epoch secrets, until they idle or change.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::crypto::SigningKey;
use crate::error::Result;
use crate::id::{Epoch, TenantId};
use crate::keys::keystore::PublicKeys;
use crate::keys::{DataKeys as _, EpochSecret, Keystore, TenantRecord};
use crate::limits;

/// The tenants that are kept ready.
pub(super) struct Tenants {
    keystore: Arc<Keystore>,
    ready: Mutex<HashMap<TenantId, Arc<ReadyTenant>>>,
    /// Counts changes, so that what was read before one is never kept after it.
    changes: AtomicU64,
}

/// What is kept ready of one tenant. All but the record is fetched when it is first needed: the store's own entry has
/// no more, and most callers need only a part.
pub(super) struct ReadyTenant {
    pub(super) record: TenantRecord,
    id: TenantId,
    public: Mutex<Option<Arc<Public>>>,
    signer: Mutex<Option<Arc<dyn SigningKey>>>,
    epochs: Mutex<HashMap<Epoch, Arc<dyn EpochSecret>>>,
    used_at_ms: AtomicU64,
}

/// The public halves of a tenant's keys, and what binds them to it.
pub(super) struct Public {
    pub(super) keys: PublicKeys,
    /// The authority's certificate and the tenant's, DER.
    pub(super) certificates: [Vec<u8>; 2],
    /// The tenant's earlier ones that are still believed, DER.
    pub(super) earlier: Vec<Vec<u8>>,
}

impl Tenants {
    pub(super) fn new(keystore: Arc<Keystore>) -> Self {
        Self { keystore, ready: Mutex::default(), changes: AtomicU64::new(0) }
    }

    pub(super) fn get(&self, tenant: &TenantId, now_ms: u64) -> Result<Arc<ReadyTenant>> {
        loop {
            if let Some(ready) = self.ready.lock().get(tenant) {
                ready.used_at_ms.store(now_ms, Ordering::Relaxed);
                return Ok(ready.clone());
            }
            let before = self.changes.load(Ordering::SeqCst);
            let loaded = Arc::new(ReadyTenant::load(&self.keystore, tenant, now_ms)?);
            let mut ready = self.ready.lock();
            if self.changes.load(Ordering::SeqCst) != before {
                continue;
            }
            if ready.len() >= limits::KMS_TENANTS {
                let oldest = ready.iter().min_by_key(|(_, t)| t.used_at_ms.load(Ordering::Relaxed));
                if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                    ready.remove(&oldest);
                }
            }
            return Ok(ready.entry(tenant.clone()).or_insert(loaded).clone());
        }
    }

    /// Erases what is kept ready of a tenant: after every change.
    pub(super) fn forget(&self, tenant: &TenantId) {
        let mut ready = self.ready.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        ready.remove(tenant);
    }

    /// Erases what was not used since `before_ms`.
    pub(super) fn drop_idle(&self, before_ms: u64) {
        self.ready.lock().retain(|_, tenant| tenant.used_at_ms.load(Ordering::Relaxed) >= before_ms);
    }

    /// How many are kept ready.
    pub(super) fn len(&self) -> usize {
        self.ready.lock().len()
    }
}

impl ReadyTenant {
    fn load(keystore: &Keystore, tenant: &TenantId, now_ms: u64) -> Result<Self> {
        Ok(Self {
            record: keystore.tenant(tenant)?,
            id: tenant.clone(),
            public: Mutex::default(),
            signer: Mutex::default(),
            epochs: Mutex::default(),
            used_at_ms: AtomicU64::new(now_ms),
        })
    }

    pub(super) fn public(&self, keystore: &Keystore) -> Result<Arc<Public>> {
        let mut public = self.public.lock();
        if let Some(public) = &*public {
            return Ok(public.clone());
        }
        let (keys, certificates) = (keystore.public_keys(&self.id)?, keystore.certificates(&self.id)?);
        let earlier = keystore.earlier_certificates(&self.id)?;
        Ok(public.insert(Arc::new(Public { keys, certificates, earlier })).clone())
    }

    pub(super) fn signer(&self, keystore: &Keystore) -> Result<Arc<dyn SigningKey>> {
        let mut signer = self.signer.lock();
        if let Some(signer) = &*signer {
            return Ok(signer.clone());
        }
        let made: Arc<dyn SigningKey> = Arc::from(keystore.signer(&self.id)?);
        Ok(signer.insert(made).clone())
    }

    pub(super) fn epoch(&self, keystore: &Keystore, epoch: Epoch) -> Result<Arc<dyn EpochSecret>> {
        let mut epochs = self.epochs.lock();
        if let Some(secret) = epochs.get(&epoch) {
            return Ok(secret.clone());
        }
        let made: Arc<dyn EpochSecret> = Arc::from(keystore.epoch_secret(&self.id, epoch)?);
        epochs.insert(epoch, made.clone());
        Ok(made)
    }
}
