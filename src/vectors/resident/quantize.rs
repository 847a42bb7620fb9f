//! Vectors as 8-bit codes, and how far a score computed from codes can be from the exact one.
//!
//! With x̃ = scale·code, Cauchy–Schwarz gives |⟨q,x⟩ − ⟨q̃,x̃⟩| = |⟨q̃, x−x̃⟩ + ⟨q−q̃, x⟩| ≤ ‖q̃‖·‖x−x̃‖ + ‖q−q̃‖·‖x‖. The
//! integer dot product of two codes is exact, and every length here is rounded up, so the bound holds for the scores
//! that [`Metric`] computes, not just in theory.
//!
//! And as one bit for each value of the turned vector, its sign: the share of signs that differ is about the angle ÷ π,
//! with the odds that [`shape`](super::shape) tells.

use pulp::{Arch, Simd, WithSimd};
use simsimd::SpatialSimilarity as _;
use zeroize::Zeroizing;

use crate::vectors::metric::Metric;
use crate::vectors::resident::shape::{Odds, Shape};

/// Codes are padded with zeros to a whole number of SIMD registers, in bytes.
const CODE_ALIGN: usize = 32;

/// The largest magnitude of a code; −128 is left out, so codes can change sign.
const CODE_MAX: f32 = 127.0;

/// Below this largest magnitude a vector is coded as zero: 127 ÷ it would not be finite.
const SMALLEST_CODED: f32 = 1e-30;

/// Adding 1.5·2²³ to an `f32` of magnitude below 2²² leaves its nearest integer in the low bits of the sum.
const ROUND_TO_LOW_BITS: f32 = 12_582_912.0;

/// More than every rounding error of an `f64` sum of 65 536 terms (7.3e-12 of the product of the lengths).
const F64_SLACK: f64 = 1e-10;

/// Rounds a computed length up to at least the true one.
const UP: f64 = 1.0 + F64_SLACK;

/// The bytes of one code.
pub(super) fn code_bytes(dimension: usize) -> usize {
    dimension.next_multiple_of(CODE_ALIGN)
}

/// The words of the signs of one vector.
pub(super) fn sign_words(dimension: usize) -> usize {
    dimension.div_ceil(u64::BITS as usize)
}

/// Writes which of `values` are negative, one bit each.
pub(super) fn sign(values: &[f32], signs: &mut [u64]) {
    signs.fill(0);
    for (word, values) in signs.iter_mut().zip(values.chunks(u64::BITS as usize)) {
        *word = (0..).zip(values).map(|(bit, x)| u64::from(x.is_sign_negative()) << bit).sum();
    }
}

/// What the first pass knows of a row besides its code; for cosine, of the row scaled to length 1.
#[derive(Clone, Copy)]
pub(super) struct RowBound {
    /// ‖x‖² of the row as given, exact to `f64`.
    pub squared: f64,
    /// x̃ = scale·code.
    pub scale: f64,
    /// At least ‖x − x̃‖.
    pub error: f64,
    /// At least ‖x‖.
    pub length: f64,
}

impl RowBound {
    /// How many `f64` a bound takes.
    pub const WORDS: usize = 4;

    pub fn to_words(self) -> [f64; Self::WORDS] {
        [self.squared, self.scale, self.error, self.length]
    }
}

/// The bounds of neighbouring rows, by column, as the first pass reads them.
#[derive(Clone, Copy)]
pub(super) struct RowBounds<'a> {
    pub squared: &'a [f64],
    pub scale: &'a [f64],
    pub error: &'a [f64],
    pub length: &'a [f64],
}

