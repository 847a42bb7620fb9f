//! Guards against an operator being told that a chain is good when it is not, or not being told why it is refused.

use std::process::{Command, Output};

use serde_json::Value;
use strongroom::ErrorKind;
use strongroom::keys::Profile;
use strongroom::keys::certificate::{Certificate, to_pem};

#[path = "certificates/world.rs"]
#[expect(dead_code, reason = "the other tests of certificates use the rest")]
mod world;

use world::{HOUR_MS, NOW_MS, world};

/// When the certificates of [`world`] are valid.
const DURING: &str = "2026-01-01T00:30:00Z";

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let (files, w) = (Self(tempfile::tempdir().unwrap()), world(Profile::Cnsa2));
        assert_eq!(NOW_MS + HOUR_MS / 2, 1_767_227_400_000, "DURING is half an hour later");
        files.put("root.pem", std::slice::from_ref(&w.authority));
        files.put("tenant.pem", std::slice::from_ref(&w.tenant));
        files.put("session.pem", &w.chain());
        files.put("other-root.pem", std::slice::from_ref(&w.tenant));
        files
    }

    fn put(&self, name: &str, certificates: &[Certificate]) {
        self.write(name, to_pem(certificates).unwrap().as_bytes());
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    /// Runs without a store, a passphrase, or anything else in the environment.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.env_clear().current_dir(self.0.path()).arg("cert").args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, args: &[&str], kind: ErrorKind, reason: &str) {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(kind.exit_code())), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(stderr.contains(reason) && stderr.contains("help:"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_good_chain_is_good() {
    let files = Files::new();
    let base = ["verify", "--root", "root.pem", "--at", DURING];
    let json = files.json(&[&base[..], &["session.pem", "--tenant", "acme", "--agent", "planner"]].concat());
    assert_eq!((&json["verified"], &json["tenant"], &json["profile"]), (&true.into(), &"acme".into(), &"cnsa2".into()));
    assert_eq!((&json["at"], &json["not_after"]), (&DURING.into(), &"2026-01-01T01:00:00Z".into()));
    assert_eq!(json["session"]["agent"], "planner");
    let output = files.run(&[&base[..], &["tenant.pem"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("tenant acme, profile cnsa2"), "{text}");
    assert!(files.json(&[&base[..], &["tenant.pem"]].concat()).get("session").is_none());
}

#[test]
fn a_bad_chain_is_refused_with_the_reason() {
    let files = Files::new();
    let base = ["verify", "--root", "root.pem", "--at", DURING];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    files.refused(&with(&["tenant.pem", "--tenant", "other"]), ErrorKind::Denied, "it is of the tenant `acme`");
    files.refused(&with(&["tenant.pem", "--agent", "planner"]), ErrorKind::Denied, "does not end in a session");
    files.refused(&with(&["session.pem", "--agent", "writer"]), ErrorKind::Denied, "another agent");
    files.refused(&with(&["root.pem"]), ErrorKind::Denied, "no tenant's certificate");
    files.refused(
        &["verify", "--root", "root.pem", "session.pem"],
        ErrorKind::Denied,
        "session certificate has expired",
    );
    let other = ["verify", "--root", "other-root.pem", "--at", DURING, "session.pem"];
    files.refused(&other, ErrorKind::Denied, "in the place of the pinned authority");
    let mut text = std::fs::read(files.0.path().join("tenant.pem")).unwrap();
    text[100] ^= 0x55;
    files.write("broken.pem", &text);
    files.refused(&with(&["broken.pem"]), ErrorKind::Denied, "`broken.pem` is refused");
}

#[test]
fn wrong_files_are_named() {
    let files = Files::new();
    files.write("binary.pem", &[0xff; 100]);
    files.write("empty.pem", b"");
    files.write("huge.pem", &vec![b' '; 1 << 20]);
    files.refused(&["show", "none.pem"], ErrorKind::NotFound, "`none.pem`");
    files.refused(&["show", "binary.pem"], ErrorKind::InvalidInput, "`binary.pem` is not a text");
    files.refused(&["show", "empty.pem"], ErrorKind::InvalidInput, "no certificate");
    files.refused(&["show", "huge.pem"], ErrorKind::InvalidInput, "too long");
    files.refused(&["verify", "--root", "none.pem", "tenant.pem"], ErrorKind::NotFound, "`none.pem`");
    files.refused(&["verify", "--root", "session.pem", "tenant.pem"], ErrorKind::InvalidInput, "more than one");
    let usage = files.run(&["verify", "--root", "root.pem", "--at", "yesterday", "tenant.pem"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn what_is_shown_is_not_called_verified() {
    let files = Files::new();
    let shown = files.json(&["show", "session.pem"]);
    let kinds: Vec<_> = shown.as_array().unwrap().iter().map(|c| c["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["tenant", "session"]);
    let output = files.run(&["show", "session.pem"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("profile    cnsa2"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cert verify"));
}
