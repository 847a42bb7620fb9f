//! Collections: how they are asked for and described.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Object;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::vectors::Metric;
use crate::vectors::blind::{FieldIndexSpec, IndexKind};

/// A new collection.
pub(in super::super) struct NewCollection {
    pub(in super::super) dense: BTreeMap<String, DenseParams>,
    pub(in super::super) sparse: BTreeMap<String, SparseParams>,
    pub(in super::super) metadata: Object,
}

/// A dense vector of each point.
#[derive(Clone, Copy)]
pub(in super::super) struct DenseParams {
    pub(in super::super) size: usize,
    pub(in super::super) metric: Metric,
}

/// A sparse one.
#[derive(Clone, Copy)]
pub(in super::super) struct SparseParams {
    pub(in super::super) idf: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct CreateBody {
    #[serde(default)]
    vectors: Option<VectorsBody>,
    #[serde(default)]
    sparse_vectors: Option<BTreeMap<String, SparseBody>>,
    #[serde(default)]
    metadata: Option<Object>,
    #[serde(default)]
    shard_number: Option<u32>,
    #[serde(default)]
    sharding_method: Option<String>,
    #[serde(default)]
    replication_factor: Option<u32>,
    #[serde(default)]
    strict_mode_config: Option<Value>,
    #[serde(default)]
    init_from: Option<Value>,
    // How Qdrant's own engine keeps and walks what it has: answers are the same without.
    #[serde(default, rename = "write_consistency_factor")]
    _write_consistency_factor: Option<u32>,
    #[serde(default, rename = "on_disk_payload")]
    _on_disk_payload: Option<bool>,
    #[serde(default, rename = "payload")]
    _payload: Option<IgnoredAny>,
    #[serde(default, rename = "id_tracker")]
    _id_tracker: Option<IgnoredAny>,
    #[serde(default, rename = "hnsw_config")]
    _hnsw_config: Option<IgnoredAny>,
    #[serde(default, rename = "wal_config")]
    _wal_config: Option<IgnoredAny>,
    #[serde(default, rename = "optimizers_config")]
    _optimizers_config: Option<IgnoredAny>,
    #[serde(default, rename = "quantization_config")]
    _quantization_config: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum VectorsBody {
    One(VectorBody),
    Named(BTreeMap<String, VectorBody>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorBody {
    size: usize,
    distance: Distance,
    #[serde(default)]
    datatype: Option<String>,
    #[serde(default)]
    multivector_config: Option<Value>,
    #[serde(default, rename = "hnsw_config")]
    _hnsw_config: Option<IgnoredAny>,
    #[serde(default, rename = "quantization_config")]
    _quantization_config: Option<IgnoredAny>,
    #[serde(default, rename = "on_disk")]
    _on_disk: Option<bool>,
    #[serde(default, rename = "memory")]
    _memory: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SparseBody {
    #[serde(default)]
    modifier: Option<Modifier>,
    #[serde(default, rename = "index")]
    _index: Option<IgnoredAny>,
}

/// How vectors are compared, in Qdrant's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(in super::super) enum Distance {
    Cosine,
    Euclid,
    Dot,
    Manhattan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Modifier {
    None,
    Idf,
}

impl Distance {
    pub(in super::super) fn metric(self) -> Answer<Metric> {
        match self {
            Distance::Cosine => Ok(Metric::Cosine),
            Distance::Euclid => Ok(Metric::Euclid),
            Distance::Dot => Ok(Metric::Dot),
            Distance::Manhattan => Err(Failure::unsupported(
                "vectors are not compared by their Manhattan distance here: use `Euclid`, `Dot` or `Cosine`",
            )),
        }
    }

    pub(in super::super) fn of(metric: Metric) -> Self {
        match metric {
            Metric::Cosine => Distance::Cosine,
            Metric::Euclid => Distance::Euclid,
            Metric::Dot => Distance::Dot,
        }
    }
}

/// What a collection would need that is not here, however it was asked for.
#[derive(Default)]
pub(in super::super) struct Demands {
    pub(in super::super) multivector: bool,
    pub(in super::super) narrow: bool,
    pub(in super::super) shards: u32,
    pub(in super::super) replicas: u32,
    pub(in super::super) custom_sharding: bool,
    pub(in super::super) strict: bool,
    pub(in super::super) copied: bool,
}

impl Demands {
    pub(in super::super) fn check(&self) -> Answer<()> {
        let refused = [
            (self.multivector, super::vector::Other::Multi.refusal().message().to_owned()),
            (self.narrow, "vectors are kept as they are given, in 32 bits: leave out `datatype`".into()),
            (
                self.shards > 1 || self.custom_sharding,
                "a collection is sealed and searched as a whole: leave out `shard_number` and `sharding_method`, and \
                 use several collections if you need parts"
                    .into(),
            ),
            (
                self.replicas > 1,
                "this store keeps one copy: leave out `replication_factor`, and have backups made".into(),
            ),
            (
                self.strict,
                "bounds are set by the operator, not for each collection: leave out `strict_mode_config`".into(),
            ),
            (self.copied, "collections are not copied here: create one, and write the points into it".into()),
        ];
        match refused.into_iter().find(|(asked, _)| *asked) {
            Some((_, why)) => Err(Failure::unsupported(why)),
            None => Ok(()),
        }
    }
}

impl TryFrom<CreateBody> for NewCollection {
    type Error = Failure;

    fn try_from(body: CreateBody) -> Answer<Self> {
        let vectors = match body.vectors {
            Some(VectorsBody::One(vector)) => BTreeMap::from([(String::new(), vector)]),
            Some(VectorsBody::Named(vectors)) => vectors,
            None => BTreeMap::new(),
        };
        let strict = body.strict_mode_config.is_some_and(|config| config.get("enabled") == Some(&Value::Bool(true)));
        let demands = Demands {
            multivector: vectors.values().any(|vector| is_set(vector.multivector_config.as_ref())),
            narrow: vectors.values().any(|vector| vector.datatype.as_ref().is_some_and(|kind| kind != "float32")),
            shards: body.shard_number.unwrap_or(1),
            replicas: body.replication_factor.unwrap_or(1),
            custom_sharding: body.sharding_method.is_some_and(|method| method != "auto"),
            strict,
            copied: is_set(body.init_from.as_ref()),
        };
        demands.check()?;
        let dense = vectors
            .into_iter()
            .map(|(name, vector)| Ok((name, DenseParams { size: vector.size, metric: vector.distance.metric()? })));
        let sparse = body.sparse_vectors.unwrap_or_default().into_iter();
        let sparse = sparse.map(|(name, body)| (name, SparseParams { idf: body.modifier == Some(Modifier::Idf) }));
        Ok(Self {
            dense: dense.collect::<Answer<_>>()?,
            sparse: sparse.collect(),
            metadata: body.metadata.unwrap_or_default(),
        })
    }
}

fn is_set(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct UpdateBody {
    #[serde(default)]
    pub(in super::super) metadata: Option<Object>,
    #[serde(default)]
    pub(in super::super) params: Option<Value>,
    #[serde(default)]
    pub(in super::super) strict_mode_config: Option<Value>,
    #[serde(default)]
    pub(in super::super) sparse_vectors: Option<BTreeMap<String, Value>>,
    #[serde(default, rename = "vectors")]
    _vectors: Option<IgnoredAny>,
    #[serde(default, rename = "optimizers_config")]
    _optimizers_config: Option<IgnoredAny>,
    #[serde(default, rename = "hnsw_config")]
    _hnsw_config: Option<IgnoredAny>,
    #[serde(default, rename = "quantization_config")]
    _quantization_config: Option<IgnoredAny>,
}

/// What is to change about a collection.
pub(in super::super) struct Change {
    pub(in super::super) metadata: Object,
}

impl TryFrom<UpdateBody> for Change {
    type Error = Failure;

    fn try_from(body: UpdateBody) -> Answer<Self> {
        let replicas = body.params.as_ref().and_then(|params| params.get("replication_factor")?.as_u64());
        let strict = body.strict_mode_config.is_some_and(|config| config.get("enabled") == Some(&Value::Bool(true)));
        let replicas = u32::try_from(replicas.unwrap_or(1)).unwrap_or(u32::MAX);
        Demands { replicas, strict, ..Demands::default() }.check()?;
        if body.sparse_vectors.unwrap_or_default().values().any(|params| is_set(params.get("modifier"))) {
            return Err(fixed_vectors());
        }
        Ok(Self { metadata: body.metadata.unwrap_or_default() })
    }
}

/// What a collection is made of does not change.
pub(in super::super) fn fixed_vectors() -> Failure {
    Failure::unsupported(
        "the vectors of a collection are fixed when it is made, since every point is sealed together with them: \
         create a collection with the vectors that you want, write the points into it, and switch an alias",
    )
}

/// A change of names.
#[derive(Deserialize)]
pub(in super::super) enum AliasAction {
    #[serde(rename = "create_alias")]
    Create(CreateAlias),
    #[serde(rename = "delete_alias")]
    Delete(DeleteAlias),
    #[serde(rename = "rename_alias")]
    Rename(RenameAlias),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct CreateAlias {
    pub(in super::super) collection_name: String,
    pub(in super::super) alias_name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct DeleteAlias {
    pub(in super::super) alias_name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RenameAlias {
    pub(in super::super) old_alias_name: String,
    pub(in super::super) new_alias_name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct AliasesBody {
    pub(in super::super) actions: Vec<AliasAction>,
}

#[derive(Serialize)]
pub(in super::super) struct Alias {
    pub(in super::super) alias_name: String,
    pub(in super::super) collection_name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct IndexBody {
    pub(in super::super) field_name: String,
    #[serde(default)]
    pub(in super::super) field_schema: Option<Value>,
}

/// The kinds of payload indexes.
pub(in super::super) const INDEX_KINDS: [&str; 8] =
    ["keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid"];

/// What a collection is and holds.
pub(in super::super) struct Info {
    pub(in super::super) dense: BTreeMap<String, DenseParams>,
    pub(in super::super) sparse: BTreeMap<String, SparseParams>,
    pub(in super::super) points: usize,
    pub(in super::super) indexed_vectors: usize,
    /// Declared fields of the payload: an object with `type` and what else was said of them.
    pub(in super::super) indexes: BTreeMap<String, Value>,
    pub(in super::super) metadata: Object,
}

impl Info {
    /// As Qdrant describes one, with the settings that a new collection has there.
    pub(in super::super) fn to_json(&self) -> Value {
        let dense = |params: &DenseParams| json!({"size": params.size, "distance": Distance::of(params.metric)});
        let vectors = match self.dense.get("") {
            Some(params) if self.dense.len() == 1 => dense(params),
            _ => self.dense.iter().map(|(name, params)| (name.clone(), dense(params))).collect::<Object>().into(),
        };
        let mut params = json!({
            "vectors": vectors,
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": true,
        });
        if !self.sparse.is_empty() {
            let sparse = |params: &SparseParams| if params.idf { json!({"modifier": "idf"}) } else { json!({}) };
            params["sparse_vectors"] =
                self.sparse.iter().map(|(name, params)| (name.clone(), sparse(params))).collect::<Object>().into();
        }
        let mut config = json!({
            "params": params,
            "hnsw_config": {
                "m": 16, "ef_construct": 100, "full_scan_threshold": 10_000, "max_indexing_threads": 0, "on_disk": false
            },
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5
            },
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "quantization_config": null,
        });
        if !self.metadata.is_empty() {
            config["metadata"] = self.metadata.clone().into();
        }
        let schema = |declared: &Value| {
            let kind = index_kind(declared);
            let mut info = json!({"data_type": kind, "points": self.points});
            if declared.as_object().is_some_and(|declared| declared.len() > 1) {
                info["params"] = declared.clone();
            }
            info
        };
        json!({
            "status": "green",
            "optimizer_status": "ok",
            "points_count": self.points,
            "indexed_vectors_count": self.indexed_vectors,
            "segments_count": 1,
            "config": config,
            "payload_schema": self.indexes.iter().map(|(field, d)| (field.clone(), schema(d))).collect::<Object>(),
        })
    }
}

/// What kind of index was declared.
pub(in super::super) fn index_kind(declared: &Value) -> &str {
    declared.get("type").and_then(Value::as_str).unwrap_or("keyword")
}

/// A declaration as it is kept: an object with its `type`.
pub(in super::super) fn index_declaration(schema: Option<Value>) -> Answer<Value> {
    let wrong = || Failure::bad(format!("Wrong input: a field is declared as one of {}", INDEX_KINDS.join(", ")));
    let declared = match schema {
        Some(Value::String(kind)) => json!({"type": kind}),
        Some(declared @ Value::Object(_)) => declared,
        Some(_) => return Err(wrong()),
        None => {
            return Err(Failure::bad(
                "Wrong input: the type of the field is not known from its values, which are sealed: name it with \
                 `field_schema`",
            ));
        }
    };
    if is_set(declared.get("nested")) {
        return Err(Failure::unsupported(
            "fields have the meaning of those without an index, and `nested` would give `is_empty` another: leave it \
             out, and ask by a `nested` condition what has to hold for one object",
        ));
    }
    match declared.get("type").and_then(Value::as_str) {
        Some(kind) if INDEX_KINDS.contains(&kind) => Ok(declared),
        _ => Err(wrong()),
    }
}

/// How the engine has to know a declared field, in a mode in which it decides filters.
pub(in super::super) fn index_spec(declared: &Value) -> Answer<FieldIndexSpec> {
    let kind = match index_kind(declared) {
        // Places are values of another kind in any: the engine finds all that have one, and memory decides the rest. Of
        // truth values it learns the least where a field is something else.
        "geo" => IndexKind::Bool,
        kind => kind.parse::<IndexKind>()?,
    };
    let said = |key: &str| declared.get(key).filter(|value| !value.is_null());
    let mut spec = FieldIndexSpec::new(kind);
    if kind == IndexKind::Keyword && said("prefix").is_some_and(|prefix| *prefix != Value::Bool(false)) {
        spec = spec.with_prefix();
    }
    if kind == IndexKind::Integer && said("range") == Some(&Value::Bool(false)) {
        spec = spec.without_range();
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(body: Value) -> Answer<NewCollection> {
        serde_json::from_value::<CreateBody>(body).map_err(|e| Failure::bad(e.to_string()))?.try_into()
    }

    #[test]
    fn collections_are_asked_for_in_all_forms() {
        let one = create(json!({"vectors": {"size": 4, "distance": "Cosine"}})).unwrap();
        assert!(one.dense[""].size == 4 && one.dense[""].metric == Metric::Cosine);
        let body = json!({
            "vectors": {"a": {"size": 4, "distance": "Dot", "on_disk": true}, "b": {"size": 2, "distance": "Euclid"}},
            "sparse_vectors": {"s": {"modifier": "idf"}, "t": {"index": {"on_disk": false}}},
            "hnsw_config": {"m": 0}, "shard_number": 1, "metadata": {"x": 1},
        });
        let many = create(body).unwrap();
        assert_eq!(many.dense.len(), 2);
        assert!(many.sparse["s"].idf && !many.sparse["t"].idf && many.metadata["x"] == 1);
    }

    /// Guards against a collection that is not what was asked for.
    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        let vector = json!({"size": 4, "distance": "Cosine"});
        for (key, value) in [
            ("shard_number", json!(2)),
            ("sharding_method", json!("custom")),
            ("replication_factor", json!(2)),
            ("strict_mode_config", json!({"enabled": true})),
            ("init_from", json!({"collection": "x"})),
            ("vectors", json!({"size": 4, "distance": "Manhattan"})),
            ("vectors", json!({"size": 4, "distance": "Cosine", "datatype": "uint8"})),
            ("vectors", json!({"size": 4, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}})),
        ] {
            let mut body = json!({"vectors": vector});
            body[key] = value;
            let failure = create(body).err().expect(key);
            assert_eq!(failure.code(), super::super::super::failure::Code::Unsupported, "{key}");
        }
        assert!(create(json!({"vectors": vector, "no_such_thing": 1})).is_err());
    }

    #[test]
    fn fields_are_declared_by_a_known_type() {
        assert_eq!(index_declaration(Some(json!("keyword"))).unwrap(), json!({"type": "keyword"}));
        assert!(index_declaration(Some(json!({"type": "text", "lowercase": true}))).is_ok());
        assert!(index_declaration(Some(json!({"type": "keyword", "nested": null}))).is_ok());
        let nested = json!({"type": "keyword", "nested": "offers"});
        for bad in [None, Some(json!("x")), Some(json!({"lowercase": true})), Some(json!(7)), Some(nested)] {
            assert!(index_declaration(bad).is_err());
        }
    }

    /// Guards against an engine that knows more of a field than was asked for, or cannot answer what was.
    #[test]
    fn the_engine_gets_to_know_what_was_declared() {
        let spec = |declared: Value| index_spec(&index_declaration(Some(declared)).unwrap());
        let plain = FieldIndexSpec::new;
        for (declared, expected) in [
            (json!("keyword"), plain(IndexKind::Keyword)),
            (json!({"type": "keyword", "is_tenant": true, "prefix": null}), plain(IndexKind::Keyword)),
            (json!({"type": "keyword", "prefix": false}), plain(IndexKind::Keyword)),
            (json!({"type": "keyword", "prefix": {}}), plain(IndexKind::Keyword).with_prefix()),
            (json!("integer"), plain(IndexKind::Integer)),
            (json!({"type": "integer", "lookup": true, "range": true}), plain(IndexKind::Integer)),
            (json!({"type": "integer", "range": false}), plain(IndexKind::Integer).without_range()),
            (json!({"type": "float", "range": false}), plain(IndexKind::Float)),
            (json!("bool"), plain(IndexKind::Bool)),
            (json!("datetime"), plain(IndexKind::Datetime)),
            (json!("uuid"), plain(IndexKind::Uuid)),
            (json!("geo"), plain(IndexKind::Bool)),
        ] {
            assert_eq!(spec(declared).unwrap(), expected);
        }
        assert!(index_spec(&json!({"type": "text"})).is_err());
    }
}
