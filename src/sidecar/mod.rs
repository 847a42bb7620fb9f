//! The decrypt sidecar: opens for an inference node just what a capability token names, and never gives a key away.
//!
//! ```text
//! size → token verified (or remembered) → time → rate → holder's proof → keys at hand → revocation
//!      → use counted, on disk → places opened → records fetched, if need be → opened → audited → answered
//! ```
//! [`Sidecar`] is the service without its transport; [`routes`] has it over gRPC and REST, [`Client`] is the other side.
//! [`crate::token`] makes sure that no step is left out.

mod client;
mod contacts;
mod convert;
mod grpc;
mod keys;
mod metrics;
mod redeem;
mod rest;
mod throttle;
pub mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audit::{Arrival, AuditSink, EVENT_VERSION, Event, Outcome, What};
use crate::clock::Clock;
use crate::crypto::Provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::certificate::SignerUse;
use crate::keys::kms::{Caller, Kms, Role};
use crate::keys::{DataKeys, VerifiedSigners};
use crate::server::Counts;
use crate::token::{Audience, Contact, Hello, Ledger, OpenedPlace, Revocation, VerifiedTokens, Welcome};
use contacts::Contacts;
use keys::TenantKeys;
use metrics::Metrics;
use throttle::Throttle;

pub use client::{Client, ClientOptions, Redeemed};
pub use redeem::{Output, RedeemRequest, Token, Wanted};
pub use rest::routes;

/// Where records come from that a holder names without bringing them.
pub trait RecordSource: Send + Sync {
    /// The sealed payload of the chunk at `place`, as it is stored.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when it was deleted or written again.
    fn fetch(&self, tenant: &TenantId, place: &OpenedPlace) -> Result<Vec<u8>>;
}

/// How a sidecar runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SidecarOptions {
    /// After how long keys of a tenant that nobody uses are erased from memory, in milliseconds.
    pub idle_ms: u64,
    /// Redeems of one tenant in a second, on average.
    pub tenant_rate: u32,
    /// Redeems of one tenant at a time.
    pub tenant_concurrency: usize,
    /// Whether records are answered in clear to other machines too: over TLS alone.
    pub clear_over_tls: bool,
}

impl Default for SidecarOptions {
    /// A minute; 100 000; 256; no.
    fn default() -> Self {
        Self { idle_ms: 60_000, tenant_rate: 100_000, tenant_concurrency: 256, clear_over_tls: false }
    }
}

/// What a sidecar works with.
pub struct SidecarParts {
    /// The key service, for signers.
    pub kms: Arc<dyn Kms>,
    /// The key service, for data keys.
    pub keys: Arc<dyn DataKeys>,
    /// The implementation of the algorithms.
    pub provider: &'static dyn Provider,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where every redeem and every refusal is written down.
    pub audit: Arc<dyn AuditSink>,
    /// Uses and revocations.
    pub ledger: Ledger,
    /// What tokens call this sidecar.
    pub audience: Audience,
    /// Where named records come from; without, they have to be brought.
    pub source: Option<Arc<dyn RecordSource>>,
    /// How it runs.
    pub options: SidecarOptions,
}

/// A decrypt sidecar. Calls wait, for the key service or a disk: asynchronous callers go through `spawn_blocking`.
pub struct Sidecar {
    provider: &'static dyn Provider,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditSink>,
    ledger: Ledger,
    audience: Audience,
    source: Option<Arc<dyn RecordSource>>,
    options: SidecarOptions,
    signers: VerifiedSigners,
    tokens: VerifiedTokens,
    contacts: Contacts,
    keys: TenantKeys,
    throttle: Throttle,
    metrics: Metrics,
}

impl Sidecar {
    /// A sidecar of these parts.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a rate or concurrency of 0.
    pub fn new(parts: SidecarParts) -> Result<Self> {
        let SidecarParts { kms, keys, provider, clock, audit, ledger, audience, source, options } = parts;
        Ok(Self {
            signers: VerifiedSigners::new(kms, clock.clone(), SignerUse::Tokens),
            tokens: VerifiedTokens::new(),
            contacts: Contacts::default(),
            keys: TenantKeys::new(keys, provider, options.idle_ms),
            throttle: Throttle::new(&options)?,
            metrics: Metrics::default(),
            provider,
            clock,
            audit,
            ledger,
            audience,
            source,
            options,
        })
    }

    /// What tokens call it.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Agrees on keys with a holder.
    pub fn contact(&self, caller: &Caller, hello: &Hello) -> Result<Welcome> {
        may(caller, Role::Node)?;
        let now_ms = self.clock.now_ms();
        let (contact, welcome) = Contact::accept(self.provider, &self.audience, hello, now_ms)?;
        self.contacts.insert(caller.service(), contact, now_ms)?;
        self.metrics.contacts.inc();
        Ok(welcome)
    }

