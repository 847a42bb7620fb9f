//! What the command line says.

use serde_json::json;
use strongroom::ErrorKind;

use crate::common::cli::{Cli, refused, refused_json, succeeded};
use crate::common::vector;

#[test]
fn it_states_the_leak_and_does_nothing_twice() {
    let cli = Cli::with_collection("sealed", 16);
    let line = |id: u64| json!({ "id": id, "text": "text", "vector": vector(id, 16) }).to_string();
    let lines: Vec<String> = (0..40).map(line).collect();
    let file = cli.file("chunks.jsonl", lines.join("\n"));
    cli.ok(&["ingest", "-t", "acme", "docs", &file]);
    let update = |mode: &str| cli.run(&["collection", "update", "-t", "acme", "docs", "--mode", mode]);
    for (mode, said) in [("veiled", Some("`veiled` hides less")), ("plain", Some("exact embeddings")), ("sealed", None)]
    {
        let output = update(mode);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        match said {
            Some(said) => assert!(talk.contains(said), "{talk}"),
            None => assert!(!talk.contains("note:"), "{talk}"),
        }
        let answer = succeeded(&output);
        assert!(answer.starts_with("changed 40 points: docs (") && answer.contains(mode), "{answer}");
        let again = update(mode);
        assert!(!String::from_utf8_lossy(&again.stderr).contains("note:"));
        assert!(succeeded(&again).starts_with("changed 0 points"));
        assert_eq!(cli.json(&["collection", "show", "-t", "acme", "docs"])["mode"], mode);
    }
    let answer = cli.json(&["collection", "update", "-t", "acme", "docs", "--mode", "plain"]);
    assert_eq!((&answer["changed"], &answer["collection"]["mode"]), (&json!(40), &json!("plain")));
    assert_eq!(cli.json(&["verify"])["acme"]["collections"]["docs"]["sound"], 40);
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let cli = Cli::new();
    cli.ok(&["tenant", "create", "acme"]);
    cli.ok(&["collection", "create", "-t", "acme", "docs", "--size", "3", "--metric", "euclid"]);
    let update = ["collection", "update", "-t", "acme", "docs", "--mode", "veiled"];
    refused(&cli.run(&update), ErrorKind::InvalidInput);
    let (message, remedy) = refused_json(&cli.run(&[&update[..], &["--json"]].concat()), ErrorKind::InvalidInput);
    assert!(message.contains("euclid") && remedy.contains("sealed"), "{message} {remedy}");
    let unknown = ["collection", "update", "-t", "acme", "none", "--mode", "plain"];
    refused(&cli.run(&unknown), ErrorKind::NotFound);
    assert_eq!(cli.json(&["collection", "show", "-t", "acme", "docs"])["mode"], "sealed");
}
