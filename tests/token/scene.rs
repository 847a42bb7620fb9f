//! A tenant with a signer, a holder in contact with a sidecar, and sealed records: everything that a redeem needs.

use std::sync::Arc;

use strongroom::TenantId;
use strongroom::crypto::{Provider, default_provider};
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{Handle, Kms as _, Role};
use strongroom::keys::{Keyring, Profile, Signer, Signers, VerifiedSigner};
use strongroom::token::{
    Ask, Asked, Audience, Authorized, Claims, Contact, Digest, Form, HandoffRecord, Holder, HolderContact, Ledger,
    MintRequest, Opened, Operation, Proof, Refusal, Spent, Stop, Token, Unverified, VerifiedToken, mint, open,
    open_place, seal_context,
};

use crate::mem_kv::MemKv;
use crate::world::{NOW_MS, World, agent, tenant_of};

pub const TEXT: &[u8] = b"what the model was told";
/// When the ledger was opened: well before any token is minted.
const OPENED_MS: u64 = NOW_MS - 60_000;

pub fn provider() -> &'static dyn Provider {
    default_provider()
}

pub struct Scene {
    pub world: World,
    pub tenant: TenantId,
    pub signer: Arc<Signer>,
    pub believed: VerifiedSigner,
    pub keyring: Keyring,
    pub audience: Audience,
    pub holder: Holder,
    pub met: HolderContact,
    pub contact: Contact,
    pub kv: Arc<MemKv>,
    pub ledger: Ledger,
    pub records: Vec<HandoffRecord>,
}

impl Scene {
    pub fn new(profile: Profile) -> Self {
        let world = World::new();
        let tenant = tenant_of(profile);
        let store = world.of(Role::Store, &tenant);
        let signer = signer(&world, &store, &tenant, SignerUse::Tokens);
        let believed = store.believe_signer(&tenant, SignerUse::Tokens, signer.chain()).unwrap();
        let keyring = Keyring::open(&store, provider(), &tenant).unwrap();
        let records = (0..3).map(|_| seal_context(&keyring, TEXT).unwrap()).collect();
        let audience: Audience = "sidecar-1".parse().unwrap();
        let holder = Holder::generate(provider(), profile).unwrap();
        let (met, contact) = meet(&holder, &audience);
        let kv = Arc::new(MemKv::default());
        let ledger = Ledger::open(kv.clone(), "one", OPENED_MS).unwrap();
        Self { world, tenant, signer, believed, keyring, audience, holder, met, contact, kv, ledger, records }
    }

    pub fn digests(&self) -> Vec<Digest> {
        self.records.iter().map(|record| record.digest(provider(), &self.tenant)).collect()
    }

    /// A token for all records, as `change` has it.
    pub fn mint(&self, max_uses: u32) -> Token {
        let holder = self.holder.id().unwrap();
        let request = MintRequest {
            audience: &self.audience,
            holder: &holder,
            operation: Operation::Decrypt,
            records: &self.digests(),
            max_uses,
            life_ms: 300_000,
        };
        mint(provider(), &self.signer, &request, NOW_MS).unwrap()
    }

    pub fn claims(&self) -> Claims {
        self.mint(1).claims().clone()
    }

    pub fn verify(&self, bytes: &[u8], now_ms: u64) -> Result<Arc<VerifiedToken>, Refusal> {
        Unverified::read(bytes)?.verify(provider(), &self.believed, &self.audience, now_ms).map(Arc::new)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.digests().into_iter().map(|digest| Asked { digest, membership: None }).collect()
    }

    pub fn prove(&self, token: &VerifiedToken, asked: &[Asked]) -> Proof {
        self.met.prove(token.digest(), asked, Form::Clear)
    }

    pub fn authorize(&self, token: &Arc<VerifiedToken>, asked: &[Asked]) -> Result<Authorized, Refusal> {
        self.check(token, asked, &self.prove(token, asked))
    }

    pub fn check(&self, token: &Arc<VerifiedToken>, asked: &[Asked], proof: &Proof) -> Result<Authorized, Refusal> {
        self.contact.check(provider(), token, Ask { records: asked, form: Form::Clear }, proof, NOW_MS)
    }

    /// Counts a use of a good token.
    pub fn spend(&self, bytes: &[u8]) -> Result<Spent, Stop> {
        let token = self.verify(bytes, NOW_MS)?;
        self.ledger.spend(self.authorize(&token, &self.asked())?)
    }

    pub fn open(&self, spent: &Spent, index: usize, record: &HandoffRecord) -> Result<Opened, Stop> {
        let place = open_place(spent, &self.keyring, &record.place)?;
        open(spent, index, &self.keyring, &place, record)
    }
}

pub fn meet(holder: &Holder, audience: &Audience) -> (HolderContact, Contact) {
    let hello = holder.hello().unwrap();
    let (contact, welcome) = Contact::accept(provider(), audience, &hello, NOW_MS).unwrap();
    (holder.meet(audience, &hello, &welcome).unwrap(), contact)
}

pub fn signer(world: &World, kms: &Handle, tenant: &TenantId, purpose: SignerUse) -> Arc<Signer> {
    let clock = Arc::new(world.clock.clone());
    Signers::new(Arc::new(kms.clone()), provider(), clock, agent(), purpose).of(tenant).unwrap()
}

/// Asserts why it stopped.
#[track_caller]
pub fn refused<T>(result: Result<T, impl Into<Stop>>, why: Refusal) {
    match result.map(|_| ()).map_err(Into::into) {
        Err(Stop::Refused(refusal)) => assert_eq!(refusal, why),
        Err(Stop::Failed(e)) => panic!("{e} instead of {why}"),
        Ok(()) => panic!("not refused for {why}"),
    }
}
