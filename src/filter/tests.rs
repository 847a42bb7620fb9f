use std::error::Error as _;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::error::ErrorKind;

fn read(json: &Value) -> Result<Filter> {
    Filter::from_json(json.to_string().as_bytes())
}

fn passes(filter: &Value, metadata: &Value) -> bool {
    let Value::Object(metadata) = metadata else { panic!("an object") };
    let record = Record { id: &RecordId::Number(7), metadata, text: "Some words", vectors: &["dense"] };
    read(filter).unwrap().matches(&record)
}

fn key(key: &str) -> JsonPath {
    key.parse().unwrap()
}

#[test]
fn every_kind_of_condition_is_read_and_written() {
    let ring = json!({"points": [{"lat": 1.0, "lon": 1.0}, {"lat": 1.0, "lon": 2.0}, {"lat": 2.0, "lon": 2.0}, {"lat": 1.0, "lon": 1.0}]});
    let conditions = [
        json!({"key": "a", "match": {"value": "x"}}),
        json!({"key": "a", "match": {"value": -5}}),
        json!({"key": "a", "match": {"value": true}}),
        json!({"key": "a", "match": {"text": "x y"}}),
        json!({"key": "a", "match": {"text_any": "x y"}}),
        json!({"key": "a", "match": {"phrase": "x y"}}),
        json!({"key": "a", "match": {"prefix": "x"}}),
        json!({"key": "a", "match": {"substring": "x"}}),
        json!({"key": "a", "match": {"any": ["x", "y"]}}),
        json!({"key": "a", "match": {"any": [1, 2]}}),
        json!({"key": "a", "match": {"any": []}}),
        json!({"key": "a", "match": {"except": ["x"]}}),
        json!({"key": "a", "match": {"except": [1]}}),
        json!({"key": "a", "range": {"gt": 1.5, "lte": 3.0}}),
        json!({"key": "a", "range": {}}),
        json!({"key": "a", "range": {"gte": "2024-01-01T00:00:00Z", "lt": "2024-02-01T00:00:00.500Z"}}),
        json!({"geo_bounding_box": {"bottom_right": {"lat": 1.0, "lon": 2.0}, "top_left": {"lat": 2.0, "lon": 1.0}}, "key": "a"}),
        json!({"geo_radius": {"center": {"lat": 1.0, "lon": 2.0}, "radius": 10.0}, "key": "a"}),
        json!({"geo_polygon": {"exterior": ring}, "key": "a"}),
        json!({"geo_polygon": {"exterior": ring, "interiors": [ring]}, "key": "a"}),
        json!({"key": "a", "values_count": {"gte": 2}}),
        json!({"is_empty": true, "key": "a"}),
        json!({"is_null": false, "key": "a"}),
        json!({"is_empty": {"key": "a.b[]"}}),
        json!({"is_null": {"key": "a[0].\"b c\""}}),
        json!({"has_id": [1, "0f0f0f0f-0000-4000-8000-000000000000", "doc"]}),
        json!({"has_vector": ""}),
        json!({"slice": {"index": 1, "total": 3}}),
        json!({"nested": {"filter": {"must": [{"key": "b", "match": {"value": 1}}]}, "key": "a"}}),
        json!({"should": [{"is_null": {"key": "a"}}]}),
        json!({}),
    ];
    for condition in &conditions {
        let filter = json!({"must": [condition]});
        assert_eq!(serde_json::from_str::<Value>(&read(&filter).unwrap().to_json()).unwrap(), filter);
    }
    let all = json!({"min_should": {"conditions": conditions, "min_count": 2}, "must_not": conditions});
    assert_eq!(serde_json::from_str::<Value>(&read(&all).unwrap().to_json()).unwrap(), all);
}

#[test]
fn other_forms_of_the_same_filter_are_the_same_filter() {
    let one = json!({"must": [{"key": "a", "match": {"any": ["x", "y"]}}]});
    for same in [
        json!({"must": {"key": "a", "match": {"any": ["y", "x", "y"]}}, "should": null, "must_not": []}),
        json!({"must": [{"key": "a", "match": {"any": ["x", "y"]}, "range": null}], "min_should": null}),
    ] {
        assert!(read(&same).unwrap() == read(&one).unwrap(), "{same}");
    }
    let noon = |date: &str| read(&json!({"must": {"key": "a", "range": {"lt": date}}})).unwrap();
    assert!(noon("2024-05-05T12:00:00+02:00") == noon("2024-05-05 10:00"));
    let id = |id: Value| read(&json!({"must": {"has_id": [id]}})).unwrap();
    assert!(id(json!("7")) == id(json!(7)));
}

