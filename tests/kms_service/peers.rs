//! Guards against a peer that is let in without being known, or over a connection that a quantum computer could read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strongroom::audit::{Reason, What};
use strongroom::keys::Profile;
use strongroom::keys::kms::Kms as _;
use strongroom::server::{RemoteKms, RemoteOptions};
use strongroom::{ErrorKind, Result};
use tokio_rustls::rustls::{self, ClientConfig, crypto::aws_lc_rs, version};

use crate::calls::over_tls;
use crate::server::{Party, Server, any_port, client, service, socket, uid};
use crate::world::{World, eventually, tenant_of};

fn describe(remote: &RemoteKms) -> Result<()> {
    remote.describe(&tenant_of(Profile::Pure)).map(drop)
}

fn refused_peers(server: &Server) -> usize {
    let events = server.world().audit.events();
    events.iter().filter(|e| e.what == What::Refused { reason: Reason::Peer }).count()
}

#[test]
fn another_user_is_refused_counted_and_audited() {
    let world = World::new();
    let address = socket(world.dir.path());
    let services = service("one", "store", "\"*\"", &format!("uid = {}", uid() + 1));
    let server = Server::start(world, address, None, &services);
    let error = describe(&client(&server)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("does not know who calls"), "{error}");
    assert_eq!(server.unknown_peers(), 1);
    eventually("the audit event", || refused_peers(&server) == 1);
    let event = server.world().audit.events().pop().unwrap();
    assert_eq!(event.service, format!("user id {}", uid()));
    assert_eq!((event.role, event.operation, event.tenant), (None, None, None));
}

#[test]
fn a_known_certificate_is_let_in_over_x25519mlkem768() {
    let (server, remote) = over_tls("store", "\"*\"");
    describe(&remote).unwrap();
    assert_eq!(server.counts.post_quantum.load(Ordering::SeqCst), 1);
    assert_eq!(server.counts.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_unknown_certificate_is_refused_counted_and_audited() {
    let (server, _) = over_tls("store", "\"*\"");
    let (stranger, pin) = (Party::new(), server_pin(&server));
    let options = RemoteOptions { deadline_ms: 3_000, ..RemoteOptions::new(server.address.clone()) };
    let error = describe(&RemoteKms::new(options.tls(stranger.own(), [pin])).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(server.counts.handshakes_failed.load(Ordering::SeqCst) >= 1);
    eventually("the audit event", || refused_peers(&server) >= 1);
}

/// Guards against giving requests to whoever answers at the service's address.
#[test]
fn a_server_with_another_certificate_gets_nothing() {
    let (server, peer) = (Party::new(), Party::new());
    let services = service("one", "store", "\"*\"", &format!("certificate_sha256 = \"{}\"", peer.hex()));
    let running = Server::start(World::new(), any_port(), Some(server.own()), &services);
    let options = RemoteOptions { deadline_ms: 3_000, ..RemoteOptions::new(running.address.clone()) };
    let error = describe(&RemoteKms::new(options.tls(peer.own(), [[7; 32]])).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(running.counts.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn an_expired_certificate_is_refused_though_it_is_pinned() {
    let server = Party::new();
    let mut params = rcgen::CertificateParams::new(vec!["strongroom.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let peer = Party::with(params, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap());
    let services = service("one", "store", "\"*\"", &format!("certificate_sha256 = \"{}\"", peer.hex()));
    let running = Server::start(World::new(), any_port(), Some(server.own()), &services);
    let options = RemoteOptions { deadline_ms: 3_000, ..RemoteOptions::new(running.address.clone()) };
    let error = describe(&RemoteKms::new(options.tls(peer.own(), [server.sha256()])).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

fn server_pin(server: &Server) -> [u8; 32] {
    // Whatever it shows to a peer that accepts everything.
    let shown = Arc::new(Anything::default());
    let _ = shake(server, base().dangerous().with_custom_certificate_verifier(shown.clone()).with_no_client_auth());
    let seen = shown.0.lock().unwrap().clone().unwrap();
    strongroom::crypto::default_provider().sha256(&[&seen])
}

fn base() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
}

/// A peer's handshake and first read, which is where a server's refusal arrives.
fn shake(server: &Server, config: ClientConfig) -> std::io::Result<()> {
    use std::io::Read as _;
    let place = server.address.to_string();
    let mut stream = std::net::TcpStream::connect(place.strip_prefix("tcp:").unwrap()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let name = "strongroom.test".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    rustls::Stream::new(&mut tls, &mut stream).read(&mut [0]).map(drop)
}

#[derive(Debug, Default)]
struct Anything(std::sync::Mutex<Option<Vec<u8>>>);

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        end_entity: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(end_entity.to_vec());
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Guards against a connection whose key exchange is classical, or whose protocol is old, or that shows no certificate.
#[test]
fn classical_old_and_anonymous_peers_are_refused() {
    let (server, peer) = (Party::new(), Party::new());
    let services = service("one", "store", "\"*\"", &format!("certificate_sha256 = \"{}\"", peer.hex()));
    let running = Server::start(World::new(), any_port(), Some(server.own()), &services);
    let auth = |builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, known: bool| {
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything::default()));
        let chain = vec![peer.cert.der().clone()];
        let key = rustls::pki_types::PrivateKeyDer::try_from(peer.key.serialize_der()).unwrap();
        if known { builder.with_client_auth_cert(chain, key).unwrap() } else { builder.with_no_client_auth() }
    };
    let with_group = |group| {
        let provider = rustls::crypto::CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        auth(builder.with_protocol_versions(&[&version::TLS13]).unwrap(), true)
    };
    let alert = |config: ClientConfig| {
        let error = shake(&running, config).unwrap_err();
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).cloned();
        inner.unwrap_or_else(|| panic!("{error}"))
    };
    use rustls::{AlertDescription, Error};
    for classical in [aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1] {
        assert_eq!(alert(with_group(classical)), Error::AlertReceived(AlertDescription::HandshakeFailure));
    }
    let none = alert(auth(base(), false));
    assert_eq!(none, Error::AlertReceived(AlertDescription::CertificateRequired));
    assert_eq!(running.counts.connections.load(Ordering::SeqCst), 0);
    eventually("three refusals", || running.counts.handshakes_failed.load(Ordering::SeqCst) == 3);
    // The same peer, with everything as it should be, is only missing a request.
    let fine = shake(&running, with_group(aws_lc_rs::kx_group::X25519MLKEM768));
    assert!(!fine.is_err_and(|e| e.get_ref().is_some_and(|e| e.is::<Error>())));
}
