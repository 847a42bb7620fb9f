//! The sessions that envelopes are received in: whose they are, their keys, and which numbers were received.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::check::Authentic;
use super::header::Header;
use super::peer::Peer;
use super::received::{Origin, Received};
use super::refusal::{Failure, Refusal};
use crate::crypto::{AeadKey, Provider};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::Profile;
use crate::keys::kms::{Decapsulation, Kms, Session};
use crate::limits;
use crate::replay::ReplayWindow;

/// How often sessions that have ended are looked for, in milliseconds.
const PURGE_MS: u64 = 1_000;

/// The sessions of one agent.
#[derive(Default)]
pub(super) struct Inbox(Mutex<Index>);

#[derive(Default)]
struct Index {
    sessions: HashMap<SessionId, Arc<Inbound>>,
    purged_at_ms: u64,
}

/// One session.
pub(super) struct Inbound {
    id: SessionId,
    profile: Profile,
    expires_at_ms: u64,
    state: Mutex<State>,
    /// Where answers go.
    reply: Mutex<Option<Arc<Peer>>>,
}

#[derive(Default)]
struct State {
    key: Option<Key>,
    /// Whose envelopes these are: of whoever's first one opened.
    sender: Option<(TenantId, AgentId)>,
    window: ReplayWindow,
}

/// The key that the session's one ciphertext gave.
struct Key {
    kem_ciphertext: [u8; 32],
    aead: Arc<dyn AeadKey>,
    /// When the key service last gave it.
    asked_at_ms: u64,
}

impl Inbox {
    /// Takes up a session.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) when there are [`limits::ENVELOPE_SESSIONS`].
    pub(super) fn insert(&self, session: &Session, now_ms: u64) -> Result<()> {
        let mut index = self.0.lock();
        index.purge(now_ms);
        if index.sessions.len() >= limits::ENVELOPE_SESSIONS {
            return Err(Error::new(ErrorKind::Unavailable, "this agent has too many sessions open")
                .with_remedy("end those that are not needed, or wait until some have expired"));
        }
        let (id, profile, expires_at_ms) = (session.id, session.profile, session.expires_at_ms);
        let inbound = Inbound { id, profile, expires_at_ms, state: Mutex::default(), reply: Mutex::default() };
        index.sessions.insert(id, Arc::new(inbound));
        Ok(())
    }

    /// The session `id`, if it is open.
    pub(super) fn find(&self, id: SessionId, now_ms: u64) -> Option<Arc<Inbound>> {
        let mut index = self.0.lock();
        if now_ms.abs_diff(index.purged_at_ms) >= PURGE_MS {
            index.purge(now_ms);
        }
        index.sessions.get(&id).filter(|session| now_ms < session.expires_at_ms).cloned()
    }

    /// Forgets a session with its key. Says whether it was there.
    pub(super) fn remove(&self, id: SessionId) -> bool {
        self.0.lock().sessions.remove(&id).is_some()
    }

    /// Forgets the sessions that have ended.
    pub(super) fn purge(&self, now_ms: u64) {
        self.0.lock().purge(now_ms);
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.0.lock().sessions.len()
    }
}

impl Index {
    fn purge(&mut self, now_ms: u64) {
        self.sessions.retain(|_, session| now_ms < session.expires_at_ms);
        self.purged_at_ms = now_ms;
    }
}

impl Inbound {
    /// The profile whose algorithms the session has.
    pub(super) fn profile(&self) -> Profile {
        self.profile
    }

