//! Numbers in an order that 64 bits keep, and the intervals that a range is put together from.
//!
//! A number has 17 *nodes*: what is left of its 64 bits when 0, 4, 8, … 64 of them are kept. A range is a union of the
//! sets of numbers that share a node, of few nodes: at most 15 at either end on each level.

use crate::filter::{Date, Range};

/// Bits that one level adds.
const STEP: u32 = 4;
/// Levels below the root, which every number shares.
pub(super) const LEVELS: u8 = 16;

/// What is left of a number when `level` times four bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Node {
    level: u8,
    bits: u64,
}

impl Node {
    /// The node of a number that no other shares.
    pub(super) fn leaf(number: u64) -> Self {
        Self { level: LEVELS, bits: number }
    }

    /// Every node of a number, from the root.
    pub(super) fn all(number: u64) -> impl Iterator<Item = Node> {
        (0..=LEVELS).map(move |level| Node { level, bits: kept(number, level) })
    }

    /// Its bytes, of fixed length.
    pub(super) fn to_bytes(self) -> [u8; 9] {
        let mut bytes = [self.level; 9];
        bytes.split_at_mut(1).1.copy_from_slice(&self.bits.to_be_bytes());
        bytes
    }
}

fn kept(number: u64, level: u8) -> u64 {
    number.checked_shr(u64::BITS - STEP * u32::from(level)).unwrap_or_default()
}

/// The nodes of exactly the numbers from `low` to `high`, both included.
pub(super) fn cover(low: u64, high: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    // Half open, in units of the level.
    let (mut from, mut to) = (u128::from(low), u128::from(high) + 1);
    for level in (1..=LEVELS).rev() {
        let mut push = |at: u128| nodes.push(Node { level, bits: u64::try_from(at).unwrap_or_default() });
        while from < to && from % 16 != 0 {
            push(from);
            from += 1;
        }
        while from < to && to % 16 != 0 {
            to -= 1;
            push(to);
        }
        if from >= to {
            return nodes;
        }
        (from, to) = (from / 16, to / 16);
    }
    nodes.push(Node { level: 0, bits: 0 });
    nodes
}

/// An integer as 64 bits that sort as it does.
pub(super) fn of_integer(number: i64) -> u64 {
    number.cast_unsigned() ^ (1 << 63)
}

/// A finite number as 64 bits that sort as it does; 0 and −0 are one.
pub(super) fn of_float(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// From the least to the greatest integer that lies within a range of numbers, which compares them as such.
pub(super) fn integers(range: &Range<f64>) -> Option<(u64, u64)> {
    let above = |n: i64| Range { lt: None, lte: None, ..*range }.has(n as f64);
    let below = |n: i64| Range { gt: None, gte: None, ..*range }.has(n as f64);
    let low = first(|n| above(of_sorted(n)))?;
    let high = first(|n| !below(of_sorted(n))).map_or(Some(u64::MAX), |n| n.checked_sub(1))?;
    (low <= high).then_some((low, high))
}

/// The same for numbers with a fraction.
pub(super) fn floats(range: &Range<f64>) -> Option<(u64, u64)> {
    let sorted = range.map(of_float);
    within(sorted)
}

/// The same for dates.
pub(super) fn dates(range: &Range<Date>) -> Option<(u64, u64)> {
    within(range.map(|date| of_integer(date.as_micros())))
}

fn within(range: Range<u64>) -> Option<(u64, u64)> {
    let mut low = range.gte.unwrap_or(0);
    if let Some(bound) = range.gt {
        low = low.max(bound.checked_add(1)?);
    }
    let mut high = range.lte.unwrap_or(u64::MAX);
    if let Some(bound) = range.lt {
        high = high.min(bound.checked_sub(1)?);
    }
    (low <= high).then_some((low, high))
}

fn of_sorted(bits: u64) -> i64 {
    (bits ^ (1 << 63)).cast_signed()
}

/// The first number for which `holds`, which holds for all after that too.
fn first(holds: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut from, mut to) = (0_u64, u64::MAX);
    if !holds(to) {
        return None;
    }
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) { to = middle } else { from = middle + 1 }
    }
    Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has(nodes: &[Node], number: u64) -> bool {
        Node::all(number).any(|node| nodes.contains(&node))
    }

    proptest! {
        #[test]
        fn a_cover_has_what_lies_within_and_nothing_else(a: u64, b: u64, inside: u64, shift in 0_u32..64) {
            let (a, b) = (a >> shift, b >> shift);
            let (low, high) = (a.min(b), a.max(b));
            let nodes = cover(low, high);
            prop_assert!(nodes.len() <= 480);
            for number in [low, high, low.wrapping_sub(1), high.wrapping_add(1), inside, 0, u64::MAX,
                low + inside % (high - low).saturating_add(1)]
            {
                prop_assert_eq!(has(&nodes, number), (low..=high).contains(&number));
                // By one node only: what is found is found once.
                prop_assert!(Node::all(number).filter(|node| nodes.contains(node)).count() <= 1);
            }
        }

        #[test]
        fn bits_sort_as_numbers_do(a: i64, b: i64, x in -1e300..1e300_f64, y: f64) {
            prop_assert_eq!(a.cmp(&b), of_integer(a).cmp(&of_integer(b)));
            if y.is_finite() {
                prop_assert_eq!(x.partial_cmp(&y).unwrap(), of_float(x).cmp(&of_float(y)));
            }
            prop_assert_eq!(of_float(0.0), of_float(-0.0));
        }

        #[test]
        fn integers_compare_as_the_numbers_that_they_are_read_as(
            n: i64, bound: i64, off in -2_i64..3, shift in 0_u32..63, which in 0..6
        ) {
            let (n, bound) = (n >> shift, bound >> shift);
            let n = if off == 2 { n } else { bound.saturating_add(off) };
            let bound = Some(bound as f64 + if which == 5 { 0.5 } else { 0.0 });
            let range = match which {
                0 => Range { lt: bound, ..Range::default() },
                1 => Range { gt: bound, ..Range::default() },
                2 => Range { gte: bound, ..Range::default() },
                3 => Range { lte: bound, ..Range::default() },
                _ => Range { gte: bound, lt: bound.map(|b| b + 1e3), ..Range::default() },
            };
            let found = integers(&range).is_some_and(|(low, high)| (low..=high).contains(&of_integer(n)));
            prop_assert_eq!(found, range.has(n as f64));
            let found = floats(&range).is_some_and(|(low, high)| (low..=high).contains(&of_float(n as f64)));
            prop_assert_eq!(found, range.has(n as f64));
        }
    }

    #[test]
    fn everything_is_the_root() {
        assert_eq!(cover(0, u64::MAX), [Node { level: 0, bits: 0 }]);
        assert!(integers(&Range { gt: Some(1e300), ..Range::default() }).is_none());
        assert!(integers(&Range { lt: Some(-1e300), ..Range::default() }).is_none());
        assert!(floats(&Range { gt: Some(1.0), lt: Some(1.0), ..Range::default() }).is_none());
    }
}
