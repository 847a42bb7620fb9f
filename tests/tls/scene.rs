//! A server over TLS that says who calls, with an authority of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Extension, Router};
use strongroom::audit::{Arrival, What};
use strongroom::clock::{Clock as _, ManualClock, SystemClock};
use strongroom::pki::{Issued, Pki, Request};
use strongroom::server::{
    Address, Counts, Known, Listener, Own, RemoteKms, RemoteOptions, ServerTrust, Services, serve,
};
use strongroom::{ErrorKind, Result, TenantId};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

pub const DAY_MS: u64 = 86_400_000;

/// A directory with an authority, and files for a server.
pub struct Files {
    pub dir: tempfile::TempDir,
}

impl Files {
    /// With an authority, and a certificate for `server`.
    pub fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        Pki::init(&files.path("pki"), Arc::new(SystemClock)).unwrap();
        files.issue("server");
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn pki(&self) -> Pki {
        Pki::open(&self.path("pki"), Arc::new(SystemClock)).unwrap()
    }

    /// The authority, as it was or will be.
    pub fn pki_after(&self, days: i64) -> Pki {
        let now_ms = SystemClock.now_ms().checked_add_signed(days * DAY_MS as i64).unwrap();
        Pki::open(&self.path("pki"), Arc::new(ManualClock::at(now_ms))).unwrap()
    }

    pub fn issue(&self, name: &str) -> Issued {
        self.pki().issue(&Request::new(name)).unwrap()
    }

    pub fn own(&self, name: &str) -> Own {
        own(&self.path("pki/issued"), name)
    }

    /// The file of services; `services` are named by certificates of the authority.
    pub fn services(&self, services: &str) -> PathBuf {
        let path = self.path("services.toml");
        std::fs::write(&path, format!("client_ca = \"pki/ca.pem\"\n{services}")).unwrap();
        path
    }

    /// Which server a client believes.
    pub fn trust(&self) -> ServerTrust {
        ServerTrust::default().named(self.path("pki/ca.pem"), "server").unwrap()
    }
}

pub fn own(dir: &Path, name: &str) -> Own {
    Own::load(&dir.join(format!("{name}.pem")), &dir.join(format!("{name}.key"))).unwrap()
}

/// The entry of a service that a certificate of its own name stands for.
pub fn named(name: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nrole = \"store\"\ntenants = [\"*\"]\ncertificate_name = \"{name}\"\n")
}

/// A server that runs until it is dropped.
pub struct Server {
    pub address: Address,
    pub counts: Arc<Counts>,
    pub arrivals: Arc<Mutex<Vec<Arrival>>>,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl Server {
    /// With `services` in the file of services.
    pub fn start(files: &Files, services: &str) -> Self {
        Self::start_with(files, services, who())
    }

    pub fn start_with(files: &Files, services: &str, routes: Router) -> Self {
        let own = files.own("server");
        Self::listen("tcp:127.0.0.1:0".parse().unwrap(), Some(own), &files.services(services), routes)
    }

    pub fn listen(address: Address, own: Option<Own>, services: &Path, routes: Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let services = Arc::new(Services::load(services).unwrap());
        let listener = runtime.block_on(Listener::bind(&address, own, services)).unwrap();
        let (address, counts) = (listener.address().clone(), Arc::new(Counts::default()));
        let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let notice = {
            let arrivals = arrivals.clone();
            Arc::new(move |arrival: &Arrival| {
                arrivals.lock().unwrap().push(arrival.clone());
                Ok(())
            })
        };
        let theirs = counts.clone();
        let ended =
            runtime.spawn(async move { serve(listener, routes, notice, theirs, async { drop(stopped.await) }).await });
        Self { address, counts, arrivals, runtime: Some(runtime), stop: Some(stop), ended: Some(ended) }
    }

    /// Tells the server to stop, and does not wait.
    pub fn tell(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for its own end.
    pub fn join(&mut self) -> Result<()> {
        let ended = self.ended.take().unwrap();
        self.runtime.as_ref().unwrap().block_on(ended).unwrap()
    }

    pub fn place(&self) -> String {
        self.address.to_string().split_off("tcp:".len())
    }

    /// What was noticed of peers, oldest first.
    pub fn arrivals(&self) -> Vec<(String, What)> {
        let arrivals = self.arrivals.lock().unwrap();
        arrivals.iter().map(|arrival| (arrival.service.clone(), arrival.what.clone())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Says the caller's name.
pub fn who() -> Router {
    Router::new()
        .route("/", get(|Extension(known): Extension<Known>| async move { known.caller().service().to_owned() }))
}

/// A client of our own for `server`.
pub fn remote(server: &Server, own: Own, trust: ServerTrust) -> RemoteKms {
    let options = RemoteOptions { deadline_ms: 20_000, ..RemoteOptions::new(server.address.clone()) };
    RemoteKms::new(options.trusting(own, trust)).unwrap()
}

/// Whether a call of `client` gets to the server: that has nothing for it, and says so.
pub fn reaches(client: &RemoteKms) -> Result<()> {
    use strongroom::keys::kms::Kms as _;
    let tenant: TenantId = "acme".parse().unwrap();
    match client.describe(&tenant).unwrap_err() {
        e if e.kind() == ErrorKind::InvalidInput => Ok(()),
        e => Err(e),
    }
}

/// Waits until something that another thread does has been done.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
