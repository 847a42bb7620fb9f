//! Turns the values of a JSON line into ids and metadata, within a budget.

use std::fmt;

use serde::Deserialize as _;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};
use crate::id::{RecordId, shown};
use crate::limits;

/// Counts what a payload takes at least, so that a hostile line is refused before it fills the memory.
#[derive(Default)]
pub(super) struct Budget {
    pub(super) used: usize,
    /// Our own reason, since the error of a deserializer is only a message.
    pub(super) refused: Option<Error>,
}

impl Budget {
    pub(super) fn charge<E: de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.used = self.used.saturating_add(bytes).saturating_add(2);
        if self.used > limits::PAYLOAD_BYTES { Err(self.refuse(too_large())) } else { Ok(()) }
    }

    pub(super) fn refuse<E: de::Error>(&mut self, reason: Error) -> E {
        self.refused = Some(reason);
        E::custom("refused")
    }
}

pub(super) fn too_large() -> Error {
    Error::invalid(format!("text and metadata are larger than {} bytes", limits::PAYLOAD_BYTES))
        .with_remedy("split the text into smaller chunks")
}

/// A record id.
pub(super) struct IdSeed;

impl<'de> DeserializeSeed<'de> for IdSeed {
    type Value = RecordId;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RecordId, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for IdSeed {
    type Value = RecordId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record id")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<RecordId, E> {
        Ok(RecordId::from(n))
    }

    fn visit_str<E: de::Error>(self, s: &str) -> Result<RecordId, E> {
        let text: StrDeserializer<'_, E> = s.into_deserializer();
        RecordId::deserialize(text)
    }
}

/// An object, or `null` for none.
pub(super) struct MetadataSeed<'a>(pub &'a mut Budget);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Map::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.0.charge(key.len())?;
            if object.contains_key(&key) {
                let error = Error::invalid(format!("metadata field `{}` is given twice", shown(&key)));
                return Err(self.0.refuse(error.with_remedy("keep one of them")));
            }
            let value = map.next_value_seed(ValueSeed(self.0))?;
            object.insert(key, value);
        }
        Ok(object)
    }
}

/// Any JSON value, charged to the budget while it is built.
struct ValueSeed<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.0.charge(0).map(|()| Value::Null)
    }

    fn visit_bool<E: de::Error>(self, b: bool) -> Result<Value, E> {
        self.0.charge(0).map(|()| Value::Bool(b))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
        self.0.charge(0).map(|()| Value::from(n))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
        self.0.charge(0).map(|()| Value::from(n))
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Value, E> {
        self.0.charge(0)?;
        Number::from_f64(n).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E: de::Error>(self, s: &str) -> Result<Value, E> {
        self.visit_string(s.to_owned())
    }

    fn visit_string<E: de::Error>(self, s: String) -> Result<Value, E> {
        self.0.charge(s.len()).map(|()| Value::String(s))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.0.charge(0)?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ValueSeed(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        self.0.charge(0)?;
        MetadataSeed(self.0).visit_map(map).map(Value::Object)
    }
}
