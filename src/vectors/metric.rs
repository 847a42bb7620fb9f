//! How near two vectors are: the three metrics, their exact scores, and which of two scores is better.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits;

/// Largest Euclidean length of a vector, so that every score is a finite `f32`.
pub const MAX_LENGTH: f64 = 1e18;

/// How a collection compares vectors, with the scores that Qdrant reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The dot product of the vectors scaled to length 1: from −1 to 1, higher is better.
    Cosine,
    /// The dot product: higher is better.
    Dot,
    /// The Euclidean distance: from 0, lower is better.
    Euclid,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclid];

    /// The name in configuration and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::Euclid => "euclid",
        }
    }

    /// The score of two valid vectors of equal dimension, accumulated in `f64` and rounded once at the end.
    pub fn score(self, a: &[f32], b: &[f32]) -> f32 {
        self.score_f64(a, b) as f32
    }

    /// As [`Metric::score`] before rounding: what ranking goes by.
    pub fn score_f64(self, a: &[f32], b: &[f32]) -> f64 {
        match self {
            Metric::Cosine => self.score_with_norms(a, dot(a, a), b, dot(b, b)),
            Metric::Dot | Metric::Euclid => self.score_with_norms(a, 0.0, b, 0.0),
        }
    }

    /// As [`Metric::score_f64`], with the squared lengths known (only cosine looks at them).
    pub(crate) fn score_with_norms(self, a: &[f32], a_squared: f64, b: &[f32], b_squared: f64) -> f64 {
        match self {
            // One root of the product, rather than a product of roots: multiples of a vector then tie exactly more often.
            Metric::Cosine => dot(a, b) / (a_squared * b_squared).sqrt(),
            Metric::Dot => dot(a, b),
            Metric::Euclid => squared_distance(a, b).sqrt(),
        }
    }

    /// Whether `a` is a better score than `b`.
    pub fn better(self, a: f64, b: f64) -> bool {
        self.best_first(a, b) == Ordering::Less
    }

    /// The order of a result list: `Less` where `a` comes before `b`. Ties go by ascending record id, at the caller's.
    pub fn best_first(self, a: f64, b: f64) -> Ordering {
        // Adding zero makes −0 and 0 the same number, as they are the same score.
        let (a, b) = (a + 0.0, b + 0.0);
        match self {
            Metric::Cosine | Metric::Dot => b.total_cmp(&a),
            Metric::Euclid => a.total_cmp(&b),
        }
    }

    /// How far an engine's score of two vectors may lie from the exact one, which it computes in `f32`.
    pub(crate) fn engine_slack(self, a: &[f32], b: &[f32]) -> f64 {
        const RELATIVE: f64 = 1e-3;
        let (a, b) = (dot(a, a).sqrt(), dot(b, b).sqrt());
        match self {
            Metric::Cosine => RELATIVE,
            Metric::Dot => RELATIVE * a * b,
            Metric::Euclid => RELATIVE * (a + b),
        }
    }

    /// Whether `stored` is what an engine holds for the vector `exact`: the same, or for cosine of the same direction.
    pub(crate) fn same_for_engine(self, exact: &[f32], stored: &[f32]) -> bool {
        let scale = |v: &[f32]| match self {
            Metric::Cosine => 1.0 / dot(v, v).sqrt(),
            Metric::Dot | Metric::Euclid => 1.0,
        };
        let (of_exact, of_stored) = (scale(exact), scale(stored));
        exact.len() == stored.len()
            && exact.iter().zip(stored).all(|(x, y)| {
                let (x, y) = (f64::from(*x) * of_exact, f64::from(*y) * of_stored);
                (x - y).abs() <= 1e-5 * x.abs().max(1e-3)
            })
    }

    /// Checks that `vector` has `dimension` finite values and is usable with this metric; returns its squared length.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`], naming what is wrong but no value of the vector.
    pub fn validate(self, vector: &[f32], dimension: usize) -> Result<f64> {
        if vector.len() != dimension {
            return Err(Error::invalid(format!("the vector has {} dimensions instead of {dimension}", vector.len()))
                .with_remedy("use the embedding model that the collection was made for"));
        }
        let squared = dot(vector, vector);
        if !squared.is_finite() {
            return Err(Error::invalid("the vector has a value that is infinite or not a number")
                .with_remedy("check the output of the embedding model"));
        }
        if squared > MAX_LENGTH * MAX_LENGTH {
            return Err(Error::invalid("the vector is too long to be compared")
                .with_remedy(format!("scale it to a length of at most {MAX_LENGTH:e}")));
        }
        if self == Metric::Cosine && squared == 0.0 {
            return Err(Error::invalid("the vector is zero and has no direction to compare by cosine")
                .with_remedy("leave out texts without an embedding, or use `dot` or `euclid`"));
        }
        Ok(squared)
    }
}

