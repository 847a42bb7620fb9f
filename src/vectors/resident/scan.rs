//! The search itself: a first pass over the codes, which cannot miss, or over the signs, then exact scores of what it
//! leaves.
//!
//! By the odds it goes in three steps. The signs of all rows are compared, and the codes of the nearest by that say what
//! merit the best k reach at least. Whoever reaches as much differs in few signs: the codes of all those are looked at.
//! Where that is no small part, all codes are.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;

use crate::error::Result;
use crate::id::RecordId;
use crate::vectors::metric::Metric;
use crate::vectors::resident::block::Block;
use crate::vectors::resident::quantize::{self, Query};
use crate::vectors::resident::rough::Rough;
use crate::vectors::resident::sieve::{Candidate, Floor, Sieve};
use crate::vectors::resident::{Pass, Source};
use crate::vectors::slots::{Slot, Slots};

/// Below this many rows the first pass costs more than it saves.
const EXACT_ROWS: usize = 64;
/// Rows whose integer dot products are taken in one go.
const BATCH: usize = 64;
/// Rows one after the other whose codes are worth a thread, and whose signs are.
const ROWS_PER_PART: usize = 8192;
const SIGNS_PER_PART: usize = 16_384;
/// Rows here and there whose codes are worth a thread.
const PICKED_PER_PART: usize = 4096;
/// By the odds: the rows whose codes say what the best reach, and which part of all rows is too many to pick: one in so many.
const NEAREST: usize = 64;
const TOO_MANY: usize = 3;
/// Candidates that are worth a thread.
const CANDIDATES_PER_PART: usize = 1024;
/// Vectors that are asked of a source at a time.
const SOURCE_ROWS: usize = 512;

/// Of how many rows the signs leave the codes or the exact scores for the best `k`: measured in `manual/search.md`.
pub(super) fn left_by_signs(k: usize) -> usize {
    const FEWEST: usize = 400;
    const FOR_EACH: usize = 20;
    FEWEST.max(k.saturating_mul(FOR_EACH))
}

/// What a search looks through: `slots.len()` rows, dense over `blocks`.
pub(super) struct Rows<'a> {
    pub metric: Metric,
    pub blocks: &'a [Block],
    pub slots: &'a [Slot],
    pub records: &'a Slots,
}

/// Which may be found; `None` is all.
pub(super) type Filter<'a> = Option<&'a (dyn Fn(Slot) -> bool + Sync)>;

/// A row with its exact score; greater is worse, so that a heap shows the worst first.
struct Scored<'a> {
    metric: Metric,
    score: f64,
    id: &'a RecordId,
}

