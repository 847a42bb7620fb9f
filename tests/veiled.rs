//! Guards against a `veiled` collection that hides or doubles a record while it is rotated or written to, that shows its
//! vectors, or that takes what an engine made up.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use strongroom::vectors::blind::{FieldIndexSpec, IndexKind};
use strongroom::{
    Chunk, Collection, CollectionSpec, ErrorKind, Filter, Metric, Mode, RecordId, RotateOptions, SearchRequest, Tenant,
    TenantId,
};

const K: usize = 10;

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn veiled() -> CollectionSpec {
    CollectionSpec::new(384, Metric::Cosine).mode(Mode::Veiled)
}

/// Fills three parts as a collection does that grew: records are in the first, where they were written when there was no
/// other, but for the first `again`, which are written once more.
async fn fill(docs: &Collection, chunks: &[Chunk], again: usize) {
    docs.ingest(chunks.to_vec()).await.unwrap();
    let ids = 1_000_000..1_003_000_u64;
    let vector = chunks[0].vectors.get("").unwrap();
    docs.ingest(ids.clone().map(|id| Chunk::new(id, "goes again", vector.to_vec())).collect()).await.unwrap();
    docs.delete(ids.map(Into::into).collect()).await.unwrap();
    docs.ingest(chunks[..again].to_vec()).await.unwrap();
}

/// The ids of the ten nearest to each question by brute force.
fn truth(queries: &[Vec<f32>], chunks: &[Chunk]) -> Vec<BTreeSet<RecordId>> {
    let nearest = |query: &Vec<f32>| {
        let score = |c: &Chunk| Metric::Cosine.score_f64(query, c.vectors.get("").unwrap());
        let mut scores: Vec<_> = chunks.iter().map(|c| (score(c), c.id.clone())).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        scores.into_iter().take(K).map(|(_, id)| id).collect()
    };
    queries.iter().map(nearest).collect()
}

/// What a searcher saw.
#[derive(Default)]
struct Seen {
    searches: AtomicU64,
    found: AtomicU64,
}

impl Seen {
    fn recall(&self) -> f64 {
        self.found.load(Ordering::SeqCst) as f64 / (self.searches.load(Ordering::SeqCst) * K as u64) as f64
    }
}

