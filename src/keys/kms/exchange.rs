//! What the service does with session keys, once it is proven that the caller may: sessions opened and ended,
//! ciphertexts made and opened. Every method consumes the [`Permit`].

use std::sync::Arc;
use std::time::Duration;

use super::caller::{Caller, Operation, Permit};
use super::credential::{Leaf, no_session};
use super::envelope::Envelope;
use super::local::LocalKms;
use super::operations::{bulk, check_bulk, counted};
use super::session::Open;
use super::sessions::NewSession;
use super::{Decapsulation, Encapsulated, Recipient, Session};
use crate::audit::{Outcome, Reason, What};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::certificate::{self, Certificate, SessionSubject};
use crate::keys::profile::{Agreement, negotiate};
use crate::keys::{Profile, TenantRecord};
use crate::secret::Secret;

impl LocalKms {
    /// Waits up to `patience` for a session key.
    pub(super) fn open_session(
        &self,
        caller: &Caller,
        permit: Permit,
        agent: &AgentId,
        lifetime_ms: u64,
        patience: Duration,
    ) -> Result<Session> {
        self.options.policy.check_session(lifetime_ms)?;
        let opened = self.issue(&permit, agent, lifetime_ms, patience)?;
        let what = What::SessionOpened { session: opened.id.to_string() };
        if let Err(e) = self.record(caller, permit.operation(), permit.tenant(), what, Outcome::Done) {
            // What is not recorded is not revealed, and nobody knows of the session to end it.
            drop(self.sessions.revoke(permit.tenant(), opened.id, self.clock.now_ms()));
            return Err(e);
        }
        Ok(opened)
    }

    pub(super) fn revoke_session(&self, caller: &Caller, permit: Permit, session: SessionId) -> Result<()> {
        let what = What::SessionRevoked { session: session.to_string() };
        let record = |outcome| self.record(caller, permit.operation(), permit.tenant(), what.clone(), outcome);
        // A session has to end even when that cannot be written down: the last word decides.
        drop(record(Outcome::Begun));
        let revoked = self.sessions.revoke(permit.tenant(), session, self.clock.now_ms());
        record(Outcome::of(&revoked))?;
        revoked
    }

    pub(super) fn encapsulate(
        &self,
        caller: &Caller,
        permit: Permit,
        to: &[Recipient],
    ) -> Result<Vec<Result<Encapsulated>>> {
        check_bulk(to.len(), to.iter().map(presented).sum())?;
        let sender = self.ready(&permit)?;
        let mut done = bulk(to, |recipient| match recipient {
            Recipient::Session(session) => self.encapsulate_to_own(permit.tenant(), *session),
            Recipient::Credential(chain) => self.encapsulate_to_presented(caller, &permit, &sender.record, chain),
        });
        // Only sessions of one's own are bound, and only what is bound has to be on disk.
        let bound: Vec<_> = done.iter().filter_map(|r| r.as_ref().ok()).filter_map(|(_, open)| open.clone()).collect();
        if let Err(e) = self.sessions.settle(bound.iter()) {
            let failed = |open: &Option<Arc<Open>>| open.as_ref().map(|_| unsettled(&e));
            done = done.into_iter().map(|r| r.and_then(|(e, o)| failed(&o).map_or(Ok((e, o)), Err))).collect();
        }
        self.audit_reuse(caller, &permit, &done)?;
        let done = done.into_iter().map(|result| result.map(|(encapsulated, _)| encapsulated)).collect();
        Ok(counted(&self.served.encapsulated, done))
    }

    pub(super) fn decapsulate(
        &self,
        caller: &Caller,
        permit: Permit,
        items: &[Decapsulation],
    ) -> Result<Vec<Result<Secret<32>>>> {
        check_bulk(items.len(), items.iter().map(|i| i.ciphertext.as_ref().map_or(0, Vec::len)).sum())?;
        self.ready(&permit)?;
        let mut done = bulk(items, |item| self.decapsulate_one(permit.tenant(), item));
        let bound: Vec<_> = done.iter().filter_map(|r| r.as_ref().ok()).map(|(_, open)| open.clone()).collect();
        if let Err(e) = self.sessions.settle(bound.iter()) {
            done = done.into_iter().map(|result| result.and_then(|_| Err(unsettled(&e)))).collect();
        }
        self.audit_reuse(caller, &permit, &done)?;
        let done = done.into_iter().map(|result| result.map(|(key, _)| key)).collect();
        Ok(counted(&self.served.decapsulated, done))
    }

    fn issue(&self, permit: &Permit, agent: &AgentId, lifetime_ms: u64, patience: Duration) -> Result<Session> {
        let tenant = permit.tenant();
        let ready = self.ready(permit)?;
        let profile = ready.record.profile;
        // Before anything is spent: whoever has too many must not drain the pool that all tenants share.
        self.sessions.check_room(tenant, self.clock.now_ms())?;
        let taken = self.pool.take(profile.kem(), patience)?;
        let now_ms = self.clock.now_ms();
        let expires_at_ms = now_ms.saturating_add(lifetime_ms);
        let (id, public_key) = (SessionId::random()?, taken.key.public_key().to_vec());
        let subject = SessionSubject { agent, session: id, kem: profile.kem(), session_key: &public_key };
        let public = ready.public(&self.keystore)?;
        let [_, own] = &public.certificates;
        let credential = certificate::issue_session(
            self.keystore.provider(),
            &*ready.signer(&self.keystore)?,
            &Certificate::from_der(own)?,
            &subject,
            expires_at_ms,
            now_ms,
        )?;
        let key = Some((taken.seed, taken.key));
        self.insert(permit, NewSession { id, tenant, agent: agent.as_str(), profile, expires_at_ms, key }, now_ms)?;
        Ok(Session { id, profile, public_key, chain: vec![own.clone(), credential.as_der().to_vec()], expires_at_ms })
    }

