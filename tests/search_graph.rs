//! Guards against a search graph in memory that misses what is near, that is behind what was written, that outlives a
//! rotation in the old key, or that is lost or believed when what is kept of it is not what was written.

mod common;

use std::path::Path;
use std::sync::Arc;

use strongroom::clock::SystemClock;
use strongroom::disk::DataDir;
use strongroom::kv::rocks::Rocks;
use strongroom::kv::{Batch, KvBackend as _, Table};
use strongroom::{
    Chunk, Collection, CollectionSpec, Config, Epoch, Metric, Mode, RecordId, RotateOptions, SearchRequest, Store,
    StoreOptions, TenantId,
};

const K: usize = 10;

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

/// Of a store whose indexes get graphs soon.
fn options(dir: &Path) -> StoreOptions {
    common::options(dir).config(Config { graph_from: 1000, ..common::config() })
}

async fn open(dir: &Path) -> (Store, Collection) {
    let store = Store::open(options(dir), common::passphrase()).await.unwrap();
    let collection = store.tenant(&acme()).await.unwrap().collection("terms").unwrap();
    (store, collection)
}

/// A store with the sample's vectors in a collection.
async fn filled(dir: &Path, vectors: &[Vec<f32>]) -> (Store, Collection) {
    Store::init(&options(dir), common::passphrase()).await.unwrap();
    let store = Store::open(options(dir), common::passphrase()).await.unwrap();
    let tenant = store.create_tenant(&acme()).await.unwrap();
    let spec = CollectionSpec::new(384, Metric::Cosine);
    let collection = tenant.create_collection("terms", spec).await.unwrap();
    collection.ingest((0_u64..).zip(vectors).map(|(n, v)| chunk(n, v)).collect()).await.unwrap();
    (store, collection)
}

fn chunk(n: u64, vector: &[f32]) -> Chunk {
    Chunk::new(n, format!("term {n}"), vector.to_vec())
}

async fn linked(collection: &Collection) -> usize {
    collection.status().await.unwrap().indexed_vectors
}

/// Links all `vectors` and keeps the links.
async fn link(collection: &Collection, vectors: usize) {
    collection.optimize().await.unwrap();
    assert_eq!(linked(collection).await, vectors);
}

async fn found(collection: &Collection, query: &[f32]) -> Vec<RecordId> {
    let hits = collection.search(SearchRequest::new(query.to_vec(), K)).await.unwrap();
    hits.into_iter().map(|hit| hit.id).collect()
}

