//! The interceptor: sends and receives for one agent, so that no code of the agent's touches a key.

use std::collections::BTreeSet;
use std::sync::Arc;

use rayon::prelude::*;

use super::check::Authentic;
use super::codec::Envelope;
use super::inbox::Inbox;
use super::invitation::Invitation;
use super::peer::{Claimed, Message, Peer};
use super::received::{Origin, Received};
use super::refusal::{Failure, Refusal};
use crate::audit::{AuditSink, Event, Outcome, What};
use crate::clock::Clock;
use crate::crypto::Provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::certificate::SignerUse;
use crate::keys::kms::{Kms, Recipient, Role};
use crate::keys::{Signers, VerifiedSigner, VerifiedSigners};
use crate::limits;

/// Sends and receives envelopes for one agent of a tenant.
///
/// Calls wait: for the key service, and for signatures. Asynchronous callers go through `spawn_blocking`, as
/// [`layer`](super::layer) does.
pub struct Interceptor {
    kms: Arc<dyn Kms>,
    provider: &'static dyn Provider,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditSink>,
    tenant: TenantId,
    agent: AgentId,
    options: InterceptorOptions,
    signers: Signers,
    believed: VerifiedSigners,
    inbox: Inbox,
}

/// How an interceptor works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterceptorOptions {
    /// How long its sessions last, in milliseconds. The key service has a limit of its own.
    pub session_ms: u64,
    /// How long an envelope may be on its way, in milliseconds: at most [`limits::ENVELOPE_LIFE_MS`].
    pub envelope_ms: u64,
    /// Further tenants whose agents it sends to and receives from. Its own is always among them.
    pub tenants: BTreeSet<TenantId>,
}

impl Default for InterceptorOptions {
    /// See [`crate::manual::defaults`].
    fn default() -> Self {
        Self { session_ms: 3_600_000, envelope_ms: 60_000, tenants: BTreeSet::new() }
    }
}

impl Interceptor {
    /// The interceptor of `agent`. What it refuses goes to `audit`.
    pub fn new(
        kms: Arc<dyn Kms>,
        provider: &'static dyn Provider,
        clock: Arc<dyn Clock>,
        audit: Arc<dyn AuditSink>,
        tenant: TenantId,
        agent: AgentId,
        options: InterceptorOptions,
    ) -> Self {
        let signers = Signers::new(kms.clone(), provider, clock.clone(), agent.clone(), SignerUse::Envelopes);
        let believed = VerifiedSigners::new(kms.clone(), clock.clone(), SignerUse::Envelopes);
        let inbox = Inbox::default();
        Self { kms, provider, clock, audit, tenant, agent, options, signers, believed, inbox }
    }

    /// The agent's tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The agent.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// Opens a session to receive in. The invitation is for one sender: the first that sends in the session is the only
    /// one that can.
    ///
    /// # Errors
    ///
    /// As [`Kms::open_session`]; [`Unavailable`](ErrorKind::Unavailable) too when
    /// [`limits::ENVELOPE_SESSIONS`] are open.
    pub fn invite(&self) -> Result<Invitation> {
        let session = self.kms.open_session(&self.tenant, &self.agent, self.options.session_ms)?;
        if let Err(e) = self.inbox.insert(&session, self.clock.now_ms()) {
            // Nobody can use it: whether it ends now or by itself does not change that.
            drop(self.kms.revoke_session(&self.tenant, session.id));
            return Err(e);
        }
        Ok(Invitation::new(session.id, session.chain, session.expires_at_ms))
    }

    /// Encapsulates to the session of an invitation: what is sent to the peer is sealed with the key that this gives.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorKind::Denied) when the chain does not lead to the platform's authority, its session has ended,
    /// its tenant is not among those of the options, or has another profile.
    pub fn connect(&self, invitation: &Invitation) -> Result<Peer> {
        let claimed = Claimed::of(self.provider, invitation.chain())?;
        if !self.deals_with(&claimed.tenant) {
            return Err(Error::new(ErrorKind::Denied, "this agent does not send to that tenant")
                .with_remedy("name the tenant in the interceptor's options, if it should"));
        }
        let to = [Recipient::Credential(invitation.chain().to_vec())];
        // Here the chain is verified, and with it what was claimed.
        let encapsulated = self.kms.encapsulate(&self.tenant, &to)?.pop().unwrap_or_else(|| Err(no_answer()))?;
        if encapsulated.session != invitation.session() {
            return Err(Error::new(ErrorKind::Denied, "the invitation and its credential name different sessions")
                .with_remedy("ask the receiver for another invitation"));
        }
        Peer::new(self.provider, claimed, encapsulated, invitation.expires_at_ms())
    }

