//! Between what is asked and what is sent: each value both ways. What is not canonical is refused.

use super::error::{from_wire, to_wire};
use super::{convert_roots, wire};
use crate::crypto::SuiteId;
use crate::error::{Error, Result};
use crate::id::{AgentId, Epoch, SessionId, TenantId};
use crate::keys::keystore::Destroyed;
use crate::keys::kms::{Decapsulation, DekRequest, Encapsulated, Onboarded, PublicTenant, Recipient, Session};
use crate::keys::{EpochRecord, EpochState, Label, Profile, TenantRecord};
use crate::secret::Secret;

pub(super) fn tenant(text: &str) -> Result<TenantId> {
    text.parse()
}

/// A tenant, or the platform's own entry, from which stores get the key that blinds names.
pub(super) fn tenant_or_system(text: &str) -> Result<TenantId> {
    let system = TenantId::system();
    if text == system.as_str() { Ok(system) } else { tenant(text) }
}

pub(super) fn agent(text: &str) -> Result<AgentId> {
    text.parse()
}

pub(super) fn epoch(number: u32) -> Result<Epoch> {
    Epoch::try_from(number).map_err(|_| Error::invalid("epochs are counted from 1"))
}

/// 0 stands for none.
pub(super) fn suite(number: u32) -> Result<Option<SuiteId>> {
    let known = |number| u16::try_from(number).ok().and_then(|number| SuiteId::try_from(number).ok());
    match number {
        0 => Ok(None),
        number => known(number).map(Some).ok_or_else(|| Error::invalid("there is no suite of this number")),
    }
}

pub(super) fn session_id(bytes: &[u8]) -> Result<SessionId> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| Error::invalid("a session id has 16 bytes"))?;
    Ok(bytes.into())
}

pub(super) fn missing(what: &str) -> Error {
    Error::invalid(format!("the message has no {what}"))
}

pub(super) fn profile(number: i32) -> Result<Profile> {
    let found = Profile::ALL.into_iter().find(|profile| i32::from(profile.as_u8()) == number);
    found.ok_or_else(|| missing("profile that is known"))
}

pub(super) fn profile_to_wire(profile: Profile) -> i32 {
    i32::from(profile.as_u8())
}

fn state(number: i32) -> Result<EpochState> {
    match wire::EpochState::try_from(number) {
        Ok(wire::EpochState::PreActive) => Ok(EpochState::PreActive),
        Ok(wire::EpochState::Active) => Ok(EpochState::Active),
        Ok(wire::EpochState::Deactivated) => Ok(EpochState::Deactivated),
        Ok(wire::EpochState::Compromised) => Ok(EpochState::Compromised),
        Ok(wire::EpochState::Destroyed) => Ok(EpochState::Destroyed),
        Ok(wire::EpochState::Unspecified) | Err(_) => Err(missing("state that is known")),
    }
}

fn state_to_wire(state: EpochState) -> wire::EpochState {
    match state {
        EpochState::PreActive => wire::EpochState::PreActive,
        EpochState::Active => wire::EpochState::Active,
        EpochState::Deactivated => wire::EpochState::Deactivated,
        EpochState::Compromised => wire::EpochState::Compromised,
        EpochState::Destroyed => wire::EpochState::Destroyed,
    }
}

pub(super) fn epoch_record(epoch: wire::Epoch) -> Result<EpochRecord> {
    Ok(EpochRecord {
        epoch: self::epoch(epoch.epoch)?,
        state: state(epoch.state)?,
        suite: epoch.suite,
        created_at_ms: epoch.created_at_ms,
        since_ms: epoch.since_ms,
        fingerprint: epoch.fingerprint.parse()?,
        root_fingerprint: epoch.root_fingerprint.parse()?,
    })
}

pub(super) fn epoch_to_wire(epoch: &EpochRecord) -> wire::Epoch {
    wire::Epoch {
        epoch: epoch.epoch.as_u32(),
        state: state_to_wire(epoch.state).into(),
        suite: epoch.suite.clone(),
        created_at_ms: epoch.created_at_ms,
        since_ms: epoch.since_ms,
        fingerprint: epoch.fingerprint.to_string(),
        root_fingerprint: epoch.root_fingerprint.to_string(),
    }
}

