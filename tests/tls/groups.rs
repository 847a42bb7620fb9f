//! Guards against a key exchange that a quantum computer undoes, where no exception was made.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strongroom::ErrorKind;
use strongroom::audit::What;
use strongroom::crypto::default_provider;
use strongroom::server::{Address, RemoteKms, RemoteOptions};
use tokio_rustls::rustls::{self, AlertDescription, crypto::aws_lc_rs};

use crate::client::{Client, SECP256R1, SECP384R1, Shown, X25519, X25519MLKEM768, alert};
use crate::scene::{Files, Server, eventually, named, reaches, remote};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn classical(name: &str) -> String {
    format!("{}classical_tls = true\n", named(name))
}

/// What the audit log shall have of a service that was let in.
fn connected(files: &Files, name: &str, group: &str) -> (String, What) {
    let certificate = hex(&files.own(name).sha256());
    (name.to_owned(), What::PeerConnected { group: group.to_owned(), certificate })
}

#[test]
fn our_client_shows_x25519mlkem768_and_is_counted_and_audited() {
    let files = Files::new();
    files.issue("one");
    let server = Server::start(&files, &named("one"));
    reaches(&remote(&server, files.own("one"), files.trust())).unwrap();
    assert_eq!(server.counts.post_quantum.load(Ordering::SeqCst), 1);
    assert_eq!(server.counts.connections.load(Ordering::SeqCst), 1);
    assert_eq!(server.arrivals(), [connected(&files, "one", "X25519MLKEM768")]);
}

