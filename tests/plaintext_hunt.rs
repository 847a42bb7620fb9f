//! Guards against plaintext that stays behind: a text, a name, a vector or a key of a tenant in a file of the store, in
//! a log, or in the memory of a process that has closed the tenant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "plaintext_hunt/child.rs"]
mod child;
mod common;
#[path = "plaintext_hunt/corpus.rs"]
mod corpus;
#[path = "plaintext_hunt/prey.rs"]
mod prey;
#[path = "plaintext_hunt/secrets.rs"]
mod secrets;

use std::path::Path;
use std::process::Output;

use child::{Child, Task};
use common::cli::{Cli, succeeded, walk};
use common::dump::dump;
use corpus::Corpus;
use prey::{Found, Prey, hunt_tree};

/// As in the program itself: what is freed is erased.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// Everything in the store through the command line at its most talkative, and all that it logged.
struct Session {
    cli: Cli,
    api_key: String,
    logs: Vec<(String, Vec<u8>)>,
}

impl Session {
    fn run(&mut self, args: &[&str]) -> Output {
        let mut command = self.cli.command(args);
        let temporary = self.cli.dir.join("data");
        // What is written to the side is found where everything is looked for.
        if temporary.is_dir() {
            command.env("TMPDIR", temporary);
        }
        let output = command.arg("-vvv").env("STRONGROOM_EMBED_API_KEY", &self.api_key).output().unwrap();
        self.logs.push((args[0].to_owned(), output.stderr.clone()));
        output
    }

    fn ok(&mut self, args: &[&str]) -> String {
        succeeded(&self.run(args))
    }
}

