//! The end of a tenant: every epoch's secret and every private key destroyed, so that its data is unreadable
//! everywhere at once, in backups too.

use super::stored::{Stored, StoredEpoch, TenantState};
use super::{Keystore, shredded};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::{EpochState, TenantRecord};

impl Keystore {
    /// Destroys every key of a tenant, for ever. Doing it again finishes what was interrupted. Its id stays taken.
    ///
    /// Returns what the tenant's keys were, by fingerprint.
    pub fn shred(&self, tenant: &TenantId, now_ms: u64) -> Result<TenantRecord> {
        let _changing = self.changing.lock();
        let mut stored = match self.records.read(tenant)? {
            Some(stored) if stored.state == TenantState::Shredded => return Err(shredded(tenant)),
            Some(stored) if stored.state == TenantState::Shredding => stored,
            _ => self.live(tenant)?,
        };
        let record = stored.record(self.provider)?;
        // First the epochs: from here on nothing opens, whatever becomes of the rest.
        for epoch in &mut stored.epochs {
            force_destroyed(epoch, now_ms);
        }
        stored.state = TenantState::Shredding;
        self.records.write(&stored)?;
        self.destroy_keys(&mut stored, now_ms)?;
        stored.state = TenantState::Shredded;
        self.records.write(&stored)?;
        Ok(record)
    }

    /// Whether there was a tenant `tenant`, whose keys are gone.
    pub fn is_shredded(&self, tenant: &TenantId) -> Result<bool> {
        let stored = self.records.read(tenant)?;
        Ok(stored.is_some_and(|s| matches!(s.state, TenantState::Shredding | TenantState::Shredded)))
    }

    /// Root keys of all generations among them.
    fn destroy_keys(&self, stored: &mut Stored, now_ms: u64) -> Result<()> {
        let tenant = stored.id()?;
        for key in &mut stored.keys {
            let (role, held) = key.in_custody(&tenant)?;
            self.custody.destroy(&role, &held).map_err(|e| {
                Error::new(e.kind(), format!("a key of tenant `{}` could not be destroyed", tenant.as_str()))
                    .with_remedy("its data cannot be opened any more; run the command again to finish")
                    .with_source(e)
            })?;
            key.destroyed(self.provider, now_ms);
        }
        Ok(())
    }
}

/// Shredding does not ask in which state an epoch is.
fn force_destroyed(epoch: &mut StoredEpoch, now_ms: u64) {
    if epoch.state != EpochState::Destroyed {
        epoch.state = EpochState::Destroyed;
        epoch.since_ms = now_ms;
    }
    zeroize::Zeroize::zeroize(&mut epoch.ciphertext);
}
