//! Taking in what agents say that they did.

use super::{Store, blocking};
use crate::audit::actions::{SignedAction, Taker};
use crate::error::Result;
use crate::id::TenantId;

impl Store {
    /// Takes in signed actions of an agent of the tenant: as [`ActionLog::append`](crate::audit::actions::ActionLog::append).
    pub async fn append_actions(
        &self,
        tenant: &TenantId,
        chain: Vec<Vec<u8>>,
        actions: Vec<SignedAction>,
    ) -> Result<Vec<Result<()>>> {
        let (store, tenant) = (self.clone(), tenant.clone());
        blocking(move || store.append(&tenant, &chain, &actions)).await
    }
}

impl Taker for Store {
    /// Blocks: not to be called on a thread that drives the runtime.
    fn append(&self, tenant: &TenantId, chain: &[Vec<u8>], actions: &[SignedAction]) -> Result<Vec<Result<()>>> {
        let pseudonym = self.inner.recorder.pseudonym(tenant)?;
        self.inner.actions.append(tenant, &pseudonym, chain, actions)
    }
}
