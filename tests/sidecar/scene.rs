//! A sidecar over a key service in this process, a store that mints, and holders.

use std::sync::Arc;

use strongroom::audit::{AuditSink, InMemory};
use strongroom::crypto::default_provider;
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{Caller, Role, Scope};
use strongroom::keys::{Keyring, Profile, Signer, Signers};
use strongroom::sidecar::{Output, RecordSource, RedeemRequest, Sidecar, SidecarOptions, SidecarParts, Token, Wanted};
use strongroom::token::{
    Audience, Form, HandoffRecord, Holder, HolderContact, HolderId, Ledger, MintRequest, Operation, mint, seal_context,
};
use strongroom::{Result, TenantId};

use crate::mem_kv::MemKv;
use crate::world::{NOW_MS, World, agent, tenant_of};

pub const TEXT: &[u8] = b"what the model was told, and nobody else";

pub struct Scene {
    pub world: World,
    pub tenant: TenantId,
    pub signer: Arc<Signer>,
    pub keyring: Keyring,
    pub kv: Arc<MemKv>,
    pub audit: Arc<InMemory>,
    pub sidecar: Arc<Sidecar>,
    pub audience: Audience,
    pub holder: Holder,
    pub met: HolderContact,
}

pub fn node() -> Caller {
    Caller::new("node-1", Role::Node, Scope::All)
}

pub fn admin() -> Caller {
    Caller::new("operator", Role::Admin, Scope::All)
}

impl Scene {
    pub fn new(profile: Profile) -> Self {
        Self::with(profile, SidecarOptions::default(), None)
    }

    pub fn with(profile: Profile, options: SidecarOptions, source: Option<Arc<dyn RecordSource>>) -> Self {
        let world = World::new();
        let tenant = tenant_of(profile);
        let (store, provider) = (world.of(Role::Store, &tenant), default_provider());
        let clock = Arc::new(world.clock.clone());
        let signers = Signers::new(Arc::new(store.clone()), provider, clock.clone(), agent(), SignerUse::Tokens);
        let signer = signers.of(&tenant).unwrap();
        let keyring = Keyring::open(&store, provider, &tenant).unwrap();
        let (kv, audit) = (Arc::new(MemKv::default()), Arc::new(InMemory::default()));
        let audience: Audience = "sidecar-1".parse().unwrap();
        let sidecar = sidecar(&world, &kv, audit.clone(), &audience, (options, source));
        let holder = Holder::generate(provider, profile).unwrap();
        let met = meet(&sidecar, &holder);
        Self { world, tenant, signer, keyring, kv, audit, sidecar, audience, holder, met }
    }

    /// The same with another process over the same ledger.
    pub fn restart(self) -> Self {
        let with = (SidecarOptions::default(), None);
        let sidecar = sidecar(&self.world, &self.kv, self.audit.clone(), &self.audience, with);
        Self { sidecar, ..self }
    }

    pub fn seal(&self, count: usize) -> Vec<HandoffRecord> {
        (0..count).map(|_| seal_context(&self.keyring, TEXT).unwrap()).collect()
    }

    pub fn mint(&self, records: &[HandoffRecord], max_uses: u32) -> Vec<u8> {
        self.mint_for(&self.holder.id().unwrap(), records, max_uses)
    }

    pub fn mint_for(&self, holder: &HolderId, records: &[HandoffRecord], max_uses: u32) -> Vec<u8> {
        let digests: Vec<_> = self.wanted(records).iter().map(|wanted| wanted.asked.digest).collect();
        let (audience, operation) = (&self.audience, Operation::Decrypt);
        let request = MintRequest { audience, holder, operation, records: &digests, max_uses, life_ms: 300_000 };
        mint(default_provider(), &self.signer, &request, NOW_MS).unwrap().as_bytes().to_vec()
    }

    pub fn wanted(&self, records: &[HandoffRecord]) -> Vec<Wanted> {
        Wanted::all(default_provider(), &self.tenant, records)
    }

    pub fn request(&self, token: &[u8], records: &[HandoffRecord], form: Form) -> RedeemRequest {
        let records = self.wanted(records);
        let asked: Vec<_> = records.iter().map(|wanted| wanted.asked.clone()).collect();
        let digest = default_provider().sha256(&[token]);
        let proof = self.met.prove(&digest, &asked, form);
        let token = Token::Whole { bytes: token.to_vec(), issuer: self.signer.chain().to_vec() };
        RedeemRequest { contact: *self.met.id(), proof, token, form, records }
    }

    pub fn redeem(&self, token: &[u8], records: &[HandoffRecord]) -> Result<Vec<Output>> {
        self.sidecar.redeem(&node(), true, &self.request(token, records, Form::Clear))
    }
}

pub fn sidecar(
    world: &World,
    kv: &Arc<MemKv>,
    audit: Arc<dyn AuditSink>,
    audience: &Audience,
    (options, source): (SidecarOptions, Option<Arc<dyn RecordSource>>),
) -> Arc<Sidecar> {
    let keys = Arc::new(world.anywhere(Role::Sidecar));
    let parts = SidecarParts {
        kms: keys.clone(),
        keys,
        provider: default_provider(),
        clock: Arc::new(world.clock.clone()),
        audit,
        ledger: Ledger::open(kv.clone(), "boot", NOW_MS - 60_000).unwrap(),
        audience: audience.clone(),
        source,
        options,
    };
    Arc::new(Sidecar::new(parts).unwrap())
}

pub fn meet(sidecar: &Sidecar, holder: &Holder) -> HolderContact {
    let hello = holder.hello().unwrap();
    let welcome = sidecar.contact(&node(), &hello).unwrap();
    holder.meet(sidecar.audience(), &hello, &welcome).unwrap()
}