#[test]
fn what_is_no_filter_is_refused_with_a_sentence() {
    for (filter, why) in [
        (json!([]), "a filter is not an object"),
        (json!({"mast": []}), "a filter has an unknown field `mast`"),
        (json!({"must": [{"keys": "a"}]}), "a condition has an unknown field `keys`"),
        (json!({"must": [{"key": "a"}]}), "the condition on `a` asks nothing"),
        (json!({"must": [{"key": "a b", "is_null": true}]}), "`a b` is not a field"),
        (json!({"must": [{"key": 1, "is_null": true}]}), "`key` of a filter is not a text"),
        (json!({"must": [{"key": "a", "match": {}}]}), "`match` asks nothing"),
        (json!({"must": [{"key": "a", "match": {"values": "x"}}]}), "`match` has an unknown field `values`"),
        (json!({"must": [{"key": "a", "match": {"value": "x", "text": "x"}}]}), "`match` has an unknown field `text`"),
        (json!({"must": [{"key": "a", "match": {"value": 1.5}}]}), "a value to match of a filter is not"),
        (json!({"must": [{"key": "a", "match": {"any": ["x", 1]}}]}), "`any` of a filter is not a text"),
        (json!({"must": [{"key": "a", "match": {"any": [1, "x"]}}]}), "a value to match of a filter is not"),
        (json!({"must": [{"key": "a", "range": {"below": 1}}]}), "`range` has an unknown field `below`"),
        (json!({"must": [{"key": "a", "range": {"lt": "tomorrow"}}]}), "a date is not written as one"),
        (json!({"must": [{"key": "a", "range": {"lt": "2024-01-01", "gt": 1}}]}), "a bound of a filter is not a date"),
        (json!({"must": [{"key": "a", "values_count": {"lt": -1}}]}), "`values_count` of a filter is not a count"),
        (json!({"must": [{"key": "a", "geo_radius": {"center": {"lon": 0, "lat": 91}, "radius": 1}}]}), "not on Earth"),
        (json!({"must": [{"key": "a", "geo_polygon": {"exterior": {"points": []}}}]}), "fewer than four points"),
        (json!({"must": [{"has_id": [-1]}]}), "an id in `has_id` of a filter is not a record id"),
        (json!({"must": [{"has_id": [1], "key": null, "more": 1}]}), "a condition has an unknown field `more`"),
        (json!({"must": [{"slice": {"total": 2, "index": 2}}]}), "not below its total"),
        (json!({"must": [{"nested": {"key": "a"}}]}), "`nested` of a filter has no `filter`"),
        (json!({"min_should": {"conditions": [], "min_count": 0}}), "`min_count` is 0"),
        (json!({"min_should": {"conditions": []}}), "`min_should` of a filter has no `min_count`"),
    ] {
        let e = read(&filter).err().unwrap_or_else(|| panic!("{filter} was read"));
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains(why), "{filter}: {e}");
    }
    assert!(Filter::from_json(b"{").err().unwrap().source().is_some());
}

#[test]
fn values_do_not_show_in_errors() {
    for filter in [
        json!({"must": [{"key": "a", "match": {"value": ["hush"]}}]}),
        json!({"must": [{"key": "a", "match": {"any": "hush"}}]}),
        json!({"must": [{"key": "a", "range": {"lt": "hush"}}]}),
        json!({"must": [{"key": "a", "range": "hush"}]}),
        json!({"must": [{"has_id": [{"hush": 1}]}]}),
        json!({"must": "hush"}),
    ] {
        let e = read(&filter).err().unwrap();
        let source = e.source().map(ToString::to_string).unwrap_or_default();
        assert!(!format!("{e} {source} {:?}", e.remedy()).contains("hush"), "{e}");
    }
}

#[test]
fn sizes_are_bounded() {
    let deep = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"must": [inner]}));
    assert!(read(&deep(limits::FILTER_DEPTH - 1)).is_ok());
    assert!(read(&deep(limits::FILTER_DEPTH)).err().unwrap().to_string().contains("deeper"));
    let nested =
        (0..limits::FILTER_DEPTH).fold(json!({}), |f, _| json!({"must": {"nested": {"key": "a", "filter": f}}}));
    assert!(read(&nested).is_err());

    let empty = json!({"is_empty": {"key": "a"}});
    let many = |n: usize| json!({"must": vec![empty.clone(); n / 2], "should": vec![empty.clone(); n - n / 2]});
    assert!(read(&many(limits::FILTER_CONDITIONS)).is_ok());
    assert!(read(&many(limits::FILTER_CONDITIONS + 1)).is_err());

    let ids = |n: usize| json!({"must": [{"has_id": (0..n).collect::<Vec<_>>()}]});
    assert!(read(&ids(limits::FILTER_VALUES)).is_ok());
    assert!(read(&ids(limits::FILTER_VALUES + 1)).is_err());
    assert!(Filter::from_json(&vec![b' '; limits::FILTER_BYTES + 1]).is_err());

    // One that a caller puts together is held to the same.
    let built = (0..limits::FILTER_DEPTH).fold(Filter::default(), |inner, _| Filter::default().must(inner));
    assert!(built.validate().is_err());
    for range in
        [Range { lt: Some(f64::NAN), ..Range::default() }, Range { gt: Some(f64::INFINITY), ..Range::default() }]
    {
        assert!(Filter::from(Condition::range(key("a"), range)).validate().is_err());
    }
    assert!(Filter::from(Condition::dates(key("a"), Range::default())).validate().is_err());
}

