//! Backed up while a tenant is rotated: neither is in the way of the other, and every record comes back once.

use strongroom::rotation::RotateOptions;
use strongroom::store::Why;
use strongroom::{Chunk, CollectionSpec, Epoch, Memory, Metric, Store, TenantId};

use crate::common::{TestStore, options, passphrase, store, vector};

const SIZE: usize = 8;
const CHUNKS: u64 = 3000;
const MEMORIES: u64 = 200;

async fn filled(world: &TestStore) -> TenantId {
    let tenant = world.tenant("acme").await;
    let docs = tenant.create_collection("docs", CollectionSpec::new(SIZE, Metric::Cosine)).await.unwrap();
    docs.ingest((0..CHUNKS).map(|i| Chunk::new(i, "text", vector(i, SIZE))).collect()).await.unwrap();
    for i in 0..MEMORIES {
        tenant.remember(Memory::new("users/ada".parse().unwrap(), i.to_string(), &i).unwrap()).await.unwrap();
    }
    tenant.id().clone()
}

async fn has_all(store: &Store, id: &TenantId) {
    let tenant = store.tenant(id).await.unwrap();
    assert_eq!(tenant.collection("docs").unwrap().count().await.unwrap() as u64, CHUNKS);
    assert_eq!(tenant.memories(&[], 1000, 0).await.unwrap().len() as u64, MEMORIES);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_rotating() {
    let backups = tempfile::tempdir().unwrap();
    let world = store().await;
    let id = filled(&world).await;
    let rotating = {
        let (store, id) = (world.store.clone(), id.clone());
        tokio::spawn(async move {
            for _ in 0..3 {
                store.rotate(&id, RotateOptions::default(), |_| ()).await.unwrap();
            }
        })
    };
    let mut last = 0;
    while !rotating.is_finished() || last < 3 {
        last = world.store.backup(backups.path(), |_| ()).await.unwrap().number;
    }
    rotating.await.unwrap();
    let dir = world.close().await;
    for number in [1, 2, last / 2, last] {
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
        let options = options(dir.path());
        let report = Store::restore(options.clone(), Some(passphrase()), backups.path(), Some(number), |_| ()).await;
        let report = report.unwrap();
        assert!(report.is_clean() && report.unreadable.is_empty(), "backup {number} of {last}: {report:?}");
        let store = Store::open(options, passphrase()).await.unwrap();
        has_all(&store, &id).await;
        store.close().await.unwrap();
    }
    destroyed(dir.path(), backups.path(), &id, last).await;
}

/// What was sealed in an epoch that is destroyed is gone from every backup, and what was moved before is not.
async fn destroyed(dir: &std::path::Path, backups: &std::path::Path, id: &TenantId, last: u32) {
    let store = Store::open(options(dir), passphrase()).await.unwrap();
    store.destroy_epoch(id, Epoch::FIRST).await.unwrap();
    store.close().await.unwrap();
    for number in 1..=last {
        std::fs::remove_dir_all(dir.join("data")).unwrap();
        let report = Store::restore(options(dir), Some(passphrase()), backups, Some(number), |_| ()).await.unwrap();
        assert!(report.is_clean(), "backup {number} of {last}: {report:?}");
        let gone = |why| matches!(why, Why::EpochDestroyed { epoch, .. } if epoch == Epoch::FIRST);
        assert!(report.unreadable.iter().all(|lost| gone(lost.why)), "{report:?}");
        let lost: u64 = report.unreadable.iter().map(|lost| lost.records).sum();
        let found = report.tenants[id.as_str()].memories.sound
            + report.tenants[id.as_str()].collections.values().map(|docs| docs.sound).sum::<u64>();
        assert_eq!(lost + found, CHUNKS + MEMORIES, "backup {number} of {last}: {report:?}");
    }
}

/// A backup that takes longer than a rotation and the end of the old epoch.
#[tokio::test(flavor = "multi_thread")]
async fn rotated_and_destroyed_within_a_backup() {
    let backups = tempfile::tempdir().unwrap();
    let world = store().await;
    let id = filled(&world).await;
    let (started, begun) = std::sync::mpsc::channel();
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let mut first = true;
    let hold = move |_| {
        if std::mem::take(&mut first) {
            started.send(()).unwrap();
            held.recv().unwrap();
        }
    };
    let backup = {
        let (store, to) = (world.store.clone(), backups.path().to_owned());
        tokio::spawn(async move { store.backup(to, hold).await.unwrap() })
    };
    tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
    world.store.rotate(&id, RotateOptions::default(), |_| ()).await.unwrap();
    world.store.destroy_epoch(&id, Epoch::FIRST).await.unwrap();
    go_on.send(()).unwrap();
    backup.await.unwrap();
    let dir = world.close().await;
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let options = options(dir.path());
    let report = Store::restore(options.clone(), Some(passphrase()), backups.path(), None, |_| ()).await.unwrap();
    assert!(report.is_clean() && report.unreadable.is_empty(), "{report:?}");
    let store = Store::open(options, passphrase()).await.unwrap();
    has_all(&store, &id).await;
    store.close().await.unwrap();
}