pub(super) fn record(tenant: wire::Tenant) -> Result<TenantRecord> {
    Ok(TenantRecord {
        profile: profile(tenant.profile)?,
        root_fingerprint: tenant.root_fingerprint.parse()?,
        signing_fingerprint: tenant.signing_fingerprint.parse()?,
        certificate_fingerprint: tenant.certificate_fingerprint.parse()?,
        created_at_ms: tenant.created_at_ms,
        epochs: tenant.epochs.into_iter().map(epoch_record).collect::<Result<_>>()?,
        root_keys: tenant.root_keys.into_iter().map(convert_roots::record).collect::<Result<_>>()?,
    })
}

pub(super) fn record_to_wire(record: &TenantRecord) -> wire::Tenant {
    wire::Tenant {
        profile: profile_to_wire(record.profile),
        root_fingerprint: record.root_fingerprint.to_string(),
        signing_fingerprint: record.signing_fingerprint.to_string(),
        certificate_fingerprint: record.certificate_fingerprint.to_string(),
        created_at_ms: record.created_at_ms,
        epochs: record.epochs.iter().map(epoch_to_wire).collect(),
        root_keys: record.root_keys.iter().map(convert_roots::record_to_wire).collect(),
    }
}

pub(super) fn session(session: wire::Session) -> Result<Session> {
    Ok(Session {
        id: session_id(&session.id)?,
        profile: profile(session.profile)?,
        public_key: session.public_key,
        chain: session.chain,
        expires_at_ms: session.expires_at_ms,
    })
}

pub(super) fn session_to_wire(session: Session) -> wire::Session {
    wire::Session {
        id: session.id.as_bytes().to_vec(),
        profile: profile_to_wire(session.profile),
        public_key: session.public_key,
        chain: session.chain,
        expires_at_ms: session.expires_at_ms,
    }
}

pub(super) fn recipient(recipient: wire::Recipient) -> Result<Recipient> {
    match recipient.recipient.ok_or_else(|| missing("recipient"))? {
        wire::recipient::Recipient::Session(id) => Ok(Recipient::Session(session_id(&id)?)),
        wire::recipient::Recipient::Credential(chain) => Ok(Recipient::Credential(chain.certificates)),
    }
}

pub(super) fn recipient_to_wire(recipient: &Recipient) -> wire::Recipient {
    let recipient = match recipient {
        Recipient::Session(id) => wire::recipient::Recipient::Session(id.as_bytes().to_vec()),
        Recipient::Credential(chain) => {
            wire::recipient::Recipient::Credential(wire::Chain { certificates: chain.clone() })
        }
    };
    wire::Recipient { recipient: Some(recipient) }
}

pub(super) fn encapsulated(result: wire::EncapsulateResult) -> Result<Result<Encapsulated>> {
    match result.result.ok_or_else(|| missing("result"))? {
        wire::encapsulate_result::Result::Error(error) => Ok(Err(from_wire(error))),
        wire::encapsulate_result::Result::Encapsulated(made) => Ok(Ok(Encapsulated {
            session: session_id(&made.session)?,
            ciphertext: made.ciphertext,
            key: made.key.ok_or_else(|| missing("key"))?.secret()?,
        })),
    }
}

pub(super) fn encapsulated_to_wire(result: Result<Encapsulated>) -> wire::EncapsulateResult {
    let result = match result {
        Ok(made) => wire::encapsulate_result::Result::Encapsulated(wire::Encapsulated {
            session: made.session.as_bytes().to_vec(),
            ciphertext: made.ciphertext,
            key: Some(wire::SecretKey::new(&made.key)),
        }),
        Err(error) => wire::encapsulate_result::Result::Error(to_wire(&error)),
    };
    wire::EncapsulateResult { result: Some(result) }
}

pub(super) fn decapsulation(item: wire::Decapsulation) -> Result<Decapsulation> {
    Ok(Decapsulation { session: session_id(&item.session)?, ciphertext: item.ciphertext })
}

