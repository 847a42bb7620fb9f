//! Vectors as clients send and get them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize};

use super::PointId;
use crate::server::qdrant::failure::{Answer, Failure};

/// One vector.
#[derive(Clone, PartialEq)]
pub(in super::super) enum VectorValue {
    /// As many values as the collection says.
    Dense(Vec<f32>),
    /// Some of very many values.
    Sparse(SparseValue),
    /// What Qdrant has and Strongroom does not.
    Other(Other),
}

/// A sparse vector: each index once, in any order.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SparseValue {
    pub(in super::super) indices: Vec<u32>,
    pub(in super::super) values: Vec<f32>,
}

/// Vectors that Strongroom does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Other {
    /// Many vectors for one point.
    Multi,
    /// A text, picture or other thing that a server makes a vector of.
    Document,
}

impl Other {
    pub(in super::super) fn refusal(self) -> Failure {
        Failure::unsupported(match self {
            Other::Multi => {
                "a point has one vector of each name here: store the vectors of a multivector as points of their own, \
                 and group what is found by a field of the payload"
            }
            Other::Document => {
                "no embeddings are made here, since the model would have to see the text outside of the store: send \
                 the vector that your model makes of it"
            }
        })
    }
}

/// The vectors of a point.
#[derive(Clone, PartialEq)]
pub(in super::super) enum VectorStruct {
    /// The unnamed one.
    Single(VectorValue),
    /// By name.
    Named(BTreeMap<String, VectorValue>),
}

impl VectorStruct {
    /// How many bytes their values take.
    pub(in super::super) fn bytes(&self) -> usize {
        let bytes = |vector: &VectorValue| match vector {
            VectorValue::Dense(values) => values.len() * 4,
            VectorValue::Sparse(sparse) => sparse.indices.len() * 8,
            VectorValue::Other(_) => 0,
        };
        match self {
            Self::Single(vector) => bytes(vector),
            Self::Named(vectors) => vectors.values().map(bytes).sum(),
        }
    }

    /// By name; the unnamed one is called the empty string.
    pub(in super::super) fn by_name(self) -> BTreeMap<String, VectorValue> {
        match self {
            Self::Single(vector) => BTreeMap::from([(String::new(), vector)]),
            Self::Named(vectors) => vectors,
        }
    }
}

/// The vectors of many points, column by column.
#[derive(Deserialize)]
#[serde(untagged)]
pub(in super::super) enum VectorColumns {
    Single(Vec<VectorValue>),
    Named(BTreeMap<String, Vec<VectorValue>>),
}

/// A vector to compare with: itself, or that of a point.
#[derive(Clone, PartialEq)]
pub(in super::super) enum VectorInput {
    Id(PointId),
    Vector(VectorValue),
}

/// What one element of a list of numbers or lists is.
enum Element {
    Number(f32),
    List,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "vectors are f32")]
        impl<'de> Visitor<'de> for One {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of a vector")
            }

            fn visit_f64<E: de::Error>(self, x: f64) -> Result<Element, E> {
                Ok(Element::Number(x as f32))
            }

            fn visit_u64<E: de::Error>(self, x: u64) -> Result<Element, E> {
                Ok(Element::Number(x as f32))
            }

            fn visit_i64<E: de::Error>(self, x: i64) -> Result<Element, E> {
                Ok(Element::Number(x as f32))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                while list.next_element::<f32>()?.is_some() {}
                Ok(Element::List)
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// A vector from a list.
fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<VectorValue, A::Error> {
    // What the other side says of its length is not believed.
    let mut values = Vec::with_capacity(list.size_hint().unwrap_or(0).min(4096));
    let mut lists = false;
    while let Some(element) = list.next_element()? {
        match element {
            Element::Number(x) => values.push(x),
            Element::List => lists = true,
        }
    }
    match (lists, values.is_empty()) {
        (true, true) => Ok(VectorValue::Other(Other::Multi)),
        (true, false) => Err(de::Error::custom("a vector is a list of numbers")),
        (false, _) => Ok(VectorValue::Dense(values)),
    }
}

/// A sparse vector, or something to make a vector of, from an object.
fn from_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<VectorValue, A::Error> {
    let (mut indices, mut values, mut other) = (None, None, false);
    while let Some(key) = object.next_key::<String>()? {
        match key.as_str() {
            "indices" if indices.is_none() => indices = Some(object.next_value()?),
            "values" if values.is_none() => values = Some(object.next_value()?),
            "text" | "image" | "object" | "model" | "options" => {
                other = true;
                object.next_value::<de::IgnoredAny>()?;
            }
            _ => return Err(de::Error::custom("a sparse vector has `indices` and `values` and nothing else")),
        }
    }
    match (indices, values) {
        (Some(indices), Some(values)) if !other => Ok(VectorValue::Sparse(SparseValue { indices, values })),
        (None, None) if other => Ok(VectorValue::Other(Other::Document)),
        _ => Err(de::Error::custom("a sparse vector has `indices` and `values`")),
    }
}

impl<'de> Deserialize<'de> for VectorValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = VectorValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector: a list of numbers, or an object with `indices` and `values`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<VectorValue, A::Error> {
                from_list(list)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<VectorValue, A::Error> {
                from_object(object)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl<'de> Deserialize<'de> for VectorStruct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Struct;
        impl<'de> Visitor<'de> for Struct {
            type Value = VectorStruct;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector, or vectors by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<VectorStruct, A::Error> {
                from_list(list).map(VectorStruct::Single)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<VectorStruct, A::Error> {
                let (mut vectors, mut document) = (BTreeMap::new(), false);
                while let Some(name) = object.next_key::<String>()? {
                    match object.next_value()? {
                        MaybeVector::Vector(vector) => _ = vectors.insert(name, vector),
                        MaybeVector::Words => document = true,
                    }
                }
                if document {
                    return Ok(VectorStruct::Single(VectorValue::Other(Other::Document)));
                }
                Ok(VectorStruct::Named(vectors))
            }
        }
        deserializer.deserialize_any(Struct)
    }
}

/// A vector, or words in its place: then what has them is a text to make a vector of.
enum MaybeVector {
    Vector(VectorValue),
    Words,
}

impl<'de> Deserialize<'de> for MaybeVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Maybe;
        impl<'de> Visitor<'de> for Maybe {
            type Value = MaybeVector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<MaybeVector, E> {
                Ok(MaybeVector::Words)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<MaybeVector, A::Error> {
                from_list(list).map(MaybeVector::Vector)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<MaybeVector, A::Error> {
                from_object(object).map(MaybeVector::Vector)
            }
        }
        deserializer.deserialize_any(Maybe)
    }
}

impl<'de> Deserialize<'de> for VectorInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Input;
        impl<'de> Visitor<'de> for Input {
            type Value = VectorInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector or the id of a point")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<VectorInput, E> {
                Ok(VectorInput::Id(PointId(number.into())))
            }

            fn visit_str<E: de::Error>(self, words: &str) -> Result<VectorInput, E> {
                let id = PointId::from_words(words).map_err(|failure| E::custom(failure.message()))?;
                Ok(VectorInput::Id(id))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<VectorInput, A::Error> {
                from_list(list).map(VectorInput::Vector)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<VectorInput, A::Error> {
                from_object(object).map(VectorInput::Vector)
            }
        }
        deserializer.deserialize_any(Input)
    }
}

impl Serialize for VectorValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            VectorValue::Dense(values) => values.serialize(serializer),
            VectorValue::Sparse(sparse) => sparse.serialize(serializer),
            // None is stored.
            VectorValue::Other(_) => serializer.serialize_none(),
        }
    }
}

