//! Readers, writers, rotations, backups and declarations of fields while modes change.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use strongroom::vectors::blind::{FieldIndexSpec, IndexKind};
use strongroom::{
    Chunk, Collection, CollectionSpec, Filter, Metric, Mode, RecordId, RotateOptions, SearchRequest, Store, Tenant,
};

use crate::common::{self, options, passphrase, vector};
use crate::{WALK, is_clean, shards};

const K: usize = 10;
/// The step of the walk at which keys are rotated too: from `plain` to `veiled`.
const ROTATED: usize = 4;

/// What who reads goes by: no write changes it.
struct Truth {
    queries: Vec<Vec<f32>>,
    nearest: Vec<BTreeSet<RecordId>>,
    filter: Filter,
    passing: usize,
}

impl Truth {
    fn of(chunks: &[Chunk]) -> Self {
        let queries = common::sample_vectors("query_vectors.f16.npy");
        let nearest = |query: &Vec<f32>| {
            let score = |c: &Chunk| Metric::Cosine.score_f64(query, c.vectors.get("").unwrap());
            let mut scores: Vec<_> = chunks.iter().map(|c| (score(c), c.id.clone())).collect();
            scores.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            scores.into_iter().take(K).map(|(_, id)| id).collect()
        };
        let nearest = queries.iter().map(nearest).collect();
        let filter = Filter::from_value(&json!({"must": {"key": "letter", "match": {"value": "T"}}})).unwrap();
        let passing = chunks.iter().filter(|chunk| chunk.metadata["letter"] == "T").count();
        Self { queries, nearest, filter, passing }
    }
}

#[derive(Default)]
struct Seen {
    searches: AtomicU64,
    found: AtomicU64,
    stop: AtomicBool,
}

async fn read_on(docs: Collection, truth: Arc<Truth>, seen: Arc<Seen>) {
    for round in 0.. {
        if seen.stop.load(Ordering::SeqCst) {
            return;
        }
        let at = round * 7 % truth.queries.len();
        let hits = docs.search(SearchRequest::new(truth.queries[at].clone(), K)).await.unwrap();
        let ids: BTreeSet<RecordId> = hits.iter().map(|hit| hit.id.clone()).collect();
        assert_eq!((hits.len(), ids.len()), (K, K), "something is there twice, or missing");
        seen.found.fetch_add(ids.intersection(&truth.nearest[at]).count() as u64, Ordering::SeqCst);
        seen.searches.fetch_add(1, Ordering::SeqCst);
        let wanted: Vec<RecordId> = (0..20_u64).map(|n| RecordId::from(1 + round as u64 * 31 % 900 + n)).collect();
        assert_eq!(docs.get(wanted).await.unwrap().len(), 20, "a record was invisible");
        if round % 8 == 0 {
            assert_eq!(docs.count_filtered(truth.filter.clone()).await.unwrap(), truth.passing);
            let only = SearchRequest::new(truth.queries[at].clone(), K).filter(truth.filter.clone());
            let hits = docs.search(only).await.unwrap();
            assert!(hits.len() == K && hits.iter().all(|hit| hit.metadata["letter"] == "T"));
        }
    }
}

