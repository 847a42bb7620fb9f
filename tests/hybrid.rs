//! Guards against a sparse vector, a missing vector or a word that is lost or found wrong, in one place of a record's
//! life, and against queries that answer otherwise than Qdrant does.

mod common;

#[path = "hybrid/command_line.rs"]
mod command_line;
#[path = "hybrid/engine.rs"]
mod engine;
#[path = "hybrid/keywords.rs"]
mod keywords;
#[path = "hybrid/lacking.rs"]
mod lacking;
#[path = "hybrid/queries.rs"]
mod queries;

use std::collections::BTreeMap;

use strongroom::vectors::{Modifier, VectorParams};
use strongroom::{Chunk, CollectionSpec, Metric, Mode, SparseParams, SparseVector, Vectors};

const MODES: [Mode; 2] = [Mode::Sealed, Mode::Plain];

/// Two dense vectors and two sparse ones.
fn spec(mode: Mode) -> CollectionSpec {
    CollectionSpec::without_vectors()
        .named([
            ("body", VectorParams { size: 4, metric: Metric::Cosine }),
            ("title", VectorParams { size: 3, metric: Metric::Euclid }),
        ])
        .sparse([("terms", SparseParams { modifier: Modifier::Idf }), ("tags", SparseParams::default())])
        .mode(mode)
}

/// Few values at few indices, other ones for each `seed`.
fn sparse(seed: u64) -> SparseVector {
    let draws = common::vector(seed, 9);
    let weights: BTreeMap<u32, f32> =
        draws.chunks_exact(2).map(|d| ((d[0].abs() * 12.0) as u32 * 1000, d[1])).collect();
    SparseVector::new(weights.keys().copied().collect(), weights.values().copied().collect()).unwrap()
}

/// A chunk that has those of the four vectors whose bit is set in `which`.
fn chunk(id: u64, which: u64, seed: u64) -> Chunk {
    let mut vectors = Vectors::default();
    if which & 1 != 0 {
        vectors.insert("body", common::vector(seed * 4, 4));
    }
    if which & 2 != 0 {
        vectors.insert("title", common::vector(seed * 4 + 1, 3));
    }
    if which & 4 != 0 {
        vectors.insert_sparse("terms", sparse(seed * 4 + 2));
    }
    if which & 8 != 0 {
        vectors.insert_sparse("tags", sparse(seed * 4 + 3));
    }
    Chunk::new(id, format!("text {id} of seed {seed}"), vectors)
}
