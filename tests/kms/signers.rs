//! Signers: certified only for who may have one and holds the key, believed only while their session is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use strongroom::audit::{Reason, What};
use strongroom::crypto::{Signature, default_provider};
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{
    Decapsulation, DekRequest, Encapsulated, Handle, KeyAdmin as _, Kms, Recipient, Role, Session, Signed,
    SignerCredential, SignerRequest,
};
use strongroom::keys::{
    Profile, Signer, Signers, TenantRecord, VerifiedSigner, VerifiedSigners, signer_algorithm, signer_proof,
};
use strongroom::secret::{Secret, SecretBytes};
use strongroom::{AgentId, Error, ErrorKind, Result, SessionId, TenantId, limits};

use super::world::{HOUR_MS, NOW_MS, World, agent, other_of, tenant_of};

fn signers(world: &World, kms: Arc<dyn Kms>, purpose: SignerUse) -> Signers {
    Signers::new(kms, default_provider(), Arc::new(world.clock.clone()), agent(), purpose)
}

fn signer(world: &World, tenant: &TenantId, purpose: SignerUse) -> Arc<Signer> {
    signers(world, Arc::new(world.of(Role::Store, tenant)), purpose).of(tenant).unwrap()
}

pub fn request(tenant: &TenantId, purpose: SignerUse, algorithm: Signature) -> SignerRequest {
    let seed = SecretBytes::random(algorithm.seed_len()).unwrap();
    let key = default_provider().signing_key(algorithm, &seed).unwrap();
    let proof = key.sign(b"", &signer_proof(tenant, &agent(), purpose)).unwrap();
    SignerRequest {
        agent: agent(),
        purpose,
        algorithm,
        public_key: key.public_key().to_vec(),
        proof,
        lifetime_ms: HOUR_MS,
    }
}

#[test]
fn what_a_signer_signs_is_believed_in_every_profile_and_use() {
    let world = World::new();
    for profile in Profile::ALL {
        let tenant = tenant_of(profile);
        for purpose in SignerUse::ALL {
            let own = signer(&world, &tenant, purpose);
            assert_eq!((own.algorithm(), own.purpose()), (signer_algorithm(profile), purpose));
            let sidecar = Arc::new(world.of(Role::Sidecar, &tenant));
            let believed = VerifiedSigners::new(sidecar, Arc::new(world.clock.clone()), purpose);
            let verified = believed.believe(&tenant, own.chain()).unwrap();
            assert_eq!((verified.tenant(), verified.profile()), (&tenant, profile));
            assert_eq!((verified.session(), verified.thumbprint()), (own.session(), own.thumbprint()));
            assert_eq!(verified.public_key(), own.public_key());
            let signature = own.sign(b"message").unwrap();
            verified.verify(default_provider(), b"message", &signature).unwrap();
            assert!(verified.verify(default_provider(), b"massage", &signature).is_err());
        }
    }
    let certified = |e: &&strongroom::audit::Event| matches!(e.what, What::SignerCertified { .. });
    assert_eq!(world.audit.events().iter().filter(certified).count(), 12);
}

#[test]
fn only_stores_have_keys_for_tokens() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let asked = |purpose| request(&tenant, purpose, Signature::MlDsa65);
    for (role, tokens, envelopes) in [
        (Role::Store, true, true),
        (Role::Agent, false, true),
        (Role::Sidecar, false, false),
        (Role::Admin, false, false),
        (Role::Reader, false, false),
    ] {
        let kms = world.of(role, &tenant);
        let uses = [(SignerUse::Tokens, tokens), (SignerUse::Envelopes, envelopes), (SignerUse::Actions, envelopes)];
        for (purpose, may) in uses {
            let certified = kms.certify_signer(&tenant, &asked(purpose));
            assert_eq!(certified.is_ok(), may, "{role} {purpose}");
            assert!(certified.err().is_none_or(|e| e.kind() == ErrorKind::Denied));
        }
    }
    let stranger = world.of(Role::Store, &other_of(Profile::Pure));
    assert_eq!(stranger.certify_signer(&tenant, &asked(SignerUse::Tokens)).err().unwrap().kind(), ErrorKind::Denied);
}

