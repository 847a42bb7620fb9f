//! What comes out of an envelope that passed every check.

use super::header::{Header, Kind};
use crate::id::{AgentId, SessionId, TenantId};
use crate::secret::SecretBytes;

/// Where a payload comes from: the proof that an envelope with it passed every check. Only
/// [`Interceptor::receive`](super::Interceptor::receive) makes one.
///
/// ```compile_fail
/// # use strongroom::envelope::{Kind, Origin};
/// # fn forge(tenant: strongroom::TenantId, agent: strongroom::AgentId, session: strongroom::SessionId) -> Origin {
/// Origin { tenant, agent, session, kind: Kind::Message, sequence: 0, issued_at_ms: 0, signer: [0; 32] } // private fields
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    tenant: TenantId,
    agent: AgentId,
    session: SessionId,
    kind: Kind,
    sequence: u64,
    issued_at_ms: u64,
    signer: [u8; 32],
}

impl Origin {
    /// What an authentic, opened envelope says of itself.
    pub(super) fn of(session: SessionId, header: &Header) -> Self {
        Self {
            tenant: header.sender.clone(),
            agent: header.agent.clone(),
            session,
            kind: header.kind,
            sequence: header.sequence,
            issued_at_ms: header.issued_at_ms,
            signer: header.thumbprint,
        }
    }

    /// The sender's tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The sender.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The receiver's session that it came in.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its number in the session, from 0.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was sent, by the sender's clock: Unix time in milliseconds.
    pub fn issued_at_ms(&self) -> u64 {
        self.issued_at_ms
    }

    /// SHA-256 of the certificate that it was verified with.
    pub fn signer(&self) -> &[u8; 32] {
        &self.signer
    }
}

/// A payload with its origin.
pub struct Received {
    origin: Origin,
    correlation: Vec<u8>,
    payload: SecretBytes,
}

impl Received {
    pub(super) fn new(origin: Origin, correlation: Vec<u8>, payload: SecretBytes) -> Self {
        Self { origin, correlation, payload }
    }

    /// Who sent it, and as what.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the sending application had set; empty when it had not.
    pub fn correlation(&self) -> &[u8] {
        &self.correlation
    }

    /// The payload.
    pub fn payload(&self) -> &SecretBytes {
        &self.payload
    }

    /// The payload, taken over.
    pub fn into_payload(self) -> SecretBytes {
        self.payload
    }
}
