//! Reads everything that a store holds and compares it with the model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use strongroom::keys::RootKeyState;
use strongroom::{Collection, MemoryItem, RecallRequest, RecordId, SearchRequest, Store, Tenant};

use super::child;
use super::model::{Model, Remembered, Version};
use super::op::{self, Op, Stamp};

/// How long an optimisation that the store has begun may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records of a veiled collection that are searched by their own vectors.
const THEMSELVES: usize = 8;

/// What else a check sees.
pub struct Seen {
    /// How many vectors are in search graphs.
    pub indexed: usize,
    /// Of the nearest in veiled collections, how many there are and how many a search finds.
    pub nearest: [usize; 2],
}

/// Opens the store in `dir`, checks it against `model` and decides which of the operations in flight were made.
/// With `close` the store is closed in order, else just dropped.
pub async fn check(dir: &Path, model: &mut Model, in_flight: &[(Stamp, Op)], query: u64, close: bool) -> Seen {
    let store = child::open(dir).await.unwrap();
    let tenant = store.tenant(&child::tenant_id()).await.unwrap();
    let found = read(&tenant, model, in_flight).await;
    for (stamp, op) in in_flight {
        let mut made = model.clone();
        made.apply(*stamp, op);
        if found.view(op) == made.view(op) {
            *model = made;
        } else {
            assert_eq!(found.view(op), model.view(op), "operation {stamp} is half there: {op}");
        }
    }
    assert_same(&found, model);
    let indexed = verify(&tenant, model).await;
    let nearest = search(&tenant, model, query).await;
    assert_no_litter(dir, &tenant, model);
    root_keys(&store).await;
    drop(tenant);
    if close {
        store.close().await.unwrap();
    }
    Seen { indexed, nearest }
}

/// Each epoch has its root key, one is active, and none is left over that nothing opens with.
async fn root_keys(store: &Store) {
    store.destroy_retained(&child::tenant_id()).await.unwrap();
    let keys = store.tenant_keys(&child::tenant_id()).await.unwrap();
    let active: Vec<_> = keys.root_keys.iter().filter(|root| root.state == RootKeyState::Active).collect();
    assert_eq!(active.len(), 1, "{keys:?}");
    assert_eq!(active[0].fingerprint, keys.root_fingerprint);
    for root in &keys.root_keys {
        match root.state {
            RootKeyState::Deactivated => assert!(!root.epochs.is_empty(), "{keys:?}"),
            RootKeyState::Destroyed => assert!(root.epochs.is_empty(), "{keys:?}"),
            RootKeyState::Active | RootKeyState::PreActive => {}
        }
    }
}

async fn read(tenant: &Tenant, model: &Model, in_flight: &[(Stamp, Op)]) -> Model {
    let mut found = Model::default();
    for collection in tenant.collections() {
        let mut chunks = BTreeMap::new();
        let mut after: Option<RecordId> = None;
        loop {
            let (page, more) = collection.scroll(after.take(), 1000).await.unwrap();
            for stored in &page {
                let RecordId::Number(id) = stored.id else { panic!("`{}` was never written", stored.id) };
                let stamp = stored.metadata.get("stamp").and_then(serde_json::Value::as_u64).unwrap();
                let written = op::chunk(collection.name(), id, stamp);
                assert_eq!(stored.text, written.text);
                assert_eq!(stored.metadata, written.metadata);
                assert!(stored.vectors == written.vectors, "the vector of `{id}` is another");
                assert_eq!(chunks.insert(id, stamp), None, "`{id}` is there twice");
            }
            match page.last() {
                Some(last) if more => after = Some(last.id.clone()),
                _ => break,
            }
        }
        found.chunks.insert(collection.name().to_owned(), chunks);
    }
    let touched = in_flight.iter().flat_map(|(_, op)| op.memories());
    let mut keys: Vec<&str> = model.memories.keys().map(String::as_str).chain(touched).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let memory = read_memory(tenant, key).await;
        if memory != Remembered::default() {
            found.memories.insert(key.to_owned(), memory);
        }
    }
    found
}

async fn read_memory(tenant: &Tenant, memory: &str) -> Remembered {
    let (namespace, key) = op::place(memory);
    let version = |item: &MemoryItem| {
        let value: serde_json::Value = item.value().unwrap();
        let stamp = value["stamp"].as_u64().unwrap_or_default();
        if !value.is_null() {
            assert_eq!(value, op::memory_value(memory, stamp), "the value of `{memory}` is another");
        }
        assert_eq!((&item.namespace, item.key.as_str(), item.expires_at_ms), (&namespace, key, None));
        Version { version: item.version, stamp, embedded: item.has_embedding }
    };
    let current = tenant.memory(&namespace, key).unwrap().as_ref().map(version);
    let mut history = tenant.memory_history(&namespace, key).await.unwrap();
    if let Some(current) = current {
        assert_eq!(history.pop().map(|v| version(&v.item)), Some(current), "history ends with something else");
    }
    let history = history.iter().map(|v| {
        let read = version(&v.item);
        assert_eq!(v.deleted, read.stamp == 0);
        read
    });
    Remembered { current, history: history.collect() }
}

fn assert_same(found: &Model, model: &Model) {
    let (found_names, names): (Vec<_>, Vec<_>) = (found.chunks.keys().collect(), model.chunks.keys().collect());
    assert_eq!(found_names, names, "collections");
    for (name, chunks) in &model.chunks {
        let there = &found.chunks[name];
        let lost: Vec<_> = chunks.iter().filter(|(id, stamp)| there.get(id) != Some(stamp)).collect();
        let extra: Vec<_> = there.iter().filter(|(id, stamp)| chunks.get(id) != Some(stamp)).collect();
        assert!(lost.is_empty() && extra.is_empty(), "`{name}` has lost {lost:?} and has instead {extra:?}");
    }
    for (key, memory) in &model.memories {
        assert_eq!(found.memories.get(key), Some(memory), "memory `{key}`");
    }
    assert_eq!(found.memories.len(), model.memories.len(), "memories that nobody wrote");
}

