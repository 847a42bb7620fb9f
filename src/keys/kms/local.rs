//! The key service in this process: a keystore, what is kept ready of it, and handles for identified callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::caller::{Caller, Operation, Permit};
use super::credential::Credentials;
use super::handle::Handle;
use super::pool::{Pool, PoolCounts, PoolOptions};
use super::sessions::Sessions;
use super::tenants::Tenants;
use super::worker::{Signal, Worker};
use crate::audit::{Arrival, AuditSink, Event, Outcome, Reason, What};
use crate::clock::Clock;
use crate::crypto::Kem;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::keystore::Serving;
use crate::keys::policy::Policy;
use crate::keys::{DataKeys as _, Keystore};

/// How the service keeps things. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KmsOptions {
    /// After how long keys that nobody uses are erased from memory.
    pub idle_ms: u64,
    /// How long a ciphertext is kept for its session.
    pub ciphertext_ttl_ms: u64,
    /// How often is looked for what has expired.
    pub sweep_ms: u64,
    /// The session keys that are made ahead.
    pub pool: PoolOptions,
    /// How long keys are used.
    pub policy: Policy,
}

impl Default for KmsOptions {
    /// 15 minutes, 15 minutes, a second.
    fn default() -> Self {
        Self {
            idle_ms: 900_000,
            ciphertext_ttl_ms: 900_000,
            sweep_ms: 1_000,
            pool: PoolOptions::default(),
            policy: Policy::default(),
        }
    }
}

/// The key service in this process. Work goes through [`caller`](Self::caller).
pub struct LocalKms {
    // Threads end before what they use.
    _sweeper: Worker,
    pub(super) pool: Pool,
    pub(super) keystore: Arc<Keystore>,
    pub(super) options: KmsOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) audit: Arc<dyn AuditSink>,
    pub(super) tenants: Arc<Tenants>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) served: Served,
    refusals: Refusals,
    /// Given back last.
    _serving: Serving,
}

/// Items that were answered as asked.
#[derive(Default)]
pub(super) struct Served {
    pub(super) encapsulated: AtomicU64,
    pub(super) decapsulated: AtomicU64,
    pub(super) signed: AtomicU64,
    pub(super) verified: AtomicU64,
    pub(super) derived: AtomicU64,
}

#[derive(Default)]
struct Refusals {
    cross_tenant: AtomicU64,
    role: AtomicU64,
    other: AtomicU64,
}

/// What the service has done since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KmsCounts {
    /// Requests for a tenant outside the caller's scope.
    pub refused_cross_tenant: u64,
    /// Requests that the caller's role may not make.
    pub refused_role: u64,
    /// Refused for another reason: a key used twice, a credential not believed, no common profile, an unknown peer.
    pub refused_other: u64,
    /// Ciphertexts made.
    pub encapsulated: u64,
    /// Ciphertexts opened.
    pub decapsulated: u64,
    /// Messages signed.
    pub signed: u64,
    /// Signatures found good.
    pub verified: u64,
    /// Data keys derived.
    pub derived: u64,
    /// The pool of session keys.
    pub pool: PoolCounts,
    /// Sessions that are open.
    pub sessions: u64,
    /// Sessions that were removed because they had expired.
    pub sessions_expired: u64,
    /// Kept ciphertexts that were removed because they had expired.
    pub ciphertexts_expired: u64,
    /// Chains whose signatures were checked.
    pub chains_checked: u64,
    /// Chains that had been checked before.
    pub chains_remembered: u64,
    /// Tenants whose keys are kept ready.
    pub tenants_ready: u64,
}

