//! Guards against a certificate that is believed though it proves nothing, or stands for somebody else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strongroom::ErrorKind;
use strongroom::clock::SystemClock;
use strongroom::pki::{Pki, Request};
use strongroom::server::{Address, ServerTrust};
use tokio_rustls::rustls::AlertDescription;

use crate::client::{Client, Shown, X25519MLKEM768, alert};
use crate::scene::{Files, Server, eventually, named, own, reaches, remote, who};

/// Another authority, with a certificate `name`.
fn elsewhere(files: &Files, name: &str) -> std::path::PathBuf {
    let dir = files.path("elsewhere");
    Pki::init(&dir, Arc::new(SystemClock)).unwrap().issue(&Request::new(name)).unwrap();
    dir.join("issued")
}

#[test]
fn clients_are_known_by_name_and_bad_certificates_are_refused() {
    let files = Files::new();
    let issued = files.path("pki/issued");
    files.issue("good");
    files.issue("unlisted");
    files.pki_after(-100).issue(&Request { days: 90, ..Request::new("expired") }).unwrap();
    files.pki_after(30).issue(&Request::new("early")).unwrap();
    files.pki().issue(&Request { client: false, ..Request::new("serving") }).unwrap();
    files.pki().issue(&Request { hosts: vec!["good".to_owned()], ..Request::new("serving-too") }).unwrap();
    let others = elsewhere(&files, "good");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let by_itself = rcgen::CertificateParams::new(vec!["good".to_owned()]).unwrap().self_signed(&key).unwrap();
    let services = ["good", "expired", "early", "serving", "serving-too"].map(named).concat();
    let server = Server::start(&files, &services);
    let connect = |shown: &Shown| Client::new(&server.place(), shown, &[X25519MLKEM768]);
    use AlertDescription as Alert;
    let cases = [
        ("no service has that name", Shown::load(&issued, "unlisted"), Alert::AccessDenied),
        ("it has expired", Shown::load(&issued, "expired"), Alert::CertificateExpired),
        ("it is not valid yet", Shown::load(&issued, "early"), Alert::CertificateExpired),
        ("it is a server's", Shown::load(&issued, "serving"), Alert::UnsupportedCertificate),
        ("it could be two services", Shown::load(&issued, "serving-too"), Alert::AccessDenied),
        ("another authority issued it", Shown::load(&others, "good"), Alert::UnknownCA),
        ("it vouches for itself", Shown::made(&by_itself, &key), Alert::UnknownCA),
    ];
    for (refused, (why, shown, expected)) in (1..).zip(cases) {
        assert_eq!(alert(connect(&shown)), expected, "{why}");
        eventually(why, || server.counts.handshakes_failed.load(Ordering::SeqCst) == refused);
    }
    assert_eq!(server.counts.connections.load(Ordering::SeqCst), 0);
    assert_eq!(connect(&Shown::load(&issued, "good")).get("/").unwrap(), (200, "good".to_owned()));
}

#[test]
fn servers_are_known_by_name_and_bad_certificates_are_refused() {
    let files = Files::new();
    files.issue("good");
    files.issue("other");
    files.pki().issue(&Request { server: false, ..Request::new("calling") }).unwrap();
    files.pki_after(-100).issue(&Request { days: 90, ..Request::new("expired") }).unwrap();
    let others = elsewhere(&files, "server");
    let (services, issued) = (files.services(&named("good")), files.path("pki/issued"));
    let at = |own| {
        let any: Address = "tcp:127.0.0.1:0".parse().unwrap();
        Server::listen(any, Some(own), &services, who())
    };
    let trust = |name| ServerTrust::default().named(files.path("pki/ca.pem"), name).unwrap();
    for (why, server, name) in [
        ("it has another name", own(&issued, "other"), "server"),
        ("it is a client's", own(&issued, "calling"), "calling"),
        ("it has expired", own(&issued, "expired"), "expired"),
        ("another authority issued it", own(&others, "server"), "server"),
    ] {
        let server = at(server);
        let error = reaches(&remote(&server, files.own("good"), trust(name))).expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Denied, "{why}: {error}");
        assert_eq!(server.counts.connections.load(Ordering::SeqCst), 0, "{why}");
    }
    reaches(&remote(&at(files.own("server")), files.own("good"), trust("server"))).unwrap();
    // By SHA-256 beside the name, and nobody without either.
    let pinned =
        remote(&at(files.own("other")), files.own("good"), [files.own("other").sha256()].into_iter().collect());
    drop(reaches(&pinned));
    assert!(ServerTrust::default().named(files.path("pki/ca.pem"), "no name").is_err());
}