    /// Opens an envelope. Of several copies of one, exactly one call succeeds, also when they race.
    pub(super) fn open(
        &self,
        kms: &dyn Kms,
        provider: &dyn Provider,
        tenant: &TenantId,
        envelope: Authentic,
        now_ms: u64,
    ) -> Result<Received, Failure> {
        let header = envelope.header();
        let kem_ciphertext = provider.sha256(&[&header.kem_ciphertext]);
        // First what costs nothing: so that a copy that comes later does not trouble the key service.
        self.state.lock().check(header)?;
        let known = self.state.lock().key(&kem_ciphertext, now_ms)?;
        let aead = match known {
            Some(aead) => aead,
            None => self.ask(kms, provider, tenant, header, kem_ciphertext, now_ms)?,
        };
        let opened = aead.open(&header.nonce, envelope.aad(), envelope.ciphertext());
        let payload = opened.map_err(|_| Refusal::Open)?;
        // Only now is the number taken: what does not open must not stand in the way of what does.
        self.state.lock().take(header)?;
        Ok(Received::new(Origin::of(self.id, header), envelope.into_header().correlation, payload))
    }

    /// Where answers go: to the peer that `connect` gave the first time. Others wait for it, since a session is
    /// encapsulated to once.
    pub(super) fn reply(&self, connect: impl FnOnce() -> Result<Peer, Failure>) -> Result<Arc<Peer>, Failure> {
        let mut reply = self.reply.lock();
        match &*reply {
            Some(peer) => Ok(peer.clone()),
            None => Ok(reply.insert(Arc::new(connect()?)).clone()),
        }
    }

    /// Has the key service decapsulate: for the first envelope, and again after
    /// [`limits::ENVELOPE_SESSION_RECHECK_MS`], since it refuses when the session was revoked.
    fn ask(
        &self,
        kms: &dyn Kms,
        provider: &dyn Provider,
        tenant: &TenantId,
        header: &Header,
        kem_ciphertext: [u8; 32],
        now_ms: u64,
    ) -> Result<Arc<dyn AeadKey>, Failure> {
        let item = Decapsulation { session: self.id, ciphertext: Some(header.kem_ciphertext.clone()) };
        let answer = kms.decapsulate(tenant, &[item]).and_then(|mut answers| {
            answers.pop().unwrap_or_else(|| Err(Error::internal("the key service gave no answer")))
        });
        let key = answer.map_err(|e| {
            let refusal = match e.kind() {
                ErrorKind::Conflict => Refusal::Ciphertext,
                ErrorKind::InvalidInput => Refusal::Open,
                _ => Refusal::Session,
            };
            Failure::of(e, refusal)
        })?;
        let aead: Arc<dyn AeadKey> = provider.aead(self.profile.suite().aead(), &key).map_err(Failure::Away)?.into();
        self.state.lock().key = Some(Key { kem_ciphertext, aead: aead.clone(), asked_at_ms: now_ms });
        Ok(aead)
    }
}

impl State {
    /// Whether an envelope could still be received.
    fn check(&self, header: &Header) -> Result<(), Refusal> {
        if self.sender.as_ref().is_some_and(|(tenant, agent)| (tenant, agent) != (&header.sender, &header.agent)) {
            return Err(Refusal::Sender);
        }
        if self.window.is_fresh(header.sequence) { Ok(()) } else { Err(Refusal::Replay) }
    }

    /// The key for a ciphertext, unless the key service has to be asked.
    fn key(&self, kem_ciphertext: &[u8; 32], now_ms: u64) -> Result<Option<Arc<dyn AeadKey>>, Refusal> {
        match &self.key {
            Some(key) if key.kem_ciphertext != *kem_ciphertext => Err(Refusal::Ciphertext),
            Some(key) if now_ms.abs_diff(key.asked_at_ms) < limits::ENVELOPE_SESSION_RECHECK_MS => {
                Ok(Some(key.aead.clone()))
            }
            _ => Ok(None),
        }
    }

    /// Takes the number of an envelope that opened, and its sender for that of the session.
    fn take(&mut self, header: &Header) -> Result<(), Refusal> {
        self.check(header)?;
        if !self.window.take(header.sequence) {
            return Err(Refusal::Replay);
        }
        if self.sender.is_none() {
            self.sender = Some((header.sender.clone(), header.agent.clone()));
        }
        Ok(())
    }
}
