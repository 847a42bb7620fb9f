//! Guards against an authority that others do not understand, that gives keys away, or that writes over what is there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use strongroom::ErrorKind;

struct Dir(tempfile::TempDir);

impl Dir {
    /// With an authority in `pki`.
    fn new() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        assert!(dir.run(&["init"]).status.success());
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("pki").join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.env_clear().env("STRONGROOM_PKI", "pki").current_dir(self.0.path());
        command.arg("pki").args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, args: &[&str], kind: ErrorKind, words: &str) {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(kind.exit_code())), "{args:?}: {stderr}");
        assert!(stderr.contains(words) && stderr.contains("help:"), "{args:?}: {stderr}");
    }

    /// What `openssl` says, which knows nothing of ours.
    fn openssl(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("openssl").args(args).current_dir(self.0.path().join("pki")).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    fn verifies(&self, purpose: &str, name: &str) -> bool {
        let certificate = format!("issued/{name}.pem");
        self.openssl(&["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", &certificate]).0
    }
}

#[test]
fn others_verify_what_is_issued_for_what_it_is_for() {
    let dir = Dir::new();
    let node = dir.json(&["issue", "node-1", "--host", "localhost", "--host", "192.0.2.7", "--host", "2001:db8::7"]);
    assert_eq!(node["hosts"], serde_json::json!(["localhost", "192.0.2.7", "2001:db8::7"]));
    dir.json(&["issue", "serving", "--server"]);
    dir.json(&["issue", "calling", "--client", "--days", "7"]);
    for (name, server, client) in [("node-1", true, true), ("serving", true, false), ("calling", false, true)] {
        assert_eq!((dir.verifies("sslserver", name), dir.verifies("sslclient", name)), (server, client), "{name}");
    }
    let (_, print) = dir.openssl(&["x509", "-in", "issued/node-1.pem", "-noout", "-fingerprint", "-sha256"]);
    let print = print.trim().split('=').next_back().unwrap().replace(':', "").to_lowercase();
    assert_eq!(node["sha256"], print.as_str());
    let (_, text) = dir.openssl(&["x509", "-in", "issued/node-1.pem", "-noout", "-text"]);
    for words in ["DNS:node-1, DNS:localhost, IP Address:192.0.2.7, IP Address:2001:DB8", "CA:FALSE", "secp384r1"] {
        assert!(text.contains(words), "{text}");
    }
    // No authority below the authority.
    let (_, text) = dir.openssl(&["x509", "-in", "ca.pem", "-noout", "-text"]);
    assert!(text.contains("CA:TRUE, pathlen:0"), "{text}");
    let (sound, _) =
        dir.openssl(&["x509", "-in", "issued/calling.pem", "-noout", "-checkend", &(8 * 86_400).to_string()]);
    assert!(!sound, "valid for longer than a week");
}

#[test]
fn keys_are_their_owners_and_nothing_is_written_over() {
    let dir = Dir::new();
    dir.json(&["issue", "one"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for name in ["", "authorities", "issued"] {
        assert_eq!(mode(&dir.path(name)), 0o700, "{name}");
    }
    for name in ["authorities/1.key", "issued/one.key"] {
        assert_eq!(mode(&dir.path(name)), 0o600, "{name}");
    }
    let read = |name: &str| std::fs::read(dir.path(name)).unwrap();
    let before = (read("issued/one.key"), read("issued/one.pem"), read("authorities/1.key"), read("ca.pem"));
    dir.refused(&["issue", "one"], ErrorKind::Conflict, "there is a certificate `one`");
    dir.refused(&["init"], ErrorKind::Conflict, "there is an authority");
    assert_eq!(before, (read("issued/one.key"), read("issued/one.pem"), read("authorities/1.key"), read("ca.pem")));
}

#[test]
fn renewing_changes_the_key_and_keeps_the_names() {
    let dir = Dir::new();
    let before = dir.json(&["issue", "one", "--client", "--host", "laptop", "--days", "30"]);
    let key = std::fs::read(dir.path("issued/one.key")).unwrap();
    let after = dir.json(&["renew", "one"]);
    for field in ["name", "server", "client", "hosts", "days", "issuer", "certificate", "key"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_ne!(before["sha256"], after["sha256"]);
    assert_ne!(key, std::fs::read(dir.path("issued/one.key")).unwrap());
    assert_eq!(dir.json(&["renew", "one", "--days", "3"])["days"], 3);
    assert!(dir.verifies("sslclient", "one"));
    assert_eq!(dir.json(&["list"])["certificates"].as_array().unwrap().len(), 1);
    dir.refused(&["renew", "two"], ErrorKind::NotFound, "`two`");
}

#[test]
fn an_old_authority_is_believed_until_nobody_needs_it() {
    let dir = Dir::new();
    dir.json(&["issue", "one"]);
    dir.json(&["issue", "two"]);
    let new = dir.json(&["rotate-ca"]);
    assert_eq!(new["number"], 2);
    dir.json(&["renew", "one"]);
    assert_eq!(dir.json(&["list"])["authorities"].as_array().unwrap().len(), 2);
    assert!(dir.verifies("sslclient", "one") && dir.verifies("sslclient", "two"));
    let old = dir.path("old.pem");
    std::fs::copy(dir.path("issued/two.pem"), &old).unwrap();
    dir.refused(&["retire-ca"], ErrorKind::Conflict, "1 certificates are of old authorities: two");
    assert_eq!(dir.json(&["renew", "two"])["issuer"], new["subject"]);
    dir.json(&["retire-ca"]);
    assert!(dir.verifies("sslclient", "one") && dir.verifies("sslclient", "two"));
    assert!(!dir.openssl(&["verify", "-CAfile", "ca.pem", "old.pem"]).0);
    assert!(!dir.path("authorities/1.key").exists());
    assert_eq!(dir.json(&["list"])["authorities"].as_array().unwrap().len(), 1);
}

#[test]
fn wrong_requests_are_refused_with_the_reason() {
    let dir = Dir::new();
    for name in ["", "../one", "a/b", "One", "*.example", "a b", ".", "..", "one.", "-", "127.0.0.1"] {
        dir.refused(&["issue", "--", name], ErrorKind::InvalidInput, "name");
    }
    assert_eq!(std::fs::read_dir(dir.path("issued")).unwrap().count(), 0);
    dir.refused(&["issue", "one", "--host", "a b"], ErrorKind::InvalidInput, "`a b`");
    dir.refused(&["issue", "one", "--days", "0"], ErrorKind::InvalidInput, "0 days");
    dir.refused(&["issue", "one", "--days", "826"], ErrorKind::InvalidInput, "826 days");
    dir.refused(&["list", "--pki", "elsewhere"], ErrorKind::NotFound, "`elsewhere`");
    dir.json(&["issue", "one"]);
    std::fs::write(dir.path("issued/one.pem"), "no certificate").unwrap();
    dir.refused(&["list"], ErrorKind::Integrity, "one.pem");
    std::fs::write(dir.path("authorities/1.key"), "no key").unwrap();
    dir.refused(&["issue", "two"], ErrorKind::Integrity, "1.key");
}
