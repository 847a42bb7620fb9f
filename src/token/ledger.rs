//! The ledger of a sidecar: how often each token was used, and what was revoked. Written before anything is opened.
//!
//! A write survives the death of the process at once, and a loss of power a moment later. Waiting for the disk at every
//! use would cost more than everything else together; instead, when the machine was started anew, every token that was
//! issued before is refused: none lives longer than five minutes. Rows stand in `schema/token.md`.

mod revocations;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::contact::Authorized;
use super::ids::{Digest, TokenId};
use super::refusal::{Refusal, Stop};
use super::verify::VerifiedToken;
use crate::crypto::{self, MacKey};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::kv::rocks::Rocks;
use crate::kv::{Batch, KvBackend, Table};
use crate::limits;
use crate::secret::{Secret, SecretBytes};
use revocations::Revocations;

pub use revocations::Revocation;

const USES: u8 = b'u';
const BOOT: &[u8] = b"boot";
const PURGED: &[u8] = b"purged";
const PSEUDONYMS: &[u8] = b"pseudonyms";
/// Locks that uses are spread over.
const SHARDS: usize = 64;

/// Counts uses and keeps revocations. One process works with it: who opens it holds the lock of its directory.
pub struct Ledger {
    kv: Arc<dyn KvBackend>,
    uses: Vec<Mutex<HashMap<TokenId, Uses>>>,
    counted: AtomicU64,
    revocations: Revocations,
    pseudonyms: Box<dyn MacKey>,
    /// Tokens that were issued up to then are refused: Unix time in milliseconds.
    started_ms: u64,
    /// Tokens that expired up to then are forgotten, and refused whatever the clock says: Unix time in milliseconds.
    purged_ms: AtomicU64,
}

/// How often a token was used, and when it expires.
#[derive(Clone, Copy)]
struct Uses {
    used: u32,
    expires_at_ms: u64,
}

/// The proof that a use of a token was counted, for these of its records. Only [`Ledger::spend`] makes one.
pub struct Spent {
    tenant: TenantId,
    records: Vec<Digest>,
    token: Arc<VerifiedToken>,
}

impl Spent {
    /// The tenant whose records they are.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The records, in the order in which they were asked for.
    pub fn records(&self) -> &[Digest] {
        &self.records
    }

    /// The token.
    pub fn token(&self) -> &VerifiedToken {
        &self.token
    }
}

impl Ledger {
    /// Opens the ledger in `kv`. `boot` names the run of this machine (`/proc/sys/kernel/random/boot_id`).
    ///
    /// A ledger that is new refuses every token that was issued before `now_ms`. One that was last used in another run
    /// refuses what can have been used in it, also when the clock is behind what it was then, or behind the issuer's.
    pub fn open(kv: Arc<dyn KvBackend>, boot: &str, now_ms: u64) -> Result<Self> {
        let row = kv.get(Table::Tokens, BOOT)?;
        let (before_ms, known) = match &row {
            Some(row) => {
                let (at, name) = row.split_first_chunk::<8>().ok_or_else(damaged)?;
                (u64::from_be_bytes(*at), name == boot.as_bytes())
            }
            None => (0, false),
        };
        let purged_ms = match kv.get(Table::Tokens, PURGED)? {
            Some(row) => u64::from_be_bytes(row.try_into().map_err(|_| damaged())?),
            None => 0,
        };
        let started_ms = match &row {
            Some(_) if known => before_ms,
            // A token of a clock that is ahead is used before the second in which it was issued.
            Some(_) => now_ms.max(purged_ms).saturating_add(limits::TOKEN_SKEW_MS).max(before_ms),
            None => now_ms,
        };
        if !known {
            let mut batch = Batch::default();
            batch.put(Table::Tokens, BOOT, [&started_ms.to_be_bytes(), boot.as_bytes()].concat());
            kv.write(batch)?;
            kv.sync()?;
        }
        let uses: Vec<Mutex<HashMap<_, _>>> = (0..SHARDS).map(|_| Mutex::default()).collect();
        let revocations = Revocations::load(&*kv)?;
        let pseudonyms = pseudonyms(&*kv)?;
        let counted = AtomicU64::new(0);
        let ledger =
            Self { kv, uses, counted, revocations, pseudonyms, started_ms, purged_ms: AtomicU64::new(purged_ms) };
        for row in ledger.kv.scan(Table::Tokens, &[USES]) {
            let (key, value) = row?;
            let id = key.get(1..).and_then(|id| TokenId::try_from(id).ok()).ok_or_else(damaged)?;
            ledger.shard(&id).lock().insert(id, Uses::decode(&value)?);
            ledger.counted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ledger)
    }

    /// From when on it takes tokens: Unix time in milliseconds. Times in tokens are whole seconds, so those of the second
    /// in which a new ledger was opened are refused.
    pub fn usable_from_ms(&self) -> u64 {
        (self.started_ms / 1000 + 1).saturating_mul(1000)
    }

    /// What the audit log calls a tenant: 16 bytes in hexadecimal, which only who has this ledger can lead back.
    pub fn pseudonym(&self, tenant: &TenantId) -> String {
        pseudonym(&*self.pseudonyms, tenant)
    }

    /// The same by the ledger in the database `path`, which a sidecar may be working with.
    pub fn pseudonym_in(path: &Path, tenant: &TenantId) -> Result<String> {
        let key = Rocks::peek(path, Table::Tokens, PSEUDONYMS)?.ok_or_else(damaged)?;
        let key = SecretBytes::new(key);
        let key = Secret::copy_from(key.expose_secret()).map_err(|_| damaged())?;
        Ok(pseudonym(&*crypto::default_provider().mac(&key), tenant))
    }

