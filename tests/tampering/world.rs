//! A tenant's keys and its two engines, without anything in between that would remember what they said.

use std::sync::Arc;

use strongroom::clock::ManualClock;
use strongroom::crypto::default_provider;
use strongroom::disk::DataDir;
use strongroom::keys::keystore::Unlock;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::{Keyring, Keystore, Profile};
use strongroom::kv::rocks::Rocks;
use strongroom::kv::{Batch, KvBackend, Table};
use strongroom::locked::LockPolicy;
use strongroom::memory::{Memories, MemoryContext};
use strongroom::vectors::engine::VectorBackend;
use strongroom::vectors::{Catalog, CollectionContext, HandedOut, JournalPins, ResidentBudget, Router};
use strongroom::{ErrorKind, Passphrase, Result};

/// When everything happens.
pub const NOW_MS: u64 = 1_000_000;
pub const TENANT_TAG: [u8; 16] = *b"the tenant's tag";

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub kv: Arc<dyn KvBackend>,
    pub clock: ManualClock,
    keyring: Arc<Keyring>,
    engine: Arc<dyn VectorBackend>,
}

impl World {
    pub fn new(engine: impl FnOnce(&tempfile::TempDir) -> Arc<dyn VectorBackend>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = default_provider();
        let passphrase = Passphrase::new(b"a passphrase for tests".to_vec()).unwrap();
        let unlock = Unlock::Passphrase(passphrase, KdfCost::INSECURE_FAST);
        let keys = Keystore::create(&dir.path().join("keys"), provider, unlock, &ManualClock::at(NOW_MS)).unwrap();
        let tenant = "acme".parse().unwrap();
        keys.onboard(&tenant, Profile::default(), NOW_MS).unwrap();
        let keyring = Arc::new(Keyring::open(&keys, provider, &tenant).unwrap());
        let disk = Arc::new(DataDir::hold(&dir.path().join("data"), 0).unwrap());
        let clock = ManualClock::at(NOW_MS);
        // Nothing is compacted away while the test looks.
        let keep = |_: &[u8], _| false;
        let rocks = Rocks::open(&disk.subdir("db").unwrap(), disk.clone(), 1 << 20, Arc::new(clock.clone()), keep);
        let engine = engine(&dir);
        Self { dir, kv: Arc::new(rocks.unwrap()), clock, keyring, engine }
    }

    pub fn context(&self) -> CollectionContext {
        CollectionContext {
            keyring: self.keyring.clone(),
            kv: self.kv.clone(),
            engine: Router::new(self.engine.clone()),
            lock_policy: LockPolicy::Never,
            graph_from: usize::MAX,
            pins: JournalPins::default(),
            handed: HandedOut::default(),
            budget: ResidentBudget::default(),
        }
    }

    /// The collections as one who has just started sees them.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        Catalog::open(TENANT_TAG, self.context()).map(Arc::new)
    }

    /// The memories as one who has just started sees them.
    pub fn memories(&self) -> Result<Memories> {
        let context = MemoryContext {
            keyring: self.keyring.clone(),
            kv: self.kv.clone(),
            clock: Arc::new(self.clock.clone()),
            catalog: self.catalog()?,
        };
        Ok(Memories::new(TENANT_TAG, context))
    }

    pub fn rows(&self, table: Table) -> Vec<Row> {
        let row = |row: Result<strongroom::kv::Row>| {
            let (key, value) = row.unwrap();
            Row { key: key.into(), value: value.into() }
        };
        self.kv.scan(table, b"").map(row).collect()
    }

    pub fn put(&self, table: Table, key: &[u8], value: &[u8]) {
        let mut batch = Batch::default();
        batch.put(table, key, value);
        self.kv.write(batch).unwrap();
    }

    pub fn delete(&self, table: Table, key: &[u8]) {
        let mut batch = Batch::default();
        batch.delete(table, key);
        self.kv.write(batch).unwrap();
    }
}

/// Something came out, or it was refused as tampered with; nothing else is allowed.
#[track_caller]
pub fn or_integrity<T>(what: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Integrity, "{what}: {e}");
            None
        }
    }
}

/// Every way to change a byte by one bit, then bytes too few and too many.
pub fn mutations(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for at in 0..value.len() {
        for bit in 0..8 {
            let mut changed = value.to_vec();
            changed[at] ^= 1 << bit;
            all.push((format!("bit {bit} of byte {at}"), changed));
        }
    }
    for length in [0, 1, value.len() / 2, value.len().saturating_sub(1)] {
        all.push((format!("cut to {length}"), value[..length].to_vec()));
    }
    all.push(("a byte more".into(), [value, &[0]].concat()));
    all
}
