//! A log that cannot be written: nothing is answered, and nothing that changes something is done.

use std::fs;
use std::time::Duration;

use serde_json::json;
use strongroom::audit::{Outcome, RecordType, What};
use strongroom::store::Terms;
use strongroom::token::Holder;
use strongroom::{
    CollectionSpec, ErrorKind, Memory, Metric, RecallRequest, RecordId, Result, RotateOptions, SearchRequest,
};

use crate::common;
use crate::world::{World, chunk, fill, notes};

fn refused<T>(what: &str, answer: Result<T>) {
    let error = answer.err().unwrap_or_else(|| panic!("{what} was answered"));
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_on_unrecorded() {
    let world = World::new().await;
    let acme = "acme".parse().unwrap();
    let tenant = world.store.create_tenant(&acme).await.unwrap();
    let docs = fill(&tenant).await;
    world.log.fill(true);
    let one: Vec<RecordId> = vec![1_u64.into()];
    refused("search", docs.search(SearchRequest::new(vec![1.0, 0.0], 1)).await);
    refused("get", docs.get(one.clone()).await);
    refused("scroll", docs.scroll(None, 1).await);
    refused("memory", tenant.memory(&notes(), "k"));
    refused("recall", tenant.recall(RecallRequest { limit: 1, ..RecallRequest::default() }).await);
    refused("memories", tenant.memories(&[], 1, 0).await);
    refused("namespaces", tenant.namespaces(&[], None).await);
    refused("history", tenant.memory_history(&notes(), "k").await);
    let holder = Holder::generate(strongroom::crypto::default_provider(), Default::default()).unwrap().id().unwrap();
    let terms = || Terms::once("sidecar".parse().unwrap(), holder);
    refused("seal", tenant.seal_context(b"x".to_vec(), terms()).await);
    refused("ingest", docs.ingest(vec![chunk(3, "three")]).await);
    refused("delete", docs.delete(one.clone()).await);
    refused("remember", tenant.remember(Memory::new(notes(), "new", &json!(1)).unwrap()).await);
    refused("forget", tenant.forget(&notes(), "k", false).await);
    refused("forget all", tenant.forget_all(&[], true).await);
    refused("create", tenant.create_collection("more", CollectionSpec::new(2, Metric::Dot)).await);
    refused("drop", tenant.drop_collection("docs").await);
    refused("rotate", world.store.rotate(&acme, RotateOptions::default(), |_| ()).await);
    let to = tempfile::tempdir().unwrap();
    refused("backup", world.store.backup(to.path().join("b"), |_| ()).await);
    assert!(!to.path().join("b").exists());
    refused(
        "release",
        async {
            world.store.trip_breaker(&acme).await.ok();
            world.store.release_breaker(&acme).await
        }
        .await,
    );
    world.log.fill(false);
    world.store.release_breaker(&acme).await.unwrap();

    assert_eq!((docs.count().await.unwrap(), docs.get(one).await.unwrap().len()), (2, 1));
    assert_eq!(tenant.memories(&[], 10, 0).await.unwrap().len(), 1);
    assert!(tenant.collection("more").is_err());
    assert_eq!(world.store.tenant_keys(&acme).await.unwrap().epochs.len(), 1);
    world.store.close().await.unwrap();
}

/// Guards against lookups that are given away when they cannot be counted.
#[tokio::test(flavor = "multi_thread")]
async fn lookups_stop_when_they_cannot_be_counted() {
    let world = World::new().await;
    let tenant = world.store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    fill(&tenant).await;
    assert!(tenant.memory(&notes(), "k").unwrap().is_some());
    world.log.fill(true);
    let answered = (0..3_000).filter(|_| tenant.memory(&notes(), "k").is_ok()).count();
    assert!(answered < 1_000, "{answered}");
    world.log.fill(false);
    assert!(tenant.memory(&notes(), "k").unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.store.close().await.unwrap();
}

/// Guards against damage that only who asked hears of.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_is_in_the_log() {
    let world = World::new().await;
    let acme = "acme".parse().unwrap();
    let tenant = world.store.create_tenant(&acme).await.unwrap();
    fill(&tenant).await;
    drop(tenant);
    let World { store, log, clock, dir } = world;
    store.close().await.unwrap();
    // Another store's rows in place of this one's: nothing of them opens.
    flip_memories(dir.path());
    let options = common::options(dir.path()).clock(clock).audit(log.clone());
    let store = strongroom::Store::open(options, common::passphrase()).await.unwrap();
    let tenant = store.tenant(&acme).await.unwrap();
    let from = log.len();
    assert_eq!(tenant.memory(&notes(), "k").err().unwrap().kind(), ErrorKind::Integrity);
    let events = log.since(from);
    let failed = events.iter().find(|event| matches!(event.what, What::OpenFailed { .. })).expect("an event");
    assert!(
        matches!(&failed.what, What::OpenFailed { record: RecordType::Memory, place: None, id: Some(id) } if id.len() == 32)
    );
    assert_eq!(failed.outcome, Outcome::Failed);
    store.alerts().settle();
    assert_eq!(store.alerts().recent().len(), 1);
    drop(tenant);
    store.close().await.unwrap();
}

/// Changes the last byte of every sealed memory.
fn flip_memories(dir: &std::path::Path) {
    use std::sync::Arc;
    use strongroom::clock::ManualClock;
    use strongroom::disk::DataDir;
    use strongroom::kv::rocks::Rocks;
    use strongroom::kv::{Batch, KvBackend as _, Table};

    let data = dir.join("data");
    let disk = Arc::new(DataDir::hold(&data, 0).unwrap());
    let clock = Arc::new(ManualClock::at(0));
    let rocks = Rocks::open(&data.join("db"), disk, 8 << 20, clock, |_, _| false).unwrap();
    let rows: Vec<_> = rocks.scan(Table::Memory, b"").collect::<Result<_>>().unwrap();
    assert!(!rows.is_empty());
    let mut batch = Batch::default();
    for (key, value) in rows {
        let mut value = value.into_vec();
        *value.last_mut().unwrap() ^= 1;
        batch.put(Table::Memory, key, value);
    }
    rocks.write(batch).unwrap();
    rocks.sync().unwrap();
    drop(rocks);
    assert!(fs::exists(&data).unwrap());
}
