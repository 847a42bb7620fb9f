//! What a token says: CWT claims (RFC 8392) in deterministic CBOR (RFC 8949, section 4.2.1), drawn in
//! `schema/token.cddl`.

use coset::CborSerializable as _;
use coset::cbor::Value;
use coset::cwt::{ClaimName, ClaimsSet, ClaimsSetBuilder, Timestamp};
use coset::iana::CwtClaimName;

use super::ids::{Audience, Digest, HolderId, TokenId};
use super::records::Records;
use super::refusal::Refusal;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::limits;

const TENANT: i64 = -70_001;
const OPERATION: i64 = -70_002;
const RECORDS: i64 = -70_003;
const TREE: i64 = -70_004;
const MAX_USES: i64 = -70_005;
/// The member of `cnf` that holds a COSE Key Thumbprint (RFC 9679, section 5.6).
const CKT: i64 = 5;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Have records opened.
    Decrypt,
}

impl Operation {
    /// The name in the token.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Decrypt => "decrypt",
        }
    }
}

/// What a token says. Times are Unix times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: the agent or service that issued it.
    pub issuer: String,
    /// `aud`: the sidecar that may redeem it.
    pub audience: Audience,
    /// `exp`: the first second in which it is not valid any more.
    pub expires_at_s: u64,
    /// `nbf`: the first second in which it is valid.
    pub not_before_s: u64,
    /// `iat`: when it was issued.
    pub issued_at_s: u64,
    /// `cti`: its own name.
    pub id: TokenId,
    /// `cnf`: who may have it redeemed.
    pub holder: HolderId,
    /// The tenant whose records they are.
    pub tenant: TenantId,
    /// What it allows.
    pub operation: Operation,
    /// For which records.
    pub records: Records,
    /// How often.
    pub max_uses: u32,
}

impl Claims {
    /// The one encoding.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let seconds = |s: u64| i64::try_from(s).map(Timestamp::WholeSeconds).map_err(|_| unencodable());
        let confirmation = Value::Map(vec![(Value::from(CKT), Value::Bytes(self.holder.as_bytes().to_vec()))]);
        let mut claims = ClaimsSetBuilder::new()
            .issuer(self.issuer.clone())
            .audience(self.audience.as_str().to_owned())
            .expiration_time(seconds(self.expires_at_s)?)
            .not_before(seconds(self.not_before_s)?)
            .issued_at(seconds(self.issued_at_s)?)
            .cwt_id(self.id.as_bytes().to_vec())
            .claim(CwtClaimName::Cnf, confirmation)
            .private_claim(TENANT, Value::Text(self.tenant.as_str().to_owned()))
            .private_claim(OPERATION, Value::Text(self.operation.as_str().to_owned()));
        claims = match &self.records {
            Records::List(digests) => {
                let digests = digests.iter().map(|digest| Value::Bytes(digest.as_bytes().to_vec()));
                claims.private_claim(RECORDS, Value::Array(digests.collect()))
            }
            Records::Tree { root, count } => {
                claims.private_claim(TREE, Value::Array(vec![Value::Bytes(root.to_vec()), Value::from(*count)]))
            }
        };
        claims.private_claim(MAX_USES, Value::from(self.max_uses)).build().to_vec().map_err(|_| unencodable())
    }

    /// Reads claims. Whether this was their one encoding, the caller finds out by [`encode`](Self::encode).
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let set = ClaimsSet::from_slice(bytes).map_err(|_| Refusal::Malformed)?;
        if set.subject.is_some() {
            return Err(Refusal::Malformed);
        }
        let mut own = Own::default();
        for (name, value) in set.rest {
            own.take(&name, value)?;
        }
        let records = match (own.records, own.tree) {
            (Some(digests), None) => Records::List(digests),
            (None, Some((root, count))) => Records::Tree { root, count },
            _ => return Err(Refusal::Malformed),
        };
        let claims = Self {
            issuer: set.issuer.ok_or(Refusal::Malformed)?,
            audience: set.audience.and_then(|name| name.parse().ok()).ok_or(Refusal::Malformed)?,
            expires_at_s: seconds(set.expiration_time)?,
            not_before_s: seconds(set.not_before)?,
            issued_at_s: seconds(set.issued_at)?,
            id: set.cwt_id.and_then(|id| TokenId::try_from(&id[..]).ok()).ok_or(Refusal::Malformed)?,
            holder: own.holder.ok_or(Refusal::Malformed)?,
            tenant: own.tenant.ok_or(Refusal::Malformed)?,
            operation: own.operation.ok_or(Refusal::Malformed)?,
            records,
            max_uses: own.max_uses.ok_or(Refusal::Malformed)?,
        };
        claims.check_bounds()?;
        Ok(claims)
    }

    /// Refuses what no token may say, whoever signed it.
    fn check_bounds(&self) -> Result<(), Refusal> {
        let records = match &self.records {
            Records::List(digests) => {
                let twice = |(at, digest): (usize, &Digest)| digests.iter().skip(at + 1).any(|other| other == digest);
                (1..=limits::TOKEN_LISTED).contains(&digests.len()) && !digests.iter().enumerate().any(twice)
            }
            Records::Tree { count, .. } => {
                (limits::TOKEN_LISTED + 1..=limits::TOKEN_RECORDS).contains(&(*count as usize))
            }
        };
        let uses = (1..=limits::TOKEN_USES).contains(&self.max_uses);
        let issuer = (1..=limits::SERVICE_NAME_BYTES).contains(&self.issuer.len());
        if records && uses && issuer { Ok(()) } else { Err(Refusal::Malformed) }
    }
}

