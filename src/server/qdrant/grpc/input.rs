//! What clients send, as the model has it.

use std::collections::BTreeMap;

use qdrant_client::qdrant as wire;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::Operation as WireOperation;

use super::{filter, value};
use crate::id::RecordId;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::points::{Operation, PointStruct, PointVectors, Selection, UpdateMode, UpdateStatus};
use crate::server::qdrant::model::select::{Exclude, Include, WithPayload, WithVector};
use crate::server::qdrant::model::vector::{Other, SparseValue, VectorInput, VectorStruct, VectorValue};
use crate::server::qdrant::model::{PointId, no_shard_key};

pub(super) fn missing(what: &str) -> Failure {
    Failure::bad(format!("Validation error: {what} is missing"))
}

pub(super) fn id(id: wire::PointId) -> Answer<PointId> {
    use wire::point_id::PointIdOptions;
    match id.point_id_options.ok_or_else(|| missing("a point's id"))? {
        PointIdOptions::Num(number) => Ok(PointId(RecordId::Number(number))),
        PointIdOptions::Uuid(words) => PointId::from_words(&words),
    }
}

pub(super) fn ids(list: Vec<wire::PointId>) -> Answer<Vec<PointId>> {
    list.into_iter().map(id).collect()
}

/// A date as it is written in JSON.
pub(super) fn date(seconds: i64, nanos: i32) -> Answer<String> {
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|_| Failure::bad("Wrong input: a date is out of range"))?;
    Ok(at.to_string())
}

pub(super) fn size(n: u64) -> Answer<usize> {
    usize::try_from(n).map_err(|_| Failure::bad("Wrong input: a number is too large"))
}

pub(super) fn status(wait: Option<bool>) -> UpdateStatus {
    if wait == Some(true) { UpdateStatus::Completed } else { UpdateStatus::Acknowledged }
}

/// A vector, in its present form or in that of earlier versions.
pub(super) fn vector(vector: wire::Vector) -> VectorValue {
    use wire::vector::Vector;
    match vector.vector {
        Some(Vector::Dense(dense)) => VectorValue::Dense(dense.data),
        Some(Vector::Sparse(sparse)) => {
            VectorValue::Sparse(SparseValue { indices: sparse.indices, values: sparse.values })
        }
        Some(Vector::MultiDense(_)) => VectorValue::Other(Other::Multi),
        Some(Vector::Document(_) | Vector::Image(_) | Vector::Object(_)) => VectorValue::Other(Other::Document),
        None => {
            #[expect(deprecated, reason = "clients before 1.16 send this")]
            let (data, indices, count) = (vector.data, vector.indices, vector.vectors_count);
            match (indices, count) {
                (Some(indices), _) => VectorValue::Sparse(SparseValue { indices: indices.data, values: data }),
                (None, Some(_)) => VectorValue::Other(Other::Multi),
                (None, None) => VectorValue::Dense(data),
            }
        }
    }
}

pub(super) fn vectors(vectors: Option<wire::Vectors>) -> VectorStruct {
    use wire::vectors::VectorsOptions;
    match vectors.and_then(|vectors| vectors.vectors_options) {
        None => VectorStruct::Named(BTreeMap::new()),
        Some(VectorsOptions::Vector(one)) => VectorStruct::Single(vector(one)),
        Some(VectorsOptions::Vectors(named)) => {
            VectorStruct::Named(named.vectors.into_iter().map(|(name, one)| (name, vector(one))).collect())
        }
    }
}

pub(super) fn vector_input(input: wire::VectorInput) -> Answer<VectorInput> {
    use wire::vector_input::Variant;
    Ok(match input.variant.ok_or_else(|| missing("a vector to compare with"))? {
        Variant::Id(point) => VectorInput::Id(id(point)?),
        Variant::Dense(dense) => VectorInput::Vector(VectorValue::Dense(dense.data)),
        Variant::Sparse(sparse) => {
            VectorInput::Vector(VectorValue::Sparse(SparseValue { indices: sparse.indices, values: sparse.values }))
        }
        Variant::MultiDense(_) => VectorInput::Vector(VectorValue::Other(Other::Multi)),
        Variant::Document(_) | Variant::Image(_) | Variant::Object(_) => {
            VectorInput::Vector(VectorValue::Other(Other::Document))
        }
    })
}

pub(super) fn with_payload(selector: Option<wire::WithPayloadSelector>) -> Option<WithPayload> {
    use wire::with_payload_selector::SelectorOptions;
    Some(match selector?.selector_options? {
        SelectorOptions::Enable(all) => WithPayload::All(all),
        SelectorOptions::Include(fields) => WithPayload::Include(Include { include: fields.fields }),
        SelectorOptions::Exclude(fields) => WithPayload::Exclude(Exclude { exclude: fields.fields }),
    })
}

