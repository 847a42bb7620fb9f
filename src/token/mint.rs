//! Minting: a COSE_Sign1 (RFC 9052, section 4.2) over the claims, signed by a key that is certified for tokens.

use coset::cbor::Value;
use coset::iana::Algorithm;
use coset::iana::EnumI64 as _;
use coset::iana::HeaderParameter;
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _};

use super::claims::{Claims, Operation};
use super::ids::{Audience, Digest, HolderId, TokenId};
use super::records::Records;
use crate::crypto::{Provider, Signature};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::Signer;
use crate::keys::certificate::SignerUse;
use crate::limits;

/// The version of what is signed: the first byte of the external AAD.
const VERSION: u8 = 1;

/// What is to be minted.
#[derive(Debug, Clone, Copy)]
pub struct MintRequest<'a> {
    /// The sidecar that may redeem it.
    pub audience: &'a Audience,
    /// Who may have it redeemed.
    pub holder: &'a HolderId,
    /// What it allows.
    pub operation: Operation,
    /// For which records: at most [`limits::TOKEN_RECORDS`], no two the same.
    pub records: &'a [Digest],
    /// How often: 1 to [`limits::TOKEN_USES`].
    pub max_uses: u32,
    /// How long, in milliseconds: 1 000 to [`limits::TOKEN_LIFE_MS`]. Times in tokens are whole seconds: it may end up to
    /// a second earlier.
    pub life_ms: u64,
}

/// A minted token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    bytes: Vec<u8>,
    claims: Claims,
}

impl Token {
    /// The token: a tagged COSE_Sign1.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// Mints a token for records of the signer's tenant, from `now_ms` (Unix time in milliseconds) on.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a request that no token may have, or a signer for another use.
pub fn mint(provider: &dyn Provider, signer: &Signer, request: &MintRequest<'_>, now_ms: u64) -> Result<Token> {
    if signer.purpose() != SignerUse::Tokens {
        return Err(Error::invalid("this key is not certified for tokens"));
    }
    if !(1_000..=limits::TOKEN_LIFE_MS).contains(&request.life_ms) {
        return Err(Error::invalid(format!("a token cannot live for {} ms", request.life_ms))
            .with_remedy(format!("ask for 1000 to {} ms", limits::TOKEN_LIFE_MS)));
    }
    if !(1..=limits::TOKEN_USES).contains(&request.max_uses) {
        return Err(Error::invalid(format!("a token cannot have {} uses", request.max_uses))
            .with_remedy(format!("ask for 1 to {}", limits::TOKEN_USES)));
    }
    let mut sorted = request.records.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Error::invalid("a token cannot name a record twice"));
    }
    let issued_at_s = now_ms / 1000;
    let claims = Claims {
        issuer: signer.agent().as_str().to_owned(),
        audience: request.audience.clone(),
        expires_at_s: issued_at_s.saturating_add(request.life_ms / 1000),
        not_before_s: issued_at_s,
        issued_at_s,
        id: TokenId::random()?,
        holder: *request.holder,
        tenant: signer.tenant().clone(),
        operation: request.operation,
        records: Records::of(provider, request.records)?,
        max_uses: request.max_uses,
    };
    let unsigned = unsigned(signer.algorithm(), signer.thumbprint(), &claims)?;
    let signature = signer.sign(&unsigned.tbs_data(&external_aad(&claims.tenant)))?;
    Ok(Token { bytes: encode(CoseSign1 { signature, ..unsigned })?, claims })
}

/// The COSE algorithm of a signature scheme (RFC 9964, section 5). Tokens have no others.
pub(super) fn algorithm(scheme: Signature) -> Result<Algorithm> {
    match scheme {
        Signature::MlDsa65 => Ok(Algorithm::ML_DSA_65),
        Signature::MlDsa87 => Ok(Algorithm::ML_DSA_87),
        other => Err(Error::invalid(format!("tokens are not signed with {other}"))),
    }
}

/// What the signature is bound to besides the token: the version and the tenant.
pub(super) fn external_aad(tenant: &TenantId) -> Vec<u8> {
    [&[VERSION], tenant.as_str().as_bytes()].concat()
}

/// The token without its signature: `alg` and `x5t` (RFC 9360, section 2) protected, nothing unprotected.
pub(super) fn unsigned(scheme: Signature, signer: &[u8; 32], claims: &Claims) -> Result<CoseSign1> {
    let thumbprint = Value::Array(vec![Value::from(Algorithm::SHA_256.to_i64()), Value::Bytes(signer.to_vec())]);
    let protected =
        HeaderBuilder::new().algorithm(algorithm(scheme)?).value(HeaderParameter::X5T.to_i64(), thumbprint).build();
    Ok(CoseSign1Builder::new().protected(protected).payload(claims.encode()?).build())
}

pub(super) fn encode(token: CoseSign1) -> Result<Vec<u8>> {
    token.to_tagged_vec().map_err(|_| Error::internal("a token cannot be encoded"))
}
