//! Key service, store and sidecar, each a process with a directory of its own; over TLS with certificates of their own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::getuid;
use serde_json::{Value, json};
use strongroom::server::{Identity, Own};

use crate::common::cli::Cli;
use crate::common::service::Service;

pub const TENANT: &str = "tenant-of-the-handoff";
pub const COLLECTION: &str = "papers";

/// A certificate with its key, in files.
pub struct Party {
    pub cert: String,
    pub key: String,
    pub sha256: String,
}

impl Party {
    fn new(dir: &Path, name: &str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let cert = rcgen::CertificateParams::new(vec![format!("{name}.test")]).unwrap().self_signed(&key).unwrap();
        let file = |end: &str, content: String| {
            let path = dir.join(format!("{name}.{end}"));
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (cert, key) = (file("pem", cert.pem()), file("key", key.serialize_pem()));
        let own = Own::load(Path::new(&cert), Path::new(&key)).unwrap();
        let sha256 = Identity::Certificate(own.sha256()).to_string().split_off("certificate ".len());
        Self { cert, key, sha256 }
    }
}

pub struct Platform {
    pub root: tempfile::TempDir,
    /// What the texts say. Made up anew each time: a constant would be in every program that is built from this file.
    pub mark: String,
    /// The keystore as it was before the key service took it.
    pub keys_copy: PathBuf,
    pub kms_address: String,
    pub kms_sha256: String,
    pub store_address: String,
    pub store_sha256: String,
    pub orchestrator: Party,
    /// Who answers for the store.
    operator: Cli,
    sidecar_socket: String,
    store_dir: Cli,
    sidecar_dir: Cli,
    services: Vec<Service>,
    keys: Cli,
}

fn entry(name: &str, role: &str, party: &Party) -> String {
    let sha256 = &party.sha256;
    format!("[[service]]\nname = \"{name}\"\nrole = \"{role}\"\ntenants = [\"*\"]\ncertificate_sha256 = \"{sha256}\"\n")
}

/// A directory without keys, whose settings name those who have them.
fn without_keys(settings: &[(&str, &str)]) -> Cli {
    let cli = Cli { passphrase: String::new(), ..Cli::bare() };
    std::fs::create_dir(&cli.dir).unwrap();
    let settings: String = settings.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
    std::fs::write(cli.dir.join("strongroom.toml"), settings).unwrap();
    cli
}

impl Platform {
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mark = format!("the figures of {:032x}", rand::random::<u128>());
        let [kms, store, sidecar, orchestrator, operator] =
            ["kms", "store", "sidecar", "orchestrator", "operator"].map(|name| Party::new(root.path(), name));

