//! The path to a field: keys joined by dots, `[3]` for one element of an array and `[]` for each.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::limits;

use super::Seen;

/// The path to a field, as `address.city`, `tags[]`, `rooms[2]."air conditioned"`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JsonPath {
    first: String,
    rest: Vec<Step>,
}

/// One step further down.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// To the field of an object.
    Key(String),
    /// To one element of an array.
    Index(usize),
    /// To each element of an array.
    Each,
}

impl JsonPath {
    /// The path to the top-level field called `key`, whatever characters it has.
    pub fn key(key: impl Into<String>) -> Self {
        Self { first: key.into(), rest: Vec::new() }
    }

    /// The top-level field that it starts with.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// The steps after that.
    pub fn rest(&self) -> &[Step] {
        &self.rest
    }

    /// The same to each element of the array that it leads to.
    #[must_use]
    pub fn each(mut self) -> Self {
        if self.rest.last() != Some(&Step::Each) {
            self.rest.push(Step::Each);
        }
        self
    }

    /// The path from the record to what `inner` leads to from each element of the array that this leads to.
    pub(crate) fn joined(&self, inner: &Self) -> Self {
        let mut joined = self.clone().each();
        joined.rest.push(Step::Key(inner.first.clone()));
        joined.rest.extend_from_slice(&inner.rest);
        joined
    }

    /// The path as it may be shown in a message.
    pub(crate) fn shown(&self) -> String {
        crate::id::shown(&self.to_string())
    }

    /// Calls `see` with every value that it leads to from the object whose fields `top` gives, until one call returns
    /// true; returns whether one did.
    pub(crate) fn any<'a>(
        &self,
        top: impl FnOnce(&str) -> Option<Seen<'a>>,
        see: &mut impl FnMut(Seen<'a>) -> bool,
    ) -> bool {
        top(&self.first).is_some_and(|value| walk(&self.rest, value, see))
    }

    /// As [`JsonPath::any`], from an object of JSON.
    pub(crate) fn any_in<'a>(&self, object: &'a Map<String, Value>, see: &mut impl FnMut(Seen<'a>) -> bool) -> bool {
        self.any(|key| object.get(key).map(Seen::from), see)
    }
}

fn walk<'a>(steps: &[Step], value: Seen<'a>, see: &mut impl FnMut(Seen<'a>) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return see(value) };
    match (step, value) {
        (Step::Key(key), Seen::Object(fields)) => fields.get(key).is_some_and(|v| walk(rest, v.into(), see)),
        (Step::Index(at), Seen::Array(items)) => items.get(*at).is_some_and(|v| walk(rest, v.into(), see)),
        (Step::Each, Seen::Array(items)) => items.iter().any(|v| walk(rest, v.into(), see)),
        _ => false,
    }
}

impl FromStr for JsonPath {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!("`{}` is not a field", crate::id::shown(s))).with_remedy(
                "write keys with dots between them, `[]` after an array, and quotes around other characters",
            )
        };
        if s.len() > limits::FILTER_KEY_BYTES {
            return Err(Error::invalid(format!("a field's path is longer than {} bytes", limits::FILTER_KEY_BYTES)));
        }
        let (first, mut left) = take_key(s).ok_or_else(bad)?;
        let mut rest = Vec::new();
        while !left.is_empty() {
            let (step, after) = take_step(left).ok_or_else(bad)?;
            rest.push(step);
            left = after;
        }
        if rest.len() > limits::FILTER_KEY_STEPS {
            return Err(Error::invalid(format!("a field's path has more than {} steps", limits::FILTER_KEY_STEPS)));
        }
        Ok(Self { first, rest })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.first)?;
        for step in &self.rest {
            match step {
                Step::Key(key) => {
                    f.write_str(".")?;
                    write_key(f, key)?;
                }
                Step::Index(at) => write!(f, "[{at}]")?,
                Step::Each => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

fn take_step(s: &str) -> Option<(Step, &str)> {
    if let Some(after) = s.strip_prefix("[]") {
        return Some((Step::Each, after));
    }
    if let Some(after) = s.strip_prefix('[') {
        let (index, after) = after.split_once(']')?;
        let digits = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
        return digits.then(|| index.parse().ok()).flatten().map(|at| (Step::Index(at), after));
    }
    let (key, after) = take_key(s.strip_prefix('.')?)?;
    Some((Step::Key(key), after))
}

fn take_key(s: &str) -> Option<(String, &str)> {
    if let Some(quoted) = s.strip_prefix('"') {
        let (key, after) = quoted.split_once('"')?;
        return (!key.contains('\\')).then(|| (key.to_owned(), after));
    }
    let end = s.find(|c| !is_plain(c)).unwrap_or(s.len());
    let (key, after) = s.split_at_checked(end)?;
    (!key.is_empty()).then(|| (key.to_owned(), after))
}

fn write_key(f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
    if !key.is_empty() && key.chars().all(is_plain) { f.write_str(key) } else { write!(f, "\"{key}\"") }
}

/// Whether a key may have `c` without quotes around it.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_read_as_qdrant_reads_them() {
        let path: JsonPath = "foo[1][50].bar-baz[].\"qux[.]quux\"".parse().unwrap();
        assert!(path.first == "foo");
        let expected =
            [Step::Index(1), Step::Index(50), Step::Key("bar-baz".into()), Step::Each, Step::Key("qux[.]quux".into())];
        assert!(path.rest == expected);
        for bad in ["", ".", "a.", ".a", "a b", "a[", "a[x]", "a[-1]", "a]", "a..b", "a[1", "\"a", "a[]b", "\"a\\\"\""]
        {
            assert!(bad.parse::<JsonPath>().is_err(), "{bad}");
        }
        assert!("a".repeat(limits::FILTER_KEY_BYTES + 1).parse::<JsonPath>().is_err());
        assert!(format!("a{}", "[]".repeat(limits::FILTER_KEY_STEPS + 1)).parse::<JsonPath>().is_err());
    }

    #[test]
    fn a_path_leads_to_every_value_below_an_array() {
        let Value::Object(top) = serde_json::json!({"a": [{"b": 1}, {"c": 2}, {"b": [3, null]}], "d": {"": true}})
        else {
            panic!()
        };
        let count = |path: &str| {
            let mut seen = 0;
            path.parse::<JsonPath>().unwrap().any_in(&top, &mut |_| {
                seen += 1;
                false
            });
            seen
        };
        let expected =
            [("a", 1), ("a[]", 3), ("a[].b", 2), ("a[].b[]", 2), ("a[2].b[1]", 1), ("a.b", 0), ("d.\"\"", 1), ("e", 0)];
        for (path, values) in expected {
            assert_eq!(count(path), values, "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "[a-z\"._\\[\\]0-9é -]{0,24}") {
            if let Ok(path) = text.parse::<JsonPath>() {
                prop_assert!(path.to_string().parse::<JsonPath>().unwrap() == path);
            }
        }
    }
}