/// Searches until it is told to stop. A stored vector is always found by itself, and nothing is there twice.
async fn search_on(
    docs: Collection,
    chunks: Arc<Vec<Chunk>>,
    truth: Arc<Vec<BTreeSet<RecordId>>>,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
) {
    let queries = common::sample_vectors("query_vectors.f16.npy");
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let at = round % queries.len();
        let hits = docs.search(SearchRequest::new(queries[at].clone(), K)).await.unwrap();
        let ids: BTreeSet<RecordId> = hits.iter().map(|hit| hit.id.clone()).collect();
        assert_eq!((hits.len(), ids.len()), (K, K), "something is there twice, or missing");
        seen.found.fetch_add(ids.intersection(&truth[at]).count() as u64, Ordering::SeqCst);
        seen.searches.fetch_add(1, Ordering::SeqCst);
        let itself = &chunks[round * 37 % chunks.len()];
        let hits = docs.search(SearchRequest::new(itself.vectors.get("").unwrap().to_vec(), K)).await.unwrap();
        assert!(hits[0].score > 0.9999, "a record was invisible");
        assert!(hits.iter().any(|hit| hit.id == itself.id), "another record was found in its place");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_keep_their_recall_while_a_rotation_runs() {
    const ROTATIONS: usize = 3;
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let chunks = Arc::new(common::sample_chunks());
    let docs = tenant.create_collection("docs", veiled()).await.unwrap();
    fill(&docs, &chunks, chunks.len()).await;
    let truth = Arc::new(truth(&common::sample_vectors("query_vectors.f16.npy"), &chunks));
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let searchers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(search_on(docs.clone(), chunks.clone(), truth.clone(), stop.clone(), seen.clone())))
        .collect();
    for n in 0..ROTATIONS {
        let before = seen.searches.load(Ordering::SeqCst);
        let options = RotateOptions { compromised: n % 2 == 1, ..RotateOptions::default() };
        test.store.rotate(&acme(), options, |_| ()).await.unwrap();
        while seen.searches.load(Ordering::SeqCst) < before + 8 && searchers.iter().all(|s| !s.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    for searcher in searchers {
        searcher.await.unwrap();
    }
    println!(
        "recall@{K} in {} searches beside {ROTATIONS} rotations: {:.3}",
        seen.searches.load(Ordering::SeqCst),
        seen.recall()
    );
    assert!(seen.recall() >= 0.95, "{}", seen.recall());
    assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
    assert_eq!(docs.count().await.unwrap(), chunks.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_stops_half_way_hides_nothing() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let chunks = common::sample_chunks();
    let docs = tenant.create_collection("docs", veiled()).await.unwrap();
    docs.ingest(chunks.clone()).await.unwrap();
    let stopping = test.store.clone();
    let told = move |status: &strongroom::rotation::RotationStatus| {
        if status.records > 600 {
            stopping.stop_rotations();
        }
    };
    let stopped = test.store.rotate(&acme(), RotateOptions::default(), told).await.err().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Partial);
    drop((docs, tenant));
    // Half of it is in one epoch and half in another, also after a restart; and then in one.
    let mut test = test.reopen().await;
    for rotated in [false, true] {
        let tenant = test.store.tenant(&acme()).await.unwrap();
        let docs = tenant.collection("docs").unwrap();
        let recall = recall(&docs, &chunks).await;
        assert!(recall >= 0.95, "{recall}");
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
        if !rotated {
            test.store.rotate(&acme(), RotateOptions::default(), |_| ()).await.unwrap();
        }
        drop((docs, tenant));
        test = test.reopen().await;
    }
}

async fn recall(docs: &Collection, chunks: &[Chunk]) -> f64 {
    let queries = common::sample_vectors("query_vectors.f16.npy");
    let mut found = 0;
    for (query, truth) in queries.iter().zip(truth(&queries, chunks)) {
        let hits = docs.search(SearchRequest::new(query.clone(), K)).await.unwrap();
        found += hits.iter().filter(|hit| truth.contains(&hit.id)).count();
    }
    found as f64 / (queries.len() * K) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_search_is_exact() {
    let test = common::store().await;
    let chunks = common::sample_chunks();
    let docs = test.tenant("acme").await.create_collection("docs", veiled()).await.unwrap();
    fill(&docs, &chunks, 300).await;
    let queries = common::sample_vectors("query_vectors.f16.npy");
    for (query, truth) in queries.iter().zip(truth(&queries, &chunks)) {
        let mut request = SearchRequest::new(query.clone(), K);
        request.exact = true;
        let found: BTreeSet<RecordId> = docs.search(request).await.unwrap().into_iter().map(|hit| hit.id).collect();
        assert!(found == truth);
    }
}

/// A filter by a field that the engine has tokens of, and by ids, of which only opening tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_leaves_the_best_of_those_that_pass() {
    let test = common::store().await;
    let marked = |(n, chunk): (u64, Chunk)| {
        let metadata = json!({ "declared": n % 20 });
        chunk.metadata(metadata.as_object().unwrap().clone())
    };
    let chunks: Vec<Chunk> = (0..).zip(common::sample_chunks()).map(marked).collect();
    let spec = veiled().index("declared", FieldIndexSpec::new(IndexKind::Integer));
    let docs = test.tenant("acme").await.create_collection("docs", spec).await.unwrap();
    fill(&docs, &chunks, 300).await;
    let passing: Vec<Chunk> = chunks.into_iter().filter(|chunk| chunk.metadata["declared"] == 3).collect();
    let ids: BTreeSet<RecordId> = passing.iter().map(|chunk| chunk.id.clone()).collect();
    let queries = common::sample_vectors("query_vectors.f16.npy");
    let queries = &queries[..queries.len().min(20)];
    let all: Vec<Value> = ids.iter().map(|id| serde_json::from_str(&id.to_string()).unwrap()).collect();
    let filters = [json!({"must": {"key": "declared", "match": {"value": 3}}}), json!({"must": {"has_id": all}})];
    for (what, filter) in ["tokens", "ids"].into_iter().zip(&filters) {
        let filter = Filter::from_value(filter).unwrap();
        let mut true_ones = 0;
        for (query, truth) in queries.iter().zip(truth(queries, &passing)) {
            let hits = docs.search(SearchRequest::new(query.clone(), K).filter(filter.clone())).await.unwrap();
            assert!(hits.len() == K && hits.iter().all(|hit| ids.contains(&hit.id)), "{what}");
            true_ones += hits.iter().filter(|hit| truth.contains(&hit.id)).count();
        }
        let recall = true_ones as f64 / (queries.len() * K) as f64;
        assert!(recall >= 0.95, "{what}: {recall}");
    }
    // All that pass, however few they are and however far away.
    let few = Filter::from_value(&json!({"must": {"has_id": all[..3]}})).unwrap();
    for query in queries {
        assert_eq!(docs.search(SearchRequest::new(query.clone(), K).filter(few.clone())).await.unwrap().len(), 3);
    }
}

/// Guards against a filter that costs results: where none of the nearest pass, those that do are far away and their scores
/// close together, and the noise moves more of them past each other than a search without a filter opens.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_leaves_out_the_nearest_keeps_the_recall() {
    const CHUNKS: u64 = 6000;
    let test = common::store().await;
    let spec = veiled().index("page", FieldIndexSpec::new(IndexKind::Integer));
    let docs = test.tenant("acme").await.create_collection("docs", spec).await.unwrap();
    let chunk = |n| {
        let metadata = json!({ "page": n % 300 });
        Chunk::new(n, "text", common::vector(n, 384)).metadata(metadata.as_object().unwrap().clone())
    };
    let chunks: Vec<Chunk> = (0..CHUNKS).map(chunk).collect();
    // It grows into three parts.
    for some in chunks.chunks(1500) {
        docs.ingest(some.to_vec()).await.unwrap();
    }
    let passing: Vec<Chunk> =
        chunks.into_iter().filter(|chunk| chunk.metadata["page"].as_u64().unwrap() < 60).collect();
    let filter = Filter::from_value(&json!({"must": {"key": "page", "range": {"lt": 60}}})).unwrap();
    let queries: Vec<_> = (0..40).map(|n| common::vector(CHUNKS + n, 384)).collect();
    let mut found = 0;
    for (query, truth) in queries.iter().zip(truth(&queries, &passing)) {
        let hits = docs.search(SearchRequest::new(query.clone(), K).filter(filter.clone())).await.unwrap();
        found += hits.iter().filter(|hit| truth.contains(&hit.id)).count();
    }
    let recall = found as f64 / (queries.len() * K) as f64;
    println!("recall@{K} among {} of {CHUNKS}: {recall:.3}", passing.len());
    assert!(recall >= 0.95, "{recall}");
}

/// Guards against a record that a search misses while it is written again: a part that the collection grew into may be asked
/// before the record comes there, and the one that it was in after.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_goes_to_another_part_is_found_meanwhile() {
    const CHUNKS: u64 = 600;
    let test = common::store().await;
    let docs = test.tenant("acme").await.create_collection("docs", veiled()).await.unwrap();
    let chunks: Vec<Chunk> = (0..CHUNKS).map(|n| Chunk::new(n, "text", common::vector(n, 384))).collect();
    // All are in the first part, and half of them belong to the second.
    fill(&docs, &chunks, 0).await;
    let stop = Arc::new(AtomicBool::new(false));
    let searching: Vec<_> = (0..3_u64)
        .map(|searcher| {
            let (docs, stop) = (docs.clone(), stop.clone());
            tokio::spawn(async move {
                let mut searches = 0;
                while !stop.load(Ordering::SeqCst) {
                    let n = (searches * 37 + searcher * 331) % CHUNKS;
                    let hits = docs.search(SearchRequest::new(common::vector(n, 384), 3)).await.unwrap();
                    assert!(hits[0].id == RecordId::Number(n), "record {n} was invisible");
                    searches += 1;
                }
                searches
            })
        })
        .collect();
    for one in chunks {
        docs.ingest(vec![one]).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut searches = 0;
    for searcher in searching {
        searches += searcher.await.unwrap();
    }
    println!("{searches} searches beside {CHUNKS} writes");
    assert!(searches > 100, "{searches}");
}

/// Everything below `dir`.
fn files(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

/// How many of `chunks` have three values of their vector in a row, as it is or scaled to length 1, anywhere in `bytes`.
fn shown(bytes: &[u8], chunks: &[Chunk]) -> usize {
    let (mut needles, mut of) = (Vec::new(), Vec::new());
    for (at, chunk) in chunks.iter().enumerate() {
        let vector = chunk.vectors.get("").unwrap();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let unit: Vec<f32> = vector.iter().map(|x| x / length).collect();
        for three in vector.chunks_exact(3).chain(unit.chunks_exact(3)) {
            needles.push(three.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
            of.push(at);
        }
    }
    let all = aho_corasick::AhoCorasick::new(needles).unwrap();
    all.find_iter(bytes).map(|found| of[found.pattern().as_usize()]).collect::<BTreeSet<_>>().len()
}

async fn write_and_close(tenant: Tenant, mode: Mode, chunks: Vec<Chunk>) {
    let spec = CollectionSpec::new(384, Metric::Cosine).mode(mode);
    let docs = tenant.create_collection("docs", spec).await.unwrap();
    docs.ingest(chunks).await.unwrap();
    docs.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_has_an_exact_vector() {
    let chunks: Vec<Chunk> = common::sample_chunks().into_iter().take(300).collect();
    for (mode, expected) in [(Mode::Sealed, 0), (Mode::Veiled, 0), (Mode::Plain, 20)] {
        let test = common::store().await;
        write_and_close(test.tenant("acme").await, mode, chunks.clone()).await;
        let dir = test.close().await;
        assert_eq!(shown(&files(dir.path()), &chunks[..20]), expected, "{mode}");
    }
}