/// The claims that are not in the registry, and `cnf`.
#[derive(Default)]
struct Own {
    holder: Option<HolderId>,
    tenant: Option<TenantId>,
    operation: Option<Operation>,
    records: Option<Vec<Digest>>,
    tree: Option<([u8; 32], u32)>,
    max_uses: Option<u32>,
}

impl Own {
    fn take(&mut self, name: &ClaimName, value: Value) -> Result<(), Refusal> {
        match name {
            ClaimName::Assigned(CwtClaimName::Cnf) => put(&mut self.holder, holder(value)),
            ClaimName::PrivateUse(TENANT) => put(&mut self.tenant, text(value).and_then(|name| name.parse().ok())),
            ClaimName::PrivateUse(OPERATION) => {
                let decrypt = text(value).filter(|name| name == Operation::Decrypt.as_str());
                put(&mut self.operation, decrypt.map(|_| Operation::Decrypt))
            }
            ClaimName::PrivateUse(RECORDS) => {
                let digests = value.into_array().ok().and_then(|all| all.into_iter().map(digest).collect());
                put(&mut self.records, digests)
            }
            ClaimName::PrivateUse(TREE) => put(&mut self.tree, tree(value)),
            ClaimName::PrivateUse(MAX_USES) => put(&mut self.max_uses, number(&value)),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// Keeps what was read, unless it is not what it should be, or there already.
fn put<T>(slot: &mut Option<T>, read: Option<T>) -> Result<(), Refusal> {
    match (slot.is_some(), read) {
        (false, Some(read)) => {
            *slot = Some(read);
            Ok(())
        }
        _ => Err(Refusal::Malformed),
    }
}

fn text(value: Value) -> Option<String> {
    value.into_text().ok()
}

fn number(value: &Value) -> Option<u32> {
    value.as_integer().and_then(|n| u32::try_from(n).ok())
}

fn digest(value: Value) -> Option<Digest> {
    Digest::try_from(&value.into_bytes().ok()?[..]).ok()
}

fn holder(value: Value) -> Option<HolderId> {
    let [(key, thumbprint)] = <[_; 1]>::try_from(value.into_map().ok()?).ok()?;
    let is_thumbprint = key.as_integer() == Some(CKT.into());
    HolderId::try_from(&thumbprint.into_bytes().ok().filter(|_| is_thumbprint)?[..]).ok()
}

fn tree(value: Value) -> Option<([u8; 32], u32)> {
    let [root, count] = <[_; 2]>::try_from(value.into_array().ok()?).ok()?;
    Some((root.into_bytes().ok()?.try_into().ok()?, number(&count)?))
}

fn seconds(time: Option<Timestamp>) -> Result<u64, Refusal> {
    match time {
        Some(Timestamp::WholeSeconds(s)) => u64::try_from(s).map_err(|_| Refusal::Malformed),
        _ => Err(Refusal::Malformed),
    }
}

fn unencodable() -> Error {
    Error::internal("a token's claims cannot be encoded")
}
