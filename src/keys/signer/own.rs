//! Signers of this process: one per tenant, made when first needed and made anew before they end.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{SignerUse, signer_algorithm, signer_proof};
use crate::clock::Clock;
use crate::crypto::{Provider, Signature, SigningKey};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::kms::{Kms, SignerRequest};
use crate::limits;
use crate::secret::SecretBytes;

/// A key of this process that signs for a tenant. The key is erased when the signer is dropped.
pub struct Signer {
    tenant: TenantId,
    agent: AgentId,
    purpose: SignerUse,
    session: SessionId,
    key: Box<dyn SigningKey>,
    chain: Vec<Vec<u8>>,
    thumbprint: [u8; 32],
    made_at_ms: u64,
    expires_at_ms: u64,
}

impl Signer {
    /// The tenant that it signs for.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The agent or service whose key it is.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// What it is for.
    pub fn purpose(&self) -> SignerUse {
        self.purpose
    }

    /// The session that it ends with.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Signature {
        self.key.algorithm()
    }

    /// Its verification key.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    /// The tenant's certificate and its own credential, DER.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// SHA-256 of its credential (DER): what signatures name it by.
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// When it ends: Unix time in milliseconds.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// Signs `message` as it is, in the empty context.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.key.sign(b"", message)
    }

    /// Whether it is time for another: three quarters of its life are over, or the clock was set back.
    fn is_stale(&self, now_ms: u64) -> bool {
        let life = self.expires_at_ms.saturating_sub(self.made_at_ms);
        now_ms < self.made_at_ms || now_ms - self.made_at_ms > life / 4 * 3
    }
}

impl Kept {
    /// Whether the key service is not to be asked again yet: every signature would wait for it.
    fn has_just_failed(&self, now_ms: u64) -> bool {
        self.failed_at_ms.is_some_and(|at_ms| now_ms.abs_diff(at_ms) < limits::SIGNER_RECHECK_MS)
    }
}

/// The signers of this process for one use. Calls wait for the key service when a signer has to be made.
pub struct Signers {
    kms: Arc<dyn Kms>,
    provider: &'static dyn Provider,
    clock: Arc<dyn Clock>,
    agent: AgentId,
    purpose: SignerUse,
    signers: Mutex<HashMap<TenantId, Slot>>,
}

/// One tenant's signer. Held while one is made, so that nobody makes a second.
type Slot = Arc<Mutex<Kept>>;

#[derive(Default)]
struct Kept {
    signer: Option<Arc<Signer>>,
    /// When another could not be had last, in milliseconds.
    failed_at_ms: Option<u64>,
}

impl Signers {
    /// Signers for `purpose`, certified by `kms` under the name `agent`.
    pub fn new(
        kms: Arc<dyn Kms>,
        provider: &'static dyn Provider,
        clock: Arc<dyn Clock>,
        agent: AgentId,
        purpose: SignerUse,
    ) -> Self {
        Self { kms, provider, clock, agent, purpose, signers: Mutex::default() }
    }

    /// The signer of `tenant`.
    ///
    /// # Errors
    ///
    /// Those of [`Kms::certify_signer`], when one has to be made.
    pub fn of(&self, tenant: &TenantId) -> Result<Arc<Signer>> {
        let slot = self.slot(tenant)?;
        let mut slot = slot.lock();
        let now_ms = self.clock.now_ms();
        let current = slot.signer.clone().filter(|signer| now_ms < signer.expires_at_ms);
        if let Some(current) = &current
            && (!current.is_stale(now_ms) || slot.has_just_failed(now_ms))
        {
            return Ok(current.clone());
        }
        match (self.make(tenant), current) {
            // One that is stale still serves while the key service is away.
            (Err(e), Some(current)) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy) => {
                slot.failed_at_ms = Some(now_ms);
                Ok(current)
            }
            (made, _) => {
                let made = made?;
                *slot = Kept { signer: Some(made.clone()), failed_at_ms: None };
                Ok(made)
            }
        }
    }

    /// Erases the signer of `tenant`. Its session ends by itself.
    pub fn forget(&self, tenant: &TenantId) {
        self.signers.lock().remove(tenant);
    }

    fn slot(&self, tenant: &TenantId) -> Result<Slot> {
        let mut signers = self.signers.lock();
        if !signers.contains_key(tenant) && signers.len() >= limits::SIGNERS {
            let now_ms = self.clock.now_ms();
            let lives = |slot: &Slot| {
                let lives = |kept: &Kept| kept.signer.as_ref().is_some_and(|signer| now_ms < signer.expires_at_ms);
                slot.try_lock().is_none_or(|kept| lives(&kept))
            };
            signers.retain(|_, slot| lives(slot));
            if signers.len() >= limits::SIGNERS {
                return Err(Error::new(ErrorKind::Busy, "too many tenants have a signer here")
                    .with_remedy("close tenants that are not in use, or spread them over more processes"));
            }
        }
        Ok(signers.entry(tenant.clone()).or_default().clone())
    }

    fn make(&self, tenant: &TenantId) -> Result<Arc<Signer>> {
        let algorithm = signer_algorithm(self.kms.describe(tenant)?.profile);
        let key = self.provider.signing_key(algorithm, &SecretBytes::random(algorithm.seed_len())?)?;
        let request = SignerRequest {
            agent: self.agent.clone(),
            purpose: self.purpose,
            algorithm,
            public_key: key.public_key().to_vec(),
            proof: key.sign(b"", &signer_proof(tenant, &self.agent, self.purpose))?,
            lifetime_ms: limits::SIGNER_LIFE_MS,
        };
        let made_at_ms = self.clock.now_ms();
        let credential = self.kms.certify_signer(tenant, &request)?;
        let own =
            credential.chain.last().ok_or_else(|| Error::internal("a signer was certified without a credential"))?;
        Ok(Arc::new(Signer {
            tenant: tenant.clone(),
            agent: self.agent.clone(),
            purpose: self.purpose,
            session: credential.session,
            thumbprint: self.provider.sha256(&[own]),
            key,
            chain: credential.chain,
            made_at_ms,
            expires_at_ms: credential.expires_at_ms,
        }))
    }
}
