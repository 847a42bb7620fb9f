//! Guards against an engine or a mode that behaves unlike the others: one suite, run on each.

mod common;

use std::collections::BTreeMap;

use proptest::prelude::*;
use strongroom::record::Packing;
use strongroom::vectors::VectorParams;
use strongroom::{
    Chunk, Collection, CollectionSpec, Engine, ErrorKind, Metric, Mode, Placement, RecordId, SearchRequest, Vectors,
};

const ENGINES: [Engine; 3] = [Engine::Edge, Engine::Server(Placement::Dedicated), Engine::Server(Placement::Shared)];
const MODES: [Mode; 3] = [Mode::Sealed, Mode::Veiled, Mode::Plain];

/// `metric`, or what a mode compares by alone.
fn metric(mode: Mode, metric: Metric) -> Metric {
    if mode == Mode::Veiled { Metric::Cosine } else { metric }
}

/// Every engine with every mode.
fn matrix() -> impl Iterator<Item = (Engine, Mode)> {
    ENGINES.into_iter().flat_map(|engine| MODES.map(|mode| (engine, mode)))
}

fn chunk(id: u64, vector: Vec<f32>) -> Chunk {
    let metadata = serde_json::json!({ "n": id, "f": 0.1 + id as f64, "tags": ["a", null] });
    Chunk::new(id, format!("text {id}"), vector).metadata(metadata.as_object().unwrap().clone())
}

