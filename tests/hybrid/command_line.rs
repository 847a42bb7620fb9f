//! The same from the command line.

use serde_json::{Value, json};
use strongroom::ErrorKind;

use crate::common::cli::{Cli, refused, succeeded};

fn ids(hits: &Value) -> Vec<u64> {
    hits.as_array().unwrap().iter().map(|hit| hit["id"].as_u64().unwrap()).collect()
}

#[test]
fn words_sparse_vectors_and_both_kinds_together() {
    let cli = Cli::new();
    cli.ok(&["tenant", "create", "acme"]);
    let create = ["collection", "create", "-t", "acme", "docs", "--vector", "body=2:dot", "--sparse", "terms:idf"];
    assert!(cli.ok(&create).contains("body 2 dot, terms sparse idf"));
    let shown = cli.json(&["collection", "show", "-t", "acme", "docs"]);
    assert_eq!(shown["sparse"], json!({"terms": {"modifier": "idf"}}));
    assert_eq!(shown["language"], "english");

    let lines = [
        json!({"id": 1, "text": "the cat sat", "vector": {"body": [1, 0], "terms": {"indices": [9, 3], "values": [1, 2]}}}),
        json!({"id": 2, "text": "two dogs ran", "vector": {"body": [0, 1]}, "sparse": {"terms": {"indices": [3], "values": [1]}}}),
        json!({"id": 3, "text": "a dog sat", "sparse": {"terms": {"indices": [9], "values": [5]}}}),
        json!({"id": 4, "text": "nothing else", "vector": {"body": [-1, -1]}}),
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let file = cli.file("lines.jsonl", &lines);
    cli.ok(&["ingest", "-t", "acme", "docs", &file]);

    let search = |args: &[&str]| ids(&cli.json(&[&["search", "-t", "acme", "docs"], args].concat()));
    assert_eq!(search(&["--text", "dogs"]), [2, 3]);
    assert_eq!(search(&["--text", "dogs", "-n", "1"]), [2]);
    assert_eq!(search(&["--sparse", r#"{"indices": [9], "values": [1]}"#]), [3, 1]);
    assert_eq!(search(&["--sparse", r#"{"indices": [3], "values": [1]}"#, "--using", "terms"]), [1, 2]);
    // By vector 1, 2, 4; by words 2, 3.
    assert_eq!(search(&["--hybrid", "--vector", "[1, 0]", "--text", "dog"])[0], 2);
    assert_eq!(search(&["--hybrid", "--vector", "[1, 0]", "dog"]).len(), 4);
    let said = cli.ok(&["search", "-t", "acme", "docs", "--text", "cat"]);
    assert!(said.contains("  1  the cat sat"), "{said}");
    let got = cli.json(&["get", "-t", "acme", "docs", "1"]);
    assert_eq!(got[0]["vectors"], json!({"body": [1.0, 0.0], "terms": {"indices": [3, 9], "values": [2.0, 1.0]}}));

    for (args, kind) in [
        (&["--sparse", r#"{"indices": [9, 9], "values": [1, 1]}"#][..], ErrorKind::InvalidInput),
        (&["--sparse", "SECRET"], ErrorKind::InvalidInput),
        (&["--text", "dog", "--vector", "[1, 0]"], ErrorKind::InvalidInput),
        (&["--hybrid", "--vector", "[1, 0]"], ErrorKind::InvalidInput),
        (&["--hybrid", "--text", "dog"], ErrorKind::InvalidInput),
    ] {
        let said = refused(&cli.run(&[&["search", "-t", "acme", "docs"], args].concat()), kind);
        assert!(!said.contains("SECRET"), "{said}");
    }
}

#[test]
fn texts_without_vectors() {
    let cli = Cli::new();
    cli.ok(&["tenant", "create", "acme"]);
    let made = cli.ok(&["collection", "create", "-t", "acme", "docs", "--no-vector", "--language", "german"]);
    assert!(made.contains("no vectors"), "{made}");
    let input = "{\"id\": 1, \"text\": \"Häuser\"}\n{\"id\": 2, \"text\": \"Boote\"}\n";
    succeeded(&cli.run_with_input(&["ingest", "-t", "acme", "docs", "-"], input.as_bytes()));
    assert_eq!(ids(&cli.json(&["search", "-t", "acme", "docs", "--text", "Haus"])), [1]);
    let args = ["collection", "create", "-t", "acme", "more", "--no-vector", "--language", "klingon"];
    assert!(!cli.run(&args).status.success());
}
