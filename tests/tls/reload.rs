//! Guards against certificates that cannot be replaced while a service runs, and against rights that outlast their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom::limits;
use strongroom::server::Address;

use crate::client::{Client, Shown, X25519MLKEM768};
use crate::scene::{Files, Server, eventually, named, reaches, remote, who};

fn connect(files: &Files, server: &Server, name: &str) -> Client {
    Client::new(&server.place(), &Shown::load(&files.path("pki/issued"), name), &[X25519MLKEM768])
}

/// Whether a new connection with the certificate `name` is let in.
fn gets_in(files: &Files, server: &Server, name: &str) -> bool {
    connect(files, server, name).get("/").is_ok_and(|(status, _)| status == 200)
}

/// Waits until new connections see the server's certificate as it is in its file.
fn shown_anew(files: &Files, server: &Server) {
    let latest = Shown::load(&files.path("pki/issued"), "server").0.remove(0);
    eventually("the new certificate", || {
        let mut client = connect(files, server, "probe");
        client.get("/").is_ok() && client.server() == latest
    });
}

#[test]
fn certificates_and_authorities_are_replaced_under_load_and_no_call_fails() {
    let files = Files::new();
    files.issue("one");
    files.issue("probe");
    let server = Server::start(&files, &(named("one") + &named("probe")));
    let (ended, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    std::thread::scope(|scope| {
        let lasting = remote(&server, files.own("one"), files.trust());
        // One connection that lasts, and one that is made anew for every call.
        for anew in [false, true] {
            let (lasting, ended, calls, files, server) = (lasting.clone(), &ended, &calls, &files, &server);
            scope.spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    let fresh = anew.then(|| remote(server, files.own("one"), files.trust()));
                    reaches(fresh.as_ref().unwrap_or(&lasting)).unwrap();
                    calls.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
        let progress = || {
            let before = calls.load(Ordering::SeqCst);
            eventually("calls", || calls.load(Ordering::SeqCst) > before + 10);
        };
        progress();
        files.pki().renew("server", None).unwrap();
        shown_anew(&files, &server);
        files.pki().renew("one", None).unwrap();
        progress();
        files.pki().rotate().unwrap();
        // The server has to know the new authority before anybody shows what that issued.
        files.issue("newcomer");
        files.services(&["one", "probe", "newcomer"].map(named).concat());
        eventually("the new authority", || gets_in(&files, &server, "newcomer"));
        for name in ["one", "probe", "server"] {
            files.pki().renew(name, None).unwrap();
        }
        shown_anew(&files, &server);
        progress();
        assert_eq!(files.pki().retire().unwrap().len(), 1);
        // As nobody has a certificate of the old authority left, nobody is cut off for good.
        progress();
        files.pki().renew("server", None).unwrap();
        shown_anew(&files, &server);
        ended.store(true, Ordering::SeqCst);
    });
}

#[test]
fn who_was_removed_is_cut_off_and_the_others_are_not() {
    let files = Files::new();
    files.issue("one");
    files.issue("two");
    let server = Server::start(&files, &(named("one") + &named("two")));
    let (mut one, mut two) = (connect(&files, &server, "one"), connect(&files, &server, "two"));
    assert_eq!(one.get("/").unwrap().1, "one");
    assert_eq!(two.get("/").unwrap().1, "two");
    files.services(&named("two"));
    // It waits for bytes that never come, and hears the end.
    assert!(one.is_cut_off());
    assert!(!gets_in(&files, &server, "one"));
    assert_eq!(two.get("/").unwrap(), (200, "two".to_owned()));
    // Other rights than before need a new connection.
    files.services(&named("two").replace("store", "reader"));
    assert!(two.is_cut_off());
    assert!(gets_in(&files, &server, "two"));
}

#[test]
fn who_has_a_certificate_of_a_retired_authority_is_cut_off() {
    let files = Files::new();
    let lost = files.issue("one");
    let server = Server::start(&files, &named("one"));
    let stolen = Shown::load(&files.path("pki/issued"), "one");
    let mut thief = Client::new(&server.place(), &stolen, &[X25519MLKEM768]);
    assert_eq!(thief.get("/").unwrap().1, "one");
    files.pki().rotate().unwrap();
    assert_ne!(files.pki().renew("one", None).unwrap().sha256, lost.sha256);
    files.pki().renew("server", None).unwrap();
    files.pki().retire().unwrap();
    assert!(thief.is_cut_off());
    assert!(Client::new(&server.place(), &stolen, &[X25519MLKEM768]).get("/").is_err());
    eventually("the owner", || gets_in(&files, &server, "one"));
}

#[test]
fn files_that_are_no_good_change_nothing() {
    let files = Files::new();
    files.issue("one");
    files.issue("two");
    let server = Server::start(&files, &named("one"));
    let mut lasting = connect(&files, &server, "one");
    assert!(lasting.get("/").is_ok());
    let key = files.path("pki/issued/server.key");
    let good = std::fs::read(&key).unwrap();
    let other = std::fs::read(files.path("pki/issued/two.key")).unwrap();
    let good_ca = std::fs::read(files.path("pki/ca.pem")).unwrap();
    for (file, bad) in [(&key, &other[..]), (&key, b"no key"), (&files.path("pki/ca.pem"), b"no certificate")] {
        let before = std::fs::read(file).unwrap();
        std::fs::write(file, bad).unwrap();
        // What is new beside it does not hold either: it is all or nothing.
        files.services(&(named("one") + &named("two")));
        let until = Instant::now() + Duration::from_millis(2 * limits::RELOAD_MS + 500);
        while Instant::now() < until {
            assert!(gets_in(&files, &server, "one") && !gets_in(&files, &server, "two"));
            assert!(lasting.get("/").is_ok());
            std::thread::sleep(Duration::from_millis(50));
        }
        std::fs::write(file, before).unwrap();
        eventually("the file of services", || gets_in(&files, &server, "two"));
        files.services(&named("one"));
        eventually("the old file of services", || !gets_in(&files, &server, "two"));
    }
    assert_eq!((std::fs::read(&key).unwrap(), std::fs::read(files.path("pki/ca.pem")).unwrap()), (good, good_ca));
    std::fs::write(files.path("services.toml"), "[[service]]\nname = 3\n").unwrap();
    let until = Instant::now() + Duration::from_millis(2 * limits::RELOAD_MS);
    while Instant::now() < until {
        assert!(gets_in(&files, &server, "one"));
    }
}

#[test]
fn users_of_a_unix_socket_come_and_go_with_the_file() {
    use std::io::{Read as _, Write as _};
    let files = Files::new();
    let uid = rustix::process::getuid().as_raw();
    let of = |uid: u32| named("one").replace("certificate_name = \"one\"", &format!("uid = {uid}"));
    let services = files.services(&of(uid));
    let path = files.path("socket");
    let server = Server::listen(Address::Unix(path.clone()), None, &services, who());
    let status = || {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer.split(' ').nth(1).unwrap_or_default().to_owned())
    };
    assert_eq!(status().unwrap(), "200");
    let mut waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    files.services(&of(uid + 1));
    waiting.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let heard = waiting.read(&mut [0]);
    assert!(!heard.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "nobody was cut off");
    eventually("the refusal", || status().is_ok_and(|status| status == "401"));
    files.services(&of(uid));
    eventually("the return", || status().is_ok_and(|status| status == "200"));
    drop(server);
}
