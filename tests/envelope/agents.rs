//! Agents with an interceptor each, over one key service.

use std::sync::Arc;

use strongroom::audit::{InMemory, Outcome, What};
use strongroom::crypto::default_provider;
use strongroom::envelope::{Interceptor, InterceptorOptions, Invitation, Kind, Message, Peer, Received, Refusal};
use strongroom::keys::Profile;
use strongroom::keys::kms::Role;
use strongroom::{Error, ErrorKind, Result, TenantId};

use super::world::{World, patiently, tenant_of};

/// An agent.
pub struct Agent {
    pub interceptor: Arc<Interceptor>,
    pub audit: Arc<InMemory>,
}

impl Agent {
    pub fn new(world: &World, tenant: &TenantId, name: &str) -> Self {
        Self::with(world, tenant, name, InterceptorOptions::default())
    }

    pub fn with(world: &World, tenant: &TenantId, name: &str, options: InterceptorOptions) -> Self {
        let audit = Arc::new(InMemory::default());
        let interceptor = Interceptor::new(
            Arc::new(world.of(Role::Agent, tenant)),
            default_provider(),
            Arc::new(world.clock.clone()),
            audit.clone(),
            tenant.clone(),
            name.parse().unwrap(),
            options,
        );
        Self { interceptor: Arc::new(interceptor), audit }
    }

    /// Waits for the pool of session keys, as a caller should.
    pub fn invite(&self) -> Invitation {
        patiently(|| self.interceptor.invite()).unwrap()
    }

    pub fn connect(&self, to: &Agent) -> Peer {
        self.interceptor.connect(&to.invite()).unwrap()
    }

    pub fn send(&self, peer: &Peer, payload: &[u8]) -> Vec<u8> {
        self.send_as(peer, Kind::Message, payload)
    }

    pub fn send_as(&self, peer: &Peer, kind: Kind, payload: &[u8]) -> Vec<u8> {
        patiently(|| self.interceptor.send(peer, Message { kind, correlation: b"", payload })).unwrap()
    }

    pub fn receive(&self, envelope: &[u8]) -> Result<Received> {
        self.interceptor.receive(envelope)
    }

    /// Why the agent refused what it refused, oldest first.
    pub fn reasons(&self) -> Vec<Refusal> {
        let reason = |event: &strongroom::audit::Event| match event.what {
            What::EnvelopeRefused { reason } if event.outcome == Outcome::Refused => Some(reason),
            _ => None,
        };
        self.audit.events().iter().filter_map(reason).collect()
    }

    /// The envelope is refused, for `reason` in the audit log, and in the words of every refusal outside.
    pub fn refuses(&self, envelope: &[u8], reason: Refusal, what: &str) {
        let before = self.reasons().len();
        let refused = self.receive(envelope).err().unwrap_or_else(|| panic!("{what} was received"));
        assert_eq!(said(&refused), said_always(), "{what}");
        assert_eq!(self.reasons()[before..], [reason], "{what}");
    }
}

/// What the outside learns.
pub fn said(error: &Error) -> (ErrorKind, String, Option<String>, bool) {
    let source = std::error::Error::source(error).is_some();
    (error.kind(), error.to_string(), error.remedy().map(str::to_owned), source)
}

/// What the outside learns of every refusal.
fn said_always() -> (ErrorKind, String, Option<String>, bool) {
    let remedy = "have it sent anew, in a new session; the receiver's audit log says why it was refused";
    (ErrorKind::Denied, "the envelope is refused".to_owned(), Some(remedy.to_owned()), false)
}

/// Two agents of one tenant.
pub fn pair(world: &World, profile: Profile) -> (Agent, Agent) {
    let tenant = tenant_of(profile);
    (Agent::new(world, &tenant, "planner"), Agent::new(world, &tenant, "searcher"))
}

/// Options that let an agent deal with `tenant` too.
pub fn dealing_with(tenant: &TenantId) -> InterceptorOptions {
    InterceptorOptions { tenants: [tenant.clone()].into(), ..InterceptorOptions::default() }
}

/// The payload of what was received.
pub fn payload(received: Result<Received>) -> Vec<u8> {
    received.unwrap().payload().expose_secret().to_vec()
}
