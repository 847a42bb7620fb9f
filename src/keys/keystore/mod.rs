//! The keystore joint: who holds tenant root keys and encapsulated epoch secrets.

pub mod file;

use serde::Serialize;

use crate::crypto::SuiteId;
use crate::error::Result;
use crate::id::{Epoch, TenantId};
use crate::secret::Secret;

use super::{EpochRecord, Fingerprint};

/// Holds each tenant's root key (TRK, ML-KEM-1024) and its epochs' encapsulated secrets, and nothing else of theirs.
///
/// The TRK's private half never leaves an implementation; what comes out is an [`EpochSecret`] that derives keys.
pub trait Keystore: Send + Sync {
    /// Every tenant, in the order of their ids.
    fn tenants(&self) -> Result<Vec<TenantId>>;

    /// Makes a root key for a new tenant and encapsulates its first epoch, all or nothing.
    fn create(&self, tenant: &TenantId, suite: SuiteId, now_ms: u64) -> Result<TenantRecord>;

    /// What may be shown of a tenant.
    fn tenant(&self, tenant: &TenantId) -> Result<TenantRecord>;

    /// Decapsulates the secret of one epoch.
    fn open_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochSecret>>;
}

/// The secret of one epoch, in memory or in a token.
pub trait EpochSecret: Send + Sync {
    /// HKDF expand (RFC 5869, section 2.3) with `info` to 32 bytes.
    fn derive(&self, info: &[u8]) -> Result<Secret<32>>;
}

/// What may be shown of a tenant's keys.
#[derive(Debug, Clone, Serialize)]
pub struct TenantRecord {
    /// The fingerprint of the root key's public half.
    pub root_fingerprint: Fingerprint,
    /// When the tenant was made: Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Its epochs, oldest first.
    pub epochs: Vec<EpochRecord>,
}