    /// Counts a use of the token that was presented. From then on it is gone, whatever becomes of the request.
    pub fn spend(&self, authorized: Authorized) -> Result<Spent, Stop> {
        let Authorized { tenant, records, token } = authorized;
        let claims = token.claims();
        let issued_at_ms = claims.issued_at_s.saturating_mul(1000);
        let expires_at_ms = claims.expires_at_s.saturating_mul(1000);
        if issued_at_ms <= self.started_ms {
            return Err(Refusal::Reboot.into());
        }
        self.revocations.check(claims)?;
        let mut shard = self.shard(&claims.id).lock();
        // Within the lock: its uses may have been forgotten since its time was checked.
        if expires_at_ms <= self.purged_ms.load(Ordering::SeqCst) {
            return Err(Refusal::Expired.into());
        }
        let used = shard.get(&claims.id).map_or(0, |uses| uses.used);
        if used >= claims.max_uses {
            return Err(Refusal::UsedUp.into());
        }
        if used == 0 && self.counted.fetch_add(1, Ordering::Relaxed) >= limits::LEDGER_TOKENS as u64 {
            self.counted.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Busy, "too many tokens are in use at once")
                .with_remedy("wait until some have expired")
                .into());
        }
        let uses = Uses { used: used + 1, expires_at_ms };
        let mut batch = Batch::default();
        batch.put(Table::Tokens, key(USES, claims.id.as_bytes()), uses.encode());
        if let Err(e) = self.kv.write(batch) {
            if used == 0 {
                self.counted.fetch_sub(1, Ordering::Relaxed);
            }
            return Err(e.into());
        }
        shard.insert(claims.id, uses);
        drop(shard);
        Ok(Spent { tenant, records, token })
    }

    /// Revokes, for good: it is on stable storage on return.
    pub fn revoke(&self, revocation: &Revocation, now_ms: u64) -> Result<()> {
        // Not before what the clock has shown: it may have been set back.
        self.revocations.add(&*self.kv, revocation, now_ms.max(self.purged_ms.load(Ordering::SeqCst)))
    }

    /// Takes a revocation back, and says whether there was one. What was revoked with a tenant stays revoked.
    pub fn lift(&self, revocation: &Revocation) -> Result<bool> {
        self.revocations.remove(&*self.kv, revocation)
    }

    /// What is revoked, and since when: Unix time in milliseconds.
    pub fn revocations(&self) -> Vec<(Revocation, u64)> {
        self.revocations.all()
    }

    /// Forgets tokens that have expired.
    pub fn purge(&self, now_ms: u64) -> Result<()> {
        // A clock that is set back must not make a token good again whose uses are forgotten.
        if self.purged_ms.fetch_max(now_ms, Ordering::SeqCst) >= now_ms {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.frees_space();
        batch.put(Table::Tokens, PURGED, now_ms.to_be_bytes());
        self.kv.write(batch)?;
        self.kv.sync()?;
        for shard in &self.uses {
            let mut batch = Batch::default();
            let mut shard = shard.lock();
            let expired: Vec<_> =
                shard.iter().filter(|(_, uses)| uses.expires_at_ms <= now_ms).map(|(id, _)| *id).collect();
            for id in &expired {
                batch.delete(Table::Tokens, key(USES, id.as_bytes()));
            }
            self.kv.write(batch)?;
            for id in &expired {
                shard.remove(id);
            }
            self.counted.fetch_sub(expired.len() as u64, Ordering::Relaxed);
        }
        self.revocations.purge(&*self.kv, now_ms)
    }

    /// How many tokens have been used that have not expired.
    pub fn len(&self) -> usize {
        usize::try_from(self.counted.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, id: &TokenId) -> &Mutex<HashMap<TokenId, Uses>> {
        // Ids are random, so any byte spreads them evenly.
        let [first, ..] = id.as_bytes();
        #[expect(clippy::indexing_slicing, reason = "the remainder is below the number of shards")]
        &self.uses[usize::from(*first) % SHARDS]
    }
}

impl Uses {
    fn encode(self) -> Vec<u8> {
        [&self.used.to_be_bytes()[..], &self.expires_at_ms.to_be_bytes()].concat()
    }

    fn decode(row: &[u8]) -> Result<Self> {
        let (used, expires) = row.split_first_chunk::<4>().ok_or_else(damaged)?;
        let expires_at_ms = u64::from_be_bytes(expires.try_into().map_err(|_| damaged())?);
        Ok(Self { used: u32::from_be_bytes(*used), expires_at_ms })
    }
}

/// What the audit log calls a tenant: 16 bytes in hexadecimal.
fn pseudonym(key: &dyn MacKey, tenant: &TenantId) -> String {
    let tag = key.tag(&[tenant.as_str().as_bytes()]);
    TokenId::from(crypto::first_16(tag)).to_string()
}

/// The key of the pseudonyms, made with the ledger.
fn pseudonyms(kv: &dyn KvBackend) -> Result<Box<dyn MacKey>> {
    let key = match kv.get(Table::Tokens, PSEUDONYMS)? {
        Some(row) => Secret::copy_from(&row).map_err(|_| damaged())?,
        None => {
            let key = Secret::<32>::random()?;
            let mut batch = Batch::default();
            batch.put(Table::Tokens, PSEUDONYMS, *key.expose_secret());
            kv.write(batch)?;
            kv.sync()?;
            key
        }
    };
    Ok(crypto::default_provider().mac(&key))
}

fn key(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind], name].concat()
}

fn damaged() -> Error {
    Error::integrity("a row of the ledger of tokens").with_remedy(
        "move the ledger's directory away: tokens that were issued before are then refused, and revocations have to be \
         made again",
    )
}
