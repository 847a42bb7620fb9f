//! Guards against a first pass over signs that misses what it should find: on the sample's questions, and among twenty
//! thousand vectors around its embeddings. Over codes it misses nothing.

mod common;

use strongroom::locked::LockPolicy;
use strongroom::vectors::resident::{Keep, Pass, Question, Resident, Shape};
use strongroom::vectors::slots::Slots;
use strongroom::{Metric, RecordId};
use zeroize::Zeroizing;

const K: usize = 10;
const MANY: usize = 20_000;

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

/// A vector in a direction of its own from `centre`.
fn near(centre: &[f32], seed: u64, spread: f32) -> Vec<f32> {
    let offset = unit(common::vector(seed, centre.len()));
    unit(centre.iter().zip(offset).map(|(c, o)| c + spread * o).collect())
}

fn index(vectors: &[Vec<f32>], keep: Keep) -> Resident {
    let mut index = Resident::keeping(keep, Shape::new(384, Metric::Cosine).unwrap(), LockPolicy::Never);
    index.reserve(vectors.len()).unwrap();
    (0..).zip(vectors).for_each(|(slot, vector)| index.upsert(slot, vector).unwrap());
    index
}

fn exact(vectors: &[Vec<f32>], query: &[f32]) -> Vec<RecordId> {
    let mut scored: Vec<_> = (0..).zip(vectors).map(|(id, v)| (Metric::Cosine.score_f64(query, v), id)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(K).map(|(_, id)| RecordId::Number(id)).collect()
}

/// The share of the true ten that are found by a pass, over all questions.
fn recall(index: &Resident, vectors: &[Vec<f32>], queries: &[Vec<f32>], pass: Pass) -> f64 {
    let source = |ids: &[&RecordId]| {
        let of = |id: &&RecordId| match id {
            RecordId::Number(n) => Some(Zeroizing::new(vectors[*n as usize].clone())),
            _ => None,
        };
        Ok(ids.iter().map(of).collect())
    };
    let records = Slots::numbered((0..vectors.len() as u64).map(RecordId::Number).collect()).unwrap();
    let found = queries.iter().map(|query| {
        let records = &records;
        let question = Question { vector: query, k: K, records, filter: None, pass: Some(pass), source: Some(&source) };
        let expected = exact(vectors, query);
        index.answer(&question).unwrap().iter().filter(|hit| expected.contains(&hit.id)).count()
    });
    found.sum::<usize>() as f64 / (K * queries.len()) as f64
}

#[test]
fn the_samples_questions_are_answered() {
    let vectors = common::sample_vectors("chunk_vectors.f16.npy");
    let queries = common::sample_vectors("query_vectors.f16.npy");
    for keep in Keep::ALL {
        let index = index(&vectors, keep);
        assert_eq!(recall(&index, &vectors, &queries, Pass::Codes), 1.0, "{keep:?}");
        let by_signs = recall(&index, &vectors, &queries, Pass::Signs);
        assert!(by_signs >= 0.99, "{keep:?}: {by_signs}");
        let by_odds = recall(&index, &vectors, &queries, Pass::Odds);
        assert!(by_odds >= if keep == Keep::Signs { 0.99 } else { 0.9999 }, "{keep:?}: {by_odds}");
    }
}

#[test]
fn so_are_questions_among_twenty_thousand() {
    let centres = common::sample_vectors("chunk_vectors.f16.npy");
    let vectors: Vec<_> = centres.iter().cycle().take(MANY).zip(1..).map(|(c, seed)| near(c, seed, 0.35)).collect();
    let asked = |n: u64| near(&vectors[n as usize * 7919 % MANY], 1_000_000 + n, 0.5);
    let queries: Vec<_> = (0..100).map(asked).collect();
    let index = index(&vectors, Keep::Vectors);
    assert_eq!(recall(&index, &vectors, &queries, Pass::Codes), 1.0);
    let by_signs = recall(&index, &vectors, &queries, Pass::Signs);
    assert!(by_signs >= 0.99, "{by_signs}");
    // Of a thousand one may stray.
    let by_odds = recall(&index, &vectors, &queries, Pass::Odds);
    assert!(by_odds >= 0.999, "{by_odds}");
}
