//! The memories of one tenant: one lock per group of keys, one batch per change, one registry row per memory.

mod read;
mod rotate;
mod verify;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::Namespace;
use crate::keys::{Keyring, Live};
use crate::limits;
use crate::vectors::{Catalog, Entry};

use super::address::{Address, Addresses, TAG_LEN};
use super::sealer::MemorySealer;
use crate::kv::{KvBackend, Table};

pub use verify::MemoryReport;

/// Locks for keys: two memories rarely share one.
const STRIPES: usize = 256;
/// Registry rows that are kept ready, so that reading a memory often costs one read.
const CACHED_ENTRIES: usize = 65_536;
/// Moves that are remembered: more than rotation has under way at a time.
const CACHED_MOVES: usize = 16_384;

/// What the memories of a tenant work with.
#[derive(Clone)]
pub struct MemoryContext {
    /// The tenant's keys.
    pub keyring: Arc<Keyring>,
    /// Where the rows are.
    pub kv: Arc<dyn KvBackend>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where embeddings are.
    pub catalog: Arc<Catalog>,
}

/// The memories of an open tenant.
pub struct Memories {
    addresses: Addresses,
    sealer: MemorySealer,
    context: MemoryContext,
    stripes: Vec<Mutex<()>>,
    /// How many writes others than rotation have made.
    writes: AtomicU64,
    entries: Cache<Address, Entry>,
    rows: Cache<Address, Arc<[u8]>, RowWeight>,
    /// Where rotation has just taken memories from, and to: an index may still name the old place.
    moved: Cache<Address, Address>,
}

/// Where one memory may be, one address in each live epoch, that of the epoch that seals first. It is at one of them at
/// most.
#[derive(Clone)]
struct Places(Vec<Address>);

/// Sealed rows count by their bytes and what the cache itself takes for each.
#[derive(Clone)]
struct RowWeight;

impl Weighter<Address, Arc<[u8]>> for RowWeight {
    fn weight(&self, address: &Address, row: &Arc<[u8]>) -> u64 {
        (row.len() + address.chain().len() + 128) as u64
    }
}

impl Memories {
    /// The memories of the tenant with `tenant_tag`.
    pub fn new(tenant_tag: [u8; TAG_LEN], context: MemoryContext) -> Self {
        Self {
            addresses: Addresses::new(context.keyring.clone(), tenant_tag),
            sealer: MemorySealer { keyring: context.keyring.clone() },
            context,
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            writes: AtomicU64::new(0),
            entries: Cache::new(CACHED_ENTRIES),
            rows: Cache::with_weighter(CACHED_ENTRIES, limits::MEMORY_CACHE_BYTES, RowWeight),
            moved: Cache::new(CACHED_MOVES),
        }
    }

    /// Where the memory `key` of `namespace` is, if it is there: in one of the live epochs.
    fn places(&self, live: &Live, namespace: &Namespace, key: &str) -> Result<Places> {
        super::item::check_key(key)?;
        live.newest_first().map(|epoch| self.addresses.of(epoch, namespace, key)).collect::<Result<_>>().map(Places)
    }

    /// What the registry says of a memory, expired or not.
    fn entry(&self, address: &Address) -> Result<Option<Entry>> {
        if let Some(entry) = self.entries.get(address) {
            return Ok(Some(entry));
        }
        let key = self.addresses.current(address);
        let Some(row) = self.context.kv.get(Table::Registry, &key)? else { return Ok(None) };
        let entry = self.parse_entry(address, &key, &row)?;
        self.entries.insert(address.clone(), entry);
        Ok(Some(entry))
    }

    /// The registry row under `key`, which is the one of `address`.
    fn parse_entry(&self, address: &Address, key: &[u8], row: &[u8]) -> Result<Entry> {
        let entry = Entry::from_row(&self.context.keyring, key, row)?;
        if entry.epoch == address.epoch() { Ok(entry) } else { Err(Error::integrity("a registry row")) }
    }

    /// Whether something that expires then has.
    fn has_expired(&self, expires_at_ms: u64) -> bool {
        expires_at_ms != 0 && expires_at_ms <= self.context.clock.now_ms()
    }

    /// How many writes there have been. What was read after this was asked, and whose lock is held now, is as it was if
    /// there are no more: a write is counted after it was made and before its locks are let go.
    fn seen(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Forgets what is in memory of `address`.
    fn uncache(&self, address: &Address) {
        self.entries.remove(address);
        self.rows.remove(address);
    }

    /// The sealed row at `address`. It is kept only when no write can come between: the cache never holds an older one.
    fn row(&self, address: &Address) -> Result<Option<Arc<[u8]>>> {
        if let Some(row) = self.rows.get(address) {
            return Ok(Some(row));
        }
        let stripe = self.stripes.get(stripe(address)).and_then(Mutex::try_lock);
        let row: Option<Arc<[u8]>> =
            self.context.kv.get(Table::Memory, &self.addresses.current(address))?.map(Into::into);
        if let (Some(_), Some(row)) = (&stripe, &row) {
            self.rows.insert(address.clone(), row.clone());
        }
        Ok(row)
    }

    /// Locks the keys of `addresses`, always in the same order.
    fn lock<'a>(&self, addresses: impl IntoIterator<Item = &'a Address>) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<usize> = addresses.into_iter().map(stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().filter_map(|s| self.stripes.get(s)).map(|stripe| stripe.lock()).collect()
    }
}

/// The lock that stands for `address`.
fn stripe(address: &Address) -> usize {
    usize::from(address.record().first().copied().unwrap_or_default())
}
