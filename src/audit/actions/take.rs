//! Taking action records in: a record stands in the log when its signer is believed and everything in it fits.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::{ActionId, ActionRecord, Refusal, SignedAction, action_message};
use crate::audit::digest::hex;
use crate::audit::{AuditSink, Event, Outcome, What};
use crate::clock::Clock;
use crate::crypto::Provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::certificate::SignerUse;
use crate::keys::kms::{Kms, Role};
use crate::keys::{VerifiedSigner, VerifiedSigners};
use crate::limits;

/// What agents are called in the log: which one it was, the signer's digest says to who has its credential.
const SERVICE: &str = "agent";

/// Takes in the actions of agents. Calls wait: for the key service, and for the log.
pub struct ActionLog {
    signers: VerifiedSigners,
    provider: &'static dyn Provider,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditSink>,
    /// What was taken in a moment ago, by its digest: the same again is no second action.
    taken: Cache<(TenantId, ActionId), [u8; 32]>,
    /// Held from looking whether a record is known until it is in the log.
    taking: Mutex<()>,
}

/// A record whose signature and content were checked. Only [`ActionLog::check`] makes one, and nothing is recorded without.
struct Checked {
    record: ActionRecord,
    digest: [u8; 32],
    signature: String,
    signer: Arc<VerifiedSigner>,
}

impl ActionLog {
    /// Believes what `kms` believes, and records in `audit`.
    pub fn new(
        kms: Arc<dyn Kms>,
        provider: &'static dyn Provider,
        clock: Arc<dyn Clock>,
        audit: Arc<dyn AuditSink>,
    ) -> Self {
        let signers = VerifiedSigners::new(kms, clock.clone(), SignerUse::Actions);
        let taken = Cache::new(limits::ACTIONS_REMEMBERED);
        Self { signers, provider, clock, audit, taken, taking: Mutex::default() }
    }

    /// Takes in `actions` of `tenant`, whom the log knows as `pseudonym`, signed by who stands at the end of `chain` (DER:
    /// the tenant's certificate and the signer's). Each is taken in or refused by itself; what is taken in stands in the
    /// log, in the order of `actions`, on return. One that was taken in a moment ago is not recorded again.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for more than [`limits::ACTIONS`];
    /// [`Unavailable`](ErrorKind::Unavailable) when the key service cannot be asked or the log cannot be written: then
    /// none is known to be taken in. The same may be sent again.
    pub fn append(
        &self,
        tenant: &TenantId,
        pseudonym: &str,
        chain: &[Vec<u8>],
        actions: &[SignedAction],
    ) -> Result<Vec<Result<()>>> {
        if actions.len() > limits::ACTIONS {
            return Err(Error::invalid("too many actions in one call")
                .with_remedy(format!("send at most {} at once", limits::ACTIONS)));
        }
        let signer = match self.signer(tenant, chain) {
            Ok(signer) => Ok(signer),
            Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                Err(Refusal::Signer)
            }
            Err(e) => return Err(e),
        };
        let checked = actions.iter().map(|action| self.check(tenant, signer.as_ref().map_err(|r| *r)?, action));
        let checked: Vec<Result<Checked, Refusal>> = checked.collect();
        let _taking = self.taking.lock();
        let now_ms = self.clock.now_ms();
        let (mut answers, mut events, mut fresh) = (Vec::with_capacity(actions.len()), Vec::new(), Vec::new());
        for one in checked {
            let one = one.and_then(|checked| match self.taken(&checked, &fresh) {
                Some(digest) if digest == checked.digest => Ok(None),
                Some(_) => Err(Refusal::Conflict),
                None => Ok(Some(checked)),
            });
            answers.push(match one {
                Ok(None) => Ok(()),
                Ok(Some(checked)) => {
                    events.push(event(&checked, pseudonym, now_ms));
                    fresh.push((checked.record.id, checked.digest));
                    Ok(())
                }
                Err(reason) => {
                    let what = What::ActionRefused { reason };
                    let mut refused = Event::new(now_ms, SERVICE, what, Outcome::Refused).tenant(pseudonym);
                    refused.role = Some(Role::Agent);
                    events.push(refused);
                    Err(reason.into())
                }
            });
        }
        self.audit.record_all(&events)?;
        for (id, digest) in fresh {
            self.taken.insert((tenant.clone(), id), digest);
        }
        Ok(answers)
    }

    fn signer(&self, tenant: &TenantId, chain: &[Vec<u8>]) -> Result<Arc<VerifiedSigner>> {
        let thumbprint = self.provider.sha256(&[chain.last().map_or(&[][..], Vec::as_slice)]);
        match self.signers.remembered(&thumbprint)? {
            Some(signer) => Ok(signer),
            None => self.signers.believe(tenant, chain),
        }
    }

    fn check(
        &self,
        tenant: &TenantId,
        signer: &Arc<VerifiedSigner>,
        action: &SignedAction,
    ) -> Result<Checked, Refusal> {
        let record = ActionRecord::decode(&action.record)?;
        if record.tenant != *tenant || signer.tenant() != tenant {
            return Err(Refusal::Tenant);
        }
        if record.agent != *signer.agent() {
            return Err(Refusal::Agent);
        }
        if record.session != signer.session() {
            return Err(Refusal::Session);
        }
        if record.acted_at_ms.abs_diff(self.clock.now_ms()) > limits::ACTION_SKEW_MS {
            return Err(Refusal::Time);
        }
        let message = action_message(&action.record);
        signer.verify(self.provider, &message, &action.signature).map_err(|_| Refusal::Signature)?;
        let (digest, signature) = (action.digest(self.provider), STANDARD.encode(&action.signature));
        Ok(Checked { record, digest, signature, signer: signer.clone() })
    }

    /// The digest of the record that was taken in with this id, now or a moment ago.
    fn taken(&self, checked: &Checked, fresh: &[(ActionId, [u8; 32])]) -> Option<[u8; 32]> {
        let now = fresh.iter().find(|(id, _)| *id == checked.record.id).map(|(_, digest)| *digest);
        now.or_else(|| self.taken.get(&(checked.record.tenant.clone(), checked.record.id)))
    }
}

fn event(checked: &Checked, pseudonym: &str, now_ms: u64) -> Event {
    let Checked { record, digest, signature, signer } = checked;
    let what = What::AgentAction {
        action: record.id.to_string(),
        parent: record.parent.map(|parent| parent.to_string()),
        acted_at_ms: record.acted_at_ms,
        signer: hex(signer.thumbprint()),
        digest: hex(digest),
        signature: signature.clone(),
    };
    let mut event = Event::new(now_ms, SERVICE, what, Outcome::Done).tenant(pseudonym);
    event.role = Some(Role::Agent);
    event
}
