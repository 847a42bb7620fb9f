//! Guards against a caller of the Qdrant-compatible endpoint who reaches what is not theirs: another tenant's collections,
//! what their key does not cover, anything at all with a key that is no good, or more of the server than they may use.

mod common;

use common::cli::{Cli, refused};
use common::qdrant::{Endpoint, key, tenant};
use serde_json::{Value, json};
use strongroom::ErrorKind;

const VECTORS: fn() -> Value = || json!({"vectors": {"size": 2, "distance": "Dot"}});

fn create(endpoint: &Endpoint, key: &str, name: &str) {
    let (status, answer) = endpoint.call("PUT", &format!("/collections/{name}"), key, &VECTORS());
    assert_eq!(status, 200, "{answer}");
}

fn upsert(endpoint: &Endpoint, key: &str, name: &str, id: &Value, payload: &Value) {
    let body = json!({"points": [{"id": id, "vector": [1.0, 2.0], "payload": payload}]});
    let (status, answer) = endpoint.call("PUT", &format!("/collections/{name}/points?wait=true"), key, &body);
    assert_eq!((status, &answer["result"]["status"]), (200, &json!("completed")), "{answer}");
}

/// Everything that can be asked of a collection called `name`.
fn questions(name: &str) -> Vec<(&'static str, String, Value)> {
    let at = |path: &str| format!("/collections/{name}{path}");
    let all = json!({"must": [{"key": "n", "range": {"gte": 0}}]});
    let not_nothing = json!({"must_not": [{"has_id": [424_242]}]});
    vec![
        ("GET", at(""), Value::Null),
        ("POST", at("/points"), json!({"ids": [1, 2, 3], "with_vector": true})),
        ("POST", at("/points/scroll"), json!({"limit": 100, "with_vector": true})),
        ("POST", at("/points/scroll"), json!({"limit": 100, "filter": all})),
        ("POST", at("/points/scroll"), json!({"limit": 100, "filter": not_nothing, "order_by": "n"})),
        ("POST", at("/points/query"), json!({"query": [1, 2], "limit": 100, "with_payload": true})),
        (
            "POST",
            at("/points/query"),
            json!({"query": [1, 2], "limit": 100, "filter": not_nothing, "with_payload": true}),
        ),
        ("POST", at("/points/query"), json!({"query": {"sample": "random"}, "limit": 100, "with_payload": true})),
        ("POST", at("/points/query/groups"), json!({"query": [1, 2], "group_by": "secret", "limit": 10})),
        ("POST", at("/points/search"), json!({"vector": [1, 2], "limit": 100, "with_payload": true})),
        ("POST", at("/points/recommend"), json!({"positive": [[1, 2]], "limit": 100, "with_payload": true})),
        ("POST", at("/facet"), json!({"key": "secret"})),
        ("POST", at("/points/count"), json!({})),
        ("GET", at("/aliases"), Value::Null),
        ("GET", "/collections".to_owned(), Value::Null),
        ("GET", "/aliases".to_owned(), Value::Null),
    ]
}

