//! Blind tokens: what an engine filters by that must not know what it filters.
//!
//! For every declared field, a point carries tokens of the field's values: MACs under a key of the tenant, the collection
//! and the epoch, cut to 16 bytes. A filter becomes a [`TokenFilter`](super::engine::TokenFilter) that no record which passes escapes; what the engine
//! returns is opened, and the filter itself decides.
//!
//! What a value has tokens for depends on the declared [kind](IndexKind); a value of another kind has one that says so,
//! and every question about the field asks for that too. `schema/filters.md` has the encoding.

mod declared;
mod order;
mod query;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::crypto::{self, MacKey};
use crate::filter::{Check, JsonPath, Record, Seen};
use crate::id::RecordId;
use crate::keys::label::parts;
use crate::limits;

pub(in crate::vectors) use declared::Declared;
pub use declared::{FieldIndexSpec, IndexKind};
pub(in crate::vectors) use query::token_filter;

use order::Node;

/// What a token is of. Stored by number.
#[derive(Clone, Copy)]
enum Of {
    /// The field is something.
    Filled = 0,
    /// The field is nothing: `null` or an empty array.
    Empty = 1,
    /// The field is `null` or has one in it.
    Null = 2,
    /// The field has a value of another kind, or more than there is room for.
    Odd = 3,
    /// The field has this value.
    Value = 4,
    /// The field has a number or a date that shares these bits.
    Node = 5,
    /// The field has a text that starts so.
    Prefix = 6,
}

/// The tokens of a point whose chunk has this payload, sorted.
pub(in crate::vectors) fn tokens(
    key: &dyn MacKey,
    declared: &Declared,
    metadata: &Map<String, Value>,
    text: &str,
) -> Vec<[u8; 16]> {
    let record = Record { id: &RecordId::Number(0), metadata, text, vectors: &[] };
    let mut tokens = Vec::new();
    for (path, spec) in declared.iter() {
        let field = Field::new(key, path, spec);
        let mut of_field = Vec::new();
        path.any(|first| record.field(first), &mut |value| {
            field.add(value, &mut of_field);
            false
        });
        if of_field.len() > limits::FIELD_TOKENS {
            let kept = of_field.iter().filter(|(of, _)| matches!(of, Of::Filled | Of::Empty | Of::Null)).copied();
            of_field = kept.chain([(Of::Odd, field.token(Of::Odd, b""))]).collect();
        }
        tokens.extend(of_field.into_iter().map(|(_, token)| token));
    }
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// One declared field, under one key.
struct Field<'a> {
    key: &'a dyn MacKey,
    name: String,
    spec: &'a FieldIndexSpec,
}

impl<'a> Field<'a> {
    fn new(key: &'a dyn MacKey, path: &JsonPath, spec: &'a FieldIndexSpec) -> Self {
        Self { key, name: path.to_string(), spec }
    }

    fn token(&self, of: Of, value: &[u8]) -> [u8; 16] {
        let encoded = zeroize::Zeroizing::new(parts(&[self.name.as_bytes(), &[self.spec.kind as u8, of as u8], value]));
        crypto::first_16(self.key.tag(&[b"token", &encoded[..]]))
    }

    /// Adds the tokens of a value that the field has.
    fn add(&self, value: Seen<'_>, tokens: &mut Vec<(Of, [u8; 16])>) {
        let of = if value.is_empty() { Of::Empty } else { Of::Filled };
        tokens.push((of, self.token(of, b"")));
        if value.is_null() {
            tokens.push((Of::Null, self.token(Of::Null, b"")));
        }
        match value {
            Seen::Array(items) => {
                for item in items {
                    self.add_single(item.into(), tokens);
                    if tokens.len() > limits::FIELD_TOKENS {
                        break;
                    }
                }
            }
            single => self.add_single(single, tokens),
        }
    }

    fn add_single(&self, value: Seen<'_>, tokens: &mut Vec<(Of, [u8; 16])>) {
        let mut put = |of, value: &[u8]| tokens.push((of, self.token(of, value)));
        match (self.spec.kind, value) {
            (_, Seen::Null) => {}
            (IndexKind::Keyword | IndexKind::Uuid, Seen::Text(text)) => {
                put(Of::Value, text.as_bytes());
                if self.spec.prefix {
                    let prefixes = PREFIX_LENGTHS.into_iter().map_while(|length| prefix(text, length));
                    prefixes.for_each(|prefix| put(Of::Prefix, prefix.as_bytes()));
                }
            }
            (IndexKind::Bool, Seen::Bool(flag)) => put(Of::Value, &[u8::from(flag)]),
            (IndexKind::Integer, Seen::Number(number)) => match number.as_i64() {
                Some(n) if self.spec.range => {
                    Node::all(order::of_integer(n)).for_each(|n| put(Of::Node, &n.to_bytes()))
                }
                Some(n) => put(Of::Node, &Node::leaf(order::of_integer(n)).to_bytes()),
                None => put(Of::Odd, b""),
            },
            (IndexKind::Float, Seen::Number(number)) => match number.as_f64() {
                Some(n) => Node::all(order::of_float(n)).for_each(|n| put(Of::Node, &n.to_bytes())),
                None => put(Of::Odd, b""),
            },
            (IndexKind::Datetime, Seen::Text(text)) => match text.parse::<crate::filter::Date>() {
                Ok(date) => {
                    Node::all(order::of_integer(date.as_micros())).for_each(|n| put(Of::Node, &n.to_bytes()));
                }
                Err(_) => put(Of::Odd, b""),
            },
            _ => put(Of::Odd, b""),
        }
    }
}

/// Of which first characters of a text there are tokens, where prefixes are asked for.
const PREFIX_LENGTHS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

/// The first `length` characters, of a text that has as many.
fn prefix(text: &str, length: usize) -> Option<&str> {
    let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    text.get(..ends.nth(length)?)
}

/// Whether a check holds only where there is a value that it is about.
fn asks_for_a_value(check: &Check) -> bool {
    !matches!(check, Check::ValuesCount(_) | Check::IsEmpty(_) | Check::IsNull(_))
}