    /// Revokes at once, for good.
    pub fn revoke(&self, caller: &Caller, revocation: &Revocation) -> Result<()> {
        may(caller, Role::Admin)?;
        check_scope(caller, revocation)?;
        let what = self.revocation_event(revocation);
        // It has to hold even when that cannot be written down: the last word decides.
        drop(self.record(caller, what.clone(), Outcome::Begun));
        let revoked = self.ledger.revoke(revocation, self.clock.now_ms());
        if let Revocation::Tenant(tenant) = revocation {
            self.tokens.forget_tenant(tenant);
            self.keys.forget(tenant);
        }
        self.record(caller, what, Outcome::of(&revoked))?;
        revoked
    }

    /// Takes a revocation back, and says whether there was one.
    pub fn lift(&self, caller: &Caller, revocation: &Revocation) -> Result<bool> {
        may(caller, Role::Admin)?;
        check_scope(caller, revocation)?;
        let What::TokensRevoked { kind, id } = self.revocation_event(revocation) else {
            return Err(Error::internal("a revocation without its event"));
        };
        let what = What::RevocationLifted { kind, id };
        self.record(caller, what.clone(), Outcome::Begun)?;
        let lifted = self.ledger.lift(revocation);
        self.record(caller, what, Outcome::of(&lifted))?;
        lifted
    }

    /// What is revoked, and since when; of the tenants that the caller works for.
    pub fn revocations(&self, caller: &Caller) -> Result<Vec<(Revocation, u64)>> {
        may(caller, Role::Admin)?;
        let all = self.ledger.revocations().into_iter();
        Ok(all.filter(|(revocation, _)| check_scope(caller, revocation).is_ok()).collect())
    }

    /// Lets go of what has expired or is not used any more. To be called every few seconds.
    pub fn sweep(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        self.contacts.purge(now_ms);
        self.keys.drop_idle(now_ms);
        self.throttle.shrink();
        self.ledger.purge(now_ms)
    }

    /// Whether it takes tokens already: a new ledger does from the next second on.
    pub fn is_ready(&self) -> bool {
        self.clock.now_ms() >= self.ledger.usable_from_ms()
    }

    /// The metrics, in the text form of OpenMetrics 1.0.
    pub fn metrics(&self) -> String {
        self.metrics.render(self.contacts.len(), self.keys.len(), self.ledger.len())
    }

    /// Audits a peer that has connected, or was refused.
    pub fn peer_arrived(&self, arrival: &Arrival) -> Result<()> {
        self.audit.record(&arrival.event(self.clock.now_ms()))
    }

    /// What its server counts: part of the metrics.
    pub fn connections(&self) -> &Arc<Counts> {
        self.metrics.connections()
    }

    /// Writes an event into the audit log.
    fn record(&self, caller: &Caller, what: What, outcome: Outcome) -> Result<()> {
        self.record_of(caller, None, what, outcome)
    }

    fn record_of(&self, caller: &Caller, tenant: Option<&TenantId>, what: What, outcome: Outcome) -> Result<()> {
        self.audit.record(&Event {
            v: EVENT_VERSION,
            at_ms: self.clock.now_ms(),
            service: caller.service().to_owned(),
            role: Some(caller.role()),
            operation: None,
            tenant: tenant.map(|tenant| self.ledger.pseudonym(tenant)),
            what,
            outcome,
        })
    }

    fn revocation_event(&self, revocation: &Revocation) -> What {
        let (kind, id) = match revocation {
            Revocation::Token(id) => ("token", id.to_string()),
            Revocation::Holder(id) => ("holder", id.to_string()),
            Revocation::Tenant(id) => ("tenant", self.ledger.pseudonym(id)),
        };
        What::TokensRevoked { kind, id }
    }
}

/// Refuses to revoke for a tenant that the caller does not work for.
fn check_scope(caller: &Caller, revocation: &Revocation) -> Result<()> {
    let may = match revocation {
        Revocation::Tenant(tenant) => caller.works_for(tenant),
        // Nobody knows beforehand whose tokens a holder may get.
        Revocation::Holder(_) => caller.works_for_all(),
        Revocation::Token(_) => true,
    };
    if may {
        return Ok(());
    }
    let words = format!("service `{}` does not work for everybody whom this is about", caller.service());
    Err(Error::new(ErrorKind::Denied, words).with_remedy("let a service do it whose scope is large enough"))
}

/// Refuses a caller of another role.
fn may(caller: &Caller, role: Role) -> Result<()> {
    if caller.role() == role {
        return Ok(());
    }
    let (service, is) = (caller.service(), caller.role());
    Err(Error::new(ErrorKind::Denied, format!("service `{service}` is a {is} and may not ask a sidecar for this"))
        .with_remedy(format!("use a service with the role {role}")))
}
