//! Sparse vectors: few values, each at an index of a space that is too large to write out, as term weights are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::error::{Error, Result};
use crate::limits;

use super::metric::MAX_LENGTH;

/// The values of a sparse vector that are there, by ascending index. Compared by dot product. Erased when dropped.
///
/// ```compile_fail
/// # use strongroom::SparseVector;
/// println!("{:?}", SparseVector::default()); // no Debug
/// ```
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct SparseVector {
    indices: Vec<u32>,
    values: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl SparseVector {
    /// A vector with `values` at `indices`, in any order.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when there are not as many values as indices, or more than
    /// [`limits::SPARSE_VALUES`], when an index is there twice, and when a value is not finite or too large.
    pub fn new(indices: Vec<u32>, values: Vec<f32>) -> Result<Self> {
        // Made first: what is refused is erased too.
        let mut made = Self { indices, values };
        if made.indices.len() != made.values.len() {
            let (indices, values) = (made.indices.len(), made.values.len());
            return Err(Error::invalid(format!("the sparse vector has {indices} indices and {values} values"))
                .with_remedy("give one value for each index"));
        }
        if made.indices.len() > limits::SPARSE_VALUES {
            return Err(Error::invalid(format!("the sparse vector has {} values", made.indices.len()))
                .with_remedy(format!("leave out the smallest: it has at most {}", limits::SPARSE_VALUES)));
        }
        if !made.indices.is_sorted() {
            let mut pairs: Vec<(u32, f32)> = made.iter().collect();
            pairs.sort_unstable_by_key(|(index, _)| *index);
            for ((index, value), (i, v)) in made.indices.iter_mut().zip(&mut made.values).zip(&pairs) {
                (*index, *value) = (*i, *v);
            }
            pairs.zeroize();
        }
        if made.indices.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Error::invalid("the sparse vector has an index twice")
                .with_remedy("give each index once, with the sum of its values"));
        }
        let squared: f64 = made.values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        if !squared.is_finite() {
            return Err(Error::invalid("the sparse vector has a value that is infinite or not a number")
                .with_remedy("check the output of the model"));
        }
        if squared > MAX_LENGTH * MAX_LENGTH {
            return Err(Error::invalid("the sparse vector is too long to be compared")
                .with_remedy(format!("scale it to a length of at most {MAX_LENGTH:e}")));
        }
        Ok(made)
    }

    /// The indices, ascending, each once.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The values in the order of the indices.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Each index with its value, by ascending index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }

    /// How many values are there.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Both taken index by index, what one of them lacks as 0.
    pub(super) fn combine(&self, other: &Self, with: impl Fn(f32, f32) -> f32) -> Result<Self> {
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        while let Some(index) = match (left.peek(), right.peek()) {
            (Some((a, _)), Some((b, _))) => Some(*a.min(b)),
            (Some((index, _)), None) | (None, Some((index, _))) => Some(*index),
            (None, None) => None,
        } {
            let a = left.next_if(|(i, _)| *i == index).map_or(0.0, |(_, value)| value);
            let b = right.next_if(|(i, _)| *i == index).map_or(0.0, |(_, value)| value);
            indices.push(index);
            values.push(with(a, b));
        }
        Self::new(indices, values)
    }
}

impl TryFrom<Unchecked> for SparseVector {
    type Error = Error;

    fn try_from(Unchecked { indices, values }: Unchecked) -> Result<Self> {
        Self::new(indices, values)
    }
}

impl Drop for SparseVector {
    fn drop(&mut self) {
        self.indices.zeroize();
        self.values.zeroize();
    }
}

/// A sparse vector of each point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseParams {
    /// What becomes of a query's values before they are compared.
    #[serde(default)]
    pub modifier: Modifier,
}

/// What becomes of the values of a query before they are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modifier {
    /// Nothing.
    #[default]
    None,
    /// Each is multiplied by how rare its index is in the collection: ln(1 + (n − df + ½) / (df + ½)), with n points
    /// that have the vector and df among them that have the index.
    Idf,
}

impl fmt::Display for Modifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Modifier::None => "none",
            Modifier::Idf => "idf",
        })
    }
}

impl FromStr for Modifier {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "none" => Ok(Modifier::None),
            "idf" => Ok(Modifier::Idf),
            _ => Err(Error::invalid(format!("`{}` is not a modifier", crate::id::shown(s)))
                .with_remedy("use `idf` or `none`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unusable_vectors_are_refused_with_a_remedy() {
        let many = u32::try_from(limits::SPARSE_VALUES).unwrap() + 1;
        for (indices, values) in [
            (vec![1], vec![]),
            (vec![1, 2, 1], vec![1.0; 3]),
            (vec![1], vec![f32::NAN]),
            (vec![1], vec![f32::INFINITY]),
            (vec![1], vec![f32::MAX]),
            ((0..many).collect(), vec![0.0; many as usize]),
        ] {
            assert!(SparseVector::new(indices, values).err().unwrap().remedy().is_some());
        }
        assert!(SparseVector::new(vec![], vec![]).unwrap().is_empty());
    }

    #[test]
    fn json_is_checked_like_any_other() {
        let read = |json| serde_json::from_str::<SparseVector>(json);
        assert!(read(r#"{"indices": [7, 2], "values": [1, 2]}"#).unwrap().indices() == [2, 7]);
        for bad in [
            r#"{"indices": [7, 7], "values": [1, 2]}"#,
            r#"{"indices": [7], "values": [1], "x": 1}"#,
            r#"{"indices": []}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn vectors_are_combined_index_by_index() {
        let a = SparseVector::new(vec![1, 3], vec![1.0, 2.0]).unwrap();
        let b = SparseVector::new(vec![3, 9], vec![4.0, 8.0]).unwrap();
        let both = a.combine(&b, |a, b| a + a - b).unwrap();
        assert!(both.indices() == [1, 3, 9] && both.values() == [2.0, 0.0, -8.0]);
    }

    proptest! {
        #[test]
        fn the_order_does_not_matter(pairs in prop::collection::btree_map(any::<u32>(), -1e3_f32..1e3, 0..50), seed: u64) {
            let sorted = SparseVector::new(pairs.keys().copied().collect(), pairs.values().copied().collect()).unwrap();
            let mut shuffled: Vec<_> = pairs.into_iter().collect();
            shuffled.sort_by_key(|(index, _)| (u64::from(*index) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (indices, values) = shuffled.into_iter().unzip();
            prop_assert!(SparseVector::new(indices, values).unwrap() == sorted);
        }
    }
}
