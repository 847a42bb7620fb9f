//! What all vectors of an index have in common: how many values, how they are compared, and the turn before their signs
//! are taken.
//!
//! The share of signs that differ is the angle between two vectors ÷ π, on average over random turns, whatever the vectors
//! are: those whose values are all positive differ in no sign as they are, and in as many as others when turned. With
//! signs that were drawn independently the count would be binomial; those of one turn stray less. So a row that reaches a
//! given score is known to differ in no more signs than [`Odds`] says, but for a stray of so many deviations.

use std::f64::consts::PI;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::entropy;
use crate::error::Result;
use crate::vectors::metric::{self, Metric};
use crate::vectors::resident::prepared::Prepared;
use crate::vectors::veil::mix;

/// Turns one after the other: after one of them a vector with a single value has few different ones.
const ROUNDS: usize = 2;
/// Values whose largest is below this, or above its inverse, are scaled by a power of two before they are turned.
const SMALL: f32 = 1e-20;
const FAR: f32 = (1_u128 << 100) as f32;
/// How many deviations of the binomial a row may stray before it is missed. Rows stray by four fifths of that, so by 4.4 of
/// their own: five in a million.
const DEVIATIONS: f64 = 3.5;
/// Steps of the table from cosines to signs; each is answered by its worse end.
const STEPS: usize = 1024;

/// The size, the metric and the turn of an index; cheap to clone.
#[derive(Clone)]
pub struct Shape {
    pub(super) dimension: usize,
    pub(super) metric: Metric,
    turn: Arc<[Vec<f32>; ROUNDS]>,
    pub(super) odds: Arc<Odds>,
}

/// How many signs may differ.
pub(super) struct Odds {
    /// By cosine, from −1 in steps of 2 ÷ [`STEPS`].
    most: Vec<u16>,
}

impl Shape {
    /// That of vectors of `dimension` values, with a random turn.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] for an impossible dimension.
    pub fn new(dimension: usize, metric: Metric) -> Result<Self> {
        metric::validate_dimension(dimension)?;
        let mut turn = [Vec::new(), Vec::new()];
        for round in &mut turn {
            let mut bits = vec![0; dimension];
            entropy::fill(&mut bits)?;
            *round = bits.iter().map(|bit: &u8| if bit & 1 == 1 { -1.0 } else { 1.0 }).collect();
        }
        Ok(Self { dimension, metric, turn: Arc::new(turn), odds: Arc::new(Odds::new(dimension)) })
    }

    /// Computes what an index of this shape keeps of `vector`.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] as [`Metric::validate`].
    pub fn prepare<'a>(&self, vector: &'a [f32]) -> Result<Prepared<'a>> {
        let squared = self.metric.validate(vector, self.dimension)?;
        Ok(Prepared::new(self, vector, squared))
    }

    /// `values`, turned, and scaled where they are so large or so small that turning them would not end well.
    pub(super) fn turned(&self, values: &[f32]) -> Zeroizing<Vec<f32>> {
        let mut turned = Zeroizing::new(values.to_vec());
        let largest = values.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let scale = if largest < SMALL {
            FAR
        } else if largest > 1.0 / SMALL {
            1.0 / FAR
        } else {
            1.0
        };
        turned.iter_mut().for_each(|x| *x *= scale);
        self.turn.iter().for_each(|signs| mix(&mut turned, signs));
        turned
    }
}

impl Odds {
    fn new(dimension: usize) -> Self {
        let d = dimension as f64;
        let most = |step: usize| {
            let share = (2.0 * step as f64 / STEPS as f64 - 1.0).clamp(-1.0, 1.0).acos() / PI;
            // And as if one more sign were at stake: what is rounded may change those of values next to 0.
            let deviation = (d * share * (1.0 - share) + 1.0).sqrt();
            (d * share + DEVIATIONS * deviation).ceil().min(d).min(f64::from(u16::MAX)) as u16
        };
        Self { most: (0..=STEPS).map(most).collect() }
    }

    /// In how many signs vectors with at least this cosine differ at most.
    pub(super) fn most(&self, cosine: f64) -> u16 {
        let step = ((cosine + 1.0) * (STEPS as f64 / 2.0)).clamp(0.0, STEPS as f64) as usize;
        self.most.get(step).copied().unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_keeps_lengths_and_angles_and_spreads_a_single_value() {
        for d in [1, 2, 3, 5, 8, 96, 384] {
            let shape = Shape::new(d, Metric::Cosine).unwrap();
            let a: Vec<f32> = (0..d).map(|i| (i as f32 * 1.7).sin() + 0.3).collect();
            let b: Vec<f32> = (0..d).map(|i| (i as f32 * 0.9).cos()).collect();
            let (turned_a, turned_b) = (shape.turned(&a), shape.turned(&b));
            for (x, y, turned_x, turned_y) in [(&a, &a, &turned_a, &turned_a), (&a, &b, &turned_a, &turned_b)] {
                assert!((metric::dot(x, y) - metric::dot(turned_x, turned_y)).abs() < 1e-4 * d as f64, "{d}");
            }
        }
        let shape = Shape::new(384, Metric::Cosine).unwrap();
        let values: Vec<f32> = (0..384).map(|i| (i as f32 * 1.7).sin()).collect();
        let signs = |scale: f32| -> Vec<bool> {
            let scaled: Vec<f32> = values.iter().map(|x| x * scale).collect();
            shape.turned(&scaled).iter().map(|x| x.is_sign_negative()).collect()
        };
        for scale in [1e-42, 1e-38, 1e-15, 1e20, 3e38] {
            let differing = signs(1.0).iter().zip(signs(scale)).filter(|(a, b)| **a != *b).count();
            assert!(differing < 8, "{scale}: {differing}");
        }
        let shape = Shape::new(384, Metric::Dot).unwrap();
        let mut one = vec![0.0; 384];
        one[17] = 1.0;
        let turned = shape.turned(&one);
        assert!(turned.iter().all(|x| x.abs() < 0.5) && turned.iter().filter(|x| **x != 0.0).count() > 192);
    }

    #[test]
    fn the_nearer_two_vectors_are_the_fewer_signs_may_differ() {
        for d in [1, 24, 384, 65_536] {
            let odds = Odds::new(d);
            assert!(odds.most.windows(2).all(|w| w[0] >= w[1]));
            let all = d.min(u16::MAX.into());
            assert_eq!((usize::from(odds.most(-1.0)), usize::from(odds.most(1.0))), (all, all.min(4)), "{d}");
            assert_eq!((odds.most(-7.0), odds.most(7.0)), (odds.most(-1.0), odds.most(1.0)));
        }
        // Half of the signs, and 3.5 times √(384 ÷ 4 + 1).
        assert_eq!(Odds::new(384).most(0.0), 192 + 35);
    }
}
