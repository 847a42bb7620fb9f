//! A value of a record as a filter sees it.

use serde_json::{Map, Number, Value};

/// A value: JSON, or the text of a chunk, without a copy of either.
#[derive(Clone, Copy)]
pub(crate) enum Seen<'a> {
    Null,
    Bool(bool),
    Number(&'a Number),
    Text(&'a str),
    Array(&'a [Value]),
    Object(&'a Map<String, Value>),
}

impl<'a> From<&'a Value> for Seen<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Self::Number(n),
            Value::String(s) => Self::Text(s),
            Value::Array(items) => Self::Array(items),
            Value::Object(fields) => Self::Object(fields),
        }
    }
}

impl Seen<'_> {
    /// Whether it counts as nothing.
    pub(crate) fn is_empty(self) -> bool {
        matches!(self, Seen::Null | Seen::Array([]))
    }

    /// Whether it is `null` or has a `null` in it.
    pub(crate) fn is_null(self) -> bool {
        match self {
            Seen::Null => true,
            Seen::Array(items) => items.iter().any(Value::is_null),
            _ => false,
        }
    }

    /// How many values it counts as.
    pub(crate) fn count(self) -> usize {
        match self {
            Seen::Null => 0,
            Seen::Array(items) => items.len(),
            _ => 1,
        }
    }

    /// The place that it names, an object with two numbers: degrees east and north.
    pub(crate) fn place(self) -> Option<(f64, f64)> {
        let Seen::Object(fields) = self else { return None };
        Some((fields.get("lon")?.as_f64()?, fields.get("lat")?.as_f64()?))
    }
}
