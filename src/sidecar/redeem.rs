//! A redeem, step by step. What is opened leaves only with the receipt of the audit log.

use std::sync::Arc;
use std::time::Instant;

use super::Sidecar;
use crate::audit::{Outcome, What};
use crate::crypto::{self, Provider};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::Keyring;
use crate::keys::kms::{Caller, Role};
use crate::limits;
use crate::record;
use crate::secret::SecretBytes;
use crate::token::{
    self, Ask, Asked, Contact, Digest, Form, HandoffRecord, Membership, Opened, Proof, RecordKind, Refusal, Spent,
    Stop, Unverified, VerifiedToken,
};

/// The token of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// All of it, and who issued it: the tenant's certificate and the signer's, DER.
    Whole {
        /// The token.
        bytes: Vec<u8>,
        /// The chain.
        issuer: Vec<Vec<u8>>,
    },
    /// The SHA-256 of one that was redeemed before.
    Known([u8; 32]),
}

/// A record that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What the token says of it.
    pub asked: Asked,
    /// Where it belongs, sealed.
    pub place: Vec<u8>,
    /// The record, sealed; `None` to have it fetched.
    pub sealed: Option<Vec<u8>>,
}

impl Wanted {
    /// All of what a token is for, in the order in which the store handed it on.
    pub fn all(provider: &dyn Provider, tenant: &TenantId, records: &[HandoffRecord]) -> Vec<Self> {
        let digests: Vec<_> = records.iter().map(|record| record.digest(provider, tenant)).collect();
        let wanted = |(index, (record, digest)): (usize, (&HandoffRecord, &Digest))| Self {
            asked: Asked { digest: *digest, membership: Membership::of(provider, &digests, index) },
            place: record.place.clone(),
            sealed: Some(record.sealed.clone()),
        };
        records.iter().zip(&digests).enumerate().map(wanted).collect()
    }
}

/// What a holder asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemRequest {
    /// Of which contact.
    pub contact: [u8; 16],
    /// The holder's proof.
    pub proof: Proof,
    /// The token.
    pub token: Token,
    /// In which form.
    pub form: Form,
    /// Which of the token's records, at most [`limits::REDEEM_RECORDS`].
    pub records: Vec<Wanted>,
}

/// An opened record as it is answered: in clear, or sealed for the holder.
pub struct Output {
    /// What it is.
    pub kind: RecordKind,
    /// The text of a chunk, or the context window.
    pub content: SecretBytes,
    /// The metadata of a chunk: JSON.
    pub metadata: Option<SecretBytes>,
}

/// The proof that a redeem is in the audit log. Only [`Sidecar::receipt`] makes one, and nothing is released without.
struct Receipt(());

/// What metadata is sealed under: its record's index, and this.
const METADATA: u32 = 1 << 31;

impl Sidecar {
    /// Opens records. `is_local` says whether the answer stays on this machine.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorKind::Denied), in the same words for every [`Refusal`]; [`NotFound`](ErrorKind::NotFound) for a
    /// token that was named by its digest and is not remembered: send it whole; [`Busy`](ErrorKind::Busy) with the time
    /// after which to retry; [`Unavailable`](ErrorKind::Unavailable) when the key service, the store or the audit log
    /// cannot be reached. A use that was counted is gone in any case.
    pub fn redeem(&self, caller: &Caller, is_local: bool, request: &RedeemRequest) -> Result<Vec<Output>> {
        self.may(caller, Role::Node)?;
        if request.form == Form::Clear && !is_local && !self.options.clear_over_tls {
            return Err(Error::invalid("records are not answered in clear to another machine")
                .with_remedy("ask for them sealed, or have the operator run `sidecar serve --clear-over-tls`"));
        }
        check_size(request)?;
        let started = Instant::now();
        // Known once the token is verified: what a stranger says of a tenant is not written down as that tenant's.
        let mut tenant = None;
        match self.try_redeem(caller, request, &mut tenant) {
            Ok(outputs) => {
                self.metrics.answered(outputs.len(), started.elapsed());
                Ok(outputs)
            }
            Err(Stop::Refused(refusal)) => {
                self.metrics.refused(refusal);
                let what = What::RedeemRefused { reason: refusal };
                self.record_of(caller, tenant.as_ref(), what, Outcome::Refused)?;
                Err(refusal.into())
            }
            Err(Stop::Failed(e)) => {
                match e.kind() {
                    ErrorKind::Busy => self.metrics.busy.inc(),
                    _ => self.metrics.failed.inc(),
                };
                Err(e)
            }
        }
    }

