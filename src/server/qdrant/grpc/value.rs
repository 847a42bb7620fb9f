//! Payloads: JSON on one side, `Value` messages on the other.

use std::collections::HashMap;

use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{ListValue, NullValue, Struct, Value as Wire};
use serde_json::{Number, Value};

use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::Object;

/// An object from a map of values.
pub(super) fn object(fields: HashMap<String, Wire>) -> Answer<Object> {
    fields.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect()
}

/// JSON from a value. How deep it goes is bounded by the decoder.
pub(super) fn json(value: Wire) -> Answer<Value> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::IntegerValue(n)) => n.into(),
        Some(Kind::DoubleValue(x)) => {
            let number = Number::from_f64(x);
            number.ok_or_else(|| Failure::bad("Wrong input: a payload has a number that is not finite"))?.into()
        }
        Some(Kind::StringValue(words)) => words.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect::<Answer<Vec<_>>>()?.into(),
        Some(Kind::StructValue(fields)) => object(fields.fields)?.into(),
    })
}

/// A map of values from an object.
pub(super) fn fields(object: Object) -> HashMap<String, Wire> {
    object.into_iter().map(|(key, value)| (key, wire(value))).collect()
}

fn wire(value: Value) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(n) => match n.as_i64() {
            Some(n) => Kind::IntegerValue(n),
            // A number beyond 64 bits with a sign has only this form there.
            None => Kind::DoubleValue(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(words) => Kind::StringValue(words),
        Value::Array(list) => Kind::ListValue(ListValue { values: list.into_iter().map(wire).collect() }),
        Value::Object(object) => Kind::StructValue(Struct { fields: fields(object) }),
    };
    Wire { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn payloads_go_and_come_back() {
        let payload = value!({"a": [1, -2.5, null, true, {"b": "c"}], "d": {}, "big": i64::MIN});
        let object_of = |value: &Value| value.as_object().unwrap().clone();
        let back = object(fields(object_of(&payload))).ok().unwrap();
        assert_eq!(Value::Object(back), payload);
        let wire = Wire { kind: Some(Kind::DoubleValue(f64::NAN)) };
        assert!(json(wire).is_err());
    }
}
