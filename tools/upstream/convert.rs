//! Between Qdrant's messages and the engine's types.

use std::collections::HashMap;
use std::str::FromStr as _;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions as PayloadOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as VectorOptions;
use qdrant_client::qdrant::{
    self as api, CreateCollection, CreateFieldIndexCollection, FieldType, RetrievedPoint, WithPayloadSelector,
    WithVectorsSelector,
};
use qdrant_edge::{
    Distance, EdgeConfig, EdgeVectorParams, Filter, HnswIndexConfig, JsonPath, Payload, PayloadFieldSchema, PointId,
    PointStruct, Record, Vector, VectorInternal, VectorStructInternal, Vectors, WalOptions, WithPayloadInterface,
    WithVector,
};
use serde_json::{Map, Value, json};
use tonic::Status;

/// Bytes of one file of the engine's own log, which is never read.
const LOG_FILE_BYTES: usize = 4 << 20;

pub fn failed(e: qdrant_edge::OperationError) -> Status {
    Status::invalid_argument(format!("Wrong input: {e}"))
}

fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("the upstream for tests has no {what}"))
}

/// A shard for what was described.
pub fn config(description: &CreateCollection) -> Result<EdgeConfig, Status> {
    let config = description.vectors_config.as_ref().and_then(|config| config.config.as_ref());
    let vectors: HashMap<String, EdgeVectorParams> = match config {
        Some(Config::Params(params)) => HashMap::from([(String::new(), vector_params(params)?)]),
        Some(Config::ParamsMap(map)) => map
            .map
            .iter()
            .map(|(name, params)| Ok((name.clone(), vector_params(params)?)))
            .collect::<Result<_, Status>>()?,
        None => HashMap::new(),
    };
    if vectors.is_empty() {
        return Err(unsupported("collections without any vector"));
    }
    let hnsw_config = description.hnsw_config.as_ref().map_or_else(HnswIndexConfig::default, hnsw);
    let wal_options = Some(WalOptions { segment_capacity: LOG_FILE_BYTES, ..WalOptions::default() });
    Ok(EdgeConfig { vectors, hnsw_config, wal_options, ..EdgeConfig::default() })
}

fn vector_params(params: &api::VectorParams) -> Result<EdgeVectorParams, Status> {
    let distance = match params.distance() {
        api::Distance::Cosine => Distance::Cosine,
        api::Distance::Dot => Distance::Dot,
        api::Distance::Euclid => Distance::Euclid,
        api::Distance::Manhattan => Distance::Manhattan,
        api::Distance::UnknownDistance => return Err(Status::invalid_argument("Unknown distance")),
    };
    let size = usize::try_from(params.size).ok().filter(|size| (1..=65_536).contains(size));
    Ok(EdgeVectorParams {
        size: size.ok_or_else(|| Status::invalid_argument("Validation error in body: vector size"))?,
        distance,
        on_disk: None,
        multivector_config: None,
        datatype: None,
        quantization_config: None,
        hnsw_config: params.hnsw_config.as_ref().map(hnsw),
    })
}

fn hnsw(diff: &api::HnswConfigDiff) -> HnswIndexConfig {
    let size = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok());
    let default = HnswIndexConfig::default();
    HnswIndexConfig {
        m: size(diff.m).unwrap_or(default.m),
        ef_construct: size(diff.ef_construct).unwrap_or(default.ef_construct),
        full_scan_threshold: size(diff.full_scan_threshold).unwrap_or(default.full_scan_threshold),
        payload_m: size(diff.payload_m).or(default.payload_m),
        ..default
    }
}

pub fn id(id: &api::PointId) -> Result<PointId, Status> {
    match &id.point_id_options {
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(*number)),
        Some(PointIdOptions::Uuid(text)) => {
            let uuid = uuid::Uuid::parse_str(text);
            Ok(PointId::Uuid(uuid.map_err(|_| Status::invalid_argument(format!("Unable to parse UUID: {text}")))?))
        }
        None => Err(Status::invalid_argument("Malformed point id")),
    }
}

