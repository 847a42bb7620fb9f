//! Guards against an endpoint that the official clients of Qdrant, and frameworks over them, cannot use as they are, or
//! that answers other than Qdrant does.

mod common;

use std::process::Stdio;

use common::cli::Cli;
use common::qdrant::{Endpoint, clients, script, tenant};
use serde_json::{Value, json};

/// An endpoint and a key of its only tenant.
fn endpoint() -> (Cli, Endpoint, String) {
    let cli = Cli::new();
    let key = tenant(&cli, "acme");
    let endpoint = Endpoint::start(&cli);
    (cli, endpoint, key)
}

fn ok(name: &str, args: &[&str]) {
    let (cli, endpoint, key) = endpoint();
    let said = script(name, args, &endpoint, &[("STRONGROOM_KEY", &key)]);
    assert!(said.trim_end().ends_with("ok"), "{said}");
    endpoint.stop();
    // Everything that was done to it is whole.
    cli.ok(&["verify"]);
}

#[test]
fn python_over_rest() {
    ok("client.py", &["rest"]);
}

#[test]
fn python_over_grpc() {
    ok("client.py", &["grpc"]);
}

#[test]
fn javascript() {
    ok("client.mjs", &[]);
}

#[test]
fn langchain_and_llamaindex() {
    ok("frameworks.py", &[]);
}

/// The same random operations, put to the endpoint and to the client's own in-memory Qdrant.
#[test]
fn answers_are_those_of_qdrant_in_memory() {
    ok("differential.py", &[]);
}

/// Guards against changes of payloads that overwrite each other.
#[test]
fn no_update_is_lost() {
    ok("updates.py", &[]);
}

/// Guards against fields that are declared in name only where the engine decides filters: every filter by one would fail,
/// or miss what was there before.
#[test]
fn an_engine_filters_by_the_fields_that_a_client_declares() {
    let (cli, endpoint, key) = endpoint();
    let call =
        |method: &str, path: &str, body: Value| endpoint.call(method, &format!("/collections/docs{path}"), &key, &body);
    for mode in ["plain", "sealed"] {
        let vectors = json!({"size": 2, "distance": "Dot"});
        let made = json!({"vectors": vectors, "metadata": {"strongroom": {"mode": mode}}});
        assert_eq!(call("PUT", "", made).0, 200);
        let point = |id: u32, city: &str| {
            let payload = json!({"city": city, "n": id, "place": {"lon": id, "lat": 0}});
            json!({"id": id, "vector": [1, id], "payload": payload})
        };
        let points = json!({"points": [point(1, "London"), point(2, "Berlin"), point(3, "London")]});
        assert_eq!(call("PUT", "/points?wait=true", points).0, 200);
        let found = |filter: Value| {
            let (status, answer) = call("POST", "/points/scroll", json!({ "filter": {"must": [filter]} }));
            let ids = answer["result"]["points"].as_array().into_iter().flatten().map(|point| point["id"].as_u64());
            (status, ids.map(Option::unwrap).collect::<Vec<_>>(), answer)
        };
        let london = json!({"key": "city", "match": {"value": "London"}});
        let many = json!({"key": "n", "range": {"gt": 1}});
        let corners = json!({"top_left": {"lon": 0.5, "lat": 1}, "bottom_right": {"lon": 1.5, "lat": -1}});
        let near = json!({"key": "place", "geo_bounding_box": corners});
        let prefix = json!({"key": "city", "match": {"prefix": "Lon"}});
        let declare = |field: &str, schema: Value| {
            call("PUT", "/index?wait=true", json!({"field_name": field, "field_schema": schema})).0
        };
        let shown = || call("GET", "", Value::Null).1["result"]["payload_schema"].clone();
        if mode == "sealed" {
            // Nothing has to be declared, and what is changes nothing.
            for schema in [None, Some(json!("keyword")), Some(json!("geo"))] {
                assert!(schema.is_none_or(|schema| declare("city", schema) == 200));
                assert_eq!((found(london.clone()).1, found(many.clone()).1), (vec![1, 3], vec![2, 3]));
                assert_eq!(found(near.clone()).1, [1]);
            }
            assert_eq!(shown()["city"]["data_type"], "geo");
            break;
        }
        let (status, _, answer) = found(london.clone());
        assert!(status == 400 && answer["status"]["error"].as_str().unwrap().contains("no index"), "{answer}");
        assert_eq!(declare("city", json!("keyword")), 200);
        assert_eq!(found(london.clone()).1, [1, 3], "points that were there before have tokens too");
        assert_eq!(found(prefix.clone()).0, 400, "that was not asked for");
        assert_eq!(declare("city", json!({"type": "keyword", "prefix": {}})), 200, "another declaration replaces it");
        assert_eq!((found(london.clone()).1, found(prefix).1), (vec![1, 3], vec![1, 3]));
        assert_eq!(declare("n", json!({"type": "integer", "range": false})), 200);
        assert_eq!(found(many.clone()).0, 400);
        assert_eq!(declare("n", json!("integer")), 200);
        assert_eq!(call("PUT", "/points?wait=true", json!({"points": [point(4, "Berlin")]})).0, 200);
        assert_eq!(found(many).1, [2, 3, 4]);
        assert_eq!((found(near.clone()).0, declare("place", json!("geo"))), (400, 200));
        assert_eq!(found(near).1, [1]);
        for schema in [json!("text"), json!({"type": "keyword", "nested": "offers"})] {
            assert_eq!(declare("other", schema), 501);
        }
        assert_eq!(shown().as_object().unwrap().keys().collect::<Vec<_>>(), ["city", "n", "place"]);
        assert_eq!(call("DELETE", "/index/city?wait=true", Value::Null).0, 200);
        assert_eq!(found(london).0, 400);
        assert_eq!(call("DELETE", "", Value::Null).0, 200);
    }
    endpoint.stop();
    cli.ok(&["verify"]);
}

/// The README's example, as it stands there.
#[test]
fn the_example_of_the_readme_runs() {
    let (_cli, endpoint, key) = endpoint();
    let readme = include_str!("../README.md");
    let (_, after) = readme.split_once("```python\n").expect("an example in Python");
    let (example, _) = after.split_once("```").unwrap();
    assert!(example.lines().count() <= 12, "it is short");
    let example = example.replace("http://localhost:6333", &format!("http://{}", endpoint.rest)).replace("srk_…", &key);
    let mut command = std::process::Command::new(clients().join("venv/bin/python"));
    let output = command.args(["-c", &example]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "the cat sat on the mat");
}
