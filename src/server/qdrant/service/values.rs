//! Values of payloads that are counted, grouped or ordered by.

use serde_json::Value;
use uuid::Uuid;

use crate::filter::Date;
use crate::server::qdrant::model::points::OrderValue;
use crate::server::qdrant::model::query::{FacetValue, GroupId};

/// The value as one that is counted, if it can be.
pub(super) fn facet(value: &Value) -> Option<FacetValue> {
    match value {
        Value::Bool(flag) => Some(FacetValue::Bool(*flag)),
        Value::Number(n) => n.as_i64().map(FacetValue::Int),
        // A UUID is one value in all its forms.
        Value::String(words) => Some(FacetValue::Words(match Uuid::try_parse(words) {
            Ok(uuid) => uuid.hyphenated().to_string(),
            Err(_) => words.clone(),
        })),
        _ => None,
    }
}

/// The value as one that is grouped by, if it can be.
pub(super) fn group(value: &Value) -> Option<GroupId> {
    match value {
        Value::Number(n) => n.as_u64().map(GroupId::Unsigned).or_else(|| n.as_i64().map(GroupId::Signed)),
        Value::String(words) => Some(GroupId::Words(words.clone())),
        _ => None,
    }
}

/// The value as one that is ordered by, if it can be: a number, or a date as its microseconds.
pub(super) fn order(value: &Value) -> Option<OrderValue> {
    match value {
        Value::Number(n) => match n.as_i64() {
            Some(n) => Some(OrderValue::Int(n)),
            None => n.as_f64().map(OrderValue::Float),
        },
        Value::String(words) => date(words).map(OrderValue::Int),
        _ => None,
    }
}

/// The microseconds of a date, if the words are one.
pub(super) fn date(words: &str) -> Option<i64> {
    words.parse::<Date>().ok().map(Date::as_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_can_be_is_counted_grouped_and_ordered_by() {
        assert!(facet(&json!(7)) == Some(FacetValue::Int(7)) && facet(&json!(7.5)).is_none());
        let uuid = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26";
        assert!(facet(&json!(uuid.replace('-', ""))) == Some(FacetValue::Words(uuid.into())));
        assert!(group(&json!(true)).is_none() && group(&json!(-7)) == Some(GroupId::Signed(-7)));
        assert!(matches!(order(&json!("1970-01-01T00:00:01Z")), Some(OrderValue::Int(1_000_000))));
        assert!(order(&json!("x")).is_none() && order(&json!(true)).is_none());
        assert!(matches!(order(&json!(1.5)), Some(OrderValue::Float(_))));
    }
}
