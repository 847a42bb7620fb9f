//! Guards against tenants that exist by halves, share keys, or survive their shredding.

mod common;

use std::fs;

use serde_json::{Map, json};
use strongroom::keys::{EpochState, Profile};
use strongroom::{Chunk, CollectionSpec, Epoch, ErrorKind, Memory, Metric, Namespace, Store, Tenant, TenantId};

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn epoch(number: u32) -> Epoch {
    Epoch::try_from(number).unwrap()
}

fn chunk(n: u64) -> Chunk {
    Chunk::new(n, "some text", vec![1.0, n as f32])
}

/// Puts one chunk and one memory.
async fn fill(tenant: &Tenant) {
    let docs = tenant.create_collection("docs", CollectionSpec::new(2, Metric::Dot)).await.unwrap();
    docs.ingest(vec![chunk(1)]).await.unwrap();
    let namespace = Namespace::new(["notes"]).unwrap();
    tenant.remember(Memory::new(namespace, "k", json!({"a": 1})).unwrap()).await.unwrap();
}

#[tokio::test]
async fn data_without_its_keys_cannot_be_opened() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    let spec = strongroom::CollectionSpec::new(1, strongroom::Metric::Dot);
    acme.create_collection("docs", spec).await.unwrap();
    drop(acme);
    test.store.close().await.unwrap();
    let dir = test.dir;
    // The same passphrase and the same tenant name, but other keys.
    fs::remove_dir_all(dir.path().join("keys")).unwrap();
    Store::init(&common::options(dir.path()), common::passphrase()).await.unwrap();
    let store = Store::open(common::options(dir.path()), common::passphrase()).await.unwrap();
    let acme = store.create_tenant(&tenant("acme")).await.unwrap();
    assert!(acme.collections().is_empty(), "the name of the old tenant cannot even be found");
}
