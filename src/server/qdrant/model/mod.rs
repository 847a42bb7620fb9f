//! What can be asked and answered, the same for REST and gRPC: both only translate from and to this.
//!
//! The types with `Deserialize` are the bodies of Qdrant's REST interface. A field that is not known is refused, never
//! ignored: it might have changed what is asked for.

pub(super) mod collections;
pub(super) mod points;
pub(super) mod query;
pub(super) mod select;
pub(super) mod vector;

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::{Answer, Failure};
use crate::id::{RecordId, shown};

/// A JSON object.
pub(super) type Object = serde_json::Map<String, serde_json::Value>;

/// A filter: Qdrant's JSON for it is read by [`crate::filter`].
pub(super) type RawFilter = crate::filter::Filter;

/// The id of a point: a number or a UUID. Other words are let through for reading, since chunks that came in another way
/// may be called so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PointId(pub(super) RecordId);

impl PointId {
    /// From words: a UUID in any of its forms, or other words.
    pub(super) fn from_words(words: &str) -> Answer<Self> {
        match Uuid::try_parse(words) {
            Ok(uuid) => Ok(Self(RecordId::Uuid(uuid))),
            Err(_) => RecordId::text(words).map(Self).map_err(|_| not_an_id(words)),
        }
    }

    /// The same as they stand in a path, where a number has no other form.
    pub(super) fn from_path(words: &str) -> Answer<Self> {
        match words.parse() {
            Ok(number) => Ok(Self(RecordId::Number(number))),
            Err(_) => Self::from_words(words),
        }
    }

    /// The id of a point to write, which can only be one that every client can read.
    pub(super) fn writable(self) -> Answer<RecordId> {
        match self.0 {
            RecordId::Text(words) => Err(not_an_id(&words)),
            id => Ok(id),
        }
    }
}

fn not_an_id(words: &str) -> Failure {
    Failure::bad(format!(
        "Wrong input: value {} is not a valid point ID, valid values are either an unsigned integer or a UUID",
        shown(words)
    ))
}

impl<'de> Deserialize<'de> for PointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Id;
        impl Visitor<'_> for Id {
            type Value = PointId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an unsigned integer or a UUID")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PointId, E> {
                Ok(PointId(RecordId::Number(number)))
            }

            fn visit_str<E: de::Error>(self, words: &str) -> Result<PointId, E> {
                PointId::from_words(words).map_err(|failure| E::custom(failure.message()))
            }
        }
        deserializer.deserialize_any(Id)
    }
}

impl Serialize for PointId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// One object, or a list of them.
pub(super) enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    /// By what comes first: whoever tries one and then the other, keeping what was read, takes for ever where these are
    /// nested.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(OneOrMany::One)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T> OneOrMany<T> {
    pub(super) fn list(this: Option<Self>) -> Vec<T> {
        match this {
            Some(Self::Many(list)) => list,
            Some(Self::One(one)) => vec![one],
            None => Vec::new(),
        }
    }
}

/// Refuses what only a cluster of shards has.
pub(super) fn no_shard_key<T>(key: &Option<T>) -> Answer<()> {
    match key {
        None => Ok(()),
        Some(_) => Err(Failure::unsupported(
            "a collection has no shards of its own here, since it is sealed and searched as a whole: leave out the \
             shard key, and use one collection for each of them instead",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a few bytes that take for ever, or more memory than there is.
    #[test]
    fn what_is_nested_is_read_once() {
        #[derive(Deserialize)]
        struct Nested {
            #[serde(default)]
            inner: Option<Box<OneOrMany<Nested>>>,
        }
        let depth = |nested: &str| {
            serde_json::from_str::<OneOrMany<Nested>>(nested).map(|read| {
                let mut list = OneOrMany::list(Some(read));
                let mut depth = 0;
                while let Some(next) = list.pop() {
                    depth += 1;
                    list = OneOrMany::list(next.inner.map(|inner| *inner));
                }
                depth
            })
        };
        assert_eq!(depth(r#"[{"inner":{"inner":[{}]}}]"#).unwrap(), 3);
        assert!(depth(&format!("{}1{}", "[".repeat(120), "]".repeat(120))).is_err());
        assert_eq!(
            depth(&format!("{}{}", r#"{"inner":"#.repeat(100), "{}".to_owned() + &"}".repeat(100))).unwrap(),
            101
        );
    }

    #[test]
    fn ids_are_read_as_qdrant_reads_them() {
        let id = |json: &str| serde_json::from_str::<PointId>(json).map(|id| id.0);
        let uuid = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26";
        assert!(id("7").unwrap() == RecordId::Number(7));
        assert!(id(&format!("\"{uuid}\"")).unwrap() == RecordId::Uuid(uuid.parse().unwrap()));
        assert!(id(&format!("\"{}\"", uuid.replace('-', ""))).unwrap() == RecordId::Uuid(uuid.parse().unwrap()));
        assert!(id(&format!("\"urn:uuid:{uuid}\"")).unwrap() == RecordId::Uuid(uuid.parse().unwrap()));
        for bad in ["-1", "1.5", "null", "[]", "\"\"", "18446744073709551616"] {
            assert!(id(bad).is_err(), "{bad}");
        }
        assert!(PointId::from_words("7").unwrap().writable().is_err(), "words are no number");
        assert!(PointId::from_path("7").unwrap().0 == RecordId::Number(7));
    }
}