impl Rows<'_> {
    /// The best `k` rows that pass `filter`, best first, ties by ascending id; exact but for what the signs miss. Vectors
    /// that are not kept come from `source`.
    pub fn search(
        &self,
        query: &Query<'_>,
        k: usize,
        filter: Filter<'_>,
        pass: Pass,
        source: Option<Source<'_>>,
    ) -> Result<Vec<(&RecordId, f64)>> {
        let k = k.min(self.slots.len());
        if k == 0 {
            return Ok(Vec::new());
        }
        let floor = Floor::new();
        let mut candidates = self.candidates(query, k, filter, pass, &floor);
        candidates.retain(|c| c.ceiling >= floor.get());
        let best = match source {
            None => self.best(query, k, candidates, &floor),
            Some(source) => self.best_from(source, query, k, candidates, &floor)?,
        };
        Ok(best.into_sorted_vec().into_iter().map(|s| (s.id, s.score)).collect())
    }

    /// The best `k` of the rows `among`, best first, ties by ascending id; exact.
    pub fn search_among(
        &self,
        query: &Query<'_>,
        k: usize,
        among: Vec<usize>,
        source: Option<Source<'_>>,
    ) -> Result<Vec<(&RecordId, f64)>> {
        let k = k.min(among.len());
        if k == 0 {
            return Ok(Vec::new());
        }
        let floor = Floor::new();
        // Codes are read sooner than vectors.
        let mut candidates = if among.len() > EXACT_ROWS.max(2 * k) && self.has_codes() {
            self.narrow(&among, query, k, &floor)
        } else {
            among.into_iter().map(unbounded).collect()
        };
        candidates.retain(|c| c.ceiling >= floor.get());
        let best = match source {
            None => self.best(query, k, candidates, &floor),
            Some(source) => self.best_from(source, query, k, candidates, &floor)?,
        };
        Ok(best.into_sorted_vec().into_iter().map(|s| (s.id, s.score)).collect())
    }

    fn candidates(&self, query: &Query<'_>, k: usize, filter: Filter<'_>, pass: Pass, floor: &Floor) -> Vec<Candidate> {
        let n = self.slots.len();
        if pass == Pass::All || n <= EXACT_ROWS.max(2 * k) {
            let passing = self.slots.iter().enumerate().filter(|(_, slot)| filter.is_none_or(|f| f(**slot)));
            return passing.map(|(row, _)| unbounded(row)).collect();
        }
        if pass == Pass::Odds {
            return self.by_odds(query, k, filter, floor);
        }
        if pass == Pass::Signs {
            let rows = self.by_signs(query, left_by_signs(k), filter, &mut []);
            // Without codes nothing is known of them but that.
            return if self.has_codes() {
                self.narrow(&rows, query, k, floor)
            } else {
                rows.into_iter().map(unbounded).collect()
            };
        }
        self.by_codes(query, k, filter, floor)
    }

    /// Every row that passes and may be among the best `k`.
    fn by_codes(&self, query: &Query<'_>, k: usize, filter: Filter<'_>, floor: &Floor) -> Vec<Candidate> {
        let n = self.slots.len();
        let parts = parts(n, ROWS_PER_PART);
        if parts == 1 {
            return self.first_pass(0..n, query, k, filter, floor);
        }
        (0..parts)
            .into_par_iter()
            .flat_map_iter(|part| self.first_pass(n * part / parts..n * (part + 1) / parts, query, k, filter, floor))
            .collect()
    }

    /// The same, but for the odds that one strays.
    fn by_odds(&self, query: &Query<'_>, k: usize, filter: Filter<'_>, floor: &Floor) -> Vec<Candidate> {
        let n = self.slots.len();
        let mut differing = vec![0; n];
        let mut nearest = self.by_signs(query, NEAREST.max(4 * k), filter, &mut differing);
        let mut candidates = self.narrow(&nearest, query, k, floor);
        if nearest.len() < NEAREST.max(4 * k) {
            // No others pass.
            return candidates;
        }
        nearest.sort_unstable();
        let mut reaching = self.reaching(query, floor.get(), &differing);
        // Those are looked at already.
        reaching.retain(|row| nearest.binary_search(row).is_err() && self.passes(*row, filter));
        if reaching.len() > n / TOO_MANY {
            return self.by_codes(query, k, filter, floor);
        }
        candidates.extend(self.narrow(&reaching, query, k, floor));
        candidates
    }

    /// The rows whose merits may reach `floor` by the signs in which they differ.
    fn reaching(&self, query: &Query<'_>, floor: f64, differing: &[u16]) -> Vec<usize> {
        if query.is_even() {
            let most = query.most_differing(floor, 1.0, 1.0);
            return differing.iter().enumerate().filter(|(_, count)| **count <= most).map(|(row, _)| row).collect();
        }
        let mut reaching = Vec::new();
        for block in self.blocks {
            let bounds = block.bounds(0, block.capacity);
            let counts = differing.iter().enumerate().skip(block.base);
            for ((row, count), (length, squared)) in counts.zip(bounds.length.iter().zip(bounds.squared)) {
                if *count <= query.most_differing(floor, *length, *squared) {
                    reaching.push(row);
                }
            }
        }
        reaching
    }

    fn has_codes(&self) -> bool {
        self.blocks.first().is_some_and(|block| !block.codes(0, 1).is_empty())
    }

    /// About the best `count` rows that pass `filter`, by their signs alone, in no particular order. In how many each row
    /// differs goes to `differing`, where there is room.
    fn by_signs(&self, query: &Query<'_>, count: usize, filter: Filter<'_>, differing: &mut [u16]) -> Vec<usize> {
        let n = self.slots.len();
        let parts = parts(n, SIGNS_PER_PART);
        let rows = n.div_ceil(parts);
        let best = if parts == 1 {
            self.rough_pass(0..n, query, count, filter, differing)
        } else {
            let mut differing: Vec<&mut [u16]> = differing.chunks_mut(rows).collect();
            differing.resize_with(parts, Default::default);
            let of = |(part, differing): (usize, &mut [u16])| {
                self.rough_pass(rows * part..n.min(rows * (part + 1)), query, count, filter, differing)
            };
            differing.into_par_iter().enumerate().map(of).reduce(|| Rough::new(count), Rough::merge)
        };
        best.into_rows()
    }

    /// About the best `count` rows of `range`.
    fn rough_pass(
        &self,
        range: Range<usize>,
        query: &Query<'_>,
        count: usize,
        filter: Filter<'_>,
        differing: &mut [u16],
    ) -> Rough {
        let mut best = Rough::new(count);
        let (mut counts, mut merits) = ([0; BATCH], [0.0; BATCH]);
        let mut fewer = u32::MAX;
        for block in self.blocks {
            let end = range.end.min(block.base + block.capacity);
            for first in (range.start.max(block.base)..end).step_by(BATCH) {
                let (row, rows) = (first - block.base, BATCH.min(end - first));
                let differ = differing.get_mut(first - range.start..).and_then(|rest| rest.get_mut(..rows));
                let counts = differ.unwrap_or_else(|| counts.get_mut(..rows).unwrap_or_default());
                quantize::differing_signs(query.signs(), block.signs(row, rows), counts);
                if query.is_even() {
                    // The fewer the better, whatever the row.
                    for (row, count) in (first..).zip(&*counts) {
                        if u32::from(*count) < fewer && self.passes(row, filter) {
                            best.add(row, -f64::from(*count));
                            fewer = (-best.least()).min(f64::from(u32::MAX)) as u32;
                        }
                    }
                    continue;
                }
                query.rough_merits(block.bounds(row, rows), counts, &mut merits);
                for (row, merit) in (first..first + rows).zip(&merits) {
                    if *merit > best.least() && self.passes(row, filter) {
                        best.add(row, *merit);
                    }
                }
            }
        }
        best
    }

    /// Those of `rows` that may be among the best `k` of them, by their codes.
    fn narrow(&self, rows: &[usize], query: &Query<'_>, k: usize, shared: &Floor) -> Vec<Candidate> {
        let parts = parts(rows.len(), PICKED_PER_PART);
        if parts == 1 {
            return self.narrow_part(rows, query, k, shared);
        }
        let parts = rows.par_chunks(rows.len().div_ceil(parts));
        parts.flat_map_iter(|rows| self.narrow_part(rows, query, k, shared)).collect()
    }

    fn narrow_part(&self, rows: &[usize], query: &Query<'_>, k: usize, shared: &Floor) -> Vec<Candidate> {
        let mut sieve = Sieve::new(k, shared);
        let (mut merit, mut radius) = ([0.0], [0.0]);
        for at in rows {
            let Some((block, row)) = locate(self.blocks, *at) else { continue };
            quantize::code_dots(query.code(), block.codes(row, 1), &mut merit);
            query.merits(block.bounds(row, 1), &mut merit, &mut radius);
            let ([merit], [radius]) = (merit, radius);
            if merit + radius >= sieve.floor {
                sieve.add(*at, merit, radius);
            }
        }
        sieve.candidates
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
        filter.is_none_or(|passes| self.slots.get(row).is_some_and(|slot| passes(*slot)))
    }

    fn id(&self, row: usize) -> Option<&RecordId> {
        self.records.id(*self.slots.get(row)?)
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

    /// The same with vectors that somebody else has.
    fn best_from(
        &self,
        source: Source<'_>,
        query: &Query<'_>,
        k: usize,
        mut candidates: Vec<Candidate>,
        floor: &Floor,
    ) -> Result<BinaryHeap<Scored<'_>>> {
        candidates.sort_unstable_by(|a, b| b.ceiling.total_cmp(&a.ceiling));
        let mut heap = BinaryHeap::with_capacity(k.min(candidates.len()));
        for some in candidates.chunks(SOURCE_ROWS) {
            let worth = some.iter().filter(|candidate| candidate.ceiling >= floor.get());
            let ids: Vec<&RecordId> = worth.filter_map(|candidate| self.id(candidate.row)).collect();
            if ids.is_empty() {
                break;
            }
            for (id, vector) in ids.iter().zip(source(&ids)?) {
                // What is gone by now is left out.
                let Some(vector) = vector else { continue };
                let score = query.score_of(&vector)?;
                keep_best(&mut heap, k, Scored { metric: self.metric, score, id });
            }
            if heap.len() == k
                && let Some(worst) = heap.peek()
            {
                floor.raise(query.merit_of(worst.score));
            }
        }
        Ok(heap)
    }

    fn rescore(&self, query: &Query<'_>, k: usize, candidates: &[Candidate], floor: &Floor) -> BinaryHeap<Scored<'_>> {
        let mut heap = BinaryHeap::with_capacity(k.min(candidates.len()));
        for candidate in candidates {
            if candidate.ceiling < floor.get() {
                continue;
            }
            let (Some((block, row)), Some(id)) = (locate(self.blocks, candidate.row), self.id(candidate.row)) else {
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

/// How many threads are worth looking through `rows` rows, of which so many are worth one.
fn parts(rows: usize, worth: usize) -> usize {
    (rows / worth).clamp(1, rayon::current_num_threads())
}

fn unbounded(row: usize) -> Candidate {
    Candidate { row, ceiling: f64::INFINITY }
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
