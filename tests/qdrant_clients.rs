//! Guards against an endpoint that the official clients of Qdrant, and frameworks over them, cannot use as they are, or
//! that answers other than Qdrant does.

mod common;

use std::process::Stdio;

use common::cli::Cli;
use common::qdrant::{Endpoint, clients, script, tenant};

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
