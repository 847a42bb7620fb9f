//! A few sessions of one token that all threads share, and what brings them back after the token was away.
//!
//! Sessions are opened at the start and stay open: opening or closing one waits, in many tokens, for everything else
//! that runs. The login is the token's, not a session's; the PIN is sent again only after the token has forgotten it,
//! and never again once it was refused.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::errors::{Failure, explain, is_pin_refused, pin_refused};
use super::lease::{Cure, Lease};
use super::{TokenConfig, module};
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Passphrase;
use crate::limits;

/// The sessions of one token.
pub struct Sessions {
    config: TokenConfig,
    pin: Passphrase,
    module: Pkcs11,
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    slot: Slot,
    idle: Vec<Session>,
    /// Sessions that were opened together.
    open: usize,
    /// Sessions that are in use.
    busy: usize,
    /// Whether a thread is bringing the token back: no session is lent until it has.
    recovering: bool,
    seen: Seen,
    /// Where keys are, by their CKA_ID, since searching takes longer than using.
    handles: HashMap<[u8; 16], ObjectHandle>,
    /// Threads that are destroying keys.
    removing: usize,
    /// Goes up when one begins or ends: tokens give the handle of a destroyed key to the next one that is made.
    removals: u64,
    pin_refused: bool,
}

/// How often the token was brought back.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Goes up when all sessions are opened anew: older ones are of no use.
    generation: u64,
    /// Goes up when the token has forgotten who we are: its private objects have other handles then.
    logins: u64,
}

/// A destruction of keys that has begun.
pub struct Removing<'a>(&'a Sessions);

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.removing = state.removing.saturating_sub(1);
        state.removals += 1;
    }
}

impl Sessions {
    /// Finds the token, opens its sessions and logs in.
    pub fn open(config: TokenConfig, pin: Passphrase) -> Result<Self> {
        let module = module::load(&config.module)?;
        let slot = module::find_slot(&module, &config)?;
        let state = State {
            slot,
            idle: Vec::new(),
            open: 0,
            busy: 0,
            recovering: false,
            seen: Seen::default(),
            handles: HashMap::new(),
            removing: 0,
            removals: 0,
            pin_refused: false,
        };
        let sessions = Self { config, pin, module, state: Mutex::new(state), freed: Condvar::new() };
        sessions.reopen(&mut sessions.state.lock())?;
        Ok(sessions)
    }

    /// The library, and the slot where the token was seen last.
    pub fn token(&self) -> (&Pkcs11, Slot) {
        (&self.module, self.state.lock().slot)
    }

