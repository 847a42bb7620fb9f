use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::filter::Filter;
use crate::secret::Secret;

fn key(n: u8) -> Arc<dyn MacKey> {
    crypto::default_provider().mac(&Secret::from_bytes([n; 32])).into()
}

fn declared(fields: &[(&str, FieldIndexSpec)]) -> Declared {
    Declared::new(&fields.iter().map(|(path, spec)| ((*path).to_owned(), *spec)).collect()).unwrap()
}

fn everything() -> Declared {
    declared(&[
        ("city", FieldIndexSpec::new(IndexKind::Keyword).with_prefix()),
        ("n", FieldIndexSpec::new(IndexKind::Integer)),
        ("x", FieldIndexSpec::new(IndexKind::Float)),
        ("ok", FieldIndexSpec::new(IndexKind::Bool)),
        ("when", FieldIndexSpec::new(IndexKind::Datetime)),
        ("id", FieldIndexSpec::new(IndexKind::Uuid)),
    ])
}

fn made(key: &dyn MacKey, declared: &Declared, payload: &Value) -> Vec<[u8; 16]> {
    tokens(key, declared, payload.as_object().unwrap(), "")
}

#[test]
fn equal_values_have_equal_tokens_and_neighbours_share_only_what_they_must() {
    let (key, declared) = (key(1), everything());
    let of = |payload: Value| made(&*key, &declared, &payload);
    assert_eq!(of(json!({"city": "Berlin"})), of(json!({"city": "Berlin", "other": 1})));
    assert!(of(json!({"other": "Berlin"})).is_empty());
    let shared = |a: Value, b: Value| {
        let (a, b) = (of(a), of(b));
        a.iter().filter(|token| b.contains(token)).count()
    };
    // That both are there, and what their first letters have in common.
    assert_eq!(shared(json!({"city": "Berlin"}), json!({"city": "Bern"})), 1 + 3);
    // That both are there, and the nodes down to the last four bits.
    assert_eq!(shared(json!({"n": 6}), json!({"n": 7})), 1 + 16);
    assert_eq!(shared(json!({"n": 15}), json!({"n": 16})), 1 + 15);
    assert_eq!(shared(json!({"n": -1}), json!({"n": 0})), 1 + 1);
    // Fields and kinds share nothing.
    assert_eq!(shared(json!({"n": 1}), json!({"x": 1})), 0);
}

#[test]
fn tokens_change_with_the_key() {
    let payload = json!({"city": "Berlin", "n": 7, "x": 1.5, "ok": true, "when": "2024-01-01", "id": "x"});
    let (a, b) = (made(&*key(1), &everything(), &payload), made(&*key(2), &everything(), &payload));
    assert!(a.len() == b.len() && a.iter().all(|token| !b.contains(token)));
    assert!(a.is_sorted_by(|x, y| x < y));
}

#[test]
fn too_many_values_become_one_token() {
    let (key, declared) = (key(1), everything());
    let many: Vec<u32> = (0..100_000).collect();
    assert_eq!(made(&*key, &declared, &json!({"n": many})).len(), 2);
    let filter = Filter::from_value(&json!({"must": {"key": "n", "match": {"value": 77}}})).unwrap();
    let asked = token_filter(&declared, std::slice::from_ref(&key), &[], &filter).unwrap();
    assert!(asked.passes(None, &made(&*key, &declared, &json!({"n": many}))));
    assert!(!asked.passes(None, &made(&*key, &declared, &json!({"n": [1, 2]}))));
}

#[test]
fn what_is_not_declared_is_refused_with_a_remedy() {
    let declared = declared(&[
        ("city", FieldIndexSpec::new(IndexKind::Keyword)),
        ("n", FieldIndexSpec::new(IndexKind::Integer).without_range()),
        ("late", FieldIndexSpec { building: true, ..FieldIndexSpec::new(IndexKind::Bool) }),
        ("gone", FieldIndexSpec { dropping: true, ..FieldIndexSpec::new(IndexKind::Bool) }),
        ("items[].n", FieldIndexSpec::new(IndexKind::Integer)),
    ]);
    assert!(made(&*key(1), &declared, &json!({"gone": true})).is_empty());
    let asked = |filter: Value| token_filter(&declared, &[key(1)], &[], &Filter::from_value(&filter).unwrap());
    for (filter, why) in [
        (json!({"must": {"key": "town", "match": {"value": "x"}}}), "no index of field `town`"),
        (json!({"must_not": {"is_empty": {"key": "town"}}}), "no index of field `town`"),
        (json!({"should": {"must": {"is_null": {"key": "a.b"}}}}), "no index of field `a.b`"),
        (json!({"must": {"key": "city", "match": {"prefix": "x"}}}), "has no prefixes"),
        (json!({"must": {"key": "n", "range": {"gt": 1}}}), "has no ranges"),
        (json!({"must": {"key": "late", "match": {"value": true}}}), "is being made"),
        (json!({"must": {"key": "gone", "match": {"value": true}}}), "no index of field `gone`"),
        (
            json!({"must": {"nested": {"key": "items", "filter": {"must_not": {"key": "m", "is_null": true}}}}}),
            "no index of field `items[].m`",
        ),
    ] {
        let e = asked(filter.clone()).err().unwrap_or_else(|| panic!("{filter}"));
        assert!(e.to_string().contains(why) && e.remedy().is_some(), "{filter}: {e}");
    }
    let nested =
        json!({"must": {"nested": {"key": "items[]", "filter": {"must": {"key": "n", "match": {"value": 1}}}}}});
    assert!(asked(nested).is_ok());
    assert!(Declared::new(&[("a b".to_owned(), FieldIndexSpec::new(IndexKind::Bool))].into()).is_err());
    assert!(Declared::new(&[("a".to_owned(), FieldIndexSpec::new(IndexKind::Bool).with_prefix())].into()).is_err());
}

#[test]
fn a_question_asks_for_the_tokens_of_every_epoch() {
    let (old, new, declared) = (key(1), key(2), everything());
    let filter = Filter::from_value(&json!({"must": {"key": "city", "match": {"value": "Rome"}}})).unwrap();
    let asked = token_filter(&declared, &[old.clone(), new.clone()], &[], &filter).unwrap();
    for key in [old, new] {
        assert!(asked.passes(None, &made(&*key, &declared, &json!({"city": "Rome"}))));
        assert!(!asked.passes(None, &made(&*key, &declared, &json!({"city": "Bern"}))));
    }
    assert!(!asked.passes(None, &made(&*key(3), &declared, &json!({"city": "Rome"}))));
}

proptest! {
    #[test]
    fn prefixes_are_cut_at_characters(text in "\\PC{0,20}", length in 1_usize..20) {
        let cut = prefix(&text, length);
        prop_assert_eq!(cut.is_some(), text.chars().count() >= length);
        prop_assert!(cut.is_none_or(|cut| text.starts_with(cut) && cut.chars().count() == length));
    }
}
