//! Guards against a store that must be stopped to be rotated, and against a rotation that somebody may ask for who has no
//! right to, or that a signal leaves in pieces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::{Value, json};
use strongroom::ErrorKind;

use common::cli::{Cli, refused};
use common::service::Service;

const CHUNKS: usize = 3000;

/// A store with two tenants, one of which has something.
fn store() -> Cli {
    let cli = Cli::with_collection("sealed", 4);
    cli.ok(&["tenant", "create", "globex"]);
    let text = "a text that says little and takes its place ".repeat(20);
    let chunk = |id: usize| json!({"id": id, "text": format!("{id} {text}"), "vector": [id, 1, 0, 0]}).to_string();
    let lines: Vec<_> = (0..CHUNKS).map(chunk).collect();
    let lines = cli.file("chunks.jsonl", lines.join("\n"));
    cli.ok(&["ingest", "-t", "acme", "docs", &lines]);
    cli.ok(&["remember", "-t", "acme", "notes", "k", "v"]);
    cli
}

fn serve(cli: &Cli, role: &str, tenants: &str) -> Service {
    let uid = getuid().as_raw();
    let services = format!("[[service]]\nname = \"who\"\nrole = \"{role}\"\ntenants = [{tenants}]\nuid = {uid}\n");
    let services = cli.file("services.toml", services);
    Service::start(cli, &["serve", "--services", &services])
}

fn is_whole(cli: &Cli) {
    cli.ok(&["verify"]);
    let found = cli.json(&["search", "-t", "acme", "docs", "--vector", "[2999,1,0,0]", "--limit", "1"]);
    assert!(found.to_string().contains("a text that says little"), "{found}");
    assert_eq!(cli.json(&["recall", "-t", "acme", "notes", "v"])[0]["value"], "v");
}

fn epoch(status: &Value) -> (u64, String) {
    (status["active"]["epoch"].as_u64().unwrap(), status["phase"].as_str().unwrap().to_owned())
}

#[test]
fn a_store_that_is_served_is_rotated_there() {
    let mut cli = store();
    let service = serve(&cli, "admin", "\"*\"");
    // Nothing is opened here: there is no passphrase.
    let passphrase = std::mem::replace(&mut cli.passphrase, "none of this store".into());
    let status = cli.json(&["rotate", "status"]);
    assert_eq!(status.as_array().unwrap().len(), 2);
    assert_eq!((&status[0]["tenant"], epoch(&status[0])), (&"acme".into(), (1, "idle".into())));
    assert_eq!(cli.json(&["rotate", "--all-due"]), json!([]));
    let rotated = cli.json(&["rotate", "--tenant", "acme", "--suite", "gcm"]);
    assert_eq!((epoch(&rotated[0]), &rotated[0]["last"]["records"]), ((2, "idle".into()), &(CHUNKS + 1).into()));
    assert_eq!(rotated[0]["active"]["suite"], "aes-256-gcm+hkdf-sha3-512");
    assert_eq!(rotated[0]["retained"][0]["epoch"], 1);
    refused(&cli.run(&["rotate", "--tenant", "acme", "--suite", "rot13"]), ErrorKind::InvalidInput);
    refused(&cli.run(&["rotate", "--tenant", "nobody"]), ErrorKind::NotFound);

    // Two at once: one of them may be told that the other is at it.
    let ask = || cli.command(&["rotate", "--tenant", "acme", "--compromised"]).stderr(Stdio::null()).spawn().unwrap();
    let ended = [ask(), ask()].map(|mut child| child.wait().unwrap().code().unwrap());
    assert!(ended.contains(&0) && ended.iter().all(|code| [0, 6].contains(code)), "{ended:?}");
    let status = cli.json(&["rotate", "status", "--tenant", "acme"]);
    assert!(epoch(&status[0]).0 >= 3, "{status}");

    let metrics = metrics(&cli);
    assert!(metrics.contains("strongroom_store_rotations_total{outcome=\"done\"}"), "{metrics}");
    assert!(metrics.contains("strongroom_store_tenants_overdue 0"), "{metrics}");
    assert!(!metrics.contains("acme"), "a tenant is named: {metrics}");
    service.stop();
    cli.passphrase = passphrase;
    is_whole(&cli);
}

fn metrics(cli: &Cli) -> String {
    let mut stream = UnixStream::connect(cli.dir.join("store.sock")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: store\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn only_an_admin_rotates_and_only_tenants_of_its_own() {
    let cli = store();
    let service = serve(&cli, "admin", "\"acme\"");
    assert_eq!(cli.json(&["rotate", "status"]).as_array().unwrap().len(), 1, "the other is nobody's business");
    for args in [["rotate", "--tenant", "globex"], ["rotate", "--tenant", "initech"]] {
        refused(&cli.run(&args), ErrorKind::Denied);
    }
    refused(&cli.run(&["rotate", "status", "--tenant", "globex"]), ErrorKind::Denied);
    service.stop();
    for role in ["agent", "sidecar", "store", "reader", "node"] {
        let service = serve(&cli, role, "\"*\"");
        for args in [&["rotate", "--all-due"][..], &["rotate", "--tenant", "acme"], &["rotate", "status", "-t", "acme"]]
        {
            refused(&cli.run(args), ErrorKind::Denied);
        }
        service.stop();
    }
    assert_eq!(epoch(&cli.json(&["rotate", "status", "--tenant", "acme"])[0]), (1, "idle".into()));
}

/// A rotation of a command, and one of a service, that a signal ends in the middle.
#[test]
fn a_rotation_that_is_told_to_stop_goes_on_later() {
    let cli = store();
    let slowly = ["--set", "rotation_mib_per_s=1"];
    let child = cli.command(&[&["rotate", "--tenant", "acme"][..], &slowly].concat());
    let mut child = { child }.stderr(Stdio::piped()).spawn().unwrap();
    let moves = || common::audit::lines(&cli.dir.join("keys")).matches("\"state\":\"active\"").count();
    let before = moves();
    for _ in 0..600 {
        // The new epoch is announced, and what takes seconds begins.
        if moves() > before {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(10));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("goes on where it was"), "{said}");
    let status = cli.json(&["rotate", "status", "--tenant", "acme"]);
    assert_eq!(epoch(&status[0]), (2, "reencrypting".into()), "{status}");
    assert_eq!(status[0]["due"], true);
    is_whole(&cli);

    // A service goes on with it by itself.
    let service = serve(&cli, "admin", "\"*\"");
    let done = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        epoch(&cli.json(&["rotate", "status", "--tenant", "acme"])[0]) == (2, "idle".into())
    });
    assert!(done, "the service does not go on with it");
    service.stop();
    is_whole(&cli);
    assert_eq!(cli.json(&["rotate", "--all-due"]), json!([]));
}