    /// Seals and signs a message for `peer`. The first envelope under each signer carries the signer's certificates.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for what is too long, [`NotFound`](ErrorKind::NotFound) when the peer's
    /// session has ended, [`Conflict`](ErrorKind::Conflict) when its key may seal no more, and as
    /// [`Kms::certify_signer`].
    pub fn send(&self, peer: &Peer, message: Message<'_>) -> Result<Vec<u8>> {
        let mut sent = self.send_many(peer, &[message])?;
        sent.pop().unwrap_or_else(|| Err(no_answer()))
    }

    /// Seals and signs messages, with ascending numbers in their order. Each fails or succeeds by itself.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`InvalidInput`](ErrorKind::InvalidInput) for more than [`limits::ENVELOPE_BULK`].
    pub fn send_many(&self, peer: &Peer, messages: &[Message<'_>]) -> Result<Vec<Result<Vec<u8>>>> {
        check_bulk(messages.len())?;
        let signer = self.signers.of(&self.tenant)?;
        let first = peer.reserve(messages.len())?;
        // The first one that can be sent introduces the signer.
        let unknown = !peer.knows(signer.thumbprint());
        let introduces = messages.iter().position(|message| message.check().is_ok()).filter(|_| unknown);
        let (now_ms, life_ms) = (self.clock.now_ms(), self.envelope_ms());
        let seal = |(at, message): (usize, &Message<'_>)| {
            let (sequence, introduce) = (first + at as u64, introduces == Some(at));
            Ok(peer.seal(&signer, *message, sequence, introduce, now_ms, life_ms)?.into_bytes())
        };
        let sent: Vec<_> = match messages {
            [_] => messages.iter().enumerate().map(seal).collect(),
            _ => messages.par_iter().enumerate().map(seal).collect(),
        };
        if introduces.and_then(|at| sent.get(at)).is_some_and(Result::is_ok) {
            peer.introduced(*signer.thumbprint());
        }
        Ok(sent)
    }

    /// Seals and signs a message that always carries the signer's certificates until the peer is
    /// [introduced](Peer::introduced): for callers who learn whether an envelope arrived. Returns the thumbprint too.
    pub(super) fn send_until_known(&self, peer: &Peer, message: Message<'_>) -> Result<(Vec<u8>, [u8; 32])> {
        let signer = self.signers.of(&self.tenant)?;
        let (sequence, thumbprint) = (peer.reserve(1)?, *signer.thumbprint());
        let (introduce, now_ms) = (!peer.knows(&thumbprint), self.clock.now_ms());
        let envelope = peer.seal(&signer, message, sequence, introduce, now_ms, self.envelope_ms())?;
        Ok((envelope.into_bytes(), thumbprint))
    }

    /// Verifies and opens an envelope. Of several copies of one, exactly one call succeeds.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorKind::Denied) in the same words whatever is wrong with the envelope, and the reason in the audit
    /// log; [`Unavailable`](ErrorKind::Unavailable) when that cannot be found out now.
    pub fn receive(&self, envelope: &[u8]) -> Result<Received> {
        self.try_receive(envelope).map_err(|failure| self.failed(failure))
    }

    /// Receives envelopes, each as [`receive`](Self::receive) does. Results are in the order of the envelopes.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for more than [`limits::ENVELOPE_BULK`].
    pub fn receive_many<B: AsRef<[u8]> + Sync>(&self, envelopes: &[B]) -> Result<Vec<Result<Received>>> {
        check_bulk(envelopes.len())?;
        let Some((first, others)) = envelopes.split_first() else {
            return Ok(Vec::new());
        };
        // The first one may carry the certificates that the others need.
        let first = self.receive(first.as_ref());
        let others: Vec<_> = others.par_iter().map(|envelope| self.receive(envelope.as_ref())).collect();
        Ok(std::iter::once(first).chain(others).collect())
    }

    /// Ends a session of ours: its key is erased here and in the key service.
    pub fn end(&self, session: SessionId) -> Result<()> {
        self.inbox.remove(session);
        self.kms.revoke_session(&self.tenant, session)
    }

    /// Erases the key of a session of ours here. In the key service it stays until it expires.
    pub(super) fn forget(&self, session: SessionId) {
        self.inbox.remove(session);
    }

    /// Where answers to what came from `origin` go: connects to `invitation` for the first.
    pub(super) fn reply_peer(&self, origin: &Origin, invitation: Option<&Invitation>) -> Result<Arc<Peer>> {
        let connect = || {
            let peer = self.connect(invitation.ok_or(Refusal::Content)?);
            let peer = peer.map_err(|e| Failure::of(e, Refusal::Signer))?;
            // Nobody has our answers sealed to somebody else.
            let same = (peer.tenant(), peer.agent()) == (origin.tenant(), origin.agent());
            if same { Ok(peer) } else { Err(Failure::from(Refusal::Sender)) }
        };
        let session = self.inbox.find(origin.session(), self.clock.now_ms()).ok_or(Failure::from(Refusal::Session));
        session.and_then(|session| session.reply(connect)).map_err(|failure| self.failed(failure))
    }

    /// What digests are made with.
    pub(super) fn provider(&self) -> &dyn Provider {
        self.provider
    }

    /// Erases the keys of sessions that have ended, which otherwise happens with the next use of another.
    pub fn purge(&self) {
        self.inbox.purge(self.clock.now_ms());
    }

    /// How many sessions it receives in.
    pub fn sessions(&self) -> usize {
        self.inbox.len()
    }

    fn try_receive(&self, envelope: &[u8]) -> Result<Received, Failure> {
        let now_ms = self.clock.now_ms();
        let envelope = Envelope::decode(envelope).map_err(|_| Refusal::Malformed)?;
        let header = &envelope.header;
        if header.recipient != self.tenant {
            return Err(Refusal::Recipient.into());
        }
        let id = header.session;
        let session = self.inbox.find(id, now_ms).ok_or(Refusal::Session)?;
        if !self.deals_with(&header.sender) {
            return Err(Refusal::Tenant.into());
        }
        let signer = self.signer(&envelope)?;
        let authentic = Authentic::check(self.provider, envelope, &signer, session.profile(), now_ms)?;
        let opened = session.open(&*self.kms, self.provider, &self.tenant, authentic, now_ms);
        if let Err(Failure::Refused(Refusal::Session)) = &opened {
            // It was revoked in the key service.
            self.inbox.remove(id);
        }
        opened
    }

    /// The signer of an envelope, if the key service believes it: now, or within the last seconds.
    fn signer(&self, envelope: &Envelope) -> Result<Arc<VerifiedSigner>, Failure> {
        let header = &envelope.header;
        let disbelieved = |e| Failure::of(e, Refusal::Signer);
        if let Some(known) = self.believed.remembered(&header.thumbprint).map_err(disbelieved)? {
            return Ok(known);
        }
        if header.chain.is_empty() {
            return Err(Refusal::Signer.into());
        }
        self.believed.believe(&self.tenant, &header.chain).map_err(disbelieved)
    }

    /// Never longer than receivers take: what is asked for beyond that would be refused.
    fn envelope_ms(&self) -> u64 {
        self.options.envelope_ms.min(limits::ENVELOPE_LIFE_MS)
    }

    fn deals_with(&self, tenant: &TenantId) -> bool {
        *tenant == self.tenant || self.options.tenants.contains(tenant)
    }

    /// What the outside is told of a failure, and the audit log of a refusal.
    fn failed(&self, failure: Failure) -> Error {
        if let Failure::Refused(refusal) = failure {
            self.refused(refusal);
        }
        failure.into()
    }

    /// Records a refusal. It stands whether that can be written or not.
    pub(super) fn refused(&self, reason: Refusal) {
        let what = What::EnvelopeRefused { reason };
        let mut event = Event::new(self.clock.now_ms(), self.agent.as_str(), what, Outcome::Refused);
        event.role = Some(Role::Agent);
        if self.audit.record(&event).is_err() {
            tracing::error!("the audit log cannot be written");
        }
    }
}

fn check_bulk(items: usize) -> Result<()> {
    if items <= limits::ENVELOPE_BULK {
        return Ok(());
    }
    Err(Error::invalid("too many envelopes in one call")
        .with_remedy(format!("send or receive at most {} at once", limits::ENVELOPE_BULK)))
}

fn no_answer() -> Error {
    Error::internal("the key service gave no answer")
}