#[test]
fn tenants_with_equal_names_never_see_each_other() {
    let cli = Cli::new();
    let (ada, bob) = (tenant(&cli, "ada"), tenant(&cli, "bob"));
    let endpoint = Endpoint::start(&cli);
    for (key, whose, points) in [(&ada, "adas-secret", 3), (&bob, "bobs-secret", 2)] {
        create(&endpoint, key, "same");
        for id in 1..=points {
            upsert(&endpoint, key, "same", &json!(id), &json!({"secret": whose, "n": id, "text": whose}));
        }
        let alias = json!({"actions": [{"create_alias": {"collection_name": "same", "alias_name": "also"}}]});
        assert_eq!(endpoint.call("POST", "/collections/aliases", key, &alias).0, 200);
    }
    create(&endpoint, &bob, "bobs-only");
    upsert(&endpoint, &bob, "bobs-only", &json!(7), &json!({"secret": "bobs-secret"}));
    for (key, own, other) in [(&ada, "adas-secret", "bobs"), (&bob, "bobs-secret", "adas")] {
        let mut seen = 0;
        for name in ["same", "also"] {
            for (method, path, body) in questions(name) {
                let (status, answer) = endpoint.call(method, &path, key, &body);
                assert_eq!(status, 200, "{path}: {answer}");
                let text = answer.to_string();
                assert!(!text.contains(&format!("{other}-")), "{path} {body}: {text}");
                seen += usize::from(text.contains(own));
            }
        }
        assert!(seen >= 10, "they do see their own");
    }
    // Names that lead out of a directory, to a tenant or to nothing are names of nothing.
    for name in ["bobs-only", "bob%2Fsame", "..%2Fbob%2Fsame", "bob%00same", "%2e%2e", "bob.same", "_system"] {
        for (method, path, body) in questions(name) {
            if path.contains("/collections/") {
                let (status, answer) = endpoint.call(method, &path, &ada, &body);
                assert!((400..500).contains(&status), "{path}: {status} {answer}");
                assert!(!answer.to_string().contains("bobs-secret"), "{path}: {answer}");
            }
        }
        let (_, answer) = endpoint.call("DELETE", &format!("/collections/{name}"), &ada, &Value::Null);
        assert_ne!(answer["result"], json!(true), "{name}");
        let alias = json!({"actions": [{"create_alias": {"collection_name": name, "alias_name": "stolen"}}]});
        assert!(endpoint.call("POST", "/collections/aliases", &ada, &alias).0 >= 400, "{name}");
    }
    // Other collections by the side doors of questions.
    let lookups = [
        ("/collections/same/points/query", json!({"query": 7, "lookup_from": {"collection": "bobs-only"}})),
        (
            "/collections/same/points/query/groups",
            json!({"query": [1, 2], "group_by": "n", "with_lookup": {"collection": "bobs-only"}}),
        ),
        (
            "/collections/same/points/query",
            json!({"prefetch": {"query": 7, "lookup_from": {"collection": "bobs-only"}}, "query": {"fusion": "rrf"}}),
        ),
    ];
    for (path, body) in lookups {
        assert_eq!(endpoint.call("POST", path, &ada, &body).0, 404, "{body}");
    }
    // What one deletes is still there for the other.
    assert_eq!(endpoint.call("POST", "/collections/same/points/delete", &ada, &json!({"filter": {}})).0, 200);
    assert_eq!(endpoint.call("DELETE", "/collections/same", &ada, &Value::Null).1["result"], true);
    let count = endpoint.call("POST", "/collections/same/points/count", &bob, &json!({}));
    assert_eq!(count.1["result"]["count"], 2);
    endpoint.stop();
    // In the log stand pseudonyms and keys, no names.
    let log = cli.ok(&["audit", "tail", "--json"]);
    assert!(log.contains("apikey-") && !log.contains("bobs") && !log.contains("same"), "{log}");
}