#[test]
fn several_checks_of_a_field_mean_what_they_mean_to_qdrant() {
    let both = json!({"must": {"key": "a", "match": {"value": "x"}, "range": {"gt": 1}}});
    assert!(passes(&both, &json!({"a": "x"})) && passes(&both, &json!({"a": 2})));
    assert!(!passes(&both, &json!({"a": 1})) && !passes(&both, &json!({})));
    let count = json!({"must": {"key": "a", "match": {"value": "x"}, "values_count": {"lt": 1}, "is_null": true}});
    assert!(passes(&count, &json!({})) && passes(&count, &json!({"a": null})) && !passes(&count, &json!({"a": "x"})));
    let empty = json!({"must": {"key": "a", "match": {"value": "x"}, "is_empty": true, "is_null": false}});
    assert!(passes(&empty, &json!({})) && passes(&empty, &json!({"a": []})) && !passes(&empty, &json!({"a": "x"})));
}

#[test]
fn the_text_is_a_field() {
    let filter = json!({"must": {"key": "text", "match": {"text": "WORDS"}}});
    assert!(passes(&filter, &json!({})) && passes(&filter, &json!({"text": "other"})));
    assert!(!passes(&json!({"must": {"is_empty": {"key": "text"}}}), &json!({})));
    let metadata = Map::from_iter([("text".to_owned(), json!("words"))]);
    let record = Record { id: &RecordId::Number(7), metadata: &metadata, text: "", vectors: &[] };
    assert!(read(&filter).unwrap().matches(&record));
}

#[test]
fn an_array_passes_by_one_element_and_a_nested_filter_by_one_object() {
    let country =
        json!({"country": [{"name": "Germany", "cities": [{"n": 3}]}, {"name": "Japan", "cities": [{"n": 9}]}]});
    let name = json!({"key": "country[].name", "match": {"value": "Germany"}});
    let nine = json!({"key": "country[].cities[].n", "range": {"gte": 9}});
    assert!(passes(&json!({"must": [name, nine]}), &country));
    let name = json!({"key": "name", "match": {"value": "Germany"}});
    let nested = |n: u64| {
        let n = json!({"key": "cities[].n", "range": {"gte": n}});
        json!({"must": {"nested": {"key": "country", "filter": {"must": [name, n]}}}})
    };
    assert!(passes(&nested(3), &country) && !passes(&nested(9), &country));
    // Ids and vectors are the record's, not an object's.
    let id = |within: Value| json!({"must": {"nested": {"key": "country[]", "filter": {"must": within}}}});
    assert!(passes(&json!({"must": [{"has_id": [7]}, {"has_vector": "dense"}]}), &country));
    assert!(!passes(&id(json!({"has_id": [7]})), &country) && !passes(&id(json!({"has_vector": "dense"})), &country));
}

#[test]
fn slices_are_those_that_qdrant_promises() {
    // By the implementation in Qdrant's Python client.
    for (number, index) in [(0, 3), (1, 2), (2, 3), (3, 3), (42, 1)] {
        let parts = (0..7).filter(|index| Slice { total: 7, index: *index }.has(&RecordId::Number(number)));
        assert_eq!(parts.collect::<Vec<_>>(), [index]);
    }
    let uuid = RecordId::Uuid(uuid::Uuid::from_u128(5));
    assert!(
        Slice { total: u32::MAX, index: u32::try_from(0x0bd1_548d_784d_fe4b_u64 % u64::from(u32::MAX)).unwrap() }
            .has(&uuid)
    );
    assert!(!Slice { total: 0, index: 0 }.has(&RecordId::Number(1)));
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "must",
        "must_not",
        "should",
        "min_should",
        "conditions",
        "min_count",
        "key",
        "match",
        "value",
        "any",
        "except",
        "range",
        "lt",
        "nested",
        "filter",
        "has_id",
        "is_empty",
        "geo_radius",
        "center",
        "radius",
        "lon",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z.\\[\\]\"0-9:T-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_sent_is_read_or_refused(value in any_json()) {
        if let Ok(filter) = Filter::from_value(&value) {
            prop_assert!(Filter::from_json(filter.to_json().as_bytes()).unwrap() == filter);
            let metadata = Map::new();
            filter.matches(&Record { id: &RecordId::Number(1), metadata: &metadata, text: "", vectors: &[] });
        }
    }
}
