//! Guards against benches that fail, leave files behind, or print lines that their readers do not understand.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const KEYS: [&str; 9] = ["bench", "case", "floor", "ours", "ratio", "unit", "n", "bar", "met"];

/// Runs a bench with tiny sizes and returns its lines, each checked.
fn bench(name: &str, args: &[&str]) -> Vec<Value> {
    let scratch = tempfile::tempdir().unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["bench", name, "--json", "--rounds", "2", "--scratch"])
        .arg(scratch.path())
        .args(args)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "{name} left files behind");
    let lines: Vec<Value> =
        String::from_utf8(run.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(|line| check(name, line));
    lines
}

fn check(name: &str, line: &Value) {
    let keys: BTreeSet<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(KEYS), "{line}");
    assert_eq!(line["bench"], name);
    assert!(!line["case"].as_str().unwrap().is_empty() && !line["unit"].as_str().unwrap().is_empty());
    assert!(line["n"].as_u64().unwrap() > 0);
    let number = |key: &str| line[key].as_f64().unwrap();
    // Some things are good when there is none of them.
    let least = if line["unit"] == "keys" { 0.0 } else { f64::MIN_POSITIVE };
    assert!(number("floor") > 0.0 && number("ours") >= least, "{line}");
    assert!((number("ratio") - number("ours") / number("floor")).abs() <= 1e-9 * number("ratio"), "{line}");
    match line["bar"].as_f64() {
        Some(bar) => {
            let is_rate = line["unit"].as_str().unwrap().ends_with("/s");
            let met = if is_rate { number("ratio") >= bar } else { number("ratio") <= bar };
            assert_eq!(line["met"].as_bool(), Some(met), "{line}");
        }
        None => assert!(line["bar"].is_null() && line["met"].is_null(), "{line}"),
    }
}

fn cases(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["case"].as_str().unwrap()).collect()
}

#[test]
fn seal_measures_both_providers_and_both_ciphers() {
    let lines = bench("seal", &["-n", "20"]);
    let expected = ["aws-lc gcm-siv", "aws-lc gcm", "rustcrypto gcm-siv", "rustcrypto gcm"];
    let expected: Vec<_> = expected.iter().flat_map(|c| [format!("seal {c}"), format!("open {c}")]).collect();
    assert_eq!(cases(&lines), expected);
}

#[test]
fn rotate_measures_memories_and_chunks() {
    let lines = bench("rotate", &["-n", "300", "--dim", "8"]);
    assert_eq!(cases(&lines), ["memories", "chunks sealed", "chunks plain"]);
}

#[test]
fn ingest_measures_both_modes() {
    assert_eq!(cases(&bench("ingest", &["-n", "60", "--dim", "8"])), ["sealed", "plain"]);
}

#[test]
fn search_measures_every_size_and_sealed_search_finds_all() {
    let args = ["-n", "50,90", "--dim", "8", "--mode", "sealed"];
    let lines = bench("search", &args);
    let once = || ["sealed cold open", "sealed resident"].map(str::to_owned).into_iter().chain(searched("sealed"));
    assert_eq!(cases(&lines), once().chain(once()).collect::<Vec<_>>());
    let recalls = lines.iter().filter(|line| line["unit"] == "recall");
    assert!(recalls.map(|line| line["ours"].as_f64().unwrap()).all(|recall| recall == 1.0));
}

#[test]
fn search_in_other_modes_uses_the_engine() {
    for mode in ["plain", "veiled"] {
        let lines = bench("search", &["-n", "60", "--dim", "8", "--mode", mode, "--seed", "3"]);
        assert_eq!(cases(&lines), searched(mode));
    }
}

/// What a search is measured by in every mode.
fn searched(mode: &str) -> [String; 4] {
    let cores = std::thread::available_parallelism().unwrap();
    [format!("recall {mode}"), format!("{mode} p50"), format!("{mode} p99"), format!("{mode} {cores} at once")]
}

#[test]
fn memories_are_read_and_written() {
    assert_eq!(cases(&bench("memory-get", &["-n", "30"])), ["p50", "p99"]);
    assert_eq!(cases(&bench("memory-put", &["-n", "20"])), ["1 writer", "8 writers"]);
}

#[test]
fn the_key_service_makes_no_key_on_request() {
    let lines = bench("kms", &["-n", "20"]);
    for provider in ["aws-lc", "rustcrypto"] {
        for profile in ["pure", "hybrid"] {
            for operation in ["encapsulate", "decapsulate", "sign", "verify", "derive"] {
                for items in [1, 64] {
                    let case = format!("{operation} {profile} {provider} ×{items}");
                    assert!(cases(&lines).contains(&case.as_str()), "{case}");
                }
            }
        }
    }
    let made = lines.iter().find(|line| line["case"] == "keys made on request").unwrap();
    assert!(made["ours"] == 0.0 && made["floor"].as_f64().unwrap() > 100.0 && made["met"] == true, "{made}");
}

#[test]
fn with_a_server_ingest_and_search_measure_both_sides_over_it() {
    let upstream = std::path::Path::new(env!("CARGO_BIN_EXE_strongroom")).with_file_name("examples").join("upstream");
    let upstream = upstream.to_str().unwrap();
    let server = ["-n", "60", "--dim", "8", "--engine", "server", "--placement", "shared", "--upstream", upstream];
    let lines = bench("ingest", &server);
    assert_eq!(cases(&lines), ["sealed, server, shared", "plain, server, shared"]);
    assert!(lines.iter().all(|line| line["bar"] == 1.5));
    let lines = bench("search", &[&server[..], &["--mode", "sealed"]].concat());
    assert_eq!(cases(&lines), ["p50", "p99", "recall"].map(|what| format!("sealed, server, shared {what}")));
    assert_eq!(lines[2]["ours"], 1.0, "an exact scan finds everything");
}