/// Writes the code of `values` (squared length `squared`) and returns its bound.
pub(super) fn encode(metric: Metric, values: &[f32], squared: f64, code: &mut [i8]) -> RowBound {
    let unit = if metric == Metric::Cosine { squared.sqrt().recip() } else { 1.0 };
    let length = squared.sqrt() * unit * UP;
    let largest = values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    code.fill(0);
    if largest < SMALLEST_CODED {
        return RowBound { squared, scale: 0.0, error: length, length };
    }
    let gain = CODE_MAX / largest;
    for (c, x) in code.iter_mut().zip(values) {
        *c = (x * gain + ROUND_TO_LOW_BITS).to_bits() as i8;
    }
    let step = f64::from(largest) / f64::from(CODE_MAX);
    RowBound { squared, scale: step * unit, error: residual(values, code, step) * unit * UP, length }
}

/// ‖values − step·code‖.
fn residual(values: &[f32], code: &[i8], step: f64) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0_f64; LANES];
    for (x, c) in values.chunks(LANES).zip(code.chunks(LANES)) {
        for ((lane, x), c) in lanes.iter_mut().zip(x).zip(c) {
            let r = f64::from(*x) - step * f64::from(*c);
            *lane += r * r;
        }
    }
    lanes.iter().sum::<f64>().sqrt()
}

/// A valid query with its code and the factors of its error bound.
///
/// Bounds are of the *merit*, where more is better: the score for cosine and dot, ‖q‖² − distance² for Euclid.
pub(super) struct Query<'a> {
    metric: Metric,
    odds: &'a Odds,
    values: &'a [f32],
    squared: f64,
    code: Zeroizing<Vec<i8>>,
    signs: Zeroizing<Vec<u64>>,
    /// About the merit of a row of length 1, by how many signs differ.
    by_differing: Zeroizing<Vec<f64>>,
    /// The merit of a row of length 1 in the query's own direction, for Euclid but for its length.
    reach: f64,
    /// The merit gained by one unit of a row's scale times the integer dot product.
    gain: f64,
    /// Times a row's error.
    per_error: f64,
    /// Times a row's length.
    per_length: f64,
}

impl<'a> Query<'a> {
    /// The query `values`, whose squared length is `squared`.
    pub fn new(shape: &'a Shape, values: &'a [f32], squared: f64) -> Self {
        let metric = shape.metric;
        let mut code = Zeroizing::new(vec![0; code_bytes(values.len())]);
        let bound = encode(metric, values, squared, &mut code);
        let code_length = code.iter().map(|c| f64::from(*c).powi(2)).sum::<f64>().sqrt();
        let weight = if metric == Metric::Euclid { 2.0 } else { 1.0 };
        let mut signs = Zeroizing::new(vec![0; sign_words(values.len())]);
        sign(&shape.turned(values), &mut signs);
        // For cosine both are scaled to length 1.
        let reach = weight * bound.length;
        let most = values.len() as f64;
        let merit = |differing: usize| reach * (std::f64::consts::PI * differing as f64 / most).cos();
        // For cosine the fewer the better is all that is asked.
        let table = if metric == Metric::Cosine { 0 } else { values.len() + 1 };
        Self {
            metric,
            odds: &shape.odds,
            values,
            squared,
            code,
            signs,
            by_differing: Zeroizing::new((0..table).map(merit).collect()),
            reach,
            gain: weight * bound.scale,
            per_error: weight * bound.scale * code_length * UP,
            per_length: weight * (bound.error + F64_SLACK * bound.length),
        }
    }

    /// The query's code, padded.
    pub fn code(&self) -> &[i8] {
        &self.code
    }

    /// The query's signs, padded.
    pub fn signs(&self) -> &[u64] {
        &self.signs
    }

    /// About the merits of neighbouring rows, by in how many signs each differs.
    pub fn rough_merits(&self, rows: RowBounds<'_>, differing: &[u16], merits: &mut [f64]) {
        for ((merit, differing), length) in merits.iter_mut().zip(differing).zip(rows.length) {
            *merit = self.by_differing.get(usize::from(*differing)).copied().unwrap_or(f64::NEG_INFINITY) * length;
        }
        if self.metric == Metric::Euclid {
            merits.iter_mut().zip(rows.squared).for_each(|(merit, squared)| *merit -= squared);
        }
    }

