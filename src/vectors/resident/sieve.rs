//! Which rows may be among the best k: those whose merit may reach what k others are known to have.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Candidates after which those that fell below the floor are thrown out, so that they stay few whatever the order.
const CANDIDATES_BEFORE_PRUNING: usize = 1024;

/// A row that may be among the best k.
pub(super) struct Candidate {
    pub row: usize,
    /// At least its merit.
    pub ceiling: f64,
}

/// Keeps the rows that may be among the best k of those seen.
pub(super) struct Sieve<'a> {
    k: usize,
    /// What a row's ceiling must reach.
    pub floor: f64,
    shared: &'a Floor,
    /// The k best lower bounds so far, the lowest on top.
    lowest: BinaryHeap<Reverse<Ordered>>,
    pub candidates: Vec<Candidate>,
    prune_at: usize,
}

impl<'a> Sieve<'a> {
    pub fn new(k: usize, shared: &'a Floor) -> Self {
        Self {
            k,
            floor: f64::NEG_INFINITY,
            shared,
            lowest: BinaryHeap::with_capacity(k),
            candidates: Vec::new(),
            prune_at: CANDIDATES_BEFORE_PRUNING.max(2 * k),
        }
    }

    /// Takes in a row that passes the filter.
    pub fn add(&mut self, row: usize, merit: f64, radius: f64) {
        self.candidates.push(Candidate { row, ceiling: merit + radius });
        let lower = Reverse(Ordered(merit - radius));
        if self.lowest.len() < self.k {
            self.lowest.push(lower);
        } else if let Some(mut lowest) = self.lowest.peek_mut()
            && lower < *lowest
        {
            *lowest = lower;
        }
        if self.lowest.len() == self.k
            && let Some(Reverse(Ordered(lowest))) = self.lowest.peek()
        {
            self.floor = self.shared.raise(*lowest);
        } else {
            self.floor = self.shared.get();
        }
        if self.candidates.len() >= self.prune_at {
            self.candidates.retain(|c| c.ceiling >= self.floor);
            self.prune_at = CANDIDATES_BEFORE_PRUNING.max(2 * self.candidates.len());
        }
    }
}

/// A merit that at least k rows are known to reach, shared by all threads of a search; it only rises.
pub(super) struct Floor(AtomicU64);

impl Floor {
    pub fn new() -> Self {
        Self(AtomicU64::new(sortable(f64::NEG_INFINITY)))
    }

    pub fn get(&self) -> f64 {
        unsortable(self.0.load(Relaxed))
    }

    /// Raises the floor to `merit` if that is higher, and returns where it is then.
    pub fn raise(&self, merit: f64) -> f64 {
        let before = self.get();
        if merit > before { unsortable(self.0.fetch_max(sortable(merit), Relaxed)).max(merit) } else { before }
    }
}

/// Bits that sort as the numbers do.
fn sortable(x: f64) -> u64 {
    let bits = x.to_bits();
    if x.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

fn unsortable(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

/// An `f64` in the total order.
#[derive(Clone, Copy)]
struct Ordered(f64);

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sortable_bits_sort_and_return() {
        let numbers = [f64::NEG_INFINITY, -1e300, -1.0, -1e-300, 0.0, 1e-300, 1.0, 1e300, f64::INFINITY];
        assert!(numbers.windows(2).all(|w| sortable(w[0]) < sortable(w[1])));
        assert!(numbers.iter().all(|x| unsortable(sortable(*x)) == *x));
    }

    #[test]
    fn a_floor_only_rises() {
        let floor = Floor::new();
        assert_eq!(floor.raise(-2.0), -2.0);
        assert_eq!(floor.raise(-3.0), -2.0);
        assert_eq!(floor.raise(0.5), 0.5);
        assert_eq!(floor.get(), 0.5);
    }

    #[test]
    fn the_sieve_stays_small_when_every_row_beats_the_last() {
        let floor = Floor::new();
        let mut sieve = Sieve::new(10, &floor);
        for row in 0..100_000 {
            sieve.add(row, row as f64, 3.0);
        }
        assert!(sieve.candidates.len() <= CANDIDATES_BEFORE_PRUNING);
        assert_eq!(sieve.floor, 99_990.0 - 3.0);
    }
}
