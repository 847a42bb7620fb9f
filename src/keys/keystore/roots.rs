//! Root keys of a tenant, one after another. A secret that was encapsulated to one is given back by no other, and in a
//! token it can not be taken out to be encapsulated anew: so epochs stay with their root key until they are destroyed,
//! and the key is destroyed after the last of them.
//!
//! Each arrow is one atomic replacement of the tenant's record, as in [`onboarding`](super::onboarding). A key is written
//! down before it is made; doing it again makes the key of the same role anew, which replaces what is there.

use super::Keystore;
use super::custody::{KeyAlgorithm, KeyPurpose, KeyRole};
use super::stored::{EarlierCertificate, Stored, StoredKey};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::{EpochState, Fingerprint, RootKeyState, TenantRecord};
use crate::limits;

/// What destroying a root key leaves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DestroyedRootKey {
    /// The fingerprint of the one that is gone.
    pub fingerprint: Fingerprint,
    /// The fingerprint of the one that is active.
    pub active_fingerprint: Fingerprint,
}

impl Keystore {
    /// Puts a new root key in the place of the active one, whose fingerprint is `replaces`, and has a certificate issued
    /// that binds the tenant's id to it. Epochs stay with the root key that they have; those that were never used are
    /// made anew.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when another root key is active: so asking twice makes one.
    pub fn rotate_root_key(&self, tenant: &TenantId, replaces: &Fingerprint, now_ms: u64) -> Result<TenantRecord> {
        let _changing = self.changing.lock();
        let mut stored = self.live(tenant)?;
        if stored.key(KeyPurpose::Root)?.fingerprint(self.provider) != *replaces {
            return Err(Error::new(ErrorKind::Conflict, format!("root key {replaces} is not the active one"))
                .with_remedy("`strongroom tenant show` shows which one is"));
        }
        stored.earlier.retain(|earlier| now_ms < earlier.until_ms);
        check_room(&stored)?;
        let role = self.plan_root(&mut stored, now_ms)?;
        let held = self.custody.generate(&role, KeyAlgorithm::MlKem1024)?;
        stored.keys.retain(|key| key.serial != *role.serial());
        for before in stored.roots_mut().filter(|key| key.state == RootKeyState::Active) {
            before.state = RootKeyState::Deactivated;
            before.since_ms = now_ms;
        }
        stored.keys.push(StoredKey::made(&role, &held, now_ms));
        let certificate = self.tenant_certificate(&stored, tenant, now_ms)?.as_der().to_vec();
        let until_ms = now_ms.saturating_add(limits::SESSION_CREDENTIAL_MS);
        let before = std::mem::replace(&mut stored.certificate, certificate);
        stored.earlier.push(EarlierCertificate { certificate: before, until_ms });
        self.move_unused(&mut stored)?;
        self.records.write(&stored)?;
        stored.record(self.provider)
    }

    /// Destroys a root key that no epoch is left of. Doing it again finishes what was interrupted.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) for the active one, one with epochs that are not destroyed, and one that is
    /// destroyed already.
    pub fn destroy_root_key(
        &self,
        tenant: &TenantId,
        fingerprint: &Fingerprint,
        now_ms: u64,
    ) -> Result<DestroyedRootKey> {
        let _changing = self.changing.lock();
        let mut stored = self.live(tenant)?;
        let active_fingerprint = stored.key(KeyPurpose::Root)?.fingerprint(self.provider);
        let found = stored
            .roots()
            .find(|key| key.state != RootKeyState::PreActive && key.fingerprint(self.provider) == *fingerprint);
        let found = found.ok_or_else(|| {
            Error::not_found(format!("there is no root key {fingerprint}"))
                .with_remedy("`strongroom tenant show` shows the root keys of a tenant")
        })?;
        let (serial, left) = (found.serial, stored.epochs_under(&found.serial)?);
        let conflict = |message, remedy: &str| Err(Error::new(ErrorKind::Conflict, message).with_remedy(remedy));
        match (found.state, left.as_slice()) {
            (RootKeyState::Deactivated, []) => {}
            (RootKeyState::Deactivated, [first, ..]) => {
                return conflict(
                    format!("epoch {first} opens with root key {fingerprint}"),
                    "it is destroyed after its last epoch: `strongroom rotate status` says when",
                );
            }
            (RootKeyState::Destroyed, _) => {
                return conflict(format!("root key {fingerprint} is destroyed already"), "there is nothing to be done");
            }
            (RootKeyState::Active | RootKeyState::PreActive, _) => {
                return conflict(
                    format!("root key {fingerprint} is active"),
                    "`strongroom rotate --root-key` puts another in its place; `strongroom tenant shred` destroys all",
                );
            }
        }
        let (role, held) = found.in_custody(tenant)?;
        self.custody.destroy(&role, &held).map_err(|e| {
            Error::new(e.kind(), format!("root key {fingerprint} could not be destroyed"))
                .with_remedy("nothing opens with it any more; the next `strongroom rotate` tries again")
                .with_source(e)
        })?;
        let provider = self.provider;
        stored.roots_mut().filter(|key| key.serial == serial).for_each(|key| key.destroyed(provider, now_ms));
        self.records.write(&stored)?;
        Ok(DestroyedRootKey { fingerprint: fingerprint.clone(), active_fingerprint })
    }

    /// The role of the key that is going to be made, written down: that of an interrupted call, or a new one.
    fn plan_root(&self, stored: &mut Stored, now_ms: u64) -> Result<KeyRole> {
        let tenant = stored.id()?;
        if let Some(planned) = stored.roots().find(|key| key.state == RootKeyState::PreActive) {
            return Ok(KeyRole::new(tenant, KeyPurpose::Root, planned.serial));
        }
        let role = KeyRole::random(tenant, KeyPurpose::Root)?;
        stored.keys.push(StoredKey::planned(&role, KeyAlgorithm::MlKem1024, now_ms));
        self.records.write(stored)?;
        Ok(role)
    }

    /// Epochs that nothing was ever sealed in must not keep the earlier root key.
    fn move_unused(&self, stored: &mut Stored) -> Result<()> {
        let unused = stored.epochs.iter().filter(|epoch| epoch.state == EpochState::PreActive).count();
        let mut fresh = Vec::with_capacity(unused);
        for _ in 0..unused {
            fresh.push(self.encapsulated(stored)?);
        }
        let unused = stored.epochs.iter_mut().filter(|epoch| epoch.state == EpochState::PreActive);
        unused.zip(fresh).for_each(|(epoch, secret)| epoch.made_anew(secret));
        Ok(())
    }
}

fn check_room(stored: &Stored) -> Result<()> {
    if stored.earlier.len() >= limits::ROOT_KEYS_A_DAY {
        let message = format!("a tenant gets at most {} root keys within a day", limits::ROOT_KEYS_A_DAY);
        return Err(Error::new(ErrorKind::Conflict, message).with_remedy("rotate without `--root-key`, or tomorrow"));
    }
    if stored.roots().count() >= limits::ROOT_KEYS {
        let message = format!("a tenant has at most {} root keys, destroyed ones included", limits::ROOT_KEYS);
        return Err(Error::invalid(message).with_remedy("rotate without `--root-key`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
