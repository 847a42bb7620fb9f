//! Guards against an authority for TLS that overwrites keys, lets others read them, or issues what nobody verifies.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use common::cli::{Cli, refused};
use strongroom::ErrorKind;

/// Whether `openssl` believes a certificate by the authorities in `ca`.
fn openssl_believes(ca: &str, certificate: &str) -> bool {
    let output = Command::new("openssl").args(["verify", "-x509_strict", "-CAfile", ca, certificate]).output();
    output.unwrap_or_else(|e| panic!("`openssl` does not run ({e}): install it")).status.success()
}

#[test]
fn certificates_are_issued_renewed_and_ended_with_their_authority() {
    let cli = Cli::bare();
    let pki = cli.root.path().join("pki");
    let pki = pki.to_str().unwrap();
    let file = |name: &str| format!("{pki}/{name}");
    refused(&cli.run(&["pki", "list", "--pki", pki]), ErrorKind::NotFound);
    cli.ok(&["pki", "init", "--pki", pki]);
    refused(&cli.run(&["pki", "init", "--pki", pki]), ErrorKind::Conflict);
    let issued = cli.json(&["pki", "issue", "--pki", pki, "node-1", "--client"]);
    refused(&cli.run(&["pki", "issue", "--pki", pki, "node-1"]), ErrorKind::Conflict);
    for name in ["", "..", "a/b", "CA*"] {
        refused(&cli.run(&["pki", "issue", "--pki", pki, name]), ErrorKind::InvalidInput);
    }
    let (certificate, key) = (issued["certificate"].as_str().unwrap(), issued["key"].as_str().unwrap());
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(openssl_believes(&file("ca.pem"), certificate));
    let before = std::fs::read(certificate).unwrap();

    // A new authority beside the old one, until all that the old one issued is replaced.
    cli.ok(&["pki", "rotate-ca", "--pki", pki]);
    assert!(openssl_believes(&file("ca.pem"), certificate));
    let renewed = cli.json(&["pki", "renew", "--pki", pki, "node-1"]);
    assert_ne!(renewed["sha256"], issued["sha256"]);
    assert_ne!(renewed["issuer"], issued["issuer"]);
    assert!(openssl_believes(&file("ca.pem"), certificate));
    cli.ok(&["pki", "retire-ca", "--pki", pki]);
    assert!(openssl_believes(&file("ca.pem"), certificate));
    let old = cli.file("old.pem", before);
    assert!(!openssl_believes(&file("ca.pem"), &old));
    let listed = cli.json(&["pki", "list", "--pki", pki]);
    assert_eq!(listed["authorities"].as_array().unwrap().len(), 1);
    assert_eq!(listed["certificates"][0]["sha256"], renewed["sha256"]);
}
