//! Declared fields: messages on one side, what REST would have said on the other.

use qdrant_client::qdrant as wire;
use qdrant_client::qdrant::payload_index_params::IndexParams;
use serde_json::{Value, json};

use super::input::missing;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::Object;
use crate::server::qdrant::model::collections::index_kind;

/// The type of a field with all that is said of it, if its type is said.
pub(super) fn declared(kind: Option<i32>, params: Option<wire::PayloadIndexParams>) -> Answer<Option<Value>> {
    let kind = kind.map(wire::FieldType::try_from).transpose();
    let kind = kind.map_err(|_| missing("a type of field that is known"))?.map(kind_name);
    let Some(params) = params.and_then(|params| params.index_params) else { return Ok(kind.map(Value::from)) };
    let said = said(params);
    if kind.is_some_and(|kind| kind != index_kind(&said)) {
        return Err(Failure::bad("Wrong input: the parameters of the field are those of another type"));
    }
    Ok(Some(said))
}

/// The same the other way round; nothing where nothing but the type was said.
#[expect(deprecated, reason = "earlier clients look at `on_disk`")]
pub(super) fn params(declared: &Value) -> Option<wire::PayloadIndexParams> {
    let said = declared.as_object().filter(|said| said.len() > 1)?;
    let flag = |key: &str| said.get(key).and_then(Value::as_bool);
    let (on_disk, enable_hnsw, is_principal) = (flag("on_disk"), flag("enable_hnsw"), flag("is_principal"));
    let (memory, nested) = (memory_of(said), None);
    let params = match index_kind(declared) {
        "keyword" => IndexParams::KeywordIndexParams(wire::KeywordIndexParams {
            is_tenant: flag("is_tenant"),
            on_disk,
            enable_hnsw,
            prefix: said.get("prefix").filter(|prefix| !prefix.is_null()).map(|_| wire::KeywordPrefixParams {}),
            memory,
            nested,
        }),
        "integer" => IndexParams::IntegerIndexParams(wire::IntegerIndexParams {
            lookup: flag("lookup"),
            range: flag("range"),
            is_principal,
            on_disk,
            enable_hnsw,
            memory,
            nested,
        }),
        "float" => {
            IndexParams::FloatIndexParams(wire::FloatIndexParams { on_disk, is_principal, enable_hnsw, memory, nested })
        }
        "geo" => IndexParams::GeoIndexParams(wire::GeoIndexParams { on_disk, enable_hnsw, memory, nested }),
        "bool" => IndexParams::BoolIndexParams(wire::BoolIndexParams { on_disk, enable_hnsw, memory, nested }),
        "datetime" => IndexParams::DatetimeIndexParams(wire::DatetimeIndexParams {
            on_disk,
            is_principal,
            enable_hnsw,
            memory,
            nested,
        }),
        "uuid" => IndexParams::UuidIndexParams(wire::UuidIndexParams {
            is_tenant: flag("is_tenant"),
            on_disk,
            enable_hnsw,
            memory,
            nested,
        }),
        _ => return None,
    };
    Some(wire::PayloadIndexParams { index_params: Some(params) })
}

#[expect(deprecated, reason = "earlier clients send `on_disk`")]
fn said(params: IndexParams) -> Value {
    let mut said = match params {
        IndexParams::KeywordIndexParams(p) => json!({
            "type": "keyword", "is_tenant": p.is_tenant, "on_disk": p.on_disk, "enable_hnsw": p.enable_hnsw,
            "prefix": p.prefix.map(|_| json!({})), "memory": memory(p.memory), "nested": p.nested,
        }),
        IndexParams::IntegerIndexParams(p) => json!({
            "type": "integer", "lookup": p.lookup, "range": p.range, "is_principal": p.is_principal,
            "on_disk": p.on_disk, "enable_hnsw": p.enable_hnsw, "memory": memory(p.memory), "nested": p.nested,
        }),
        IndexParams::FloatIndexParams(p) => json!({
            "type": "float", "is_principal": p.is_principal, "on_disk": p.on_disk, "enable_hnsw": p.enable_hnsw,
            "memory": memory(p.memory), "nested": p.nested,
        }),
        IndexParams::GeoIndexParams(p) => json!({
            "type": "geo", "on_disk": p.on_disk, "enable_hnsw": p.enable_hnsw, "memory": memory(p.memory),
            "nested": p.nested,
        }),
        // Refused by its type, whatever else is said.
        IndexParams::TextIndexParams(_) => json!({"type": "text"}),
        IndexParams::BoolIndexParams(p) => json!({
            "type": "bool", "on_disk": p.on_disk, "enable_hnsw": p.enable_hnsw, "memory": memory(p.memory),
            "nested": p.nested,
        }),
        IndexParams::DatetimeIndexParams(p) => json!({
            "type": "datetime", "is_principal": p.is_principal, "on_disk": p.on_disk, "enable_hnsw": p.enable_hnsw,
            "memory": memory(p.memory), "nested": p.nested,
        }),
        IndexParams::UuidIndexParams(p) => json!({
            "type": "uuid", "is_tenant": p.is_tenant, "on_disk": p.on_disk, "enable_hnsw": p.enable_hnsw,
            "memory": memory(p.memory), "nested": p.nested,
        }),
    };
    if let Some(said) = said.as_object_mut() {
        said.retain(|_, value| !value.is_null());
    }
    said
}