async fn verify(tenant: &Tenant, model: &Model) -> usize {
    let report = tenant.verify(|_| ()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    let mut indexed = 0;
    for (name, chunks) in &model.chunks {
        assert_eq!(report.collections[name].sound, chunks.len() as u64, "records of `{name}`");
        let status = tenant.collection(name).unwrap().status().await.unwrap();
        assert_eq!(status.chunks, chunks.len(), "count of `{name}`");
        indexed += status.indexed_vectors;
    }
    let current = model.memories.values().filter(|m| m.current.is_some()).count();
    let history: usize = model.memories.values().map(|m| m.history.len()).sum();
    assert_eq!((report.memories.sound, report.memories.history), (current as u64, history as u64));
    assert_eq!(tenant.memories(&[], 10_000, 0).await.unwrap().len(), current);
    assert_eq!(report.memory_embeddings.map_or(0, |e| e.sound), model.embedded().count() as u64);
    indexed
}

async fn search(tenant: &Tenant, model: &Model, query: u64) -> [usize; 2] {
    let mut nearest = [0, 0];
    for (name, chunks) in &model.chunks {
        let asked = op::vector(name, 0, query);
        let best = best(&asked, chunks.iter().map(|(id, stamp)| (*id, op::vector(name, *id, *stamp))));
        let collection = tenant.collection(name).unwrap();
        let mut request = SearchRequest::new(asked.clone(), 10);
        request.exact = true;
        assert_nearest(name, &collection, request, &best).await;
        // The graph may miss a neighbour, but must not refuse or make one up.
        let hits = collection.search(SearchRequest::new(asked, 10)).await.unwrap();
        if name == "veiled" {
            let found = best.iter().filter(|(id, _)| hits.iter().any(|hit| hit.id == RecordId::Number(*id)));
            nearest = [nearest[0] + best.len(), nearest[1] + found.count()];
            assert_visible(&collection, chunks, query).await;
        }
    }
    let asked = op::vector("memories", 0, query);
    let best = best(&asked, model.embedded().map(|(key, stamp)| (key.to_owned(), op::memory_vector(key, stamp))));
    let request = RecallRequest { embedding: Some(asked), limit: 10, ..RecallRequest::default() };
    let recalled = tenant.recall(request).await.unwrap();
    let recalled = recalled.into_iter().map(|r| {
        let lane = r.item.namespace.labels().last().cloned().unwrap_or_default();
        (format!("{lane}.{}", r.item.key), f64::from(r.score.unwrap()))
    });
    assert_scores("memories", recalled.collect(), &best);
    nearest
}

/// Some records of a veiled collection, from one that `query` chooses on: each is the nearest to itself.
async fn assert_visible(collection: &Collection, chunks: &BTreeMap<u64, Stamp>, query: u64) {
    let from = (query % chunks.len().max(1) as u64) as usize;
    for (id, stamp) in chunks.iter().cycle().skip(from).take(THEMSELVES.min(chunks.len())) {
        let itself = SearchRequest::new(op::vector(collection.name(), *id, *stamp), 1);
        let hits = collection.search(itself).await.unwrap();
        assert!(hits.len() == 1 && hits[0].id == RecordId::Number(*id), "record {id} is invisible");
    }
}

async fn assert_nearest(name: &str, collection: &Collection, request: SearchRequest, best: &[(u64, f64)]) {
    let hits = collection.search(request).await.unwrap().into_iter().map(|hit| {
        let RecordId::Number(id) = hit.id else { panic!("`{}` was never written", hit.id) };
        (id, f64::from(hit.score))
    });
    assert_scores(name, hits.collect(), best);
}

/// Random vectors do not tie: the same records in the same order.
fn assert_scores<I: PartialEq + std::fmt::Debug>(name: &str, hits: Vec<(I, f64)>, best: &[(I, f64)]) {
    let same = hits.len() == best.len() && hits.iter().zip(best).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6);
    assert!(same, "search of `{name}` found {hits:?} instead of {best:?}");
}

fn best<I>(asked: &[f32], all: impl Iterator<Item = (I, Vec<f32>)>) -> Vec<(I, f64)> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let length = dot(asked, asked);
    let mut scored: Vec<_> = all.map(|(id, v)| (id, dot(asked, &v) / (length * dot(&v, &v)).sqrt())).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.truncate(10);
    scored
}

/// Nothing stays behind of collections that are gone or of optimisations that did not end.
fn assert_no_litter(dir: &Path, tenant: &Tenant, model: &Model) {
    let shards: Vec<_> = fs::read_dir(dir.join("data/shards")).unwrap().map(|e| e.unwrap().path()).collect();
    // One more is the embeddings' of memories.
    assert!(shards.len() <= tenant.collections().len() + 1, "{} shards for {:?}", shards.len(), model.chunks.keys());
    for shard in shards {
        let left = || fs::read_dir(shard.join("temp_segments")).map_or(0, Iterator::count);
        // One that the store itself has begun since it was opened comes to its end; what a kill left does not.
        let began = Instant::now();
        while left() > 0 {
            assert!(began.elapsed() < PATIENCE, "half an optimisation stays in {}", shard.display());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
