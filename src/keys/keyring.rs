//! The keys of one open tenant: derived on demand, kept in memory while the tenant is open, gone when it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::crypto::{self, MacKey, Provider, SuiteId};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::record::{SealLedger, SealingKey};
use crate::secret::Secret;

use super::{DataKeys, EpochKeys, EpochState, Label};

/// Derives and keeps the data keys of one tenant.
pub struct Keyring {
    tenant: TenantId,
    provider: &'static dyn Provider,
    active: Epoch,
    epochs: HashMap<Epoch, OpenEpoch>,
    destroyed: Vec<Epoch>,
    /// Where the seals of keys that need it are counted.
    ledger: Option<Arc<dyn SealLedger>>,
    sealing: Derived<(Label, Epoch), SealingKey>,
    blinding: Derived<Epoch, dyn MacKey>,
}

/// Keys by what they were derived for, and then by scope: looked up for every record, so without making a key of both.
type Derived<K, V> = RwLock<HashMap<K, HashMap<Box<[u8]>, Arc<V>>>>;

struct OpenEpoch {
    suite: SuiteId,
    keys: Box<dyn EpochKeys>,
}

impl Keyring {
    /// Gets at the keys of every epoch of `tenant` whose records may be opened.
    pub fn open(keys: &dyn DataKeys, provider: &'static dyn Provider, tenant: &TenantId) -> Result<Self> {
        let record = keys.tenant(tenant)?;
        let mut epochs = HashMap::new();
        for epoch in record.epochs.iter().filter(|e| e.state.can_open()) {
            let keys = keys.epoch_keys(tenant, epoch.epoch)?;
            epochs.insert(epoch.epoch, OpenEpoch { suite: epoch.suite()?, keys });
        }
        let destroyed = record.epochs.iter().filter(|e| e.state == EpochState::Destroyed).map(|e| e.epoch).collect();
        let active = record
            .epochs
            .iter()
            .find(|e| e.state == EpochState::Active)
            .ok_or_else(|| Error::integrity("the epoch list of a tenant"))?
            .epoch;
        Ok(Self {
            tenant: tenant.clone(),
            provider,
            active,
            epochs,
            destroyed,
            ledger: None,
            sealing: RwLock::default(),
            blinding: RwLock::default(),
        })
    }

    /// The same keyring with the seals of AES-GCM keys counted in `ledger`: beyond the life of this process.
    #[must_use]
    pub fn counted(mut self, ledger: Arc<dyn SealLedger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The implementation of the algorithms.
    pub fn provider(&self) -> &'static dyn Provider {
        self.provider
    }

    /// The epoch that seals.
    pub fn active(&self) -> Epoch {
        self.active
    }

    /// Whether the epoch was there when the keyring was opened, even if only as destroyed.
    pub fn knows(&self, epoch: Epoch) -> bool {
        self.epochs.contains_key(&epoch) || self.destroyed.contains(&epoch)
    }

    /// The key that seals and opens records of `label` and `scope` in `epoch`.
    pub fn sealing(&self, label: Label, epoch: Epoch, scope: &[u8]) -> Result<Arc<SealingKey>> {
        if let Some(found) = self.sealing.read().get(&(label, epoch)).and_then(|scopes| scopes.get(scope)) {
            return Ok(found.clone());
        }
        let (suite, dek) = self.derive(label, epoch, scope)?;
        let mut made = SealingKey::new(self.provider, suite, epoch, &dek)?;
        if let Some(ledger) = &self.ledger {
            let name = self.provider.sha256(&[&label.info(suite, epoch, scope)]);
            made = made.counted(crypto::first_16(name), ledger.clone());
        }
        let made = Arc::new(made);
        Ok(self.sealing.write().entry((label, epoch)).or_default().entry(scope.into()).or_insert(made).clone())
    }

    /// The key that blinds names and ids of `scope` in `epoch`.
    pub fn blinding(&self, epoch: Epoch, scope: &[u8]) -> Result<Arc<dyn MacKey>> {
        if let Some(found) = self.blinding.read().get(&epoch).and_then(|scopes| scopes.get(scope)) {
            return Ok(found.clone());
        }
        let (_, secret) = self.derive(Label::BlindIndex, epoch, scope)?;
        let made: Arc<dyn MacKey> = self.provider.mac(&secret).into();
        Ok(self.blinding.write().entry(epoch).or_default().entry(scope.into()).or_insert(made).clone())
    }

    fn derive(&self, label: Label, epoch: Epoch, scope: &[u8]) -> Result<(SuiteId, Secret<32>)> {
        let open = self.epochs.get(&epoch).ok_or_else(|| {
            if self.destroyed.contains(&epoch) {
                return Error::new(ErrorKind::NotFound, format!("epoch {epoch} is destroyed"))
                    .with_remedy("its records can never be opened again");
            }
            // The number came from stored bytes, and nobody ever made such an epoch.
            crypto::open_failed()
        })?;
        Ok((open.suite, open.keys.dek(label, scope)?))
    }
}
