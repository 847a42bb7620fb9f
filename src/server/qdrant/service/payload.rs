//! Payloads: a chunk's metadata and, as field `text`, its text. How they are merged, set at a path, and cut out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::filter::{JsonPath, Step, TEXT_FIELD};
use crate::server::qdrant::failure::Answer;
use crate::server::qdrant::model::Object;
use crate::server::qdrant::model::select::WithPayload;

/// The payload of a chunk.
pub(super) fn of_chunk(metadata: Object, text: String) -> Object {
    let mut payload = metadata;
    if !text.is_empty() {
        payload.insert(TEXT_FIELD.to_owned(), text.into());
    }
    payload
}

/// Text and metadata of a chunk with this payload: a field `text` with words in it is the text.
pub(super) fn to_chunk(mut payload: Object) -> (String, Object) {
    match payload.remove(TEXT_FIELD) {
        Some(Value::String(text)) if !text.is_empty() => (text, payload),
        Some(other) => {
            payload.insert(TEXT_FIELD.to_owned(), other);
            (String::new(), payload)
        }
        None => (String::new(), payload),
    }
}

/// Puts every field of `source` into `target`; one that is null is taken out.
pub(in super::super) fn merge(target: &mut Object, source: Object) {
    for (key, value) in source {
        if value.is_null() {
            target.remove(&key);
        } else {
            target.insert(key, value);
        }
    }
}

/// Merges `source` into what is at `path`; what is not an object there makes room for one.
pub(super) fn set_at(payload: &mut Object, path: &JsonPath, source: &Object) {
    let at = payload.entry(path.first()).or_insert_with(|| Object::new().into());
    set(at, path.rest(), source);
}

fn set(at: &mut Value, steps: &[Step], source: &Object) {
    match steps.split_first() {
        None => match at {
            Value::Object(target) => merge(target, source.clone()),
            other => {
                let mut target = Object::new();
                merge(&mut target, source.clone());
                *other = target.into();
            }
        },
        Some((Step::Key(key), rest)) => {
            if !at.is_object() {
                *at = Object::new().into();
            }
            if let Value::Object(fields) = at {
                set(fields.entry(key).or_insert_with(|| Object::new().into()), rest, source);
            }
        }
        Some((Step::Index(index), rest)) => match at {
            Value::Array(items) => {
                if let Some(item) = items.get_mut(*index) {
                    set(item, rest, source);
                }
            }
            other => *other = Value::Array(Vec::new()),
        },
        Some((Step::Each, rest)) => match at {
            Value::Array(items) => items.iter_mut().for_each(|item| set(item, rest, source)),
            other => *other = Value::Array(Vec::new()),
        },
    }
}

/// Takes out what is at `path`. One element of an array is not taken out, since doing so twice would take out two.
pub(super) fn delete_at(payload: &mut Object, path: &JsonPath) {
    if path.rest().is_empty() {
        payload.remove(path.first());
    } else if let Some(at) = payload.get_mut(path.first()) {
        delete(at, path.rest());
    }
}

fn delete(at: &mut Value, steps: &[Step]) {
    let Some((step, rest)) = steps.split_first() else { return };
    match (step, at) {
        (Step::Key(key), Value::Object(fields)) if rest.is_empty() => _ = fields.remove(key),
        (Step::Each, Value::Array(items)) if rest.is_empty() => items.clear(),
        (Step::Key(key), Value::Object(fields)) => {
            if let Some(value) = fields.get_mut(key) {
                delete(value, rest);
            }
        }
        (Step::Index(index), Value::Array(items)) => {
            if let Some(item) = items.get_mut(*index) {
                delete(item, rest);
            }
        }
        (Step::Each, Value::Array(items)) => items.iter_mut().for_each(|item| delete(item, rest)),
        _ => {}
    }
}

/// Calls `see` with every value at `path`; an array there is each of its elements.
pub(super) fn each_at<'a>(payload: &'a Object, path: &JsonPath, see: &mut impl FnMut(&'a Value)) {
    if let Some(value) = payload.get(path.first()) {
        walk(value, path.rest(), see);
    }
}

