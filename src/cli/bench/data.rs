//! Made-up chunks: clustered unit vectors as embeddings are, and texts of words, all from one seed.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use crate::cli::input::NpyReader;
use crate::error::{Error, Result};
use crate::vectors::Chunk;

/// Pages, which chunks have one after the other.
pub(super) const PAGES: u64 = 300;
/// Bytes of a text: a paragraph.
const TEXT_BYTES: usize = 700;
/// Vectors around one topic.
const PER_TOPIC: usize = 40;
/// How far vectors lie from their topic, and queries from what they ask for, as parts of a length of 1.
const SPREAD: f32 = 0.6;
const QUERY_SPREAD: f32 = 0.5;
/// How far copies of a given embedding lie from it.
const JITTER: f32 = 0.35;
/// Embeddings do not fill their dimensions evenly: from here on each counts for less.
const EVEN_DIMENSIONS: f32 = 24.0;

const WORDS: [&str; 24] = [
    "ledger", "harbour", "protocol", "amber", "gradient", "tenant", "archive", "quorum", "lattice", "morning",
    "replica", "and", "the", "of", "kernel", "meadow", "cipher", "window", "with", "token", "vessel", "is", "ridge",
    "signal",
];

/// Vectors and questions about them.
pub(super) struct Corpus {
    pub(super) vectors: Vec<Vec<f32>>,
    pub(super) queries: Vec<Vec<f32>>,
    seed: u64,
}

impl Corpus {
    /// `n` vectors of `dim` values around topics.
    pub(super) fn made_up(n: usize, dim: usize, queries: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let topics: Vec<_> = (0..n.div_ceil(PER_TOPIC)).map(|_| near(&vec![0.0; dim], 1.0, &mut rng)).collect();
        Self::around(&topics, n, SPREAD, queries, seed, rng)
    }

    /// `n` vectors around the embeddings in a `.npy` file.
    pub(super) fn around_embeddings(file: &Path, n: usize, queries: usize, seed: u64) -> Result<Self> {
        let mut reader = NpyReader::open(file)?;
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row()? {
            rows.push(row?);
        }
        if rows.is_empty() {
            return Err(Error::invalid(format!("`{}` has no rows", file.display())));
        }
        Ok(Self::around(&rows, n, JITTER, queries, seed, StdRng::seed_from_u64(seed)))
    }

    fn around(centres: &[Vec<f32>], n: usize, spread: f32, queries: usize, seed: u64, mut rng: StdRng) -> Self {
        let vectors: Vec<_> = centres.iter().cycle().take(n).map(|centre| near(centre, spread, &mut rng)).collect();
        let queries = (0..queries).map(|i| {
            let asked_for = vectors.get(i * 7919 % n.max(1)).map_or(&[][..], Vec::as_slice);
            near(asked_for, QUERY_SPREAD, &mut rng)
        });
        let queries = queries.collect();
        Self { vectors, queries, seed }
    }

    /// The chunks from `from` on, `count` of them at most; the id of each is its position.
    pub(super) fn chunks(&self, from: usize, count: usize) -> Vec<Chunk> {
        let numbered = self.vectors.iter().enumerate().skip(from).take(count);
        numbered
            .map(|(i, vector)| {
                let id = i as u64;
                let mut rng = StdRng::seed_from_u64(self.seed ^ (id << 20));
                Chunk::new(id, text(TEXT_BYTES, &mut rng), vector.clone()).metadata(metadata(id))
            })
            .collect()
    }
}

/// Words, `bytes` bytes of them.
pub(super) fn text(bytes: usize, rng: &mut StdRng) -> String {
    let mut text = String::with_capacity(bytes + 10);
    while text.len() < bytes {
        text += WORDS.get(rng.random_range(0..WORDS.len())).unwrap_or(&"");
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

fn metadata(id: u64) -> Map<String, Value> {
    let metadata =
        json!({ "source": "bench", "page": id % PAGES, "title": format!("Part {}", id / PAGES), "draft": false });
    if let Value::Object(map) = metadata { map } else { Map::new() }
}

/// A vector of length 1 in a random direction from `centre`, `spread` away before it is brought to that length.
fn near(centre: &[f32], spread: f32, rng: &mut StdRng) -> Vec<f32> {
    let offset: Vec<f32> =
        (0_u16..).zip(centre).map(|(i, _)| gaussian(rng) / (1.0 + f32::from(i) / EVEN_DIMENSIONS).sqrt()).collect();
    let scale = spread / length(&offset);
    let mut vector: Vec<f32> = centre.iter().zip(&offset).map(|(c, o)| c + scale * o).collect();
    let length = length(&vector);
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE)
}

/// Box–Muller.
fn gaussian(rng: &mut StdRng) -> f32 {
    let radius = (-2.0 * rng.random_range(f32::MIN_POSITIVE..1.0).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random_range(0.0_f32..1.0)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_unit_vectors() {
        let (a, b) = (Corpus::made_up(100, 16, 5, 7), Corpus::made_up(100, 16, 5, 7));
        assert!(a.vectors == b.vectors && a.queries == b.queries);
        assert_eq!((a.vectors.len(), a.queries.len(), a.chunks(90, 20).len()), (100, 5, 10));
        assert!(a.vectors.iter().chain(&a.queries).all(|v| (length(v) - 1.0).abs() < 1e-5));
        assert!(a.vectors != Corpus::made_up(100, 16, 5, 8).vectors);
        assert_eq!(a.chunks(3, 1)[0].text.len(), TEXT_BYTES);
    }
}
