//! Erasing JSON that holds plaintext.

use serde_json::{Map, Value};
use zeroize::Zeroize as _;

/// Overwrites every text and key of `value` and leaves `null`. Numbers lie in the nodes of a map or array, which the
/// allocator erases when it gets them back.
pub(crate) fn erase(value: &mut Value) {
    match std::mem::take(value) {
        Value::String(mut text) => text.zeroize(),
        Value::Array(mut items) => items.iter_mut().for_each(erase),
        Value::Object(mut fields) => erase_fields(&mut fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// As [`erase`], for the fields of an object.
pub(crate) fn erase_fields(fields: &mut Map<String, Value>) {
    for (mut key, mut value) in std::mem::take(fields) {
        key.zeroize();
        erase(&mut value);
    }
}

/// JSON that is erased when dropped.
pub(crate) struct Erased(pub(crate) Value);

impl Drop for Erased {
    fn drop(&mut self) {
        erase(&mut self.0);
    }
}
