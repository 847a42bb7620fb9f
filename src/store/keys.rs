//! Tenants and their keys, as an operator of the store sees them: made, listed, moved on, destroyed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::audit::{Asker, SERVICE, Watching};
use super::tenant::Open;
use super::{Inner, LogOf, Store, StoreOptions, Tenant, blocking};
use crate::audit::What;
use crate::audit::log::KeyKeeper;
use crate::clock::Clock;
use crate::crypto::{Provider, SuiteId};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, Epoch, SessionId, TenantId};
use crate::keys::certificate::SignerUse;
use crate::keys::kms::{Caller, Keys, Kms, LocalKms, Onboarded, PublicTenant, Role, Scope, Session};
use crate::keys::{DataKeys, EpochRecord, Keystore, Passphrase, Profile, Signers, TenantRecord};
use crate::server::RemoteKms;

/// The keys of a store, by what may be asked of them.
pub(super) struct StoreKeys {
    /// Where data keys come from.
    pub(super) data: Arc<dyn DataKeys>,
    /// Who certifies the key that signs tokens.
    pub(super) signing: Arc<dyn Kms>,
    /// Who makes and destroys keys.
    pub(super) admin: Arc<dyn Keys>,
    /// The log of the key service in this process, and its keystore, which the store shares. A store whose keys are
    /// elsewhere has a log of its own.
    pub(super) shared: Option<(Watching, Arc<Keystore>)>,
}

impl StoreKeys {
    /// Keys of this process that sign tokens.
    pub(super) fn signers(&self, provider: &'static dyn Provider, clock: Arc<dyn Clock>) -> Result<Signers> {
        Ok(Signers::new(self.signing.clone(), provider, clock, SERVICE.parse()?, SignerUse::Tokens))
    }
}

/// Opens the keystore of `options`.
pub(super) fn open(
    options: &StoreOptions,
    provider: &'static dyn Provider,
    passphrase: Passphrase,
) -> Result<StoreKeys> {
    let keystore = Arc::new(Keystore::open(&options.keystore_dir(), provider, options.unlock(passphrase))?);
    let watching = watched(options, LogOf::Keystore, KeyKeeper::Keystore(keystore.clone()))?;
    let kms = LocalKms::new(keystore.clone(), options.kms(), options.clock.clone(), watching.sink.clone())?;
    let own = Arc::new(kms.caller(Caller::new(SERVICE, Role::Store, Scope::All)));
    let admin = Arc::new(kms.caller(Caller::new(SERVICE, Role::Admin, Scope::All)));
    Ok(StoreKeys { data: own.clone(), signing: own, admin, shared: Some((watching, keystore)) })
}

/// The log of the options, or else the one of this process, whose directory it holds.
pub(super) fn watched(options: &StoreOptions, of: LogOf, keeper: KeyKeeper) -> Result<Watching> {
    match &options.audit {
        Some(log) => options.watch(log.clone(), options.dir_of(of)),
        None => options.watch_own(of, keeper, None),
    }
}

/// Calls the key service of `options`. What may be administered depends on the role that it gives this process.
pub(super) fn connect(options: &StoreOptions) -> Result<StoreKeys> {
    let kms = Arc::new(RemoteKms::new(options.remote()?)?);
    Ok(StoreKeys { data: kms.clone(), signing: kms.clone(), admin: kms, shared: None })
}

impl Store {
    /// Makes a tenant in the default profile.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is one with this id, or was.
    pub async fn create_tenant(&self, id: &TenantId) -> Result<Tenant> {
        self.onboard_tenant(id, Profile::default(), None).await?;
        self.tenant(id).await
    }

    /// Makes a tenant, all or nothing: root key, signing key, first epoch, the certificate that binds them, and a first
    /// session for `agent` if one is named. After an interruption, doing it again finishes it.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when there is one with this id, or was.
    pub async fn onboard_tenant(&self, id: &TenantId, profile: Profile, agent: Option<&AgentId>) -> Result<Onboarded> {
        let (id, agent) = (id.clone(), agent.cloned());
        self.administer(move |inner| inner.keys.admin.onboard(&id, profile, agent.as_ref())).await
    }

