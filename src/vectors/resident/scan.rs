//! The search itself: a first pass over the codes that cannot miss, then exact scores of what it leaves.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;

use crate::id::RecordId;
use crate::vectors::metric::Metric;
use crate::vectors::resident::block::Block;
use crate::vectors::resident::quantize::{self, Query};
use crate::vectors::resident::sieve::{Candidate, Floor, Sieve};

/// Below this many rows the first pass costs more than it saves.
const EXACT_ROWS: usize = 64;
/// Rows whose integer dot products are taken in one go.
const BATCH: usize = 64;
/// Rows that are worth a thread.
const ROWS_PER_PART: usize = 8192;
/// Candidates that are worth a thread.
const CANDIDATES_PER_PART: usize = 1024;

/// What a search looks through: `ids.len()` rows, dense over `blocks`.
pub(super) struct Rows<'a> {
    pub metric: Metric,
    pub blocks: &'a [Block],
    pub ids: &'a [RecordId],
}

/// Which ids may be found; `None` is all.
pub(super) type Filter<'a> = Option<&'a (dyn Fn(&RecordId) -> bool + Sync)>;

/// A row with its exact score; greater is worse, so that a heap shows the worst first.
struct Scored<'a> {
    metric: Metric,
    score: f64,
    id: &'a RecordId,
}

impl Rows<'_> {
    /// The best `k` rows that pass `filter`, best first, ties by ascending id; exact.
    pub fn search(&self, query: &Query<'_>, k: usize, filter: Filter<'_>) -> Vec<(&RecordId, f64)> {
        let k = k.min(self.ids.len());
        if k == 0 {
            return Vec::new();
        }
        let floor = Floor::new();
        let mut candidates = self.candidates(query, k, filter, &floor);
        candidates.retain(|c| c.ceiling >= floor.get());
        self.best(query, k, candidates, &floor).into_sorted_vec().into_iter().map(|s| (s.id, s.score)).collect()
    }

    /// The best `k` of the rows `among`, best first, ties by ascending id; exact.
    pub fn search_among(&self, query: &Query<'_>, k: usize, among: Vec<usize>) -> Vec<(&RecordId, f64)> {
        let k = k.min(among.len());
        if k == 0 {
            return Vec::new();
        }
        let candidates = among.into_iter().map(|row| Candidate { row, ceiling: f64::INFINITY }).collect();
        self.best(query, k, candidates, &Floor::new()).into_sorted_vec().into_iter().map(|s| (s.id, s.score)).collect()
    }

    fn candidates(&self, query: &Query<'_>, k: usize, filter: Filter<'_>, floor: &Floor) -> Vec<Candidate> {
        let n = self.ids.len();
        if n <= EXACT_ROWS.max(2 * k) {
            let passing = self.ids.iter().enumerate().filter(|(_, id)| filter.is_none_or(|f| f(id)));
            return passing.map(|(row, _)| Candidate { row, ceiling: f64::INFINITY }).collect();
        }
        let parts = (n / ROWS_PER_PART).clamp(1, rayon::current_num_threads());
        if parts == 1 {
            return self.first_pass(0..n, query, k, filter, floor);
        }
        (0..parts)
            .into_par_iter()
            .flat_map_iter(|part| self.first_pass(n * part / parts..n * (part + 1) / parts, query, k, filter, floor))
            .collect()
    }

    /// Every row of `range` that may be among the best `k`.
    fn first_pass(
        &self,
        range: Range<usize>,
        query: &Query<'_>,
        k: usize,
        filter: Filter<'_>,
        shared: &Floor,
    ) -> Vec<Candidate> {
        let mut sieve = Sieve::new(k, shared);
        let (mut merits, mut radii) = ([0.0; BATCH], [0.0; BATCH]);
        for block in self.blocks {
            let end = range.end.min(block.base + block.capacity);
            for first in (range.start.max(block.base)..end).step_by(BATCH) {
                let (row, count) = (first - block.base, BATCH.min(end - first));
                quantize::code_dots(query.code(), block.codes(row, count), &mut merits);
                query.merits(block.bounds(row, count), &mut merits, &mut radii);
                for ((row, merit), radius) in (first..first + count).zip(&merits).zip(&radii) {
                    if merit + radius >= sieve.floor && self.passes(row, filter) {
                        sieve.add(row, *merit, *radius);
                    }
                }
            }
        }
        sieve.candidates
    }

    fn passes(&self, row: usize, filter: Filter<'_>) -> bool {
        filter.is_none_or(|passes| self.ids.get(row).is_some_and(passes))
    }

    /// The best `k` of `candidates` by exact score. The likeliest go first, so that most others need no exact score.
    fn best(
        &self,
        query: &Query<'_>,
        k: usize,
        mut candidates: Vec<Candidate>,
        floor: &Floor,
    ) -> BinaryHeap<Scored<'_>> {
        if k < candidates.len() {
            candidates.select_nth_unstable_by(k - 1, |a, b| b.ceiling.total_cmp(&a.ceiling));
        }
        let parts = (candidates.len() / CANDIDATES_PER_PART).clamp(1, rayon::current_num_threads());
        if parts == 1 {
            return self.rescore(query, k, &candidates, floor);
        }
        candidates.par_chunks(candidates.len().div_ceil(parts)).map(|part| self.rescore(query, k, part, floor)).reduce(
            BinaryHeap::new,
            |mut heap, other| {
                other.into_iter().for_each(|scored| keep_best(&mut heap, k, scored));
                heap
            },
        )
    }

    fn rescore(&self, query: &Query<'_>, k: usize, candidates: &[Candidate], floor: &Floor) -> BinaryHeap<Scored<'_>> {
        let mut heap = BinaryHeap::with_capacity(k.min(candidates.len()));
        for candidate in candidates {
            if candidate.ceiling < floor.get() {
                continue;
            }
            let (Some((block, row)), Some(id)) = (locate(self.blocks, candidate.row), self.ids.get(candidate.row))
            else {
                continue;
            };
            let score = query.score(block.vector(row), block.squared(row));
            keep_best(&mut heap, k, Scored { metric: self.metric, score, id });
            if heap.len() == k
                && let Some(worst) = heap.peek()
            {
                floor.raise(query.merit_of(worst.score));
            }
        }
        heap
    }
}

/// The block that holds row `index` of the collection, and the row within it.
pub(super) fn locate(blocks: &[Block], index: usize) -> Option<(&Block, usize)> {
    let block = blocks.get(position(blocks, index)?)?;
    Some((block, index - block.base))
}

/// The position of the block that holds row `index` of the collection.
pub(super) fn position(blocks: &[Block], index: usize) -> Option<usize> {
    blocks.partition_point(|block| block.base <= index).checked_sub(1)
}

fn keep_best<'a>(heap: &mut BinaryHeap<Scored<'a>>, k: usize, scored: Scored<'a>) {
    if heap.len() < k {
        heap.push(scored);
    } else if let Some(mut worst) = heap.peek_mut()
        && scored < *worst
    {
        *worst = scored;
    }
}

impl Ord for Scored<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.metric.best_first(self.score, other.score).then_with(|| self.id.cmp(other.id))
    }
}

impl PartialOrd for Scored<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scored<'_> {}
