//! What an index keeps of each vector, and what that takes.

use crate::vectors::resident::block::Width;
use crate::vectors::resident::quantize::{self, RowBound};

/// What an index keeps of each vector: the more, the faster the second pass. What is not kept is asked of a
/// [`Source`](super::Source).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The vector, its code and its signs: nothing else is needed to search.
    Vectors,
    /// Its code and its signs: the few that may be among the best have to be read. Results are the same.
    Codes,
    /// Its signs: some hundreds have to be read, and now and then one of the best is missed.
    Signs,
}

impl Keep {
    /// All, the fastest first.
    pub const ALL: [Keep; 3] = [Keep::Vectors, Keep::Codes, Keep::Signs];

    /// Bytes of a vector of `dimension` values, in locked memory.
    pub fn row_bytes(self, dimension: usize) -> usize {
        let Width { floats, codes, signs } = self.width(dimension);
        floats * size_of::<f32>() + codes + signs * size_of::<u64>() + size_of::<[f64; RowBound::WORDS]>()
    }

    pub(super) fn width(self, dimension: usize) -> Width {
        Width {
            floats: if self == Keep::Vectors { dimension } else { 0 },
            codes: if self == Keep::Signs { 0 } else { quantize::code_bytes(dimension) },
            signs: quantize::sign_words(dimension),
        }
    }
}
