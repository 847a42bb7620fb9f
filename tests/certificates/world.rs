//! Keys and certificates of one platform per profile, made once: SLH-DSA signs slowly.

use std::sync::OnceLock;

use strongroom::clock::{Clock as _, SystemClock};
use strongroom::crypto::{Kem, Provider, Signature, SigningKey, default_provider};
use strongroom::keys::Profile;
use strongroom::keys::certificate::{
    Certificate, Expect, SessionSubject, TenantSubject, VerifiedChain, issue_authority, issue_session, issue_tenant,
    verify_chain,
};
use strongroom::secret::SecretBytes;
use strongroom::{SessionId, TenantId};

/// 2026-01-01T00:00:00Z.
pub const NOW_MS: u64 = 1_767_225_600_000;
pub const HOUR_MS: u64 = 3_600_000;
pub const DAY_MS: u64 = 24 * HOUR_MS;
pub const SESSION: [u8; 16] = [0xab; 16];

pub fn provider() -> &'static dyn Provider {
    default_provider()
}

pub fn signing_key(algorithm: Signature, n: u8) -> Box<dyn SigningKey> {
    provider().signing_key(algorithm, &SecretBytes::new(vec![n; algorithm.seed_len()])).unwrap()
}

pub fn kem_public(kem: Kem, n: u8) -> Vec<u8> {
    let key = provider().kem_key(kem, &SecretBytes::new(vec![n; kem.seed_len()])).unwrap();
    key.public_key().to_vec()
}

pub fn tenant_id(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// One platform with the tenant `acme`, its agent `planner`, and a session of an hour.
pub struct World {
    pub profile: Profile,
    pub authority_key: Box<dyn SigningKey>,
    pub authority: Certificate,
    pub tenant_key: Box<dyn SigningKey>,
    pub tenant: Certificate,
    pub session: Certificate,
}

impl World {
    fn new(profile: Profile, now_ms: u64) -> Self {
        let authority_key = signing_key(profile.authority_signature(), 1);
        let authority = issue_authority(provider(), &*authority_key, now_ms).unwrap();
        let tenant_key = signing_key(profile.signature(), 2);
        let tenant = issue_at(now_ms, &*authority_key, &authority, profile, &*tenant_key, "acme");
        let session = issue_for_at(now_ms, &*tenant_key, &tenant, profile.kem());
        Self { profile, authority_key, authority, tenant_key, tenant, session }
    }

    pub fn chain(&self) -> Vec<Certificate> {
        vec![self.tenant.clone(), self.session.clone()]
    }

    pub fn verify(&self, chain: &[Certificate], now_ms: u64) -> strongroom::Result<VerifiedChain> {
        verify_chain(provider(), &self.authority, chain, now_ms, &Expect::default())
    }
}

pub fn issue(
    authority_key: &dyn SigningKey,
    authority: &Certificate,
    profile: Profile,
    key: &dyn SigningKey,
    tenant: &str,
) -> Certificate {
    issue_at(NOW_MS, authority_key, authority, profile, key, tenant)
}

fn issue_at(
    now_ms: u64,
    authority_key: &dyn SigningKey,
    authority: &Certificate,
    profile: Profile,
    key: &dyn SigningKey,
    tenant: &str,
) -> Certificate {
    let root_key = kem_public(Kem::MlKem1024, 3);
    let subject = TenantSubject {
        tenant: &tenant_id(tenant),
        profile,
        algorithm: key.algorithm(),
        signing_key: key.public_key(),
        root_key: &root_key,
    };
    issue_tenant(provider(), authority_key, authority, &subject, now_ms).unwrap()
}

pub fn issue_for(tenant_key: &dyn SigningKey, tenant: &Certificate, kem: Kem) -> Certificate {
    issue_for_at(NOW_MS, tenant_key, tenant, kem)
}

fn issue_for_at(now_ms: u64, tenant_key: &dyn SigningKey, tenant: &Certificate, kem: Kem) -> Certificate {
    let session_key = kem_public(kem, 4);
    let agent = "planner".parse().unwrap();
    let subject = SessionSubject { agent: &agent, session: SessionId::from(SESSION), kem, session_key: &session_key };
    issue_session(provider(), tenant_key, tenant, &subject, now_ms + HOUR_MS, now_ms).unwrap()
}

/// The platform of `profile`.
pub fn world(profile: Profile) -> &'static World {
    static HYBRID: OnceLock<World> = OnceLock::new();
    static PURE: OnceLock<World> = OnceLock::new();
    static CNSA2: OnceLock<World> = OnceLock::new();
    static FIPS: OnceLock<World> = OnceLock::new();
    let cell = match profile {
        Profile::Hybrid => &HYBRID,
        Profile::Pure => &PURE,
        Profile::Cnsa2 => &CNSA2,
        Profile::Fips => &FIPS,
    };
    cell.get_or_init(|| World::new(profile, NOW_MS))
}

/// A platform of `profile` made just now, for verifiers that look at the machine's clock.
pub fn live(profile: Profile) -> World {
    World::new(profile, SystemClock.now_ms())
}
