//! The veil: what an engine is given instead of a vector when it is to search without being shown it. A keyed rotation of
//! the vector, scaled to length 1, and of noise that is drawn once for each version of it.
//!
//! It hides little from who has texts of the same kind or a few known pairs: [`threat_model`](crate::manual::threat_model)
//! has the figures.

mod noise;
mod parts;
mod stream;

use zeroize::Zeroizing;

use crate::secret::Secret;

pub(crate) use parts::{MOST_PARTS, part_of, parts_for};

use stream::Stream;

/// The deviation that noise gives to a score.
pub(crate) const SIGMA: f64 = 0.064;
/// Rounds of the rotation.
const ROUNDS: usize = 4;

/// A random seed of the noise of one version of a vector.
pub(crate) type Seed = [u8; 32];

/// A keyed rotation of vectors of one size: in each round signs, a Walsh–Hadamard transform, and a permutation.
pub struct Veil {
    rounds: Vec<Round>,
}

struct Round {
    /// 1 or −1 for each dimension.
    signs: Zeroizing<Vec<f32>>,
    /// Where each dimension's value comes from. There are at most 65 536.
    from: Zeroizing<Vec<u16>>,
}

impl Veil {
    /// The rotation of `dimensions` that `key` gives.
    pub fn new(key: &Secret<32>, dimensions: usize) -> Self {
        let mut stream = Stream::new(key.expose_secret());
        Self { rounds: (0..ROUNDS).map(|_| Round::draw(&mut stream, dimensions)).collect() }
    }

    /// What to ask an engine for: `query`, scaled to length 1 and turned.
    pub fn query(&self, query: &[f32]) -> Zeroizing<Vec<f32>> {
        let mut turned = unit(query);
        self.turn(&mut turned);
        turned
    }

    /// What to give an engine for `vector`: scaled to length 1, with the noise of `seed`, and turned.
    pub fn veiled(&self, vector: &[f32], seed: &Seed) -> Vec<f32> {
        let mut noisy = unit(vector);
        noise::add(&mut noisy, seed);
        self.turn(&mut noisy);
        std::mem::take(&mut *noisy)
    }

    fn turn(&self, x: &mut Zeroizing<Vec<f32>>) {
        let mut before = Zeroizing::new(vec![0.0; x.len()]);
        for round in &self.rounds {
            mix(x, &round.signs);
            std::mem::swap(x, &mut before);
            for (x, from) in x.iter_mut().zip(&*round.from) {
                *x = before.get(usize::from(*from)).copied().unwrap_or_default();
            }
        }
    }
}

impl Round {
    fn draw(stream: &mut Stream, dimensions: usize) -> Self {
        let bytes: Zeroizing<Vec<u8>> = Zeroizing::new((0..dimensions.div_ceil(8)).map(|_| stream.byte()).collect());
        let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
        let signs = bits.take(dimensions).map(|bit| if bit == 1 { -1.0 } else { 1.0 }).collect();
        // A collection's vectors have at most 65 536 dimensions.
        let mut from: Zeroizing<Vec<u16>> = Zeroizing::new((0..=u16::MAX).take(dimensions).collect());
        for i in (1..from.len()).rev() {
            let j = stream.below(u32::try_from(i).unwrap_or(u32::MAX).saturating_add(1));
            from.swap(i, j as usize);
        }
        Self { signs: Zeroizing::new(signs), from }
    }
}

/// Turns `x` so that each value depends on about all of them: `signs`, which are 1 or −1, then Walsh–Hadamard transforms.
pub(in crate::vectors) fn mix(x: &mut [f32], signs: &[f32]) {
    x.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
    let d = x.len();
    // The largest power of two that fits; what it leaves over is reached by a second transform from the end.
    let p = 1_usize << d.checked_ilog2().unwrap_or(0);
    let scale = 1.0 / (p as f32).sqrt();
    transform(x.get_mut(..p).unwrap_or_default(), scale);
    if p < d {
        transform(x.get_mut(d - p..).unwrap_or_default(), scale);
    }
}

/// The Walsh–Hadamard transform of `x`, whose length is a power of two, times `scale`.
fn transform(x: &mut [f32], scale: f32) {
    let mut half = 1;
    while half < x.len() {
        for block in x.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    x.iter_mut().for_each(|x| *x *= scale);
}

/// `vector` scaled to length 1.
fn unit(vector: &[f32]) -> Zeroizing<Vec<f32>> {
    let length = super::metric::dot(vector, vector).sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "engines hold f32")]
    let scaled = vector.iter().map(|x| (f64::from(*x) / length) as f32);
    Zeroizing::new(scaled.collect())
}

