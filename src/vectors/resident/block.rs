//! A block of rows in one locked region: the exact vectors, the bounds and the codes, each contiguous.

use zeroize::Zeroize as _;

use crate::error::{Error, ErrorKind, Result};
use crate::locked::{LINE_BYTES, LockPolicy, LockedBuf};
use crate::vectors::metric::Metric;
use crate::vectors::resident::quantize::{self, RowBound, RowBounds};

/// `capacity` rows, of which the owner knows which are in use.
///
/// ```text
/// 0         vectors  capacity × dimension f32
/// bounds_at bounds   4 columns of capacity f64: squared length, scale, error, length
/// codes_at  codes    capacity × stride i8
/// ```
pub(super) struct Block {
    buf: LockedBuf,
    /// The index of the first row within the whole collection.
    pub base: usize,
    pub capacity: usize,
    dimension: usize,
    stride: usize,
    bounds_at: usize,
    codes_at: usize,
}

impl Block {
    /// An empty block for the rows from `base` on.
    pub fn new(base: usize, capacity: usize, dimension: usize, policy: LockPolicy) -> Result<Self> {
        let stride = quantize::code_bytes(dimension);
        let (bounds_at, codes_at, bytes) = layout(capacity, dimension, stride).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("no memory for {capacity} vectors"))
                .with_remedy("reserve as many vectors as the collection has")
        })?;
        let buf = LockedBuf::zeroed(bytes, policy)?;
        Ok(Self { buf, base, capacity, dimension, stride, bounds_at, codes_at })
    }

    /// The bytes held, used or not.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// Whether the block is locked in memory.
    pub fn is_locked(&self) -> bool {
        self.buf.is_locked()
    }

    /// The exact values of `row`.
    pub fn vector(&self, row: usize) -> &[f32] {
        self.buf.view(row * self.dimension * size_of::<f32>(), self.dimension)
    }

    /// The codes of `count` rows from `row` on, one after the other.
    pub fn codes(&self, row: usize, count: usize) -> &[i8] {
        self.buf.view(self.codes_at + row * self.stride, count * self.stride)
    }

    /// The bounds of `count` rows from `row` on.
    pub fn bounds(&self, row: usize, count: usize) -> RowBounds<'_> {
        let column = |word| self.buf.view(self.bound_at(word, row), count);
        RowBounds { squared: column(0), scale: column(1), error: column(2), length: column(3) }
    }

    /// The squared length of `row`.
    pub fn squared(&self, row: usize) -> f64 {
        self.word(0, row)
    }

    /// Fills `row` with a valid vector of squared length `squared`.
    pub fn write(&mut self, row: usize, metric: Metric, values: &[f32], squared: f64) {
        self.vector_mut(row).copy_from_slice(values);
        let bound = quantize::encode(metric, values, squared, self.code_mut(row));
        self.set_bound(row, bound.to_words());
    }

    /// Copies row `from` of `other` over `row`.
    pub fn copy_from(&mut self, row: usize, other: &Block, from: usize) {
        self.vector_mut(row).copy_from_slice(other.vector(from));
        self.code_mut(row).copy_from_slice(other.codes(from, 1));
        self.set_bound(row, other.words(from));
    }

    /// Copies row `from` over `row` of the same block.
    pub fn copy_within(&mut self, row: usize, from: usize) {
        let (d, s) = (self.dimension, self.stride);
        self.buf.view_mut::<f32>(0, self.capacity * d).copy_within(from * d..(from + 1) * d, row * d);
        self.buf.view_mut::<i8>(self.codes_at, self.capacity * s).copy_within(from * s..(from + 1) * s, row * s);
        self.set_bound(row, self.words(from));
    }

    /// Overwrites a row that is no longer in use with zeros.
    pub fn erase(&mut self, row: usize) {
        self.vector_mut(row).zeroize();
        self.code_mut(row).zeroize();
        self.set_bound(row, [0.0; RowBound::WORDS]);
    }

    fn vector_mut(&mut self, row: usize) -> &mut [f32] {
        self.buf.view_mut(row * self.dimension * size_of::<f32>(), self.dimension)
    }

    fn code_mut(&mut self, row: usize) -> &mut [i8] {
        self.buf.view_mut(self.codes_at + row * self.stride, self.stride)
    }

    fn set_bound(&mut self, row: usize, words: [f64; RowBound::WORDS]) {
        for (i, word) in words.into_iter().enumerate() {
            self.buf.view_mut(self.bound_at(i, row), 1).fill(word);
        }
    }

    fn words(&self, row: usize) -> [f64; RowBound::WORDS] {
        std::array::from_fn(|i| self.word(i, row))
    }

    fn word(&self, word: usize, row: usize) -> f64 {
        self.buf.view(self.bound_at(word, row), 1).first().copied().unwrap_or_default()
    }

    fn bound_at(&self, word: usize, row: usize) -> usize {
        self.bounds_at + (word * self.capacity + row) * size_of::<f64>()
    }
}

/// Where bounds and codes start, and all bytes; `None` beyond what can be addressed.
fn layout(capacity: usize, dimension: usize, stride: usize) -> Option<(usize, usize, usize)> {
    let vectors = capacity.checked_mul(dimension.checked_mul(size_of::<f32>())?)?;
    let bounds_at = vectors.checked_next_multiple_of(LINE_BYTES)?;
    let bounds = capacity.checked_mul(size_of::<[f64; RowBound::WORDS]>())?;
    let codes_at = bounds_at.checked_add(bounds)?.checked_next_multiple_of(LINE_BYTES)?;
    Some((bounds_at, codes_at, codes_at.checked_add(capacity.checked_mul(stride)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::metric;

    #[test]
    fn rows_do_not_overlap_and_move_whole() {
        let row = |i: usize| -> Vec<f32> { (0..5).map(|j| (i * 10 + j + 1) as f32).collect() };
        let mut a = Block::new(0, 3, 5, LockPolicy::Never).unwrap();
        let mut b = Block::new(3, 2, 5, LockPolicy::Never).unwrap();
        for i in 0..3 {
            a.write(i, Metric::Dot, &row(i), metric::dot(&row(i), &row(i)));
        }
        b.write(1, Metric::Dot, &row(7), metric::dot(&row(7), &row(7)));
        assert!((0..3).all(|i| a.vector(i) == row(i) && a.squared(i) == metric::dot(&row(i), &row(i))));
        a.copy_from(0, &b, 1);
        a.copy_within(1, 2);
        a.erase(2);
        assert_eq!((a.vector(0), a.vector(1)), (&row(7)[..], &row(2)[..]));
        assert_eq!((a.codes(0, 1), a.squared(0)), (b.codes(1, 1), b.squared(1)));
        assert!(a.vector(2).iter().all(|x| *x == 0.0) && a.codes(2, 1).iter().all(|c| *c == 0));
        assert_eq!(a.squared(2), 0.0);
    }

    #[test]
    fn an_absurd_capacity_is_an_error() {
        for capacity in [usize::MAX, usize::MAX / 4, usize::MAX / 20] {
            assert_eq!(Block::new(0, capacity, 4, LockPolicy::Never).err().unwrap().kind(), ErrorKind::Unavailable);
        }
    }
}
