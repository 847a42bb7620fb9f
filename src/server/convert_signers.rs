//! Signers on the wire, and back.

use super::convert;
use super::wire;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::certificate::SignerUse;
use crate::keys::kms::{SignerCredential, SignerRequest};
use crate::keys::{Believed, VerifiedSigner};

pub(super) fn purpose(number: i32) -> Result<SignerUse> {
    match wire::SignerUse::try_from(number) {
        Ok(wire::SignerUse::Tokens) => Ok(SignerUse::Tokens),
        Ok(wire::SignerUse::Envelopes) => Ok(SignerUse::Envelopes),
        Ok(wire::SignerUse::Actions) => Ok(SignerUse::Actions),
        _ => Err(Error::invalid("the message has no use of a signer that is known")),
    }
}

pub(super) fn purpose_to_wire(purpose: SignerUse) -> i32 {
    i32::from(match purpose {
        SignerUse::Tokens => wire::SignerUse::Tokens,
        SignerUse::Envelopes => wire::SignerUse::Envelopes,
        SignerUse::Actions => wire::SignerUse::Actions,
    })
}

pub(super) fn request(asked: wire::CertifySignerRequest) -> Result<SignerRequest> {
    Ok(SignerRequest {
        agent: convert::agent(&asked.agent)?,
        purpose: purpose(asked.r#use)?,
        algorithm: asked.algorithm.parse()?,
        public_key: asked.public_key,
        proof: asked.proof,
        lifetime_ms: asked.lifetime_ms,
    })
}

pub(super) fn request_to_wire(tenant: &TenantId, request: &SignerRequest) -> wire::CertifySignerRequest {
    wire::CertifySignerRequest {
        tenant: tenant.as_str().to_owned(),
        agent: request.agent.as_str().to_owned(),
        r#use: purpose_to_wire(request.purpose),
        algorithm: request.algorithm.as_str().to_owned(),
        public_key: request.public_key.clone(),
        proof: request.proof.clone(),
        lifetime_ms: request.lifetime_ms,
    }
}

pub(super) fn credential(answer: wire::SignerCredential) -> Result<SignerCredential> {
    let session = convert::session_id(&answer.session)?;
    Ok(SignerCredential { session, chain: answer.chain, expires_at_ms: answer.expires_at_ms })
}

pub(super) fn credential_to_wire(credential: SignerCredential) -> wire::SignerCredential {
    let session = credential.session.as_bytes().to_vec();
    wire::SignerCredential { session, chain: credential.chain, expires_at_ms: credential.expires_at_ms }
}

/// What the service believes of the signer called `thumbprint`.
pub(super) fn believed(answer: wire::BelievedSigner, thumbprint: [u8; 32]) -> Result<VerifiedSigner> {
    Ok(VerifiedSigner::new(Believed {
        tenant: convert::tenant(&answer.tenant)?,
        profile: convert::profile(answer.profile)?,
        agent: convert::agent(&answer.agent)?,
        session: convert::session_id(&answer.session)?,
        purpose: purpose(answer.r#use)?,
        algorithm: answer.algorithm.parse()?,
        public_key: answer.public_key,
        thumbprint,
        not_after_ms: answer.not_after_ms,
    }))
}

pub(super) fn believed_to_wire(signer: &VerifiedSigner) -> wire::BelievedSigner {
    wire::BelievedSigner {
        tenant: signer.tenant().as_str().to_owned(),
        profile: convert::profile_to_wire(signer.profile()),
        agent: signer.agent().as_str().to_owned(),
        session: signer.session().as_bytes().to_vec(),
        r#use: purpose_to_wire(signer.purpose()),
        algorithm: signer.algorithm().as_str().to_owned(),
        public_key: signer.public_key().to_vec(),
        not_after_ms: signer.not_after_ms(),
    }
}
