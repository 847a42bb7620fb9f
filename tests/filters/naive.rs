//! Qdrant's filters once more, read from their canonical JSON, as plainly as they can be: slow, and without any of the
//! code that is tested. Only dates are read by the library that Qdrant uses, since that defines what a date is.

use std::hash::Hasher as _;

use serde_json::{Map, Value};
use strongroom::RecordId;
use strongroom::filter::Date;

use super::generate::Document;

/// What a condition is about: the payload, and the document unless it is only an object within one.
struct About<'a> {
    payload: &'a Map<String, Value>,
    document: Option<&'a Document>,
}

pub fn passes(filter: &Value, document: &Document) -> bool {
    filter_holds(filter, &About { payload: &document.payload(), document: Some(document) })
}

fn filter_holds(filter: &Value, about: &About<'_>) -> bool {
    let list = |name: &str| filter.get(name).map(|part| part.as_array().unwrap().clone()).unwrap_or_default();
    let count = |conditions: &[Value]| conditions.iter().filter(|c| condition_holds(c, about)).count();
    let (must, must_not, should) = (list("must"), list("must_not"), list("should"));
    let min_should = filter
        .get("min_should")
        .is_none_or(|m| count(m["conditions"].as_array().unwrap()) as u64 >= m["min_count"].as_u64().unwrap());
    count(&must) == must.len() && count(&must_not) == 0 && (should.is_empty() || count(&should) > 0) && min_should
}

fn condition_holds(condition: &Value, about: &About<'_>) -> bool {
    let fields = condition.as_object().unwrap();
    if let Some(key) = fields.get("key") {
        return field_holds(fields, &values(about.payload, key.as_str().unwrap()));
    }
    if let Some(field) = fields.get("is_empty") {
        return values(about.payload, field["key"].as_str().unwrap()).iter().all(empty);
    }
    if let Some(field) = fields.get("is_null") {
        return values(about.payload, field["key"].as_str().unwrap()).iter().any(null);
    }
    if let Some(nested) = fields.get("nested") {
        let key = nested["key"].as_str().unwrap();
        let key = if key.ends_with("[]") { key.to_owned() } else { format!("{key}[]") };
        let objects = values(about.payload, &key);
        return objects
            .iter()
            .filter_map(Value::as_object)
            .any(|object| filter_holds(&nested["filter"], &About { payload: object, document: None }));
    }
    let Some(document) = about.document else {
        return !["has_id", "has_vector", "slice"].iter().any(|name| fields.contains_key(*name))
            && filter_holds(condition, about);
    };
    if let Some(ids) = fields.get("has_id") {
        let id = document.id.to_string();
        return ids.as_array().unwrap().iter().any(|wanted| match wanted {
            Value::String(text) => *text == id,
            number => document.id == RecordId::Number(number.as_u64().unwrap()),
        });
    }
    if let Some(name) = fields.get("has_vector") {
        return document.vectors.iter().any(|v| v == name.as_str().unwrap());
    }
    if let Some(slice) = fields.get("slice") {
        #[expect(deprecated, reason = "the standard library's SipHash-2-4 with a zero key")]
        let mut hash = std::hash::SipHasher::new();
        match &document.id {
            RecordId::Number(n) => hash.write(&n.to_le_bytes()),
            RecordId::Uuid(u) => hash.write(u.as_bytes()),
            RecordId::Text(t) => hash.write(t.as_bytes()),
        }
        return hash.finish() % slice["total"].as_u64().unwrap() == slice["index"].as_u64().unwrap();
    }
    filter_holds(condition, about)
}

/// Every value that a path leads to.
fn values(payload: &Map<String, Value>, path: &str) -> Vec<Value> {
    let mut found = vec![Value::Object(payload.clone())];
    let mut rest = format!(".{path}");
    while !rest.is_empty() {
        let mut next = Vec::new();
        let taken = if rest.starts_with("[]") {
            found.iter().filter_map(Value::as_array).for_each(|items| next.extend(items.iter().cloned()));
            2
        } else if rest.starts_with('[') {
            let end = rest.find(']').unwrap();
            let at: usize = rest[1..end].parse().unwrap();
            next.extend(found.iter().filter_map(|v| v.as_array()?.get(at).cloned()));
            end + 1
        } else {
            let (key, end) = match rest[1..].strip_prefix('"') {
                Some(quoted) => {
                    let end = quoted.find('"').unwrap();
                    (&quoted[..end], end + 3)
                }
                None => {
                    let end = rest[1..].find(['.', '[']).map_or(rest.len(), |at| at + 1);
                    (&rest[1..end], end)
                }
            };
            next.extend(found.iter().filter_map(|v| v.as_object()?.get(key).cloned()));
            end
        };
        rest = rest[taken..].to_owned();
        found = next;
    }
    found
}

fn empty(value: &Value) -> bool {
    value.is_null() || *value == Value::Array(Vec::new())
}

fn null(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(|items| items.contains(&Value::Null))
}