pub fn to_id(id: PointId) -> api::PointId {
    let options = match id {
        PointId::NumId(number) => PointIdOptions::Num(number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    api::PointId { point_id_options: Some(options) }
}

pub fn point(point: &api::PointStruct) -> Result<PointStruct, Status> {
    let id = id(point.id.as_ref().ok_or_else(|| Status::invalid_argument("Empty ID is not allowed"))?)?;
    let payload: Map<String, Value> =
        point.payload.iter().map(|(key, value)| (key.clone(), value.clone().into_json())).collect();
    let options = point.vectors.as_ref().and_then(|vectors| vectors.vectors_options.as_ref());
    let vectors = match options {
        Some(VectorsOptions::Vector(vector)) => Vectors::from(dense(vector)?),
        Some(VectorsOptions::Vectors(named)) => {
            let named: Vec<(String, Vector)> = named
                .vectors
                .iter()
                .map(|(name, vector)| Ok((name.clone(), Vector::new_dense(dense(vector)?))))
                .collect::<Result<_, Status>>()?;
            Vectors::new_named(named)
        }
        None => return Err(Status::invalid_argument("Expected some vectors")),
    };
    Ok(PointStruct::new(id, vectors, Value::Object(payload)))
}

fn dense(vector: &api::Vector) -> Result<Vec<f32>, Status> {
    match &vector.vector {
        Some(api::vector::Vector::Dense(dense)) => Ok(dense.data.clone()),
        Some(_) => Err(unsupported("other vectors than dense ones")),
        #[expect(deprecated, reason = "what clients before 1.16 send")]
        None => Ok(vector.data.clone()),
    }
}

pub fn path(path: &str) -> Result<JsonPath, Status> {
    JsonPath::from_str(path).map_err(|()| Status::invalid_argument(format!("`{path}` is no path")))
}

pub fn with_payload(selector: Option<&WithPayloadSelector>, default: bool) -> Result<WithPayloadInterface, Status> {
    match selector.and_then(|selector| selector.selector_options.as_ref()) {
        None => Ok(WithPayloadInterface::Bool(default)),
        Some(PayloadOptions::Enable(enable)) => Ok(WithPayloadInterface::Bool(*enable)),
        Some(PayloadOptions::Include(include)) => {
            let fields = include.fields.iter().map(|field| path(field));
            Ok(WithPayloadInterface::Fields(fields.collect::<Result<_, _>>()?))
        }
        Some(PayloadOptions::Exclude(_)) => Err(unsupported("excluded fields")),
    }
}

pub fn with_vectors(selector: Option<&WithVectorsSelector>) -> WithVector {
    match selector.and_then(|selector| selector.selector_options.as_ref()) {
        None => WithVector::Bool(false),
        Some(VectorOptions::Enable(enable)) => WithVector::Bool(*enable),
        Some(VectorOptions::Include(include)) => WithVector::Selector(include.names.clone()),
    }
}

pub fn record(record: Record) -> RetrievedPoint {
    RetrievedPoint {
        id: Some(to_id(record.id)),
        payload: payload(record.payload),
        vectors: record.vector.and_then(vectors),
        shard_key: None,
        order_value: None,
    }
}

pub fn payload(payload: Option<Payload>) -> HashMap<String, api::Value> {
    payload.map(|payload| payload.0).unwrap_or_default().into_iter().map(|(key, v)| (key, v.into())).collect()
}

pub fn vectors(vectors: VectorStructInternal) -> Option<api::VectorsOutput> {
    use api::vectors_output::VectorsOptions;
    let output = |data: Vec<f32>| api::VectorOutput {
        vector: Some(api::vector_output::Vector::Dense(api::DenseVector { data })),
        ..api::VectorOutput::default()
    };
    let options = match vectors {
        VectorStructInternal::Single(vector) => VectorsOptions::Vector(output(vector)),
        VectorStructInternal::Named(named) => {
            let dense = named.into_iter().filter_map(|(name, vector)| match vector {
                VectorInternal::Dense(data) => Some((name, output(data))),
                _ => None,
            });
            VectorsOptions::Vectors(api::NamedVectorsOutput { vectors: dense.collect() })
        }
        VectorStructInternal::MultiDense(_) => return None,
    };
    Some(api::VectorsOutput { vectors_options: Some(options) })
}

/// What an index is for: as the engine reads it from JSON.
pub fn schema(index: &CreateFieldIndexCollection) -> Result<PayloadFieldSchema, Status> {
    let params = index.field_index_params.as_ref().and_then(|params| params.index_params.as_ref());
    let json = match (index.field_type(), params) {
        (FieldType::Keyword, Some(IndexParams::KeywordIndexParams(params))) => {
            let mut json = json!({ "type": "keyword" });
            if let Some(is_tenant) = params.is_tenant {
                json["is_tenant"] = is_tenant.into();
            }
            if let Some(enable_hnsw) = params.enable_hnsw {
                json["enable_hnsw"] = enable_hnsw.into();
            }
            json
        }
        (FieldType::Keyword, None) => json!("keyword"),
        (FieldType::Integer, _) => json!("integer"),
        (FieldType::Float, None) => json!("float"),
        (FieldType::Bool, None) => json!("bool"),
        (FieldType::Uuid, None) => json!("uuid"),
        _ => return Err(unsupported("such an index")),
    };
    serde_json::from_value(json).map_err(|e| Status::invalid_argument(e.to_string()))
}

/// A filter, over the JSON form that the engine reads.
pub fn filter(filter: &api::Filter) -> Result<Filter, Status> {
    let json = filter_json(filter)?;
    serde_json::from_value(json).map_err(|e| Status::invalid_argument(format!("Malformed filter: {e}")))
}

fn filter_json(filter: &api::Filter) -> Result<Value, Status> {
    let all = |conditions: &[api::Condition]| conditions.iter().map(condition).collect::<Result<Vec<_>, _>>();
    let mut json = Map::new();
    for (clause, conditions) in [("should", &filter.should), ("must", &filter.must), ("must_not", &filter.must_not)] {
        if !conditions.is_empty() {
            json.insert(clause.into(), all(conditions)?.into());
        }
    }
    if let Some(min_should) = &filter.min_should {
        let conditions = all(&min_should.conditions)?;
        json.insert("min_should".into(), json!({ "conditions": conditions, "min_count": min_should.min_count }));
    }
    Ok(json.into())
}

fn condition(condition: &api::Condition) -> Result<Value, Status> {
    match condition.condition_one_of.as_ref().ok_or_else(|| Status::invalid_argument("an empty condition"))? {
        ConditionOneOf::Field(field) => field_json(field),
        ConditionOneOf::IsEmpty(empty) => Ok(json!({ "is_empty": { "key": empty.key } })),
        ConditionOneOf::IsNull(is_null) => Ok(json!({ "is_null": { "key": is_null.key } })),
        ConditionOneOf::HasId(has_id) => {
            let ids = has_id.has_id.iter().map(id).collect::<Result<Vec<_>, _>>()?;
            Ok(json!({ "has_id": ids }))
        }
        ConditionOneOf::Filter(filter) => filter_json(filter),
        ConditionOneOf::HasVector(vector) => Ok(json!({ "has_vector": vector.has_vector })),
        ConditionOneOf::Nested(nested) => {
            let filter = nested.filter.as_ref().map_or(Ok(json!({})), filter_json)?;
            Ok(json!({ "nested": { "key": nested.key, "filter": filter } }))
        }
        ConditionOneOf::Slice(_) => Err(unsupported("slices")),
    }
}

fn field_json(field: &api::FieldCondition) -> Result<Value, Status> {
    let mut json = json!({ "key": field.key });
    if let Some(value) = field.r#match.as_ref().and_then(|m| m.match_value.as_ref()) {
        json["match"] = match value {
            MatchValue::Keyword(keyword) => json!({ "value": keyword }),
            MatchValue::Integer(integer) => json!({ "value": integer }),
            MatchValue::Boolean(boolean) => json!({ "value": boolean }),
            MatchValue::Keywords(any) => json!({ "any": any.strings }),
            MatchValue::Integers(any) => json!({ "any": any.integers }),
            MatchValue::ExceptKeywords(except) => json!({ "except": except.strings }),
            MatchValue::ExceptIntegers(except) => json!({ "except": except.integers }),
            _ => return Err(unsupported("full-text matches")),
        };
    }
    if let Some(range) = &field.range {
        json["range"] = json!({ "lt": range.lt, "gt": range.gt, "gte": range.gte, "lte": range.lte });
    }
    if let Some(count) = &field.values_count {
        json["values_count"] = json!({ "lt": count.lt, "gt": count.gt, "gte": count.gte, "lte": count.lte });
    }
    if field.geo_bounding_box.is_some()
        || field.geo_radius.is_some()
        || field.geo_polygon.is_some()
        || field.datetime_range.is_some()
        || field.is_empty.is_some()
        || field.is_null.is_some()
    {
        return Err(unsupported("such a condition"));
    }
    Ok(json)
}