/// Writes records anew as they are, but for their texts; one more comes and goes. Returns the texts.
async fn write_on(docs: Collection, chunks: Arc<Vec<Chunk>>, seen: Arc<Seen>) -> Vec<(RecordId, String)> {
    let mut last = Vec::new();
    // As far as can be from every question.
    let away: Vec<f32> =
        (0..384).map(|at| -chunks.iter().map(|c| c.vectors.get("").unwrap()[at]).sum::<f32>()).collect();
    for round in 0.. {
        if seen.stop.load(Ordering::SeqCst) {
            break;
        }
        let chunk = &chunks[round * 131 % chunks.len()];
        let text = format!("{} {round}", chunk.text);
        docs.ingest(vec![Chunk { text: text.clone(), ..chunk.clone() }]).await.unwrap();
        last.retain(|(id, _)| *id != chunk.id);
        last.push((chunk.id.clone(), text));
        let metadata = chunk.metadata.clone();
        let metadata = metadata.into_iter().filter(|(key, _)| key != "letter").collect();
        docs.ingest(vec![Chunk::new(1_000_000_u64, "away", away.clone()).metadata(metadata)]).await.unwrap();
        assert_eq!(docs.delete(vec![1_000_000_u64.into()]).await.unwrap(), 1);
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_keep_their_recall_and_writes_are_kept() {
    let test = common::store().await;
    let id = "acme".parse().unwrap();
    let tenant = test.tenant("acme").await;
    let chunks = Arc::new(common::sample_chunks());
    let spec = CollectionSpec::new(384, Metric::Cosine).index("letter", FieldIndexSpec::new(IndexKind::Keyword));
    let docs = tenant.create_collection("docs", spec).await.unwrap();
    docs.ingest(chunks.to_vec()).await.unwrap();
    let truth = Arc::new(Truth::of(&chunks));
    let mut texts = std::collections::BTreeMap::new();
    for (step, mode) in WALK.into_iter().enumerate() {
        let before = docs.mode();
        let seen = Arc::new(Seen::default());
        let readers: Vec<_> =
            (0..2).map(|_| tokio::spawn(read_on(docs.clone(), truth.clone(), seen.clone()))).collect();
        let writer = tokio::spawn(write_on(docs.clone(), chunks.clone(), seen.clone()));
        while seen.searches.load(Ordering::SeqCst) < 4 && readers.iter().all(|reader| !reader.is_finished()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let begun = seen.searches.load(Ordering::SeqCst);
        let rotation = async {
            if step == ROTATED {
                test.store.rotate(&id, RotateOptions::default(), |_| ()).await.unwrap();
            }
        };
        let (changed, ()) = tokio::join!(tenant.change_mode("docs", mode, |_| ()), rotation);
        let changed = changed.unwrap();
        let during = seen.searches.load(Ordering::SeqCst) - begun;
        assert!(changed.points >= chunks.len() as u64 && docs.mode() == mode, "{changed:?}");
        while seen.searches.load(Ordering::SeqCst) < begun + during + 8 && readers.iter().all(|r| !r.is_finished()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen.stop.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
        texts.extend(writer.await.unwrap());
        let searches = seen.searches.load(Ordering::SeqCst);
        let recall = seen.found.load(Ordering::SeqCst) as f64 / (searches * K as u64) as f64;
        println!(
            "{before} → {mode}: recall@{K} {recall:.4} in {searches} searches, {during} of them during the change"
        );
        assert!(during > 0, "nobody searched while the mode was changed");
        let least = if before == Mode::Veiled || mode == Mode::Veiled { 0.95 } else { 1.0 };
        assert!(recall >= least, "{before} → {mode}: {recall}");
        is_clean(&tenant).await;
        assert_eq!((docs.count().await.unwrap(), shards(test.dir.path())), (chunks.len(), 1));
        let again = tenant.change_mode("docs", mode, |_| ()).await.unwrap();
        assert_eq!(again.points, 0, "it has that mode already");
    }
    for (id, text) in texts {
        assert_eq!(docs.get(vec![id]).await.unwrap()[0].text, text);
    }
    drop((docs, tenant));
    let test = test.reopen().await;
    let tenant = test.store.tenant(&id).await.unwrap();
    assert_eq!(tenant.collection("docs").unwrap().mode(), Mode::Sealed);
    is_clean(&tenant).await;
    tenant.drop_collection("docs").await.unwrap();
    assert_eq!(shards(test.dir.path()), 0, "what a collection has elsewhere goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_in_memory_go_and_come() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", CollectionSpec::new(32, Metric::Cosine)).await.unwrap();
    docs.ingest((0..300).map(|id| Chunk::new(id, "text", vector(id, 32))).collect()).await.unwrap();
    let search = async || docs.search(SearchRequest::new(vector(7, 32), 3)).await.unwrap();
    for mode in WALK {
        assert_eq!(search().await[0].id, RecordId::from(7));
        assert_eq!(docs.status().await.unwrap().resident_bytes > 0, docs.mode() == Mode::Sealed, "{}", docs.mode());
        // What pages go by is an index too, in every mode.
        assert_eq!(docs.scroll(None, 500).await.unwrap().0.len(), 300);
        assert!(docs.status().await.unwrap().resident_bytes > 0);
        tenant.change_mode("docs", mode, |_| ()).await.unwrap();
        let status = docs.status().await.unwrap();
        assert_eq!((status.resident_bytes, status.journal_bytes), (0, 0));
        docs.ingest(vec![Chunk::new(7, format!("in {mode}"), vector(7, 32))]).await.unwrap();
        assert_eq!(search().await[0].text, format!("in {mode}"));
    }
}

/// Guards against points that lack the tokens of a field that was declared while they were copied, or before a change that
/// was interrupted went on.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_declared_meanwhile_has_all_its_tokens() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", CollectionSpec::new(8, Metric::Cosine)).await.unwrap();
    let chunk = |id: u64| {
        let metadata = json!({ "a": id % 5, "b": id % 5, "c": id % 5, "d": id % 5, "e": id % 5, "f": id % 5 });
        Chunk::new(id, "text", vector(id, 8)).metadata(metadata.as_object().unwrap().clone())
    };
    docs.ingest((0..700).map(chunk).collect()).await.unwrap();
    for (mode, field) in WALK.into_iter().zip(["a", "b", "c", "d", "e", "f"]) {
        let index = FieldIndexSpec::new(IndexKind::Integer);
        let (begin, begun) = tokio::sync::oneshot::channel();
        let mut begin = Some(begin);
        let declaring = {
            let docs = docs.clone();
            tokio::spawn(async move {
                begun.await.unwrap();
                docs.create_index(field, index).await.unwrap();
            })
        };
        let told = move |at: strongroom::vectors::Migration| {
            if at.verified > 0
                && let Some(begin) = begin.take()
            {
                begin.send(()).unwrap();
                // Long enough that it is declared before the end.
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        let changed = tenant.change_mode("docs", mode, told).await.unwrap();
        assert_eq!(changed.points, 700);
        declaring.await.unwrap();
        let filter = Filter::from_value(&json!({"must": {"key": field, "match": {"value": 3}}})).unwrap();
        assert_eq!(docs.count_filtered(filter).await.unwrap(), 140, "{mode} {field}");
        is_clean(&tenant).await;
    }
}

async fn restored(dir: &Path, backups: &Path, number: u32) -> (Store, Tenant) {
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    let report = Store::restore(options(dir), Some(passphrase()), backups, Some(number), |_| ()).await.unwrap();
    assert!(report.is_clean(), "{number}: {report:?}");
    let store = Store::open(options(dir), passphrase()).await.unwrap();
    let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
    (store, tenant)
}

/// Guards against a backup with the points of one mode and the description of another.
#[tokio::test(flavor = "multi_thread")]
async fn backups_are_of_one_mode() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", CollectionSpec::new(8, Metric::Cosine)).await.unwrap();
    docs.ingest((0..500).map(|id| Chunk::new(id, "text", vector(id, 8))).collect()).await.unwrap();
    let backups = tempfile::tempdir().unwrap();
    let mut numbers = Vec::new();
    for mode in WALK {
        let change = tenant.change_mode("docs", mode, |_| ());
        let backup = test.store.backup(backups.path(), |_| ());
        let (changed, meanwhile) = tokio::join!(change, backup);
        assert_eq!(changed.unwrap().points, 500);
        numbers.push((meanwhile.unwrap().number, None));
        // Nothing was written since, and yet the points are others.
        let after = test.store.backup(backups.path(), |_| ()).await.unwrap();
        numbers.push((after.number, Some(mode)));
    }
    drop((docs, tenant));
    let dir = test.close().await;
    for (number, mode) in numbers {
        let (store, tenant) = restored(dir.path(), backups.path(), number).await;
        let docs = tenant.collection("docs").unwrap();
        assert!(mode.is_none_or(|mode| docs.mode() == mode), "{number}");
        let hits = docs.search(SearchRequest::new(vector(7, 8), 3)).await.unwrap();
        assert_eq!(hits[0].id, RecordId::from(7));
        tenant.change_mode("docs", Mode::Sealed, |_| ()).await.unwrap();
        is_clean(&tenant).await;
        drop((docs, tenant));
        store.close().await.unwrap();
    }
}