/// A condition on a field, in canonical form: with one check.
fn field_holds(condition: &Map<String, Value>, values: &[Value]) -> bool {
    let (name, check) = condition.iter().find(|(name, _)| *name != "key").unwrap();
    match name.as_str() {
        "values_count" => {
            let count = |value: &Value| match value {
                Value::Null => 0,
                Value::Array(items) => items.len(),
                _ => 1,
            };
            let counts = if values.is_empty() { vec![0] } else { values.iter().map(count).collect() };
            counts.into_iter().any(|n| within(check, |bound| n.cmp(&(bound.as_u64().unwrap() as usize)).into()))
        }
        "is_empty" if values.is_empty() => check == true,
        "is_empty" => values.iter().any(|v| empty(v) == (check == true)),
        "is_null" if values.is_empty() => check == false,
        "is_null" => values.iter().any(|v| null(v) == (check == true)),
        name => {
            let single = values.iter().flat_map(|value| match value {
                Value::Array(items) => items.clone(),
                one => vec![one.clone()],
            });
            single.into_iter().any(|value| value_holds(name, check, &value))
        }
    }
}

/// Whether all bounds hold of what `order` compares with them.
fn within(range: &Value, order: impl Fn(&Value) -> Option<std::cmp::Ordering>) -> bool {
    range.as_object().unwrap().iter().all(|(name, bound)| {
        order(bound).is_some_and(|order| match name.as_str() {
            "lt" => order.is_lt(),
            "gt" => order.is_gt(),
            "lte" => order.is_le(),
            "gte" => order.is_ge(),
            _ => panic!("{name}"),
        })
    })
}

fn value_holds(name: &str, check: &Value, value: &Value) -> bool {
    match name {
        "match" => match_holds(check.as_object().unwrap(), value),
        "range" if check.as_object().unwrap().values().any(Value::is_string) => {
            let Some(Ok(date)) = value.as_str().map(str::parse::<Date>) else { return false };
            within(check, |bound| date.partial_cmp(&bound.as_str().unwrap().parse::<Date>().unwrap()))
        }
        "range" => {
            let Some(number) = value.as_number().and_then(serde_json::Number::as_f64) else { return false };
            within(check, |bound| number.partial_cmp(&bound.as_f64().unwrap()))
        }
        _ => {
            let Some(at) = point(value) else { return false };
            match name {
                "geo_bounding_box" => in_rectangle(check, at),
                "geo_radius" => distance(point(&check["center"]).unwrap(), at) < check["radius"].as_f64().unwrap(),
                "geo_polygon" => {
                    let holes = check.get("interiors").and_then(Value::as_array).cloned().unwrap_or_default();
                    in_ring(&check["exterior"], at) && !holes.iter().any(|hole| in_ring(hole, at))
                }
                other => panic!("{other}"),
            }
        }
    }
}

fn match_holds(check: &Map<String, Value>, value: &Value) -> bool {
    let (kind, wanted) = check.iter().next().unwrap();
    // 1.0 is no integer, and 2^63 is one that Qdrant does not have.
    let same = |wanted: &Value| {
        wanted == value && (!value.is_number() || value.to_string().parse::<i64>().is_ok()) && !value.is_null()
    };
    match (kind.as_str(), value) {
        ("value", _) => same(wanted),
        ("any", _) => wanted.as_array().unwrap().iter().any(same),
        ("except", _) => !value.is_null() && !wanted.as_array().unwrap().iter().any(same),
        ("prefix", Value::String(text)) => text.starts_with(wanted.as_str().unwrap()),
        ("substring", Value::String(text)) => text.contains(wanted.as_str().unwrap()),
        ("text" | "text_any" | "phrase", Value::String(text)) => {
            let (text, wanted) = (words(text), words(wanted.as_str().unwrap()));
            match kind.as_str() {
                "text" => !wanted.is_empty() && wanted.iter().all(|w| text.contains(w)),
                "text_any" => wanted.iter().any(|w| text.contains(w)),
                _ => !wanted.is_empty() && (0..text.len()).any(|from| text[from..].starts_with(&wanted)),
            }
        }
        _ => false,
    }
}

fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.chars() {
        if c.is_alphanumeric() {
            words.last_mut().unwrap().push(c);
        } else {
            words.push(String::new());
        }
    }
    words.iter().filter(|w| !w.is_empty()).map(|w| w.to_lowercase()).collect()
}

fn point(value: &Value) -> Option<(f64, f64)> {
    Some((value.as_object()?.get("lon")?.as_f64()?, value.as_object()?.get("lat")?.as_f64()?))
}

fn in_rectangle(check: &Value, (lon, lat): (f64, f64)) -> bool {
    let ((west, north), (east, south)) = (point(&check["top_left"]).unwrap(), point(&check["bottom_right"]).unwrap());
    let across = if west > east { lon > west || lon < east } else { lon > west && lon < east };
    across && lat > south && lat < north
}

/// On a sphere with the mean radius of the Earth, by the law of haversines.
fn distance((lon1, lat1): (f64, f64), (lon2, lat2): (f64, f64)) -> f64 {
    let (lat1, lat2, dlon) = (lat1.to_radians(), lat2.to_radians(), (lon2 - lon1).to_radians());
    let half = |angle: f64| (angle / 2.0).sin().powi(2);
    2.0 * 6_371_008.8 * (half(lat2 - lat1) + lat1.cos() * lat2.cos() * half(dlon)).sqrt().asin()
}

/// By counting the sides that a ray to the east crosses.
fn in_ring(ring: &Value, (lon, lat): (f64, f64)) -> bool {
    let points: Vec<_> = ring["points"].as_array().unwrap().iter().map(|p| point(p).unwrap()).collect();
    let crossed = points.windows(2).filter(|side| {
        let ((x1, y1), (x2, y2)) = (side[0], side[1]);
        (y1 > lat) != (y2 > lat) && lon < (x2 - x1) * (lat - y1) / (y2 - y1) + x1
    });
    crossed.count() % 2 == 1
}
