//! Backups by the process that serves the store: a drill with that process killed afterwards, and who may have one made
//! where.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::getuid;
use serde_json::json;
use strongroom::server::{self, Address, Listener, Services};
use strongroom::store::service;
use strongroom::{ErrorKind, Store, StoreOptions};

use super::drill::{WRITERS, prefix, write};
use crate::common::cli::{Cli, refused, succeeded};
use crate::common::service::Service;
use crate::common::{passphrase, vector};

const SIZE: usize = 16;
const POINTS: u64 = 4000;
/// Where the child finds its store, and where it counts.
const DIR_ENV: &str = "STRONGROOM_TEST_SERVED";

fn services(cli: &Cli, role: &str, tenants: &str) -> String {
    let uid = getuid().as_raw();
    cli.file(
        "services.toml",
        format!("[[service]]\nname = \"who\"\nrole = \"{role}\"\ntenants = [{tenants}]\nuid = {uid}\n"),
    )
}

/// A store with a tenant and enough points that copying them takes a while.
fn filled() -> Cli {
    let cli = Cli::with_collection("sealed", SIZE);
    let line =
        |id: u64| format!("{}\n", json!({ "id": 1_000_000 + id, "text": "x".repeat(500), "vector": vector(id, SIZE) }));
    let lines: String = (0..POINTS).map(line).collect();
    succeeded(&cli.run_with_input(&["ingest", "-t", "acme", "docs", "-"], lines.as_bytes()));
    cli
}

/// What each writer has begun, and what was acknowledged: in a file, where the other process sees it at once.
struct Counters(File);

impl Counters {
    fn open(dir: &Path) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("counters"));
        Self(file.unwrap())
    }

    fn set(&self, writer: u64, acknowledged: bool, n: u64) {
        self.0.write_all_at(&n.to_be_bytes(), writer * 16 + u64::from(acknowledged) * 8).unwrap();
    }

    fn all(&self, acknowledged: bool) -> Vec<u64> {
        let one = |writer| {
            let mut bytes = [0; 8];
            let read = self.0.read_at(&mut bytes, writer * 16 + u64::from(acknowledged) * 8).unwrap();
            if read == 8 { u64::from_be_bytes(bytes) } else { 0 }
        };
        (0..WRITERS).map(one).collect()
    }
}

/// The process that serves, and in which writers write. Does nothing where no store is named to it.
#[test]
fn child() {
    let Some(dir) = env::var_os(DIR_ENV).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve_and_write(&dir));
}

async fn serve_and_write(root: &Path) {
    let dir = root.join("store");
    let store = Store::open(StoreOptions::new(&dir), passphrase()).await.unwrap();
    let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
    let collection = tenant.collection("docs").unwrap();
    let counters = Arc::new(Counters::open(root));
    for writer in 0..WRITERS {
        let (tenant, collection, counters) = (tenant.clone(), collection.clone(), counters.clone());
        tokio::spawn(async move {
            for n in 0.. {
                counters.set(writer, false, n + 1);
                write(&tenant, &collection, writer, n).await;
                counters.set(writer, true, n + 1);
            }
        });
    }
    let services = Arc::new(Services::load(&root.join("services.toml")).unwrap());
    let listener = Listener::bind(&Address::Unix(dir.join("store.sock")), None, services).await.unwrap();
    let routes = service::routes(store.clone()).await;
    server::serve(listener, routes, Arc::new(|_: &_| Ok(())), Arc::default(), std::future::pending()).await.unwrap();
}

/// Killed at the end, whatever becomes of the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn served(cli: &Cli) -> Served {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["served::child", "--exact", "--nocapture"]).env(DIR_ENV, cli.root.path());
    let served = Served(command.stdout(Stdio::null()).spawn().unwrap());
    eventually("the store is served", || UnixStream::connect(cli.dir.join("store.sock")).is_ok());
    served
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not in a minute: {what}");
}

#[test]
fn under_load_and_then_killed() {
    let mut cli = filled();
    services(&cli, "admin", "\"*\"");
    let counters = Counters::open(cli.root.path());
    let process = served(&cli);
    // Nothing is opened by the command: it does not know the passphrase.
    let secret = std::mem::replace(&mut cli.passphrase, "none of this store".into());
    let to = cli.root.path().join("backups");
    let to = to.to_str().unwrap();
    let mut bounds = Vec::new();
    for number in 1..=2_u64 {
        eventually("writers write", || counters.all(true).iter().all(|n| *n >= number * 100));
        let least = counters.all(true);
        let made = cli.json(&["backup", "create", "--to", to]);
        bounds.push((least, counters.all(false)));
        assert_eq!(made["number"].as_u64(), Some(number), "{made}");
        assert!(made["points"].as_u64().unwrap() >= POINTS, "{made}");
    }
    drop(process);
    cli.passphrase = secret;
    cli.ok(&["backup", "verify", "--from", to]);
    for (number, (least, most)) in (1..).zip(bounds) {
        fs::remove_dir_all(cli.dir.join("data")).unwrap();
        let restored = cli.json(&["restore", "--from", to, "--backup", &format!("{number}")]);
        assert_eq!(restored["clean"], true, "{restored}");
        assert_eq!(restored["restored"]["unreadable"], json!([]), "{restored}");
        cli.ok(&["verify"]);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(StoreOptions::new(&cli.dir), passphrase()).await.unwrap();
            let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
            let collection = tenant.collection("docs").unwrap();
            for (writer, (least, most)) in (0..).zip(least.iter().zip(&most)) {
                prefix(&tenant, &collection, writer, *least..=*most).await;
            }
            let ids = (1_000_000..1_000_000 + POINTS).map(strongroom::RecordId::from).collect();
            assert_eq!(collection.get(ids).await.unwrap().len() as u64, POINTS);
            drop((tenant, collection));
            store.close().await.unwrap();
        });
    }
}

