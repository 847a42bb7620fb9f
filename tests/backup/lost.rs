//! Destroyed keys stay destroyed: a backup that is older restores what is left, and says what is not.

use std::path::Path;

use strongroom::store::{RestoreReport, Why};
use strongroom::{Chunk, CollectionSpec, ErrorKind, Memory, Metric, Store, Tenant};

use crate::common::{TestStore, options, passphrase, store, vector};

const SIZE: usize = 8;

async fn fill(tenant: &Tenant) {
    let docs = tenant.create_collection("docs", CollectionSpec::new(SIZE, Metric::Cosine)).await.unwrap();
    docs.ingest((0..20).map(|i| Chunk::new(i, format!("text {i}"), vector(i, SIZE))).collect()).await.unwrap();
    for key in ["drink", "food", "pet"] {
        tenant.remember(Memory::new("users/ada".parse().unwrap(), key, &key).unwrap()).await.unwrap();
    }
}

/// Two tenants with 20 chunks and 3 memories each, backed up.
async fn backed_up(backups: &Path) -> TestStore {
    let world = store().await;
    for name in ["acme", "other"] {
        fill(&world.tenant(name).await).await;
    }
    world.store.backup(backups, |_| ()).await.unwrap();
    world
}

async fn restored(dir: &Path, backups: &Path) -> (RestoreReport, Store) {
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    let report = Store::restore(options(dir), Some(passphrase()), backups, None, |_| ()).await.unwrap();
    (report, Store::open(options(dir), passphrase()).await.unwrap())
}

async fn has_all(store: &Store, tenant: &str) {
    let tenant = store.tenant(&tenant.parse().unwrap()).await.unwrap();
    assert_eq!(tenant.collection("docs").unwrap().count().await.unwrap(), 20);
    assert_eq!(tenant.memories(&[], 100, 0).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_shredded_tenant_stays_shredded_and_the_other_is_back() {
    let backups = tempfile::tempdir().unwrap();
    let world = backed_up(backups.path()).await;
    world.store.shred_tenant(&"acme".parse().unwrap()).await.unwrap();
    let dir = world.close().await;
    let (report, store) = restored(dir.path(), backups.path()).await;
    let [lost] = report.unreadable.as_slice() else { panic!("{report:?}") };
    assert_eq!((lost.tenant.as_deref(), lost.records, lost.why), (Some("acme"), 23, Why::TenantShredded));
    assert_eq!(lost.to_string(), "tenant `acme` was shredded: 23 records can never be opened");
    assert!(report.is_clean() && report.tenants.len() == 1);
    has_all(&store, "other").await;
    assert_eq!(store.tenant(&"acme".parse().unwrap()).await.err().unwrap().kind(), ErrorKind::NotFound);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_destroyed_epoch_stays_destroyed_and_the_tenant_goes_on() {
    let backups = tempfile::tempdir().unwrap();
    let world = backed_up(backups.path()).await;
    let id = "acme".parse().unwrap();
    let compromised = strongroom::RotateOptions { compromised: true, ..strongroom::RotateOptions::default() };
    world.store.rotate(&id, compromised, |_| ()).await.unwrap();
    has_all(&world.store, "acme").await;
    let dir = world.close().await;
    let (report, store) = restored(dir.path(), backups.path()).await;
    let [lost] = report.unreadable.as_slice() else { panic!("{report:?}") };
    assert_eq!((lost.tenant.as_deref(), lost.records), (Some("acme"), 23));
    assert!(matches!(lost.why, Why::EpochDestroyed { epoch, .. } if epoch == strongroom::Epoch::FIRST));
    let said = lost.to_string();
    assert!(said.starts_with("epoch 1 of tenant `acme` was destroyed on ") && said.contains(": 23 records"), "{said}");
    assert!(report.is_clean() && report.tenants.len() == 2);
    has_all(&store, "other").await;
    // The tenant itself can be used as ever.
    fill(&store.tenant(&id).await.unwrap()).await;
    has_all(&store, "acme").await;
    store.close().await.unwrap();
}

/// A keystore from before the tenant was made: nothing of it is removed, and the answer is another one.
#[tokio::test]
async fn a_keystore_that_is_too_old_is_named() {
    let backups = tempfile::tempdir().unwrap();
    let world = store().await;
    fill(&world.tenant("other").await).await;
    let old = tempfile::tempdir().unwrap();
    let keys = world.dir.path().join("keys");
    for file in crate::common::cli::walk(&keys).iter().filter(|path| path.is_file()) {
        std::fs::copy(file, old.path().join(file.file_name().unwrap())).unwrap();
    }
    fill(&world.tenant("acme").await).await;
    world.store.backup(backups.path(), |_| ()).await.unwrap();
    let dir = world.close().await;
    std::fs::rename(&keys, dir.path().join("newer")).unwrap();
    std::fs::rename(old.keep(), &keys).unwrap();
    let (report, store) = restored(dir.path(), backups.path()).await;
    let [lost] = report.unreadable.as_slice() else { panic!("{report:?}") };
    assert_eq!((lost.tenant.as_deref(), lost.records, lost.why), (Some("acme"), 23, Why::TenantUnknown));
    assert!(lost.why.is_unknown());
    has_all(&store, "other").await;
    store.close().await.unwrap();
    std::fs::remove_dir_all(&keys).unwrap();
    std::fs::rename(dir.path().join("newer"), &keys).unwrap();
    let (report, store) = restored(dir.path(), backups.path()).await;
    assert!(report.unreadable.is_empty());
    has_all(&store, "acme").await;
    store.close().await.unwrap();
}