    /// Runs `work` in a session. It runs a second time when the token had ended the session or forgotten a handle, so
    /// it has to bear that; `doing` names it in errors.
    pub fn run<T>(&self, doing: &'static str, work: impl Fn(&Lease<'_>) -> Result<T, Failure>) -> Result<T> {
        match self.attempt(&work)? {
            Ok(value) => Ok(value),
            Err((failure, Cure::None)) => Err(failure.into_error(doing)),
            Err(_) => self.attempt(&work)?.map_err(|(failure, _)| failure.into_error(doing)),
        }
    }

    /// The key with this CKA_ID, unless the token was brought back since `seen`.
    pub fn known(&self, seen: Seen, id: [u8; 16]) -> Option<ObjectHandle> {
        let state = self.state.lock();
        state.handles.get(&id).copied().filter(|_| state.seen == seen)
    }

    /// How many destructions of keys have begun or ended.
    pub fn removals(&self) -> u64 {
        self.state.lock().removals
    }

    /// Remembers where the key with this CKA_ID is, unless it may have been destroyed since `removals` were counted.
    pub fn remember(&self, seen: Seen, removals: u64, id: [u8; 16], handle: ObjectHandle) {
        let mut state = self.state.lock();
        if state.seen != seen || state.removals != removals || state.removing > 0 {
            return;
        }
        if state.handles.len() >= limits::TOKEN_HANDLES {
            state.handles.clear();
        }
        state.handles.insert(id, handle);
    }

    /// Forgets where the key with this CKA_ID is; until what comes back is dropped, no place of any key is remembered.
    pub fn removing(&self, id: [u8; 16]) -> Removing<'_> {
        let mut state = self.state.lock();
        state.handles.remove(&id);
        state.removing += 1;
        state.removals += 1;
        Removing(self)
    }

    /// Takes a session back, unless it is of no use any more.
    pub fn give_back(&self, session: Option<Session>, seen: Seen) {
        let mut state = self.state.lock();
        state.busy = state.busy.saturating_sub(1);
        let generation = state.seen.generation;
        state.idle.extend(session.filter(|_| seen.generation == generation));
        // Who waits for the last session to come back is not the one who waits for any.
        if state.recovering {
            self.freed.notify_all();
        } else {
            self.freed.notify_one();
        }
    }

    /// The inner result says what `work` said, and what was done about its failure.
    fn attempt<T>(
        &self,
        work: &impl Fn(&Lease<'_>) -> Result<T, Failure>,
    ) -> Result<std::result::Result<T, (Failure, Cure)>> {
        let lease = self.lease()?;
        let failure = match work(&lease) {
            Ok(value) => return Ok(Ok(value)),
            Err(failure) => failure,
        };
        let (cure, seen) = lease.end(&failure);
        match cure {
            Cure::None => {}
            Cure::FindAgain => self.state.lock().handles.clear(),
            Cure::LogIn | Cure::Reopen => self.recover(cure, seen)?,
        }
        Ok(Err((failure, cure)))
    }

    fn lease(&self) -> Result<Lease<'_>> {
        let deadline = deadline();
        let mut state = self.state.lock();
        loop {
            if state.pin_refused {
                return Err(pin_refused());
            }
            if !state.recovering {
                if state.open == 0 {
                    self.reopen(&mut state)?;
                }
                if let Some(session) = state.idle.pop() {
                    state.busy += 1;
                    return Ok(Lease::new(self, session, state.seen));
                }
            }
            self.wait(&mut state, deadline)?;
        }
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, deadline: Instant) -> Result<()> {
        if self.freed.wait_until(state, deadline).timed_out() {
            return Err(Error::new(ErrorKind::Busy, "every session of the token is in use")
                .with_remedy("retry later, or spread the load over more tokens"));
        }
        Ok(())
    }

    /// Logs in again or opens the sessions anew, unless another thread has since `seen`.
    ///
    /// Waits until nothing runs: a login beside other operations locks up some tokens, and what still runs in an old
    /// session must not meet a new one of the same number.
    fn recover(&self, cure: Cure, seen: Seen) -> Result<()> {
        let deadline = deadline();
        let mut state = self.state.lock();
        while state.recovering {
            self.wait(&mut state, deadline)?;
        }
        if state.seen != seen {
            return Ok(());
        }
        state.recovering = true;
        while state.busy > 0 {
            // What does not end is taken to hang on a token that is gone.
            if self.freed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let recovered = match (cure, state.idle.pop()) {
            (Cure::LogIn, Some(session)) => {
                let logged_in = self.log_in(&mut state, &session);
                state.idle.push(session);
                logged_in
            }
            _ => self.reopen(&mut state),
        };
        state.recovering = false;
        self.freed.notify_all();
        recovered
    }

    /// Opens every session anew. The old ones are left as they are: a token that was restarted may have given their
    /// numbers to others, and closing those would be worse.
    fn reopen(&self, state: &mut MutexGuard<'_, State>) -> Result<()> {
        state.idle.clear();
        state.open = 0;
        state.seen.generation += 1;
        module::initialize(&self.module)?;
        state.slot = module::find_slot(&self.module, &self.config)?;
        while state.idle.len() < limits::TOKEN_SESSIONS {
            match self.module.open_rw_session_no_drop(state.slot) {
                Ok(session) => state.idle.push(session),
                // Fewer will do.
                Err(TokenError::Pkcs11(RvError::SessionCount, _)) if !state.idle.is_empty() => break,
                Err(e) => return Err(self.abandon(state, explain("opening a session", e))),
            }
        }
        let first = state.idle.pop().ok_or_else(|| Error::internal("a token without sessions"))?;
        let logged_in = self.log_in(state, &first);
        state.idle.push(first);
        match logged_in {
            Ok(()) => {
                state.open = state.idle.len();
                Ok(())
            }
            Err(e) => Err(self.abandon(state, e)),
        }
    }

    /// Closes what [`reopen`](Self::reopen) had opened, and passes `error` on.
    fn abandon(&self, state: &mut MutexGuard<'_, State>, error: Error) -> Error {
        for session in state.idle.drain(..) {
            // It was opened a moment ago; when the token does not know it any more, that is what was wanted.
            let _ = session.close();
        }
        error
    }

    fn log_in(&self, state: &mut MutexGuard<'_, State>, session: &Session) -> Result<()> {
        if state.pin_refused {
            return Err(pin_refused());
        }
        state.handles.clear();
        state.seen.logins += 1;
        let pin = RawAuthPin::new(Box::new(self.pin.expose_secret().to_vec()));
        match session.login_with_raw(UserType::User, &pin) {
            Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(e) => {
                state.pin_refused = is_pin_refused(&e);
                Err(explain("the login", e))
            }
        }
    }
}

impl Drop for Sessions {
    /// Closes the sessions, which logs out when nobody else in this process uses the token.
    fn drop(&mut self) {
        for session in self.state.get_mut().idle.drain(..) {
            // Nobody is left to hear of a failure.
            let _ = session.close();
        }
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(limits::TOKEN_WAIT_MS)
}