    fn try_redeem(
        &self,
        caller: &Caller,
        request: &RedeemRequest,
        tenant: &mut Option<TenantId>,
    ) -> Result<Vec<Output>, Stop> {
        let now_ms = self.clock.now_ms();
        let token = self.verified(caller, &request.token, now_ms)?;
        *tenant = Some(token.claims().tenant.clone());
        if !caller.works_for(&token.claims().tenant) {
            return Err(Refusal::Tenant.into());
        }
        if self.is_paused(&token.claims().tenant) {
            return Err(Refusal::Paused.into());
        }
        let _place = self.throttle.admit(&token.claims().tenant)?;
        let contact = self.contacts.get(caller.service(), &request.contact).ok_or(Refusal::Contact)?;
        let asked: Vec<Asked> = request.records.iter().map(|wanted| wanted.asked.clone()).collect();
        let ask = Ask { records: &asked, form: request.form };
        let authorized = contact.check(self.provider, &token, ask, &request.proof, now_ms)?;
        // First: a key service that cannot be asked costs no use.
        let keyring = self.keyring(&token.claims().tenant, request, now_ms)?;
        let spent = self.ledger.spend(authorized)?;
        let opened = self.open_all(&spent, request, &keyring).map_err(not_again)?;
        let receipt = self.receipt(caller, &spent).map_err(|e| not_again(e.into()))?;
        release(receipt, &contact, request, opened).map_err(Stop::from)
    }

    /// The token, verified now or a moment ago, by a signer that is still believed.
    fn verified(&self, caller: &Caller, token: &Token, now_ms: u64) -> Result<Arc<VerifiedToken>, Stop> {
        let digest = match token {
            Token::Whole { bytes, .. } => self.provider.sha256(&[bytes]),
            Token::Known(digest) => *digest,
        };
        if let Some(known) = self.tokens.get(&digest)
            && self.signers.remembered(known.signer()).map_err(not_believed)?.is_some()
        {
            known.check_time(now_ms)?;
            return Ok(known);
        }
        let Token::Whole { bytes, issuer } = token else {
            return Err(Error::not_found("the token is not remembered").with_remedy("send it whole").into());
        };
        let token = Unverified::read_digested(bytes, digest)?;
        // Before the key service is asked on its behalf.
        if !caller.works_for(token.tenant()) {
            return Err(Refusal::Tenant.into());
        }
        let signer = match self.signers.remembered(token.signer()).map_err(not_believed)? {
            Some(signer) => signer,
            None => self.signers.believe(token.tenant(), issuer).map_err(not_believed)?,
        };
        let verified = token.verify(self.provider, &signer, &self.audience, now_ms)?;
        self.metrics.verified.inc();
        Ok(self.tokens.keep(verified))
    }

    /// The tenant's keys, with those of the newest epoch that anything in `request` says it is of.
    fn keyring(&self, tenant: &TenantId, request: &RedeemRequest, now_ms: u64) -> Result<Arc<Keyring>, Stop> {
        let newest = request.records.iter().flat_map(|w| [Some(&w.place), w.sealed.as_ref()]).flatten();
        let newest = newest.filter_map(|sealed| record::claimed_epoch(sealed).ok()).max();
        self.keys.of(tenant, newest, now_ms).map_err(keys_gone)
    }

    /// Opens what is asked for. However little asks for it, it is bounded: records can be fetched, repeated, and packed.
    fn open_all(&self, spent: &Spent, request: &RedeemRequest, keyring: &Keyring) -> Result<Vec<Opened>, Stop> {
        let mut room = limits::REDEEM_BYTES;
        let open = |(index, wanted): (usize, &Wanted)| {
            let opened = self.open(spent, index, wanted, keyring)?;
            let bytes = opened.content.len() + opened.metadata.as_ref().map_or(0, SecretBytes::len);
            room = room.checked_sub(bytes).ok_or_else(|| too_large("the answer"))?;
            Ok(opened)
        };
        request.records.iter().enumerate().map(open).collect()
    }