#[test]
fn a_peer_with_classical_key_exchanges_alone_is_refused_counted_and_audited() {
    let files = Files::new();
    files.issue("one");
    let server = Server::start(&files, &named("one"));
    let shown = Shown::load(&files.path("pki/issued"), "one");
    let client = Client::new(&server.place(), &shown, &[X25519, SECP384R1]);
    assert_eq!(alert(client), AlertDescription::HandshakeFailure);
    eventually("the audit event", || !server.arrivals().is_empty());
    let what = What::ClassicalRefused { groups: "X25519 secp384r1".to_owned() };
    assert_eq!(server.arrivals(), [("a peer that has shown no certificate".to_owned(), what)]);
    assert_eq!(server.counts.classical_refused.load(Ordering::SeqCst), 1);
    assert_eq!(server.counts.handshakes_failed.load(Ordering::SeqCst), 1);
    assert_eq!(server.counts.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn an_exception_is_for_the_service_that_it_names_and_for_nobody_else() {
    let files = Files::new();
    files.issue("old");
    files.issue("new");
    let server = Server::start(&files, &(classical("old") + &named("new")));
    let shown = |name| Shown::load(&files.path("pki/issued"), name);
    for (group, name) in [(X25519, "X25519"), (SECP384R1, "secp384r1")] {
        let mut client = Client::new(&server.place(), &shown("old"), &[group]);
        assert_eq!(client.get("/").unwrap(), (200, "old".to_owned()));
        assert_eq!(client.group(), name);
        assert_eq!(server.arrivals().pop().unwrap(), connected(&files, "old", name));
    }
    assert_eq!(server.counts.x25519.load(Ordering::SeqCst), 1);
    assert_eq!(server.counts.secp384r1.load(Ordering::SeqCst), 1);
    // A known service that is no exception, one that nobody knows, and a group that nobody may use.
    assert_eq!(alert(Client::new(&server.place(), &shown("new"), &[X25519])), AlertDescription::CertificateUnknown);
    assert_eq!(alert(Client::new(&server.place(), &shown("server"), &[X25519])), AlertDescription::AccessDenied);
    assert_eq!(alert(Client::new(&server.place(), &shown("old"), &[SECP256R1])), AlertDescription::HandshakeFailure);
    eventually("three refusals", || server.counts.handshakes_failed.load(Ordering::SeqCst) == 3);
    assert_eq!(server.counts.classical_refused.load(Ordering::SeqCst), 2);
    let refused = (
        format!("certificate {}", hex(&files.own("new").sha256())),
        What::ClassicalRefused { groups: "X25519".to_owned() },
    );
    eventually("its audit event", || server.arrivals().contains(&refused));
    // With the key exchange that everybody should have, it gets in.
    let mut client = Client::new(&server.place(), &shown("new"), &[X25519MLKEM768]);
    assert_eq!(client.get("/").unwrap(), (200, "new".to_owned()));
    assert_eq!(server.counts.connections.load(Ordering::SeqCst), 3);
}

/// Guards against a peer, or somebody on the way who reorders what it offers, that gets less than both sides have.
#[test]
fn an_exception_that_has_x25519mlkem768_gets_it_even_if_it_prefers_another() {
    let files = Files::new();
    files.issue("old");
    let server = Server::start(&files, &classical("old"));
    let shown = Shown::load(&files.path("pki/issued"), "old");
    let mut client = Client::new(&server.place(), &shown, &[X25519, SECP384R1, X25519MLKEM768]);
    assert_eq!(client.get("/").unwrap(), (200, "old".to_owned()));
    assert_eq!(client.group(), "X25519MLKEM768");
    assert_eq!(server.counts.post_quantum.load(Ordering::SeqCst), 1);
}

#[test]
fn a_peer_with_tls_1_2_alone_is_refused() {
    let files = Files::new();
    files.issue("old");
    let server = Server::start(&files, &classical("old"));
    let mut stream = TcpStream::connect(server.place()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&tls_1_2_hello()).unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    // A fatal alert (RFC 8446, section 6): protocol_version.
    assert_eq!((answer[0], answer[5], answer[6]), (21, 2, 70));
    eventually("the refusal", || server.counts.handshakes_failed.load(Ordering::SeqCst) == 1);
}

/// A ClientHello as of RFC 5246, section 7.4.1.2, without supported_versions.
fn tls_1_2_hello() -> Vec<u8> {
    let extensions: &[&[u8]] = &[
        // supported_groups: x25519; signature_algorithms: ecdsa_secp384r1_sha384; ec_point_formats: uncompressed.
        &[0, 10, 0, 4, 0, 2, 0, 29],
        &[0, 13, 0, 4, 0, 2, 5, 3],
        &[0, 11, 0, 2, 1, 0],
    ];
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session; TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384; no compression.
    body.extend([0, 0, 2, 0xc0, 0x2c, 1, 0, 0, extensions.len() as u8]);
    body.extend(extensions);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

/// Guards against a client that talks over a classical key exchange to a server that has no other.
#[test]
fn our_client_talks_to_a_classical_server_only_as_a_listed_exception() {
    let files = Files::new();
    files.issue("one");
    let shown = Shown::load(&files.path("pki/issued"), "server");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let provider = rustls::crypto::CryptoProvider { kx_groups: vec![X25519], ..aws_lc_rs::default_provider() };
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.0, shown.1)
        .unwrap();
    let config = Arc::new(config);
    // Says how each handshake ended, and then goes away.
    let (sender, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let ended = tls.complete_io(&mut stream).map(|_| ()).map_err(|e| e.to_string());
            if sender.send(ended).is_err() {
                break;
            }
        }
    });
    let call = |trust| {
        let options = RemoteOptions { deadline_ms: 3_000, ..RemoteOptions::new(address.clone()) };
        reaches(&RemoteKms::new(options.trusting(files.own("one"), trust)).unwrap()).unwrap_err().kind()
    };
    assert_eq!(call(files.trust()), ErrorKind::Denied);
    assert!(ends.recv().unwrap().is_err());
    while ends.try_recv().is_ok() {}
    assert_eq!(call(files.trust().allow_classical()), ErrorKind::Unavailable);
    assert_eq!(ends.recv().unwrap(), Ok(()));
}

/// Guards against certificates after the day on which classical signatures can be forged having no way in.
#[test]
fn certificates_may_be_signed_with_ml_dsa() {
    let files = Files::new();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ML_DSA_65).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["one".to_owned()]).unwrap().self_signed(&key).unwrap();
    let pin = hex(&default_provider().sha256(&[certificate.der()]));
    let pinned = named("one").replace("certificate_name = \"one\"", &format!("certificate_sha256 = \"{pin}\""));
    let server = Server::start(&files, &pinned);
    let mut client = Client::new(&server.place(), &Shown::made(&certificate, &key), &[X25519MLKEM768]);
    assert_eq!(client.get("/").unwrap(), (200, "one".to_owned()));
}
