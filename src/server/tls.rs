//! TLS 1.3 between services: X25519MLKEM768 only (draft-ietf-tls-ecdhe-mlkem), certificates on both sides, pinned.
//!
//! No authority stands between two services: each knows the other's certificate by its SHA-256, and the handshake
//! proves its key. Names in certificates say nothing here; the dates of the one presented are kept to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use x509_cert::der::Decode as _;

use super::identity::{Identity, Services};
use crate::crypto;
use crate::error::{Error, Result};
use crate::limits;
use crate::secret::SecretBytes;

/// A certificate with its key.
pub struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Own {
    /// Reads certificate (chain) and key from PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let bad = |path: &Path, what: &str| {
            Error::invalid(format!("`{}` has no {what}", path.display())).with_remedy("name a PEM file that has one")
        };
        let pem = read(certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.expose_secret())
            .collect::<Result<_, _>>()
            .map_err(|_| bad(certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(bad(certificate, "certificate"));
        }
        let pem = read(key)?;
        let key = PrivateKeyDer::from_pem_slice(pem.expose_secret()).map_err(|_| bad(key, "private key"))?;
        Ok(Self { chain, key })
    }

    /// The name by which the other side pins this certificate.
    pub fn sha256(&self) -> [u8; 32] {
        self.chain.first().map(digest).unwrap_or_default()
    }
}

/// What a server needs: only peers of `services` get through the handshake.
pub(super) fn server(own: Own, services: Arc<Services>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(provider());
    let verifier = Arc::new(Pinned { provider: provider.clone(), known: Known::Services(services) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain, own.key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would be believed for what was checked when it began.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a client needs: it talks only to a server with one of the certificates `pins`.
pub(super) fn client(own: Own, pins: BTreeSet<[u8; 32]>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(provider());
    let verifier = Arc::new(Pinned { provider: provider.clone(), known: Known::Pins(pins) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(own.chain, own.key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// SHA-256 of a certificate's DER.
pub(super) fn digest(certificate: &CertificateDer<'_>) -> [u8; 32] {
    crypto::default_provider().sha256(&[certificate.as_ref()])
}

/// AWS-LC with one key exchange: a peer that has only classical ones finds nothing in common, and is refused.
fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768], ..aws_lc_rs::default_provider() }
}

fn read(path: &Path) -> Result<SecretBytes> {
    let about = |e: std::io::Error| {
        let e = Error::from(e);
        Error::new(e.kind(), format!("`{}` cannot be read: {e}", path.display())).with_source(e)
    };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(about)?.take(limits::SERVICE_FILE_BYTES);
    file.read_to_end(&mut bytes).map_err(about)?;
    Ok(SecretBytes::new(bytes))
}

fn unusable(e: rustls::Error) -> Error {
    Error::invalid(format!("certificate and key cannot be used: {e}")).with_source(e)
}

/// Believes the certificates that it knows, while they are valid.
#[derive(Debug)]
struct Pinned {
    provider: Arc<CryptoProvider>,
    known: Known,
}

enum Known {
    Services(Arc<Services>),
    Pins(BTreeSet<[u8; 32]>),
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known(..)")
    }
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
        let digest = digest(certificate);
        let known = match &self.known {
            Known::Services(services) => services.find(&Identity::Certificate(digest)).is_some(),
            Known::Pins(pins) => pins.contains(&digest),
        };
        if !known {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let parsed = x509_cert::Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let validity = parsed.tbs_certificate().validity();
        if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
