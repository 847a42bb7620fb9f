//! Administration of tenants and epochs: every change is in the audit log, on stable storage, before it is made, and how
//! it ended before it is answered.

use std::time::Duration;

use super::caller::Operation;
use super::handle::Handle;
use super::{KeyAdmin, Onboarded, Permit, PublicTenant, Session};
use crate::audit::{Outcome, What};
use crate::crypto::SuiteId;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, Epoch, TenantId};
use crate::keys::keystore::{Destroyed, DestroyedRootKey};
use crate::keys::{EpochRecord, EpochState, Fingerprint, Profile, TenantRecord};
use crate::limits;

impl KeyAdmin for Handle {
    fn tenants(&self) -> Result<Vec<TenantId>> {
        let mut tenants = self.kms.keystore.tenants()?;
        tenants.retain(|tenant| self.caller.works_for(tenant));
        Ok(tenants)
    }

    fn onboard(&self, tenant: &TenantId, profile: Profile, agent: Option<&AgentId>) -> Result<Onboarded> {
        let permit = self.permit(Operation::Administer, tenant)?;
        // Its keys are made while the tenant's are.
        self.kms.pool.warm(profile.kem());
        let begun = What::TenantOnboarded { profile, fingerprints: Vec::new() };
        let made = self.change(&permit, begun, |now_ms| self.kms.keystore.onboard(tenant, profile, now_ms));
        let fingerprints = made.as_ref().map(fingerprints).unwrap_or_default();
        let record = self.audited(&permit, What::TenantOnboarded { profile, fingerprints }, made)?;
        let session = agent.map(|agent| self.bootstrap(tenant, agent)).transpose()?;
        Ok(Onboarded { record, session })
    }

    fn create_epoch(&self, tenant: &TenantId, suite: Option<SuiteId>) -> Result<EpochRecord> {
        let permit = self.permit(Operation::Rotate, tenant)?;
        let begun = moving(None, EpochState::PreActive);
        let made = self.change(&permit, begun, |now_ms| self.kms.keystore.create_epoch(tenant, suite, now_ms));
        let epoch = made.as_ref().ok().map(|record| record.epoch);
        self.moved(&permit, epoch, EpochState::PreActive, made)
    }

    fn activate_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        let permit = self.permit(Operation::Rotate, tenant)?;
        let begun = moving(Some(epoch), EpochState::Active);
        let moved = self.change(&permit, begun, |now_ms| self.kms.keystore.activate_epoch(tenant, epoch, now_ms));
        self.moved(&permit, Some(epoch), EpochState::Active, moved)
    }

    fn deactivate_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        let permit = self.permit(Operation::Rotate, tenant)?;
        let begun = moving(Some(epoch), EpochState::Deactivated);
        let moved = self.change(&permit, begun, |now_ms| self.kms.keystore.deactivate_epoch(tenant, epoch, now_ms));
        self.moved(&permit, Some(epoch), EpochState::Deactivated, moved)
    }

    fn mark_epoch_compromised(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord> {
        let permit = self.permit(Operation::Rotate, tenant)?;
        let begun = moving(Some(epoch), EpochState::Compromised);
        let moved =
            self.change(&permit, begun, |now_ms| self.kms.keystore.mark_epoch_compromised(tenant, epoch, now_ms));
        self.moved(&permit, Some(epoch), EpochState::Compromised, moved)
    }

    fn destroy_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<Destroyed> {
        let permit = self.permit(Operation::Rotate, tenant)?;
        let begun = moving(Some(epoch), EpochState::Destroyed);
        let destroyed = self.change(&permit, begun, |now_ms| self.kms.keystore.destroy_epoch(tenant, epoch, now_ms));
        let fingerprints = destroyed.as_ref().map(|d| vec![d.fingerprint.clone()]).unwrap_or_default();
        let what = What::EpochMoved { epoch: Some(epoch), state: EpochState::Destroyed, fingerprints };
        self.audited(&permit, what, destroyed)
    }

    fn rotate_root_key(&self, tenant: &TenantId, replaces: &Fingerprint) -> Result<TenantRecord> {
        let permit = self.permit(Operation::Rotate, tenant)?;
        let mut fingerprints = vec![replaces.clone()];
        let begun = What::RootKeyRotated { fingerprints: fingerprints.clone() };
        let made = self.change(&permit, begun, |now_ms| self.kms.keystore.rotate_root_key(tenant, replaces, now_ms));
        if let Ok(made) = &made {
            fingerprints.extend([made.root_fingerprint.clone(), made.certificate_fingerprint.clone()]);
        }
        self.audited(&permit, What::RootKeyRotated { fingerprints }, made)
    }

    fn destroy_root_key(&self, tenant: &TenantId, root_key: &Fingerprint) -> Result<DestroyedRootKey> {
        let permit = self.permit(Operation::Rotate, tenant)?;
        let mut fingerprints = vec![root_key.clone()];
        let begun = What::RootKeyDestroyed { fingerprints: fingerprints.clone() };
        let gone = self.change(&permit, begun, |now_ms| self.kms.keystore.destroy_root_key(tenant, root_key, now_ms));
        fingerprints.extend(gone.as_ref().map(|gone| gone.active_fingerprint.clone()));
        self.audited(&permit, What::RootKeyDestroyed { fingerprints }, gone)
    }

    fn shred(&self, tenant: &TenantId) -> Result<TenantRecord> {
        let permit = self.permit(Operation::Administer, tenant)?;
        let begun = What::TenantShredded { fingerprints: Vec::new() };
        let shredded = self.change(&permit, begun, |now_ms| self.kms.keystore.shred(tenant, now_ms));
        // Also after a failure: the keystore may have got half-way, and says so when it is asked again.
        let half = self.kms.keystore.is_shredded(tenant);
        let ended = half.and_then(|shredded| if shredded { self.kms.sessions.forget(tenant) } else { Ok(()) });
        self.kms.credentials.forget();
        let shredded = shredded.and_then(|record| ended.map(|()| record));
        let fingerprints = shredded.as_ref().map(fingerprints).unwrap_or_default();
        self.audited(&permit, What::TenantShredded { fingerprints }, shredded)
    }

    fn is_shredded(&self, tenant: &TenantId) -> Result<bool> {
        self.kms.keystore.is_shredded(self.permit(Operation::Administer, tenant)?.tenant())
    }

    fn public(&self, tenant: &TenantId) -> Result<PublicTenant> {
        self.kms.public(self.permit(Operation::Describe, tenant)?)
    }
}

