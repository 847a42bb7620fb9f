//! What clients get, from the model.

use std::collections::HashMap;

use qdrant_client::qdrant as wire;

use super::value;
use crate::id::RecordId;
use crate::server::qdrant::model::PointId;
use crate::server::qdrant::model::points::{OrderValue, Record, ScoredPoint, UpdateResult, UpdateStatus};
use crate::server::qdrant::model::query::{FacetValue, Facets, GroupId, Groups};
use crate::server::qdrant::model::vector::{VectorStruct, VectorValue};

pub(super) fn id(id: PointId) -> wire::PointId {
    use wire::point_id::PointIdOptions;
    let options = match id.0 {
        RecordId::Number(number) => PointIdOptions::Num(number),
        // Words have no form of their own here.
        other @ (RecordId::Uuid(_) | RecordId::Text(_)) => PointIdOptions::Uuid(other.to_string()),
    };
    wire::PointId { point_id_options: Some(options) }
}

fn vector(vector: VectorValue) -> wire::VectorOutput {
    use wire::vector_output::Vector;
    let vector = match vector {
        VectorValue::Dense(data) => Some(Vector::Dense(wire::DenseVector { data })),
        VectorValue::Sparse(sparse) => {
            Some(Vector::Sparse(wire::SparseVector { values: sparse.values, indices: sparse.indices }))
        }
        // None is stored.
        VectorValue::Other(_) => None,
    };
    wire::VectorOutput { vector, ..wire::VectorOutput::default() }
}

fn vectors(vectors: VectorStruct) -> wire::VectorsOutput {
    use wire::vectors_output::VectorsOptions;
    let options = match vectors {
        VectorStruct::Single(one) => VectorsOptions::Vector(vector(one)),
        VectorStruct::Named(named) => VectorsOptions::Vectors(wire::NamedVectorsOutput {
            vectors: named.into_iter().map(|(name, one)| (name, vector(one))).collect(),
        }),
    };
    wire::VectorsOutput { vectors_options: Some(options) }
}

fn order_value(value: OrderValue) -> wire::OrderValue {
    use wire::order_value::Variant;
    let variant = match value {
        OrderValue::Int(n) => Variant::Int(n),
        OrderValue::Float(x) => Variant::Float(x),
    };
    wire::OrderValue { variant: Some(variant) }
}

fn payload(payload: Option<crate::server::qdrant::model::Object>) -> HashMap<String, wire::Value> {
    payload.map(value::fields).unwrap_or_default()
}

pub(super) fn record(record: Record) -> wire::RetrievedPoint {
    wire::RetrievedPoint {
        id: Some(id(record.id)),
        payload: payload(record.payload),
        vectors: record.vector.map(vectors),
        shard_key: None,
        order_value: record.order_value.map(order_value),
    }
}

pub(super) fn scored(point: ScoredPoint) -> wire::ScoredPoint {
    wire::ScoredPoint {
        id: Some(id(point.id)),
        payload: payload(point.payload),
        score: point.score,
        version: point.version,
        vectors: point.vector.map(vectors),
        shard_key: None,
        order_value: point.order_value.map(order_value),
    }
}

pub(super) fn all_scored(points: Vec<ScoredPoint>) -> Vec<wire::ScoredPoint> {
    points.into_iter().map(scored).collect()
}

pub(super) fn update_result(result: UpdateResult) -> wire::UpdateResult {
    let status = match result.status {
        UpdateStatus::Acknowledged => wire::UpdateStatus::Acknowledged,
        UpdateStatus::Completed => wire::UpdateStatus::Completed,
    };
    wire::UpdateResult { operation_id: Some(result.operation_id), status: status.into() }
}

pub(super) fn groups(groups: Groups) -> wire::GroupsResult {
    use wire::group_id::Kind;
    let group_id = |id: GroupId| wire::GroupId {
        kind: Some(match id {
            GroupId::Unsigned(n) => Kind::UnsignedValue(n),
            GroupId::Signed(n) => Kind::IntegerValue(n),
            GroupId::Words(words) => Kind::StringValue(words),
        }),
    };
    let groups = groups.groups.into_iter().map(|group| wire::PointGroup {
        id: Some(group_id(group.id)),
        hits: all_scored(group.hits),
        lookup: group.lookup.map(record),
    });
    wire::GroupsResult { groups: groups.collect() }
}

pub(super) fn facets(facets: Facets) -> Vec<wire::FacetHit> {
    use wire::facet_value::Variant;
    let hit = |hit: crate::server::qdrant::model::query::Facet| wire::FacetHit {
        value: Some(wire::FacetValue {
            variant: Some(match hit.value {
                FacetValue::Bool(flag) => Variant::BoolValue(flag),
                FacetValue::Int(n) => Variant::IntegerValue(n),
                FacetValue::Words(words) => Variant::StringValue(words),
            }),
        }),
        count: hit.count,
    };
    facets.hits.into_iter().map(hit).collect()
}