        let keys = Cli::new();
        keys.ok(&["tenant", "create", TENANT]);
        let keys_copy = root.path().join("keys");
        std::fs::create_dir(&keys_copy).unwrap();
        for file in std::fs::read_dir(keys.dir.join("keys")).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), keys_copy.join(file.file_name())).unwrap();
            }
        }
        let services = entry("store", "store", &store)
            + &entry("sidecar", "sidecar", &sidecar)
            + &entry("planner", "agent", &orchestrator);
        let services = keys.file("services.toml", services);
        let kms_service = serve(&keys, &["kms"], &services, &kms);

        let of_kms = [("kms", kms_service.address.as_str()), ("kms_server_sha256", &kms.sha256)];
        let own = |party: &Party| [("kms_tls_certificate", party.cert.clone()), ("kms_tls_key", party.key.clone())];
        let own_store = own(&store);
        let store_dir = without_keys(&[&of_kms[..], &own_store.each_ref().map(|(k, v)| (*k, v.as_str()))].concat());
        fill(&store_dir, &mark);
        let services = entry("planner", "agent", &orchestrator)
            + &entry("sidecar", "sidecar", &sidecar)
            + &entry("operator", "admin", &operator);
        let services = store_dir.file("services.toml", services);
        let store_service = serve(&store_dir, &[], &services, &store);

        let own_sidecar = own(&sidecar);
        let of_store = [("store", store_service.address.as_str()), ("store_server_sha256", &store.sha256)];
        let own_operator = own(&operator);
        let operator = without_keys(&[&of_store[..], &own_operator.each_ref().map(|(k, v)| (*k, v.as_str()))].concat());
        let own_sidecar = own_sidecar.each_ref().map(|(k, v)| (*k, v.as_str()));
        let sidecar_dir = without_keys(&[&of_kms[..], &of_store, &own_sidecar].concat());
        let uid = getuid().as_raw();
        let services = format!("[[service]]\nname = \"node\"\nrole = \"node\"\ntenants = [\"*\"]\nuid = {uid}\n");
        let services = sidecar_dir.file("services.toml", services);
        let socket = format!("unix:{}", root.path().join("sidecar.sock").display());
        let args = ["sidecar", "serve", "--listen", &socket, "--services", &services];
        let sidecar_service = Service::start(&sidecar_dir, &args);

        Self {
            root,
            mark,
            keys_copy,
            kms_address: kms_service.address.clone(),
            kms_sha256: kms.sha256.clone(),
            store_address: store_service.address.clone(),
            store_sha256: store.sha256,
            orchestrator,
            operator,
            sidecar_socket: socket,
            store_dir,
            sidecar_dir,
            // Ended in this order.
            services: vec![sidecar_service, store_service, kms_service],
            keys,
        }
    }

    /// The store's own log.
    pub fn store_audit(&self) -> String {
        crate::common::audit::lines(&self.data())
    }

    /// A command of the store's operator, from elsewhere.
    pub fn operate(&self, args: &[&str]) -> Value {
        self.operator.json(args)
    }

    pub fn data(&self) -> PathBuf {
        self.store_dir.dir.join("data")
    }

    /// Rotates through the store's service, as the operator does from elsewhere.
    pub fn rotate(&self, more: &[&str]) -> Value {
        self.operator.json(&[&["rotate", "--tenant", TENANT], more].concat())
    }

    /// Every directory that is on a disk.
    pub fn dirs(&self) -> [&Path; 3] {
        [&self.keys.dir, &self.store_dir.dir, &self.sidecar_dir.dir]
    }

    /// The processes: sidecar, store and key service.
    pub fn ids(&self) -> Vec<u32> {
        self.services.iter().map(Service::id).collect()
    }

    /// What a sidecar counts.
    pub fn sidecar_metric(&self, name: &str) -> f64 {
        let path = self.sidecar_socket.strip_prefix("unix:").unwrap();
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {answer}")).parse().unwrap()
    }

    pub fn sidecar(&self) -> u32 {
        self.services[0].id()
    }

    pub fn audit(&self) -> String {
        crate::common::audit::lines(&self.sidecar_dir.dir.join("sidecar"))
    }

    pub fn node(&self, named: bool) -> Node {
        Node::start(&self.sidecar_socket, named)
    }
}

/// `strongroom GROUP serve` over TLS at a port of its choice.
fn serve(cli: &Cli, group: &[&str], services: &str, own: &Party) -> Service {
    let args = ["serve", "--listen", "tcp:127.0.0.1:0", "--services", services];
    let tls = ["--tls-cert", own.cert.as_str(), "--tls-key", &own.key];
    Service::start(cli, &[group, &args, &tls].concat())
}

/// A collection with some texts, three of which lie near `[1, 0]`.
fn fill(store: &Cli, mark: &str) {
    store.ok(&["collection", "create", "-t", TENANT, COLLECTION, "--size", "2"]);
    let chunk = |id: u32, text: String, vector: [f32; 2]| {
        json!({"id": id, "text": text, "metadata": {"page": id}, "vector": vector}).to_string()
    };
    let near = (1..=3).map(|id| chunk(id, format!("{mark}, page {id}"), [1.0, 0.1 * id as f32]));
    let far = (4..=20).map(|id| chunk(id, format!("something else, page {id}"), [0.0, 1.0]));
    let lines: Vec<_> = near.chain(far).collect();
    let lines = store.file("chunks.jsonl", lines.join("\n"));
    store.ok(&["ingest", "-t", TENANT, COLLECTION, &lines]);
    std::fs::remove_file(lines).unwrap();
}

/// The inference node of `tools/node`.
pub struct Node {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub holder: String,
}

impl Node {
    fn start(sidecar: &str, named: bool) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_strongroom")).with_file_name("examples").join("node");
        assert!(
            program.exists(),
            "there is no {}: build it with `cargo build --release --example node`",
            program.display()
        );
        let mut command = Command::new(program);
        command.args(["--sidecar", sidecar]).env("MALLOC_ARENA_MAX", "1");
        if named {
            command.arg("--named");
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, mut stdout) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut holder = String::new();
        stdout.read_line(&mut holder).unwrap();
        Self { process, stdin, stdout, holder: holder.trim().to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn redeem(&mut self, bundle: &str) -> Value {
        writeln!(self.stdin, "{bundle}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn finish(self) {
        let Self { mut process, stdin, .. } = self;
        drop(stdin);
        assert!(process.wait().unwrap().success());
    }
}