async fn ids(collection: &Collection, vector: Vec<f32>, limit: usize) -> Vec<String> {
    let hits = collection.search(SearchRequest::new(vector, limit)).await.unwrap();
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

#[tokio::test]
async fn writing_reading_replacing_deleting() {
    for (engine, mode) in matrix() {
        let test = common::store_for(engine).await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::new(2, metric(mode, Metric::Dot)).mode(mode).engine(engine);
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        assert_eq!(docs.ingest((1..=5).map(|n| chunk(n, vec![n as f32, 1.0])).collect()).await.unwrap(), 5);

        let found = docs.get(vec![3.into(), 9.into(), 1.into()]).await.unwrap();
        assert_eq!(found.iter().map(|c| c.id.to_string()).collect::<Vec<_>>(), ["3", "1"]);
        let three = chunk(3, vec![3.0, 1.0]);
        assert!(found[0].text == three.text && found[0].metadata == three.metadata);
        assert!(found[0].vectors == three.vectors, "the exact embedding comes back");

        assert_eq!(ids(&docs, vec![1.0, 0.0], 2).await, ["5", "4"]);
        docs.ingest(vec![chunk(5, vec![-5.0, 1.0])]).await.unwrap();
        assert_eq!(ids(&docs, vec![1.0, 0.0], 2).await, ["4", "3"], "{engine}, {mode}: the new vector counts at once");
        assert_eq!(docs.count().await.unwrap(), 5);
        let before = docs.get(vec![4.into()]).await.unwrap()[0].version;
        assert_eq!(docs.delete(vec![4.into(), 77.into()]).await.unwrap(), 1);
        assert_eq!(ids(&docs, vec![1.0, 0.0], 2).await, ["3", "2"]);
        assert_eq!(docs.count().await.unwrap(), 4);
        docs.ingest(vec![chunk(4, vec![4.0, 1.0])]).await.unwrap();
        assert!(docs.get(vec![4.into()]).await.unwrap()[0].version > before, "a version never comes twice");
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart_with_and_without_a_flush() {
    for (engine, mode) in matrix() {
        for flush in [false, true] {
            let test = common::store_for(engine).await;
            let tenant = test.tenant("acme").await;
            let spec = CollectionSpec::new(2, Metric::Cosine).mode(mode).engine(engine);
            let docs = tenant.create_collection("docs", spec).await.unwrap();
            docs.ingest((1..=700).map(|n| chunk(n, vec![n as f32, 1.0])).collect()).await.unwrap();
            docs.delete(vec![7.into()]).await.unwrap();
            if flush {
                docs.flush().await.unwrap();
            }
            drop((docs, tenant));
            let test = test.reopen().await;
            let tenant = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
            let docs = tenant.collection("docs").unwrap();
            assert_eq!(docs.count().await.unwrap(), 699);
            assert_eq!(ids(&docs, vec![0.0, 1.0], 1).await, ["1"]);
            assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
        }
    }
}

#[tokio::test]
async fn pages_hold_everything_once() {
    for (engine, mode) in matrix() {
        let test = common::store_for(engine).await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::new(1, metric(mode, Metric::Dot)).mode(mode).engine(engine);
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        docs.ingest((0..100).map(|n| chunk(n, vec![1.0])).collect()).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = docs.scroll(after, 7).await.unwrap();
            after = page.last().map(|c| c.id.clone());
            seen.extend(page.into_iter().map(|c| c.id));
            if !more {
                break;
            }
        }
        seen.sort();
        assert!(seen == (0..100).map(RecordId::from).collect::<Vec<_>>(), "{engine}, {mode}");
    }
}

#[tokio::test]
async fn every_metric_ranks_and_scores_as_qdrant_does() {
    for (engine, mode) in matrix() {
        for (metric, expected) in [
            (Metric::Cosine, [("1", 0.8), ("2", 0.6)]),
            (Metric::Dot, [("2", 6.0), ("1", 0.8)]),
            (Metric::Euclid, [("1", 0.632_455_5), ("2", 9.055_385)]),
        ] {
            if mode == Mode::Veiled && metric != Metric::Cosine {
                let refused = CollectionSpec::new(2, metric).mode(mode).validate().err().unwrap();
                assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                continue;
            }
            let test = common::store_for(engine).await;
            let spec = CollectionSpec::new(2, metric).mode(mode).engine(engine);
            let docs = test.tenant("acme").await.create_collection("docs", spec).await.unwrap();
            docs.ingest(vec![chunk(1, vec![0.8, 0.6]), chunk(2, vec![6.0, 8.0])]).await.unwrap();
            let hits = docs.search(SearchRequest::new(vec![1.0, 0.0], 2)).await.unwrap();
            for (hit, (id, score)) in hits.iter().zip(expected) {
                if metric != Metric::Euclid || id == "1" {
                    assert_eq!(hit.id.to_string(), id, "{engine}, {mode}, {metric}");
                }
                if id == "1" {
                    assert!((hit.score - score).abs() < 1e-5, "{engine}, {mode}, {metric}: {}", hit.score);
                }
            }
            let threshold = match metric {
                Metric::Cosine | Metric::Euclid => 0.7,
                Metric::Dot => 5.0,
            };
            let request = SearchRequest::new(vec![1.0, 0.0], 9).score_threshold(threshold);
            assert_eq!(docs.search(request).await.unwrap().len(), 1, "{engine}, {mode}, {metric}");
        }
    }
}

#[tokio::test]
async fn named_vectors_and_every_kind_of_id() {
    for (engine, mode) in matrix() {
        let test = common::store_for(engine).await;
        let tenant = test.tenant("acme").await;
        let params = |size| VectorParams { size, metric: Metric::Cosine };
        let spec = CollectionSpec::new(1, Metric::Cosine)
            .mode(mode)
            .engine(engine)
            .packing(Packing { compress: true, pad: true })
            .named([("title", params(2)), ("body", params(3))]);
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        let vectors = |a, b| Vectors::named([("title", vec![a, b]), ("body", vec![b, a, 1.0])]);
        let uuid: RecordId = "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap();
        let text = RecordId::text("7").unwrap();
        let long = "word ".repeat(5000);
        docs.ingest(vec![
            Chunk::new(7, "number", vectors(1.0, 0.0)),
            Chunk::new(uuid.clone(), "uuid", vectors(0.0, 1.0)),
            Chunk::new(text.clone(), long.clone(), vectors(1.0, 1.0)),
        ])
        .await
        .unwrap();
        let nearest = |name: &str, v: Vec<f32>| docs.search(SearchRequest::new(v, 1).using(name));
        assert!(nearest("title", vec![0.0, 1.0]).await.unwrap()[0].id == uuid);
        assert!(nearest("body", vec![0.0, 1.0, 1.0]).await.unwrap()[0].id == RecordId::Number(7));
        assert_eq!(docs.get(vec![text]).await.unwrap()[0].text, long);
        for wrong in [None, Some("nothing")] {
            let mut request = SearchRequest::new(vec![0.0, 1.0], 1);
            request.using = wrong.map(str::to_owned);
            assert_eq!(docs.search(request).await.err().unwrap().kind(), ErrorKind::InvalidInput);
        }
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_whole() {
    for (engine, mode) in matrix() {
        let test = common::store_for(engine).await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::new(2, Metric::Cosine).mode(mode).engine(engine);
        let docs = tenant.create_collection("docs", spec.clone()).await.unwrap();
        let good = chunk(1, vec![1.0, 0.0]);
        for bad in [
            chunk(2, vec![1.0]),
            chunk(2, vec![1.0, 0.0, 0.0]),
            chunk(2, vec![f32::NAN, 0.0]),
            chunk(2, vec![f32::INFINITY, 0.0]),
            chunk(2, vec![0.0, 0.0]),
            chunk(1, vec![1.0, 0.0]),
            Chunk::new(2, "", Vectors::default()),
            Chunk::new(2, "", Vectors::named([("", vec![1.0, 0.0]), ("more", vec![1.0])])),
            Chunk::new(2, "x".repeat(17 << 20), vec![1.0, 0.0]),
        ] {
            let e = docs.ingest(vec![good.clone(), bad]).await.err().unwrap();
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
            assert_eq!(docs.count().await.unwrap(), 0, "{e}");
        }
        docs.ingest(vec![good]).await.unwrap();
        for request in [SearchRequest::new(vec![1.0], 1), SearchRequest::new(vec![f32::NAN, 0.0], 1)] {
            assert_eq!(docs.search(request).await.err().unwrap().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(tenant.create_collection("docs", spec).await.err().unwrap().kind(), ErrorKind::Conflict);
        for bad in [CollectionSpec::new(0, Metric::Dot), CollectionSpec::new(70_000, Metric::Dot)] {
            assert_eq!(tenant.create_collection("bad", bad).await.err().unwrap().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(tenant.collection("none").err().unwrap().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_dropped_collection_is_gone_and_its_name_is_free() {
    for (engine, mode) in matrix() {
        let test = common::store_for(engine).await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::new(1, metric(mode, Metric::Dot)).mode(mode).engine(engine);
        let docs = tenant.create_collection("docs", spec.clone()).await.unwrap();
        docs.ingest(vec![chunk(1, vec![1.0])]).await.unwrap();
        drop(docs);
        tenant.drop_collection("docs").await.unwrap();
        assert_eq!(tenant.drop_collection("docs").await.err().unwrap().kind(), ErrorKind::NotFound);
        let shards = std::fs::read_dir(test.dir.path().join("data/shards")).unwrap();
        assert_eq!(shards.count(), 0);
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        assert_eq!(docs.count().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn tenants_with_equal_names_and_ids_never_meet() {
    for (engine, mode) in matrix() {
        let test = common::store_for(engine).await;
        let spec = CollectionSpec::new(1, metric(mode, Metric::Dot)).mode(mode).engine(engine);
        let mut collections = BTreeMap::new();
        for name in ["a", "b"] {
            let docs = test.tenant(name).await.create_collection("docs", spec.clone()).await.unwrap();
            docs.ingest(vec![Chunk::new(1, format!("of {name}"), vec![1.0])]).await.unwrap();
            collections.insert(name, docs);
        }
        for (name, docs) in &collections {
            let hits = docs.search(SearchRequest::new(vec![1.0], 9)).await.unwrap();
            assert_eq!(hits.iter().map(|h| h.text.as_str()).collect::<Vec<_>>(), [format!("of {name}")]);
        }
        collections["a"].delete(vec![1.into()]).await.unwrap();
        assert_eq!(collections["b"].count().await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_readers_side_by_side_see_whole_records() {
    for (engine, mode) in matrix() {
        let test = common::store_for(engine).await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::new(4, Metric::Cosine).mode(mode).engine(engine);
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        let record = |id: u64, round: u64| {
            Chunk::new(id, format!("{id} {round}"), vec![id as f32 + 1.0, round as f32, 1.0, 2.0])
        };
        docs.ingest((0..50).map(|id| record(id, 0)).collect()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..3_u64 {
            let docs = docs.clone();
            tasks.spawn(async move {
                for round in 1..40 {
                    let some = (0..50).filter(|id| (id + round) % 3 == writer % 3).map(|id| record(id, round));
                    docs.ingest(some.collect()).await.unwrap();
                }
            });
        }
        for _ in 0..3 {
            let docs = docs.clone();
            tasks.spawn(async move {
                for round in 0..120 {
                    let query = vec![f32::from(round as u8) + 1.0, 3.0, 1.0, 2.0];
                    let hits = docs.search(SearchRequest::new(query, 10)).await.unwrap();
                    assert_eq!(hits.len(), 10);
                    let chunks = docs.get((0..50).map(RecordId::from).collect()).await.unwrap();
                    assert_eq!(chunks.len(), 50);
                    for chunk in chunks {
                        let vector = chunk.vectors.get("").unwrap();
                        assert_eq!(chunk.text, format!("{} {}", chunk.id, vector[1]), "half of one, half of another");
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
    }
}

#[derive(Debug, Clone)]
enum Op {
    Upsert(Vec<(u64, u8)>),
    Delete(Vec<u64>),
    Search(u8),
    Flush,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => prop::collection::btree_map(0_u64..30, 1_u8.., 1..12).prop_map(|m| Op::Upsert(m.into_iter().collect())),
        2 => prop::collection::btree_set(0_u64..30, 1..6).prop_map(|s| Op::Delete(s.into_iter().collect())),
        2 => (1_u8..).prop_map(Op::Search),
        1 => Just(Op::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_sequence_of_operations_equals_a_map(
        ops in prop::collection::vec(op(), 1..25),
        mode in prop::sample::select(&MODES[..]),
        engine in prop::sample::select(&ENGINES[..]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let test = common::store_for(engine).await;
            let tenant = test.tenant("acme").await;
            let spec = CollectionSpec::new(2, Metric::Cosine).mode(mode).engine(engine);
            let docs = tenant.create_collection("docs", spec).await.unwrap();
            let mut model = BTreeMap::new();
            let vector = |v: u8| vec![f32::from(v), 100.0];
            for op in ops {
                match op {
                    Op::Upsert(some) => {
                        docs.ingest(some.iter().map(|(id, v)| chunk(*id, vector(*v))).collect()).await.unwrap();
                        model.extend(some);
                    }
                    Op::Delete(some) => {
                        let there = some.iter().filter(|id| model.remove(id).is_some()).count();
                        let deleted = docs.delete(some.into_iter().map(RecordId::from).collect()).await.unwrap();
                        assert_eq!(deleted, there);
                    }
                    Op::Search(v) => {
                        let score = |w: u8| Metric::Cosine.score_f64(&vector(v), &vector(w));
                        let mut expected: Vec<_> = model.iter().map(|(id, w)| (*id, score(*w))).collect();
                        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                        let hits = docs.search(SearchRequest::new(vector(v), 30)).await.unwrap();
                        assert_eq!(hits.len(), expected.len());
                        for (hit, (id, _)) in hits.iter().zip(expected) {
                            assert!(hit.id == RecordId::from(id));
                        }
                    }
                    Op::Flush => docs.flush().await.unwrap(),
                }
                assert_eq!(docs.count().await.unwrap(), model.len());
            }
            assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
        });
    }
}
