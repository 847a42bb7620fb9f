//! Guards against indexes that outgrow their memory, against searches that fail or miss because others need room, and
//! against vectors that stay in memory when an index had to go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[allow(dead_code, reason = "of what can be hunted, vectors are")]
#[path = "plaintext_hunt/prey.rs"]
mod prey;
#[path = "resident_budget/tenants.rs"]
mod tenants;

use strongroom::{
    Chunk, Collection, CollectionSpec, Config, ErrorKind, Metric, RecordId, SearchRequest, Store, Tenant,
};

/// As in the program itself: what is freed is erased.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

const SIZE: usize = 64;

/// A store whose indexes may take one MiB together.
async fn store() -> (Store, Tenant, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = common::options(dir.path()).config(Config { resident_mib: 1, ..common::config() });
    Store::init(&options, common::passphrase()).await.unwrap();
    let store = Store::open(options, common::passphrase()).await.unwrap();
    let tenant = store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    (store, tenant, dir)
}

async fn filled(tenant: &Tenant, name: &str, count: u64, size: usize) -> Collection {
    let spec = CollectionSpec::new(size, Metric::Cosine);
    let collection = tenant.create_collection(name, spec).await.unwrap();
    let chunks = (0..count).map(|n| Chunk::new(n, format!("text {n}"), common::vector(n, size)));
    collection.ingest(chunks.collect()).await.unwrap();
    collection
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The ten nearest by brute force.
fn nearest(query: &[f32], ids: impl Iterator<Item = u64>) -> Vec<RecordId> {
    let mut scored: Vec<_> = ids.map(|n| (cosine(query, &common::vector(n, query.len())), n)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(10).map(|(_, n)| RecordId::Number(n)).collect()
}

async fn found(collection: &Collection, query: &[f32], exact: bool) -> Vec<RecordId> {
    let mut request = SearchRequest::new(query.to_vec(), 10);
    request.exact = exact;
    collection.search(request).await.unwrap().into_iter().map(|hit| hit.id).collect()
}

/// A metric of the store, by its name.
fn metric(store: &Store, name: &str) -> f64 {
    let metrics = store.metrics();
    let name = format!("strongroom_store_{name} ");
    let line = metrics.lines().find(|line| line.starts_with(&name));
    line.unwrap_or_else(|| panic!("no `{name}` in {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_memory_is_short_less_is_kept_and_exact_answers_stay_exact() {
    let (store, tenant, _dir) = store().await;
    // With 64 dimensions a vector takes about 550 bytes in memory, its code 300, its signs 230.
    for (name, count, most_bytes) in [("vectors", 500, 700), ("codes", 2500, 340), ("signs", 5000, 260)] {
        let collection = filled(&tenant, name, count, SIZE).await;
        for question in 0..5 {
            let query = common::vector(1_000_000 + question, SIZE);
            let expected = nearest(&query, 0..count);
            assert_eq!(found(&collection, &query, true).await, expected, "{name}");
            let approximate = found(&collection, &query, false).await;
            if name == "signs" {
                let hits = approximate.iter().filter(|id| expected.contains(id)).count();
                assert!(hits >= 5, "{name}: {hits} of 10");
            } else {
                assert_eq!(approximate, expected, "{name}");
            }
        }
        let bytes = collection.status().await.unwrap().resident_bytes;
        assert!(bytes > 0 && bytes <= most_bytes * count as usize, "{name}: {} each", bytes / count as usize);

        // What is written and deleted while the index is there is in it.
        let query = common::vector(count + 7, SIZE);
        collection.ingest(vec![Chunk::new(count + 7, "new", query.clone())]).await.unwrap();
        let ids = || (0..count).chain([count + 7]);
        assert_eq!(found(&collection, &query, true).await, nearest(&query, ids()), "{name}");
        assert_eq!(found(&collection, &query, false).await[0], RecordId::Number(count + 7), "{name}");
        collection.delete(vec![RecordId::Number(count + 7)]).await.unwrap();
        assert_eq!(found(&collection, &query, true).await, nearest(&query, 0..count), "{name}");
    }
    assert!(metric(&store, "resident_bytes") <= f64::from(1 << 20));
    assert!(metric(&store, "resident_evictions_total") >= 1.0 && metric(&store, "resident_loads_total") >= 3.0);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_fit_is_an_error_that_says_what_to_do() {
    let (store, tenant, _dir) = store().await;
    let small = filled(&tenant, "small", 100, 8).await;
    let query = common::vector(9, 8);
    let before = found(&small, &query, false).await;
    let large = filled(&tenant, "large", 6000, 8).await;
    let error = large.search(SearchRequest::new(query.clone(), 10)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.remedy().unwrap().contains("`resident_mib`"), "{error}");
    // Nobody else suffers from it, and nothing is lost.
    assert!(small.status().await.unwrap().resident_bytes > 0);
    assert_eq!(found(&small, &query, false).await, before);
    assert_eq!(large.get(vec![RecordId::Number(17)]).await.unwrap()[0].text, "text 17");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_and_writes_at_once_go_on_where_only_one_index_fits() {
    let (store, tenant, _dir) = store().await;
    let mut collections = Vec::new();
    for name in ["a", "b", "c"] {
        collections.push(filled(&tenant, name, 2000, SIZE).await);
    }
    let query = common::vector(77, SIZE);
    let expected = nearest(&query, 0..2000);
    let working: Vec<_> = (0..6_u64)
        .map(|worker| {
            let collection = collections[worker as usize % 3].clone();
            let (query, expected) = (query.clone(), expected.clone());
            tokio::spawn(async move {
                for round in 0..8_u64 {
                    assert_eq!(found(&collection, &query, true).await, expected);
                    // The opposite of the query is nowhere near the best.
                    let opposite: Vec<f32> = query.iter().map(|x| -x).collect();
                    let id = 10_000 + worker * 100 + round;
                    collection.ingest(vec![Chunk::new(id, "far away", opposite)]).await.unwrap();
                    collection.delete(vec![RecordId::Number(id)]).await.unwrap();
                }
            })
        })
        .collect();
    for worker in working {
        worker.await.unwrap();
    }
    assert!(metric(&store, "resident_evictions_total") > 2.0);
    assert!(metric(&store, "resident_bytes") <= f64::from(1 << 20));
    store.close().await.unwrap();
}