/// Which of the true ten are found, of all questions.
async fn recall(collection: &Collection, vectors: &[Vec<f32>]) -> f64 {
    let queries = common::sample_vectors("query_vectors.f16.npy");
    let mut hits = 0;
    for query in &queries {
        let mut scored: Vec<_> = (0..).zip(vectors).map(|(id, v)| (Metric::Cosine.score_f64(query, v), id)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let truth: Vec<_> = scored.into_iter().take(K).map(|(_, id)| RecordId::Number(id)).collect();
        hits += found(collection, query).await.iter().filter(|id| truth.contains(id)).count();
    }
    hits as f64 / (K * queries.len()) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_collection_is_linked_and_found_by_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let mut vectors = common::sample_vectors("chunk_vectors.f16.npy");
    let (store, collection) = filled(dir.path(), &vectors).await;
    assert_eq!(recall(&collection, &vectors).await, 1.0, "before it is linked");
    link(&collection, vectors.len()).await;
    let by_links = recall(&collection, &vectors).await;
    assert!(by_links >= 0.99, "{by_links}");

    // What is written is found at once, what is deleted never again, and what has become another by what it is.
    let (n, query) = (vectors.len() as u64, common::vector(1, 384));
    collection.ingest(vec![chunk(n, &query)]).await.unwrap();
    assert_eq!(found(&collection, &query).await[0], RecordId::Number(n));
    collection.delete(vec![RecordId::Number(n)]).await.unwrap();
    assert!(!found(&collection, &query).await.contains(&RecordId::Number(n)));
    vectors[5] = query.clone();
    collection.ingest(vec![chunk(5, &query)]).await.unwrap();
    assert_eq!(found(&collection, &query).await[0], RecordId::Number(5));
    link(&collection, vectors.len()).await;
    assert_eq!(found(&collection, &query).await[0], RecordId::Number(5));
    let mut exact = SearchRequest::new(query, 1);
    exact.exact = true;
    assert_eq!(collection.search(exact).await.unwrap()[0].id, RecordId::Number(5));
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_kept_and_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let mut vectors = common::sample_vectors("chunk_vectors.f16.npy");
    let (store, collection) = filled(dir.path(), &vectors).await;
    recall(&collection, &vectors[..1]).await;
    link(&collection, vectors.len()).await;
    drop(collection);
    store.close().await.unwrap();

    // It is there with the first search, all of it, and nothing had to be linked.
    let (store, collection) = open(dir.path()).await;
    found(&collection, &vectors[0]).await;
    assert_eq!(linked(&collection).await, vectors.len());
    let kept = recall(&collection, &vectors).await;
    assert!(kept >= 0.99, "{kept}");
    // It does not follow each write: what is missing is linked when it is opened.
    vectors[7] = common::vector(2, 384);
    collection.ingest(vec![chunk(7, &vectors[7])]).await.unwrap();
    collection.delete(vec![RecordId::Number(8)]).await.unwrap();

    store.rotate(&acme(), RotateOptions::default(), |_| ()).await.unwrap();
    store.destroy_epoch(&acme(), Epoch::try_from(1).unwrap()).await.unwrap();
    drop(collection);
    store.close().await.unwrap();
    let (store, collection) = open(dir.path()).await;
    assert_eq!(found(&collection, &vectors[7]).await[0], RecordId::Number(7));
    let there = linked(&collection).await;
    assert!((vectors.len() - 2..vectors.len()).contains(&there), "{there} of {}", vectors.len());
    let report = store.tenant(&acme()).await.unwrap().verify(|_| ()).await.unwrap();
    assert!(report.is_clean(), "{}", serde_json::to_string(&report).unwrap());

    // Another mode needs none.
    let tenant = store.tenant(&acme()).await.unwrap();
    drop(collection);
    tenant.change_mode("terms", Mode::Plain, |_| ()).await.unwrap();
    tenant.change_mode("terms", Mode::Sealed, |_| ()).await.unwrap();
    let collection = tenant.collection("terms").unwrap();
    assert_eq!(found(&collection, &vectors[7]).await[0], RecordId::Number(7));
    store.close().await.unwrap();
}

/// Changes the rows that are kept of graphs, of which there are those whose keys are given; the first is the head.
fn tamper(dir: &Path, change: impl Fn(&mut Batch, &[(Vec<u8>, Vec<u8>)])) {
    let disk = Arc::new(DataDir::hold(&dir.join("data"), 0).unwrap());
    let db = disk.subdir("db").unwrap();
    let rocks = Rocks::open(&db, disk, 8 << 20, Arc::new(SystemClock), |_, _| false).unwrap();
    let rows: Vec<_> = rocks.scan(Table::Graph, b"").map(Result::unwrap).collect();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    assert!(rows.len() >= 2, "a head and a part");
    let mut batch = Batch::default();
    change(&mut batch, &rows);
    rocks.write(batch).unwrap();
    rocks.sync().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_not_all_there_or_changed_are_made_anew_and_do_not_keep_an_old_key_alive() {
    let dir = tempfile::tempdir().unwrap();
    let vectors = common::sample_vectors("chunk_vectors.f16.npy");
    let (store, collection) = filled(dir.path(), &vectors).await;
    found(&collection, &vectors[0]).await;
    link(&collection, vectors.len()).await;
    drop(collection);
    store.close().await.unwrap();

    // A bit of a part: the graph does not open, the collection does.
    tamper(dir.path(), |batch, rows| {
        let (key, mut part) = rows[1].clone();
        *part.last_mut().unwrap() ^= 1;
        batch.put(Table::Graph, key, part);
    });
    let (store, collection) = open(dir.path()).await;
    assert_eq!(found(&collection, &vectors[9]).await[0], RecordId::Number(9));
    link(&collection, vectors.len()).await;
    drop(collection);
    store.close().await.unwrap();

    // As a kill leaves it that comes before the head is written, and what nobody has written.
    tamper(dir.path(), |batch, rows| {
        let (head, _) = &rows[0];
        batch.delete(Table::Graph, head.clone());
        batch.put(Table::Graph, [&head[..16], &[7, 7]].concat(), rows[1].1.clone());
    });
    let (store, collection) = open(dir.path()).await;
    assert_eq!(found(&collection, &vectors[9]).await[0], RecordId::Number(9));
    store.rotate(&acme(), RotateOptions::default(), |_| ()).await.unwrap();
    store.destroy_epoch(&acme(), Epoch::try_from(1).unwrap()).await.unwrap();
    drop(collection);
    store.close().await.unwrap();
}
