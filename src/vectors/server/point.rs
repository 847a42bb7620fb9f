//! A point as Qdrant holds it (`schema/record.md`): its payload is JSON, so bytes are base64.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    DenseVector, ListValue, NamedVectors, PointId, PointStruct, Value, Vector, VectorOutput, Vectors, VectorsOutput,
    vector, vector_output, vectors_output,
};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::vectors::engine::{Fields, Point};

/// The place of the point.
pub(super) const PLACE: &str = "t";
pub(super) const EPOCH: &str = "e";
pub(super) const VERSION: &str = "v";
pub(super) const PAYLOAD: &str = "p";
pub(super) const VECTOR: &str = "x";
pub(super) const TAG: &str = "te";
pub(super) const TOKENS: &str = "b";

/// What the server calls the vector at `position`.
pub(super) fn vector_name(position: u8) -> String {
    position.to_string()
}

pub(super) fn to_id(id: &Uuid) -> PointId {
    PointId { point_id_options: Some(PointIdOptions::Uuid(id.to_string())) }
}

pub(super) fn from_id(id: Option<PointId>) -> Result<Uuid> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => Uuid::try_parse(&text).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

fn bad() -> Error {
    Error::integrity("a point of Qdrant")
}

/// A tag or token as the server has it.
pub(super) fn word(bytes: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*bytes))
}

