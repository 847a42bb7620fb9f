//! Guards against a search that misses: the answers to all 40 sample questions equal brute force, in both modes.

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

#[tokio::test(flavor = "multi_thread")]
async fn sealed_answers_equal_brute_force() {
    check(Mode::Sealed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_answers_equal_brute_force() {
    check(Mode::Plain).await;
}
