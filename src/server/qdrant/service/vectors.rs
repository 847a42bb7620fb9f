//! Vectors between clients and chunks.

use std::collections::BTreeMap;

use crate::id::shown;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::select::WithVector;
use crate::server::qdrant::model::vector::{SparseValue, VectorStruct, VectorValue};
use crate::vectors::{CollectionSpec, Metric, SparseVector, Vectors};

/// Puts the vectors that a client sends among those of a chunk.
pub(super) fn insert(vectors: &mut Vectors, sent: VectorStruct, spec: &CollectionSpec) -> Answer<()> {
    for (name, vector) in sent.by_name() {
        known(spec, &name)?;
        match vector {
            VectorValue::Dense(values) => vectors.insert(name, values),
            VectorValue::Sparse(sparse) => {
                vectors.insert_sparse(name, SparseVector::new(sparse.indices, sparse.values)?);
            }
            VectorValue::Other(other) => return Err(other.refusal()),
        }
    }
    Ok(())
}

/// Refuses the name of a vector that the collection does not have.
pub(super) fn known(spec: &CollectionSpec, name: &str) -> Answer<()> {
    if spec.vectors.contains_key(name) || spec.sparse.contains_key(name) {
        return Ok(());
    }
    Err(Failure::bad(format!("Wrong input: Not existing vector name error: {}", shown(name))))
}

/// The vectors of a chunk that are wanted, as Qdrant keeps them: those that are compared by cosine have length 1.
pub(super) fn wanted(vectors: &Vectors, spec: &CollectionSpec, wanted: &WithVector) -> Option<VectorStruct> {
    let is_wanted = |name: &str| match wanted {
        WithVector::All(all) => *all,
        WithVector::Named(names) => names.iter().any(|wanted| wanted == name),
    };
    if matches!(wanted, WithVector::All(false)) {
        return None;
    }
    let dense = vectors.iter().filter(|(name, _)| is_wanted(name)).map(|(name, values)| {
        let cosine = spec.vectors.get(name).is_some_and(|params| params.metric == Metric::Cosine);
        let values = if cosine { unit(values) } else { values.to_vec() };
        (name.to_owned(), VectorValue::Dense(values))
    });
    let sparse = vectors.iter_sparse().filter(|(name, _)| is_wanted(name)).map(|(name, vector)| {
        let value = SparseValue { indices: vector.indices().to_vec(), values: vector.values().to_vec() };
        (name.to_owned(), VectorValue::Sparse(value))
    });
    let mut named: BTreeMap<String, VectorValue> = dense.chain(sparse).collect();
    match named.remove("") {
        Some(only) if named.is_empty() => Some(VectorStruct::Single(only)),
        Some(unnamed) => {
            named.insert(String::new(), unnamed);
            Some(VectorStruct::Named(named))
        }
        None => Some(VectorStruct::Named(named)),
    }
}

/// The vector scaled to length 1.
fn unit(values: &[f32]) -> Vec<f32> {
    let squared: f32 = values.iter().map(|x| x * x).sum();
    let length = squared.sqrt();
    if length <= f32::EPSILON {
        return values.to_vec();
    }
    values.iter().map(|x| x / length).collect()
}