    /// The ids of all tenants, in order.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.administer(|inner| inner.keys.admin.tenants()).await
    }

    /// What may be shown of a tenant's keys.
    pub async fn tenant_keys(&self, id: &TenantId) -> Result<TenantRecord> {
        let id = id.clone();
        self.administer(move |inner| inner.keys.data.tenant(&id)).await
    }

    /// A tenant's public keys and certificates.
    pub async fn tenant_public(&self, id: &TenantId) -> Result<PublicTenant> {
        let id = id.clone();
        self.administer(move |inner| inner.keys.admin.public(&id)).await
    }

    /// Opens a session for an agent of the tenant: a session key, whose private half stays with the keys, and a
    /// credential. [`Unavailable`](ErrorKind::Unavailable) when no session key is ready: try again.
    pub async fn open_session(&self, id: &TenantId, agent: &AgentId, lifetime_ms: u64) -> Result<Session> {
        let (id, agent) = (id.clone(), agent.clone());
        self.administer(move |inner| inner.keys.admin.open_session(&id, &agent, lifetime_ms)).await
    }

    /// Ends a session now.
    pub async fn revoke_session(&self, id: &TenantId, session: SessionId) -> Result<()> {
        let id = id.clone();
        self.administer(move |inner| inner.keys.admin.revoke_session(&id, session)).await
    }

    /// The suite that `name` stands for, if the tenant's profile allows it: `gcm-siv`, `gcm`, or a whole name.
    pub async fn suite_of(&self, id: &TenantId, name: Option<&str>) -> Result<Option<SuiteId>> {
        let profile = self.tenant_keys(id).await?.profile;
        name.map(|name| profile.suite_called(name)).transpose()
    }

    /// Makes the tenant's next epoch, pre-active; `suite` is what will seal in it, the active epoch's if `None`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a suite that the tenant's profile does not allow.
    pub async fn create_epoch(&self, id: &TenantId, suite: Option<SuiteId>) -> Result<EpochRecord> {
        let id = id.clone();
        self.administer(move |inner| inner.keys.admin.create_epoch(&id, suite)).await
    }

    /// Makes a pre-active epoch the one that seals. The one that did is deactivated.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when the epoch is not pre-active.
    pub async fn activate_epoch(&self, id: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        self.change_epoch(id, move |admin, id| admin.activate_epoch(id, epoch)).await
    }

    /// Deactivates the active epoch in favour of the latest pre-active one. Errors as for
    /// [`activate_epoch`](Self::activate_epoch).
    pub async fn deactivate_epoch(&self, id: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        self.change_epoch(id, move |admin, id| admin.deactivate_epoch(id, epoch)).await
    }

    /// Marks an epoch as compromised; when it is the active one, another takes over. Errors as for
    /// [`activate_epoch`](Self::activate_epoch).
    pub async fn mark_epoch_compromised(&self, id: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        self.change_epoch(id, move |admin, id| admin.mark_epoch_compromised(id, epoch)).await
    }

    /// Destroys a tenant: first its keys, so that its data is unreadable everywhere at once, then its data. After an
    /// interruption, doing it again finishes it. [`Busy`](ErrorKind::Busy) while the tenant is in use.
    pub async fn shred_tenant(&self, id: &TenantId) -> Result<TenantRecord> {
        self.close_tenant(id).await?;
        let id = id.clone();
        self.administer(move |inner| {
            let record = {
                let _closed = inner.kept_closed(&id)?;
                inner.keys.admin.shred(&id)
            };
            // Without its keys nobody can open the tenant any more.
            if record.is_ok() || inner.keys.admin.is_shredded(&id)? {
                let tenant = inner.recorder.pseudonym(&id)?;
                let remove = || inner.remove_data(&id);
                inner
                    .recorder
                    .change(&Asker::own(), Some(&tenant), What::DataRemoved, remove, |_| What::DataRemoved)?;
            }
            record
        })
        .await
    }

    /// Moves the tenant to another epoch. What it has stored stays where it is, and is readable, until it is rotated.
    async fn change_epoch(
        &self,
        id: &TenantId,
        change: impl FnOnce(&dyn Keys, &TenantId) -> Result<EpochRecord> + Send + 'static,
    ) -> Result<EpochRecord> {
        let open = self.tenant(id).await?.open;
        let id = id.clone();
        self.administer(move |inner| {
            let changed = change(&*inner.keys.admin, &id)?;
            open.keyring().refresh(&*inner.keys.data)?;
            Ok(changed)
        })
        .await
    }

    async fn administer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    /// Keeps the tenant closed while its keys are changed: who opened it in between would go on with the old ones.
    fn kept_closed(&self, id: &TenantId) -> Result<MutexGuard<'_, HashMap<TenantId, Arc<Open>>>> {
        let tenants = self.tenants.lock();
        if tenants.contains_key(id) {
            return Err(Error::new(ErrorKind::Busy, "the tenant is in use")
                .with_remedy("drop its tenant and collection handles first, then try again"));
        }
        Ok(tenants)
    }

    /// Removes what no key opens any more.
    fn remove_data(&self, id: &TenantId) -> Result<()> {
        let tag = self.tenant_tag(id)?;
        super::unreadable::remove_tenant(&*self.kv, &self.engine, &tag)
    }
}
