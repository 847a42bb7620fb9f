//! The restore drill: backed up while writers write, destroyed, restored.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use strongroom::{Chunk, Collection, CollectionSpec, Memory, Metric, Mode, Namespace, RecordId, Store, Tenant};

use crate::common::{options, passphrase, store, vector};

const SIZE: usize = 16;
pub const WRITERS: u64 = 3;
/// Records that every writer has, written again and again.
const RECORDS: u64 = 64;

/// A writer's numbers: what was acknowledged, and what was begun.
#[derive(Default)]
struct Writer {
    acknowledged: AtomicU64,
    begun: AtomicU64,
}

/// Write number `n` of a writer: a chunk for the first half of a pair, a memory for the other, always in turns.
pub async fn write(tenant: &Tenant, collection: &Collection, writer: u64, n: u64) {
    let slot = (n / 2) % RECORDS;
    if n.is_multiple_of(2) {
        let id = writer * RECORDS + slot;
        // Now and then a record is deleted instead.
        if n.is_multiple_of(14) {
            collection.delete(vec![RecordId::from(id)]).await.unwrap();
        }
        let seed = writer << 32 | n;
        let chunk = Chunk::new(id, format!("write {n}"), vector(seed, SIZE));
        collection.ingest(vec![chunk]).await.unwrap();
    } else {
        let memory = Memory::new(namespace(writer), slot.to_string(), &json!(n)).unwrap();
        tenant.remember(memory).await.unwrap();
    }
}

fn namespace(writer: u64) -> Namespace {
    format!("writers/{writer}").parse().unwrap()
}

/// The last write to `slot` among the first `prefix` of `kind` (0 chunk, 1 memory).
fn last_write(prefix: u64, slot: u64, kind: u64) -> Option<u64> {
    (0..prefix).rev().find(|n| n % 2 == kind && (n / 2) % RECORDS == slot)
}

/// What a writer's records say: the length of the prefix of its writes that they are, if they are one.
pub async fn prefix(
    tenant: &Tenant,
    collection: &Collection,
    writer: u64,
    range: std::ops::RangeInclusive<u64>,
) -> u64 {
    let ids = (0..RECORDS).map(|slot| RecordId::from(writer * RECORDS + slot)).collect();
    let mut chunks = vec![None; usize::try_from(RECORDS).unwrap()];
    for chunk in collection.get(ids).await.unwrap() {
        let id: u64 = chunk.id.to_string().parse().unwrap();
        let n: u64 = chunk.text.strip_prefix("write ").unwrap().parse().unwrap();
        chunks[usize::try_from(id % RECORDS).unwrap()] = Some(n);
    }
    let mut memories = Vec::new();
    for slot in 0..RECORDS {
        let item = tenant.memory(&namespace(writer), &slot.to_string()).unwrap();
        memories.push(item.map(|item| item.value::<u64>().unwrap()));
    }
    let same = |prefix: u64| {
        (0..RECORDS).zip(&memories).all(|(slot, found)| last_write(prefix, slot, 1) == *found)
            && (0..RECORDS).zip(&chunks).all(|(slot, found)| {
                // Between a deletion and the write that follows it the record is not there.
                let next = prefix.is_multiple_of(14) && (prefix / 2) % RECORDS == slot;
                last_write(prefix, slot, 0) == *found || (next && found.is_none())
            })
    };
    range.clone().find(|prefix| same(*prefix)).unwrap_or_else(|| {
        panic!("writer {writer}: not a prefix of {range:?} writes: chunks {chunks:?}, memories {memories:?}")
    })
}

async fn drill(mode: Mode, name: &str) {
    let backups = tempfile::tempdir().unwrap();
    let before = store().await;
    let tenant = before.tenant("acme").await;
    let spec = CollectionSpec::new(SIZE, Metric::Cosine).mode(mode);
    let collection = tenant.create_collection(name, spec).await.unwrap();
    // Enough points that copying them takes a while.
    for page in 0..8_u64 {
        let chunks =
            (0..500).map(|i| Chunk::new(1_000_000 + page * 500 + i, "x".repeat(500), vector(page * 500 + i, SIZE)));
        collection.ingest(chunks.collect()).await.unwrap();
    }
    let writers: Arc<Vec<Writer>> = Arc::new((0..WRITERS).map(|_| Writer::default()).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (tenant, collection) = (tenant.clone(), collection.clone());
            let (writers, stop) = (writers.clone(), stop.clone());
            tokio::spawn(async move {
                let me = &writers[usize::try_from(writer).unwrap()];
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    me.begun.store(n + 1, Ordering::SeqCst);
                    write(&tenant, &collection, writer, n).await;
                    n += 1;
                    me.acknowledged.store(n, Ordering::SeqCst);
                }
            })
        })
        .collect();
    // Flushes trim the journal all the time, unless it is pinned.
    let flusher = {
        let (collection, stop) = (collection.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                collection.flush().await.unwrap();
            }
        })
    };
    let read = |which: fn(&Writer) -> &AtomicU64| -> Vec<u64> {
        writers.iter().map(|writer| which(writer).load(Ordering::SeqCst)).collect()
    };
    let mut bounds = Vec::new();
    for _ in 0..3 {
        while read(|w| &w.acknowledged).iter().any(|n| *n < bounds.len() as u64 * 100 + 100) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let least = read(|w| &w.acknowledged);
        before.store.backup(backups.path(), |_| ()).await.unwrap();
        bounds.push((least, read(|w| &w.begun)));
    }
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    flusher.await.unwrap();
    drop((tenant, collection));
    before.store.close().await.unwrap();
    for (number, (least, most)) in (1..).zip(bounds) {
        restored(before.dir.path(), backups.path(), number, name, &least, &most).await;
    }
}

/// Destroys the data, restores backup `number`, and looks.
async fn restored(dir: &Path, backups: &Path, number: u32, name: &str, least: &[u64], most: &[u64]) {
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    let report = Store::restore(options(dir), Some(passphrase()), backups, Some(number), |_| ()).await.unwrap();
    assert!(report.is_clean() && report.unreadable.is_empty(), "{report:?}");
    assert_eq!(report.tenants.len(), 1);
    let store = Store::open(options(dir), passphrase()).await.unwrap();
    let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
    let collection = tenant.collection(name).unwrap();
    for (writer, (least, most)) in (0..).zip(least.iter().zip(most)) {
        prefix(&tenant, &collection, writer, *least..=*most).await;
    }
    assert_eq!(collection.get((1_000_000..1_004_000).map(RecordId::from).collect()).await.unwrap().len(), 4000);
    drop((tenant, collection));
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_sealed() {
    drill(Mode::Sealed, "docs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_plain() {
    drill(Mode::Plain, "docs").await;
}
