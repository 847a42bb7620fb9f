//! Guards against calls that are lost when a key service stops, and clients that do not find it again.

use std::sync::Arc;
use std::time::Duration;

use strongroom::keys::Profile;
use strongroom::keys::kms::{Decapsulation, Kms as _, Recipient};
use strongroom::server::{Address, RemoteKms, RemoteOptions};
use strongroom::{ErrorKind, Result};

use crate::server::{FromWorld, Server, client, service, socket, uid};
use crate::world::{HOUR_MS, World, agent, patiently, tenant_of};

fn services(role: &str) -> String {
    service("one", role, "\"*\"", &format!("uid = {}", uid()))
}

#[test]
fn clients_and_sessions_survive_a_service_that_is_killed() {
    let world = World::new();
    let sockets = tempfile::tempdir().unwrap();
    let address = socket(sockets.path());
    let server = Server::start(world, address.clone(), None, &services("agent"));
    let remote = client(&server);
    let tenant = tenant_of(Profile::Hybrid);
    let session = patiently(|| remote.open_session(&tenant, &agent(), HOUR_MS)).unwrap();
    let made = remote.encapsulate(&tenant, &[Recipient::Session(session.id)]).unwrap().remove(0).unwrap();
    let world = server.kill();
    // Nobody removes the socket of a process that was killed.
    let Address::Unix(path) = &address else { unreachable!() };
    if !path.exists() {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }
    let impatient = RemoteKms::new(RemoteOptions { deadline_ms: 300, ..RemoteOptions::new(address.clone()) }).unwrap();
    let error = impatient.describe(&tenant).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let server = Server::start(world.restart(), address, None, &services("agent"));
    let item = Decapsulation { session: session.id, ciphertext: Some(made.ciphertext) };
    let key = remote.decapsulate(&tenant, &[item]).unwrap().remove(0).unwrap();
    assert!(key == made.key);
    drop(server);
}

/// Guards against a call that may be repeated, and fails because the service is being replaced.
#[test]
fn a_call_waits_for_a_service_that_comes_back() {
    let sockets = tempfile::tempdir().unwrap();
    let address = socket(sockets.path());
    let remote = RemoteKms::new(RemoteOptions::new(address.clone())).unwrap();
    let calling = std::thread::spawn(move || remote.describe(&tenant_of(Profile::Pure)).map(drop));
    std::thread::sleep(Duration::from_millis(200));
    let _server = Server::start(World::new(), address, None, &services("store"));
    calling.join().unwrap().unwrap();
}

#[test]
fn what_was_begun_is_finished_before_a_graceful_end() {
    let world = World::new();
    let sockets = tempfile::tempdir().unwrap();
    let slow = FromWorld { inner: world.kms.clone(), delay: Duration::from_millis(400) };
    let mut server = Server::over(Arc::new(slow), socket(sockets.path()), None, &services("store")).unwrap();
    let remote = client(&server);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let remote = remote.clone();
            std::thread::spawn(move || -> Result<()> { remote.describe(&tenant_of(Profile::Pure)).map(drop) })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(150));
    server.tell();
    server.join().unwrap();
    for call in calls {
        call.join().unwrap().unwrap();
    }
    assert!(!sockets.path().join("kms.sock").exists());
}

#[test]
fn two_services_never_share_a_socket() {
    let world = World::new();
    let address = socket(world.dir.path());
    let server = Server::start(world, address.clone(), None, &services("store"));
    let again = Server::over(Arc::new(server.world().kms.clone()), address, None, &services("store"));
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Busy);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kms.sock"), "mine").unwrap();
    let file = Server::over(Arc::new(server.world().kms.clone()), socket(dir.path()), None, &services("store"));
    assert_eq!(file.err().unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(std::fs::read(dir.path().join("kms.sock")).unwrap(), b"mine");
}
