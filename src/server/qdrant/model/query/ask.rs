//! The question itself, in one of its many forms.

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;

use super::{Ask, OrderBy, Strategy, Unoffered};
use crate::server::qdrant::model::Object;
use crate::server::qdrant::model::vector::VectorInput;

/// The question itself, in one of its many forms.
pub(in crate::server::qdrant) struct AskBody(pub(super) Ask);

/// A key, or all about the order.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(in crate::server::qdrant) enum OrderByBody {
    Key(String),
    Full(OrderBy),
}

impl From<OrderByBody> for OrderBy {
    fn from(body: OrderByBody) -> Self {
        match body {
            OrderByBody::Key(key) => Self { key, direction: None, start_from: None },
            OrderByBody::Full(order) => order,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecommendInput {
    #[serde(default)]
    positive: Option<Vec<VectorInput>>,
    #[serde(default)]
    negative: Option<Vec<VectorInput>>,
    #[serde(default)]
    strategy: Option<Strategy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RrfInput {
    #[serde(default)]
    k: Option<usize>,
    #[serde(default)]
    weights: Option<Vec<f32>>,
}

impl<'de> Deserialize<'de> for AskBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        ask_from(value).map(Self).map_err(de::Error::custom)
    }
}

fn ask_from(value: Value) -> serde_json::Result<Ask> {
    let Value::Object(mut object) = value else {
        return serde_json::from_value(value).map(Ask::Nearest);
    };
    let only = |object: &Object| -> serde_json::Result<()> {
        if object.is_empty() { Ok(()) } else { Err(de::Error::custom("a query is one thing only")) }
    };
    if let Some(nearest) = object.remove("nearest") {
        if object.remove("mmr").is_some_and(|mmr| !mmr.is_null()) {
            return Ok(Ask::Other(Unoffered::Mmr));
        }
        only(&object)?;
        return serde_json::from_value(nearest).map(Ask::Nearest);
    }
    if let Some(recommend) = object.remove("recommend") {
        only(&object)?;
        let RecommendInput { positive, negative, strategy } = serde_json::from_value(recommend)?;
        return Ok(Ask::Recommend {
            positive: positive.unwrap_or_default(),
            negative: negative.unwrap_or_default(),
            strategy: strategy.unwrap_or_default(),
        });
    }
    if let Some(order) = object.remove("order_by") {
        only(&object)?;
        return serde_json::from_value::<OrderByBody>(order).map(|order| Ask::OrderBy(order.into()));
    }
    if let Some(fusion) = object.remove("fusion") {
        only(&object)?;
        return match fusion.as_str() {
            Some("rrf") => Ok(Ask::Rrf { k: None, weights: Vec::new() }),
            Some("dbsf") => Ok(Ask::Dbsf),
            _ => Err(de::Error::custom("a fusion is `rrf` or `dbsf`")),
        };
    }
    if let Some(rrf) = object.remove("rrf") {
        only(&object)?;
        let RrfInput { k, weights } = serde_json::from_value(rrf)?;
        return Ok(Ask::Rrf { k, weights: weights.unwrap_or_default() });
    }
    if let Some(sample) = object.remove("sample") {
        only(&object)?;
        return if sample == "random" { Ok(Ask::Sample) } else { Err(de::Error::custom("a sample is `random`")) };
    }
    let others = [
        ("discover", Unoffered::Discover),
        ("context", Unoffered::Context),
        ("formula", Unoffered::Formula),
        ("relevance_feedback", Unoffered::Feedback),
    ];
    if let Some((_, other)) = others.into_iter().find(|(name, _)| object.contains_key(*name)) {
        return Ok(Ask::Other(other));
    }
    if object.contains_key("text") && !object.contains_key("model") {
        return Ok(Ask::Other(Unoffered::Text));
    }
    serde_json::from_value(Value::Object(object)).map(Ask::Nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(json: &str) -> serde_json::Result<Ask> {
        serde_json::from_str::<AskBody>(json).map(|body| body.0)
    }

    #[test]
    fn questions_are_read_in_all_their_forms() {
        let near = [
            "7",
            "[1, 2]",
            r#"{"nearest": [1, 2]}"#,
            r#"{"nearest": 7, "mmr": null}"#,
            r#"{"indices": [1], "values": [1]}"#,
            r#"{"nearest": {"indices": [1], "values": [1]}}"#,
        ];
        for json in near {
            assert!(matches!(ask(json).unwrap(), Ask::Nearest(_)), "{json}");
        }
        assert!(matches!(ask(r#"{"recommend": {"positive": [1]}}"#).unwrap(), Ask::Recommend { .. }));
        assert!(matches!(ask(r#"{"fusion": "rrf"}"#).unwrap(), Ask::Rrf { k: None, .. }));
        assert!(matches!(ask(r#"{"rrf": {"k": 3}}"#).unwrap(), Ask::Rrf { k: Some(3), .. }));
        assert!(matches!(ask(r#"{"order_by": "price"}"#).unwrap(), Ask::OrderBy(_)));
        assert!(matches!(ask(r#"{"sample": "random"}"#).unwrap(), Ask::Sample));
        for json in [r#"{"fusion": "x"}"#, r#"{"nearest": [1], "recommend": {}}"#, "null", "true", "{}"] {
            assert!(ask(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_not_offered_is_known_as_such() {
        for (json, what) in [
            (r#"{"discover": {"target": 1, "context": []}}"#, Unoffered::Discover),
            (r#"{"context": []}"#, Unoffered::Context),
            (r#"{"formula": {"sum": []}}"#, Unoffered::Formula),
            (r#"{"nearest": [1], "mmr": {"diversity": 0.5}}"#, Unoffered::Mmr),
            (r#"{"text": "words"}"#, Unoffered::Text),
        ] {
            assert!(matches!(ask(json).unwrap(), Ask::Other(other) if other == what), "{json}");
        }
    }
}
