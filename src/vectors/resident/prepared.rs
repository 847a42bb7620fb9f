//! A vector with everything that an index keeps of it, computed before the index is held.

use zeroize::Zeroizing;

use crate::vectors::resident::quantize::{self, RowBound};
use crate::vectors::resident::shape::Shape;

/// A valid vector, its bound, its code and its signs. Erased when dropped, but for what it borrows.
pub struct Prepared<'a> {
    values: &'a [f32],
    bound: RowBound,
    code: Zeroizing<Vec<i8>>,
    signs: Zeroizing<Vec<u64>>,
}

impl<'a> Prepared<'a> {
    /// `values`, whose squared length is `squared`.
    pub(super) fn new(shape: &Shape, values: &'a [f32], squared: f64) -> Self {
        let mut code = Zeroizing::new(vec![0; quantize::code_bytes(values.len())]);
        let mut signs = Zeroizing::new(vec![0; quantize::sign_words(values.len())]);
        let bound = quantize::encode(shape.metric, values, squared, &mut code);
        quantize::sign(&shape.turned(values), &mut signs);
        Self { values, bound, code, signs }
    }

    pub(super) fn values(&self) -> &[f32] {
        self.values
    }

    pub(super) fn code(&self) -> &[i8] {
        &self.code
    }

    pub(super) fn signs(&self) -> &[u64] {
        &self.signs
    }

    pub(super) fn bound(&self) -> RowBound {
        self.bound
    }
}
