//! A session lent for one operation: where keys are found in it, and what would help after a failure.

use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, SessionState};

use super::errors::Failure;
use super::session::{Removing, Seen, Sessions};
use crate::error::{Error, Result};

/// A session for one operation, given back when dropped.
pub struct Lease<'a> {
    sessions: &'a Sessions,
    session: Option<Session>,
    seen: Seen,
    lost: bool,
}

impl<'a> Lease<'a> {
    /// Lends `session`, which is one of those `seen`.
    pub fn new(sessions: &'a Sessions, session: Session, seen: Seen) -> Self {
        Self { sessions, session: Some(session), seen, lost: false }
    }

    /// Ends the lease after `failure`: what is to be done, and for which sessions.
    pub fn end(mut self, failure: &Failure) -> (Cure, Seen) {
        let cure = self.cure(failure);
        self.lost = cure == Cure::Reopen;
        (cure, self.seen)
    }
    /// The session.
    pub fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or_else(|| Error::internal("a session that was given back"))
    }

    /// The private or secret key with this CKA_ID, which `find` looks for when it is not known yet.
    pub fn handle<E>(&self, id: [u8; 16], find: impl FnOnce() -> Result<ObjectHandle, E>) -> Result<ObjectHandle, E> {
        if let Some(handle) = self.sessions.known(self.seen, id) {
            return Ok(handle);
        }
        let removals = self.sessions.removals();
        let handle = find()?;
        self.sessions.remember(self.seen, removals, id, handle);
        Ok(handle)
    }

    /// Forgets where the key with this CKA_ID is, which is going to be destroyed before what comes back is dropped.
    pub fn removing(&self, id: [u8; 16]) -> Removing<'a> {
        self.sessions.removing(id)
    }

    /// What would help against `failure`. Tokens have no common code for "not logged in", so the session is asked.
    fn cure(&self, failure: &Failure) -> Cure {
        if failure.ends_session() {
            return Cure::Reopen;
        }
        match self.session().map(Session::get_session_info) {
            Ok(Ok(info)) if info.session_state() == SessionState::RwUser => match failure.ends_object() {
                true => Cure::FindAgain,
                false => Cure::None,
            },
            Ok(Ok(_)) => Cure::LogIn,
            _ => Cure::Reopen,
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let session = self.session.take().filter(|_| !self.lost);
        self.sessions.give_back(session, self.seen);
    }
}

/// What is to be done after a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// Nothing: it would fail again.
    None,
    /// Look for the key anew.
    FindAgain,
    /// Log in, since the token has forgotten us.
    LogIn,
    /// Open the sessions, since they are gone.
    Reopen,
}
