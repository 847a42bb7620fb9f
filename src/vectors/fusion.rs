//! Fusing several result lists into one, with the scores that Qdrant computes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::RecordId;

use super::Metric;

/// The k of reciprocal rank fusion that Qdrant takes when none is named. (The paper takes 60, with ranks from 1.)
pub const RRF_K: u32 = 2;

/// How the results of several queries become one list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// Reciprocal rank fusion: each list gives its record at rank r, counted from 0, 1 / ((r + 1) / weight + k − 1).
    /// Only the order of a list counts.
    Rrf {
        /// How much less later ranks count: the larger, the less they differ. At least 1.
        k: u32,
        /// A weight for each list; without, 1. A list whose weight is 0 gives nothing.
        weights: Option<Vec<f32>>,
    },
    /// Distribution-based score fusion: scores of each list are moved and scaled so that three standard deviations
    /// around their mean are 0 to 1, and then summed. A list with one record or with equal scores gives ½.
    Dbsf,
}

impl Fusion {
    /// Reciprocal rank fusion as Qdrant does it by default.
    pub fn rrf() -> Self {
        Self::Rrf { k: RRF_K, weights: None }
    }

    /// Checks that it can fuse `lists` lists.
    pub(super) fn validate(&self, lists: usize) -> Result<()> {
        if lists == 0 {
            return Err(Error::invalid("there is nothing to fuse").with_remedy("prefetch what is to be fused"));
        }
        let Self::Rrf { k, weights } = self else { return Ok(()) };
        if *k == 0 {
            return Err(Error::invalid("`k` of reciprocal rank fusion is 0").with_remedy("use 1 or more"));
        }
        let Some(weights) = weights else { return Ok(()) };
        if weights.len() != lists {
            return Err(Error::invalid(format!("there are {} weights for {lists} prefetches", weights.len()))
                .with_remedy("give one weight for each prefetch"));
        }
        if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(Error::invalid("a weight of reciprocal rank fusion is negative or no number"));
        }
        Ok(())
    }

    /// Fuses `lists`, each best first and by the scores of its metric. Best first, ties by ascending id.
    pub(super) fn fuse(&self, lists: Vec<(Metric, Vec<(RecordId, f32)>)>) -> Vec<(RecordId, f32)> {
        let mut fused: HashMap<RecordId, f32> = HashMap::new();
        for (at, (metric, list)) in lists.into_iter().enumerate() {
            let scores = match self {
                Self::Rrf { k, weights } => {
                    let weight = weights.as_ref().map_or(1.0, |weights| weights.get(at).copied().unwrap_or_default());
                    (0..list.len()).map(|rank| reciprocal(rank, *k, weight)).collect()
                }
                Self::Dbsf => normalized(metric, &list),
            };
            for ((id, _), score) in list.into_iter().zip(scores) {
                *fused.entry(id).or_default() += score;
            }
        }
        let mut fused: Vec<_> = fused.into_iter().collect();
        fused.sort_unstable_by(|(a_id, a), (b_id, b)| {
            Metric::Dot.best_first(f64::from(*a), f64::from(*b)).then_with(|| a_id.cmp(b_id))
        });
        fused
    }
}

fn reciprocal(rank: usize, k: u32, weight: f32) -> f32 {
    if weight <= 0.0 {
        return 0.0;
    }
    1.0 / ((rank + 1) as f32 / weight + k as f32 - 1.0)
}