pub(super) fn decapsulation_to_wire(item: &Decapsulation) -> wire::Decapsulation {
    wire::Decapsulation { session: item.session.as_bytes().to_vec(), ciphertext: item.ciphertext.clone() }
}

pub(super) fn key(result: wire::KeyResult) -> Result<Result<Secret<32>>> {
    match result.result.ok_or_else(|| missing("result"))? {
        wire::key_result::Result::Key(key) => Ok(Ok(key.secret()?)),
        wire::key_result::Result::Error(error) => Ok(Err(from_wire(error))),
    }
}

pub(super) fn key_to_wire(result: Result<Secret<32>>) -> wire::KeyResult {
    let result = match result {
        Ok(key) => wire::key_result::Result::Key(wire::SecretKey::new(&key)),
        Err(error) => wire::key_result::Result::Error(to_wire(&error)),
    };
    wire::KeyResult { result: Some(result) }
}

pub(super) fn signature(result: wire::SignResult) -> Result<Result<Vec<u8>>> {
    match result.result.ok_or_else(|| missing("result"))? {
        wire::sign_result::Result::Signature(signature) => Ok(Ok(signature)),
        wire::sign_result::Result::Error(error) => Ok(Err(from_wire(error))),
    }
}

pub(super) fn signature_to_wire(result: Result<Vec<u8>>) -> wire::SignResult {
    let result = match result {
        Ok(signature) => wire::sign_result::Result::Signature(signature),
        Err(error) => wire::sign_result::Result::Error(to_wire(&error)),
    };
    wire::SignResult { result: Some(result) }
}

pub(super) fn dek(item: wire::Dek) -> Result<DekRequest> {
    let label = Label::ALL.into_iter().find(|label| label.as_str() == item.label);
    let label = label.ok_or_else(|| missing("label that is known"))?;
    Ok(DekRequest { label, epoch: epoch(item.epoch)?, scope: item.scope })
}

pub(super) fn dek_to_wire(item: &DekRequest) -> wire::Dek {
    wire::Dek { label: item.label.as_str().to_owned(), epoch: item.epoch.as_u32(), scope: item.scope.clone() }
}

pub(super) fn onboarded(answer: wire::OnboardResponse) -> Result<Onboarded> {
    Ok(Onboarded {
        record: record(answer.tenant.ok_or_else(|| missing("tenant"))?)?,
        session: answer.session.map(session).transpose()?,
    })
}

pub(super) fn onboarded_to_wire(made: Onboarded) -> wire::OnboardResponse {
    wire::OnboardResponse { tenant: Some(record_to_wire(&made.record)), session: made.session.map(session_to_wire) }
}

pub(super) fn destroyed(answer: &wire::DestroyEpochResponse) -> Result<Destroyed> {
    Ok(Destroyed {
        epoch: epoch(answer.epoch)?,
        fingerprint: answer.fingerprint.parse()?,
        active_fingerprint: answer.active_fingerprint.parse()?,
    })
}

pub(super) fn destroyed_to_wire(destroyed: &Destroyed) -> wire::DestroyEpochResponse {
    wire::DestroyEpochResponse {
        epoch: destroyed.epoch.as_u32(),
        fingerprint: destroyed.fingerprint.to_string(),
        active_fingerprint: destroyed.active_fingerprint.to_string(),
    }
}

pub(super) fn public(answer: wire::PublicTenant) -> Result<PublicTenant> {
    Ok(PublicTenant {
        record: record(answer.tenant.ok_or_else(|| missing("tenant"))?)?,
        root_public_key: answer.root_public_key,
        signing_public_key: answer.signing_public_key,
        certificates: [answer.authority_certificate, answer.tenant_certificate],
    })
}

pub(super) fn public_to_wire(public: PublicTenant) -> wire::PublicTenant {
    let [authority_certificate, tenant_certificate] = public.certificates;
    wire::PublicTenant {
        tenant: Some(record_to_wire(&public.record)),
        root_public_key: public.root_public_key,
        signing_public_key: public.signing_public_key,
        authority_certificate,
        tenant_certificate,
    }
}
