//! Guards against bad input and bad surroundings that lose data, end in a panic, or leave the user without a word on
//! what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::cli::{Cli, refused, refused_json, succeeded};
use common::{npy, vector};
use serde_json::{Value, json};
use strongroom::ErrorKind;

const SIZE: usize = 8;
const INGEST: [&str; 4] = ["ingest", "-t", "acme", "docs"];
/// Records that every store has from the start, and must have at the end.
const KEPT: u64 = 3;

/// A store in which there is something to lose.
struct Store {
    cli: Cli,
}

fn line(id: u64) -> String {
    format!("{}\n", json!({ "id": id, "text": format!("text {id}"), "vector": vector(id, SIZE) }))
}

impl Store {
    fn new(mode: &str) -> Self {
        let store = Self { cli: Cli::with_collection(mode, SIZE) };
        store.fill();
        store
    }

    fn fill(&self) {
        let lines: String = (0..KEPT).map(line).collect();
        succeeded(&self.cli.run_with_input(&[&INGEST[..], &["-"]].concat(), lines.as_bytes()));
        self.cli.ok(&["remember", "-t", "acme", "users/ada", "drink", "tea"]);
    }

    fn ingest(&self, input: impl AsRef<[u8]>, more: &[&str]) -> Output {
        self.cli.run_with_input(&[&INGEST[..], &["-"], more].concat(), input.as_ref())
    }

    /// Nothing that was acknowledged is gone or different.
    fn intact(&self) {
        let ids: Vec<String> = (0..KEPT).map(|id| id.to_string()).collect();
        let ids: Vec<&str> = ["get", "-t", "acme", "docs"].into_iter().chain(ids.iter().map(String::as_str)).collect();
        let chunks = self.cli.json(&ids);
        for id in 0..KEPT {
            let chunk = &chunks[usize::try_from(id).unwrap()];
            assert_eq!(chunk["text"], format!("text {id}"));
            let values: Vec<f32> = serde_json::from_value(chunk["vectors"][""].clone()).unwrap();
            assert_eq!(values, vector(id, SIZE));
        }
        assert_eq!(self.cli.json(&["recall", "-t", "acme", "users/ada", "tea"])[0]["value"], "tea");
        self.cli.ok(&["verify"]);
    }

    fn count(&self) -> u64 {
        self.cli.json(&["collection", "show", "-t", "acme", "docs"])["status"]["chunks"].as_u64().unwrap()
    }
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "nothing about `{word}`: {text}"));
}

