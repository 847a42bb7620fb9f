//! Guards against a search that misses: the answers to all 40 sample questions equal brute force; in `veiled` mode nearly.

mod common;

use strongroom::{CollectionSpec, Metric, Mode, RecordId, SearchRequest};

/// The ten nearest by cosine in `f64`, ties by id.
fn brute_force(query: &[f32], chunks: &[strongroom::Chunk]) -> Vec<(RecordId, f64)> {
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let mut scored: Vec<_> = chunks.iter().map(|c| (c.id.clone(), cosine(query, c.vectors.get("").unwrap()))).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    scored.truncate(10);
    scored
}

async fn check(mode: Mode) {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let chunks = common::sample_chunks();
    let spec = CollectionSpec::new(384, Metric::Cosine).mode(mode);
    let collection = tenant.create_collection("jargon", spec).await.unwrap();
    assert_eq!(collection.ingest(chunks.clone()).await.unwrap(), 2021);

    let queries = common::sample_vectors("query_vectors.f16.npy");
    assert_eq!(queries.len(), 40);
    for (number, query) in queries.into_iter().enumerate() {
        let expected = brute_force(&query, &chunks);
        let hits = collection.search(SearchRequest::new(query, 10)).await.unwrap();
        assert_eq!(hits.len(), 10);
        for (rank, (hit, (id, score))) in hits.iter().zip(&expected).enumerate() {
            assert!(hit.id == *id, "{mode}, question {number}, rank {rank}: {} instead of {id}", hit.id);
            assert!((f64::from(hit.score) - score).abs() < 1e-6, "{mode}, question {number}: {}", hit.score);
            let chunk = chunks.iter().find(|c| c.id == *id).unwrap();
            assert!(hit.text == chunk.text && hit.metadata == chunk.metadata, "another chunk's payload");
        }
    }
    test.store.close().await.unwrap();
}

/// The noise of a veil keeps some of the true answers out of the candidates; those that are found have their exact scores.
#[tokio::test(flavor = "multi_thread")]
async fn veiled_answers_nearly_equal_brute_force() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let chunks = common::sample_chunks();
    let spec = CollectionSpec::new(384, Metric::Cosine).mode(Mode::Veiled);
    let collection = tenant.create_collection("jargon", spec).await.unwrap();
    // All at once are one part, a thousand at a time and once more are several.
    for parts in ["one", "several"] {
        let batches: Vec<_> = if parts == "one" { vec![chunks.clone()] } else { more(&chunks) };
        for batch in batches {
            collection.ingest(batch).await.unwrap();
        }
        let queries = common::sample_vectors("query_vectors.f16.npy");
        let (mut found, mut wanted) = (0_u32, 0_u32);
        for (number, query) in queries.into_iter().enumerate() {
            let expected = brute_force(&query, &chunks);
            let best = expected[0].1;
            let hits = collection.search(SearchRequest::new(query.clone(), 10)).await.unwrap();
            assert_eq!(hits.len(), 10);
            assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
            wanted += 10;
            for hit in &hits {
                let Some((_, score)) = expected.iter().find(|(id, _)| *id == hit.id) else { continue };
                assert!((f64::from(hit.score) - score).abs() < 1e-6, "question {number}: {}", hit.score);
                found += 1;
            }
            let request = SearchRequest::new(query, 10).score_threshold(best as f32 - 1e-3);
            for hit in collection.search(request).await.unwrap() {
                assert!(f64::from(hit.score) >= best - 1.1e-3, "question {number}: {}", hit.score);
            }
        }
        let recall = f64::from(found) / f64::from(wanted);
        println!("recall@10 in {parts}: {recall:.3}");
        assert!(recall >= 0.95, "{parts}: {recall}");
    }
    assert!(tenant.verify(|_| ()).await.unwrap().is_clean());
    test.store.close().await.unwrap();
}

/// The chunks again, with others that no question is about, so that they need several parts.
fn more(chunks: &[strongroom::Chunk]) -> Vec<Vec<strongroom::Chunk>> {
    let far = |n: usize| {
        let mut vector: Vec<f32> = chunks[n % chunks.len()].vectors.get("").unwrap().iter().map(|x| -x).collect();
        vector[n % 384] += 0.05;
        strongroom::Chunk::new(1_000_000 + n as u64, "far", vector)
    };
    let far: Vec<_> = (0..4000).map(far).collect();
    far.chunks(1000).map(<[_]>::to_vec).chain(chunks.chunks(1000).map(<[_]>::to_vec)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_answers_equal_brute_force() {
    check(Mode::Sealed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_answers_equal_brute_force() {
    check(Mode::Plain).await;
}
