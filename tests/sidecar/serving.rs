//! A sidecar on a socket, and a client of it.

use std::path::Path;
use std::sync::Arc;

use strongroom::crypto::default_provider;
use strongroom::keys::Profile;
use strongroom::server::{self, Address, Counts, Listener, Services};
use strongroom::sidecar::{Client, ClientOptions, routes};
use strongroom::token::{Form, Holder};
use tokio::sync::oneshot;

use crate::scene::Scene;

/// A sidecar at a Unix socket until it is stopped.
pub struct Running {
    pub dir: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<strongroom::Result<()>>,
}

/// What is left of it.
pub struct Ended {
    pub dir: tempfile::TempDir,
}

impl Running {
    pub async fn start(scene: &Scene, role: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), scene, role).await
    }

    pub async fn start_in(dir: tempfile::TempDir, scene: &Scene, role: &str) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let services = format!("[[service]]\nname = \"n\"\nrole = \"{role}\"\ntenants = [\"*\"]\nuid = {uid}\n");
        let services: Services = services.parse().unwrap();
        let address = Address::Unix(dir.path().join("s"));
        let listener = Listener::bind(&address, None, Arc::new(services)).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let notice = {
            let sidecar = scene.sidecar.clone();
            Arc::new(move |peer: &str| sidecar.peer_refused(peer))
        };
        let routes = routes(scene.sidecar.clone()).await;
        let until = async { drop(stopped.await) };
        let serving = server::serve(listener, routes, notice, Arc::new(Counts::default()), until);
        Self { dir, stop, ended: tokio::spawn(serving) }
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("s")
    }

    pub async fn end(self) -> Ended {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
        Ended { dir: self.dir }
    }
}

pub fn client(socket: &Path, profile: Profile, form: Form) -> Client {
    let options = ClientOptions {
        address: Address::Unix(socket.to_owned()),
        own: None,
        server_sha256: Vec::new(),
        audience: "sidecar-1".parse().unwrap(),
        form,
        deadline_ms: 20_000,
    };
    Client::new(options, Holder::generate(default_provider(), profile).unwrap()).unwrap()
}
