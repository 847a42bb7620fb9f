//! Writing a filter in the form that Qdrant's REST interface reads, in one canonical way.

use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::erase::Erased;
use super::{Check, Condition, Filter, GeoBox, GeoPoint, Match, Range};

impl Filter {
    /// The filter as JSON: equal text for equal filters, and [`Filter::from_json`] reads it again.
    pub fn to_json(&self) -> String {
        Erased(filter(self)).0.to_string()
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Erased(filter(self)).0.serialize(serializer)
    }
}

// Keys are written in the order of the alphabet, so that the text is the same whether or not a map keeps their order.

fn filter(filter: &Filter) -> Value {
    let mut fields = Map::new();
    if let Some(m) = &filter.min_should {
        fields.insert("min_should".into(), json!({"conditions": conditions(&m.conditions), "min_count": m.min_count}));
    }
    for (name, part) in [("must", &filter.must), ("must_not", &filter.must_not), ("should", &filter.should)] {
        if !part.is_empty() {
            fields.insert(name.into(), conditions(part));
        }
    }
    Value::Object(fields)
}

fn conditions(conditions: &[Condition]) -> Value {
    conditions.iter().map(condition).collect()
}

fn condition(condition: &Condition) -> Value {
    match condition {
        Condition::Field(field) => field_condition(&field.key.to_string(), &field.check),
        Condition::IsEmpty(key) => json!({"is_empty": {"key": key.to_string()}}),
        Condition::IsNull(key) => json!({"is_null": {"key": key.to_string()}}),
        Condition::HasId(ids) => json!({"has_id": ids.iter().collect::<Vec<_>>()}),
        Condition::HasVector(name) => json!({"has_vector": name}),
        Condition::Slice(slice) => json!({"slice": {"index": slice.index, "total": slice.total}}),
        Condition::Nested { key, filter: inner } => {
            json!({"nested": {"filter": filter(inner), "key": key.to_string()}})
        }
        Condition::Filter(inner) => filter(inner),
    }
}

fn field_condition(key: &str, check: &Check) -> Value {
    match check {
        Check::Match(wanted) => json!({"key": key, "match": matching(wanted)}),
        Check::Range(range) => json!({"key": key, "range": bounds(range, |bound| json!(bound))}),
        Check::Dates(range) => json!({"key": key, "range": bounds(range, |bound| json!(bound.to_string()))}),
        Check::GeoBox(GeoBox { top_left, bottom_right }) => {
            json!({"geo_bounding_box": {"bottom_right": place(bottom_right), "top_left": place(top_left)}, "key": key})
        }
        Check::GeoRadius(area) => {
            json!({"geo_radius": {"center": place(&area.center), "radius": area.radius}, "key": key})
        }
        Check::GeoPolygon(area) => {
            let interiors: Vec<_> = area.interiors().map(line).collect();
            let mut polygon = json!({"exterior": line(area.exterior())});
            if !interiors.is_empty() {
                polygon["interiors"] = interiors.into();
            }
            json!({"geo_polygon": polygon, "key": key})
        }
        Check::ValuesCount(range) => json!({"key": key, "values_count": bounds(range, |bound| json!(bound))}),
        Check::IsEmpty(wanted) => json!({"is_empty": wanted, "key": key}),
        Check::IsNull(wanted) => json!({"is_null": wanted, "key": key}),
    }
}

fn matching(wanted: &Match) -> Value {
    match wanted {
        Match::Keyword(text) => json!({"value": text}),
        Match::Integer(number) => json!({"value": number}),
        Match::Bool(flag) => json!({"value": flag}),
        Match::Text(text) => json!({"text": text}),
        Match::TextAny(text) => json!({"text_any": text}),
        Match::Phrase(text) => json!({"phrase": text}),
        Match::Prefix(text) => json!({"prefix": text}),
        Match::Substring(text) => json!({"substring": text}),
        Match::AnyKeyword(texts) => json!({"any": texts}),
        Match::AnyInteger(numbers) => json!({"any": numbers}),
        Match::ExceptKeywords(texts) => json!({"except": texts}),
        Match::ExceptIntegers(numbers) => json!({"except": numbers}),
    }
}

fn bounds<T>(range: &Range<T>, write: impl Fn(&T) -> Value) -> Value {
    let all = [("gt", &range.gt), ("gte", &range.gte), ("lt", &range.lt), ("lte", &range.lte)];
    let there = all.into_iter().filter_map(|(name, bound)| Some((name.to_owned(), write(bound.as_ref()?))));
    Value::Object(there.collect())
}

fn line(points: impl Iterator<Item = GeoPoint>) -> Value {
    json!({"points": points.map(|p| place(&p)).collect::<Vec<_>>()})
}

fn place(point: &GeoPoint) -> Value {
    json!({"lat": point.lat(), "lon": point.lon()})
}
