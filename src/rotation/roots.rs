//! The root key in a rotation: another takes its place before the new epoch is made, and it is destroyed after the last
//! epoch that opens with it.

use super::job::Job;
use super::tenant::Tenant;
use crate::error::Result;
use crate::id::Epoch;
use crate::keys::kms::Keys;
use crate::keys::{EpochState, Fingerprint, RootKeyState, TenantRecord};

impl Tenant<'_> {
    /// Puts another root key in the place of the one that was active when the job was planned, unless that was done
    /// before an interruption.
    pub(super) fn replace_root(&self, job: &Job, admin: &dyn Keys) -> Result<()> {
        let Some(before) = &job.root else { return Ok(()) };
        let (tenant, record) = (self.keyring.tenant(), self.record()?);
        if record.root_fingerprint == *before {
            admin.rotate_root_key(tenant, before)?;
        }
        if job.compromised {
            // Whoever has a root key has all of its epochs. The one that seals is marked when another takes over.
            let kept = record.epochs.iter().filter(|epoch| epoch.state == EpochState::Deactivated);
            for epoch in kept.filter(|epoch| epoch.root_fingerprint == *before) {
                admin.mark_epoch_compromised(tenant, epoch.epoch)?;
            }
        }
        Ok(())
    }

    /// Destroys the root keys that no epoch opens with any more.
    pub(crate) fn destroy_idle_roots(&self, admin: &dyn Keys) -> Result<()> {
        let record = self.record()?;
        let idle = record.root_keys.iter().filter(|root| root.state == RootKeyState::Deactivated);
        for root in idle.filter(|root| root.epochs.is_empty()) {
            admin.destroy_root_key(self.keyring.tenant(), &root.fingerprint)?;
        }
        Ok(())
    }
}

/// Whether `epoch` opens with the root key `root`.
pub(super) fn opens_with(record: &TenantRecord, epoch: Epoch, root: &Fingerprint) -> bool {
    record.epochs.iter().any(|e| e.epoch == epoch && e.root_fingerprint == *root)
}
