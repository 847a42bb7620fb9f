//! Open sessions: each key serves one ciphertext, which is on disk before the first secret comes out, and ends in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use zeroize::Zeroize as _;

use super::session::{Hot, Index, Open, Served, State, used};
use super::session_files::{Kept, Row, SessionFiles, gone};
use crate::crypto::{KemKey, Provider};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SessionId, TenantId};
use crate::keys::{Keystore, Profile};
use crate::limits;
use crate::secret::SecretBytes;

/// The open sessions of all tenants.
pub(super) struct Sessions {
    provider: &'static dyn Provider,
    files: SessionFiles,
    index: RwLock<Index>,
    pub(super) expired: AtomicU64,
    pub(super) ciphertexts_expired: AtomicU64,
}

/// A session that is going to be opened.
pub(super) struct NewSession<'a> {
    pub(super) id: SessionId,
    pub(super) tenant: &'a TenantId,
    pub(super) agent: &'a str,
    pub(super) profile: Profile,
    pub(super) expires_at_ms: u64,
    /// `None` for a signer.
    pub(super) key: Option<(SecretBytes, Box<dyn KemKey>)>,
}

impl Sessions {
    /// The sessions that an earlier process left open, of those tenants that still exist.
    pub(super) fn open(keystore: Arc<Keystore>, now_ms: u64) -> Result<Self> {
        let (provider, tenants) = (keystore.provider(), keystore.tenants()?);
        let files = SessionFiles::open(keystore)?;
        let mut index = Index::default();
        for (id, row) in files.all()? {
            let tenant = row.tenant.parse::<TenantId>()?;
            if row.expires_at_ms <= now_ms || !tenants.contains(&tenant) {
                files.remove(id)?;
                continue;
            }
            let state = State {
                revoked: row.revoked,
                revoked_for_good: row.revoked,
                served: row.served.map(|digest| Served { digest, settled: false }),
                ciphertext_expires_at_ms: row.ciphertext.as_ref().map(|kept| kept.expires_at_ms),
                ..State::default()
            };
            let (profile, expires_at_ms) = (row.profile, row.expires_at_ms);
            index.insert(Open { id, tenant, profile, expires_at_ms, state: Mutex::new(state) });
        }
        files.settle()?;
        let (expired, ciphertexts_expired) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { provider, files, index: RwLock::new(index), expired, ciphertexts_expired })
    }

    /// Opens a session for good.
    pub(super) fn insert(&self, new: NewSession<'_>, now_ms: u64) -> Result<()> {
        self.check_room(new.tenant, now_ms)?;
        let row = Row {
            tenant: new.tenant.as_str().to_owned(),
            agent: new.agent.to_owned(),
            profile: new.profile,
            seed: new.key.as_ref().map(|(seed, _)| seed.expose_secret().to_vec()).unwrap_or_default(),
            expires_at_ms: new.expires_at_ms,
            revoked: false,
            served: None,
            ciphertext: None,
        };
        self.files.write(new.id, &row)?;
        self.files.settle()?;
        let hot = new.key.map(|(_, key)| Hot { key: Arc::from(key), used_at_ms: now_ms });
        self.index.write().insert(Open {
            id: new.id,
            tenant: new.tenant.clone(),
            profile: new.profile,
            expires_at_ms: new.expires_at_ms,
            state: Mutex::new(State { hot, ..State::default() }),
        });
        Ok(())
    }

    /// The session `id`, if it is an open one of `tenant`. One that has expired is removed.
    pub(super) fn find(&self, tenant: &TenantId, id: SessionId, now_ms: u64) -> Result<Arc<Open>> {
        let found = self.index.read().sessions.get(&id).filter(|open| open.tenant == *tenant).cloned();
        let open = found.ok_or_else(gone)?;
        if open.expires_at_ms <= now_ms {
            self.expire(&open)?;
            return Err(gone());
        }
        open.state.lock().check()?;
        Ok(open)
    }

    /// The key of a session, expanded.
    pub(super) fn key(&self, open: &Open, now_ms: u64) -> Result<Arc<dyn KemKey>> {
        let mut state = open.state.lock();
        state.check()?;
        if let Some(hot) = &mut state.hot {
            hot.used_at_ms = now_ms;
            return Ok(hot.key.clone());
        }
        let row = self.files.read(open.id)?;
        if row.seed.is_empty() {
            return Err(gone());
        }
        let seed = SecretBytes::new(row.seed.clone());
        let key: Arc<dyn KemKey> = Arc::from(self.provider.kem_key(open.profile.kem(), &seed)?);
        state.hot = Some(Hot { key: key.clone(), used_at_ms: now_ms });
        Ok(key)
    }

    /// Binds the key of a session to the one ciphertext that it serves, and keeps that for the session until
    /// `keep_until_ms`, if that is given. Nothing may come out before [`settle`](Self::settle).
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) when the key serves another.
    pub(super) fn bind(&self, open: &Open, ciphertext: &[u8], keep_until_ms: Option<u64>) -> Result<()> {
        let digest = self.provider.sha256(&[ciphertext]);
        let mut state = open.state.lock();
        state.check()?;
        if state.serves(&digest)? && keep_until_ms.is_none() {
            return Ok(());
        }
        let mut row = self.files.read(open.id)?;
        row.served = Some(digest);
        if let Some(expires_at_ms) = keep_until_ms {
            row.ciphertext = Some(Kept { bytes: ciphertext.to_vec(), expires_at_ms });
        }
        self.files.write(open.id, &row)?;
        state.served = Some(Served { digest, settled: false });
        state.ciphertext_expires_at_ms = keep_until_ms.or(state.ciphertext_expires_at_ms);
        Ok(())
    }

    /// Refuses a session whose key serves a ciphertext already.
    pub(super) fn check_unused(&self, open: &Open) -> Result<()> {
        let state = open.state.lock();
        state.check()?;
        if state.served.is_some() { Err(used()) } else { Ok(()) }
    }

    /// The ciphertext that is kept for a session.
    pub(super) fn kept(&self, open: &Open, now_ms: u64) -> Result<Vec<u8>> {
        let mut state = open.state.lock();
        state.check()?;
        self.drop_ciphertext(open, &mut state, now_ms)?;
        let none = || Error::not_found("no ciphertext is kept for this session, or it has expired");
        if state.ciphertext_expires_at_ms.is_none() {
            return Err(none());
        }
        self.files.read(open.id)?.ciphertext.as_ref().map(|kept| kept.bytes.clone()).ok_or_else(none)
    }

    /// Waits until the bindings of `sessions` survive a loss of power.
    pub(super) fn settle<'a>(&self, sessions: impl Iterator<Item = &'a Arc<Open>> + Clone) -> Result<()> {
        let unsettled = |open: &Arc<Open>| open.state.lock().served.as_ref().is_some_and(|served| !served.settled);
        if !sessions.clone().any(unsettled) {
            return Ok(());
        }
        self.files.settle()?;
        for open in sessions {
            if let Some(served) = &mut open.state.lock().served {
                served.settled = true;
            }
        }
        Ok(())
    }

    /// Ends a session now. Its name is remembered until its credential expires. After a failure nobody is served
    /// either, and it can be called again.
    pub(super) fn revoke(&self, tenant: &TenantId, id: SessionId, now_ms: u64) -> Result<()> {
        let found = self.index.read().sessions.get(&id).filter(|open| open.tenant == *tenant).cloned();
        let open = found.filter(|open| open.expires_at_ms > now_ms).ok_or_else(gone)?;
        let mut state = open.state.lock();
        if state.gone || state.revoked_for_good {
            return Err(gone());
        }
        state.revoked = true;
        state.hot = None;
        state.ciphertext_expires_at_ms = None;
        let mut row = self.files.read(id)?;
        row.revoke();
        self.files.write(id, &row)?;
        self.files.settle()?;
        state.revoked_for_good = true;
        Ok(())
    }

    /// Ends every session of a tenant.
    pub(super) fn forget(&self, tenant: &TenantId) -> Result<()> {
        let sessions: Vec<_> = self.index.read().sessions.values().filter(|o| o.tenant == *tenant).cloned().collect();
        sessions.iter().try_for_each(|open| self.remove(open))?;
        self.files.settle()
    }

    /// Removes what has expired, and lets go of expanded keys that were not used since `idle_before_ms`.
    pub(super) fn purge(&self, now_ms: u64, idle_before_ms: u64) -> Result<()> {
        let sessions: Vec<_> = self.index.read().sessions.values().cloned().collect();
        // One file that cannot be read does not keep the others from being purged.
        let results: Vec<_> = sessions.iter().map(|open| self.purge_one(open, now_ms, idle_before_ms)).collect();
        results.into_iter().collect()
    }

    /// How many sessions are open, revoked ones that are still remembered included.
    pub(super) fn len(&self) -> usize {
        self.index.read().sessions.len()
    }

    fn purge_one(&self, open: &Open, now_ms: u64, idle_before_ms: u64) -> Result<()> {
        if open.expires_at_ms <= now_ms {
            return self.expire(open);
        }
        let mut state = open.state.lock();
        if state.hot.as_ref().is_some_and(|hot| hot.used_at_ms < idle_before_ms) {
            state.hot = None;
        }
        if state.gone { Ok(()) } else { self.drop_ciphertext(open, &mut state, now_ms) }
    }

    fn expire(&self, open: &Open) -> Result<()> {
        self.remove(open)?;
        self.expired.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, open: &Open) -> Result<()> {
        {
            let mut state = open.state.lock();
            if state.gone {
                return Ok(());
            }
            state.hot = None;
            state.revoked = true;
            self.files.remove(open.id)?;
            state.gone = true;
        }
        self.index.write().remove(open);
        Ok(())
    }

    fn drop_ciphertext(&self, open: &Open, state: &mut State, now_ms: u64) -> Result<()> {
        if state.ciphertext_expires_at_ms.is_none_or(|expires_at_ms| expires_at_ms > now_ms) {
            return Ok(());
        }
        let mut row = self.files.read(open.id)?;
        row.ciphertext.zeroize();
        row.ciphertext = None;
        self.files.write(open.id, &row)?;
        self.files.settle()?;
        state.ciphertext_expires_at_ms = None;
        self.ciphertexts_expired.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses when too many sessions are open.
    pub(super) fn check_room(&self, tenant: &TenantId, now_ms: u64) -> Result<()> {
        let full = || {
            let index = self.index.read();
            index.sessions.len() >= limits::SESSIONS
                || index.per_tenant.get(tenant).is_some_and(|open| *open >= limits::SESSIONS_PER_TENANT)
        };
        if full() {
            self.purge(now_ms, 0)?;
        }
        if full() {
            return Err(Error::new(ErrorKind::Unavailable, "too many sessions are open")
                .with_remedy("wait until some have expired, and ask for shorter ones"));
        }
        Ok(())
    }
}