impl Handle {
    /// Makes a change once it is in the audit log that it is `begun`, and erases what was kept ready from before it.
    ///
    /// Written down before, since what cannot be undone may otherwise happen without a trace: the log may fail just
    /// after, or the process end.
    fn change<T>(&self, permit: &Permit, begun: What, change: impl FnOnce(u64) -> Result<T>) -> Result<T> {
        self.kms.record(&self.caller, permit.operation(), permit.tenant(), begun, Outcome::Begun)?;
        let changed = change(self.kms.clock.now_ms());
        self.kms.forget(permit.tenant());
        changed
    }

    fn moved(
        &self,
        permit: &Permit,
        epoch: Option<Epoch>,
        state: EpochState,
        moved: Result<EpochRecord>,
    ) -> Result<EpochRecord> {
        let fingerprints = moved.as_ref().map(|record| vec![record.fingerprint.clone()]).unwrap_or_default();
        self.audited(permit, What::EpochMoved { epoch, state, fingerprints }, moved)
    }

    /// Reveals `result` once it is in the audit log.
    fn audited<T>(&self, permit: &Permit, what: What, result: Result<T>) -> Result<T> {
        self.kms.record(&self.caller, permit.operation(), permit.tenant(), what, Outcome::of(&result))?;
        result
    }

    fn bootstrap(&self, tenant: &TenantId, agent: &AgentId) -> Result<Session> {
        let permit = self.permit(Operation::Session, tenant)?;
        let lifetime_ms = self.kms.options.policy.session_ms;
        let patience = Duration::from_millis(limits::POOL_WAIT_MS);
        self.kms.open_session(&self.caller, permit, agent, lifetime_ms, patience).map_err(|e| {
            Error::new(ErrorKind::Partial, "the tenant is made, but its agent's first session is not")
                .with_remedy("open a session for the agent")
                .with_source(e)
        })
    }
}

/// An epoch that is going to get a state.
fn moving(epoch: Option<Epoch>, state: EpochState) -> What {
    What::EpochMoved { epoch, state, fingerprints: Vec::new() }
}

fn fingerprints(record: &TenantRecord) -> Vec<Fingerprint> {
    vec![record.root_fingerprint.clone(), record.signing_fingerprint.clone(), record.certificate_fingerprint.clone()]
}
