//! Believing presented credentials: a chain is verified once, and looked up afterwards until it expires.
//!
//! Nothing here knows of revocation. Whoever takes a [`Believed`] asks the open sessions, after the lookup and not
//! before: so a chain that gets into the cache while its session is being revoked is refused all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::tenants::Tenants;
use crate::crypto::Provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SessionId, TenantId};
use crate::keys::certificate::{Certificate, CertificateView, Expect, VerifiedSignerKey, verify_chain};
use crate::keys::{Keystore, Profile};
use crate::limits;

/// Verified chains by their digest.
pub(super) struct Credentials {
    provider: &'static dyn Provider,
    verified: Cache<[u8; 32], Arc<Believed>>,
    pub(super) checked: AtomicU64,
    pub(super) remembered: AtomicU64,
}

/// What a chain that led to this platform's authority said.
pub(super) struct Believed {
    pub(super) tenant: TenantId,
    pub(super) profile: Profile,
    pub(super) session: SessionId,
    pub(super) leaf: Leaf,
    not_before_ms: u64,
    pub(super) not_after_ms: u64,
}

/// What a chain ends in.
pub(super) enum Leaf {
    /// The session's encapsulation key.
    Session(Vec<u8>),
    /// A key that signs.
    Signer(VerifiedSignerKey),
}

impl Credentials {
    pub(super) fn new(provider: &'static dyn Provider) -> Self {
        let (checked, remembered) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { provider, verified: Cache::new(limits::VERIFIED_CHAINS), checked, remembered }
    }

    /// What `chain` (DER: the tenant's certificate and the credential of a session or a signer) says, if it leads to the authority of
    /// this platform at `now_ms`.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorKind::Denied) otherwise.
    pub(super) fn believe(
        &self,
        keystore: &Keystore,
        tenants: &Tenants,
        chain: &[Vec<u8>],
        now_ms: u64,
    ) -> Result<Arc<Believed>> {
        let digest = digest(chain)?;
        if let Some(believed) = self.verified.get(&digest) {
            if (believed.not_before_ms..believed.not_after_ms).contains(&now_ms) {
                self.remembered.fetch_add(1, Ordering::Relaxed);
                return Ok(believed);
            }
            self.verified.remove(&digest);
        }
        let believed = Arc::new(self.verify(keystore, tenants, chain, now_ms)?);
        self.verified.insert(digest, believed.clone());
        Ok(believed)
    }

    /// Forgets every chain.
    pub(super) fn forget(&self) {
        self.verified.clear();
    }

    fn verify(&self, keystore: &Keystore, tenants: &Tenants, chain: &[Vec<u8>], now_ms: u64) -> Result<Believed> {
        let certificates: Vec<_> = chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<_>>()?;
        let leaf = certificates.last().ok_or_else(|| refused("it is empty"))?;
        // Only to know whose certificate it would have to be: what is believed is what is verified below.
        let claimed = CertificateView::of(self.provider, leaf).tenant.and_then(|tenant| tenant.parse().ok());
        let tenant: TenantId = claimed.ok_or_else(|| refused("it names no tenant"))?;
        let stranger = || refused("it does not belong to a tenant of this platform");
        let known = tenants.get(&tenant, now_ms).map_err(|e| match e.kind() {
            ErrorKind::NotFound => stranger(),
            _ => e,
        })?;
        let public = known.public(keystore)?;
        let [authority, own] = &public.certificates;
        // What was issued before the root key was rotated is good until it expires.
        let is_own =
            |der: &[u8]| der == own.as_slice() || public.earlier.iter().any(|earlier| der == earlier.as_slice());
        if !certificates.iter().any(|certificate| is_own(certificate.as_der())) {
            return Err(stranger());
        }
        self.checked.fetch_add(1, Ordering::Relaxed);
        let expect = Expect { tenant: Some(tenant), profile: Some(known.record.profile), ..Expect::default() };
        let verified = verify_chain(self.provider, &Certificate::from_der(authority)?, &certificates, now_ms, &expect)?;
        let (session, leaf) = match (verified.session(), verified.signer()) {
            (Some(session), _) => (session.id(), Leaf::Session(session.key().1.to_vec())),
            (None, Some(signer)) => (signer.session(), Leaf::Signer(signer.clone())),
            (None, None) => return Err(no_session()),
        };
        Ok(Believed {
            tenant: verified.tenant().clone(),
            profile: verified.profile(),
            session,
            leaf,
            not_before_ms: now_ms,
            not_after_ms: verified.not_after_ms(),
        })
    }
}

/// SHA-256 over the certificates, each with its length before it.
fn digest(chain: &[Vec<u8>]) -> Result<[u8; 32]> {
    if chain.len() > limits::CHAIN_CERTIFICATES || chain.iter().any(|der| der.len() > limits::CERTIFICATE_BYTES) {
        return Err(refused("it is too long"));
    }
    let mut hash = Sha256::new();
    for der in chain {
        hash.update((der.len() as u64).to_be_bytes());
        hash.update(der);
    }
    Ok(hash.finalize().into())
}

/// A chain that stops at the tenant, or ends in the wrong kind of credential.
pub(super) fn no_session() -> Error {
    refused("it does not end in a session's credential")
}

pub(super) fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Denied, format!("the credential is refused: {why}"))
        .with_remedy("ask the receiver for the chain that opening its session gave")
}