    /// Opens a session for good, unless its tenant goes meanwhile.
    pub(super) fn insert(&self, permit: &Permit, new: NewSession<'_>, now_ms: u64) -> Result<()> {
        let tenant = new.tenant;
        self.sessions.insert(new, now_ms)?;
        self.ready(permit).map(|_| ()).or_else(|e| {
            // The tenant was shredded: its sessions are gone, and this one has to be too.
            self.sessions.forget(tenant)?;
            Err(e)
        })
    }

    fn encapsulate_to_own(&self, tenant: &TenantId, id: SessionId) -> Result<(Encapsulated, Option<Arc<Open>>)> {
        let now_ms = self.clock.now_ms();
        let open = self.sessions.find(tenant, id, now_ms)?;
        self.sessions.check_unused(&open)?;
        let key = self.sessions.key(&open, now_ms)?;
        let agreement = alone(open.profile)?;
        let encapsulated = self.encapsulate_with(&agreement, tenant, id, key.public_key())?;
        let expires_at_ms = now_ms.saturating_add(self.options.ciphertext_ttl_ms);
        self.sessions.bind(&open, &encapsulated.ciphertext, Some(expires_at_ms))?;
        Ok((encapsulated, Some(open)))
    }

    fn encapsulate_to_presented(
        &self,
        caller: &Caller,
        permit: &Permit,
        sender: &TenantRecord,
        chain: &[Vec<u8>],
    ) -> Result<(Encapsulated, Option<Arc<Open>>)> {
        let refused = |e: Error, reason| {
            if !matches!(e.kind(), ErrorKind::Denied | ErrorKind::InvalidInput) {
                return e;
            }
            self.refused(caller, Operation::Encapsulate, permit.tenant(), reason).err().unwrap_or(e)
        };
        let now_ms = self.clock.now_ms();
        let believed = self
            .credentials
            .believe(&self.keystore, &self.tenants, chain, now_ms)
            .map_err(|e| refused(e, Reason::Credential))?;
        let Leaf::Session(public_key) = &believed.leaf else {
            return Err(refused(no_session(), Reason::Credential));
        };
        let agreement =
            negotiate(&sender.profile.into(), &believed.profile.into()).map_err(|e| refused(e, Reason::Profile))?;
        // After the lookup: a chain that is remembered may be of a session that has been revoked since.
        let open = self.sessions.find(&believed.tenant, believed.session, now_ms).map_err(|e| match e.kind() {
            ErrorKind::NotFound => refused(ended(), Reason::Credential),
            _ => e,
        })?;
        self.sessions.check_unused(&open)?;
        // The key is not bound to this ciphertext: a sender must not be able to use up another tenant's sessions.
        let encapsulated = self.encapsulate_with(&agreement, &believed.tenant, believed.session, public_key)?;
        Ok((encapsulated, None))
    }

    fn encapsulate_with(
        &self,
        agreement: &Agreement,
        recipient: &TenantId,
        session: SessionId,
        public_key: &[u8],
    ) -> Result<Encapsulated> {
        let provider = self.keystore.provider();
        let (ciphertext, shared) = provider.kem_encapsulate(agreement.profile().kem(), public_key)?;
        let envelope = Envelope { agreement, recipient, session, public_key, ciphertext: &ciphertext };
        let key = envelope.key(provider, &shared)?;
        Ok(Encapsulated { session, ciphertext, key })
    }

    /// The envelope's key. It is not to be revealed before the session's binding is settled.
    fn decapsulate_one(&self, tenant: &TenantId, item: &Decapsulation) -> Result<(Secret<32>, Arc<Open>)> {
        let now_ms = self.clock.now_ms();
        let open = self.sessions.find(tenant, item.session, now_ms)?;
        let kept;
        let ciphertext = match &item.ciphertext {
            Some(given) => given,
            None => {
                kept = self.sessions.kept(&open, now_ms)?;
                &kept
            }
        };
        let key = self.sessions.key(&open, now_ms)?;
        // What is malformed is refused here, before it can use up the session.
        let shared = key.decapsulate(ciphertext)?;
        self.sessions.bind(&open, ciphertext, None)?;
        let (agreement, public_key) = (alone(open.profile)?, key.public_key());
        let envelope =
            Envelope { agreement: &agreement, recipient: tenant, session: item.session, public_key, ciphertext };
        Ok((envelope.key(self.keystore.provider(), &shared)?, open))
    }

    /// Counts and audits each use of a session for a second ciphertext.
    fn audit_reuse<T>(&self, caller: &Caller, permit: &Permit, done: &[Result<T>]) -> Result<()> {
        let mut reused = done.iter().filter(|r| r.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict));
        reused.try_for_each(|_| self.refused(caller, permit.operation(), permit.tenant(), Reason::SingleUse))
    }
}

/// The bytes of a presented chain.
fn presented(recipient: &Recipient) -> usize {
    match recipient {
        Recipient::Session(_) => 0,
        Recipient::Credential(chain) => chain.iter().map(Vec::len).sum(),
    }
}

/// What two tenants of one profile agree on. There is no agreement across profiles, so that the receiver knows it by
/// its own.
fn alone(profile: Profile) -> Result<Agreement> {
    negotiate(&profile.into(), &profile.into())
}

fn ended() -> Error {
    Error::new(ErrorKind::Denied, "the credential is refused: its session has ended")
        .with_remedy("ask the receiver to open another session")
}

/// The error of one item whose binding may not be on disk.
fn unsettled(e: &Error) -> Error {
    Error::new(e.kind(), e.to_string())
        .with_remedy("nothing was revealed: ask for the same again, or open another session")
}
