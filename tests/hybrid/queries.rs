//! Queries of every kind, beside the same ones put to a bare engine.

use qdrant_edge::{Fusion as EngineFusion, ScoringQuery, VectorInternal};
use strongroom::vectors::{RecommendStrategy, VectorInput};
use strongroom::{Chunk, Collection, ErrorKind, Fusion, Mode, Query, QueryRequest, Recommend, RecordId, SparseVector};

use crate::engine::{self, Engine, nearest, prefetch};
use crate::{MODES, chunk, common, sparse, spec};

const CHUNKS: u64 = 300;

struct Scene {
    _test: common::TestStore,
    docs: Collection,
    chunks: Vec<Chunk>,
    engine: Engine,
}

async fn scene(mode: Mode) -> Scene {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", spec(mode)).await.unwrap();
    // Most have all of their vectors.
    let chunks: Vec<Chunk> = (0..CHUNKS).map(|id| chunk(id, if id % 5 == 0 { id / 5 } else { 15 }, id)).collect();
    docs.ingest(chunks.clone()).await.unwrap();
    let engine = Engine::new(&chunks);
    Scene { _test: test, docs, chunks, engine }
}

impl Scene {
    async fn ask(&self, mut request: QueryRequest) -> Vec<(RecordId, f32)> {
        exact(&mut request);
        let found = self.docs.query(request).await.unwrap();
        found.into_iter().map(|hit| (hit.id, hit.score)).collect()
    }
}

fn exact(request: &mut QueryRequest) {
    request.exact = true;
    request.prefetch.iter_mut().for_each(exact);
}

fn dense(vector: &[f32]) -> VectorInternal {
    VectorInternal::Dense(vector.to_vec())
}

/// The same scores, and the same records where the last of them do not tie.
#[track_caller]
fn same(what: &str, found: &[(RecordId, f32)], right: &[(RecordId, f32)]) {
    assert!(!right.is_empty(), "{what}: the engine finds something");
    assert_eq!(found.len(), right.len(), "{what}");
    for ((_, found), (_, right)) in found.iter().zip(right) {
        assert!((found - right).abs() <= 1e-4 * right.abs().max(1.0), "{what}: {found} instead of {right}");
    }
    let last = right.last().unwrap().1;
    let above = |hits: &[(RecordId, f32)]| {
        let mut ids: Vec<_> = hits.iter().filter(|(_, s)| (s - last).abs() > 1e-3).map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    };
    assert!(above(found) == above(right), "{what}: other records");
}

#[tokio::test]
async fn each_kind_by_itself_answers_as_the_engine_does() {
    for mode in MODES {
        let scene = scene(mode).await;
        for seed in 0..5 {
            let (body, title, terms) =
                (common::vector(seed + 500, 4), common::vector(seed + 600, 3), sparse(seed + 700));
            for (name, vector) in [("body", &body), ("title", &title)] {
                let found = scene.ask(QueryRequest::new(vector.clone(), 20).using(name)).await;
                same(name, &found, &scene.engine.ask(nearest(dense(vector), name), vec![], 20, None));
            }
            let offset = scene.ask(QueryRequest::new(body.clone(), 10).using("body").offset(7)).await;
            same("an offset", &offset, &scene.engine.ask(nearest(dense(&body), "body"), vec![], 17, None)[7..]);
            let good = scene.ask(QueryRequest::new(body.clone(), 300).using("body").score_threshold(0.3)).await;
            same("a threshold", &good, &scene.engine.ask(nearest(dense(&body), "body"), vec![], 300, Some(0.3)));
            let near = scene.ask(QueryRequest::new(title.clone(), 300).using("title").score_threshold(1.0)).await;
            same("of distances", &near, &scene.engine.ask(nearest(dense(&title), "title"), vec![], 300, Some(1.0)));
            for name in ["terms", "tags"] {
                let found = scene.ask(QueryRequest::new(terms.clone(), 15).using(name)).await;
                same(name, &found, &scene.engine.ask(nearest(engine::sparse(&terms), name), vec![], 15, None));
            }
        }
    }
}

