//! Between the wire and the service.

use super::redeem::{Output, RedeemRequest, Token, Wanted};
use super::wire;
use crate::error::{Error, Result};
use crate::keys::Profile;
use crate::limits;
use crate::token::{Asked, Digest, Form, Hello, HolderId, Membership, Proof, RecordKind, Revocation, TokenId, Welcome};

fn fixed<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::invalid(format!("{what} has {N} bytes")))
}

pub(super) fn hello(asked: wire::ContactRequest) -> Result<Hello> {
    let profile = Profile::ALL.into_iter().find(|profile| u32::from(profile.as_u8()) == asked.profile);
    let profile = profile.ok_or_else(|| Error::invalid("the message has no profile that is known"))?;
    Ok(Hello { profile, public_key: asked.public_key, nonce: fixed(&asked.nonce, "a nonce")? })
}

pub(super) fn hello_to_wire(hello: &Hello) -> wire::ContactRequest {
    let (public_key, nonce) = (hello.public_key.clone(), hello.nonce.to_vec());
    wire::ContactRequest { profile: u32::from(hello.profile.as_u8()), public_key, nonce }
}

pub(super) fn welcome(answer: wire::ContactResponse) -> Result<Welcome> {
    Ok(Welcome {
        id: fixed(&answer.id, "a contact's id")?,
        ciphertext: answer.ciphertext,
        expires_at_ms: answer.expires_at_ms,
        confirmation: fixed(&answer.confirmation, "a confirmation")?,
    })
}

pub(super) fn welcome_to_wire(welcome: Welcome) -> wire::ContactResponse {
    wire::ContactResponse {
        id: welcome.id.to_vec(),
        ciphertext: welcome.ciphertext,
        expires_at_ms: welcome.expires_at_ms,
        confirmation: welcome.confirmation.to_vec(),
    }
}

pub(super) fn request(asked: wire::RedeemRequest) -> Result<RedeemRequest> {
    if asked.records.len() > limits::REDEEM_RECORDS {
        return Err(Error::invalid(format!("a request has more than {} records", limits::REDEEM_RECORDS)));
    }
    let form = form(asked.form());
    let token = match asked.token {
        Some(wire::redeem_request::Token::Whole(bytes)) => Token::Whole { bytes, issuer: asked.issuer },
        Some(wire::redeem_request::Token::Sha256(digest)) => Token::Known(fixed(&digest, "a token's SHA-256")?),
        None => return Err(Error::invalid("the request has no token")),
    };
    Ok(RedeemRequest {
        contact: fixed(&asked.contact, "a contact's id")?,
        proof: Proof { counter: asked.counter, mac: fixed(&asked.proof, "a proof")? },
        token,
        form,
        records: asked.records.into_iter().map(wanted).collect::<Result<_>>()?,
    })
}

pub(super) fn request_to_wire(request: RedeemRequest) -> wire::RedeemRequest {
    let (token, issuer) = match request.token {
        Token::Whole { bytes, issuer } => (wire::redeem_request::Token::Whole(bytes), issuer),
        Token::Known(digest) => (wire::redeem_request::Token::Sha256(digest.to_vec()), Vec::new()),
    };
    let form = match request.form {
        Form::Clear => wire::Form::Clear,
        Form::Sealed => wire::Form::Sealed,
    };
    wire::RedeemRequest {
        contact: request.contact.to_vec(),
        counter: request.proof.counter,
        proof: request.proof.mac.to_vec(),
        form: form.into(),
        token: Some(token),
        issuer,
        records: request.records.into_iter().map(wanted_to_wire).collect(),
    }
}

fn form(form: wire::Form) -> Form {
    match form {
        wire::Form::Clear => Form::Clear,
        wire::Form::Sealed | wire::Form::Unspecified => Form::Sealed,
    }
}

fn wanted(asked: wire::WantedRecord) -> Result<Wanted> {
    let membership = asked.membership.map(|membership| {
        if membership.path.len() > limits::TOKEN_PATH {
            return Err(Error::invalid("the path of a record is too long"));
        }
        let path = membership.path.iter().map(|hash| fixed(hash, "a hash")).collect::<Result<_>>()?;
        Ok(Membership { index: membership.index, path })
    });
    let asked_for = Asked { digest: Digest::try_from(&asked.digest[..])?, membership: membership.transpose()? };
    Ok(Wanted { asked: asked_for, place: asked.place, sealed: asked.sealed })
}

fn wanted_to_wire(wanted: Wanted) -> wire::WantedRecord {
    let membership = wanted.asked.membership.map(|membership| wire::Membership {
        index: membership.index,
        path: membership.path.iter().map(|hash| hash.to_vec()).collect(),
    });
    let digest = wanted.asked.digest.as_bytes().to_vec();
    wire::WantedRecord { digest, place: wanted.place, sealed: wanted.sealed, membership }
}

pub(super) fn output_to_wire(output: &Output) -> wire::OpenedRecord {
    let kind = match output.kind {
        RecordKind::Chunk => wire::Kind::Chunk,
        RecordKind::Context => wire::Kind::Context,
    };
    wire::OpenedRecord {
        kind: kind.into(),
        content: output.content.expose_secret().to_vec(),
        metadata: output.metadata.as_ref().map(|metadata| metadata.expose_secret().to_vec()),
    }
}

pub(super) fn kind(opened: &wire::OpenedRecord) -> Result<RecordKind> {
    match opened.kind() {
        wire::Kind::Chunk => Ok(RecordKind::Chunk),
        wire::Kind::Context => Ok(RecordKind::Context),
        wire::Kind::Unspecified => Err(Error::internal("the sidecar answered with a record of no kind")),
    }
}

pub(super) fn revocation(asked: wire::Revocation) -> Result<Revocation> {
    use wire::revocation::What;
    match asked.what {
        Some(What::Token(id)) => Ok(Revocation::Token(TokenId::try_from(&id[..])?)),
        Some(What::Holder(id)) => Ok(Revocation::Holder(HolderId::try_from(&id[..])?)),
        Some(What::Tenant(id)) => Ok(Revocation::Tenant(id.parse()?)),
        None => Err(Error::invalid("the message says nothing that could be revoked")),
    }
}

pub(super) fn revocation_to_wire(revocation: &Revocation, at_ms: u64) -> wire::Revocation {
    use wire::revocation::What;
    let what = match revocation {
        Revocation::Token(id) => What::Token(id.as_bytes().to_vec()),
        Revocation::Holder(id) => What::Holder(id.as_bytes().to_vec()),
        Revocation::Tenant(id) => What::Tenant(id.as_str().to_owned()),
    };
    wire::Revocation { what: Some(what), at_ms }
}