fn walk<'a>(at: &'a Value, steps: &[Step], see: &mut impl FnMut(&'a Value)) {
    let Some((step, rest)) = steps.split_first() else {
        return match at {
            Value::Array(items) => items.iter().for_each(see),
            value => see(value),
        };
    };
    match (step, at) {
        (Step::Key(key), Value::Object(fields)) => {
            if let Some(value) = fields.get(key) {
                walk(value, rest, see);
            }
        }
        (Step::Index(index), Value::Array(items)) => {
            if let Some(item) = items.get(*index) {
                walk(item, rest, see);
            }
        }
        (Step::Each, Value::Array(items)) => items.iter().for_each(|item| walk(item, rest, see)),
        _ => {}
    }
}

/// Which parts of a payload are wanted.
#[derive(Clone)]
pub(super) enum Cut {
    All,
    Nothing,
    Include(Tree),
    Exclude(Tree),
}

/// Paths by their steps: everything below an end is meant.
#[derive(Clone, Default)]
pub(super) struct Tree(BTreeMap<Branch, Option<Tree>>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Branch {
    Key(String),
    Index(usize),
    Each,
}

impl Cut {
    pub(super) fn new(wanted: &WithPayload) -> Answer<Self> {
        Ok(match wanted {
            WithPayload::All(true) => Self::All,
            WithPayload::All(false) => Self::Nothing,
            WithPayload::Fields(fields) => Self::Include(Tree::new(fields)?),
            WithPayload::Include(include) => Self::Include(Tree::new(&include.include)?),
            WithPayload::Exclude(exclude) => Self::Exclude(Tree::new(&exclude.exclude)?),
        })
    }

    /// What is wanted of `payload`.
    pub(super) fn apply(&self, payload: Object) -> Option<Object> {
        match self {
            Cut::All => Some(payload),
            Cut::Nothing => None,
            Cut::Include(tree) => Some(tree.include(payload)),
            Cut::Exclude(tree) => Some(tree.exclude(payload)),
        }
    }
}

impl Tree {
    fn new(paths: &[String]) -> Answer<Self> {
        let mut tree = Self::default();
        for path in paths {
            let path: JsonPath = path.parse()?;
            let rest = path.rest().iter().map(|step| match step {
                Step::Key(key) => Branch::Key(key.clone()),
                Step::Index(index) => Branch::Index(*index),
                Step::Each => Branch::Each,
            });
            tree.add(std::iter::once(Branch::Key(path.first().to_owned())).chain(rest));
        }
        Ok(tree)
    }

    fn add(&mut self, mut branches: impl Iterator<Item = Branch>) {
        let Some(mut branch) = branches.next() else { return };
        let mut tree = self;
        for next in branches {
            match tree.0.entry(branch).or_insert_with(|| Some(Self::default())) {
                // A shorter path already means everything below.
                None => return,
                Some(below) => tree = below,
            }
            branch = next;
        }
        tree.0.insert(branch, None);
    }

    fn include(&self, object: Object) -> Object {
        let kept = object.into_iter().filter_map(|(key, value)| {
            let below = self.0.get(&Branch::Key(key.clone()))?;
            Some((key, below.as_ref().map_or_else(|| value.clone(), |below| below.include_value(value.clone()))))
        });
        kept.collect()
    }

    fn include_value(&self, value: Value) -> Value {
        match value {
            Value::Object(object) => self.include(object).into(),
            Value::Array(items) => match self.0.get(&Branch::Each) {
                None => Value::Array(Vec::new()),
                Some(None) => items.into(),
                Some(Some(below)) => items.into_iter().map(|item| below.include_value(item)).collect(),
            },
            other => other,
        }
    }

    fn exclude(&self, object: Object) -> Object {
        let kept = object.into_iter().filter_map(|(key, value)| match self.0.get(&Branch::Key(key.clone())) {
            None => Some((key, value)),
            Some(None) => None,
            Some(Some(below)) => Some((key, below.exclude_value(value))),
        });
        kept.collect()
    }

    fn exclude_value(&self, value: Value) -> Value {
        match value {
            Value::Object(object) => self.exclude(object).into(),
            Value::Array(items) => match self.0.get(&Branch::Each) {
                None => items.into(),
                Some(None) => Value::Array(Vec::new()),
                Some(Some(below)) => items.into_iter().map(|item| below.exclude_value(item)).collect(),
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn words_in_the_field_text_are_the_text_of_the_chunk() {
        let (text, metadata) = to_chunk(object(json!({"text": "words", "a": 1})));
        assert_eq!((text.as_str(), Value::from(metadata.clone())), ("words", json!({"a": 1})));
        assert_eq!(Value::from(of_chunk(metadata, text)), json!({"text": "words", "a": 1}));
        for other in [json!({"text": ""}), json!({"text": 7}), json!({"text": null}), json!({})] {
            let (text, metadata) = to_chunk(object(other.clone()));
            assert!(text.is_empty());
            assert_eq!(Value::from(of_chunk(metadata, text)), other);
        }
    }

    #[test]
    fn payloads_are_set_at_paths_as_qdrant_sets_them() {
        let set = |before: Value, path: &str, source: Value| {
            let mut payload = object(before);
            set_at(&mut payload, &path.parse().unwrap(), &object(source));
            Value::from(payload)
        };
        let x = || json!({"x": 1});
        assert_eq!(set(json!({}), "a", x()), json!({"a": {"x": 1}}));
        assert_eq!(set(json!({"a": {"y": 2, "x": 0}}), "a", x()), json!({"a": {"y": 2, "x": 1}}));
        assert_eq!(set(json!({"a": {"y": 2}}), "a", json!({"y": null})), json!({"a": {}}));
        assert_eq!(set(json!({"a": 7}), "a.b", x()), json!({"a": {"b": {"x": 1}}}));
        assert_eq!(set(json!({"a": [1, {"y": 2}]}), "a[1]", x()), json!({"a": [1, {"y": 2, "x": 1}]}));
        assert_eq!(set(json!({"a": [1]}), "a[5]", x()), json!({"a": [1]}));
        assert_eq!(set(json!({"a": [1, {}]}), "a[].b", x()), json!({"a": [{"b": {"x": 1}}, {"b": {"x": 1}}]}));
        assert_eq!(set(json!({"a": 7}), "a[]", x()), json!({"a": []}));
    }

    #[test]
    fn payloads_are_deleted_at_paths_as_qdrant_deletes_them() {
        let deleted = |path: &str| {
            let mut payload = object(json!({"a": {"b": 1, "c": 2}, "d": [1, {"e": 2, "f": 3}], "g": 4}));
            delete_at(&mut payload, &path.parse().unwrap());
            Value::from(payload)
        };
        assert_eq!(deleted("a"), json!({"d": [1, {"e": 2, "f": 3}], "g": 4}));
        assert_eq!(deleted("a.b")["a"], json!({"c": 2}));
        assert_eq!(deleted("d[1].e")["d"], json!([1, {"f": 3}]));
        assert_eq!(deleted("d[].f")["d"], json!([1, {"e": 2}]));
        assert_eq!(deleted("d[]")["d"], json!([]));
        assert_eq!(deleted("d[0]")["d"], json!([1, {"e": 2, "f": 3}]));
        assert_eq!(deleted("a.x.y")["a"], json!({"b": 1, "c": 2}));
    }

    #[test]
    fn parts_of_payloads_are_cut_out_as_qdrant_cuts_them() {
        let payload = || object(json!({"a": {"b": 1, "c": 2}, "d": [{"e": 2, "f": 3}], "g": 4}));
        let include = |fields: &[&str]| {
            let fields = fields.iter().map(|f| (*f).to_owned()).collect();
            Value::from(Cut::new(&WithPayload::Fields(fields)).ok().unwrap().apply(payload()).unwrap())
        };
        assert_eq!(include(&["g", "x"]), json!({"g": 4}));
        assert_eq!(include(&["a.b"]), json!({"a": {"b": 1}}));
        assert_eq!(include(&["a.b", "a"]), json!({"a": {"b": 1, "c": 2}}));
        assert_eq!(include(&["d[].e"]), json!({"d": [{"e": 2}]}));
        assert_eq!(include(&["d[0]", "g.h"]), json!({"d": [], "g": 4}));
        let exclude = |fields: &[&str]| {
            let exclude = fields.iter().map(|f| (*f).to_owned()).collect();
            let wanted = WithPayload::Exclude(crate::server::qdrant::model::select::Exclude { exclude });
            Value::from(Cut::new(&wanted).ok().unwrap().apply(payload()).unwrap())
        };
        assert_eq!(exclude(&["d", "a.b"]), json!({"a": {"c": 2}, "g": 4}));
        assert_eq!(exclude(&["d[].e"])["d"], json!([{"f": 3}]));
    }
}