#[test]
fn nobody_has_a_key_certified_that_is_not_theirs_or_not_the_profiles() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let kms = world.of(Role::Store, &tenant);
    let good = request(&tenant, SignerUse::Tokens, Signature::MlDsa65);
    kms.certify_signer(&tenant, &good).unwrap();
    let others = request(&other_of(Profile::Pure), SignerUse::Tokens, Signature::MlDsa65);
    let wrong = [
        SignerRequest { proof: others.proof.clone(), public_key: others.public_key.clone(), ..good.clone() },
        SignerRequest { public_key: others.public_key, ..good.clone() },
        SignerRequest { purpose: SignerUse::Envelopes, ..good.clone() },
        SignerRequest { agent: "another".parse().unwrap(), ..good.clone() },
        SignerRequest { proof: Vec::new(), ..good.clone() },
        SignerRequest { lifetime_ms: 0, ..good.clone() },
        request(&tenant, SignerUse::Tokens, Signature::MlDsa87),
        request(&tenant, SignerUse::Tokens, Signature::EcdsaP384),
    ];
    for (at, request) in wrong.iter().enumerate() {
        assert_eq!(kms.certify_signer(&tenant, request).err().unwrap().kind(), ErrorKind::InvalidInput, "{at}");
    }
    let long = kms.certify_signer(&tenant, &SignerRequest { lifetime_ms: u64::MAX, ..good }).unwrap();
    assert_eq!(long.expires_at_ms, NOW_MS + 24 * HOUR_MS);
}

#[test]
fn a_chain_for_something_else_is_refused_and_audited() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    let tokens = signer(&world, &tenant, SignerUse::Tokens);
    let envelopes = signer(&world, &tenant, SignerUse::Envelopes);
    let session = world.session(&tenant);
    let (here, there) = (world.of(Role::Sidecar, &tenant), world.of(Role::Sidecar, &other));
    let refused = |kms: &dyn Kms, asker: &TenantId, purpose, chain: &[Vec<u8>]| {
        let before = world.audit.events().len();
        assert_eq!(kms.believe_signer(asker, purpose, chain).err().unwrap().kind(), ErrorKind::Denied);
        let events = world.audit.events();
        assert_eq!(
            events[before..].iter().map(|e| &e.what).collect::<Vec<_>>(),
            [&What::Refused { reason: Reason::Credential }]
        );
    };
    refused(&here, &tenant, SignerUse::Envelopes, tokens.chain());
    refused(&here, &tenant, SignerUse::Tokens, envelopes.chain());
    refused(&here, &tenant, SignerUse::Tokens, &session.chain);
    refused(&here, &tenant, SignerUse::Tokens, &tokens.chain()[..1]);
    refused(&here, &tenant, SignerUse::Tokens, &[]);
    refused(&here, &tenant, SignerUse::Tokens, &[vec![0x30, 0], vec![0x30, 0]]);
    // Tokens are a tenant's own; envelopes cross tenants.
    refused(&there, &other, SignerUse::Tokens, tokens.chain());
    there.believe_signer(&other, SignerUse::Envelopes, envelopes.chain()).unwrap();
    // Nobody encapsulates to a key that signs.
    let agents = world.of(Role::Agent, &other);
    let to = Recipient::Credential(envelopes.chain().to_vec());
    let sent = agents.encapsulate(&other, &[to]).unwrap().pop().unwrap();
    assert_eq!(sent.err().unwrap().kind(), ErrorKind::Denied);
    let own = Recipient::Session(envelopes.session());
    let sent = world.of(Role::Agent, &tenant).encapsulate(&tenant, &[own]).unwrap().pop().unwrap();
    assert_eq!(sent.err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn a_revocation_ends_a_signer_within_the_time_that_it_is_remembered() {
    let world = World::new();
    let tenant = tenant_of(Profile::Hybrid);
    let own = signer(&world, &tenant, SignerUse::Tokens);
    let sidecar = Arc::new(world.of(Role::Sidecar, &tenant));
    let believed = VerifiedSigners::new(sidecar, Arc::new(world.clock.clone()), SignerUse::Tokens);
    assert!(believed.remembered(own.thumbprint()).unwrap().is_none());
    believed.believe(&tenant, own.chain()).unwrap();
    world.of(Role::Admin, &tenant).revoke_session(&tenant, own.session()).unwrap();
    assert!(believed.remembered(own.thumbprint()).unwrap().is_some(), "asked every time");
    world.clock.set(NOW_MS + strongroom::limits::SIGNER_RECHECK_MS);
    assert_eq!(believed.remembered(own.thumbprint()).err().unwrap().kind(), ErrorKind::Denied);
    assert!(believed.remembered(own.thumbprint()).unwrap().is_none());
    assert_eq!(believed.believe(&tenant, own.chain()).err().unwrap().kind(), ErrorKind::Denied);
}

#[test]
fn signers_end_with_time_and_tenant_but_not_with_the_service() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Fips), other_of(Profile::Fips));
    let (own, theirs) = (signer(&world, &tenant, SignerUse::Tokens), signer(&world, &other, SignerUse::Tokens));
    let world = world.restart();
    let believe = |world: &World, tenant: &TenantId, signer: &Signer| {
        world.of(Role::Sidecar, tenant).believe_signer(tenant, SignerUse::Tokens, signer.chain()).map(|_| ())
    };
    believe(&world, &tenant, &own).unwrap();
    world.of(Role::Admin, &other).shred(&other).unwrap();
    assert_eq!(believe(&world, &other, &theirs).err().unwrap().kind(), ErrorKind::Denied);
    world.clock.set(own.expires_at_ms());
    assert_eq!(believe(&world, &tenant, &own).err().unwrap().kind(), ErrorKind::Denied);
}

