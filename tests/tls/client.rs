//! A client that may do what ours does not: offer any key exchange and show any certificate, over HTTP/1.1.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

pub use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};

/// A certificate (chain) and its key.
pub struct Shown(pub Vec<CertificateDer<'static>>, pub PrivateKeyDer<'static>);

impl Shown {
    pub fn load(dir: &Path, name: &str) -> Self {
        let chain = CertificateDer::pem_file_iter(dir.join(format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
        Self(chain.map(Result::unwrap).collect(), key)
    }

    pub fn made(certificate: &rcgen::Certificate, key: &rcgen::KeyPair) -> Self {
        Self(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// An open connection.
pub struct Client {
    tls: StreamOwned<ClientConnection, TcpStream>,
}

impl Client {
    /// Connects to `place`; the server has not said yet whether it accepts that.
    pub fn new(place: &str, shown: &Shown, groups: &[&'static dyn SupportedKxGroup]) -> Self {
        let provider = CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_client_auth_cert(shown.0.clone(), shown.1.clone_key())
            .unwrap();
        let stream = TcpStream::connect(place).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let name = ServerName::try_from("server").unwrap();
        Self { tls: StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream) }
    }

    /// Asks for `path`, and returns what comes: status and body.
    pub fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        self.send(path)?;
        self.receive()
    }

    pub fn send(&mut self, path: &str) -> std::io::Result<()> {
        self.tls.write_all(format!("GET {path} HTTP/1.1\r\nhost: server\r\n\r\n").as_bytes())?;
        self.tls.flush()
    }

    pub fn receive(&mut self) -> std::io::Result<(u16, String)> {
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                if body.len() >= length.parse().unwrap() {
                    return Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()));
                }
            }
            let mut some = [0; 1024];
            match self.tls.read(&mut some)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend_from_slice(&some[..n]),
            }
        }
    }

    /// Whether the server ends the connection, in less time than it lets one stay that asks for nothing.
    pub fn is_cut_off(&mut self) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        self.tls.sock.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        self.receive().is_err_and(|e| !matches!(e.kind(), TimedOut | WouldBlock))
    }

    /// The key exchange.
    pub fn group(&self) -> String {
        format!("{:?}", self.tls.conn.negotiated_key_exchange_group().unwrap().name())
    }

    /// The server's certificate.
    pub fn server(&self) -> CertificateDer<'static> {
        self.tls.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// Why the server turned down `client`.
#[track_caller]
pub fn alert(mut client: Client) -> AlertDescription {
    let error = client.get("/").unwrap_err();
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("{error}"),
    }
}

/// Believes every server.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