/// The bytes of what [`word`] made; `None` for anything else.
fn from_word(kind: Kind) -> Option<[u8; 16]> {
    let Kind::StringValue(text) = kind else { return None };
    let bytes = u128::from_str_radix(&text, 16).ok()?.to_be_bytes();
    (word(&bytes) == text).then_some(bytes)
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

pub(super) fn to_qdrant(point: Point, place: &str) -> Result<PointStruct> {
    let version = i64::try_from(point.version).map_err(|_| Error::internal("a version that cannot be"))?;
    let keyword = |bytes: &[u8; 16]| value(Kind::StringValue(word(bytes)));
    let mut payload = HashMap::from([
        (PLACE.to_owned(), value(Kind::StringValue(place.to_owned()))),
        (EPOCH.to_owned(), value(Kind::IntegerValue(point.epoch.into()))),
        (VERSION.to_owned(), value(Kind::IntegerValue(version))),
        (PAYLOAD.to_owned(), value(Kind::StringValue(BASE64.encode(&point.payload)))),
        (VECTOR.to_owned(), value(Kind::StringValue(BASE64.encode(&point.vector)))),
    ]);
    payload.extend(point.tag.iter().map(|tag| (TAG.to_owned(), keyword(tag))));
    if !point.tokens.is_empty() {
        let values = point.tokens.iter().map(keyword).collect();
        payload.insert(TOKENS.to_owned(), value(Kind::ListValue(ListValue { values })));
    }
    let dense = |data| Vector { vector: Some(vector::Vector::Dense(DenseVector { data })), ..Vector::default() };
    // Of sealed points there is none: an empty set, not no set.
    let vectors = point.searchable.into_iter().map(|(position, data)| (vector_name(position), dense(data))).collect();
    let vectors = Vectors { vectors_options: Some(VectorsOptions::Vectors(NamedVectors { vectors })) };
    Ok(PointStruct { id: Some(to_id(&point.id)), payload, vectors: Some(vectors) })
}

/// What a server says is hostile: a field that is missing or malformed becomes an empty one, which does not open. One of
/// another place is refused.
pub(super) fn from_qdrant(
    id: Option<PointId>,
    mut payload: HashMap<String, Value>,
    vectors: Option<VectorsOutput>,
    fields: Fields,
    place: &str,
) -> Result<Point> {
    let id = from_id(id)?;
    let mut take = |key: &str| payload.remove(key).and_then(|value| value.kind);
    if !matches!(take(PLACE), Some(Kind::StringValue(found)) if found == place) {
        return Err(bad());
    }
    let mut number = |key: &str| match take(key) {
        Some(Kind::IntegerValue(number)) => u64::try_from(number).unwrap_or_default(),
        _ => 0,
    };
    let (epoch, version) = (u32::try_from(number(EPOCH)).unwrap_or_default(), number(VERSION));
    let mut bytes = |key: &str| match take(key) {
        Some(Kind::StringValue(text)) => BASE64.decode(text).unwrap_or_default(),
        _ => Vec::new(),
    };
    let (sealed, vector) = match fields {
        Fields::Both => (bytes(PAYLOAD), bytes(VECTOR)),
        Fields::Payload => (bytes(PAYLOAD), Vec::new()),
        Fields::Vector => (Vec::new(), bytes(VECTOR)),
        Fields::Head | Fields::Id => (Vec::new(), Vec::new()),
    };
    let (tag, tokens) = match (fields, take(TAG), take(TOKENS)) {
        (Fields::Both, tag, tokens) => {
            let listed = if let Some(Kind::ListValue(list)) = tokens { list.values } else { Vec::new() };
            (tag.and_then(from_word), listed.into_iter().filter_map(|value| from_word(value.kind?)).collect())
        }
        _ => (None, Vec::new()),
    };
    let searchable = match vectors.and_then(|vectors| vectors.vectors_options) {
        Some(vectors_output::VectorsOptions::Vectors(named)) => {
            named.vectors.into_iter().filter_map(|(name, vector)| Some((name.parse().ok()?, dense(vector)?))).collect()
        }
        _ => Vec::new(),
    };
    Ok(Point { id, epoch, version, payload: sealed, vector, searchable, tag, tokens })
}

fn dense(output: VectorOutput) -> Option<Vec<f32>> {
    match output.vector {
        Some(vector_output::Vector::Dense(dense)) => Some(dense.data),
        Some(_) => None,
        #[expect(deprecated, reason = "servers of some versions answer in this field")]
        None => Some(output.data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG_OF: &str = "0123";

    fn point() -> Point {
        Point {
            id: Uuid::from_u128(77),
            epoch: 3,
            version: 1 << 40,
            payload: vec![0, 255, 7],
            vector: vec![1; 100],
            searchable: vec![(0, vec![0.5, -1.0]), (2, vec![2.0])],
            tag: Some([9; 16]),
            tokens: vec![[0; 16], [0xab; 16]],
        }
    }

    fn back(point: PointStruct, fields: Fields) -> Result<Point> {
        let Some(Vectors { vectors_options: Some(VectorsOptions::Vectors(named)) }) = point.vectors else {
            panic!("no set of vectors")
        };
        let output = |vector: Vector| match vector.vector {
            Some(vector::Vector::Dense(dense)) => {
                VectorOutput { vector: Some(vector_output::Vector::Dense(dense)), ..VectorOutput::default() }
            }
            _ => panic!("not dense"),
        };
        let vectors = named.vectors.into_iter().map(|(name, vector)| (name, output(vector))).collect();
        let named = qdrant_client::qdrant::NamedVectorsOutput { vectors };
        let vectors = VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vectors(named)) };
        from_qdrant(point.id, point.payload, Some(vectors), fields, TAG_OF)
    }

    #[test]
    fn what_is_sent_comes_back() {
        let mut got = back(to_qdrant(point(), TAG_OF).unwrap(), Fields::Both).unwrap();
        got.searchable.sort_by_key(|(position, _)| *position);
        assert!(got == point());
        let head = back(to_qdrant(point(), TAG_OF).unwrap(), Fields::Head).unwrap();
        assert!(head.version == point().version && head.payload.is_empty() && head.vector.is_empty());
        let sealed = Point { searchable: Vec::new(), ..point() };
        assert!(back(to_qdrant(sealed, TAG_OF).unwrap(), Fields::Both).unwrap().searchable.is_empty());
    }

    /// Guards against an answer that panics, or passes for a point of this place.
    #[test]
    fn a_hostile_answer_is_refused_or_does_not_open() {
        let sent = || to_qdrant(point(), TAG_OF).unwrap();
        for tag in [None, Some(value(Kind::StringValue("0124".into()))), Some(value(Kind::IntegerValue(123)))] {
            let mut other = sent();
            other.payload.remove(PLACE);
            other.payload.extend(tag.map(|tag| (PLACE.to_owned(), tag)));
            assert!(back(other, Fields::Both).is_err());
        }
        for id in [None, Some(PointId::default()), Some(PointId { point_id_options: Some(PointIdOptions::Num(1)) })] {
            assert!(back(PointStruct { id, ..sent() }, Fields::Both).is_err());
        }
        for key in [EPOCH, VERSION, PAYLOAD, VECTOR, TAG, TOKENS] {
            for bad in
                [Kind::NullValue(0), Kind::IntegerValue(-1), Kind::StringValue("%".into()), Kind::DoubleValue(1.0)]
            {
                let mut changed = sent();
                changed.payload.insert(key.to_owned(), value(bad));
                let got = back(changed, Fields::Both).unwrap();
                let empty = got.payload.is_empty() || got.vector.is_empty() || got.tokens.is_empty();
                assert!(got.epoch == 0 || got.version == 0 || empty || got.tag.is_none(), "{key}");
            }
        }
    }
}
