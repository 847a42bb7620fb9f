//! What several tests need: a store in a temporary directory and the sample corpus.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod audit;
pub mod cli;
pub mod dump;
pub mod qdrant;
pub mod service;
pub mod upstream;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use strongroom::audit::log::SignatureChoice;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::{Chunk, Config, Engine, Passphrase, Store, StoreOptions, Tenant};

/// A store that is removed with its directory.
pub struct TestStore {
    // Closed before its directory is removed: fields are dropped in this order.
    pub store: Store,
    pub dir: tempfile::TempDir,
}

pub fn passphrase() -> Passphrase {
    Passphrase::new(b"a passphrase for tests".to_vec()).unwrap()
}

/// The defaults, but for the signature under checkpoints of the audit log: one of SLH-DSA takes a third of a second at each
/// close of a store. Tests of the log itself make both.
pub fn config() -> Config {
    Config { audit_signature: SignatureChoice::MlDsa, ..Config::default() }
}

pub fn options(dir: &Path) -> StoreOptions {
    let options = StoreOptions::new(dir).config(config()).kdf_cost(KdfCost::INSECURE_FAST);
    match std::fs::read_to_string(dir.join(QDRANT_URL)) {
        Ok(url) => options.qdrant_url(url),
        Err(_) => options,
    }
}

/// The file in a test's store with the address of its Qdrant server, if it has one.
const QDRANT_URL: &str = "qdrant-url";

/// A store that can have collections in `engine`.
pub async fn store_for(engine: Engine) -> TestStore {
    match engine {
        Engine::Edge => store().await,
        Engine::Server(_) => store_at(upstream::shared_url()).await,
    }
}

/// A store with a Qdrant server at `url`.
pub async fn store_at(url: &str) -> TestStore {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(QDRANT_URL), url).unwrap();
    Store::init(&options(dir.path()), passphrase()).await.unwrap();
    let store = Store::open(options(dir.path()), passphrase()).await.unwrap();
    TestStore { store, dir }
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

    /// Closes the store.
    pub async fn close(self) -> tempfile::TempDir {
        self.store.close().await.unwrap();
        self.dir
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

/// A vector that looks like no other, from −1 to 1, the same for the same `seed`.
pub fn vector(seed: u64, size: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51_7c_c1_b7_27_22_0a_95;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    // The first draws of this generator are alike for seeds that are.
    for _ in 0..16 {
        next();
    }
    (0..size).map(|_| next()).collect()
}

/// `rows` as numpy would save them, in single precision.
pub fn npy(rows: &[Vec<f32>]) -> Vec<u8> {
    let shape = format!("({}, {})", rows.len(), rows[0].len());
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.iter().flatten().flat_map(|x| x.to_le_bytes()));
    bytes
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
