//! What is there already is not written again, and every backup stands by itself.

use std::path::Path;

use strongroom::backup::Archive;
use strongroom::{Chunk, CollectionSpec, ErrorKind, Memory, Metric, RecordId, Store, Tenant};

use crate::common::{options, passphrase, store, vector};

const SIZE: usize = 32;

async fn fill(tenant: &Tenant, name: &str, from: u64, to: u64) {
    let collection = match tenant.collection(name) {
        Ok(collection) => collection,
        Err(_) => tenant.create_collection(name, CollectionSpec::new(SIZE, Metric::Cosine)).await.unwrap(),
    };
    let chunks = (from..to).map(|i| Chunk::new(i, format!("{i} {}", "text ".repeat(400)), vector(i, SIZE)));
    collection.ingest(chunks.collect()).await.unwrap();
}

async fn restore(dir: &Path, backups: &Path, number: u32) -> Store {
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    let options = options(dir);
    let report = Store::restore(options.clone(), Some(passphrase()), backups, Some(number), |_| ()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    Store::open(options, passphrase()).await.unwrap()
}

async fn count(store: &Store, name: &str) -> usize {
    store.tenant(&"acme".parse().unwrap()).await.unwrap().collection(name).unwrap().count().await.unwrap()
}

#[tokio::test]
async fn a_second_backup_writes_what_changed() {
    let backups = tempfile::tempdir().unwrap();
    let mut world = store().await;
    let tenant = world.tenant("acme").await;
    fill(&tenant, "large", 0, 6000).await;
    fill(&tenant, "small", 0, 100).await;
    // What the journal and RocksDB have of it settles down.
    for collection in tenant.collections() {
        collection.flush().await.unwrap();
    }
    drop(tenant);
    let first = world.store.backup(backups.path(), |_| ()).await.unwrap();
    assert_eq!((first.number, first.collections, first.unchanged, first.points), (1, 2, 0, 6100));
    assert_eq!(first.written_bytes, first.bytes);

    let second = world.store.backup(backups.path(), |_| ()).await.unwrap();
    assert_eq!((second.number, second.unchanged), (2, 2));
    assert!(second.written_bytes < 200_000, "{second:?}");

    // Also after the store was closed: nothing is opened that was not written to.
    world = world.reopen().await;
    let tenant = world.store.tenant(&"acme".parse().unwrap()).await.unwrap();
    fill(&tenant, "small", 100, 110).await;
    tenant.remember(Memory::new("users/ada".parse().unwrap(), "drink", &"tea").unwrap()).await.unwrap();
    drop(tenant);
    let third = world.store.backup(backups.path(), |_| ()).await.unwrap();
    assert_eq!((third.unchanged, third.points), (1, 6110));
    assert!(third.written_bytes < 2_000_000 && third.bytes > 12_000_000, "{third:?}");

    // A change to few of many points writes their buckets.
    let tenant = world.store.tenant(&"acme".parse().unwrap()).await.unwrap();
    tenant.collection("large").unwrap().delete(vec![RecordId::from(17)]).await.unwrap();
    drop(tenant);
    let fourth = world.store.backup(backups.path(), |_| ()).await.unwrap();
    assert!(fourth.written_bytes < 4_000_000, "{fourth:?}");
    let dir = world.close().await;
    for (number, large, small) in [(1, 6000, 100), (2, 6000, 100), (3, 6000, 110), (4, 5999, 110)] {
        let store = restore(dir.path(), backups.path(), number).await;
        assert_eq!((count(&store, "large").await, count(&store, "small").await), (large, small));
        store.close().await.unwrap();
    }

    // Pruned, the others stay whole, and nothing is left of those that went.
    let archive = Archive::create(backups.path()).unwrap();
    assert_eq!(archive.prune(2).unwrap(), [1, 2]);
    let kept = archive.verify(None, |_| ()).unwrap();
    assert_eq!(kept.backups, 2);
    let parts = crate::common::cli::walk(&backups.path().join("parts"));
    assert_eq!(parts.iter().filter(|path| path.is_file()).count() as u64, kept.parts);
    assert_eq!(archive.number(Some(1)).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Two histories of one store in one directory: what one has must not pass for what the other has.
#[tokio::test]
async fn a_store_that_was_put_back_goes_on_from_there() {
    let backups = tempfile::tempdir().unwrap();
    let world = store().await;
    let tenant = world.tenant("acme").await;
    fill(&tenant, "docs", 0, 10).await;
    drop(tenant);
    world.store.backup(backups.path(), |_| ()).await.unwrap();
    let tenant = world.store.tenant(&"acme".parse().unwrap()).await.unwrap();
    fill(&tenant, "docs", 10, 20).await;
    drop(tenant);
    world.store.backup(backups.path(), |_| ()).await.unwrap();
    let dir = world.close().await;
    // Back to the first, and as many writes again, of something else.
    let store = restore(dir.path(), backups.path(), 1).await;
    let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
    fill(&tenant, "docs", 30, 40).await;
    drop(tenant);
    let third = store.backup(backups.path(), |_| ()).await.unwrap();
    assert_eq!(third.unchanged, 0);
    store.close().await.unwrap();
    for (number, has, lacks) in [(2, 15, 35), (3, 35, 15)] {
        let store = restore(dir.path(), backups.path(), number).await;
        let docs = store.tenant(&"acme".parse().unwrap()).await.unwrap().collection("docs").unwrap();
        assert_eq!(docs.get(vec![RecordId::from(has)]).await.unwrap().len(), 1);
        assert!(docs.get(vec![RecordId::from(lacks)]).await.unwrap().is_empty());
        drop(docs);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn directories_that_are_not_for_backups_are_refused() {
    let world = store().await;
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("letter"), "dear").unwrap();
    let refused = world.store.backup(other.path(), |_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    for own in ["data", "data/backups/new", "keys"] {
        let refused = world.store.backup(world.dir.path().join(own), |_| ()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{own}");
    }
    let backups = tempfile::tempdir().unwrap();
    let held = Archive::create(backups.path()).unwrap();
    let refused = world.store.backup(backups.path(), |_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    drop(held);
    world.store.backup(backups.path(), |_| ()).await.unwrap();
    // Where there is data, nothing is restored.
    let (options, dir) = (options(world.dir.path()), world.dir);
    world.store.close().await.unwrap();
    let refused = Store::restore(options, Some(passphrase()), backups.path(), None, |_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    drop(dir);
}