/// The scores of `list`, three standard deviations around their mean being 0 to 1. Where less is better they are
/// negated before, so that what is nearer counts more.
fn normalized(metric: Metric, list: &[(RecordId, f32)]) -> Vec<f32> {
    let sign = if metric.better(1.0, 0.0) { 1.0 } else { -1.0 };
    let scores: Vec<f32> = list.iter().map(|(_, score)| sign * score).collect();
    if scores.len() < 2 {
        return vec![0.5; scores.len()];
    }
    // Welford's method in one pass.
    let (mut mean, mut squares) = (0.0_f32, 0.0_f32);
    for (score, seen) in scores.iter().zip(1_u32..) {
        let before = score - mean;
        mean += before / seen as f32;
        squares += before * (score - mean);
    }
    let deviation = (squares / (scores.len() as f32 - 1.0)).sqrt();
    let (least, most) = (mean - 3.0 * deviation, mean + 3.0 * deviation);
    let scale = |score: f32| if least == most { 0.5 } else { (score - least) / (most - least) };
    scores.into_iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scored: &[(u64, f32)]) -> (Metric, Vec<(RecordId, f32)>) {
        (Metric::Dot, scored.iter().map(|(id, score)| (RecordId::from(*id), *score)).collect())
    }

    fn close(found: &[(RecordId, f32)], expected: &[(u64, f32)]) {
        assert_eq!(found.len(), expected.len());
        for ((id, score), (expected_id, expected_score)) in found.iter().zip(expected) {
            assert!(*id == RecordId::from(*expected_id) && (score - expected_score).abs() < 1e-6, "{id}: {score}");
        }
    }

    #[test]
    fn ranks_are_fused_as_by_hand() {
        let lists = || vec![list(&[(1, 9.0), (2, 8.0), (3, 7.0)]), list(&[(3, 0.2), (1, 0.1)])];
        // 1: 1/2 + 1/3; 2: 1/3; 3: 1/4 + 1/2.
        close(&Fusion::rrf().fuse(lists()), &[(1, 5.0 / 6.0), (3, 0.75), (2, 1.0 / 3.0)]);
        let sixty = Fusion::Rrf { k: 60, weights: None };
        close(&sixty.fuse(lists()), &[(1, 1.0 / 60.0 + 1.0 / 61.0), (3, 1.0 / 62.0 + 1.0 / 60.0), (2, 1.0 / 61.0)]);
        // Weight 3: 1/(1/3+1), 1/(2/3+1), 1/(3/3+1).
        let weighted = Fusion::Rrf { k: 2, weights: Some(vec![3.0, 0.0]) };
        close(&weighted.fuse(lists()), &[(1, 0.75), (2, 0.6), (3, 0.5)]);
    }

    #[test]
    fn equal_ranks_go_by_id() {
        close(&Fusion::rrf().fuse(vec![list(&[(7, 1.0)]), list(&[(5, 1.0)])]), &[(5, 0.5), (7, 0.5)]);
    }

    #[test]
    fn scores_are_fused_as_by_hand() {
        // Mean 2, deviation 1: from −1 to 5.
        let lists = vec![list(&[(1, 3.0), (2, 2.0), (3, 1.0)]), list(&[(3, 100.0)]), list(&[(2, 4.0), (9, 4.0)])];
        close(&Fusion::Dbsf.fuse(lists), &[(2, 0.5 + 0.5), (3, 2.0 / 6.0 + 0.5), (1, 4.0 / 6.0), (9, 0.5)]);
    }

    #[test]
    fn of_distances_the_least_is_the_best() {
        let (_, nearest) = list(&[(1, 1.0), (2, 2.0), (3, 3.0)]);
        let fused = Fusion::Dbsf.fuse(vec![(Metric::Euclid, nearest)]);
        close(&fused, &[(1, 4.0 / 6.0), (2, 0.5), (3, 2.0 / 6.0)]);
    }

    #[test]
    fn what_cannot_be_fused_is_refused() {
        assert!(Fusion::rrf().validate(2).is_ok() && Fusion::Dbsf.validate(1).is_ok());
        assert!(Fusion::Dbsf.validate(0).is_err());
        for (k, weights) in
            [(0, None), (2, Some(vec![1.0])), (2, Some(vec![1.0, -1.0])), (2, Some(vec![1.0, f32::NAN]))]
        {
            assert!(Fusion::Rrf { k, weights }.validate(2).is_err());
        }
    }
}
