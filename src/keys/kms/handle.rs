//! The service as one identified caller sees it: nothing is done without a permit for it.

use std::sync::Arc;
use std::time::Duration;

use super::caller::{Caller, Operation, Permit};
use super::local::LocalKms;
use super::{
    Decapsulation, DekRequest, Encapsulated, Kms, Recipient, Session, Signed, SignerCredential, SignerRequest,
};
use crate::error::Result;
use crate::id::{AgentId, Epoch, SessionId, TenantId};
use crate::keys::certificate::SignerUse;
use crate::keys::{DataKeys, EpochKeys, TenantRecord, VerifiedSigner};
use crate::secret::Secret;

/// The service as one caller sees it.
#[derive(Clone)]
pub struct Handle {
    pub(super) kms: Arc<LocalKms>,
    pub(super) caller: Arc<Caller>,
}

impl Handle {
    pub(super) fn new(kms: Arc<LocalKms>, caller: Caller) -> Self {
        Self { kms, caller: Arc::new(caller) }
    }

    /// The proof that the caller may do `operation` for `tenant`.
    pub(super) fn permit(&self, operation: Operation, tenant: &TenantId) -> Result<Permit> {
        self.kms.permit(&self.caller, operation, tenant)
    }
}

impl Kms for Handle {
    fn describe(&self, tenant: &TenantId) -> Result<TenantRecord> {
        self.kms.describe(self.permit(Operation::Describe, tenant)?)
    }

    fn open_session(&self, tenant: &TenantId, agent: &AgentId, lifetime_ms: u64) -> Result<Session> {
        let permit = self.permit(Operation::Session, tenant)?;
        self.kms.open_session(&self.caller, permit, agent, lifetime_ms, Duration::ZERO)
    }

    fn revoke_session(&self, tenant: &TenantId, session: SessionId) -> Result<()> {
        self.kms.revoke_session(&self.caller, self.permit(Operation::Session, tenant)?, session)
    }

    fn encapsulate(&self, tenant: &TenantId, to: &[Recipient]) -> Result<Vec<Result<Encapsulated>>> {
        self.kms.encapsulate(&self.caller, self.permit(Operation::Encapsulate, tenant)?, to)
    }

    fn decapsulate(&self, tenant: &TenantId, items: &[Decapsulation]) -> Result<Vec<Result<Secret<32>>>> {
        self.kms.decapsulate(&self.caller, self.permit(Operation::Decapsulate, tenant)?, items)
    }

    fn sign(&self, tenant: &TenantId, messages: &[&[u8]]) -> Result<Vec<Result<Vec<u8>>>> {
        self.kms.sign(self.permit(Operation::Sign, tenant)?, messages)
    }

    fn verify(&self, tenant: &TenantId, items: &[Signed<'_>]) -> Result<Vec<Result<()>>> {
        self.kms.verify(&self.caller, self.permit(Operation::Verify, tenant)?, items)
    }

    fn certify_signer(&self, tenant: &TenantId, request: &SignerRequest) -> Result<SignerCredential> {
        let operation = match request.purpose {
            SignerUse::Tokens => Operation::CertifyTokens,
            SignerUse::Envelopes | SignerUse::Actions => Operation::Sign,
        };
        self.kms.certify_signer(&self.caller, self.permit(operation, tenant)?, request)
    }

    fn believe_signer(&self, tenant: &TenantId, purpose: SignerUse, chain: &[Vec<u8>]) -> Result<VerifiedSigner> {
        self.kms.believe_signer(&self.caller, &self.permit(Operation::Verify, tenant)?, purpose, chain)
    }

    fn derive_deks(&self, tenant: &TenantId, items: &[DekRequest]) -> Result<Vec<Result<Secret<32>>>> {
        self.kms.derive_deks(self.permit(Operation::DeriveDek, tenant)?, items)
    }
}

impl DataKeys for Handle {
    fn tenant(&self, tenant: &TenantId) -> Result<TenantRecord> {
        self.describe(tenant)
    }

    fn epoch_keys(&self, tenant: &TenantId, epoch: Epoch) -> Result<Box<dyn EpochKeys>> {
        self.kms.epoch_keys(self.permit(Operation::DeriveDek, tenant)?, epoch)
    }

    fn forget(&self, tenant: &TenantId) {
        // Whoever works for other tenants must not be able to slow this one down.
        if self.caller.works_for(tenant) {
            self.kms.forget(tenant);
        }
    }
}
