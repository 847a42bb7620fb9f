//! A receiver's session as its one sender sees it: what is encapsulated to it, and which number comes next.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::codec::{self, Envelope};
use super::header::{Algorithms, Header, Kind};
use crate::crypto::{AeadKey, NONCE_LEN, Provider, TAG_LEN};
use crate::entropy;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::certificate::{Certificate, CertificateView};
use crate::keys::kms::Encapsulated;
use crate::keys::{Profile, Signer};
use crate::limits;

/// Whom envelopes are sent to. Its key is erased when it is dropped.
pub struct Peer {
    tenant: TenantId,
    agent: AgentId,
    session: SessionId,
    profile: Profile,
    expires_at_ms: u64,
    kem_ciphertext: Vec<u8>,
    aead: Box<dyn AeadKey>,
    next: AtomicU64,
    /// The certificate of the signer that the receiver has, by thumbprint.
    knows: Mutex<Option<[u8; 32]>>,
}

/// What is to be sent.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// Whatever the application wants to have bound to it, in clear: an id of the call that it answers, say. At most
    /// [`limits::ENVELOPE_CORRELATION_BYTES`].
    pub correlation: &'a [u8],
    /// At most [`limits::ENVELOPE_PAYLOAD_BYTES`].
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// Refuses what is too long.
    pub(super) fn check(&self) -> Result<()> {
        if self.payload.len() > limits::ENVELOPE_PAYLOAD_BYTES {
            return Err(Error::invalid("the payload is too large")
                .with_remedy(format!("send at most {} bytes at once", limits::ENVELOPE_PAYLOAD_BYTES)));
        }
        if self.correlation.len() > limits::ENVELOPE_CORRELATION_BYTES {
            let remedy = format!("use at most {} bytes, a digest if need be", limits::ENVELOPE_CORRELATION_BYTES);
            return Err(Error::invalid("the correlation is too long").with_remedy(remedy));
        }
        Ok(())
    }
}

/// Whom a session's credential names. Nobody has verified it.
pub(super) struct Claimed {
    pub(super) tenant: TenantId,
    pub(super) agent: AgentId,
    profile: Profile,
}

impl Claimed {
    /// What the last certificate of `chain` says.
    pub(super) fn of(provider: &dyn Provider, chain: &[Vec<u8>]) -> Result<Self> {
        let none = || {
            Error::invalid("the invitation has no session's credential")
                .with_remedy("ask the receiver for another invitation")
        };
        let leaf = Certificate::from_der(chain.last().ok_or_else(none)?)?;
        let view = CertificateView::of(provider, &leaf);
        Ok(Self {
            tenant: view.tenant.ok_or_else(none)?.parse()?,
            agent: view.agent.ok_or_else(none)?.parse()?,
            profile: view.profile.ok_or_else(none)?.parse()?,
        })
    }
}

impl Peer {
    /// The peer whose `claimed` names the key service verified when it `encapsulated` to the chain that has them.
    pub(super) fn new(
        provider: &dyn Provider,
        claimed: Claimed,
        encapsulated: Encapsulated,
        expires_at_ms: u64,
    ) -> Result<Self> {
        let Claimed { tenant, agent, profile } = claimed;
        let Encapsulated { session, ciphertext: kem_ciphertext, key } = encapsulated;
        let aead = provider.aead(profile.suite().aead(), &key)?;
        let (next, knows) = (AtomicU64::new(0), Mutex::new(None));
        Ok(Self { tenant, agent, session, profile, expires_at_ms, kem_ciphertext, aead, next, knows })
    }

    /// The receiver's tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The receiver.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The receiver's session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// When the session ends, as its invitation says: Unix time in milliseconds.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// Has the next envelope carry our certificates again, for a receiver that may have lost them or never got them.
    pub fn introduce(&self) {
        *self.knows.lock() = None;
    }

    /// Notes that the receiver has the certificate of this signer.
    pub(super) fn introduced(&self, thumbprint: [u8; 32]) {
        *self.knows.lock() = Some(thumbprint);
    }

    /// Whether the receiver has the certificate of this signer.
    pub(super) fn knows(&self, thumbprint: &[u8; 32]) -> bool {
        self.knows.lock().as_ref() == Some(thumbprint)
    }

    /// The first of `count` numbers that nothing else is sent under.
    pub(super) fn reserve(&self, count: usize) -> Result<u64> {
        let more = |next: u64| next.checked_add(count as u64).filter(|next| *next <= limits::ENVELOPES_PER_SESSION);
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Error::new(ErrorKind::Conflict, "the session's key may seal no more").with_remedy(ANOTHER))
    }

    /// Seals and signs one envelope.
    pub(super) fn seal(
        &self,
        signer: &Signer,
        message: Message<'_>,
        sequence: u64,
        introduce: bool,
        issued_at_ms: u64,
        life_ms: u64,
    ) -> Result<Envelope> {
        message.check()?;
        self.check(signer, issued_at_ms)?;
        let mut nonce = [0; NONCE_LEN];
        entropy::fill(&mut nonce)?;
        let header = Header {
            kind: message.kind,
            sender: signer.tenant().clone(),
            agent: signer.agent().clone(),
            thumbprint: *signer.thumbprint(),
            recipient: self.tenant.clone(),
            session: self.session,
            algorithms: Algorithms::of(self.profile),
            kem_ciphertext: self.kem_ciphertext.clone(),
            issued_at_ms,
            expires_at_ms: issued_at_ms.saturating_add(life_ms),
            sequence,
            nonce,
            correlation: message.correlation.to_vec(),
            chain: if introduce { signer.chain().to_vec() } else { Vec::new() },
        };
        let seal = |aad: &[u8]| {
            let mut ciphertext = Vec::with_capacity(message.payload.len() + TAG_LEN);
            self.aead.seal(&nonce, aad, message.payload, &mut ciphertext)?;
            Ok(ciphertext)
        };
        codec::assemble(header, seal, |signed| signer.sign(signed))
    }

    fn check(&self, signer: &Signer, now_ms: u64) -> Result<()> {
        if now_ms >= self.expires_at_ms {
            return Err(Error::not_found("the receiver's session has ended").with_remedy(ANOTHER));
        }
        if signer.algorithm() == Algorithms::of(self.profile).signature {
            return Ok(());
        }
        Err(Error::internal("a signer of another profile"))
    }
}

const ANOTHER: &str = "ask the receiver for another invitation";
