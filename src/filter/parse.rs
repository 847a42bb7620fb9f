//! Reading a filter in the form of Qdrant's REST interface. What is unknown is refused, never passed over.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::limits;

use super::erase::Erased;
use super::{
    Check, Condition, Date, Filter, GeoBox, GeoPoint, GeoPolygon, GeoRadius, JsonPath, Match, MinShould, Range, Slice,
};

impl Filter {
    /// Reads a filter as Qdrant's REST interface has it: `{"must": [{"key": "city", "match": {"value": "Berlin"}}]}`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for what is no filter, is unknown or is beyond a
    /// bound.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > limits::FILTER_BYTES {
            return Err(Error::invalid(format!("a filter is larger than {} MiB", limits::FILTER_BYTES >> 20)));
        }
        let value = serde_json::from_slice(json).map_err(|e| Error::invalid("a filter is not JSON").with_source(e))?;
        Self::from_value(&Erased(value).0)
    }

    /// As [`Filter::from_json`], from JSON that has been read.
    pub fn from_value(value: &Value) -> Result<Self> {
        let filter = filter(value, 0)?;
        filter.validate()?;
        Ok(filter)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Erased(Value::deserialize(deserializer)?);
        Filter::from_value(&value.0).map_err(|e| match e.remedy() {
            Some(remedy) => D::Error::custom(format!("{e}: {remedy}")),
            None => D::Error::custom(e),
        })
    }
}

fn filter(value: &Value, depth: usize) -> Result<Filter> {
    if depth >= limits::FILTER_DEPTH {
        return Err(Error::invalid(format!("a filter is nested deeper than {} levels", limits::FILTER_DEPTH)));
    }
    let mut fields = Fields::of(value, "a filter")?;
    let mut part = |name| fields.take(name).map_or(Ok(Vec::new()), |value| conditions(value, depth));
    let (must, must_not, should) = (part("must")?, part("must_not")?, part("should")?);
    let min_should = fields.take("min_should").map(|value| min_should(value, depth)).transpose()?;
    fields.end()?;
    Ok(Filter { must, must_not, should, min_should })
}

fn min_should(value: &Value, depth: usize) -> Result<MinShould> {
    let mut fields = Fields::of(value, "`min_should`")?;
    let conditions = conditions(fields.need("conditions")?, depth)?;
    let min_count = count(fields.need("min_count")?, "min_count")?;
    fields.end()?;
    Ok(MinShould { conditions, min_count })
}

/// One condition or a list of them.
fn conditions(value: &Value, depth: usize) -> Result<Vec<Condition>> {
    match value {
        Value::Array(items) if items.len() > limits::FILTER_CONDITIONS => {
            Err(Error::invalid(format!("a filter has more than {} conditions", limits::FILTER_CONDITIONS)))
        }
        Value::Array(items) => items.iter().map(|item| condition(item, depth)).collect(),
        one => Ok(vec![condition(one, depth)?]),
    }
}

fn condition(value: &Value, depth: usize) -> Result<Condition> {
    let mut fields = Fields::of(value, "a condition")?;
    if let Some(key) = fields.take("key") {
        return field_condition(path(key)?, fields);
    }
    let condition = if let Some(value) = fields.take("is_empty") {
        Condition::IsEmpty(payload_field(value)?)
    } else if let Some(value) = fields.take("is_null") {
        Condition::IsNull(payload_field(value)?)
    } else if let Some(value) = fields.take("has_id") {
        Condition::HasId(items(value, "has_id")?.iter().map(record_id).collect::<Result<_>>()?)
    } else if let Some(value) = fields.take("has_vector") {
        Condition::HasVector(text(value, "has_vector")?)
    } else if let Some(value) = fields.take("slice") {
        let mut fields = Fields::of(value, "`slice`")?;
        let part = |value| u32::try_from(count(value, "slice")?).map_err(|_| not("a slice's part", "a number"));
        let slice = Slice { total: part(fields.need("total")?)?, index: part(fields.need("index")?)? };
        fields.end()?;
        Condition::Slice(slice)
    } else if let Some(value) = fields.take("nested") {
        let mut fields = Fields::of(value, "`nested`")?;
        let key = path(fields.need("key")?)?;
        let filter = Box::new(filter(fields.need("filter")?, depth + 1)?);
        fields.end()?;
        Condition::Nested { key, filter }
    } else if fields.has_part_of_filter() {
        return Ok(Condition::Filter(Box::new(filter(value, depth + 1)?)));
    } else {
        return Err(fields.unknown());
    };
    fields.end()?;
    Ok(condition)
}

