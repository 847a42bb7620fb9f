//! Verifying a token: its encoding, its signature, its times, its audience. Only here can a [`VerifiedToken`] be made.

use std::sync::Arc;

use coset::cbor::Value;
use coset::iana::{Algorithm, EnumI64 as _, HeaderParameter};
use coset::{CoseSign1, Label, RegisteredLabelWithPrivate, TaggedCborSerializable as _};
use quick_cache::sync::Cache;

use super::claims::Claims;
use super::ids::Audience;
use super::mint::{encode, external_aad, unsigned};
use super::refusal::Refusal;
use crate::crypto::Provider;
use crate::id::TenantId;
use crate::keys::certificate::SignerUse;
use crate::keys::{Profile, VerifiedSigner};
use crate::limits;

/// A token that was signed by a believed signer of its tenant and is for this sidecar.
///
/// ```compile_fail
/// # use strongroom::token::{Claims, VerifiedToken};
/// fn take_over(token: &mut VerifiedToken, claims: Claims) {
///     token.claims = claims; // private, as all its fields are
/// }
/// ```
pub struct VerifiedToken {
    claims: Claims,
    digest: [u8; 32],
    profile: Profile,
    signer: [u8; 32],
}

impl VerifiedToken {
    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// SHA-256 of its bytes: what a holder's proof names it by.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The profile of its tenant.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Who signed it, by thumbprint: whoever keeps a verified token asks again whether they are still believed.
    pub fn signer(&self) -> &[u8; 32] {
        &self.signer
    }

    /// Refuses it at a time (Unix time in milliseconds) when it is not valid.
    pub fn check_time(&self, now_ms: u64) -> Result<(), Refusal> {
        let claims = &self.claims;
        let life_s = claims.expires_at_s.checked_sub(claims.issued_at_s).ok_or(Refusal::Lifetime)?;
        let starts_before_it_ends =
            claims.not_before_s >= claims.issued_at_s && claims.not_before_s < claims.expires_at_s;
        if life_s > limits::TOKEN_LIFE_MS / 1000 || !starts_before_it_ends {
            return Err(Refusal::Lifetime);
        }
        if now_ms.saturating_add(limits::TOKEN_SKEW_MS) / 1000 < claims.not_before_s {
            return Err(Refusal::NotYet);
        }
        if now_ms / 1000 >= claims.expires_at_s {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

/// A token that was decoded. What it says says nothing yet, but whom to ask about it.
pub struct Unverified<'a> {
    bytes: &'a [u8],
    token: CoseSign1,
    claims: Claims,
    signer: [u8; 32],
}

impl<'a> Unverified<'a> {
    /// Decodes a token. Whether this is its one encoding, [`verify`](Self::verify) finds out.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let token = parse(bytes)?;
        let signer = signer_of(&token)?;
        let claims = Claims::decode(token.payload.as_deref().unwrap_or_default())?;
        Ok(Self { bytes, token, claims, signer })
    }

    /// Who it says has signed it, by the thumbprint of the credential.
    pub fn signer(&self) -> &[u8; 32] {
        &self.signer
    }

    /// Whose records it says it is for.
    pub fn tenant(&self) -> &TenantId {
        &self.claims.tenant
    }

    /// Verifies it as a token of `signer` for `audience` at `now_ms` (Unix time in milliseconds).
    pub fn verify(
        self,
        provider: &dyn Provider,
        signer: &VerifiedSigner,
        audience: &Audience,
        now_ms: u64,
    ) -> Result<VerifiedToken, Refusal> {
        let Self { bytes, token, claims, signer: named } = self;
        if signer.purpose() != SignerUse::Tokens || named != *signer.thumbprint() {
            return Err(Refusal::Issuer);
        }
        // A token has one encoding: that of what was read from it, with the algorithm that its signer has.
        let again = unsigned(signer.algorithm(), signer.thumbprint(), &claims).map_err(|_| Refusal::Malformed)?;
        let signed = again.tbs_data(&external_aad(&claims.tenant));
        let signature = token.signature.clone();
        let again = encode(CoseSign1 { signature, ..again }).map_err(|_| Refusal::Malformed)?;
        if again != bytes {
            return Err(Refusal::Malformed);
        }
        if claims.tenant != *signer.tenant() {
            return Err(Refusal::Tenant);
        }
        if claims.issuer != signer.agent().as_str() {
            return Err(Refusal::Issuer);
        }
        signer.verify(provider, &signed, &token.signature).map_err(|_| Refusal::Signature)?;
        let (digest, profile) = (provider.sha256(&[bytes]), signer.profile());
        let verified = VerifiedToken { claims, digest, profile, signer: *signer.thumbprint() };
        verified.check_time(now_ms)?;
        if verified.claims.audience != *audience {
            return Err(Refusal::Audience);
        }
        Ok(verified)
    }
}

/// Tokens that were verified, by the SHA-256 of their bytes. What is found here still has to be
/// [in time](VerifiedToken::check_time), and its signer to be believed.
pub struct VerifiedTokens(Cache<[u8; 32], Arc<VerifiedToken>>);

impl VerifiedTokens {
    /// Room for [`limits::VERIFIED_TOKENS`].
    pub fn new() -> Self {
        Self(Cache::new(limits::VERIFIED_TOKENS))
    }

    /// The token with this digest.
    pub fn get(&self, digest: &[u8; 32]) -> Option<Arc<VerifiedToken>> {
        self.0.get(digest)
    }

    /// Keeps `token`.
    pub fn keep(&self, token: VerifiedToken) -> Arc<VerifiedToken> {
        let token = Arc::new(token);
        self.0.insert(token.digest, token.clone());
        token
    }

    /// Forgets the tokens of a tenant.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.0.retain(|_, token| token.claims.tenant != *tenant);
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self::new()
    }
}

/// What a token says, unverified: algorithm, signer and claims.
pub(super) fn read(bytes: &[u8]) -> Result<(&'static str, [u8; 32], Claims), Refusal> {
    let Unverified { token, claims, signer, .. } = Unverified::read(bytes)?;
    let algorithm = match &token.protected.header.alg {
        Some(RegisteredLabelWithPrivate::Assigned(Algorithm::ML_DSA_65)) => "ML-DSA-65",
        Some(RegisteredLabelWithPrivate::Assigned(Algorithm::ML_DSA_87)) => "ML-DSA-87",
        _ => return Err(Refusal::Malformed),
    };
    Ok((algorithm, signer, claims))
}

fn parse(bytes: &[u8]) -> Result<CoseSign1, Refusal> {
    if bytes.len() > limits::TOKEN_BYTES {
        return Err(Refusal::Malformed);
    }
    CoseSign1::from_tagged_slice(bytes).map_err(|_| Refusal::Malformed)
}

fn signer_of(token: &CoseSign1) -> Result<[u8; 32], Refusal> {
    let x5t = Label::Int(HeaderParameter::X5T.to_i64());
    let value = token.protected.header.rest.iter().find(|(label, _)| *label == x5t).map(|(_, value)| value);
    let Some(Value::Array(parts)) = value else { return Err(Refusal::Malformed) };
    match parts.as_slice() {
        [_, Value::Bytes(thumbprint)] => thumbprint.as_slice().try_into().map_err(|_| Refusal::Malformed),
        _ => Err(Refusal::Malformed),
    }
}
