//! Filters: messages made into the JSON that Qdrant's REST interface has for the same.

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{Condition, DatetimeRange, FieldCondition, Filter, GeoLineString, GeoPoint, Match};
use serde_json::{Value, json};

use super::input;
use crate::limits;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::{Object, RawFilter};

/// A filter.
pub(super) fn filter(filter: Filter) -> Answer<RawFilter> {
    Ok(RawFilter::from_value(&value(filter, 0)?)?)
}

/// One that may be left out.
pub(super) fn maybe(asked: Option<Filter>) -> Answer<Option<RawFilter>> {
    asked.map(filter).transpose()
}

fn value(filter: Filter, depth: usize) -> Answer<Value> {
    if depth >= limits::FILTER_DEPTH {
        return Err(Failure::bad(format!("a filter is nested deeper than {} levels", limits::FILTER_DEPTH)));
    }
    let Filter { should, must, must_not, min_should } = filter;
    let mut object = Object::new();
    for (name, part) in [("should", should), ("must", must), ("must_not", must_not)] {
        if !part.is_empty() {
            object.insert(name.to_owned(), conditions(part, depth)?);
        }
    }
    if let Some(some) = min_should {
        let some = json!({"conditions": conditions(some.conditions, depth)?, "min_count": some.min_count});
        object.insert("min_should".to_owned(), some);
    }
    Ok(object.into())
}

fn conditions(list: Vec<Condition>, depth: usize) -> Answer<Value> {
    Ok(list.into_iter().map(|one| condition(one, depth)).collect::<Answer<Vec<_>>>()?.into())
}

fn condition(condition: Condition, depth: usize) -> Answer<Value> {
    let none = || Failure::bad("Wrong input: a condition of the filter is empty");
    Ok(match condition.condition_one_of.ok_or_else(none)? {
        ConditionOneOf::Field(field) => field_condition(field)?,
        ConditionOneOf::IsEmpty(empty) => json!({"is_empty": {"key": empty.key}}),
        ConditionOneOf::IsNull(null) => json!({"is_null": {"key": null.key}}),
        ConditionOneOf::HasId(ids) => {
            let ids = ids.has_id.into_iter().map(|id| Ok(json!(input::id(id)?))).collect::<Answer<Vec<_>>>()?;
            json!({ "has_id": ids })
        }
        ConditionOneOf::HasVector(name) => json!({"has_vector": name.has_vector}),
        ConditionOneOf::Slice(slice) => json!({"slice": {"total": slice.total, "index": slice.index}}),
        ConditionOneOf::Nested(nested) => {
            json!({"nested": {"key": nested.key, "filter": value(nested.filter.unwrap_or_default(), depth + 1)?}})
        }
        ConditionOneOf::Filter(filter) => {
            let inner = value(filter, depth + 1)?;
            // One that asks nothing has no part by which it is known.
            if inner.as_object().is_some_and(Object::is_empty) { json!({"must": []}) } else { inner }
        }
    })
}

fn field_condition(field: FieldCondition) -> Answer<Value> {
    let FieldCondition {
        key,
        r#match,
        range,
        geo_bounding_box,
        geo_radius,
        values_count,
        geo_polygon,
        datetime_range,
        is_empty,
        is_null,
    } = field;
    let mut object = Object::new();
    object.insert("key".to_owned(), key.into());
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    if let Some(matching) = r#match {
        put("match", match_value(matching)?);
    }
    if let Some(range) = range {
        let [lt, gt, gte, lte] = [range.lt, range.gt, range.gte, range.lte].map(|bound| bound.map(Value::from));
        put("range", bounds([("lt", lt), ("gt", gt), ("gte", gte), ("lte", lte)]));
    }
    if let Some(range) = datetime_range {
        put("range", dates(range)?);
    }
    if let Some(area) = geo_bounding_box {
        put("geo_bounding_box", json!({"top_left": place(area.top_left)?, "bottom_right": place(area.bottom_right)?}));
    }
    if let Some(circle) = geo_radius {
        put("geo_radius", json!({"center": place(circle.center)?, "radius": f64::from(circle.radius)}));
    }
    if let Some(polygon) = geo_polygon {
        let exterior = line(polygon.exterior.unwrap_or_default())?;
        let interiors = polygon.interiors.into_iter().map(line).collect::<Answer<Vec<_>>>()?;
        put("geo_polygon", json!({ "exterior": exterior, "interiors": interiors }));
    }
    if let Some(count) = values_count {
        let [lt, gt, gte, lte] = [count.lt, count.gt, count.gte, count.lte].map(|bound| bound.map(Value::from));
        put("values_count", bounds([("lt", lt), ("gt", gt), ("gte", gte), ("lte", lte)]));
    }
    if let Some(flag) = is_empty {
        put("is_empty", flag.into());
    }
    if let Some(flag) = is_null {
        put("is_null", flag.into());
    }
    Ok(object.into())
}

fn bounds(bounds: [(&str, Option<Value>); 4]) -> Value {
    let set = bounds.into_iter().filter_map(|(name, bound)| Some((name.to_owned(), bound?)));
    set.collect::<Object>().into()
}

fn dates(range: DatetimeRange) -> Answer<Value> {
    let mut object = Object::new();
    for (name, bound) in [("lt", range.lt), ("gt", range.gt), ("gte", range.gte), ("lte", range.lte)] {
        if let Some(at) = bound {
            object.insert(name.to_owned(), input::date(at.seconds, at.nanos)?.into());
        }
    }
    Ok(object.into())
}

fn match_value(matching: Match) -> Answer<Value> {
    let none = || Failure::bad("Wrong input: a match of the filter is empty");
    Ok(match matching.match_value.ok_or_else(none)? {
        MatchValue::Keyword(value) => json!({ "value": value }),
        MatchValue::Integer(value) => json!({ "value": value }),
        MatchValue::Boolean(value) => json!({ "value": value }),
        MatchValue::Text(text) => json!({ "text": text }),
        MatchValue::TextAny(text) => json!({ "text_any": text }),
        MatchValue::Phrase(phrase) => json!({ "phrase": phrase }),
        MatchValue::Prefix(prefix) => json!({ "prefix": prefix }),
        MatchValue::Substring(part) => json!({ "substring": part }),
        MatchValue::Keywords(any) => json!({"any": any.strings}),
        MatchValue::Integers(any) => json!({"any": any.integers}),
        MatchValue::ExceptKeywords(except) => json!({"except": except.strings}),
        MatchValue::ExceptIntegers(except) => json!({"except": except.integers}),
    })
}

fn place(point: Option<GeoPoint>) -> Answer<Value> {
    let point = point.ok_or_else(|| Failure::bad("Wrong input: a place of the filter is missing"))?;
    Ok(json!({"lon": point.lon, "lat": point.lat}))
}

fn line(line: GeoLineString) -> Answer<Value> {
    let points = line.points.into_iter().map(|point| place(Some(point))).collect::<Answer<Vec<_>>>()?;
    Ok(json!({ "points": points }))
}