impl LocalKms {
    /// Starts the service over `keystore`: open sessions are open again, and session keys are made for the profiles of
    /// the tenants that there are.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for options that cannot be kept,
    /// [`Busy`](crate::ErrorKind::Busy) while another service works with this keystore,
    /// [`Integrity`](crate::ErrorKind::Integrity) for a session's file that is not what was written.
    pub fn new(
        keystore: Arc<Keystore>,
        options: KmsOptions,
        clock: Arc<dyn Clock>,
        audit: Arc<dyn AuditSink>,
    ) -> Result<Arc<Self>> {
        options.policy.check()?;
        if options.sweep_ms == 0 || options.ciphertext_ttl_ms == 0 {
            return Err(Error::invalid("the key service cannot sweep, or keep ciphertexts, for 0 milliseconds"));
        }
        let serving = keystore.serve()?;
        let tick = Duration::from_millis(options.sweep_ms);
        let provider = keystore.provider();
        let sessions = Arc::new(Sessions::open(keystore.clone(), clock.now_ms())?);
        let tenants = Arc::new(Tenants::new(keystore.clone()));
        let pool = Pool::start(provider, clock.clone(), options.pool, tick)?;
        for tenant in keystore.tenants()? {
            pool.warm(keystore.tenant(&tenant)?.profile.kem());
        }
        let sweep = {
            let (clock, sessions, tenants) = (clock.clone(), sessions.clone(), tenants.clone());
            move |_: &Signal| {
                let now_ms = clock.now_ms();
                let idle_before_ms = now_ms.saturating_sub(options.idle_ms);
                tenants.drop_idle(idle_before_ms);
                // What cannot be removed now is refused all the same, and tried again with the next sweep.
                if let Err(e) = sessions.purge(now_ms, idle_before_ms) {
                    tracing::warn!(error = %e, "sessions could not be purged");
                }
            }
        };
        let sweeper = Worker::start("session-sweep", tick, Arc::new(Signal::default()), sweep)?;
        let credentials = Arc::new(Credentials::new(provider));
        Ok(Arc::new(Self {
            _sweeper: sweeper,
            pool,
            keystore,
            options,
            clock,
            audit,
            tenants,
            sessions,
            credentials,
            served: Served::default(),
            refusals: Refusals::default(),
            _serving: serving,
        }))
    }

    /// The service as `caller` sees it.
    pub fn caller(self: &Arc<Self>, caller: Caller) -> Handle {
        Handle::new(self.clone(), caller)
    }

    /// The keystore.
    pub fn keystore(&self) -> &Arc<Keystore> {
        &self.keystore
    }

    /// Audits a peer that has connected to the service, or counts and audits its refusal.
    pub fn peer_arrived(&self, arrival: &Arrival) -> Result<()> {
        if arrival.is_refused() {
            self.refusals.other.fetch_add(1, Ordering::Relaxed);
        }
        self.audit.record(&arrival.event(self.clock.now_ms()))
    }

    /// Erases what is kept ready of a tenant. Every administrative change does this by itself.
    pub fn forget(&self, tenant: &TenantId) {
        self.tenants.forget(tenant);
    }

    /// What the service has done so far.
    pub fn counts(&self) -> KmsCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KmsCounts {
            refused_cross_tenant: of(&self.refusals.cross_tenant),
            refused_role: of(&self.refusals.role),
            refused_other: of(&self.refusals.other),
            encapsulated: of(&self.served.encapsulated),
            decapsulated: of(&self.served.decapsulated),
            signed: of(&self.served.signed),
            verified: of(&self.served.verified),
            derived: of(&self.served.derived),
            pool: self.pool.counts(),
            sessions: self.sessions.len() as u64,
            sessions_expired: of(&self.sessions.expired),
            ciphertexts_expired: of(&self.sessions.ciphertexts_expired),
            chains_checked: of(&self.credentials.checked),
            chains_remembered: of(&self.credentials.remembered),
            tenants_ready: self.tenants.len() as u64,
        }
    }

    /// How many session keys of `kem` are ready.
    pub fn session_keys_ready(&self, kem: Kem) -> usize {
        self.pool.ready(kem)
    }

    /// The proof that `caller` may do `operation` for `tenant`. A refusal is counted and audited before it is answered.
    pub(super) fn permit(&self, caller: &Caller, operation: Operation, tenant: &TenantId) -> Result<Permit> {
        caller.permit(operation, tenant).or_else(|refusal| {
            let reason = if caller.works_for(tenant) { Reason::Role } else { Reason::Scope };
            self.refused(caller, operation, tenant, reason)?;
            Err(refusal)
        })
    }

    /// Counts and audits a refusal.
    pub(super) fn refused(
        &self,
        caller: &Caller,
        operation: Operation,
        tenant: &TenantId,
        reason: Reason,
    ) -> Result<()> {
        let counter = match reason {
            Reason::Scope => &self.refusals.cross_tenant,
            Reason::Role => &self.refusals.role,
            Reason::SingleUse | Reason::Credential | Reason::Profile | Reason::Peer => &self.refusals.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.record(caller, operation, tenant, What::Refused { reason }, Outcome::Refused)
    }

    /// Writes an event into the audit log.
    pub(super) fn record(
        &self,
        caller: &Caller,
        operation: Operation,
        tenant: &TenantId,
        what: What,
        outcome: Outcome,
    ) -> Result<()> {
        let mut event = Event::new(self.clock.now_ms(), caller.service(), what, outcome);
        event.role = Some(caller.role());
        event.operation = Some(operation);
        self.audit.record(&event.tenant(self.keystore.pseudonym(tenant)))
    }
}
