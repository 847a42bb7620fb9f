//! The breaker of a store, for its operator: tenants by their names.

use serde::Serialize;

use super::audit::Asker;
use super::{Inner, Store, blocking};
use crate::error::Result;
use crate::id::TenantId;
use crate::keys::kms::Caller;

/// A tenant whose reads are paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// The tenant; `None` for one that there is no more.
    pub tenant: Option<String>,
    /// What the audit log calls it.
    pub pseudonym: String,
    /// Since when: Unix time in milliseconds.
    pub since_ms: u64,
    /// `operator`, or the rule that did it.
    pub cause: String,
}

impl Store {
    /// Pauses a tenant's reads, redeems and tokens, until they are released. It holds over restarts. Says whether it is
    /// new.
    pub async fn trip_breaker(&self, tenant: &TenantId) -> Result<bool> {
        self.trip_for(&Asker::own(), tenant).await
    }

    /// Lets a tenant's reads go on. Says whether they were paused.
    pub async fn release_breaker(&self, tenant: &TenantId) -> Result<bool> {
        self.release_for(&Asker::own(), tenant).await
    }

    /// The tenants whose reads are paused.
    pub async fn breakers(&self) -> Result<Vec<Paused>> {
        let inner = self.inner.clone();
        blocking(move || inner.paused()).await
    }

    pub(super) async fn trip_as(&self, caller: &Caller, tenant: &TenantId) -> Result<bool> {
        self.trip_for(&Asker::of(caller), tenant).await
    }

    pub(super) async fn release_as(&self, caller: &Caller, tenant: &TenantId) -> Result<bool> {
        self.release_for(&Asker::of(caller), tenant).await
    }

    async fn trip_for(&self, asker: &Asker, tenant: &TenantId) -> Result<bool> {
        let (inner, tenant, who) = (self.inner.clone(), tenant.clone(), asker.operator());
        blocking(move || {
            // There has to be one: nobody pauses a slip of the pen and believes a tenant paused.
            inner.keys.data.tenant(&tenant)?;
            inner.recorder.alerts().breaker().trip(&who, &inner.recorder.pseudonym(&tenant)?, "operator")
        })
        .await
    }

    async fn release_for(&self, asker: &Asker, tenant: &TenantId) -> Result<bool> {
        let (inner, tenant, who) = (self.inner.clone(), tenant.clone(), asker.operator());
        blocking(move || inner.recorder.alerts().breaker().release(&who, &inner.recorder.pseudonym(&tenant)?)).await
    }
}

impl Inner {
    fn paused(&self) -> Result<Vec<Paused>> {
        let trips = self.recorder.alerts().breaker().list();
        if trips.is_empty() {
            return Ok(Vec::new());
        }
        let mut names = std::collections::HashMap::new();
        for tenant in self.keys.admin.tenants()? {
            names.insert(self.recorder.pseudonym(&tenant)?, tenant.as_str().to_owned());
        }
        let paused = trips.into_iter().map(|(pseudonym, trip)| Paused {
            tenant: names.get(&pseudonym).cloned(),
            pseudonym,
            since_ms: trip.since_ms,
            cause: trip.cause,
        });
        Ok(paused.collect())
    }
}
