//! Points, and what can be done to them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::vector::{VectorColumns, VectorStruct};
use super::{Object, PointId, RawFilter, no_shard_key};
use crate::id::RecordId;
use crate::server::qdrant::failure::{Answer, Failure};

/// A point to write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PointStruct {
    pub(in super::super) id: PointId,
    #[serde(alias = "vectors")]
    pub(in super::super) vector: VectorStruct,
    #[serde(default)]
    pub(in super::super) payload: Option<Object>,
}

/// Vectors of a point to write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PointVectors {
    pub(in super::super) id: PointId,
    #[serde(alias = "vectors")]
    pub(in super::super) vector: VectorStruct,
}

/// Points column by column.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Batch {
    ids: Vec<PointId>,
    vectors: VectorColumns,
    #[serde(default)]
    payloads: Option<Vec<Option<Object>>>,
}

/// Which points a write is for when there are some and when there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum UpdateMode {
    /// All.
    #[default]
    Upsert,
    /// Those that are not there yet.
    InsertOnly,
    /// Those that are there.
    UpdateOnly,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct UpsertBody {
    #[serde(default)]
    points: Option<Vec<PointStruct>>,
    #[serde(default)]
    batch: Option<Batch>,
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    update_filter: Option<RawFilter>,
    #[serde(default)]
    update_mode: Option<UpdateMode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SelectorBody {
    #[serde(default)]
    points: Option<Vec<PointId>>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    shard_key: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SetPayloadBody {
    payload: Object,
    #[serde(default)]
    points: Option<Vec<PointId>>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct DeletePayloadBody {
    keys: Vec<String>,
    #[serde(default)]
    points: Option<Vec<PointId>>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    shard_key: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct UpdateVectorsBody {
    points: Vec<PointVectors>,
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    update_filter: Option<RawFilter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct DeleteVectorsBody {
    #[serde(alias = "vectors")]
    vector: Vec<String>,
    #[serde(default)]
    points: Option<Vec<PointId>>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    shard_key: Option<Value>,
}

/// One step of a batch.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum OperationBody {
    Upsert(UpsertBody),
    Delete(SelectorBody),
    SetPayload(SetPayloadBody),
    OverwritePayload(SetPayloadBody),
    DeletePayload(DeletePayloadBody),
    ClearPayload(SelectorBody),
    UpdateVectors(UpdateVectorsBody),
    DeleteVectors(DeleteVectorsBody),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct BatchBody {
    pub(in super::super) operations: Vec<OperationBody>,
}

/// Points to change: by id or by filter.
pub(in super::super) enum Selection {
    Ids(Vec<RecordId>),
    Filter(RawFilter),
}

impl Selection {
    /// Ids come before a filter, as in Qdrant.
    pub(in super::super) fn new(points: Option<Vec<PointId>>, filter: Option<RawFilter>) -> Answer<Self> {
        match (points, filter) {
            (Some(points), _) if points.is_empty() => Err(Failure::bad("Wrong input: Empty update request")),
            (Some(points), _) => Ok(Self::Ids(points.into_iter().map(|id| id.0).collect())),
            (None, Some(filter)) => Ok(Self::Filter(filter)),
            (None, None) => Err(Failure::bad("Validation error: No filter or points provided")),
        }
    }
}

/// What to do to points.
pub(in super::super) enum Operation {
    Upsert { points: Vec<PointStruct>, filter: Option<RawFilter>, mode: UpdateMode },
    Delete(Selection),
    SetPayload { payload: Object, points: Selection, key: Option<String> },
    OverwritePayload { payload: Object, points: Selection },
    DeletePayload { keys: Vec<String>, points: Selection },
    ClearPayload(Selection),
    UpdateVectors { points: Vec<PointVectors>, filter: Option<RawFilter> },
    DeleteVectors { names: Vec<String>, points: Selection },
}

impl Operation {
    /// Overwrites the whole payload: there is no key to do that at.
    pub(in super::super) fn overwrite(payload: Object, points: Selection, key: Option<String>) -> Answer<Self> {
        match key {
            None => Ok(Self::OverwritePayload { payload, points }),
            Some(_) => Err(Failure::bad("Wrong input: a payload is overwritten whole, `key` is for setting it")),
        }
    }

    /// Writes vectors of points that are there.
    pub(in super::super) fn update_vectors(points: Vec<PointVectors>, filter: Option<RawFilter>) -> Answer<Self> {
        if points.is_empty() {
            return Err(Failure::bad("Validation error: must specify points to update"));
        }
        Ok(Self::UpdateVectors { points, filter })
    }

    /// Removes vectors of points.
    pub(in super::super) fn delete_vectors(names: Vec<String>, points: Selection) -> Answer<Self> {
        if names.is_empty() {
            return Err(Failure::bad("Validation error: must specify vector names to delete"));
        }
        Ok(Self::DeleteVectors { names, points })
    }

    /// Writes points.
    pub(in super::super) fn upsert(
        points: Vec<PointStruct>,
        filter: Option<RawFilter>,
        mode: UpdateMode,
    ) -> Answer<Self> {
        if points.is_empty() {
            return Err(Failure::bad("Wrong input: Empty update request"));
        }
        Ok(Self::Upsert { points, filter, mode })
    }
}

impl TryFrom<OperationBody> for Operation {
    type Error = Failure;

    fn try_from(body: OperationBody) -> Answer<Self> {
        match body {
            OperationBody::Upsert(body) => body.try_into(),
            OperationBody::Delete(body) => Ok(Self::Delete(body.try_into()?)),
            OperationBody::ClearPayload(body) => Ok(Self::ClearPayload(body.try_into()?)),
            OperationBody::SetPayload(body) => {
                let (payload, points, key) = body.parts()?;
                Ok(Self::SetPayload { payload, points, key })
            }
            OperationBody::OverwritePayload(body) => {
                let (payload, points, key) = body.parts()?;
                Self::overwrite(payload, points, key)
            }
            OperationBody::DeletePayload(DeletePayloadBody { keys, points, filter, shard_key }) => {
                no_shard_key(&shard_key)?;
                Ok(Self::DeletePayload { keys, points: Selection::new(points, filter)? })
            }
            OperationBody::UpdateVectors(UpdateVectorsBody { points, shard_key, update_filter }) => {
                no_shard_key(&shard_key)?;
                Self::update_vectors(points, update_filter)
            }
            OperationBody::DeleteVectors(DeleteVectorsBody { vector, points, filter, shard_key }) => {
                no_shard_key(&shard_key)?;
                Self::delete_vectors(vector, Selection::new(points, filter)?)
            }
        }
    }
}

impl SetPayloadBody {
    fn parts(self) -> Answer<(Object, Selection, Option<String>)> {
        no_shard_key(&self.shard_key)?;
        Ok((self.payload, Selection::new(self.points, self.filter)?, self.key))
    }
}

impl TryFrom<SelectorBody> for Selection {
    type Error = Failure;

    fn try_from(body: SelectorBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        Self::new(body.points, body.filter)
    }
}

impl TryFrom<UpsertBody> for Operation {
    type Error = Failure;

    fn try_from(body: UpsertBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        let points = match (body.points, body.batch) {
            (Some(points), None) => points,
            (None, Some(batch)) => batch.rows()?,
            _ => return Err(Failure::bad("Format error in JSON body: write either `points` or `batch`")),
        };
        Self::upsert(points, body.update_filter, body.update_mode.unwrap_or_default())
    }
}

impl Batch {
    fn rows(self) -> Answer<Vec<PointStruct>> {
        let Self { ids, vectors, payloads } = self;
        let vectors = vectors.rows(ids.len())?;
        let payloads = match payloads {
            None => ids.iter().map(|_| None).collect(),
            Some(payloads) if payloads.len() == ids.len() => payloads,
            Some(_) => return Err(Failure::bad("Wrong input: a batch has as many payloads as ids")),
        };
        let rows = ids.into_iter().zip(vectors).zip(payloads);
        Ok(rows.map(|((id, vector), payload)| PointStruct { id, vector, payload }).collect())
    }
}

/// What came of a write.
#[derive(Debug, Clone, Copy, Serialize)]
pub(in super::super) struct UpdateResult {
    pub(in super::super) operation_id: u64,
    pub(in super::super) status: UpdateStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum UpdateStatus {
    /// It is done, and nobody wanted to wait for that.
    Acknowledged,
    /// It is done.
    Completed,
}

/// A point in an answer.
#[derive(Clone, Serialize)]
pub(in super::super) struct Record {
    pub(in super::super) id: PointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) payload: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) vector: Option<VectorStruct>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) order_value: Option<OrderValue>,
}

/// A point that was found.
#[derive(Clone, Serialize)]
pub(in super::super) struct ScoredPoint {
    pub(in super::super) id: PointId,
    pub(in super::super) version: u64,
    pub(in super::super) score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) payload: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) vector: Option<VectorStruct>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) order_value: Option<OrderValue>,
}

/// What points are ordered by.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(in super::super) enum OrderValue {
    Int(i64),
    Float(f64),
}
