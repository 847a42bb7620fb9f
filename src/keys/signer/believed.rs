//! Signers of others: believed by the key service once, remembered for seconds, asked for again after that.

use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::{SignerUse, VerifiedSigner};
use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::id::{SessionId, TenantId};
use crate::keys::kms::Kms;
use crate::limits;

/// Signers that the key service believed a moment ago, by the thumbprint that signatures name them by.
///
/// A revocation is noticed within [`limits::SIGNER_RECHECK_MS`]. When the key service is away, nobody is believed after
/// that.
pub struct VerifiedSigners {
    kms: Arc<dyn Kms>,
    clock: Arc<dyn Clock>,
    purpose: SignerUse,
    remembered: Cache<[u8; 32], Arc<Remembered>>,
}

struct Remembered {
    signer: Arc<VerifiedSigner>,
    asker: TenantId,
    chain: Vec<Vec<u8>>,
    checked_at_ms: u64,
    /// Held by who asks again: the others wait for the answer instead of asking too.
    asking: Mutex<()>,
}

impl VerifiedSigners {
    /// Believes what `kms` believes, of signers for `purpose`.
    pub fn new(kms: Arc<dyn Kms>, clock: Arc<dyn Clock>, purpose: SignerUse) -> Self {
        Self { kms, clock, purpose, remembered: Cache::new(limits::VERIFIED_SIGNERS) }
    }

    /// The signer at the end of `chain` (DER: the tenant's certificate and the signer's), for `asker`.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::ErrorKind::Denied) when it is not believed, and those of [`Kms::believe_signer`].
    pub fn believe(&self, asker: &TenantId, chain: &[Vec<u8>]) -> Result<Arc<VerifiedSigner>> {
        let checked_at_ms = self.clock.now_ms();
        let signer = Arc::new(self.kms.believe_signer(asker, self.purpose, chain)?);
        let remembered = Remembered {
            signer: signer.clone(),
            asker: asker.clone(),
            chain: chain.to_vec(),
            checked_at_ms,
            asking: Mutex::default(),
        };
        self.remembered.insert(*signer.thumbprint(), Arc::new(remembered));
        Ok(signer)
    }

    /// The signer called `thumbprint`, if it was believed before; asked for again when that is a while ago.
    pub fn remembered(&self, thumbprint: &[u8; 32]) -> Result<Option<Arc<VerifiedSigner>>> {
        let Some(known) = self.remembered.get(thumbprint) else { return Ok(None) };
        if self.is_fresh(&known) {
            return Ok(Some(known.signer.clone()));
        }
        let _asking = known.asking.lock();
        let Some(latest) = self.remembered.get(thumbprint) else { return Ok(None) };
        if self.is_fresh(&latest) {
            return Ok(Some(latest.signer.clone()));
        }
        self.believe(&known.asker, &known.chain).map(Some).inspect_err(|e| {
            if e.kind() == ErrorKind::Denied {
                self.remembered.remove(thumbprint);
            }
        })
    }

    /// Forgets the signer of a session that was revoked.
    pub fn forget_session(&self, session: SessionId) {
        self.remembered.retain(|_, known| known.signer.session() != session);
    }

    /// Forgets the signers of a tenant.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.remembered.retain(|_, known| known.signer.tenant() != tenant);
    }

    fn is_fresh(&self, known: &Remembered) -> bool {
        let now_ms = self.clock.now_ms();
        let fresh = known.checked_at_ms..known.checked_at_ms.saturating_add(limits::SIGNER_RECHECK_MS);
        fresh.contains(&now_ms) && now_ms < known.signer.not_after_ms()
    }
}