    /// How far a row of length 1 is by cosine, by its code and its scale: 1 − their product.
    pub fn distance(&self, code: &[i8], scale: f64) -> f64 {
        let mut dot = [0.0];
        code_dots(&self.code, code, &mut dot);
        let [dot] = dot;
        1.0 - dot * self.gain * scale
    }

    /// Whether all rows that reach `floor` differ in as many signs at most.
    pub fn is_even(&self) -> bool {
        self.metric == Metric::Cosine
    }

    /// In how many signs a row of this length differs at most if its merit reaches `floor`, but for the odds.
    pub fn most_differing(&self, floor: f64, length: f64, squared: f64) -> u16 {
        let merit = if self.metric == Metric::Euclid { floor + squared } else { floor };
        // Of nothing, nothing is known.
        let reach = self.reach * length;
        if reach > 0.0 { self.odds.most(merit / reach) } else { u16::MAX }
    }

    /// Turns the integer dot products of neighbouring rows into merits, and says in `radii` how wrong each can be.
    pub fn merits(&self, rows: RowBounds<'_>, dots: &mut [f64], radii: &mut [f64]) {
        let columns = rows.scale.iter().zip(rows.error).zip(rows.length);
        for ((merit, radius), ((scale, error), length)) in dots.iter_mut().zip(radii.iter_mut()).zip(columns) {
            *merit *= self.gain * scale;
            *radius = self.per_error * error + self.per_length * length;
        }
        if self.metric == Metric::Euclid {
            for ((merit, radius), squared) in dots.iter_mut().zip(radii).zip(rows.squared) {
                *merit -= squared;
                *radius += F64_SLACK * (squared + self.squared);
            }
        }
    }

    /// The exact score of a row.
    pub fn score(&self, row: &[f32], row_squared: f64) -> f64 {
        self.metric.score_with_norms(self.values, self.squared, row, row_squared)
    }

    /// The exact score of a vector that is not in the index.
    pub fn score_of(&self, vector: &[f32]) -> crate::error::Result<f64> {
        let squared = self.metric.validate(vector, self.values.len())?;
        Ok(self.score(vector, squared))
    }

    /// The merit of an exact score.
    pub fn merit_of(&self, score: f64) -> f64 {
        match self.metric {
            Metric::Cosine | Metric::Dot => score,
            Metric::Euclid => self.squared - score * score,
        }
    }
}

/// Checks and prepares a query in one step.
pub(super) fn prepare<'a>(shape: &'a Shape, values: &'a [f32]) -> crate::error::Result<Query<'a>> {
    let squared = shape.metric.validate(values, shape.dimension)?;
    Ok(Query::new(shape, values, squared))
}

/// The integer dot products of `code` with each code of `codes`, which lie one after the other; at most
/// 65 536 · 127², so exact.
pub(super) fn code_dots(code: &[i8], codes: &[i8], dots: &mut [f64]) {
    for (dot, other) in dots.iter_mut().zip(codes.chunks_exact(code.len())) {
        *dot = i8::dot(code, other).unwrap_or_else(|| plain_dot(code, other));
    }
}

/// How many bits of `signs` differ from each of `rows`, which lie one after the other; at most 65 535.
pub(super) fn differing_signs(signs: &[u64], rows: &[u64], counts: &mut [u16]) {
    Arch::new().dispatch(Differing { signs, rows, counts });
}

/// That count, by what the processor counts bits with.
struct Differing<'a> {
    signs: &'a [u64],
    rows: &'a [u64],
    counts: &'a mut [u16],
}

impl WithSimd for Differing<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (count, row) in self.counts.iter_mut().zip(self.rows.chunks_exact(self.signs.len())) {
            let differing: u32 = self.signs.iter().zip(row).map(|(a, b)| (a ^ b).count_ones()).sum();
            *count = u16::try_from(differing).unwrap_or(u16::MAX);
        }
    }
}