/// Guards against a signer that is made for each signature, and against one that is used until it is refused.
#[test]
fn a_signer_is_kept_and_made_anew_in_time() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let signers = signers(&world, Arc::new(world.of(Role::Store, &tenant)), SignerUse::Tokens);
    let first = signers.of(&tenant).unwrap();
    let life_ms = first.expires_at_ms() - NOW_MS;
    world.clock.set(NOW_MS + life_ms / 4 * 3);
    assert_eq!(signers.of(&tenant).unwrap().session(), first.session());
    world.clock.set(NOW_MS + life_ms / 4 * 3 + 1);
    let second = signers.of(&tenant).unwrap();
    assert!(second.session() != first.session());
    world.clock.set(NOW_MS);
    assert!(signers.of(&tenant).unwrap().session() != second.session(), "a clock that was set back");
    signers.forget(&tenant);
    assert!(signers.of(&tenant).unwrap().session() != second.session());
}

/// A key service that certifies nobody while it has a reason.
struct Reluctant {
    inner: Handle,
    reason: Mutex<Option<ErrorKind>>,
    asked: AtomicUsize,
}

impl Kms for Reluctant {
    fn describe(&self, tenant: &TenantId) -> Result<TenantRecord> {
        self.inner.describe(tenant)
    }

    fn open_session(&self, tenant: &TenantId, agent: &AgentId, lifetime_ms: u64) -> Result<Session> {
        self.inner.open_session(tenant, agent, lifetime_ms)
    }

    fn revoke_session(&self, tenant: &TenantId, session: SessionId) -> Result<()> {
        self.inner.revoke_session(tenant, session)
    }

    fn encapsulate(&self, tenant: &TenantId, to: &[Recipient]) -> Result<Vec<Result<Encapsulated>>> {
        self.inner.encapsulate(tenant, to)
    }

    fn decapsulate(&self, tenant: &TenantId, items: &[Decapsulation]) -> Result<Vec<Result<Secret<32>>>> {
        self.inner.decapsulate(tenant, items)
    }

    fn sign(&self, tenant: &TenantId, messages: &[&[u8]]) -> Result<Vec<Result<Vec<u8>>>> {
        self.inner.sign(tenant, messages)
    }

    fn verify(&self, tenant: &TenantId, items: &[Signed<'_>]) -> Result<Vec<Result<()>>> {
        self.inner.verify(tenant, items)
    }

    fn certify_signer(&self, tenant: &TenantId, request: &SignerRequest) -> Result<SignerCredential> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let reason = *self.reason.lock();
        reason.map_or_else(|| self.inner.certify_signer(tenant, request), |kind| Err(Error::new(kind, "not now")))
    }

    fn believe_signer(&self, tenant: &TenantId, purpose: SignerUse, chain: &[Vec<u8>]) -> Result<VerifiedSigner> {
        self.inner.believe_signer(tenant, purpose, chain)
    }

    fn derive_deks(&self, tenant: &TenantId, items: &[DekRequest]) -> Result<Vec<Result<Secret<32>>>> {
        self.inner.derive_deks(tenant, items)
    }
}

/// Guards against a key service that takes signing with it while it is away or busy: for a signer that is good for hours,
/// and for every signature that waits for it.
#[test]
fn a_stale_signer_serves_until_another_can_be_had() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let inner = world.of(Role::Store, &tenant);
    let kms = Arc::new(Reluctant { inner, reason: Mutex::default(), asked: AtomicUsize::new(0) });
    let signers = signers(&world, kms.clone(), SignerUse::Tokens);
    let first = signers.of(&tenant).unwrap();
    let mut now_ms = first.expires_at_ms() - HOUR_MS;
    for reason in [ErrorKind::Unavailable, ErrorKind::Busy] {
        *kms.reason.lock() = Some(reason);
        kms.asked.store(0, Ordering::SeqCst);
        for _ in 0..10 {
            world.clock.set(now_ms);
            assert_eq!(signers.of(&tenant).unwrap().session(), first.session(), "{reason:?}");
        }
        assert_eq!(kms.asked.load(Ordering::SeqCst), 1, "asked for every signature");
        now_ms += limits::SIGNER_RECHECK_MS;
    }
    *kms.reason.lock() = None;
    world.clock.set(now_ms);
    assert!(signers.of(&tenant).unwrap().session() != first.session());
    // What has ended serves nobody, however often it is asked for.
    *kms.reason.lock() = Some(ErrorKind::Busy);
    world.clock.set(now_ms + 2 * limits::SIGNER_LIFE_MS);
    for _ in 0..2 {
        assert_eq!(signers.of(&tenant).err().unwrap().kind(), ErrorKind::Busy);
    }
}
