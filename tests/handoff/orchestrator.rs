//! The process that passes context on: it asks the store for sealed chunks, hands them over, and stays.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use strongroom::SearchRequest;
use strongroom::server::{Own, RemoteOptions};
use strongroom::store::Terms;
use strongroom::store::service::RemoteStore;
use strongroom::token::{Bundle, Digest};

use crate::platform::{COLLECTION, Platform, TENANT};

const STORE: &str = "STRONGROOM_TEST_STORE";
/// Precedes what the child says, among what the test harness says.
const SAYS: &str = "bundle: ";

pub struct Orchestrator {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Orchestrator {
    pub fn start(platform: &Platform, holder: &str) -> Self {
        let own = &platform.orchestrator;
        let told = [&platform.store_address, &platform.store_sha256, &own.cert, &own.key, holder].map(str::to_owned);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "orchestrator::process", "--nocapture"])
            .env(STORE, told.join("\n"))
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, stdin, stdout }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it passes on.
    pub fn bundle(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the orchestrator ended");
            if let Some((_, bundle)) = line.split_once(SAYS) {
                return bundle.trim().to_owned();
            }
        }
    }

    pub fn finish(self) {
        let Self { mut process, stdin, mut stdout } = self;
        drop(stdin);
        stdout.read_to_end(&mut Vec::new()).unwrap();
        assert!(process.wait().unwrap().success());
    }
}

/// Not a test of its own: what the process does that [`Orchestrator::start`] starts.
#[test]
fn process() {
    let Ok(told) = std::env::var(STORE) else { return };
    let [address, sha256, cert, key, holder] = <[&str; 5]>::try_from(told.lines().collect::<Vec<_>>()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let own = Own::load(Path::new(cert), Path::new(key)).unwrap();
        let pin: Digest = sha256.parse().unwrap();
        let options = RemoteOptions::new(address.parse().unwrap()).tls(own, [*pin.as_bytes()]);
        let store = RemoteStore::new(options).unwrap();
        let tenant = TENANT.parse().unwrap();
        let terms = Terms::once("sidecar".parse().unwrap(), holder.parse().unwrap());
        let found =
            store.search_sealed(&tenant, COLLECTION, SearchRequest::new(vec![1.0, 0.0], 3), &terms).await.unwrap();
        assert!(found.scores.windows(2).all(|pair| pair[0] >= pair[1]) && found.scores.len() == 3);
        let bundle = Bundle::new(&tenant, found.token, found.issuer, found.records, found.scores);
        println!("{SAYS}{}", serde_json::to_string(&bundle).unwrap());
        std::io::stdout().flush().unwrap();
    });
    // Until nobody looks any more.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