/// What `simsimd` computes; it declines slices of unequal length, which do not occur here.
fn plain_dot(a: &[i8], b: &[i8]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::metric;
    use proptest::prelude::*;

    /// Vectors of every size and shape: plain, with one outlier, tiny, huge, on a grid.
    fn values(d: usize) -> impl Strategy<Value = Vec<f32>> {
        let shape = prop_oneof![Just(1.0_f32), Just(1e-38), Just(1e-31), Just(1e-29), Just(1e15)];
        (
            proptest::collection::vec(-1.0_f32..1.0, d),
            shape,
            0..d,
            prop_oneof![Just(1.0_f32), Just(100.0)],
            any::<bool>(),
        )
            .prop_map(|(mut v, shape, at, outlier, grid)| {
                if grid {
                    v.iter_mut().for_each(|x| *x = (*x * 4.0).round());
                }
                v[at] = (v[at] + 0.01) * outlier;
                v.iter().map(|x| x * shape).collect()
            })
            .prop_filter("a direction", |v: &Vec<f32>| metric::dot(v, v) > 0.0)
    }

    fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (1_usize..100).prop_flat_map(|d| (values(d), values(d)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_exact_merit_is_within_the_radius((q, x) in pair(), metric in proptest::sample::select(&Metric::ALL[..])) {
            let shape = Shape::new(q.len(), metric).unwrap();
            let query = prepare(&shape, &q).unwrap();
            let squared = metric.validate(&x, q.len()).unwrap();
            let mut code = vec![0; code_bytes(x.len())];
            let row = encode(metric, &x, squared, &mut code);
            let mut dot = [0.0];
            code_dots(query.code(), &code, &mut dot);
            prop_assert_eq!(dot[0], plain_dot(query.code(), &code));
            let [squared_column, scale, error, length] = row.to_words().map(|word| [word]);
            let rows = RowBounds { squared: &squared_column, scale: &scale, error: &error, length: &length };
            let mut radius = [0.0];
            query.merits(rows, &mut dot, &mut radius);
            let ([merit], [radius]) = (dot, radius);
            let exact = query.merit_of(query.score(&x, squared));
            prop_assert!((merit - exact).abs() <= radius, "{merit} ± {radius}, exactly {exact}");
        }
    }

    #[test]
    fn codes_are_rounded_to_nearest_and_padded_with_zeros() {
        let x = [1.0, -1.0, 0.5, -0.25, 0.0, 1e-9];
        let mut code = vec![9; code_bytes(x.len())];
        let row = encode(Metric::Dot, &x, metric::dot(&x, &x), &mut code);
        assert_eq!(code[..6], [127, -127, 64, -32, 0, 0]);
        assert!(code[6..].iter().all(|c| *c == 0));
        assert!(row.error < 0.006 && row.length >= 2.3125_f64.sqrt());
    }

    #[test]
    fn signs_are_counted_whatever_the_dimension() {
        for d in [1, 7, 8, 9, 63, 64, 65, 200, 384, 1536] {
            let a: Vec<f32> = (0..d).map(|i| if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
            let b: Vec<f32> = (0..d).map(|i| if i % 2 == 0 { -1.0 } else { 0.0 }).collect();
            let [mut of_a, mut of_b] = [vec![9; sign_words(d)], vec![9; sign_words(d)]];
            sign(&a, &mut of_a);
            sign(&b, &mut of_b);
            let expected = (0..d).filter(|i| (i % 3 == 0) != (i % 2 == 0)).count() as u16;
            let mut counts = [0; 2];
            differing_signs(&of_a, &[&of_b[..], &of_a[..]].concat(), &mut counts);
            assert_eq!(counts, [expected, 0], "{d}");
        }
    }

    #[test]
    fn the_largest_dot_products_are_exact() {
        let a = vec![127_i8; 65_536];
        let both = [vec![127_i8; 65_536], vec![-127_i8; 65_536]].concat();
        let mut dots = [0.0; 2];
        code_dots(&a, &both, &mut dots);
        assert_eq!(dots, [65_536.0 * 127.0 * 127.0, -65_536.0 * 127.0 * 127.0]);
    }
}