fn serve(cli: &Cli, role: &str, tenants: &str, more: &[&str]) -> Service {
    let services = services(cli, role, tenants);
    Service::start(cli, &[&["serve", "--services", &services][..], more].concat())
}

#[test]
fn who_may_have_one_made_and_where() {
    let cli = Cli::with_collection("sealed", SIZE);
    cli.ok(&["remember", "-t", "acme", "notes", "k", "v"]);
    let at = |name: &str| cli.root.path().join(name).to_str().unwrap().to_owned();
    let create = |to: &str| cli.run(&["backup", "create", "--to", to]);
    for (role, tenants) in [("reader", "\"*\""), ("agent", "\"*\""), ("store", "\"*\""), ("admin", "\"acme\"")] {
        let service = serve(&cli, role, tenants, &[]);
        refused(&create(&at("backups")), ErrorKind::Denied);
        service.stop();
    }
    assert!(!Path::new(&at("backups")).exists(), "nothing is made");

    let service = serve(&cli, "admin", "\"*\"", &[]);
    // The user that the service runs as may have it anywhere but in the store, also by a path that is relative here.
    let mut command = cli.command(&["backup", "create", "--to", "backups", "--json"]);
    let made: serde_json::Value =
        serde_json::from_str(&succeeded(&command.current_dir(cli.root.path()).output().unwrap())).unwrap();
    assert_eq!(made["number"], 1);
    assert_eq!(cli.json(&["backup", "list", "--from", &at("backups")])["backups"].as_array().unwrap().len(), 1);
    for inside in ["data", "data/backups", "keys", "keys/new/backups"] {
        let to = cli.dir.join(inside);
        refused(&create(to.to_str().unwrap()), ErrorKind::InvalidInput);
    }
    refused(&create(&at("backups/../elsewhere")), ErrorKind::InvalidInput);
    refused(&create(cli.root.path().to_str().unwrap()), ErrorKind::Conflict);
    // What the service verifies is what the command would.
    let there = cli.json(&["verify"]);
    assert_eq!(there["acme"]["memories"]["sound"], 1);
    refused(&cli.run(&["verify", "--tenant", "nobody"]), ErrorKind::NotFound);
    service.stop();
    assert_eq!(cli.json(&["verify"]), there);
    let service = serve(&cli, "reader", "\"*\"", &[]);
    refused(&cli.run(&["verify"]), ErrorKind::Denied);
    service.stop();
}

/// A certificate for TLS, and how others know it.
struct Party {
    cert: String,
    key: String,
    sha256: String,
}

impl Party {
    fn new(cli: &Cli, name: &str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let cert = rcgen::CertificateParams::new(vec![format!("{name}.test")]).unwrap().self_signed(&key).unwrap();
        let (cert, key) =
            (cli.file(&format!("{name}.pem"), cert.pem()), cli.file(&format!("{name}.key"), key.serialize_pem()));
        let own = server::Own::load(Path::new(&cert), Path::new(&key)).unwrap();
        let sha256 = server::Identity::Certificate(own.sha256()).to_string().split_off("certificate ".len());
        Self { cert, key, sha256 }
    }
}

/// Over TCP it is not known whose process calls: then the setting alone says where.
#[test]
fn over_tcp_only_below_the_directory_of_the_setting() {
    let cli = Cli::with_collection("sealed", SIZE);
    let (ours, theirs) = (Party::new(&cli, "store"), Party::new(&cli, "operator"));
    let services = format!(
        "[[service]]\nname = \"operator\"\nrole = \"admin\"\ntenants = [\"*\"]\ncertificate_sha256 = \"{}\"\n",
        theirs.sha256
    );
    let services = cli.file("services.toml", services);
    let serve = |more: &[&str]| {
        let tls = ["--listen", "tcp:127.0.0.1:0", "--tls-cert", &ours.cert, "--tls-key", &ours.key];
        Service::start(&cli, &[&["serve", "--services", &services][..], &tls, more].concat())
    };
    let create = |service: &Service, to: &str| {
        let operator = Cli { passphrase: String::new(), ..Cli::bare() };
        fs::create_dir(&operator.dir).unwrap();
        let settings = [
            ("store", service.address.as_str()),
            ("store_server_sha256", &ours.sha256),
            ("kms_tls_certificate", &theirs.cert),
            ("kms_tls_key", &theirs.key),
        ];
        let settings: String = settings.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
        fs::write(operator.dir.join("strongroom.toml"), settings).unwrap();
        operator.run(&["backup", "create", "--to", to])
    };
    let at = |name: &str| cli.root.path().join(name).to_str().unwrap().to_owned();
    let service = serve(&[]);
    let said = refused(&create(&service, &at("backups/new")), ErrorKind::Denied);
    assert!(said.contains("backup_dir"), "{said}");
    service.stop();
    let setting = format!("backup_dir={}", at("backups"));
    let service = serve(&["--set", &setting]);
    refused(&create(&service, &at("backups/new")), ErrorKind::Unavailable);
    fs::create_dir(at("backups")).unwrap();
    for elsewhere in [at("elsewhere"), at("backups-of-others"), "/etc".to_owned()] {
        refused(&create(&service, &elsewhere), ErrorKind::Denied);
    }
    refused(&create(&service, "backups/new"), ErrorKind::InvalidInput);
    succeeded(&create(&service, &at("backups/new")));
    service.stop();
    cli.ok(&["backup", "verify", "--from", &at("backups/new")]);
    assert!(!Path::new(&at("elsewhere")).exists());
}
