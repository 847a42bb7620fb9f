//! The joint behind which private keys are held: in memory from sealed seeds, or in a PKCS#11 token.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::EpochSecret;
use crate::crypto::{Kdf, Signature, SigningKey};
use crate::error::Result;
use crate::id::TenantId;
use crate::secret::{Secret, SecretBytes};

/// Who holds private keys and works with them.
///
/// A private half never leaves an implementation, unless sealed so that only the same implementation opens it.
pub trait Custody: Send + Sync {
    /// Which implementation this is.
    fn kind(&self) -> CustodyKind;

    /// Makes a key pair for `role`. What an earlier, interrupted call left for the same role is replaced.
    fn generate(&self, role: &KeyRole, algorithm: KeyAlgorithm) -> Result<HeldKey>;

    /// The secret of an epoch: ML-KEM decapsulation of `ciphertext` (FIPS 203, algorithm 21), then HKDF extract
    /// (RFC 5869, section 2.2) with `salt`.
    fn epoch_secret(
        &self,
        role: &KeyRole,
        key: &HeldKey,
        ciphertext: &[u8],
        kdf: Kdf,
        salt: &[u8],
    ) -> Result<Box<dyn EpochSecret>>;

    /// The key, ready to sign.
    fn signer(&self, role: &KeyRole, key: &HeldKey) -> Result<Box<dyn SigningKey>>;

    /// Destroys the private half for ever. That there is none any more is no error.
    fn destroy(&self, role: &KeyRole, key: &HeldKey) -> Result<()>;

    /// Seals a few bytes (the keystore's master key) so that only this custody opens them.
    fn wrap(&self, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>>;

    /// Erases what only [`wrap`](Self::wrap) and [`unwrap`](Self::unwrap) need: the master key is open, and nothing is
    /// wrapped any more.
    fn end_wrapping(&mut self) {}

    /// Opens what [`wrap`](Self::wrap) sealed. Every failure is the same [`open_failed`](crate::crypto::open_failed).
    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<SecretBytes>;
}

/// Where private keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CustodyKind {
    /// Seeds in the sealed files of the keystore.
    File,
    /// In a PKCS#11 3.2 token, which does everything with them itself.
    Pkcs11,
    /// Seeds, each wrapped by an AES key that cannot leave a PKCS#11 token.
    Pkcs11Wrapped,
}

impl CustodyKind {
    /// The name in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            CustodyKind::File => "file",
            CustodyKind::Pkcs11 => "pkcs11",
            CustodyKind::Pkcs11Wrapped => "pkcs11-wrapped",
        }
    }
}

impl fmt::Display for CustodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of key pair is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// A tenant's root key (FIPS 203).
    MlKem1024,
    /// A key that signs. Never a composite: its halves are two keys.
    Signature(Signature),
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPurpose {
    /// The root of a tenant's data keys.
    Root,
    /// A tenant's signatures: ML-DSA.
    Signing,
    /// The classical half of a tenant's composite signatures: ECDSA P-384.
    SigningClassical,
    /// The platform's certificates.
    Authority,
}

impl KeyPurpose {
    /// The name in a role's bytes and in token labels.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyPurpose::Root => "root",
            KeyPurpose::Signing => "signing",
            KeyPurpose::SigningClassical => "signing-classical",
            KeyPurpose::Authority => "authority",
        }
    }
}

/// The name of one key: no two keys of a keystore ever have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRole {
    tenant: TenantId,
    purpose: KeyPurpose,
    serial: [u8; 16],
}

impl KeyRole {
    /// The role of the key of `tenant` for `purpose` that is written down as `serial`, before the key is made.
    pub fn new(tenant: TenantId, purpose: KeyPurpose, serial: [u8; 16]) -> Self {
        Self { tenant, purpose, serial }
    }

    /// A role for a key that is to be made.
    pub fn random(tenant: TenantId, purpose: KeyPurpose) -> Result<Self> {
        Ok(Self::new(tenant, purpose, *Secret::<16>::random()?.expose_secret()))
    }

    /// Whose key it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What it is for.
    pub fn purpose(&self) -> KeyPurpose {
        self.purpose
    }

    /// What tells it from earlier and later keys for the same purpose.
    pub fn serial(&self) -> &[u8; 16] {
        &self.serial
    }

    /// The canonical encoding, for associated data and for the id in a token: a version, the length of the tenant's id
    /// (u8), the id, the length of the purpose (u8), the purpose, the serial.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"strongroom key role v1".to_vec();
        for part in [self.tenant.as_str().as_bytes(), self.purpose.as_str().as_bytes()] {
            // Ids have at most 64 bytes.
            bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&self.serial);
        bytes
    }
}

/// What the keystore keeps of a key, inside a sealed record.
pub struct HeldKey {
    /// What kind of pair it is.
    pub algorithm: KeyAlgorithm,
    /// The public half.
    pub public_key: Vec<u8>,
    /// What the custody needs to find the private half again: its seed, its wrapped seed, or nothing.
    pub private: SecretBytes,
}