/// Where the index is to be: it changes nothing here.
fn memory(memory: Option<i32>) -> Option<&'static str> {
    match wire::Memory::try_from(memory?) {
        Ok(wire::Memory::Cold) => Some("cold"),
        Ok(wire::Memory::Cached) => Some("cached"),
        Ok(wire::Memory::Pinned) => Some("pinned"),
        Ok(wire::Memory::Unknown) | Err(_) => None,
    }
}

fn memory_of(said: &Object) -> Option<i32> {
    let memory = match said.get("memory")?.as_str()? {
        "cold" => wire::Memory::Cold,
        "cached" => wire::Memory::Cached,
        "pinned" => wire::Memory::Pinned,
        _ => return None,
    };
    Some(memory.into())
}

fn kind_name(kind: wire::FieldType) -> &'static str {
    match kind {
        wire::FieldType::Keyword => "keyword",
        wire::FieldType::Integer => "integer",
        wire::FieldType::Float => "float",
        wire::FieldType::Geo => "geo",
        wire::FieldType::Text => "text",
        wire::FieldType::Bool => "bool",
        wire::FieldType::Datetime => "datetime",
        wire::FieldType::Uuid => "uuid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(params: IndexParams) -> wire::PayloadIndexParams {
        wire::PayloadIndexParams { index_params: Some(params) }
    }

    /// Guards against parameters that are lost on the way, or of another field than the one that is declared.
    #[test]
    fn what_is_said_of_a_field_goes_and_comes_back() {
        let keyword = || wire::KeywordIndexParams {
            is_tenant: Some(true),
            prefix: Some(wire::KeywordPrefixParams {}),
            memory: Some(wire::Memory::Pinned.into()),
            ..wire::KeywordIndexParams::default()
        };
        let integer = || wire::IntegerIndexParams { range: Some(false), ..wire::IntegerIndexParams::default() };
        let uuid = || wire::UuidIndexParams { is_tenant: Some(false), ..wire::UuidIndexParams::default() };
        for (kind, params, expected) in [
            (
                Some(wire::FieldType::Keyword),
                of(IndexParams::KeywordIndexParams(keyword())),
                json!({"type": "keyword", "is_tenant": true, "prefix": {}, "memory": "pinned"}),
            ),
            (
                Some(wire::FieldType::Integer),
                of(IndexParams::IntegerIndexParams(integer())),
                json!({"type": "integer", "range": false}),
            ),
            (None, of(IndexParams::UuidIndexParams(uuid())), json!({"type": "uuid", "is_tenant": false})),
        ] {
            let said = declared(kind.map(i32::from), Some(params.clone())).unwrap().unwrap();
            assert_eq!(said, expected);
            assert_eq!(super::params(&said), Some(params));
        }
        let kind = |kind: wire::FieldType| Some(i32::from(kind));
        assert_eq!(declared(kind(wire::FieldType::Geo), None).unwrap(), Some(json!("geo")));
        assert_eq!(declared(None, None).unwrap(), None);
        assert_eq!(super::params(&json!({"type": "geo"})), None);
        let other = Some(of(IndexParams::IntegerIndexParams(integer())));
        assert!(declared(kind(wire::FieldType::Keyword), other).is_err());
        assert!(declared(Some(77), None).is_err());
    }
}