#[tokio::test]
async fn recommendations_answer_as_the_engine_does() {
    for mode in MODES {
        let scene = scene(mode).await;
        for seed in 0..4 {
            let vectors = |name: &str, size, n: u64| -> (Vec<VectorInput>, Vec<VectorInternal>) {
                let each = (0..n).map(|at| {
                    let at = seed * 100 + n * 10 + at;
                    if name == "terms" {
                        let vector = sparse(at);
                        (VectorInput::Sparse(vector.clone()), engine::sparse(&vector))
                    } else {
                        let vector = common::vector(at + 5000, size);
                        (VectorInput::Dense(vector.clone()), dense(&vector))
                    }
                });
                each.unzip()
            };
            for (name, size) in [("body", 4), ("title", 3), ("terms", 0)] {
                for (positive, negative) in [(1, 0), (2, 1), (0, 2)] {
                    let (ours, theirs) = vectors(name, size, positive);
                    let (ours_not, theirs_not) = vectors(name, size, 4 + negative);
                    let keep = negative as usize;
                    let (ours_not, theirs_not) = (ours_not[..keep].to_vec(), theirs_not[..keep].to_vec());
                    for (best, strategy) in
                        [(true, RecommendStrategy::BestScore), (false, RecommendStrategy::SumScores)]
                    {
                        let ask = Recommend { positive: ours.clone(), negative: ours_not.clone(), strategy };
                        let found = scene.ask(QueryRequest::new(ask, 25).using(name)).await;
                        let query = engine::recommend(theirs.clone(), theirs_not.clone(), name, best);
                        let what = format!("{mode}, {name}, {positive} and {negative}, {strategy:?}");
                        same(&what, &found, &scene.engine.ask(query, vec![], 25, None));
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn fusions_answer_as_the_engine_does() {
    for mode in MODES {
        let scene = scene(mode).await;
        for seed in 0..5 {
            let (body, terms) = (common::vector(seed + 800, 4), sparse(seed + 900));
            let ours = || {
                [
                    QueryRequest::new(body.clone(), 40).using("body"),
                    QueryRequest::new(terms.clone(), 30).using("terms"),
                    QueryRequest::new(terms.clone(), 10).using("tags").score_threshold(0.1),
                ]
            };
            let theirs = || {
                vec![
                    prefetch(nearest(dense(&body), "body"), vec![], 40, None),
                    prefetch(nearest(engine::sparse(&terms), "terms"), vec![], 30, None),
                    prefetch(nearest(engine::sparse(&terms), "tags"), vec![], 10, Some(0.1)),
                ]
            };
            let weights = vec![3.0, 1.0, 0.5];
            for (fusion, engine_fusion) in [
                (Fusion::rrf(), EngineFusion::Rrf { k: 2, weights: None }),
                (Fusion::Rrf { k: 60, weights: None }, EngineFusion::Rrf { k: 60, weights: None }),
                (
                    Fusion::Rrf { k: 5, weights: Some(weights.clone()) },
                    EngineFusion::Rrf { k: 5, weights: Some(weights.iter().map(|w| (*w).into()).collect()) },
                ),
                (Fusion::Dbsf, EngineFusion::Dbsf),
            ] {
                let what = format!("{mode}, {fusion:?}");
                let found = scene.ask(QueryRequest::new(fusion.clone(), 12).prefetch(ours())).await;
                let right = scene.engine.ask(ScoringQuery::Fusion(engine_fusion.clone()), theirs(), 12, None);
                same(&what, &found, &right);
                // What was fused, scored again by a vector, and fused with something else.
                let again = QueryRequest::new(body.clone(), 8).using("body");
                // All of it: which of equal ranks come first is not the same.
                let again = again.prefetch([QueryRequest::new(fusion, 80).prefetch(ours())]);
                let nested = prefetch(ScoringQuery::Fusion(engine_fusion), theirs(), 80, None);
                let right = scene.engine.ask(nearest(dense(&body), "body"), vec![nested], 8, None);
                let found = scene.ask(again).await;
                same(&format!("{what}, scored again"), &found, &right);
            }
        }
    }
}

#[tokio::test]
async fn a_record_can_stand_for_its_vector_and_is_not_found() {
    for mode in MODES {
        let scene = scene(mode).await;
        let seven = &scene.chunks[7];
        let by_id = scene.ask(QueryRequest::new(RecordId::from(7), 10).using("body")).await;
        let body = seven.vectors.get("body").unwrap();
        let by_vector = scene.ask(QueryRequest::new(body.to_vec(), 11).using("body")).await;
        assert!(by_vector[0].0 == RecordId::from(7) && by_id == by_vector[1..]);

        let terms: &SparseVector = seven.vectors.sparse("terms").unwrap();
        let by_vector = scene.ask(QueryRequest::new(terms.clone(), 300).using("terms")).await;
        let others: Vec<_> = by_vector.into_iter().filter(|(id, _)| *id != RecordId::from(7)).collect();
        assert!(scene.ask(QueryRequest::new(RecordId::from(7), 300).using("terms")).await == others);

        // Also not where it is named in something that is prefetched.
        let fused = QueryRequest::new(Fusion::rrf(), 300).prefetch([
            QueryRequest::new(RecordId::from(7), 50).using("body"),
            QueryRequest::new(body.to_vec(), 50).using("body"),
        ]);
        let fused = scene.ask(fused).await;
        assert!(fused.len() == 50 && fused.iter().all(|(id, _)| *id != RecordId::from(7)));

        let none = QueryRequest::new(RecordId::from(9999), 1).using("body");
        assert_eq!(scene.docs.query(none).await.err().unwrap().kind(), ErrorKind::NotFound);
        // Record 0 has no vector.
        let lacking = QueryRequest::new(RecordId::from(0), 1).using("body");
        assert_eq!(scene.docs.query(lacking).await.err().unwrap().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn the_mean_of_examples_is_searched_for() {
    for mode in MODES {
        let scene = scene(mode).await;
        let (a, b, c) = (common::vector(1, 3), common::vector(2, 3), common::vector(3, 3));
        let mean: Vec<f32> = (0..3)
            .map(|i| {
                let p = (a[i] + b[i]) / 2.0;
                p + p - c[i]
            })
            .collect();
        let ask = Recommend {
            positive: vec![VectorInput::Dense(a), VectorInput::Dense(b)],
            negative: vec![VectorInput::Dense(c)],
            ..Recommend::default()
        };
        let found = scene.ask(QueryRequest::new(ask, 20).using("title")).await;
        same("dense", &found, &scene.ask(QueryRequest::new(mean, 20).using("title")).await);

        // By cosine, records count with length 1.
        let unit = |id: usize| -> Vec<f32> {
            let v = scene.chunks[id].vectors.get("body").unwrap();
            let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
            v.iter().map(|x| x / length).collect()
        };
        let (one, two) = (unit(1), unit(2));
        let mean: Vec<f32> = one.iter().zip(&two).map(|(a, b)| (a + b) / 2.0).collect();
        let ask =
            Recommend { positive: vec![VectorInput::Id(1.into()), VectorInput::Id(2.into())], ..Recommend::default() };
        let found = scene.ask(QueryRequest::new(ask, 20).using("body")).await;
        let right = scene.ask(QueryRequest::new(mean, 22).using("body")).await;
        let right: Vec<_> = right.into_iter().filter(|(id, _)| ![1.into(), 2.into()].contains(id)).take(20).collect();
        same("by id", &found, &right);

        let s = |pairs: &[(u32, f32)]| {
            SparseVector::new(pairs.iter().map(|p| p.0).collect(), pairs.iter().map(|p| p.1).collect()).unwrap()
        };
        let ask = Recommend {
            positive: vec![VectorInput::Sparse(s(&[(0, 1.0), (1000, 3.0)])), VectorInput::Sparse(s(&[(1000, 1.0)]))],
            negative: vec![VectorInput::Sparse(s(&[(2000, 4.0)]))],
            ..Recommend::default()
        };
        let found = scene.ask(QueryRequest::new(ask, 20).using("tags")).await;
        let mean = s(&[(0, 1.0), (1000, 4.0), (2000, -4.0)]);
        same("sparse", &found, &scene.ask(QueryRequest::new(mean, 20).using("tags")).await);
    }
}

#[tokio::test]
async fn only_what_passes_is_found_anywhere_in_a_query() {
    for mode in MODES {
        let scene = scene(mode).await;
        let odd = |id: &RecordId| matches!(id, RecordId::Number(n) if n % 2 == 1);
        let all = scene.ask(QueryRequest::all(10)).await;
        assert!(all == (0..10).map(|id| (RecordId::from(id), 1.0)).collect::<Vec<_>>(), "in the order of ids");
        let some = scene.ask(QueryRequest::all(3).among(odd).offset(2)).await;
        assert!(some == [5, 7, 9].map(|id| (RecordId::from(id), 1.0)));

        let body = common::vector(77, 4);
        let everything = scene.ask(QueryRequest::new(body.clone(), 300).using("body")).await;
        let right: Vec<_> = everything.into_iter().filter(|(id, _)| odd(id)).collect();
        assert!(scene.ask(QueryRequest::new(body.clone(), 300).using("body").among(odd)).await == right);
        assert!(scene.ask(QueryRequest::new(body.clone(), 5).using("body").among(odd)).await == right[..5]);

        // An outer condition holds for what is prefetched, and a condition there only there.
        let small = |id: &RecordId| matches!(id, RecordId::Number(n) if *n < 100);
        let fused = QueryRequest::new(Fusion::rrf(), 300).among(odd).prefetch([
            QueryRequest::new(body.clone(), 300).using("body").among(small),
            QueryRequest::new(Query::Text("text".into()), 300),
        ]);
        let fused = scene.ask(fused).await;
        assert!(fused.len() == 150 && fused.iter().all(|(id, _)| odd(id)));
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused() {
    let scene = scene(Mode::Sealed).await;
    let body = || QueryRequest::new(common::vector(1, 4), 5).using("body");
    let nothing = Recommend { negative: vec![VectorInput::Id(1.into())], ..Recommend::default() };
    let mut deep = body();
    for _ in 0..64 {
        deep = body().prefetch([deep]);
    }
    for (what, bad) in [
        ("two dense vectors and no name", QueryRequest::new(common::vector(1, 4), 5)),
        ("another size", QueryRequest::new(common::vector(1, 3), 5).using("body")),
        ("dense with sparse", QueryRequest::new(common::vector(1, 3), 5).using("tags")),
        ("sparse with dense", QueryRequest::new(sparse(1), 5).using("body")),
        ("two sparse vectors and no name", QueryRequest::new(sparse(1), 5)),
        ("no such vector", QueryRequest::new(sparse(1), 5).using("nothing")),
        ("nothing to fuse", QueryRequest::new(Fusion::rrf(), 5)),
        ("nothing to do with prefetches", QueryRequest::all(5).prefetch([body()])),
        ("no positive example", QueryRequest::new(nothing, 5).using("body")),
        (
            "no example",
            QueryRequest::new(Recommend { strategy: RecommendStrategy::BestScore, ..Recommend::default() }, 5)
                .using("body"),
        ),
        ("too many results", QueryRequest::new(common::vector(1, 4), 9_999).using("body").offset(2)),
        ("too many prefetches", deep),
        ("a long text", QueryRequest::new(Query::Text("x ".repeat(40_000)), 5)),
    ] {
        let e = scene.docs.query(bad).await.err().unwrap_or_else(|| panic!("{what} is answered"));
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{what}: {e}");
    }
}