/// Random seeds, one for each of `count` vectors.
pub(crate) fn seeds(count: usize) -> crate::Result<Zeroizing<Vec<Seed>>> {
    let mut seeds = Zeroizing::new(vec![[0; 32]; count]);
    for seed in seeds.iter_mut() {
        crate::entropy::fill(seed)?;
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn bytes(hex: &Value) -> [u8; 32] {
        let hex = hex.as_str().unwrap();
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    fn numbers(list: &Value) -> Vec<f64> {
        list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn near(what: &str, ours: &[f32], theirs: &[f64]) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-5, "{what}: {ours} instead of {theirs}");
        }
    }

    fn veil(byte: u8, d: usize) -> Veil {
        Veil::new(&Secret::from_bytes([byte; 32]), d)
    }

    /// Vectors that look like any others.
    fn drawn(byte: u8, d: usize) -> Vec<f32> {
        let mut stream = Stream::new(&[byte; 32]);
        (0..d).map(|_| (0..4).map(|_| stream.below(2001) as f32 - 1000.0).sum()).collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        super::super::metric::dot(a, b)
    }

    #[test]
    fn known_answers() {
        let known: Vec<Value> = serde_json::from_str(include_str!("kat.json")).unwrap();
        let sizes: Vec<&Value> = known.iter().filter(|answer| answer.get("d").is_some()).collect();
        assert_eq!(sizes.len(), 3);
        for answer in sizes {
            let d = usize::try_from(answer["d"].as_u64().unwrap()).unwrap();
            let sines: Vec<f64> = (1..=d).map(|i| (i as f64).sin()).collect();
            let length = sines.iter().map(|x| x * x).sum::<f64>().sqrt();
            let x: Vec<f32> = sines.iter().map(|x| (x / length) as f32).collect();
            let veil = Veil::new(&Secret::from_bytes(bytes(&answer["rot_key"])), d);
            near("signs", &veil.rounds[0].signs, &numbers(&answer["sign0_first8"]));
            let from: Vec<f32> = veil.rounds[0].from.iter().take(8).map(|i| f32::from(*i)).collect();
            near("permutation", &from, &numbers(&answer["perm0_first8"]));
            near("turned", &veil.query(&x), &numbers(&answer["y_first8"]));
            let seed = bytes(&answer["noise_seed"]);
            let mut noise = vec![0.0; d];
            noise::add(&mut noise, &seed);
            near("noise", &noise, &numbers(&answer["lambda_first4"]));
            near("its length", &[dot(&noise, &noise).sqrt() as f32], &[answer["r"].as_f64().unwrap()]);
            near("veiled", &veil.veiled(&x, &seed), &numbers(&answer["z_first8"]));
        }
    }

    #[test]
    fn it_is_a_rotation() {
        for d in [1, 2, 3, 7, 64, 100, 384, 768, 1000, 1536] {
            let veil = veil(9, d);
            for n in 0..8 {
                let (a, b) = (unit(&drawn(2 * n, d)), unit(&drawn(2 * n + 1, d)));
                let error = dot(&veil.query(&a), &veil.query(&b)) - dot(&a, &b);
                assert!(error.abs() < 2e-6, "{d}: {error}");
            }
        }
    }

    #[test]
    fn noise_moves_scores_by_what_it_should() {
        let d = 384;
        let veil = veil(1, d);
        let (query, vector) = (drawn(3, d), drawn(4, d));
        let exact = dot(&unit(&query), &unit(&vector));
        let asked = veil.query(&query);
        let n = 40_000;
        let squares = (0..n).map(|i: u32| {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&i.to_le_bytes());
            (dot(&asked, &veil.veiled(&vector, &seed)) - exact).powi(2)
        });
        let deviation = (squares.sum::<f64>() / f64::from(n)).sqrt();
        assert!((deviation - SIGMA).abs() < 0.001, "{deviation}");
    }

    #[test]
    fn another_key_finds_nothing() {
        let (d, n, k) = (384, 2000, 10);
        let vectors: Vec<Vec<f32>> = (0..n).map(|i| noisy(i, d)).collect();
        let (ours, other) = (veil(1, d), veil(2, d));
        let stored: Vec<Vec<f32>> = vectors.iter().map(|v| ours.veiled(v, &[0; 32])).collect();
        let nearest = |query: &[f32], among: &[Vec<f32>]| {
            let mut scores: Vec<(usize, f64)> = among.iter().map(|v| dot(query, v)).enumerate().collect();
            scores.sort_by(|a, b| b.1.total_cmp(&a.1));
            scores.into_iter().take(k).map(|(i, _)| i).collect::<Vec<_>>()
        };
        let mut found = 0;
        for query in &vectors[..50] {
            let truth = nearest(query, &vectors);
            found += nearest(&other.query(query), &stored).iter().filter(|i| truth.contains(i)).count();
        }
        let recall = found as f64 / (50 * k) as f64;
        assert!(recall < 0.02, "{recall}");
    }

    fn noisy(i: u32, d: usize) -> Vec<f32> {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&i.to_le_bytes());
        let mut x = vec![0.0; d];
        noise::add(&mut x, &seed);
        x
    }
}
