//! A key service on a socket, and its certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strongroom::Error;
use strongroom::audit::Arrival;
use strongroom::keys::kms::Keys;
use strongroom::keys::kms::{Caller, LocalKms};
use strongroom::server::{Address, Backend, Counts, Identity, Listener, Own, RemoteKms, RemoteOptions, Services};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::world::World;

/// A certificate and its key, in files.
pub struct Party {
    pub dir: tempfile::TempDir,
    pub cert: rcgen::Certificate,
    pub key: rcgen::KeyPair,
}

impl Party {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let params = rcgen::CertificateParams::new(vec!["strongroom.test".to_owned()]).unwrap();
        Self::with(params, key)
    }

    pub fn with(params: rcgen::CertificateParams, key: rcgen::KeyPair) -> Self {
        let cert = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { dir, cert, key }
    }

    pub fn own(&self) -> Own {
        Own::load(&self.dir.path().join("cert.pem"), &self.dir.path().join("key.pem")).unwrap()
    }

    pub fn sha256(&self) -> [u8; 32] {
        self.own().sha256()
    }

    pub fn hex(&self) -> String {
        Identity::Certificate(self.sha256()).to_string().split_off("certificate ".len())
    }
}

/// A service that runs until it is dropped.
pub struct Server {
    pub address: Address,
    pub counts: Arc<Counts>,
    pub world: Option<World>,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<tokio::task::JoinHandle<strongroom::Result<()>>>,
}

/// Answers from `world`.
pub struct FromWorld {
    pub inner: Arc<LocalKms>,
    /// How long every call takes at least.
    pub delay: Duration,
}

impl Backend for FromWorld {
    fn keys(&self, caller: &Caller) -> Arc<dyn Keys> {
        std::thread::sleep(self.delay);
        self.inner.keys(caller)
    }

    fn authorities(&self) -> strongroom::Result<Vec<Vec<u8>>> {
        self.inner.authorities()
    }

    fn peer_arrived(&self, arrival: &Arrival) -> strongroom::Result<()> {
        self.inner.peer_arrived(arrival)
    }
}

impl Server {
    pub fn start(world: World, address: Address, own: Option<Own>, services: &str) -> Self {
        let mut server = Self::over(Arc::new(world.kms.clone()), address, own, services).unwrap();
        server.world = Some(world);
        server
    }

    pub fn over(backend: Arc<dyn Backend>, address: Address, own: Option<Own>, services: &str) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let services: Arc<Services> = Arc::new(services.parse()?);
        let listener = runtime.block_on(Listener::bind(&address, own, services))?;
        let (address, counts) = (listener.address().clone(), Arc::new(Counts::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let theirs = counts.clone();
        let ended = runtime.spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            strongroom::server::run(listener, backend, theirs, stopped).await
        });
        Ok(Self { address, counts, world: None, runtime: Some(runtime), stop: Some(stop), ended: Some(ended) })
    }

    pub fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    /// Tells the service to stop, and does not wait.
    pub fn tell(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits for the service's own end.
    pub fn join(&mut self) -> strongroom::Result<()> {
        let ended = self.ended.take().unwrap();
        self.runtime.as_ref().unwrap().block_on(ended).unwrap()
    }

    /// Ends the service as a crash would, and gives back what it served.
    pub fn kill(mut self) -> World {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
        self.world.take().unwrap()
    }

    pub fn unknown_peers(&self) -> u64 {
        self.counts.unknown_peers.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The user id of this process.
pub fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// A service `name` of this user.
pub fn service(name: &str, role: &str, tenants: &str, identity: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nrole = \"{role}\"\ntenants = [{tenants}]\n{identity}\n")
}

pub fn socket(dir: &Path) -> Address {
    Address::Unix(PathBuf::from(dir).join("kms.sock"))
}

pub fn any_port() -> Address {
    "tcp:127.0.0.1:0".parse().unwrap()
}

/// A client over the Unix socket of `server`.
pub fn client(server: &Server) -> RemoteKms {
    RemoteKms::new(RemoteOptions::new(server.address.clone())).unwrap()
}
