//! The keystore's own backup, and both from the command line: to another machine and back.

use std::fs;
use std::path::Path;

use serde_json::json;
use strongroom::ErrorKind;

use crate::common::cli::{Cli, refused, refused_json, succeeded};
use crate::common::vector;

const SIZE: usize = 8;

fn fill(cli: &Cli) {
    let line = |id| format!("{}\n", json!({ "id": id, "text": format!("text {id}"), "vector": vector(id, SIZE) }));
    let lines: String = (0..20).map(line).collect();
    succeeded(&cli.run_with_input(&["ingest", "-t", "acme", "docs", "-"], lines.as_bytes()));
    cli.ok(&["remember", "-t", "acme", "users/ada", "drink", "tea"]);
}

fn whole(cli: &Cli) {
    cli.ok(&["verify"]);
    assert_eq!(cli.json(&["recall", "-t", "acme", "users/ada", "tea"])[0]["value"], "tea");
    assert_eq!(cli.json(&["get", "-t", "acme", "docs", "7"])[0]["text"], "text 7");
}

fn path(cli: &Cli, name: &str) -> String {
    cli.root.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn to_another_machine() {
    let cli = Cli::with_collection("sealed", SIZE);
    fill(&cli);
    let (backups, keys) = (path(&cli, "backups"), path(&cli, "keys.backup"));
    let secret = cli.file("secret", "another passphrase");
    let made = cli.json(&["backup", "create", "--to", &backups]);
    assert_eq!((made["number"].as_u64(), made["points"].as_u64()), (Some(1), Some(20)));
    let remarks = cli.run(&["keystore", "backup", "--to", &keys, "--backup-passphrase-file", &secret]);
    succeeded(&remarks);
    assert!(String::from_utf8_lossy(&remarks.stderr).contains("destroyed epochs back"));
    let again = cli.run(&["keystore", "backup", "--to", &keys, "--backup-passphrase-file", &secret]);
    refused(&again, ErrorKind::Conflict);
    let listed = cli.json(&["backup", "list", "--from", &backups]);
    assert_eq!(listed["backups"][0]["number"], 1);
    cli.ok(&["backup", "verify", "--from", &backups]);

    let mut other = Cli::bare();
    other.dir = other.root.path().join("elsewhere");
    // Without the keys nothing is restored.
    refused(&other.run(&["restore", "--from", &backups]), ErrorKind::NotFound);
    let restore = ["keystore", "restore", "--from", &keys, "--backup-passphrase-file"];
    other.ok(&[&restore[..], &[&secret]].concat());
    refused(&other.run(&[&restore[..], &[&secret]].concat()), ErrorKind::Conflict);
    let restored = other.json(&["restore", "--from", &backups]);
    assert_eq!((restored["clean"].as_bool(), restored["restored"]["points"].as_u64()), (Some(true), Some(20)));
    whole(&other);
    refused(&other.run(&["restore", "--from", &backups]), ErrorKind::Conflict);
    refused(&other.run(&["restore", "--from", &backups, "--backup", "9"]), ErrorKind::Conflict);
    fs::remove_dir_all(other.dir.join("data")).unwrap();
    refused(&other.run(&["restore", "--from", &backups, "--backup", "9"]), ErrorKind::NotFound);
    // Keys of another store do not open it.
    let stranger = Cli::new();
    let _ = fs::remove_dir_all(stranger.dir.join("data"));
    refused(&stranger.run(&["restore", "--from", &backups]), ErrorKind::Integrity);
}

#[test]
fn a_keystores_backup_that_was_changed_or_has_another_passphrase() {
    let cli = Cli::with_collection("sealed", SIZE);
    let (keys, secret, wrong) = (path(&cli, "keys.backup"), cli.file("secret", "right"), cli.file("wrong", "wrong"));
    cli.ok(&["keystore", "backup", "--to", &keys, "--backup-passphrase-file", &secret]);
    let mut other = Cli::bare();
    other.dir = other.root.path().join("elsewhere");
    let restore =
        |secret: &str| other.run(&["keystore", "restore", "--from", &keys, "--backup-passphrase-file", secret]);
    refused(&restore(&wrong), ErrorKind::Denied);
    let bytes = fs::read(&keys).unwrap();
    // Magic, salt and wrapped key, content, end.
    for (at, kind) in [(0, ErrorKind::Integrity), (30, ErrorKind::Denied), (80, ErrorKind::Denied)]
        .into_iter()
        .chain([200, bytes.len() / 2, bytes.len() - 1].map(|at| (at, ErrorKind::Integrity)))
    {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&keys, changed).unwrap();
        refused(&restore(&secret), kind);
    }
    for cut in [0, 7, 60, 120, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&keys, &bytes[..cut]).unwrap();
        refused(&restore(&secret), ErrorKind::Integrity);
    }
    assert!(!other.dir.join("keys").exists());
    fs::write(&keys, &bytes).unwrap();
    succeeded(&restore(&secret));
}

/// What is said of keys that are gone, and the exit code.
#[test]
fn a_shredded_tenant_from_the_command_line() {
    let cli = Cli::with_collection("sealed", SIZE);
    fill(&cli);
    let backups = path(&cli, "backups");
    cli.ok(&["backup", "create", "--to", &backups]);
    cli.ok(&["tenant", "shred", "acme", "--yes"]);
    fs::remove_dir_all(cli.dir.join("data")).unwrap();
    let output = cli.run(&["restore", "--from", &backups]);
    refused(&output, ErrorKind::Partial);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("tenant `acme` was shredded: 21 records can never be opened"), "{said}");
    cli.ok(&["backup", "create", "--to", &backups]);
    cli.ok(&["backup", "prune", "--from", &backups, "--keep", "1"]);
    fs::remove_dir_all(cli.dir.join("data")).unwrap();
    cli.ok(&["restore", "--from", &backups]);
}

#[test]
fn a_store_that_another_process_has() {
    let cli = Cli::with_collection("sealed", SIZE);
    let _held = strongroom::disk::DataDir::hold(&cli.dir.join("data"), 0).unwrap();
    let (_, remedy) =
        refused_json(&cli.run(&["backup", "create", "--to", &path(&cli, "b"), "--json"]), ErrorKind::Busy);
    assert!(remedy.contains("running service"), "{remedy}");
    assert!(!Path::new(&path(&cli, "b")).exists());
}