impl Serialize for VectorStruct {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            VectorStruct::Single(vector) => vector.serialize(serializer),
            VectorStruct::Named(vectors) => {
                let mut map = serializer.serialize_map(Some(vectors.len()))?;
                for (name, vector) in vectors {
                    map.serialize_entry(name, vector)?;
                }
                map.end()
            }
        }
    }
}

impl VectorColumns {
    /// The vectors of each of `points` points.
    pub(in super::super) fn rows(self, points: usize) -> Answer<Vec<VectorStruct>> {
        let uneven = || Failure::bad("Wrong input: a batch has as many vectors of each name as ids");
        match self {
            Self::Single(vectors) if vectors.len() == points => {
                Ok(vectors.into_iter().map(VectorStruct::Single).collect())
            }
            Self::Single(_) => Err(uneven()),
            Self::Named(columns) => {
                let mut rows = vec![BTreeMap::new(); points];
                for (name, column) in columns {
                    // It is copied for every point.
                    if name.len() > crate::limits::NAME_BYTES {
                        return Err(Failure::bad("Wrong input: the name of a vector is too long"));
                    }
                    if column.len() != points {
                        return Err(uneven());
                    }
                    for (row, vector) in rows.iter_mut().zip(column) {
                        row.insert(name.clone(), vector);
                    }
                }
                Ok(rows.into_iter().map(VectorStruct::Named).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<VectorStruct, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn dense(values: &[f32]) -> VectorValue {
        VectorValue::Dense(values.to_vec())
    }

    #[test]
    fn vectors_are_read_in_all_their_forms() {
        assert!(read("[1, 0.5, -2]").unwrap() == VectorStruct::Single(dense(&[1.0, 0.5, -2.0])));
        assert!(read("{}").unwrap() == VectorStruct::Named(BTreeMap::new()));
        let sparse = VectorValue::Sparse(SparseValue { indices: vec![3, 1], values: vec![0.5, 2.0] });
        let named = BTreeMap::from([("a".to_owned(), dense(&[1.0])), ("s".to_owned(), sparse)]);
        let json = r#"{"a": [1], "s": {"indices": [3, 1], "values": [0.5, 2]}}"#;
        assert!(read(json).unwrap() == VectorStruct::Named(named));
        let multi = VectorStruct::Single(VectorValue::Other(Other::Multi));
        assert!(read("[[1, 2], [3, 4]]").unwrap() == multi);
        let document = VectorStruct::Single(VectorValue::Other(Other::Document));
        assert!(read(r#"{"text": "x", "model": "y"}"#).unwrap() == document);
        for bad in ["7", "null", "[1, [2]]", "[\"x\"]", r#"{"s": {"indices": [1]}}"#, r#"{"s": {"values": [1]}}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn batches_are_as_wide_as_they_are_long() {
        let columns = |json: &str| serde_json::from_str::<VectorColumns>(json).unwrap();
        let rows = columns("[[1, 2], [3, 4]]").rows(2).unwrap();
        assert!(rows == [VectorStruct::Single(dense(&[1.0, 2.0])), VectorStruct::Single(dense(&[3.0, 4.0]))]);
        assert!(columns("[[1, 2]]").rows(2).is_err());
        assert!(columns(r#"{"a": [[1]]}"#).rows(2).is_err());
        assert!(columns(r#"{"a": [[1], [2]], "b": [[1], [2]]}"#).rows(2).is_ok());
    }
}