pub(super) fn with_vector(selector: Option<wire::WithVectorsSelector>) -> Option<WithVector> {
    use wire::with_vectors_selector::SelectorOptions;
    Some(match selector?.selector_options? {
        SelectorOptions::Enable(all) => WithVector::All(all),
        SelectorOptions::Include(names) => WithVector::Named(names.names),
    })
}

pub(super) fn selection(selector: Option<wire::PointsSelector>) -> Answer<Selection> {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        None => Selection::new(None, None),
        Some(PointsSelectorOneOf::Points(list)) => Selection::new(Some(ids(list.ids)?), None),
        Some(PointsSelectorOneOf::Filter(asked)) => Selection::new(None, Some(filter::filter(asked)?)),
    }
}

pub(super) fn points(points: Vec<wire::PointStruct>) -> Answer<Vec<PointStruct>> {
    let point = |point: wire::PointStruct| {
        Ok(PointStruct {
            id: id(point.id.ok_or_else(|| missing("a point's id"))?)?,
            vector: vectors(point.vectors),
            payload: Some(value::object(point.payload)?),
        })
    };
    points.into_iter().map(point).collect()
}

pub(super) fn point_vectors(points: Vec<wire::PointVectors>) -> Answer<Vec<PointVectors>> {
    let point = |point: wire::PointVectors| {
        let id = id(point.id.ok_or_else(|| missing("a point's id"))?)?;
        Ok(PointVectors { id, vector: vectors(point.vectors) })
    };
    points.into_iter().map(point).collect()
}

pub(super) fn mode(mode: Option<i32>) -> Answer<UpdateMode> {
    match mode.map(wire::UpdateMode::try_from) {
        None | Some(Ok(wire::UpdateMode::Upsert)) => Ok(UpdateMode::Upsert),
        Some(Ok(wire::UpdateMode::InsertOnly)) => Ok(UpdateMode::InsertOnly),
        Some(Ok(wire::UpdateMode::UpdateOnly)) => Ok(UpdateMode::UpdateOnly),
        Some(Err(_)) => Err(Failure::bad("Wrong input: the mode of the update is not known")),
    }
}

pub(super) fn names(selector: Option<wire::VectorsSelector>) -> Vec<String> {
    selector.map_or_else(Vec::new, |selector| selector.names)
}

/// One step of a batch.
pub(super) fn operation(operation: wire::PointsUpdateOperation) -> Answer<Operation> {
    match operation.operation.ok_or_else(|| missing("an operation"))? {
        WireOperation::Upsert(list) => {
            no_shard_key(&list.shard_key_selector)?;
            Operation::upsert(points(list.points)?, filter::maybe(list.update_filter)?, mode(list.update_mode)?)
        }
        #[expect(deprecated, reason = "earlier clients send this")]
        WireOperation::DeleteDeprecated(points) => Ok(Operation::Delete(selection(Some(points))?)),
        #[expect(deprecated, reason = "earlier clients send this")]
        WireOperation::ClearPayloadDeprecated(points) => Ok(Operation::ClearPayload(selection(Some(points))?)),
        WireOperation::SetPayload(set) => {
            no_shard_key(&set.shard_key_selector)?;
            let points = selection(set.points_selector)?;
            Ok(Operation::SetPayload { payload: value::object(set.payload)?, points, key: set.key })
        }
        WireOperation::OverwritePayload(set) => {
            no_shard_key(&set.shard_key_selector)?;
            Operation::overwrite(value::object(set.payload)?, selection(set.points_selector)?, set.key)
        }
        WireOperation::DeletePayload(delete) => {
            no_shard_key(&delete.shard_key_selector)?;
            Ok(Operation::DeletePayload { keys: delete.keys, points: selection(delete.points_selector)? })
        }
        WireOperation::UpdateVectors(update) => {
            no_shard_key(&update.shard_key_selector)?;
            Operation::update_vectors(point_vectors(update.points)?, filter::maybe(update.update_filter)?)
        }
        WireOperation::DeleteVectors(delete) => {
            no_shard_key(&delete.shard_key_selector)?;
            Operation::delete_vectors(names(delete.vectors), selection(delete.points_selector)?)
        }
        WireOperation::DeletePoints(delete) => {
            no_shard_key(&delete.shard_key_selector)?;
            Ok(Operation::Delete(selection(delete.points)?))
        }
        WireOperation::ClearPayload(clear) => {
            no_shard_key(&clear.shard_key_selector)?;
            Ok(Operation::ClearPayload(selection(clear.points)?))
        }
    }
}
