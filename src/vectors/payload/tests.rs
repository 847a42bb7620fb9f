use serde_json::json;

use super::*;

/// Of records whose ids are their slots.
fn index(documents: &[Value]) -> PayloadIndex {
    let mut index = PayloadIndex::new(vec![String::new()]);
    for (slot, document) in (0..).zip(documents) {
        index.upsert(slot, document.as_object().unwrap(), |_| true).unwrap();
    }
    index
}

fn records() -> Slots {
    Slots::numbered((0_u64..10).map(Into::into).collect()).unwrap()
}

/// Ids of the records that pass, in ascending order.
fn passing(index: &mut PayloadIndex, filter: &Value) -> Vec<String> {
    let filter = Filter::from_value(filter).unwrap();
    let wanted = index.wanted(&filter);
    let made = index.make_fields(&wanted).unwrap();
    index.add_fields(made);
    let bounds = index.bound(&filter, &records()).unwrap();
    assert_eq!(bounds.sure, bounds.possible);
    bounds.sure.iter().map(|slot| slot.to_string()).collect()
}

#[test]
fn fields_follow_what_is_written_and_removed() {
    let mut index = index(&[json!({"n": 1}), json!({"n": [2, 3, 2]}), json!({"n": "x"}), json!({})]);
    let above = json!({"must": {"key": "n", "range": {"gte": 2}}});
    assert_eq!(passing(&mut index, &above), ["1"]);
    index.upsert(0, json!({"n": 2.5}).as_object().unwrap(), |_| true).unwrap();
    index.upsert(1, json!({"n": 0}).as_object().unwrap(), |_| true).unwrap();
    index.upsert(9, json!({"n": [null, 7]}).as_object().unwrap(), |_| true).unwrap();
    assert_eq!(passing(&mut index, &above), ["0", "9"]);
    index.remove(9).unwrap();
    index.remove(9).unwrap();
    assert_eq!(passing(&mut index, &above), ["0"]);
    assert_eq!(passing(&mut index, &json!({"must_not": above})), ["1", "2", "3"]);
    assert_eq!(passing(&mut index, &json!({"must": {"is_empty": {"key": "n"}}})), ["3"]);
}

#[test]
fn nothing_is_left_of_what_was_removed() {
    let document = json!({
        "a": ["x", 1, 2.5, true, null, {"lon": 1, "lat": 2}, [1]], "b": "2024-01-01", "c": {"d": [{"e": "f"}]},
    });
    let mut index = index(&[document.clone(), json!({"a": "y"}), document]);
    let condition = |key| json!({"key": key, "match": {"value": "x"}});
    let filter = json!({"should": [condition("a"), condition("a[0]"), condition("b"), condition("c.d[].e")]});
    assert_eq!(passing(&mut index, &filter), ["0", "2"]);
    let full = index.bytes();
    for slot in [0, 2, 1] {
        index.remove(slot).unwrap();
    }
    assert!(index.bytes() < full && index.metadata_bytes == 0 && index.all.is_empty());
    assert!(index.rows.iter().all(Option::is_none));
    let none = FieldIndex::default().bytes();
    assert!(index.fields.len() == 4 && index.fields.values().all(|field| field.bytes() == none));
}

#[test]
fn bounds_of_a_range_may_contradict_each_other() {
    let mut index = index(&[json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]);
    for (range, expected) in [
        (json!({"gt": 1, "gte": 1}), &["1", "2"][..]),
        (json!({"gt": 1, "gte": 2}), &["1", "2"]),
        (json!({"lt": 3, "lte": 3}), &["0", "1"]),
        (json!({"gt": 2, "lt": 2}), &[]),
        (json!({"gte": 2, "lt": 2}), &[]),
        (json!({"gte": 2, "lte": 2}), &["1"]),
        (json!({"gt": 3, "lt": 1}), &[]),
        (json!({}), &["0", "1", "2"]),
    ] {
        assert_eq!(passing(&mut index, &json!({"must": {"key": "n", "range": range}})), expected, "{range}");
    }
}

#[test]
fn only_so_many_fields_are_indexed_and_the_rest_is_looked_at() {
    let mut index = index(&[json!({"k7": 1, "deep": [{"n": 1}]}), json!({"k7": 2, "k99": true})]);
    let conditions: Vec<_> = (0..100).map(|n| json!({"key": format!("k{n}"), "is_empty": false})).collect();
    assert_eq!(passing(&mut index, &json!({"min_should": {"conditions": conditions, "min_count": 2}})), ["1"]);
    assert_eq!(index.fields.len(), limits::FILTER_FIELDS);
    let nested = json!({"must": {"nested": {"key": "deep", "filter": {"must": {"key": "n", "match": {"value": 1}}}}}});
    assert_eq!(passing(&mut index, &nested), ["0"]);
}

#[test]
fn who_asks_for_texts_is_told_what_is_known_without() {
    let mut index = index(&[json!({"n": 1}), json!({"n": 2})]);
    let filter = json!({"must": [{"key": "n", "match": {"value": 1}}, {"key": "text", "match": {"text": "x"}}]});
    let filter = Filter::from_value(&filter).unwrap();
    let made = index.make_fields(&index.wanted(&filter)).unwrap();
    index.add_fields(made);
    let bounds = index.bound(&filter, &records()).unwrap();
    assert!(asks_for_text(&filter) && bounds.sure.is_empty() && bounds.possible.len() == 1);
}
