//! What several tests need: a store in a temporary directory and the sample corpus.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use strongroom::keys::keystore::file::KdfCost;
use strongroom::{Chunk, Passphrase, Store, StoreOptions, Tenant};

/// A store that is removed with its directory.
pub struct TestStore {
    // Closed before its directory is removed: fields are dropped in this order.
    pub store: Store,
    pub dir: tempfile::TempDir,
}

pub fn passphrase() -> Passphrase {
    Passphrase::new(b"a passphrase for tests".to_vec()).unwrap()
}

pub fn options(dir: &Path) -> StoreOptions {
    StoreOptions::new(dir).kdf_cost(KdfCost::INSECURE_FAST)
}

pub async fn store() -> TestStore {
    let dir = tempfile::tempdir().unwrap();
    Store::init(&options(dir.path()), passphrase()).await.unwrap();
    let store = Store::open(options(dir.path()), passphrase()).await.unwrap();
    TestStore { store, dir }
}

impl TestStore {
    pub async fn tenant(&self, name: &str) -> Tenant {
        self.store.create_tenant(&name.parse().unwrap()).await.unwrap()
    }

    /// Closes the store and opens it again.
    pub async fn reopen(self) -> TestStore {
        self.store.close().await.unwrap();
        let store = Store::open(options(self.dir.path()), passphrase()).await.unwrap();
        TestStore { store, dir: self.dir }
    }
}

pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/sample/jargon").join(name)
}

/// The rows of one of the sample's `.npy` files (half precision, 384 columns).
pub fn sample_vectors(name: &str) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(sample(name)).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f32> =
        bytes[10 + header..].chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
    values.chunks_exact(384).map(<[f32]>::to_vec).collect()
}

/// The sample corpus as chunks.
pub fn sample_chunks() -> Vec<Chunk> {
    let lines = std::fs::read_to_string(sample("chunks.jsonl")).unwrap();
    let vectors = sample_vectors("chunk_vectors.f16.npy");
    lines
        .lines()
        .zip(vectors)
        .map(|(line, vector)| {
            let value: Value = serde_json::from_str(line).unwrap();
            let metadata: Map<String, Value> = value["metadata"].as_object().unwrap().clone();
            Chunk::new(value["id"].as_u64().unwrap(), value["text"].as_str().unwrap(), vector).metadata(metadata)
        })
        .collect()
}
