//! Keys of one's own that sign for a tenant: made in this process, certified by the key service, and believed by others
//! while their session is open.
//!
//! A tenant's own signing key may be in a token that takes a millisecond, or be a composite that takes as long. What is
//! signed a thousand times a second, and lives for minutes, is signed by a [`Signer`].

mod believed;
mod own;

use crate::crypto::{Provider, Signature};
use crate::error::Result;
use crate::id::{AgentId, SessionId, TenantId};

use super::Profile;
use super::certificate::SignerUse;
use super::label;

pub use believed::VerifiedSigners;
pub use own::{Signer, Signers};

/// What the caller signs to show that it has the key that it wants certified: `schema/keys.md`.
pub fn signer_proof(tenant: &TenantId, agent: &AgentId, purpose: SignerUse) -> Vec<u8> {
    let purpose = purpose.as_str().as_bytes();
    label::parts(&[b"strongroom signer proof v1", tenant.as_str().as_bytes(), agent.as_str().as_bytes(), purpose])
}

/// What signers of `profile` sign with. In `hybrid` the post-quantum half alone: what they sign lives for minutes, and
/// the credential above them is signed with both.
pub fn signer_algorithm(profile: Profile) -> Signature {
    match profile {
        Profile::Hybrid => Signature::MlDsa65,
        other => other.signature(),
    }
}

/// A signer that the key service believes: its chain leads to the platform's authority, and its session is open.
///
/// ```compile_fail
/// # use strongroom::{TenantId, keys::VerifiedSigner};
/// fn take_over(signer: &mut VerifiedSigner, tenant: TenantId) {
///     signer.0.tenant = tenant; // private
/// }
/// ```
#[derive(Clone)]
pub struct VerifiedSigner(Believed);

/// What the key service has found of a signer.
#[derive(Clone)]
pub(crate) struct Believed {
    pub(crate) tenant: TenantId,
    pub(crate) profile: Profile,
    pub(crate) agent: AgentId,
    pub(crate) session: SessionId,
    pub(crate) purpose: SignerUse,
    pub(crate) algorithm: Signature,
    pub(crate) public_key: Vec<u8>,
    pub(crate) thumbprint: [u8; 32],
    pub(crate) not_after_ms: u64,
}

impl VerifiedSigner {
    /// Only for the key service, and for its client.
    pub(crate) fn new(believed: Believed) -> Self {
        Self(believed)
    }

    /// The tenant that it signs for.
    pub fn tenant(&self) -> &TenantId {
        &self.0.tenant
    }

    /// The tenant's profile.
    pub fn profile(&self) -> Profile {
        self.0.profile
    }

    /// The agent or service that holds the key.
    pub fn agent(&self) -> &AgentId {
        &self.0.agent
    }

    /// The session that it ends with.
    pub fn session(&self) -> SessionId {
        self.0.session
    }

    /// What it is for.
    pub fn purpose(&self) -> SignerUse {
        self.0.purpose
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Signature {
        self.0.algorithm
    }

    /// Its verification key.
    pub fn public_key(&self) -> &[u8] {
        &self.0.public_key
    }

    /// SHA-256 of its credential (DER): what signatures name it by.
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.0.thumbprint
    }

    /// Until when it is valid: Unix time in milliseconds.
    pub fn not_after_ms(&self) -> u64 {
        self.0.not_after_ms
    }

    /// Verifies its signature over `message`, in the empty context.
    pub fn verify(&self, provider: &dyn Provider, message: &[u8], signature: &[u8]) -> Result<()> {
        provider.verify(self.0.algorithm, &self.0.public_key, b"", message, signature)
    }
}
