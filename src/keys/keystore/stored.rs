//! What the keystore keeps of a tenant: the content of its file.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::custody::{HeldKey, KeyAlgorithm, KeyPurpose, KeyRole};
use crate::crypto::{Provider, Signature, SuiteId};
use crate::error::{Error, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{EpochRecord, EpochState, Fingerprint, Profile, RootKeyRecord, RootKeyState, TenantRecord};
use crate::secret::SecretBytes;

/// The content of a tenant's file.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Stored {
    pub(super) tenant: String,
    #[zeroize(skip)]
    pub(super) state: TenantState,
    #[zeroize(skip)]
    pub(super) profile: Profile,
    pub(super) created_at_ms: u64,
    pub(super) keys: Vec<StoredKey>,
    pub(super) epochs: Vec<StoredEpoch>,
    /// DER; empty until it is issued.
    pub(super) certificate: Vec<u8>,
    /// Those that it has replaced, oldest first, while anything that was issued under them may be in use.
    pub(super) earlier: Vec<EarlierCertificate>,
}

/// A certificate of a root key that is not active any more.
#[derive(Serialize, Deserialize, Zeroize)]
pub(super) struct EarlierCertificate {
    /// DER.
    pub(super) certificate: Vec<u8>,
    /// When the last session has ended that was opened under it: Unix time in milliseconds.
    pub(super) until_ms: u64,
}

/// Where a tenant stands between nothing and nothing. `src/manual/lifecycle.md` draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TenantState {
    /// Its keys are being made.
    Onboarding,
    /// It can be used.
    Live,
    /// Its keys are being destroyed.
    Shredding,
    /// Its keys are gone.
    Shredded,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct StoredKey {
    pub(super) purpose: u8,
    pub(super) serial: [u8; 16],
    pub(super) algorithm: u8,
    pub(super) public_key: Vec<u8>,
    pub(super) private: Vec<u8>,
    /// Only root keys are ever deactivated: the others go with their tenant.
    #[zeroize(skip)]
    pub(super) state: RootKeyState,
    pub(super) created_at_ms: u64,
    /// When it got its state: Unix time in milliseconds.
    pub(super) since_ms: u64,
    /// What is left of the public half once the key is destroyed.
    #[zeroize(skip)]
    pub(super) fingerprint: Option<Fingerprint>,
}

#[derive(Serialize, Deserialize, Zeroize)]
pub(super) struct StoredEpoch {
    pub(super) epoch: u32,
    #[zeroize(skip)]
    pub(super) state: EpochState,
    pub(super) suite: u16,
    pub(super) created_at_ms: u64,
    /// When it got its state: Unix time in milliseconds.
    pub(super) since_ms: u64,
    #[zeroize(skip)]
    pub(super) fingerprint: Fingerprint,
    /// The epoch secret encapsulated to the root key; empty once destroyed.
    pub(super) ciphertext: Vec<u8>,
    /// The serial of that root key.
    pub(super) root: [u8; 16],
}