    fn open(&self, spent: &Spent, index: usize, wanted: &Wanted, keyring: &Keyring) -> Result<Opened, Stop> {
        let tenant = spent.tenant();
        let place = token::open_place(spent, keyring, &wanted.place)?;
        let sealed = match (&wanted.sealed, &self.source) {
            (Some(sealed), _) => sealed.clone(),
            (None, Some(source)) if place.kind() == RecordKind::Chunk => {
                source.fetch(tenant, &place).map_err(|e| match e.kind() {
                    ErrorKind::NotFound => Stop::from(Refusal::Record),
                    _ => e.into(),
                })?
            }
            (None, _) => return Err(Refusal::Record.into()),
        };
        token::open(spent, index, keyring, &place, &HandoffRecord { place: wanted.place.clone(), sealed })
    }

    /// Writes the redeem into the audit log.
    fn receipt(&self, caller: &Caller, spent: &Spent) -> Result<Receipt> {
        let claims = spent.token().claims();
        let mut records = Vec::with_capacity(spent.records().len() * 32);
        spent.records().iter().for_each(|digest| records.extend_from_slice(digest.as_bytes()));
        let what = What::Redeemed {
            token: claims.id.to_string(),
            holder: claims.holder.to_string(),
            records: u32::try_from(spent.records().len()).unwrap_or(u32::MAX),
            digest: Digest::from(self.provider.sha256(&[&records])).to_string(),
        };
        self.record_of(caller, Some(spent.tenant()), what, Outcome::Done)?;
        Ok(Receipt(()))
    }
}

/// Gives away what was opened, in the form that was asked for.
fn release(_: Receipt, contact: &Contact, request: &RedeemRequest, opened: Vec<Opened>) -> Result<Vec<Output>> {
    let shape = |(index, opened): (u32, Opened)| {
        let Opened { kind, content, metadata } = opened;
        let in_form = |index: u32, plain: SecretBytes| match request.form {
            Form::Clear => Ok(plain),
            Form::Sealed => {
                let sealed = contact.seal_output(request.proof.counter, index, plain.expose_secret());
                sealed.map(SecretBytes::new)
            }
        };
        let content = in_form(index, content)?;
        let metadata = metadata.map(|metadata| in_form(index | METADATA, metadata)).transpose()?;
        Ok(Output { kind, content, metadata })
    };
    (0_u32..).zip(opened).map(shape).collect()
}

fn check_size(request: &RedeemRequest) -> Result<()> {
    let bytes = |wanted: &Wanted| wanted.place.len() + wanted.sealed.as_ref().map_or(0, Vec::len);
    let total: usize = request.records.iter().map(bytes).sum();
    if request.records.len() > limits::REDEEM_RECORDS || total > limits::REDEEM_BYTES {
        return Err(too_large("the request"));
    }
    Ok(())
}

fn too_large(what: &str) -> Error {
    let (records, mib) = (limits::REDEEM_RECORDS, limits::REDEEM_BYTES >> 20);
    Error::invalid(format!("{what} is too large"))
        .with_remedy(format!("ask for at most {records} records and {mib} MiB at a time"))
}

/// A signer that is not believed is a reason to refuse; a key service that cannot be asked is not.
fn not_believed(e: Error) -> Stop {
    match e.kind() {
        ErrorKind::Denied | ErrorKind::InvalidInput | ErrorKind::NotFound => Refusal::Issuer.into(),
        _ => e.into(),
    }
}

/// "Busy" invites a caller to ask again with the same token, whose use is counted.
fn not_again(stop: Stop) -> Stop {
    match stop {
        Stop::Failed(e) if e.kind() == ErrorKind::Busy => {
            let words = "what a redeem needs is busy, and the token's use is counted";
            Error::new(ErrorKind::Unavailable, words).with_source(e).into()
        }
        other => other,
    }
}

/// A tenant without keys is a reason to refuse; a key service that cannot be asked is not.
fn keys_gone(e: Error) -> Stop {
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Integrity => Refusal::Key.into(),
        _ => e.into(),
    }
}

/// Opens what was sealed for this holder: the inverse of [`release`]'s shaping.
pub(super) fn unseal(
    contact: &token::HolderContact,
    counter: u64,
    index: u32,
    content: &[u8],
    metadata: Option<&[u8]>,
) -> Result<(SecretBytes, Option<SecretBytes>)> {
    let open = |index, sealed: &[u8]| contact.open_output(counter, index, sealed).map_err(|_| crypto::open_failed());
    Ok((open(index, content)?, metadata.map(|sealed| open(index | METADATA, sealed)).transpose()?))
}
