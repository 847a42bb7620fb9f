//! What is revoked: single tokens until they expire, holders until that is lifted, and all tokens of a tenant up to now.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::RwLock;

use super::super::claims::Claims;
use super::super::ids::{HolderId, TokenId};
use super::super::refusal::Refusal;
use super::{damaged, key};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::kv::{Batch, KvBackend, Table};
use crate::limits;

const REVOKED: u8 = b'r';

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revocation {
    /// One token.
    Token(TokenId),
    /// Every token of a holder, until it is lifted.
    Holder(HolderId),
    /// Every token of a tenant that was issued so far.
    Tenant(TenantId),
}

impl Revocation {
    fn row_key(&self) -> Vec<u8> {
        match self {
            Revocation::Token(id) => key(REVOKED, &key(b'c', id.as_bytes())),
            Revocation::Holder(id) => key(REVOKED, &key(b'h', id.as_bytes())),
            Revocation::Tenant(id) => key(REVOKED, &key(b't', id.as_str().as_bytes())),
        }
    }

    fn from_row_key(key: &[u8]) -> Result<Self> {
        let (kind, name) = key.get(1..).and_then(<[u8]>::split_first).ok_or_else(damaged)?;
        let read = match kind {
            b'c' => TokenId::try_from(name).ok().map(Revocation::Token),
            b'h' => HolderId::try_from(name).ok().map(Revocation::Holder),
            b't' => std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).map(Revocation::Tenant),
            _ => None,
        };
        read.ok_or_else(damaged)
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Revocation::Token(id) => write!(f, "token {id}"),
            Revocation::Holder(id) => write!(f, "holder {id}"),
            Revocation::Tenant(id) => write!(f, "tenant {}", id.as_str()),
        }
    }
}

/// Everything that is revoked, with the time at which it was.
pub(super) struct Revocations(RwLock<BTreeMap<Revocation, u64>>);

impl Revocations {
    pub(super) fn load(kv: &dyn KvBackend) -> Result<Self> {
        let mut revoked = BTreeMap::new();
        for row in kv.scan(Table::Tokens, &[REVOKED]) {
            let (key, value) = row?;
            let at: [u8; 8] = value[..].try_into().map_err(|_| damaged())?;
            revoked.insert(Revocation::from_row_key(&key)?, u64::from_be_bytes(at));
        }
        Ok(Self(RwLock::new(revoked)))
    }

    pub(super) fn check(&self, claims: &Claims) -> Result<(), Refusal> {
        let revoked = self.0.read();
        if revoked.is_empty() {
            return Ok(());
        }
        let tenant_ms = revoked.get(&Revocation::Tenant(claims.tenant.clone()));
        // The issuer's clock may be ahead: what it says was issued just after counts as issued before.
        let issued_at_ms = claims.issued_at_s.saturating_mul(1000);
        let with_its_tenant =
            tenant_ms.is_some_and(|at_ms| issued_at_ms <= at_ms.saturating_add(limits::TOKEN_SKEW_MS));
        let itself = revoked.contains_key(&Revocation::Token(claims.id));
        if itself || with_its_tenant || revoked.contains_key(&Revocation::Holder(claims.holder)) {
            return Err(Refusal::Revoked);
        }
        Ok(())
    }

    pub(super) fn add(&self, kv: &dyn KvBackend, revocation: &Revocation, now_ms: u64) -> Result<()> {
        let mut revoked = self.0.write();
        if revoked.len() >= limits::REVOCATIONS && !revoked.contains_key(revocation) {
            return Err(Error::new(ErrorKind::Busy, "too many revocations are kept")
                .with_remedy("lift those of holders that are gone, or revoke the whole tenant"));
        }
        // Refused from now on, even if it cannot be written down.
        let at_ms =
            *revoked.entry(revocation.clone()).and_modify(|at_ms| *at_ms = now_ms.max(*at_ms)).or_insert(now_ms);
        drop(revoked);
        let mut batch = Batch::default();
        batch.put(Table::Tokens, revocation.row_key(), at_ms.to_be_bytes());
        kv.write(batch)?;
        kv.sync()
    }

    pub(super) fn remove(&self, kv: &dyn KvBackend, revocation: &Revocation) -> Result<bool> {
        let mut batch = Batch::default();
        batch.delete(Table::Tokens, revocation.row_key());
        kv.write(batch)?;
        kv.sync()?;
        Ok(self.0.write().remove(revocation).is_some())
    }

    pub(super) fn all(&self) -> Vec<(Revocation, u64)> {
        self.0.read().iter().map(|(revocation, at_ms)| (revocation.clone(), *at_ms)).collect()
    }

    /// Forgets tokens, and tenants, whose tokens must have expired.
    pub(super) fn purge(&self, kv: &dyn KvBackend, now_ms: u64) -> Result<()> {
        // Of a clock that is ahead a token may begin later than it was revoked.
        let longest_ms = 2 * (limits::TOKEN_LIFE_MS + limits::TOKEN_SKEW_MS);
        let is_over = |revocation: &Revocation, at_ms: u64| {
            !matches!(revocation, Revocation::Holder(_)) && at_ms.saturating_add(longest_ms) <= now_ms
        };
        let mut revoked = self.0.write();
        let mut batch = Batch::default();
        for (revocation, at_ms) in revoked.iter().filter(|(revocation, at_ms)| is_over(revocation, **at_ms)) {
            debug_assert!(*at_ms <= now_ms);
            batch.delete(Table::Tokens, revocation.row_key());
        }
        if !batch.is_empty() {
            kv.write(batch)?;
            revoked.retain(|revocation, at_ms| !is_over(revocation, *at_ms));
        }
        Ok(())
    }
}
