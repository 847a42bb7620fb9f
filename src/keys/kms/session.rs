//! Open sessions in memory: what of one changes, what it may still do, and how they are found.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::session_files::gone;
use crate::crypto::KemKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SessionId, TenantId};
use crate::keys::Profile;

/// One session.
pub(super) struct Open {
    pub(super) id: SessionId,
    pub(super) tenant: TenantId,
    pub(super) profile: Profile,
    pub(super) expires_at_ms: u64,
    pub(super) state: Mutex<State>,
}

/// What of a session changes. What is on disk changes first.
#[derive(Default)]
pub(super) struct State {
    /// Nobody is served any more.
    pub(super) revoked: bool,
    /// That is known to survive a loss of power.
    pub(super) revoked_for_good: bool,
    /// Its file is removed, or about to be.
    pub(super) gone: bool,
    pub(super) served: Option<Served>,
    pub(super) ciphertext_expires_at_ms: Option<u64>,
    pub(super) hot: Option<Hot>,
}

pub(super) struct Served {
    pub(super) digest: [u8; 32],
    /// Whether that is known to survive a loss of power.
    pub(super) settled: bool,
}

/// The expanded key, kept for a while.
pub(super) struct Hot {
    pub(super) key: Arc<dyn KemKey>,
    pub(super) used_at_ms: u64,
}

/// All sessions, by name, and how many each tenant has.
#[derive(Default)]
pub(super) struct Index {
    pub(super) sessions: HashMap<SessionId, Arc<Open>>,
    pub(super) per_tenant: HashMap<TenantId, usize>,
}

impl State {
    /// Refuses a session that has ended.
    pub(super) fn check(&self) -> Result<()> {
        if self.revoked || self.gone { Err(gone()) } else { Ok(()) }
    }

    /// Whether the key serves just this ciphertext already; an error when it serves another.
    pub(super) fn serves(&self, digest: &[u8; 32]) -> Result<bool> {
        match &self.served {
            None => Ok(false),
            Some(served) if served.digest == *digest => Ok(true),
            Some(_) => Err(used()),
        }
    }
}

impl Index {
    pub(super) fn insert(&mut self, open: Open) {
        *self.per_tenant.entry(open.tenant.clone()).or_default() += 1;
        self.sessions.insert(open.id, Arc::new(open));
    }

    pub(super) fn remove(&mut self, open: &Open) {
        if self.sessions.remove(&open.id).is_some()
            && let Some(count) = self.per_tenant.get_mut(&open.tenant)
        {
            *count -= 1;
            if *count == 0 {
                self.per_tenant.remove(&open.tenant);
            }
        }
    }
}

/// A key that serves one ciphertext serves no other.
pub(super) fn used() -> Error {
    Error::new(ErrorKind::Conflict, "the session's key serves another ciphertext already")
        .with_remedy("open another session: every ciphertext needs one of its own")
}
