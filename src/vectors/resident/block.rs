//! A block of rows in one locked region: the exact vectors, the bounds, the codes and the signs, each contiguous.

use zeroize::Zeroize as _;

use crate::error::{Error, ErrorKind, Result};
use crate::locked::{LINE_BYTES, LockPolicy, LockedBuf};
use crate::vectors::resident::keep::Keep;
use crate::vectors::resident::prepared::Prepared;
use crate::vectors::resident::quantize::{RowBound, RowBounds};

/// `capacity` rows, of which the owner knows which are in use.
///
/// ```text
/// 0         vectors  capacity × floats f32
/// bounds_at bounds   4 columns of capacity f64: squared length, scale, error, length
/// codes_at  codes    capacity × codes i8
/// signs_at  signs    capacity × signs u64
/// ```
///
/// What is not kept has a width of 0.
pub(super) struct Block {
    buf: LockedBuf,
    /// The index of the first row within the whole collection.
    pub base: usize,
    pub capacity: usize,
    width: Width,
    bounds_at: usize,
    codes_at: usize,
    signs_at: usize,
}

/// How many values of each kind a row has.
#[derive(Clone, Copy)]
pub(super) struct Width {
    pub floats: usize,
    pub codes: usize,
    pub signs: usize,
}

impl Block {
    /// An empty block for the rows from `base` on.
    pub fn new(base: usize, capacity: usize, dimension: usize, keep: Keep, policy: LockPolicy) -> Result<Self> {
        let width = keep.width(dimension);
        let [bounds_at, codes_at, signs_at, bytes] = layout(capacity, width).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("no memory for {capacity} vectors"))
                .with_remedy("reserve as many vectors as the collection has")
        })?;
        let buf = LockedBuf::zeroed(bytes, policy)?;
        Ok(Self { buf, base, capacity, width, bounds_at, codes_at, signs_at })
    }

    /// The bytes held, used or not.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// Whether the block is locked in memory.
    pub fn is_locked(&self) -> bool {
        self.buf.is_locked()
    }

    /// The exact values of `row`; empty where they are not kept.
    pub fn vector(&self, row: usize) -> &[f32] {
        self.buf.view(row * self.width.floats * size_of::<f32>(), self.width.floats)
    }

    /// The codes of `count` rows from `row` on, one after the other.
    pub fn codes(&self, row: usize, count: usize) -> &[i8] {
        self.buf.view(self.codes_at + row * self.width.codes, count * self.width.codes)
    }

    /// The signs of `count` rows from `row` on, one after the other.
    pub fn signs(&self, row: usize, count: usize) -> &[u64] {
        self.buf.view(self.signs_at + row * self.width.signs * size_of::<u64>(), count * self.width.signs)
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

    /// What one unit of the code of `row` stands for.
    pub fn scale(&self, row: usize) -> f64 {
        self.word(1, row)
    }

    /// Fills `row` with a vector, or what of it is kept.
    pub fn write(&mut self, row: usize, vector: &Prepared<'_>) {
        copy(self.vector_mut(row), vector.values());
        copy(self.code_mut(row), vector.code());
        copy(self.signs_mut(row), vector.signs());
        self.set_bound(row, vector.bound().to_words());
    }

    /// Copies row `from` of `other` over `row`.
    pub fn copy_from(&mut self, row: usize, other: &Block, from: usize) {
        copy(self.vector_mut(row), other.vector(from));
        copy(self.code_mut(row), other.codes(from, 1));
        copy(self.signs_mut(row), other.signs(from, 1));
        self.set_bound(row, other.words(from));
    }

    /// Copies row `from` over `row` of the same block.
    pub fn copy_within(&mut self, row: usize, from: usize) {
        let Width { floats, codes, signs } = self.width;
        let rows = self.capacity;
        self.buf.view_mut::<f32>(0, rows * floats).copy_within(from * floats..(from + 1) * floats, row * floats);
        self.buf.view_mut::<i8>(self.codes_at, rows * codes).copy_within(from * codes..(from + 1) * codes, row * codes);
        self.buf
            .view_mut::<u64>(self.signs_at, rows * signs)
            .copy_within(from * signs..(from + 1) * signs, row * signs);
        self.set_bound(row, self.words(from));
    }

    /// Overwrites a row that is no longer in use with zeros.
    pub fn erase(&mut self, row: usize) {
        self.vector_mut(row).zeroize();
        self.code_mut(row).zeroize();
        self.signs_mut(row).zeroize();
        self.set_bound(row, [0.0; RowBound::WORDS]);
    }

    fn vector_mut(&mut self, row: usize) -> &mut [f32] {
        self.buf.view_mut(row * self.width.floats * size_of::<f32>(), self.width.floats)
    }

    fn code_mut(&mut self, row: usize) -> &mut [i8] {
        self.buf.view_mut(self.codes_at + row * self.width.codes, self.width.codes)
    }

    fn signs_mut(&mut self, row: usize) -> &mut [u64] {
        self.buf.view_mut(self.signs_at + row * self.width.signs * size_of::<u64>(), self.width.signs)
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

/// `from` over `to`, where `to` is kept at all.
fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    if to.len() == from.len() {
        to.copy_from_slice(from);
    }
}

/// Where bounds, codes and signs start, and all bytes; `None` beyond what can be addressed.
fn layout(capacity: usize, width: Width) -> Option<[usize; 4]> {
    let after = |start: usize, bytes: usize| start.checked_add(capacity.checked_mul(bytes)?);
    let bounds_at = after(0, width.floats.checked_mul(size_of::<f32>())?)?.checked_next_multiple_of(LINE_BYTES)?;
    let codes_at = after(bounds_at, size_of::<[f64; RowBound::WORDS]>())?.checked_next_multiple_of(LINE_BYTES)?;
    let signs_at = after(codes_at, width.codes)?.checked_next_multiple_of(LINE_BYTES)?;
    Some([bounds_at, codes_at, signs_at, after(signs_at, width.signs.checked_mul(size_of::<u64>())?)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::metric::{self, Metric};
    use crate::vectors::resident::shape::Shape;

    fn write(block: &mut Block, row: usize, values: &[f32]) {
        let shape = Shape::new(values.len(), Metric::Dot).unwrap();
        block.write(row, &shape.prepare(values).unwrap());
    }

    #[test]
    fn rows_do_not_overlap_and_move_whole() {
        let row = |i: usize| -> Vec<f32> { (0..5).map(|j| (i * 10 + j + 1) as f32 - 12.0).collect() };
        let mut a = Block::new(0, 3, 5, Keep::Vectors, LockPolicy::Never).unwrap();
        let mut b = Block::new(3, 2, 5, Keep::Vectors, LockPolicy::Never).unwrap();
        (0..3).for_each(|i| write(&mut a, i, &row(i)));
        write(&mut b, 1, &row(7));
        assert!((0..3).all(|i| a.vector(i) == row(i) && a.squared(i) == metric::dot(&row(i), &row(i))));
        assert!(a.signs(0, 3).iter().all(|signs| *signs < 1 << 5));
        a.copy_from(0, &b, 1);
        a.copy_within(1, 2);
        a.erase(2);
        assert_eq!((a.vector(0), a.vector(1)), (&row(7)[..], &row(2)[..]));
        assert_eq!((a.codes(0, 1), a.signs(0, 1), a.squared(0)), (b.codes(1, 1), b.signs(1, 1), b.squared(1)));
        assert!(a.vector(2).iter().all(|x| *x == 0.0) && a.codes(2, 1).iter().all(|c| *c == 0));
        assert!(a.signs(2, 1).iter().all(|s| *s == 0));
        assert_eq!(a.squared(2), 0.0);
    }

    #[test]
    fn what_is_not_kept_takes_nothing() {
        let bytes = |keep| Block::new(0, 640, 384, keep, LockPolicy::Never).unwrap().bytes() / 640;
        assert_eq!(
            [Keep::Vectors, Keep::Codes, Keep::Signs].map(bytes),
            [1536 + 32 + 384 + 48, 32 + 384 + 48, 32 + 48]
        );
        let mut codes = Block::new(0, 2, 5, Keep::Codes, LockPolicy::Never).unwrap();
        write(&mut codes, 1, &[1.0, -2.0, 3.0, 4.0, -5.0]);
        assert!(codes.vector(1).is_empty() && codes.codes(1, 1)[4] == -127 && codes.squared(1) == 55.0);
    }

    #[test]
    fn an_absurd_capacity_is_an_error() {
        for capacity in [usize::MAX, usize::MAX / 4, usize::MAX / 20] {
            let block = Block::new(0, capacity, 4, Keep::Vectors, LockPolicy::Never);
            assert_eq!(block.err().unwrap().kind(), ErrorKind::Unavailable);
        }
    }
}