fn field_condition(key: JsonPath, mut fields: Fields<'_>) -> Result<Condition> {
    let mut checks = Vec::new();
    if let Some(value) = fields.take("match") {
        checks.push(Check::Match(matching(value)?));
    }
    if let Some(value) = fields.take("range") {
        checks.push(range(value)?);
    }
    if let Some(value) = fields.take("geo_bounding_box") {
        let mut fields = Fields::of(value, "`geo_bounding_box`")?;
        let (top_left, bottom_right) = (place(fields.need("top_left")?)?, place(fields.need("bottom_right")?)?);
        fields.end()?;
        checks.push(Check::GeoBox(GeoBox { top_left, bottom_right }));
    }
    if let Some(value) = fields.take("geo_radius") {
        let mut fields = Fields::of(value, "`geo_radius`")?;
        let (center, radius) = (place(fields.need("center")?)?, number(fields.need("radius")?, "radius")?);
        fields.end()?;
        checks.push(Check::GeoRadius(GeoRadius { center, radius }));
    }
    if let Some(value) = fields.take("geo_polygon") {
        checks.push(Check::GeoPolygon(polygon(value)?));
    }
    if let Some(value) = fields.take("values_count") {
        checks.push(Check::ValuesCount(bounds(value, "`values_count`", |v| count(v, "values_count"))?));
    }
    if let Some(value) = fields.take("is_empty") {
        checks.push(Check::IsEmpty(flag(value, "is_empty")?));
    }
    if let Some(value) = fields.take("is_null") {
        checks.push(Check::IsNull(flag(value, "is_null")?));
    }
    fields.end()?;
    Condition::of_checks(key, checks)
}

fn matching(value: &Value) -> Result<Match> {
    let mut fields = Fields::of(value, "`match`")?;
    let matching = if let Some(value) = fields.take("value") {
        match value {
            Value::String(text) => Match::Keyword(text.clone()),
            Value::Bool(flag) => Match::Bool(*flag),
            other => Match::Integer(integer(other)?),
        }
    } else if let Some(value) = fields.take("text") {
        Match::Text(text(value, "text")?)
    } else if let Some(value) = fields.take("text_any") {
        Match::TextAny(text(value, "text_any")?)
    } else if let Some(value) = fields.take("phrase") {
        Match::Phrase(text(value, "phrase")?)
    } else if let Some(value) = fields.take("prefix") {
        Match::Prefix(text(value, "prefix")?)
    } else if let Some(value) = fields.take("substring") {
        Match::Substring(text(value, "substring")?)
    } else if let Some(value) = fields.take("any") {
        match items(value, "any")? {
            numbers @ [Value::Number(_), ..] => Match::AnyInteger(numbers.iter().map(integer).collect::<Result<_>>()?),
            texts => Match::AnyKeyword(texts.iter().map(|v| text(v, "any")).collect::<Result<_>>()?),
        }
    } else if let Some(value) = fields.take("except") {
        match items(value, "except")? {
            numbers @ [Value::Number(_), ..] => {
                Match::ExceptIntegers(numbers.iter().map(integer).collect::<Result<_>>()?)
            }
            texts => Match::ExceptKeywords(texts.iter().map(|v| text(v, "except")).collect::<Result<_>>()?),
        }
    } else {
        fields.end()?;
        return Err(Error::invalid("`match` asks nothing")
            .with_remedy("use `value`, `any`, `except`, `text`, `text_any`, `phrase`, `prefix` or `substring`"));
    };
    fields.end()?;
    Ok(matching)
}

/// Of dates where one bound is a text.
fn range(value: &Value) -> Result<Check> {
    let dates = value.as_object().is_some_and(|fields| fields.values().any(Value::is_string));
    if dates {
        let date = |value: &Value| value.as_str().ok_or_else(|| not("a bound", "a date"))?.parse::<Date>();
        return Ok(Check::Dates(bounds(value, "`range`", date)?));
    }
    Ok(Check::Range(bounds(value, "`range`", |v| number(v, "a bound"))?))
}

fn bounds<T>(value: &Value, what: &'static str, read: impl Fn(&Value) -> Result<T>) -> Result<Range<T>> {
    let mut fields = Fields::of(value, what)?;
    let mut bound = |name| fields.take(name).map(&read).transpose();
    let range = Range { lt: bound("lt")?, gt: bound("gt")?, gte: bound("gte")?, lte: bound("lte")? };
    fields.end()?;
    Ok(range)
}

