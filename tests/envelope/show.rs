//! What is shown of an envelope is what the schema says, and no payload.

use std::collections::BTreeSet;

use serde_json::Value;
use strongroom::crypto::default_provider;
use strongroom::envelope::{EnvelopeView, Kind, Message};
use strongroom::keys::Profile;

use super::agents::pair;
use super::world::{World, patiently};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether `value` has the keys of its description and only values that it lists.
fn check(schema: &Value, described: &Value, value: &Value) {
    let described = match described["$ref"].as_str() {
        Some("#/$defs/bytes") => &schema["$defs"]["bytes"],
        _ => described,
    };
    if let Some(allowed) = described["enum"].as_array() {
        assert!(allowed.contains(value), "{value}");
    }
    if value.is_object() {
        let known = keys(&described["properties"]);
        let shown = keys(value);
        let required: BTreeSet<_> =
            described["required"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        assert!(shown.is_subset(&known) && required.is_subset(&shown), "{shown:?}");
        shown.iter().for_each(|key| check(schema, &described["properties"][key], &value[key]));
    }
}

#[test]
fn views_are_those_of_the_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../schema/envelope.schema.json")).unwrap();
    let world = World::new();
    for profile in Profile::ALL {
        let (sender, receiver) = pair(&world, profile);
        let peer = sender.connect(&receiver);
        for kind in Kind::ALL {
            let correlation = if kind == Kind::Message { &b""[..] } else { b"call" };
            let message = Message { kind, correlation, payload: b"a payload that is not shown" };
            let sent = patiently(|| sender.interceptor.send(&peer, message)).unwrap();
            let view = EnvelopeView::of(default_provider(), &sent).unwrap();
            let json = serde_json::to_value(&view).unwrap();
            check(&schema, &schema, &json);
            assert_eq!(json["payload_bytes"], 27);
            assert_eq!(json["suite"], profile.suite().as_str());
            assert_eq!(json.get("chain").is_some(), kind == Kind::Message);
            for text in [json.to_string(), view.to_string()] {
                assert!(text.contains("planner") && !text.contains("not shown"), "{text}");
            }
        }
    }
    assert!(EnvelopeView::of(default_provider(), b"no envelope").is_err());
}