impl Stored {
    /// A tenant of which nothing is made yet.
    pub(super) fn new(tenant: &TenantId, profile: Profile, now_ms: u64) -> Self {
        Self {
            tenant: tenant.as_str().to_owned(),
            state: TenantState::Onboarding,
            profile,
            created_at_ms: now_ms,
            keys: Vec::new(),
            epochs: Vec::new(),
            certificate: Vec::new(),
            earlier: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> Result<TenantId> {
        TenantId::stored(&self.tenant)
    }

    pub(super) fn has(&self, purpose: KeyPurpose) -> bool {
        self.key(purpose).is_ok()
    }

    /// The active key for `purpose`.
    pub(super) fn key(&self, purpose: KeyPurpose) -> Result<&StoredKey> {
        self.keys
            .iter()
            .find(|key| key.purpose == number_of(purpose) && key.state == RootKeyState::Active)
            .ok_or_else(bad_keys)
    }

    /// The active key for `purpose`, as its custody wants it.
    pub(super) fn held(&self, purpose: KeyPurpose) -> Result<(KeyRole, HeldKey)> {
        self.key(purpose)?.in_custody(&self.id()?)
    }

    /// The root keys that were ever written down, oldest first.
    pub(super) fn roots(&self) -> impl Iterator<Item = &StoredKey> {
        self.keys.iter().filter(|key| key.purpose == number_of(KeyPurpose::Root))
    }

    /// The same, to be changed.
    pub(super) fn roots_mut(&mut self) -> impl Iterator<Item = &mut StoredKey> {
        self.keys.iter_mut().filter(|key| key.purpose == number_of(KeyPurpose::Root))
    }

    /// The root key that `epoch` opens with, as its custody wants it.
    pub(super) fn root_of(&self, epoch: &StoredEpoch) -> Result<(KeyRole, HeldKey)> {
        self.roots().find(|key| key.serial == epoch.root).ok_or_else(bad_keys)?.in_custody(&self.id()?)
    }

    /// Composite keys are the concatenation of their halves.
    pub(super) fn signing_public_key(&self) -> Result<Vec<u8>> {
        let mut public_key = self.key(KeyPurpose::Signing)?.public_key.clone();
        if let Ok(classical) = self.key(KeyPurpose::SigningClassical) {
            public_key.extend_from_slice(&classical.public_key);
        }
        Ok(public_key)
    }

    pub(super) fn epoch(&self, epoch: Epoch) -> Result<&StoredEpoch> {
        self.epochs.iter().find(|e| e.epoch == epoch.as_u32()).ok_or_else(|| no_epoch(epoch))
    }

    pub(super) fn epoch_mut(&mut self, epoch: Epoch) -> Result<&mut StoredEpoch> {
        self.epochs.iter_mut().find(|e| e.epoch == epoch.as_u32()).ok_or_else(|| no_epoch(epoch))
    }

    /// What may be shown.
    pub(super) fn record(&self, provider: &dyn Provider) -> Result<TenantRecord> {
        // The store's own entry does not sign.
        let signing = if self.has(KeyPurpose::Signing) { self.signing_public_key()? } else { Vec::new() };
        let prints: HashMap<_, _> = self.roots().map(|key| (key.serial, key.fingerprint(provider))).collect();
        let print = |serial: &[u8; 16]| prints.get(serial).cloned().ok_or_else(bad_keys);
        let mut epochs = Vec::with_capacity(self.epochs.len());
        for epoch in &self.epochs {
            epochs.push(epoch.record(print(&epoch.root)?)?);
        }
        let mut root_keys = Vec::new();
        // One that is only written down is no key yet.
        for key in self.roots().filter(|key| key.state != RootKeyState::PreActive) {
            root_keys.push(RootKeyRecord {
                fingerprint: print(&key.serial)?,
                state: key.state,
                created_at_ms: key.created_at_ms,
                since_ms: key.since_ms,
                epochs: self.epochs_under(&key.serial)?,
            });
        }
        Ok(TenantRecord {
            profile: self.profile,
            root_fingerprint: print(&self.key(KeyPurpose::Root)?.serial)?,
            signing_fingerprint: Fingerprint::of(provider, &signing),
            certificate_fingerprint: Fingerprint::of(provider, &self.certificate),
            created_at_ms: self.created_at_ms,
            epochs,
            root_keys,
        })
    }

    /// The epochs that are not destroyed and that the root key `serial` opens.
    pub(super) fn epochs_under(&self, serial: &[u8; 16]) -> Result<Vec<Epoch>> {
        let left = self.epochs.iter().filter(|e| e.root == *serial && e.state != EpochState::Destroyed);
        left.map(|e| Epoch::try_from(e.epoch)).collect()
    }

    /// What may be shown of one epoch.
    pub(super) fn epoch_record(&self, provider: &dyn Provider, epoch: Epoch) -> Result<EpochRecord> {
        let found = self.epoch(epoch)?;
        let root = self.roots().find(|key| key.serial == found.root).ok_or_else(bad_keys)?;
        found.record(root.fingerprint(provider))
    }
}

impl StoredKey {
    /// A key that is going to be made.
    pub(super) fn planned(role: &KeyRole, algorithm: KeyAlgorithm, now_ms: u64) -> Self {
        Self {
            purpose: number_of(role.purpose()),
            serial: *role.serial(),
            algorithm: number_of_algorithm(algorithm),
            public_key: Vec::new(),
            private: Vec::new(),
            state: RootKeyState::PreActive,
            created_at_ms: now_ms,
            since_ms: now_ms,
            fingerprint: None,
        }
    }

    /// A key that was made.
    pub(super) fn made(role: &KeyRole, held: &HeldKey, now_ms: u64) -> Self {
        let mut key = Self::planned(role, held.algorithm, now_ms);
        key.public_key = held.public_key.clone();
        key.private = held.private.expose_secret().to_vec();
        key.state = RootKeyState::Active;
        key
    }

    /// The key of `tenant` as its custody wants it.
    pub(super) fn in_custody(&self, tenant: &TenantId) -> Result<(KeyRole, HeldKey)> {
        Ok((KeyRole::new(tenant.clone(), self.purpose()?, self.serial), self.held()?))
    }

    /// The fingerprint of the public half.
    pub(super) fn fingerprint(&self, provider: &dyn Provider) -> Fingerprint {
        self.fingerprint.clone().unwrap_or_else(|| Fingerprint::of(provider, &self.public_key))
    }

    pub(super) fn held(&self) -> Result<HeldKey> {
        Ok(HeldKey {
            algorithm: algorithm_of(self.algorithm).ok_or_else(bad_keys)?,
            public_key: self.public_key.clone(),
            private: SecretBytes::new(self.private.clone()),
        })
    }

    pub(super) fn purpose(&self) -> Result<KeyPurpose> {
        PURPOSES.into_iter().find(|p| number_of(*p) == self.purpose).ok_or_else(bad_keys)
    }

    /// Forgets what led to the private half, which is gone, and keeps the fingerprint of the public one.
    pub(super) fn destroyed(&mut self, provider: &dyn Provider, now_ms: u64) {
        self.fingerprint = Some(self.fingerprint(provider));
        self.private.zeroize();
        self.public_key.zeroize();
        self.state = RootKeyState::Destroyed;
        self.since_ms = now_ms;
    }
}

/// A fresh secret, encapsulated and forgotten.
pub(super) struct Encapsulated {
    /// The serial of the root key that gives it back.
    pub(super) root: [u8; 16],
    pub(super) ciphertext: Vec<u8>,
    pub(super) fingerprint: Fingerprint,
}

impl StoredEpoch {
    /// An epoch whose secret is encapsulated to the root key `root`.
    pub(super) fn new(epoch: Epoch, suite: SuiteId, sealed: Encapsulated, now_ms: u64) -> Self {
        let Encapsulated { root, ciphertext, fingerprint } = sealed;
        Self {
            epoch: epoch.as_u32(),
            state: EpochState::PreActive,
            suite: suite.as_u16(),
            created_at_ms: now_ms,
            since_ms: now_ms,
            fingerprint,
            ciphertext,
            root,
        }
    }

    /// Gets another secret: nothing was ever sealed under the one that it had.
    pub(super) fn made_anew(&mut self, sealed: Encapsulated) {
        self.ciphertext.zeroize();
        Encapsulated { root: self.root, ciphertext: self.ciphertext, fingerprint: self.fingerprint } = sealed;
    }

    pub(super) fn suite(&self) -> Result<SuiteId> {
        SuiteId::try_from(self.suite)
    }

    /// Moves on to `next`, if there is such an arrow. A destroyed epoch's secret is erased.
    pub(super) fn become_(&mut self, next: EpochState, now_ms: u64) -> Result<()> {
        self.state = self.state.to(next)?;
        self.since_ms = now_ms;
        if next == EpochState::Destroyed {
            self.ciphertext.zeroize();
        }
        Ok(())
    }

    fn record(&self, root_fingerprint: Fingerprint) -> Result<EpochRecord> {
        Ok(EpochRecord {
            epoch: Epoch::try_from(self.epoch)?,
            state: self.state,
            suite: self.suite()?.as_str().to_owned(),
            created_at_ms: self.created_at_ms,
            since_ms: self.since_ms,
            fingerprint: self.fingerprint.clone(),
            root_fingerprint,
        })
    }
}

const PURPOSES: [KeyPurpose; 4] =
    [KeyPurpose::Root, KeyPurpose::Signing, KeyPurpose::SigningClassical, KeyPurpose::Authority];

pub(super) fn number_of(purpose: KeyPurpose) -> u8 {
    match purpose {
        KeyPurpose::Root => 1,
        KeyPurpose::Signing => 2,
        KeyPurpose::SigningClassical => 3,
        KeyPurpose::Authority => 4,
    }
}

/// The algorithms of keys that are held, with the numbers that stand for them.
const ALGORITHMS: [(u8, KeyAlgorithm); 5] = [
    (1, KeyAlgorithm::MlKem1024),
    (2, KeyAlgorithm::Signature(Signature::MlDsa65)),
    (3, KeyAlgorithm::Signature(Signature::MlDsa87)),
    (4, KeyAlgorithm::Signature(Signature::EcdsaP384)),
    (5, KeyAlgorithm::Signature(Signature::SlhDsaSha2_192s)),
];

fn number_of_algorithm(algorithm: KeyAlgorithm) -> u8 {
    ALGORITHMS.iter().find(|(_, a)| *a == algorithm).map_or(0, |(number, _)| *number)
}

fn algorithm_of(number: u8) -> Option<KeyAlgorithm> {
    ALGORITHMS.iter().find(|(n, _)| *n == number).map(|(_, algorithm)| *algorithm)
}

fn bad_keys() -> Error {
    Error::integrity("a tenant's keys")
}

fn no_epoch(epoch: Epoch) -> Error {
    Error::not_found(format!("there is no epoch {epoch}"))
        .with_remedy("`strongroom epoch list` shows the epochs of a tenant")
}
