//! The life of a tenant's epochs: made, activated, deactivated, compromised, destroyed.

use super::Keystore;
use super::stored::{Stored, StoredEpoch};
use crate::crypto::SuiteId;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{EpochRecord, EpochState, Fingerprint};
use crate::limits;

/// What destroying an epoch leaves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Destroyed {
    /// The epoch.
    pub epoch: Epoch,
    /// The fingerprint of the encapsulated secret that is gone.
    pub fingerprint: Fingerprint,
    /// The fingerprint of the epoch that seals now.
    pub active_fingerprint: Fingerprint,
}

impl Keystore {
    /// Makes the next epoch: a fresh encapsulation to the root key, pre-active. `suite` is what will seal in it; `None`
    /// keeps that of the active epoch.
    pub fn create_epoch(&self, tenant: &TenantId, suite: Option<SuiteId>, now_ms: u64) -> Result<EpochRecord> {
        self.change(tenant, |stored| {
            let epoch = self.push_epoch(stored, suite, now_ms)?;
            stored.epoch_record(self.provider, epoch)
        })
    }

    /// Makes a pre-active epoch the one that seals. The one that did is deactivated: it opens, and seals no more.
    pub fn activate_epoch(&self, tenant: &TenantId, epoch: Epoch, now_ms: u64) -> Result<EpochRecord> {
        self.change(tenant, |stored| {
            let before = active(stored)?;
            stored.epoch_mut(epoch)?.become_(EpochState::Active, now_ms)?;
            stored.epoch_mut(before)?.become_(EpochState::Deactivated, now_ms)?;
            stored.epoch_record(self.provider, epoch)
        })
    }

    /// Deactivates the active epoch in favour of the latest pre-active one: some epoch always seals.
    pub fn deactivate_epoch(&self, tenant: &TenantId, epoch: Epoch, now_ms: u64) -> Result<EpochRecord> {
        self.change(tenant, |stored| {
            let next = successor(stored).ok_or_else(|| {
                Error::new(ErrorKind::Conflict, "no pre-active epoch is there to take over")
                    .with_remedy("make one with `strongroom epoch create`")
            })?;
            stored.epoch_mut(epoch)?.become_(EpochState::Deactivated, now_ms)?;
            stored.epoch_mut(next)?.become_(EpochState::Active, now_ms)?;
            stored.epoch_record(self.provider, epoch)
        })
    }

    /// Marks an epoch as compromised. When it is the active one, another takes over at once, made if need be.
    pub fn mark_epoch_compromised(&self, tenant: &TenantId, epoch: Epoch, now_ms: u64) -> Result<EpochRecord> {
        self.change(tenant, |stored| {
            if active(stored)? == epoch {
                let next = match successor(stored) {
                    Some(next) => next,
                    None => self.push_epoch(stored, None, now_ms)?,
                };
                stored.epoch_mut(next)?.become_(EpochState::Active, now_ms)?;
            }
            stored.epoch_mut(epoch)?.become_(EpochState::Compromised, now_ms)?;
            stored.epoch_record(self.provider, epoch)
        })
    }

    /// Destroys an epoch that seals no more: whatever is still sealed in it can never be opened again.
    pub fn destroy_epoch(&self, tenant: &TenantId, epoch: Epoch, now_ms: u64) -> Result<Destroyed> {
        self.change(tenant, |stored| {
            if active(stored)? == epoch {
                return Err(Error::new(ErrorKind::Conflict, format!("epoch {epoch} is active"))
                    .with_remedy("activate another epoch first"));
            }
            stored.epoch_mut(epoch)?.become_(EpochState::Destroyed, now_ms)?;
            let fingerprint = |epoch| Ok::<_, Error>(stored.epoch(epoch)?.fingerprint.clone());
            Ok(Destroyed { epoch, fingerprint: fingerprint(epoch)?, active_fingerprint: fingerprint(active(stored)?)? })
        })
    }

    fn push_epoch(&self, stored: &mut Stored, suite: Option<SuiteId>, now_ms: u64) -> Result<Epoch> {
        let suite = match suite {
            Some(suite) => stored.profile.allow(suite)?,
            None => stored.epoch(active(stored)?)?.suite()?,
        };
        if stored.epochs.len() >= limits::EPOCHS {
            return Err(Error::invalid(format!("a tenant has at most {} epochs", limits::EPOCHS))
                .with_remedy("rotate less often"));
        }
        let last = stored.epochs.last().ok_or_else(|| Error::integrity("the epoch list of a tenant"))?;
        let next = Epoch::try_from(last.epoch)?.next().ok_or_else(|| Error::integrity("the epoch list of a tenant"))?;
        let made = self.new_epoch(stored, next, suite, now_ms)?;
        stored.epochs.push(made);
        Ok(next)
    }
}

fn active(stored: &Stored) -> Result<Epoch> {
    let active = stored.epochs.iter().find(|e| e.state == EpochState::Active);
    Epoch::try_from(active.ok_or_else(|| Error::integrity("the epoch list of a tenant"))?.epoch)
}

fn successor(stored: &Stored) -> Option<Epoch> {
    let last: &StoredEpoch = stored.epochs.iter().rfind(|e| e.state == EpochState::PreActive)?;
    Epoch::try_from(last.epoch).ok()
}
