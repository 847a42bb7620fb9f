//! What may be shown of a tenant's keys: fingerprints, states and times, never a key.

use serde::{Deserialize, Serialize};

use super::{EpochRecord, EpochState, Fingerprint, Profile, RootKeyRecord};

/// What may be shown of a tenant's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Which algorithms it uses.
    pub profile: Profile,
    /// The fingerprint of the public half (ML-KEM-1024) of the root key that is active.
    pub root_fingerprint: Fingerprint,
    /// The fingerprint of the verification key.
    pub signing_fingerprint: Fingerprint,
    /// The fingerprint of the certificate that binds both to the tenant's id.
    pub certificate_fingerprint: Fingerprint,
    /// When the tenant was made: Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Its epochs, oldest first.
    pub epochs: Vec<EpochRecord>,
    /// Its root keys, oldest first.
    pub root_keys: Vec<RootKeyRecord>,
}

impl TenantRecord {
    /// The epoch that seals.
    pub fn active(&self) -> Option<&EpochRecord> {
        self.epochs.iter().find(|epoch| epoch.state == EpochState::Active)
    }
}