fn place(value: &Value) -> Result<GeoPoint> {
    let mut fields = Fields::of(value, "a place")?;
    let point = GeoPoint::new(number(fields.need("lon")?, "lon")?, number(fields.need("lat")?, "lat")?)?;
    fields.end()?;
    Ok(point)
}

fn polygon(value: &Value) -> Result<GeoPolygon> {
    let line = |value: &Value| {
        let mut fields = Fields::of(value, "a line of a polygon")?;
        let points = items(fields.need("points")?, "points")?.iter().map(place).collect::<Result<Vec<_>>>()?;
        fields.end()?;
        Ok::<_, Error>(points)
    };
    let mut fields = Fields::of(value, "`geo_polygon`")?;
    let exterior = line(fields.need("exterior")?)?;
    let interiors = match fields.take("interiors") {
        Some(lines) => items(lines, "interiors")?.iter().map(line).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    fields.end()?;
    GeoPolygon::new(exterior, interiors)
}

fn payload_field(value: &Value) -> Result<JsonPath> {
    let mut fields = Fields::of(value, "a field")?;
    let key = path(fields.need("key")?)?;
    fields.end()?;
    Ok(key)
}

fn path(value: &Value) -> Result<JsonPath> {
    value.as_str().ok_or_else(|| not("`key`", "a text"))?.parse()
}

fn record_id(value: &Value) -> Result<RecordId> {
    RecordId::deserialize(value).map_err(|_| not("an id in `has_id`", "a record id"))
}

fn items<'a>(value: &'a Value, what: &str) -> Result<&'a [Value]> {
    let items = value.as_array().ok_or_else(|| not(&format!("`{what}`"), "a list"))?;
    if items.len() > limits::FILTER_VALUES {
        return Err(Error::invalid(format!("`{what}` has more than {} values", limits::FILTER_VALUES)));
    }
    Ok(items)
}

fn text(value: &Value, what: &str) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| not(&format!("`{what}`"), "a text"))
}

fn flag(value: &Value, what: &str) -> Result<bool> {
    value.as_bool().ok_or_else(|| not(&format!("`{what}`"), "true or false"))
}

fn integer(value: &Value) -> Result<i64> {
    value.as_i64().ok_or_else(|| {
        not("a value to match", "a text, an integer or a truth value")
            .with_remedy("for a number with a fraction use `range` with `gte` and `lte`")
    })
}

fn number(value: &Value, what: &str) -> Result<f64> {
    value.as_f64().ok_or_else(|| not(&format!("`{what}`"), "a number"))
}

fn count(value: &Value, what: &str) -> Result<usize> {
    let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
    count.ok_or_else(|| not(&format!("`{what}`"), "a count"))
}

fn not(what: &str, wanted: &str) -> Error {
    Error::invalid(format!("{what} of a filter is not {wanted}"))
}

/// The fields of an object that have not been read yet. One that is `null` is as if it were missing.
struct Fields<'a> {
    what: &'static str,
    left: Vec<(&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value, what: &'static str) -> Result<Self> {
        let fields = value.as_object().ok_or_else(|| Error::invalid(format!("{what} is not an object")))?;
        let left = fields.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.as_str(), value));
        Ok(Self { what, left: left.collect() })
    }

    fn take(&mut self, name: &str) -> Option<&'a Value> {
        let at = self.left.iter().position(|(key, _)| *key == name)?;
        Some(self.left.swap_remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<&'a Value> {
        self.take(name).ok_or_else(|| Error::invalid(format!("{} of a filter has no `{name}`", self.what)))
    }

    /// Whether it looks like a filter, as an empty object does.
    fn has_part_of_filter(&self) -> bool {
        let part = |name| ["must", "must_not", "should", "min_should"].contains(&name);
        self.left.is_empty() || self.left.iter().any(|(name, _)| part(*name))
    }

    fn unknown(&self) -> Error {
        let name = self.left.first().map_or("", |(name, _)| name);
        Error::invalid(format!("{} has an unknown field `{}`", self.what, crate::id::shown(name)))
            .with_remedy("write the filter as Qdrant's documentation does")
    }

    fn end(self) -> Result<()> {
        if self.left.is_empty() { Ok(()) } else { Err(self.unknown()) }
    }
}