fn ingest(session: &mut Session, corpus: &Corpus) {
    let (tenant, sealed, plain) = (&*corpus.tenant, &*corpus.sealed, &*corpus.plain);
    session.ok(&["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
    session.ok(&["tenant", "create", tenant]);
    let [title, body] = corpus.vector_names.each_ref().map(|name| format!("{name}={}", corpus::SIZE));
    let terms = &*corpus.sparse_name;
    session.ok(&[
        "collection",
        "create",
        "-t",
        tenant,
        sealed,
        "--vector",
        &title,
        "--vector",
        &body,
        "--sparse",
        terms,
    ]);
    let size = corpus::SIZE.to_string();
    session.ok(&["collection", "create", "-t", tenant, plain, "--size", &size, "--mode", "plain", "--metric", "dot"]);
    let lines = session.cli.file("sealed.jsonl", corpus.lines(true));
    session.ok(&["ingest", "-t", tenant, sealed, &lines]);
    // Twice, so that there is an older version of everything.
    session.ok(&["ingest", "-t", tenant, sealed, &lines, "--batch", "7"]);
    let lines = session.cli.file("plain.jsonl", corpus.lines(false));
    let rows = session.cli.file("plain.npy", common::npy(&corpus.plain_vectors));
    session.ok(&["ingest", "-t", tenant, plain, &lines, "--npy", &rows]);
}

fn use_everything(session: &mut Session, corpus: &Corpus) {
    let (tenant, sealed, plain) = (&*corpus.tenant, &*corpus.sealed, &*corpus.plain);
    let query = serde_json::to_string(&corpus.chunks[3].vectors[0]).unwrap();
    let found = session.ok(&["search", "-t", tenant, sealed, "--vector", &query, "--using", &corpus.vector_names[0]]);
    assert!(found.contains(&corpus.chunks[3].text), "{found}");
    let query = serde_json::to_string(&corpus.plain_vectors[3]).unwrap();
    let found = session.ok(&["search", "-t", tenant, plain, "--vector", &query]);
    assert!(found.contains(&corpus.chunks[3].text), "{found}");
    let found = session.ok(&["search", "-t", tenant, sealed, "--text", &corpus.chunks[4].text]);
    assert!(found.contains(&corpus.chunks[4].text), "{found}");
    let query = serde_json::to_string(&corpus.chunks[5].sparse).unwrap();
    let found = session.ok(&["search", "-t", tenant, sealed, "--sparse", &query]);
    assert!(found.contains(&corpus.chunks[5].text), "{found}");
    session.ok(&["get", "-t", tenant, sealed, &corpus.chunks[1].id, &corpus.chunks[2].id]);
    session.ok(&["delete", "-t", tenant, sealed, &corpus.chunks[1].id]);
    let (namespace, key) = (&*corpus.namespace(), &*corpus.memory_key);
    let embedding = serde_json::to_string(&corpus.memory_vector).unwrap();
    session.ok(&["remember", "-t", tenant, namespace, key, &corpus.memory_values[0], "--vector", &embedding]);
    session.ok(&["remember", "-t", tenant, namespace, key, &corpus.memory_values[1], "--vector", &embedding]);
    session.ok(&["remember", "-t", tenant, namespace, &corpus.forgotten_key, &corpus.memory_values[2], "--ttl", "1d"]);
    let found = session.ok(&["recall", "-t", tenant, "/", "--vector", &embedding]);
    assert!(found.contains(&corpus.memory_values[1]), "{found}");
    session.ok(&["recall", "-t", tenant, namespace, &corpus.memory_values[1]]);
    session.ok(&["memories", "-t", tenant]);
    session.ok(&["memories", "-t", tenant, "--namespaces"]);
    session.ok(&["memories", "-t", tenant, namespace, "--history", key]);
    session.ok(&["forget", "-t", tenant, namespace, &corpus.forgotten_key]);
    session.ok(&["tenant", "list"]);
    session.ok(&["tenant", "show", tenant]);
    session.ok(&["collection", "list", "-t", tenant]);
    session.ok(&["collection", "show", "-t", tenant, sealed]);
    session.ok(&["status"]);
    session.ok(&["verify"]);
}

/// Texts that go to an embeddings endpoint go through an HTTP client, which logs too.
fn embed(session: &mut Session, corpus: &Corpus) {
    let endpoint = corpus::endpoint();
    let size = corpus::SIZE.to_string();
    session.ok(&["collection", "create", "-t", &corpus.tenant, "embedded", "--size", &size]);
    let lines = session.cli.file("embed.jsonl", corpus.lines(false));
    let model = ["--embed-model", "m", "--embed-url", &endpoint];
    session.ok(&[&["ingest", "-t", &corpus.tenant, "embedded", &lines][..], &model].concat());
    session.ok(&[&["search", "-t", &corpus.tenant, "embedded", &corpus.chunks[5].text][..], &model].concat());
    let (namespace, value) = (corpus.namespace(), &corpus.memory_values[0]);
    session.ok(&[&["remember", "-t", &corpus.tenant, &namespace, "embedded", value][..], &model].concat());
}

#[test]
fn nothing_readable_is_stored_or_logged() {
    let corpus = Corpus::random();
    let cli = Cli { passphrase: corpus.passphrase.clone(), ..Cli::bare() };
    let mut session = Session { cli, api_key: corpus.api_key.clone(), logs: Vec::new() };
    ingest(&mut session, &corpus);
    use_everything(&mut session, &corpus);
    embed(&mut session, &corpus);

    let hunter = corpus.prey().hunter();
    assert_eq!(hunt_tree(&hunter, &session.cli.dir), Found::new());
    for (command, log) in &session.logs {
        assert_eq!(hunter.hunt(log), Found::new(), "in the log of `{command}`");
    }
    let logged: usize = session.logs.iter().map(|(_, log)| log.len()).sum();
    assert!(logged > 10_000, "the most talkative level says next to nothing: {logged} bytes");

    // The hunt is real: what `plain` mode gives away is found, and what went in is.
    let mut given_away = Prey::default();
    corpus.plain_vectors.iter().for_each(|v| given_away.vector("a plain vector", v));
    let found = hunt_tree(&given_away.hunter(), &session.cli.dir.join("data").join("shards"));
    assert!(found.keys().any(|k| k.starts_with("a plain vector (raw f32)")), "{found:?}");
    assert!(!hunter.hunt(corpus.lines(true).as_bytes()).is_empty());
}

#[test]
fn a_closed_tenant_leaves_nothing_in_memory() {
    let corpus = Corpus::random();
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    let mut child = Child::start(Task::Close, &corpus, &store, root.path());

    child.wait_for("in use");
    let before = dump(child.id(), &root.path().join("before"));
    child.go_on();
    child.wait_for("idle");
    let after = dump(child.id(), &root.path().join("after"));
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    child.go_on();
    let log = child.finish();

    let mut prey = corpus.prey();
    secrets::of_tenant(&store.join("keys"), &store.join("data"), &corpus.passphrase, &corpus.tenant, &mut prey);
    let hunter = prey.hunter();
    // The hunt is real: while the tenant is open its texts, its keys and its vectors are there.
    let found = hunter.hunt(&before);
    for what in ["a text (raw)", "a memory value (raw)", "a DEK, VectorStore (raw)", "a vector (codes)"] {
        assert!(found.contains_key(what), "no {what} while the tenant was open: {found:?}");
    }
    if let Some(dir) = std::env::var_os("STRONGROOM_KEEP_DUMP") {
        std::fs::write(Path::new(&dir).join("after.core"), &after).unwrap();
        std::fs::write(Path::new(&dir).join("maps"), &maps).unwrap();
        let places: String = hunter.places(&after).into_iter().map(|(at, what)| format!("{at} {what}\n")).collect();
        std::fs::write(Path::new(&dir).join("places"), places).unwrap();
    }
    assert_eq!(hunter.hunt(&after), Found::new(), "after the tenant was closed");
    assert_eq!(hunter.hunt(&log), Found::new(), "in the log");
    assert!(String::from_utf8_lossy(&log).contains("TRACE"), "the log has no trace level");
    assert_eq!(hunt_tree(&hunter, &store), Found::new());
}

fn copy(from: &Path, to: &Path) {
    for path in walk(from) {
        let to = to.join(path.strip_prefix(from).unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(to).unwrap();
        } else {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            // An engine at work replaces its files.
            match std::fs::copy(path, to) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                copied => assert!(copied.is_ok(), "{copied:?}"),
            }
        }
    }
}

#[test]
fn a_destroyed_epoch_leaves_no_secret_on_disk_or_in_memory() {
    let corpus = Corpus::random();
    let root = tempfile::tempdir().unwrap();
    let (store, backup) = (root.path().join("store"), root.path().join("backup"));
    let mut child = Child::start(Task::Destroy, &corpus, &store, root.path());
    child.wait_for("in use");
    let before = dump(child.id(), &root.path().join("before"));
    // What the secrets are can only be told from what was there before.
    copy(&store.join("keys"), &backup.join("keys"));
    copy(&store.join("data/shards"), &backup.join("data/shards"));
    child.go_on();
    child.wait_for("idle");
    let after = dump(child.id(), &root.path().join("after"));
    child.go_on();
    child.finish();

    let prey = secrets::of_epoch(&backup.join("keys"), &backup.join("data"), &corpus.passphrase, &corpus.tenant);
    let hunter = prey.hunter();
    assert!(hunter.hunt(&before).contains_key("a DEK, VectorStore (raw)"), "it was not in use");
    assert_eq!(hunter.hunt(&after), Found::new(), "after the epoch was destroyed");
    assert_eq!(hunt_tree(&hunter, &store), Found::new());
    // Nor is the encapsulated secret in the sealed files, for those who can open them: with their passphrase and their
    // root key, the epoch is gone.
    assert_eq!(secrets::ciphertexts(&store.join("keys"), &corpus.passphrase, &corpus.tenant)[0], Vec::<u8>::new());
    assert_eq!(secrets::ciphertexts(&backup.join("keys"), &corpus.passphrase, &corpus.tenant)[0].len(), 1568);
}