#[test]
fn keys_are_for_what_they_were_made_for() {
    let cli = Cli::new();
    let manage = tenant(&cli, "acme");
    let (read, write) = (key(&cli, &["-t", "acme", "--role", "read"]), key(&cli, &["-t", "acme", "--role", "write"]));
    let one = key(&cli, &["-t", "acme", "--role", "manage", "--collection", "harbour"]);
    let metrics = key(&cli, &["--metrics"]);
    let endpoint = Endpoint::start(&cli);
    let list = |key: &str| endpoint.call("GET", "/collections", key, &Value::Null);
    let brief = key(&cli, &["-t", "acme", "--role", "read", "--expires", "1s"]);
    create(&endpoint, &manage, "harbour");
    create(&endpoint, &manage, "cellar");
    upsert(&endpoint, &write, "cellar", &json!(1), &json!({"secret": "x"}));
    let point = json!({"points": [{"id": 1, "vector": [1, 2]}]});
    for (who, path, method, body, expected) in [
        (&read, "/collections/harbour/points", "PUT", &point, 403),
        (&read, "/collections/harbour/points/delete", "POST", &json!({"points": [1]}), 403),
        (&read, "/collections/new", "PUT", &VECTORS(), 403),
        (&write, "/collections/new", "PUT", &VECTORS(), 403),
        (&write, "/collections/harbour", "DELETE", &Value::Null, 403),
        (&write, "/collections/harbour/index", "PUT", &json!({"field_name": "n", "field_schema": "integer"}), 403),
        (&one, "/collections/new", "PUT", &VECTORS(), 403),
        (&one, "/collections/cellar", "GET", &Value::Null, 404),
        (&one, "/collections/cellar/points/count", "POST", &json!({}), 404),
        (&one, "/collections/cellar/points", "PUT", &point, 404),
        (&one, "/collections/harbour/points", "PUT", &point, 200),
        (&metrics, "/collections", "GET", &Value::Null, 403),
        (&metrics, "/collections/harbour/points/count", "POST", &json!({}), 403),
    ] {
        let (status, answer) = endpoint.call(method, path, who, body);
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(!answer.to_string().contains('\u{0}') && !answer.to_string().contains("secret"), "{answer}");
    }
    // An alias opens no door either.
    let alias = json!({"actions": [{"create_alias": {"collection_name": "cellar", "alias_name": "postern"}}]});
    assert_eq!(endpoint.call("POST", "/collections/aliases", &manage, &alias).0, 200);
    assert_eq!(endpoint.call("POST", "/collections/postern/points/count", &one, &json!({})).0, 404);
    let moved = json!({"actions": [{"create_alias": {"collection_name": "harbour", "alias_name": "postern"}}]});
    assert_eq!(endpoint.call("POST", "/collections/aliases", &one, &moved).0, 403);
    // Nor does it tell what there is: a name is refused whether it is taken or not.
    for name in ["cellar", "postern", "nothing"] {
        let taken = json!({"actions": [{"create_alias": {"collection_name": "harbour", "alias_name": name}}]});
        let (status, answer) = endpoint.call("POST", "/collections/aliases", &one, &taken);
        assert_eq!(status, 403, "{name}: {answer}");
    }
    // One whose collection is gone leads nowhere, and is free again.
    create(&endpoint, &manage, "wharf");
    let lead = |name: &str| json!({"actions": [{"create_alias": {"collection_name": name, "alias_name": "berth"}}]});
    assert_eq!(endpoint.call("POST", "/collections/aliases", &manage, &lead("wharf")).0, 200);
    assert_eq!(endpoint.call("DELETE", "/collections/wharf", &manage, &Value::Null).0, 200);
    assert_eq!(endpoint.call("POST", "/collections/berth/points/count", &manage, &json!({})).0, 404);
    assert_eq!(endpoint.call("POST", "/collections/aliases", &manage, &lead("harbour")).0, 200);
    let free = json!({"actions": [{"delete_alias": {"alias_name": "berth"}}]});
    assert_eq!(endpoint.call("POST", "/collections/aliases", &manage, &free).0, 200);
    assert_eq!(list(&one).1["result"]["collections"], json!([{"name": "harbour"}]));
    assert_eq!(endpoint.call("GET", "/aliases", &one, &Value::Null).1["result"]["aliases"], json!([]));
    // The metrics are for those alone who have a key for them, and name nobody.
    assert_eq!(endpoint.call("GET", "/metrics", &manage, &Value::Null).0, 403);
    assert_eq!(endpoint.call("GET", "/metrics", "", &Value::Null).0, 401);
    let (status, shown) = endpoint.call("GET", "/metrics", &metrics, &Value::Null);
    let shown = shown.as_str().unwrap();
    assert!(status == 200 && shown.contains("strongroom_qdrant_calls_total") && shown.contains("strongroom_store_"));
    for name in ["acme", "harbour", "cellar", "postern"] {
        assert!(!shown.contains(name), "{name}: {shown}");
    }
    assert!(shown.ends_with("# EOF\n") && shown.matches("# EOF").count() == 1);
    // Wrong, expired, revoked.
    let other = format!("{}{}", &manage[..manage.len() - 1], if manage.ends_with('0') { '1' } else { '0' });
    for wrong in ["", "x", "srk_", &other, &manage.to_uppercase(), &read[..read.len() - 2]] {
        assert_eq!(list(wrong).0, 401, "{wrong}");
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(list(&brief).0, 401, "it has expired");
    cli.ok(&["apikey", "revoke", &manage]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while list(&manage).0 == 200 {
        assert!(std::time::Instant::now() < until, "a revoked key still opens");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(list(&read).0, 200, "others go on");
    // Health needs no key.
    for path in ["/", "/healthz", "/livez", "/readyz"] {
        assert_eq!(endpoint.call("GET", path, "", &Value::Null).0, 200, "{path}");
    }
    let listed = cli.ok(&["apikey", "list"]);
    assert!(listed.contains("read for acme") && !listed.contains(&read), "{listed}");
    endpoint.stop();
    // What became of keys is in the log, once, whether they were made while somebody served or not.
    let changes = || {
        let log = cli.ok(&["audit", "tail", "-n", "1000", "--json"]);
        ["added", "changed", "removed"]
            .map(|change| log.matches(&format!("\"type\":\"api-key-changed\",\"change\":\"{change}\"")).count())
    };
    assert_eq!(changes(), [6, 0, 1]);
    cli.ok(&["apikey", "revoke", &read]);
    assert_eq!(changes(), [6, 0, 1], "nobody serves");
    Endpoint::start(&cli).stop();
    assert_eq!(changes(), [6, 0, 2]);
    Endpoint::start(&cli).stop();
    assert_eq!(changes(), [6, 0, 2], "a start is no change");
}

#[test]
fn bodies_have_bounds_and_hostile_ones_do_no_harm() {
    let cli = Cli::new();
    let key = tenant(&cli, "acme");
    let endpoint = Endpoint::start(&cli);
    create(&endpoint, &key, "docs");
    let large = json!({"points": [{"id": 1, "vector": [1, 2], "payload": {"text": "x".repeat(33 << 20)}}]});
    assert_eq!(endpoint.call("PUT", "/collections/docs/points", &key, &large).0, 413);
    let mut deep = json!({"must": []});
    for _ in 0..60 {
        deep = json!({ "must": [deep] });
    }
    let points = |vector: Value| json!({"points": [{"id": 1, "vector": vector}]});
    let put = "/collections/docs/points";
    for (method, path, body) in [
        ("PUT", put, points(json!([1.0]))),
        ("PUT", put, points(json!([1.0, "x"]))),
        ("PUT", put, points(json!([1.0, 1e300]))),
        ("PUT", put, points(json!({"none": [1, 2]}))),
        ("PUT", put, json!({"points": [{"id": -1, "vector": [1, 2]}]})),
        ("PUT", put, json!({"points": [{"id": "no-uuid", "vector": [1, 2]}]})),
        ("PUT", put, json!({"points": []})),
        ("PUT", put, json!({"points": [{"id": 1, "vector": [1, 2], "surprise": 1}]})),
        ("POST", "/collections/docs/points/query", json!({"query": [1, 2], "limit": 0})),
        ("POST", "/collections/docs/points/query", json!({"query": [1, 2], "limit": 1_000_000_000})),
        ("POST", "/collections/docs/points/query", json!({"query": [1, 2], "filter": deep})),
        ("POST", "/collections/docs/points/query", json!({"query": 77})),
        (
            "POST",
            "/collections/docs/points/scroll",
            json!({"filter": {"must": [{"key": "a b", "match": {"value": 1}}]}}),
        ),
        ("POST", "/collections/docs/points/payload", json!({"payload": {"a": 1}})),
        ("POST", "/collections/docs/facet", json!({"key": ""})),
    ] {
        let (status, answer) = endpoint.call(method, path, &key, &body);
        assert!((400..500).contains(&status), "{path} {body}: {status} {answer}");
        assert!(answer["status"]["error"].is_string() && answer["time"].is_number(), "{answer}");
    }
    // Each of many questions may ask for much: not all of them together.
    let blob = json!({"blob": "x".repeat(15 << 20)});
    upsert(&endpoint, &key, "docs", &json!(9), &blob);
    let batch = |many: usize, payload: bool| {
        let question = json!({"query": [1, 2], "limit": 1, "with_payload": payload});
        let body = json!({ "searches": vec![question; many] });
        endpoint.call("POST", "/collections/docs/points/query/batch", &key, &body)
    };
    let (status, answer) = batch(20, true);
    assert!(status == 413 && answer["status"]["error"].as_str().unwrap().contains("fewer"), "{status}");
    assert_eq!(batch(20, false).0, 200);
    // A deadline that is over must not look like an answer.
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let hurried = agent.get(format!("http://{}/collections", endpoint.rest)).header("api-key", &key);
    let mut hurried = hurried.header("grpc-timeout", "0n").call().unwrap();
    let said: Value = serde_json::from_str(&hurried.body_mut().read_to_string().unwrap()).unwrap();
    assert!(hurried.status().as_u16() == 400 && said["status"]["error"].is_string(), "{said}");
    let (status, answer) = endpoint.call("GET", "/no/such/thing", &key, &Value::Null);
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = endpoint.call("POST", "/collections/docs/snapshots", &key, &json!({}));
    assert!(status == 501 && answer["status"]["error"].as_str().unwrap().contains("backup"), "{answer}");
    upsert(&endpoint, &key, "docs", &json!(1), &json!({}));
    endpoint.stop();
}

#[test]
fn plain_tcp_is_for_this_machine_alone() {
    let cli = Cli::new();
    tenant(&cli, "acme");
    let services = cli.file("s.toml", "");
    let serve = |settings: &[&str]| {
        let settings = settings.iter().flat_map(|s| ["--set", s]).collect::<Vec<_>>();
        cli.run(&[&["serve", "--services", &services][..], &settings].concat())
    };
    let said = refused(&serve(&["qdrant_rest_listen=0.0.0.0:0", "qdrant_tls=none"]), ErrorKind::InvalidInput);
    assert!(said.contains("TLS"), "{said}");
    let said = refused(&serve(&["qdrant_rest_listen=127.0.0.1:0"]), ErrorKind::InvalidInput);
    assert!(said.contains("certificate"), "{said}");
}
