//! What the keystore keeps of a tenant: the content of its file.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::custody::{HeldKey, KeyAlgorithm, KeyPurpose, KeyRole};
use crate::crypto::{Provider, Signature, SuiteId};
use crate::error::{Error, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{EpochRecord, EpochState, Fingerprint, Profile, TenantRecord};
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
    purpose: u8,
    pub(super) serial: [u8; 16],
    algorithm: u8,
    pub(super) public_key: Vec<u8>,
    private: Vec<u8>,
}

#[derive(Serialize, Deserialize, Zeroize)]
pub(super) struct StoredEpoch {
    pub(super) epoch: u32,
    #[zeroize(skip)]
    pub(super) state: EpochState,
    suite: u16,
    pub(super) created_at_ms: u64,
    /// When it got its state: Unix time in milliseconds.
    pub(super) since_ms: u64,
    #[zeroize(skip)]
    fingerprint: Fingerprint,
    /// The epoch secret encapsulated to the root key; empty once destroyed.
    pub(super) ciphertext: Vec<u8>,
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
        }
    }

    pub(super) fn id(&self) -> Result<TenantId> {
        TenantId::stored(&self.tenant)
    }

    pub(super) fn has(&self, purpose: KeyPurpose) -> bool {
        self.key(purpose).is_ok()
    }

    pub(super) fn key(&self, purpose: KeyPurpose) -> Result<&StoredKey> {
        self.keys
            .iter()
            .find(|key| key.purpose == number_of(purpose))
            .ok_or_else(|| Error::integrity("a tenant's keys"))
    }

    /// The key for `purpose`, as its custody wants it.
    pub(super) fn held(&self, purpose: KeyPurpose) -> Result<(KeyRole, HeldKey)> {
        let key = self.key(purpose)?;
        Ok((KeyRole::new(self.id()?, purpose, key.serial), key.held()?))
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
        Ok(TenantRecord {
            profile: self.profile,
            root_fingerprint: Fingerprint::of(provider, &self.key(KeyPurpose::Root)?.public_key),
            signing_fingerprint: Fingerprint::of(provider, &signing),
            certificate_fingerprint: Fingerprint::of(provider, &self.certificate),
            created_at_ms: self.created_at_ms,
            epochs: self.epochs.iter().map(StoredEpoch::record).collect::<Result<_>>()?,
        })
    }
}

impl StoredKey {
    pub(super) fn new(role: &KeyRole, held: &HeldKey) -> Self {
        Self {
            purpose: number_of(role.purpose()),
            serial: *role.serial(),
            algorithm: number_of_algorithm(held.algorithm),
            public_key: held.public_key.clone(),
            private: held.private.expose_secret().to_vec(),
        }
    }

    pub(super) fn held(&self) -> Result<HeldKey> {
        Ok(HeldKey {
            algorithm: algorithm_of(self.algorithm).ok_or_else(|| Error::integrity("a tenant's keys"))?,
            public_key: self.public_key.clone(),
            private: SecretBytes::new(self.private.clone()),
        })
    }

    pub(super) fn purpose(&self) -> Result<KeyPurpose> {
        PURPOSES.into_iter().find(|p| number_of(*p) == self.purpose).ok_or_else(|| Error::integrity("a tenant's keys"))
    }

    /// Forgets what led to the private half.
    pub(super) fn forget(&mut self) {
        self.private.zeroize();
    }
}

impl StoredEpoch {
    pub(super) fn new(provider: &dyn Provider, epoch: Epoch, suite: SuiteId, ciphertext: Vec<u8>, now_ms: u64) -> Self {
        Self {
            epoch: epoch.as_u32(),
            state: EpochState::PreActive,
            suite: suite.as_u16(),
            created_at_ms: now_ms,
            since_ms: now_ms,
            fingerprint: Fingerprint::of(provider, &ciphertext),
            ciphertext,
        }
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

    pub(super) fn record(&self) -> Result<EpochRecord> {
        Ok(EpochRecord {
            epoch: Epoch::try_from(self.epoch)?,
            state: self.state,
            suite: self.suite()?.as_str().to_owned(),
            created_at_ms: self.created_at_ms,
            since_ms: self.since_ms,
            fingerprint: self.fingerprint.clone(),
        })
    }
}

const PURPOSES: [KeyPurpose; 4] =
    [KeyPurpose::Root, KeyPurpose::Signing, KeyPurpose::SigningClassical, KeyPurpose::Authority];

fn number_of(purpose: KeyPurpose) -> u8 {
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

fn no_epoch(epoch: Epoch) -> Error {
    Error::not_found(format!("there is no epoch {epoch}"))
        .with_remedy("`strongroom epoch list` shows the epochs of a tenant")
}