/// Checks that a collection may have vectors of `dimension` values.
///
/// # Errors
///
/// [`crate::ErrorKind::InvalidInput`] for 0 and for more than [`limits::VECTOR_DIMENSIONS`].
pub fn validate_dimension(dimension: usize) -> Result<()> {
    if (1..=limits::VECTOR_DIMENSIONS).contains(&dimension) {
        return Ok(());
    }
    Err(Error::invalid(format!("`{dimension}` is not a possible number of dimensions"))
        .with_remedy(format!("use 1 to {}", limits::VECTOR_DIMENSIONS)))
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == s).ok_or_else(|| {
            Error::invalid(format!("`{}` is not a metric", s.chars().take(32).collect::<String>().escape_debug()))
                .with_remedy("use `cosine`, `dot` or `euclid`")
        })
    }
}

/// Independent sums, so that the compiler may keep them in vector registers.
const LANES: usize = 8;

/// Σ aᵢbᵢ in `f64`, where each product is exact.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum_of(a, b, |x, y| x * y)
}

/// Σ (aᵢ − bᵢ)² in `f64`.
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    sum_of(a, b, |x, y| (x - y) * (x - y))
}

#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += term(f64::from(*x), f64::from(*y));
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += term(f64::from(*x), f64::from(*y));
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_small_vectors() {
        let (a, b) = ([3.0, 4.0], [4.0, 3.0]);
        assert_eq!(Metric::Cosine.score(&a, &b), 0.96);
        assert_eq!(Metric::Dot.score(&a, &b), 24.0);
        assert_eq!(Metric::Euclid.score(&a, &b), 2.0_f32.sqrt());
        assert_eq!(Metric::Cosine.score(&a, &[30.0, 40.0]), 1.0);
    }

    #[test]
    fn every_value_counts_whatever_the_dimension() {
        for d in 1..40 {
            let ones = vec![1.0; d];
            assert_eq!(Metric::Dot.score(&ones, &ones), d as f32);
            assert_eq!(Metric::Euclid.score(&ones, &vec![2.0; d]), (d as f32).sqrt());
        }
    }

    #[test]
    fn better_follows_the_metric() {
        assert!(Metric::Cosine.better(0.9, 0.1) && Metric::Dot.better(0.9, 0.1) && Metric::Euclid.better(0.1, 0.9));
        assert!(Metric::ALL.iter().all(|m| !m.better(0.5, 0.5) && !m.better(0.0, -0.0) && !m.better(-0.0, 0.0)));
    }

    #[test]
    fn names_round_trip() {
        for metric in Metric::ALL {
            assert_eq!(metric.to_string().parse::<Metric>().unwrap(), metric);
            assert_eq!(serde_json::to_string(&metric).unwrap(), format!("\"{metric}\""));
        }
        assert!("manhattan".parse::<Metric>().unwrap_err().remedy().is_some());
    }

    #[test]
    fn unusable_vectors_are_refused_with_a_remedy() {
        let huge = [f32::MAX, f32::MAX];
        for metric in Metric::ALL {
            for bad in [&[1.0][..], &[1.0, 2.0, 3.0], &[f32::NAN, 1.0], &[1.0, f32::INFINITY], &huge] {
                assert!(metric.validate(bad, 2).unwrap_err().remedy().is_some());
            }
            assert_eq!(metric.validate(&[3.0, 4.0], 2).unwrap(), 25.0);
            assert_eq!(metric.validate(&[0.0, -0.0], 2).is_ok(), metric != Metric::Cosine);
            assert!(metric.validate(&[0.0, f32::from_bits(1)], 2).is_ok());
        }
        assert!(validate_dimension(0).is_err() && validate_dimension(65_537).is_err());
        assert!(validate_dimension(1).is_ok() && validate_dimension(65_536).is_ok());
    }
}
