//! The command line: what it prints verifies, and each thing that can go wrong has its exit code and a remedy.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::Value;
use strongroom::ErrorKind;
use strongroom::audit::verify::{consistency, inclusion};

use super::scene::flip;
use crate::common::cli::{Cli, refused, succeeded};
use crate::common::service::Service;

fn store() -> Cli {
    let cli = Cli::new();
    for tenant in ["acme", "globex"] {
        cli.ok(&["tenant", "create", tenant]);
    }
    cli.ok(&["epoch", "create", "-t", "acme"]);
    cli
}

fn lines(cli: &Cli, args: &[&str]) -> Vec<Value> {
    let out = cli.ok(&[&["--json"], args].concat());
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn hash(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn hashes(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(hash).collect()
}

#[test]
fn what_is_printed_verifies() {
    let cli = store();
    let status = &lines(&cli, &["audit", "status"])[0];
    let size = status["assigned"].as_u64().unwrap();
    // Every command signs what it has recorded before it ends.
    assert_eq!((size > 5, &status["published"]), (true, &status["assigned"]), "{status}");
    let all = lines(&cli, &["audit", "tail", "-n", "100"]);
    assert_eq!(all.len() as u64, size);
    assert_eq!(all[0]["entry"]["type"], "log-begun");
    assert!(cli.ok(&["audit", "tail", "-n", "2"]).lines().count() == 2);
    let one = &lines(&cli, &["audit", "show", "1"])[0];
    assert_eq!((&one["entry"], &one["index"]), (&all[1]["entry"], &1.into()));

    let proof = &lines(&cli, &["audit", "prove", "inclusion", "1"])[0];
    assert_eq!(proof, &one["proof"]);
    let (root, leaf) = (hash(&proof["root"]), hash(&proof["leafHash"]));
    inclusion(1, size, &root, &leaf, &hashes(&proof["proof"])).unwrap();
    let proof = &lines(&cli, &["audit", "prove", "consistency", "3"])[0];
    let (old, new) = (hash(&proof["root1"]), hash(&proof["root2"]));
    assert_eq!((&proof["size2"], &new), (&size.into(), &root));
    consistency(3, size, &old, &new, &hashes(&proof["proof"])).unwrap();
    assert!(cli.ok(&["audit", "prove", "inclusion", "1"]).contains(&BASE64_STANDARD.encode(&root)));

    let checkpoint = cli.ok(&["audit", "checkpoint"]);
    assert_eq!(checkpoint.lines().nth(2).unwrap(), BASE64_STANDARD.encode(root));
    for (args, kind) in [
        (&["audit", "show", "9999"][..], ErrorKind::NotFound),
        (&["audit", "prove", "inclusion", "9999"], ErrorKind::NotFound),
        (&["audit", "prove", "consistency", "0"], ErrorKind::InvalidInput),
        (&["audit", "prove", "consistency", "1", "9999"], ErrorKind::NotFound),
        (&["audit", "status", "--of", "sidecar"], ErrorKind::NotFound),
        (&["audit", "checkpoint", "--of", "store", "--now"], ErrorKind::NotFound),
        (&["audit", "tail", "--tenant", "acme", "--of", "store"], ErrorKind::NotFound),
    ] {
        refused(&cli.run(args), kind);
    }
}

#[test]
fn an_export_is_verified_elsewhere_and_an_attack_is_named() {
    let cli = store();
    let [to, checkpoint] = ["export", "then"].map(|name| cli.root.path().join(name).display().to_string());
    let key = cli.file("key", cli.ok(&["audit", "key"]));
    std::fs::write(&checkpoint, cli.ok(&["audit", "checkpoint"])).unwrap();
    cli.ok(&["epoch", "create", "-t", "globex"]);
    cli.ok(&["audit", "export", "--to", &to]);
    // Nothing of the store is there.
    let elsewhere = Cli { passphrase: String::new(), ..Cli::bare() };
    let verify = ["audit", "verify", &to, "--key", &key, "--checkpoint", &checkpoint];
    let said = elsewhere.ok(&verify);
    assert!(said.contains("sound: ") && said.contains("it continues the log of"), "{said}");
    refused(&cli.run(&["audit", "export", "--to", &to]), ErrorKind::Conflict);

    let bundle = crate::common::cli::walk(to.as_ref())
        .into_iter()
        .find(|path| path.is_file() && path.display().to_string().contains("entries"));
    let bundle = bundle.unwrap();
    flip(&bundle, 10);
    let said = refused(&elsewhere.run(&verify), ErrorKind::Integrity);
    assert!(said.contains("changed-entry: entry 0 is not what was logged"), "{said}");
    flip(&bundle, 10);
    let other = store();
    let wrong = other.file("key", other.ok(&["audit", "key"]));
    let said = refused(&elsewhere.run(&["audit", "verify", &to, "--key", &wrong]), ErrorKind::Integrity);
    assert!(said.contains("wrong-key: "), "{said}");
    refused(&elsewhere.run(&["audit", "verify", &to, "--key", "no key"]), ErrorKind::InvalidInput);
    refused(&elsewhere.run(&["audit", "verify", "nowhere", "--key", &key]), ErrorKind::NotFound);
    assert_eq!(lines(&elsewhere, &verify)[0]["verified"], true);
}

#[test]
fn a_tenant_gets_and_verifies_its_own_entries() {
    let cli = store();
    let key = cli.ok(&["audit", "key"]);
    let own = lines(&cli, &["audit", "show", "--tenant", "acme"]);
    assert!(own.len() >= 4, "{own:?}");
    let pseudonym = own[0]["entry"]["tenant"].as_str().unwrap().to_owned();
    assert!(own.iter().all(|line| line["entry"]["tenant"] == pseudonym.as_str()));
    assert_eq!(lines(&cli, &["audit", "show", "--pseudonym", &pseudonym]), own);
    assert_eq!(lines(&cli, &["audit", "tail", "-n", "2", "--pseudonym", &pseudonym]).len(), 2);
    let to = cli.root.path().join("acme.view").display().to_string();
    cli.ok(&["audit", "export", "--tenant", "acme", "--to", &to]);
    let elsewhere = Cli { passphrase: String::new(), ..Cli::bare() };
    let said = elsewhere.ok(&["audit", "verify", &to, "--key", key.trim(), "--pseudonym", &pseudonym]);
    assert!(said.contains(&format!("sound: {} entries of the tenant {pseudonym}", own.len())), "{said}");
    let zeros = "0".repeat(32);
    let foreign = elsewhere.run(&["audit", "verify", &to, "--key", key.trim(), "--pseudonym", &zeros]);
    assert!(refused(&foreign, ErrorKind::Integrity).contains("foreign-entry: "));
    // Without the passphrase nobody learns which tenant is which.
    let stranger = cli.command(&["audit", "show", "--tenant", "acme"]).env("STRONGROOM_PASSPHRASE", "wrong").output();
    refused(&stranger.unwrap(), ErrorKind::Denied);
}

#[test]
fn a_running_service_is_read_along_and_not_written() {
    let cli = store();
    let uid = getuid().as_raw();
    let services = format!("[[service]]\nname = \"s\"\nrole = \"admin\"\ntenants = [\"*\"]\nuid = {uid}\n");
    let services = cli.file("services.toml", services);
    let socket = format!("unix:{}", cli.root.path().join("kms.sock").display());
    let service = Service::start(&cli, &["kms", "serve", "--listen", &socket, "--services", &services]);
    let mut tail = cli.command(&["--json", "audit", "tail", "-f", "-n", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut followed = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&followed.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["entry"]["type"], "started");
    let setting = format!("kms={socket}");
    cli.ok(&["--set", &setting, "epoch", "create", "-t", "acme"]);
    while next()["entry"]["type"] != "epoch-moved" {}
    kill_process(Pid::from_child(&tail), Signal::TERM).unwrap();
    tail.wait().unwrap();
    refused(&cli.run(&["audit", "checkpoint", "--now"]), ErrorKind::Busy);
    refused(&cli.run(&["audit", "prune", "--older-than", "1d"]), ErrorKind::Busy);
    assert!(lines(&cli, &["audit", "show", "--tenant", "acme"]).len() >= 4);
    service.stop();
    let last = lines(&cli, &["audit", "tail", "-n", "1"]);
    assert_eq!(last[0]["entry"]["type"], "log-closed");
    succeeded(&cli.run(&["audit", "checkpoint", "--now"]));
    assert!(cli.ok(&["audit", "prune", "--older-than", "1d"]).contains("nothing to remove"));
    let soon = cli.run(&["audit", "prune", "--older-than", "soon"]);
    assert!(soon.status.code() == Some(2) && String::from_utf8_lossy(&soon.stderr).contains("this is no age"));
}

/// Guards against a service that goes on when it cannot record what it does.
#[test]
fn without_room_for_events_nothing_is_done() {
    let cli = store();
    let full = ["--set", "audit_min_free_mib=4294967295"];
    let said = refused(&cli.run(&[&full[..], &["epoch", "create", "-t", "acme"]].concat()), ErrorKind::Unavailable);
    assert!(said.contains("audit log cannot be written") && said.contains("audit_min_free_mib"), "{said}");
    let before = lines(&cli, &["audit", "status"])[0]["assigned"].clone();
    let goes_on = ["--set", "audit_on_failure=continue"];
    cli.ok(&[&full[..], &goes_on, &["epoch", "create", "-t", "acme"]].concat());
    assert_eq!(lines(&cli, &["audit", "status"])[0]["assigned"], before);
}
