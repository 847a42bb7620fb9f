//! What the service does with a tenant's long-lived keys, once it is proven that the caller may. Every method consumes
//! the [`Permit`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::caller::{Caller, Permit};
use super::local::LocalKms;
use super::tenants::ReadyTenant;
use super::{DekRequest, MESSAGE_PREFIX, PublicTenant, Signed};
use crate::audit::{Outcome, What};
use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::keys::keystore::HeldEpoch;
use crate::keys::{EpochKeys, TenantRecord};
use crate::limits;
use crate::secret::Secret;

impl LocalKms {
    pub(super) fn describe(&self, permit: Permit) -> Result<TenantRecord> {
        Ok(self.ready(&permit)?.record.clone())
    }

    pub(super) fn public(&self, caller: &Caller, permit: Permit) -> Result<PublicTenant> {
        let ready = self.ready(&permit)?;
        let public = ready.public(&self.keystore)?;
        let what = What::CertificatesExported { fingerprints: vec![ready.record.certificate_fingerprint.clone()] };
        self.record(caller, permit.operation(), permit.tenant(), what, Outcome::Done)?;
        Ok(PublicTenant {
            record: ready.record.clone(),
            root_public_key: public.keys.root.clone(),
            signing_public_key: public.keys.signing.clone(),
            certificates: public.certificates.clone(),
        })
    }

    pub(super) fn epoch_keys(&self, permit: Permit, epoch: Epoch) -> Result<Box<dyn EpochKeys>> {
        let tenant = self.ready(&permit)?;
        let known = tenant.record.epochs.iter().find(|e| e.epoch == epoch);
        let suite = known.ok_or_else(|| Error::not_found(format!("there is no epoch {epoch}")))?.suite()?;
        Ok(Box::new(HeldEpoch { suite, epoch, secret: tenant.epoch(&self.keystore, epoch)? }))
    }

    pub(super) fn sign(&self, permit: Permit, messages: &[&[u8]]) -> Result<Vec<Result<Vec<u8>>>> {
        check_bulk(messages.len(), messages.iter().map(|m| m.len()).sum())?;
        let signer = self.ready(&permit)?.signer(&self.keystore)?;
        Ok(counted(&self.served.signed, bulk(messages, |message| signer.sign(b"", &prefixed(message)))))
    }

    pub(super) fn verify(&self, caller: &Caller, permit: Permit, items: &[Signed<'_>]) -> Result<Vec<Result<()>>> {
        check_bulk(items.len(), items.iter().map(|i| i.message.len() + i.signature.len()).sum())?;
        let tenant = self.ready(&permit)?;
        let public = tenant.public(&self.keystore)?;
        let (algorithm, key) = (tenant.record.profile.signature(), &public.keys.signing);
        let provider = self.keystore.provider();
        let done = bulk(items, |i| provider.verify(algorithm, key, b"", &prefixed(i.message), i.signature));
        let bad = done.iter().filter(|verified| verified.is_err()).count();
        if bad > 0 {
            let what = What::SignaturesRefused { signatures: u32::try_from(bad).unwrap_or(u32::MAX) };
            self.record(caller, permit.operation(), permit.tenant(), what, Outcome::Refused)?;
        }
        Ok(counted(&self.served.verified, done))
    }

    pub(super) fn derive_deks(&self, permit: Permit, items: &[DekRequest]) -> Result<Vec<Result<Secret<32>>>> {
        check_bulk(items.len(), items.iter().map(|i| i.scope.len()).sum())?;
        let tenant = self.ready(&permit)?;
        let done = bulk(items, |item| {
            if item.scope.len() > limits::KEY_SCOPE_BYTES {
                return Err(Error::invalid(format!(
                    "the scope of a data key has at most {} bytes",
                    limits::KEY_SCOPE_BYTES
                )));
            }
            let known = tenant.record.epochs.iter().find(|e| e.epoch == item.epoch);
            let known = known.ok_or_else(|| Error::not_found(format!("there is no epoch {}", item.epoch)))?;
            let secret = tenant.epoch(&self.keystore, item.epoch)?;
            secret.derive(&item.label.info(known.suite()?, item.epoch, &item.scope))
        });
        Ok(counted(&self.served.derived, done))
    }

    /// What is kept ready of the permit's tenant.
    pub(super) fn ready(&self, permit: &Permit) -> Result<Arc<ReadyTenant>> {
        self.tenants.get(permit.tenant(), self.clock.now_ms())
    }
}

/// What is signed for a message.
fn prefixed(message: &[u8]) -> Vec<u8> {
    [MESSAGE_PREFIX, message].concat()
}

/// Does `work` for each item, on all processors when there are many. The results are in the order of the items.
pub(super) fn bulk<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if items.len() <= limits::KMS_ALONE_ITEMS {
        return items.iter().map(work).collect();
    }
    items.par_iter().map(work).collect()
}

/// Counts what was answered as asked.
pub(super) fn counted<T>(counter: &AtomicU64, done: Vec<Result<T>>) -> Vec<Result<T>> {
    counter.fetch_add(done.iter().filter(|result| result.is_ok()).count() as u64, Ordering::Relaxed);
    done
}

pub(super) fn check_bulk(items: usize, bytes: usize) -> Result<()> {
    if items > limits::KMS_ITEMS || bytes > limits::KMS_BYTES {
        return Err(Error::invalid("the request is too large").with_remedy(format!(
            "send at most {} items and {} MiB at a time",
            limits::KMS_ITEMS,
            limits::KMS_BYTES >> 20
        )));
    }
    Ok(())
}
