//! Guards against an operator who cannot see what an envelope says, or who is shown what nobody should see.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use strongroom::ErrorKind;

/// The envelope that `schema/vectors/envelope_layout.py` made for a profile.
fn sample(profile: &str) -> Vec<u8> {
    let lines = include_str!("../schema/vectors/envelope_layout.txt").lines();
    let (_, hex) = lines.filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == profile).unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Runs without a store, a passphrase, or anything else in the environment.
fn show(file: &str, input: &[u8], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.env_clear().args(["envelope", "show", file]).args(more);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that refuses early does not read it all.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

#[test]
fn an_envelope_is_shown_from_a_file_and_from_standard_input() {
    for (profile, suite) in [("hybrid", "aes-256-gcm-siv+hkdf-sha3-512"), ("cnsa2", "aes-256-gcm+hkdf-sha-384")] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), sample(profile)).unwrap();
        let shown = show("-", &sample(profile), &["--json"]);
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        assert_eq!(show(file.path().to_str().unwrap(), b"", &["--json"]).stdout, shown.stdout);
        let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!((&json["sender"]["agent"], &json["suite"]), (&"planner".into(), &suite.into()));
        assert_eq!((&json["payload_bytes"], &json["sequence"]), (&24.into(), &300.into()));
        assert_eq!((&json["correlation"], &json["kind"]), (&"63616c6c2d37".into(), &"tool-arguments".into()));
        let text = String::from_utf8(show("-", &sample(profile), &[]).stdout).unwrap();
        assert!(text.contains("agent planner of tenant acme") && !text.contains("010101"), "{text}");
    }
}

#[test]
fn what_is_no_envelope_is_not_shown() {
    let good = sample("pure");
    for bytes in [&b""[..], b"hello", &good[..good.len() - 1], &[&good[..], b"\n"].concat()] {
        let refused = show("-", bytes, &[]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(i32::from(ErrorKind::InvalidInput.exit_code())), "{stderr}");
        assert!(refused.stdout.is_empty() && stderr.contains("malformed envelope") && stderr.contains("help:"));
    }
    let missing = show("no such file", b"", &[]);
    assert_eq!(missing.status.code(), Some(i32::from(ErrorKind::NotFound.exit_code())));
}
