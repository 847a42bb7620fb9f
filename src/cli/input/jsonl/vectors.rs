//! Turns the vectors of a JSON line into what a record has: dense and sparse, each finite and within bounds.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::InputVectors;
use super::value::Budget;
use crate::error::{Error, Result};
use crate::id::{Name, shown};
use crate::limits;
use crate::vectors::SparseVector;

/// What stands under `vector`.
pub(super) struct GivenVectors {
    pub dense: InputVectors,
    pub sparse: BTreeMap<Name, SparseVector>,
}

impl Default for GivenVectors {
    fn default() -> Self {
        Self { dense: InputVectors::Missing, sparse: BTreeMap::new() }
    }
}

pub(super) fn given_twice(name: &str) -> Error {
    Error::invalid(format!("vector `{}` is given twice", shown(name))).with_remedy("keep one of them")
}

pub(super) fn too_many() -> Error {
    Error::invalid(format!("there are more than {} named vectors", limits::NAMED_VECTORS))
        .with_remedy("name only vectors that the collection has")
}

/// One vector, a vector per name, or `null` for none.
pub(super) struct VectorsSeed<'a>(pub &'a mut Budget);

impl<'de> DeserializeSeed<'de> for VectorsSeed<'_> {
    type Value = GivenVectors;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<GivenVectors, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for VectorsSeed<'_> {
    type Value = GivenVectors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vector or an object of vectors")
    }

    fn visit_unit<E>(self) -> Result<GivenVectors, E> {
        Ok(GivenVectors::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<GivenVectors, A::Error> {
        let vector = dense(&mut seq, None, self.0)?;
        Ok(GivenVectors { dense: InputVectors::Single(vector), sparse: BTreeMap::new() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GivenVectors, A::Error> {
        let (mut named, mut sparse) = (BTreeMap::new(), BTreeMap::new());
        while let Some(key) = map.next_key::<String>()? {
            let name: Name = key.parse().map_err(|e| self.0.refuse(e))?;
            if named.contains_key(&name) || sparse.contains_key(&name) {
                return Err(self.0.refuse(given_twice(&key)));
            }
            match map.next_value_seed(EitherSeed { name: &key, budget: self.0 })? {
                Either::Dense(vector) => drop(named.insert(name, vector)),
                Either::Sparse(vector) => drop(sparse.insert(name, vector)),
            }
            if named.len() + sparse.len() > limits::NAMED_VECTORS {
                return Err(self.0.refuse(too_many()));
            }
        }
        if named.is_empty() && sparse.is_empty() {
            let error = Error::invalid("`vector` names no vector");
            return Err(self.0.refuse(error.with_remedy("give a vector, or leave the field out")));
        }
        let dense = if named.is_empty() { InputVectors::Missing } else { InputVectors::Named(named) };
        Ok(GivenVectors { dense, sparse })
    }
}

/// Sparse vectors by name, or `null` for none.
pub(super) struct SparseSeed<'a>(pub &'a mut Budget);

impl<'de> DeserializeSeed<'de> for SparseSeed<'_> {
    type Value = BTreeMap<Name, SparseVector>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SparseSeed<'_> {
    type Value = BTreeMap<Name, SparseVector>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of sparse vectors")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut sparse = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let name: Name = key.parse().map_err(|e| self.0.refuse(e))?;
            if sparse.contains_key(&name) {
                return Err(self.0.refuse(given_twice(&key)));
            }
            match map.next_value_seed(EitherSeed { name: &key, budget: self.0 })? {
                Either::Sparse(vector) => drop(sparse.insert(name, vector)),
                Either::Dense(_) => {
                    let error = Error::invalid(format!("vector `{}` under `sparse` is dense", shown(&key)));
                    return Err(self
                        .0
                        .refuse(error.with_remedy("give `indices` and `values`, or put it under `vector`")));
                }
            }
            if sparse.len() > limits::NAMED_VECTORS {
                return Err(self.0.refuse(too_many()));
            }
        }
        Ok(sparse)
    }
}

/// A vector of either kind.
enum Either {
    Dense(Vec<f32>),
    Sparse(SparseVector),
}

/// An array of numbers, or `indices` and `values`.
struct EitherSeed<'a> {
    name: &'a str,
    budget: &'a mut Budget,
}

impl<'de> DeserializeSeed<'de> for EitherSeed<'_> {
    type Value = Either;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Either, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EitherSeed<'_> {
    type Value = Either;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers, or indices and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Either, A::Error> {
        dense(&mut seq, Some(self.name), self.budget).map(Either::Dense)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Either, A::Error> {
        let (mut indices, mut values) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "indices" if indices.is_none() => indices = Some(map.next_value_seed(Bounded::<u32>::default())?),
                "values" if values.is_none() => values = Some(map.next_value_seed(Bounded::<f32>::default())?),
                _ => return Err(self.refuse("has other fields than `indices` and `values`")),
            }
        }
        let (Some(indices), Some(values)) = (indices, values) else {
            return Err(self.refuse("lacks `indices` or `values`"));
        };
        SparseVector::new(indices, values).map(Either::Sparse).map_err(|e| {
            let named = Error::invalid(format!("vector `{}`: {e}", shown(self.name)));
            let named = e.remedy().map_or_else(|| Error::invalid(e.to_string()), |remedy| named.with_remedy(remedy));
            self.budget.refuse(named)
        })
    }
}

impl EitherSeed<'_> {
    fn refuse<E: de::Error>(self, why: &str) -> E {
        let error = Error::invalid(format!("vector `{}` {why}", shown(self.name)));
        self.budget.refuse(error.with_remedy("write it as in {\"indices\": [3, 17], \"values\": [0.5, 0.25]}"))
    }
}

/// An array with one item more at most than a sparse vector may have, which shows that it has too many.
struct Bounded<T>(std::marker::PhantomData<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<'de, T: de::Deserialize<'de>> DeserializeSeed<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: de::Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() <= limits::SPARSE_VALUES {
                items.push(item);
            }
        }
        Ok(items)
    }
}

/// One finite vector of allowed size.
fn dense<'de, A: SeqAccess<'de>>(seq: &mut A, name: Option<&str>, budget: &mut Budget) -> Result<Vec<f32>, A::Error> {
    let mut refuse = |why: &str, remedy: &str| {
        let name = name.map(|n| format!(" `{}`", shown(n))).unwrap_or_default();
        budget.refuse(Error::invalid(format!("vector{name} {why}")).with_remedy(remedy))
    };
    let mut vector = Vec::new();
    while let Some(x) = seq.next_element::<f32>()? {
        if !x.is_finite() {
            let why = format!("has an element beyond the range of f32, number {}", vector.len() + 1);
            return Err(refuse(&why, "remove the record, or compute its vector again"));
        }
        if vector.len() == limits::VECTOR_DIMENSIONS {
            let why = format!("has more than {} dimensions", limits::VECTOR_DIMENSIONS);
            return Err(refuse(&why, "use an embedding with fewer dimensions"));
        }
        vector.push(x);
    }
    if vector.is_empty() {
        return Err(refuse("is empty", "give its numbers, or leave the field out"));
    }
    Ok(vector)
}