#[test]
fn bad_records_are_refused_with_their_line() {
    let store = Store::new("sealed");
    let bad: [(&str, Vec<u8>, &[&str]); 9] = [
        ("too few dimensions", json!({"id": 9, "text": "t", "vector": vec![0.5; SIZE - 1]}).to_string().into(), &["8"]),
        (
            "too many dimensions",
            json!({"id": 9, "text": "t", "vector": vec![0.5; SIZE + 1]}).to_string().into(),
            &["8"],
        ),
        ("no vector", br#"{"id": 9, "text": "t"}"#.to_vec(), &["vector"]),
        ("NaN", br#"{"id": 9, "text": "t", "vector": [NaN, 1]}"#.to_vec(), &["NaN"]),
        ("a number beyond f32", br#"{"id": 9, "text": "t", "vector": [1e39, 1]}"#.to_vec(), &["out of range"]),
        ("an id twice", line(7).into(), &["earlier line"]),
        ("bad UTF-8", b"{\"id\": 9, \"text\": \"\xff\xfe\"}".to_vec(), &["UTF-8"]),
        ("half a line", br#"{"id": 9, "text": "t"#.to_vec(), &["JSON"]),
        ("an unknown field", br#"{"id": 9, "text": "t", "colour": 1}"#.to_vec(), &["colour", "metadata"]),
    ];
    for (what, record, words) in bad {
        let input = [line(7).as_bytes(), &record, b"\n"].concat();
        let said = refused(&store.ingest(&input, &[]), ErrorKind::InvalidInput);
        says(&said, &["line 2"]);
        says(&said, words);
        let (message, remedy) = refused_json(&store.ingest(&input, &["--json"]), ErrorKind::InvalidInput);
        assert!(message.contains("line 2") && !remedy.is_empty(), "{what}: {message}");
        // What came before the bad line is stored, and the same command runs again once the line is mended.
        assert_eq!(store.count(), KEPT + 1, "{what}");
    }
    store.intact();
}

#[test]
fn with_keep_going_bad_lines_are_named_and_the_rest_is_stored() {
    let store = Store::new("sealed");
    let input = [line(10), "not json\n".into(), line(11), "{}\n".into(), line(12)].concat();
    let output = store.ingest(&input, &["--keep-going"]);
    says(&refused(&output, ErrorKind::Partial), &["line 2", "line 4", "2 lines were skipped"]);
    assert_eq!(store.count(), KEPT + 3);
    let output = store.ingest(&input, &["--keep-going", "--json"]);
    refused_json(&output, ErrorKind::Partial);
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((done["ingested"].as_u64(), done["skipped"].as_u64()), (Some(3), Some(2)));
    store.intact();
}

#[test]
fn texts_up_to_their_limit() {
    let store = Store::new("sealed");
    let record = |id: u64, mib: usize| {
        format!("{}\n", json!({ "id": id, "text": "x".repeat(mib << 20), "vector": vector(id, SIZE) }))
    };
    succeeded(&store.ingest(record(20, 10), &[]));
    let got = store.cli.json(&["get", "-t", "acme", "docs", "20"]);
    assert_eq!(got[0]["text"].as_str().unwrap().len(), 10 << 20);
    says(&refused(&store.ingest(record(21, 17), &[]), ErrorKind::InvalidInput), &["larger", "split"]);
    // A memory too.
    let remember = ["remember", "-t", "acme", "users/ada", "long", "-"];
    succeeded(&store.cli.run_with_input(&remember, "y".repeat(10 << 20).as_bytes()));
    let output = store.cli.run_with_input(&remember, "y".repeat(17 << 20).as_bytes());
    says(&refused(&output, ErrorKind::InvalidInput), &["split"]);
    assert_eq!(store.count(), KEPT + 1);
    store.intact();
}

#[test]
fn vectors_in_an_npy_file() {
    let store = Store::new("plain");
    let texts: String = (30..34).map(|id| format!("{}\n", json!({ "id": id, "text": "t" }))).collect();
    let rows: Vec<Vec<f32>> = (30..34).map(|id| vector(id, SIZE)).collect();
    let whole = npy(&rows);
    let ingest = |bytes: &[u8]| store.ingest(&texts, &["--npy", &store.cli.file("v.npy", bytes)]);
    for cut in [0, 5, 60, whole.len() - SIZE * 4, whole.len() - 1] {
        says(&refused(&ingest(&whole[..cut]), ErrorKind::InvalidInput), &["v.npy"]);
    }
    says(&refused(&ingest(&[&whole[..], &[0]].concat()), ErrorKind::InvalidInput), &["v.npy", "4 rows"]);
    says(&refused(&ingest(&npy(&rows[..3])), ErrorKind::InvalidInput), &["3 rows"]);
    let mut holed = rows.clone();
    holed[2][5] = f32::NAN;
    says(&refused(&ingest(&npy(&holed)), ErrorKind::InvalidInput), &["NaN", "row 2"]);
    let wrong: Vec<Vec<f32>> = (30..34).map(|id| vector(id, SIZE + 1)).collect();
    says(&refused(&ingest(&npy(&wrong)), ErrorKind::InvalidInput), &["line 1"]);
    let output = store.ingest(&texts, &["--npy", "/nowhere/v.npy"]);
    says(&refused(&output, ErrorKind::NotFound), &["/nowhere/v.npy"]);
    succeeded(&ingest(&whole));
    assert_eq!(store.count(), KEPT + 4);
    store.intact();
}

#[test]
fn bad_requests() {
    let store = Store::new("sealed");
    let query = serde_json::to_string(&vector(1, SIZE)).unwrap();
    let cases: [(&[&str], ErrorKind, &str); 13] = [
        (&["search", "-t", "acme", "docs", "--vector", "[1, 2]"], ErrorKind::InvalidInput, "8"),
        (&["search", "-t", "acme", "docs", "--vector", "[NaN]"], ErrorKind::InvalidInput, "JSON"),
        (&["search", "-t", "acme", "docs", "--vector", "@/nowhere"], ErrorKind::NotFound, "/nowhere"),
        (&["search", "-t", "acme", "docs", "--vector", &query, "-n", "100000"], ErrorKind::InvalidInput, "10000"),
        (&["search", "-t", "acme", "docs", "--vector", &query, "--using", "title"], ErrorKind::InvalidInput, "title"),
        (&["search", "-t", "acme", "docs"], ErrorKind::InvalidInput, "--vector"),
        (&["search", "-t", "acme", "novels", "--vector", &query], ErrorKind::NotFound, "novels"),
        (&["search", "-t", "globex", "docs", "--vector", &query], ErrorKind::NotFound, "globex"),
        (&["get", "-t", "acme", "docs", "0", "404"], ErrorKind::NotFound, "404"),
        (&["collection", "create", "-t", "acme", "docs", "--size", "8"], ErrorKind::Conflict, "docs"),
        (&["collection", "create", "-t", "acme", "none", "--size", "0"], ErrorKind::InvalidInput, "65536"),
        (&["tenant", "create", "acme"], ErrorKind::Conflict, "acme"),
        (&["forget", "-t", "acme", "users/ada", "nothing"], ErrorKind::NotFound, "memories"),
    ];
    for (args, kind, word) in cases {
        says(&refused(&store.cli.run(args), kind), &[word]);
        let (message, remedy) = refused_json(&store.cli.run(&[args, &["--json"]].concat()), kind);
        assert!(format!("{message} {remedy}").contains(word), "{message}");
    }
    // Usage errors are clap's, with the exit code of wrong input.
    for args in [&["serch"][..], &["search", "docs"], &["get", "-t", "No Such", "docs", "1"], &["ingest", "-t", "acme"]]
    {
        let output = store.cli.run(args);
        assert_eq!(output.status.code(), Some(i32::from(ErrorKind::InvalidInput.exit_code())));
    }
    store.intact();
}

#[test]
fn no_store_no_passphrase_or_the_wrong_one() {
    let none = Cli::bare();
    says(&refused(&none.run(&["status"]), ErrorKind::NotFound), &["strongroom init"]);
    std::fs::create_dir(&none.dir).unwrap();
    std::fs::write(none.dir.join("something"), "else").unwrap();
    says(&refused(&none.run(&["status"]), ErrorKind::NotFound), &["strongroom init"]);

    let store = Store::new("sealed");
    let status = || store.cli.command(&["status"]);
    let wrong = status().env("STRONGROOM_PASSPHRASE", "something else").output().unwrap();
    says(&refused(&wrong, ErrorKind::Denied), &["passphrase"]);
    let missing = status().env_remove("STRONGROOM_PASSPHRASE").output().unwrap();
    says(&refused(&missing, ErrorKind::Denied), &["STRONGROOM_PASSPHRASE", "--passphrase-file"]);
    let empty = status().env("STRONGROOM_PASSPHRASE", "").output().unwrap();
    says(&refused(&empty, ErrorKind::InvalidInput), &["passphrase"]);
    let unreadable = status().args(["--passphrase-file", "/nowhere"]).output().unwrap();
    says(&refused(&unreadable, ErrorKind::Denied), &["/nowhere"]);
    says(&refused(&store.cli.run(&["init"]), ErrorKind::Conflict), &["already"]);
    store.intact();
}

#[test]
fn a_wrong_configuration() {
    let store = Store::new("sealed");
    let config = store.cli.dir.join("strongroom.toml");
    let cases = [
        ("cash_mib = 7\n", "cash_mib"),
        ("cache_mib = \"much\"\n", "cache_mib"),
        ("cache_mib = \n", "strongroom.toml"),
    ];
    for (content, word) in cases {
        std::fs::write(&config, content).unwrap();
        says(&refused(&store.cli.run(&["status"]), ErrorKind::InvalidInput), &[word]);
    }
    std::fs::remove_file(config).unwrap();
    let set = store.cli.run(&["status", "--set", "cash_mib=7"]);
    says(&refused(&set, ErrorKind::InvalidInput), &["cash_mib"]);
    let set = store.cli.command(&["status"]).env("STRONGROOM_CONFIG_CASH_MIB", "7").output().unwrap();
    says(&refused(&set, ErrorKind::InvalidInput), &["cash_mib"]);
    store.intact();
}

#[test]
fn a_store_that_another_process_has() {
    let store = Store::new("sealed");
    let mut command = store.cli.command(&[&INGEST[..], &["-"]].concat());
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Asking too early would take the lock away from it.
    let lock = store.cli.dir.join("data/strongroom.lock");
    let holder_id = holder.id().to_string();
    until(|| std::fs::read_to_string(&lock).is_ok_and(|pid| pid.trim() == holder_id).then_some(()));
    let busy = store.cli.run(&["status"]);
    says(&refused(&busy, ErrorKind::Busy), &[&holder.id().to_string()]);
    refused_json(&store.cli.run(&["tenant", "list", "--json"]), ErrorKind::Busy);
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    store.intact();
}

#[test]
fn an_interrupted_ingest_is_run_again() {
    use std::io::Write as _;
    let store = Store::new("sealed");
    let lines: String = (100..3100).map(line).collect();
    let args = [&INGEST[..], &["-", "--batch", "50"]].concat();
    let mut child = store.cli.command(&args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let part = &lines.as_bytes()[..lines.len() / 2];
    stdin.write_all(part).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    child.kill().unwrap();
    child.wait().unwrap();
    store.intact();
    assert!(store.count() < KEPT + 3000);
    succeeded(&store.cli.run_with_input(&args, lines.as_bytes()));
    assert_eq!(store.count(), KEPT + 3000);
    store.intact();
}

#[test]
fn the_reserve_of_the_disk() {
    let store = Store::new("sealed");
    let reserve = ["--set", "min_free_mib=1000000000"];
    let output = store.ingest(line(40), &reserve);
    says(&refused(&output, ErrorKind::StorageFull), &["min_free_mib", "free"]);
    let remember = ["remember", "-t", "acme", "users/ada", "drink", "coffee"];
    refused_json(&store.cli.run(&[&remember[..], &reserve, &["--json"]].concat()), ErrorKind::StorageFull);
    // Reading and deleting go on.
    store.intact();
    store.cli.ok(&[&["get", "-t", "acme", "docs", "1"][..], &reserve].concat());
    store.cli.ok(&[&["verify"][..], &reserve].concat());
    store.cli.ok(&[&["remember", "-t", "acme", "users/ada", "extra", "x"][..]].concat());
    store.cli.ok(&[&["forget", "-t", "acme", "users/ada", "extra", "--purge"][..], &reserve].concat());
    store.intact();
}

#[test]
fn a_full_disk() {
    let Some(room) = Room::new("a_full_disk") else { return };
    for mode in ["sealed", "plain"] {
        let mut store = Store { cli: Cli::bare() };
        store.cli.dir = room.path().join(mode);
        reserve(&store.cli.dir, 192);
        store.cli.init();
        store.cli.ok(&["tenant", "create", "acme"]);
        store.cli.ok(&["collection", "create", "-t", "acme", "docs", "--size", "8", "--mode", mode]);
        store.fill();
        let text = "x".repeat(200_000);
        let record = |id| json!({ "id": id, "text": text, "vector": vector(id, SIZE) });
        let lines: String = (1000..2000).map(|id| format!("{}\n", record(id))).collect();
        says(&refused(&store.ingest(lines, &["--batch", "16"]), ErrorKind::StorageFull), &["min_free_mib"]);
        let coffee = ["remember", "-t", "acme", "users/ada", "drink", "coffee", "--set", "min_free_mib=100000"];
        refused(&store.cli.run(&coffee), ErrorKind::StorageFull);
        // Reading and deleting go on.
        store.intact();
        let stored = store.count();
        assert!(stored > KEPT);
        store.cli.ok(&["delete", "-t", "acme", "docs", "1000", "1001"]);
        assert_eq!(store.count(), stored - 2);
        store.cli.ok(&["remember", "-t", "acme", "users/ada", "drink", "tea", "--set", "min_free_mib=1"]);
        store.intact();
        std::fs::remove_dir_all(&store.cli.dir).unwrap();
    }
}

#[test]
fn a_full_disk_of_backups() {
    let Some(room) = Room::new("a_full_disk_of_backups") else { return };
    let store = Store::new("sealed");
    let to = room.path().join("backups");
    let to = to.to_str().unwrap();
    let files = || common::cli::walk(room.path()).into_iter().filter(|path| path.is_file()).collect::<Vec<_>>();
    store.cli.ok(&["backup", "create", "--to", to]);
    let before = files();
    room.remount("size=4m");
    let large = json!({ "id": 50, "text": "x".repeat(10 << 20), "vector": vector(50, SIZE) });
    succeeded(&store.ingest(format!("{large}\n"), &[]));
    says(&refused(&store.cli.run(&["backup", "create", "--to", to]), ErrorKind::StorageFull), &["backup prune"]);
    // Nothing is left of it, and what was there is whole.
    assert_eq!(files(), before);
    store.cli.ok(&["backup", "verify", "--from", to]);
    room.remount("size=512m");
    store.cli.ok(&["backup", "create", "--to", to]);
    assert_eq!(store.cli.json(&["backup", "list", "--from", to])["backups"].as_array().unwrap().len(), 2);
    store.intact();
}

/// Sets how much of the disk is left alone, in MiB.
fn reserve(dir: &Path, mib: u32) {
    std::fs::create_dir_all(dir).unwrap();
    let settings = format!("min_free_mib = {mib}\naudit_min_free_mib = {}\n", mib / 4);
    std::fs::write(dir.join("strongroom.toml"), settings).unwrap();
}

#[test]
fn a_read_only_directory() {
    let Some(room) = Room::new("a_read_only_directory") else { return };
    let mut store = Store { cli: Cli::bare() };
    store.cli.dir = room.path().join("store");
    reserve(&store.cli.dir, 1);
    store.cli.init();
    store.cli.ok(&["tenant", "create", "acme"]);
    store.cli.ok(&["collection", "create", "-t", "acme", "docs", "--size", "8"]);
    store.fill();
    room.remount("ro");
    for args in [&["status"][..], &["get", "-t", "acme", "docs", "1"], &["tenant", "create", "globex"]] {
        says(&refused(&store.cli.run(args), ErrorKind::Unavailable), &["permissions"]);
        refused_json(&store.cli.run(&[args, &["--json"]].concat()), ErrorKind::Unavailable);
    }
    let mut elsewhere = Cli::bare();
    elsewhere.dir = room.path().join("new");
    says(&refused(&elsewhere.run(&["init"]), ErrorKind::Unavailable), &["permissions"]);
    room.remount("rw");
    store.intact();
}

/// Permission bits do not bind root, so the command runs as somebody else.
#[test]
fn a_directory_of_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        return cannot("a_directory_of_somebody_else", "needs root, to run the command as another user");
    }
    let mut store = Store::new("sealed");
    for path in [store.cli.root.path(), &store.cli.dir] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_strongroom"));
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    // The program itself must be within reach of others.
    let reachable = Command::new("setpriv").args(&as_nobody[1..]).arg(program).arg("--version").output();
    if !reachable.is_ok_and(|output| output.status.success()) {
        return cannot("a_directory_of_somebody_else", "`setpriv` is missing or others cannot run the program");
    }
    store.cli.wrapper = as_nobody.map(str::to_owned).to_vec();
    says(&refused(&store.cli.run(&["status"]), ErrorKind::Unavailable), &["permissions"]);
    refused_json(&store.cli.run(&["status", "--json"]), ErrorKind::Unavailable);
    store.cli.wrapper.clear();
    store.intact();
}

/// A small file system of its own, in memory and in a namespace that ends with the test.
struct Room {
    dir: tempfile::TempDir,
}

impl Room {
    /// The room, for the inner one of two runs of `test`: the outer one runs the inner one in a namespace, where it may
    /// mount, and gets nothing.
    fn new(test: &str) -> Option<Self> {
        const INSIDE: &str = "STRONGROOM_TEST_NAMESPACE";
        if std::env::var_os(INSIDE).is_some() {
            let dir = tempfile::tempdir().unwrap();
            assert!(mount(&["-t", "tmpfs", "-o", "size=512m", "none"], dir.path()));
            return Some(Self { dir });
        }
        // As root, or with a user namespace as somebody who looks like root.
        let ways = [&["--mount"][..], &["--mount", "--map-root-user"]];
        let may_mount = |way: &&&[&str]| {
            let mount = Command::new("unshare").args(**way).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
            mount.is_ok_and(|output| output.status.success())
        };
        let Some(way) = ways.iter().find(may_mount) else {
            cannot(test, "needs `unshare` and the right to mount, as root or in a user namespace");
            return None;
        };
        let inner = Command::new("unshare")
            .args(*way)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = [inner.stdout, inner.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(inner.status.success() && said.contains("1 passed"), "{said}");
        None
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn remount(&self, how: &str) {
        assert!(mount(&["-o", &format!("remount,{how}")], self.path()));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    let output = Command::new("mount").args(args).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}

/// Says loudly what is not tested here; on CI that is a failure.
fn cannot(test: &str, why: &str) {
    eprintln!("\n*** NOT TESTED: {test} {why} ***\n");
    assert!(std::env::var_os("CI").is_none(), "{test} {why}");
}

fn until<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
