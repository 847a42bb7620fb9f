//! What a token says, for people. Nothing is verified, and nothing in a token is secret.

use std::fmt;

use serde::Serialize;

use super::claims::Claims;
use super::records::Records;
use super::refusal::Refusal;
use super::verify::read;

/// A token as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenView {
    /// Its own name.
    pub id: String,
    /// What it is signed with.
    pub algorithm: &'static str,
    /// The signer's credential, by SHA-256.
    pub signer: String,
    /// Who issued it.
    pub issuer: String,
    /// The tenant.
    pub tenant: String,
    /// The sidecar that may redeem it.
    pub audience: String,
    /// Who may have it redeemed.
    pub holder: String,
    /// What it allows.
    pub operation: &'static str,
    /// How often.
    pub max_uses: u32,
    /// When it was issued, in seconds.
    pub issued_at_s: u64,
    /// From when on it is valid, in seconds.
    pub not_before_s: u64,
    /// When it expires, in seconds.
    pub expires_at_s: u64,
    /// The digests of its records; none when it has the root of a tree instead.
    pub records: Vec<String>,
    /// The root of the tree of its records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree_root: Option<String>,
    /// How many records.
    pub record_count: usize,
    /// How long it is, in bytes.
    pub bytes: usize,
}

impl TokenView {
    /// What `bytes` say, true or not.
    pub fn of(bytes: &[u8]) -> Result<Self, Refusal> {
        let (algorithm, signer, claims) = read(bytes)?;
        let Claims { issuer, audience, expires_at_s, not_before_s, issued_at_s, id, holder, tenant, .. } = &claims;
        let (records, tree_root) = match &claims.records {
            Records::List(digests) => (digests.iter().map(ToString::to_string).collect(), None),
            Records::Tree { root, .. } => (Vec::new(), Some(super::Digest::from(*root).to_string())),
        };
        Ok(Self {
            id: id.to_string(),
            algorithm,
            signer: super::Digest::from(signer).to_string(),
            issuer: issuer.clone(),
            tenant: tenant.as_str().to_owned(),
            audience: audience.to_string(),
            holder: holder.to_string(),
            operation: claims.operation.as_str(),
            max_uses: claims.max_uses,
            issued_at_s: *issued_at_s,
            not_before_s: *not_before_s,
            expires_at_s: *expires_at_s,
            records,
            tree_root,
            record_count: claims.records.len(),
            bytes: bytes.len(),
        })
    }
}

impl fmt::Display for TokenView {
    /// Several lines, one per fact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capability token, {} bytes, not verified", self.bytes)?;
        let life = self.expires_at_s.saturating_sub(self.issued_at_s);
        for (name, value) in [
            ("id", &self.id),
            ("tenant", &self.tenant),
            ("issuer", &self.issuer),
            ("audience", &self.audience),
            ("holder", &self.holder),
            ("allows", &format!("{} {} records, {} times", self.operation, self.record_count, self.max_uses)),
            ("issued", &format!("{} (Unix time), for {life} s", self.issued_at_s)),
            ("signed", &format!("{} by {}", self.algorithm, self.signer)),
        ] {
            write!(f, "\n  {name:<10} {value}")?;
        }
        Ok(())
    }
}
