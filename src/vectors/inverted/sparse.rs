//! The resident index of a sparse vector: exact top-k by dot product.

use crate::error::Result;
use crate::id::RecordId;
use crate::vectors::{Modifier, SparseVector};

use super::{Filter, Inverted};

/// The sparse vectors of one name, searchable. Holds plaintext embeddings: it is zeroized on drop and cannot be printed,
/// copied or serialized. It is in ordinary memory, as ids are.
pub struct SparseIndex {
    modifier: Modifier,
    records: Inverted<u32>,
}

impl SparseIndex {
    /// An empty index.
    pub fn new(modifier: Modifier) -> Self {
        Self { modifier, records: Inverted::new() }
    }

    /// Adds a vector, or replaces the one that `id` has.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when there are more than 2³² of them.
    pub fn upsert(&mut self, id: RecordId, vector: &SparseVector) -> Result<()> {
        self.records.upsert(id, vector.indices().into(), vector.values().into())
    }

    /// Takes a vector out and erases it; false where `id` has none.
    pub fn remove(&mut self, id: &RecordId) -> bool {
        self.records.remove(id)
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resident bytes; those of tables are an estimate.
    pub fn bytes(&self) -> usize {
        self.records.bytes()
    }

    /// The `k` records with the highest dot products with `query` among those that pass `filter` and have an index of
    /// it, best first, ties by ascending id. Products and sums are taken in `f64`, in the order of the indices.
    ///
    /// `filter` is called only for records that may be among the results.
    pub fn search(&self, query: &SparseVector, k: usize, filter: Filter<'_>) -> Vec<(RecordId, f32)> {
        let terms: Vec<(u32, f64)> =
            query.iter().map(|(index, value)| (index, f64::from(value) * self.weight(index))).collect();
        owned(self.records.search(&terms, k, |value, _| f64::from(value), filter))
    }

    /// The `k` records that `score` puts first among all that pass `filter`. It is given the record's dot product with
    /// each of `examples`, 0 for one that shares no index.
    pub(in crate::vectors) fn scan(
        &self,
        examples: &[SparseVector],
        k: usize,
        score: impl Fn(&[f64]) -> f64 + Sync,
        filter: Filter<'_>,
    ) -> Vec<(RecordId, f32)> {
        let weighted: Vec<Vec<(u32, f64)>> = examples
            .iter()
            .map(|example| example.iter().map(|(i, value)| (i, f64::from(value) * self.weight(i))).collect())
            .collect();
        let score = |indices: &[u32], values: &[f32]| {
            let dots: Vec<f64> = weighted.iter().map(|example| dot(example, indices, values)).collect();
            score(&dots)
        };
        owned(self.records.scan(k, score, filter))
    }

    /// What a query's value at `index` is multiplied by.
    fn weight(&self, index: u32) -> f64 {
        match self.modifier {
            Modifier::None => 1.0,
            Modifier::Idf => idf(self.records.len(), self.records.having(&index)),
        }
    }
}

/// How much a key says that `having` of `records` have: as Qdrant reckons it, and BM25.
pub(super) fn idf(records: usize, having: usize) -> f64 {
    let (n, df) = (records as f64, having as f64);
    ((n - df + 0.5) / (df + 0.5) + 1.0).ln()
}

pub(super) fn owned(found: Vec<(&RecordId, f64)>) -> Vec<(RecordId, f32)> {
    found.into_iter().map(|(id, score)| (id.clone(), score as f32)).collect()
}

fn dot(example: &[(u32, f64)], indices: &[u32], values: &[f32]) -> f64 {
    let mut record = indices.iter().zip(values).peekable();
    let mut sum = 0.0;
    for (index, weight) in example {
        while record.next_if(|(i, _)| *i < index).is_some() {}
        if let Some((_, value)) = record.next_if(|(i, _)| *i == index) {
            sum += weight * f64::from(*value);
        }
    }
    sum
}
