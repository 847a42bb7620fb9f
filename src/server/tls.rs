//! TLS 1.3 between services: X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem), certificates on both sides.
//!
//! Classical key exchanges are for peers that are listed as exceptions. Who offers X25519MLKEM768 gets no other, whatever
//! they prefer: a server offers the rest only to peers that do not have it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::kx_group::{SECP384R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, NamedGroup, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use x509_cert::der::Decode as _;

use super::files;
use super::identity::Identity;
use super::services::Services;
use super::trust::Believed;
use crate::crypto;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// A certificate with its key.
pub struct Own {
    certified: Arc<CertifiedKey>,
    files: [PathBuf; 2],
}

impl Own {
    /// Reads certificate (chain) and key from PEM files. Who uses them reads them again when they have changed.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        // Who renews them replaces two files, one after the other.
        for _ in 1..limits::TLS_FILES_ATTEMPTS {
            match Self::read(certificate, key) {
                Err(e) if e.kind() == ErrorKind::InvalidInput => {}
                other => return other,
            }
            std::thread::sleep(Duration::from_millis(limits::TLS_FILES_WAIT_MS));
        }
        Self::read(certificate, key)
    }

    /// The same, once.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let bad = |path: &Path, what: &str| {
            Error::invalid(format!("`{}` has no {what}", path.display())).with_remedy("name a PEM file that has one")
        };
        let files = [certificate.to_owned(), key.to_owned()];
        let pem = files::read(certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.expose_secret())
            .collect::<Result<_, _>>()
            .map_err(|_| bad(certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(bad(certificate, "certificate"));
        }
        let pem = files::read(key)?;
        let private = PrivateKeyDer::from_pem_slice(pem.expose_secret()).map_err(|_| bad(key, "private key"))?;
        let certified = CertifiedKey::from_der(chain, private, &HYBRID).map_err(|e| {
            let (certificate, key) = (certificate.display(), key.display());
            Error::invalid(format!("`{certificate}` and `{key}` cannot be used: {e}"))
                .with_remedy("name a certificate and the private key that belongs to it")
                .with_source(e)
        })?;
        Ok(Self { certified: Arc::new(certified), files })
    }

    /// The name by which the other side pins this certificate.
    pub fn sha256(&self) -> [u8; 32] {
        self.certified.cert.first().map(digest).unwrap_or_default()
    }

    /// Certificate and key.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Where it was read from: certificate and key.
    pub(super) fn files(&self) -> &[PathBuf; 2] {
        &self.files
    }
}

/// What a server shows and believes.
pub(super) struct Shown {
    hybrid: Arc<ServerConfig>,
    /// For peers that have only classical key exchanges: without exceptions there is none.
    classical: Option<Arc<ServerConfig>>,
}

impl Shown {
    /// Only peers of `services` get through the handshake.
    pub(super) fn new(own: Own, services: &Arc<Services>) -> Result<Self> {
        let config = |provider: Arc<CryptoProvider>, classical: bool| {
            let verifier = Arc::new(Clients { services: services.clone(), classical });
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(unusable)?
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified.clone())));
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            // A resumed session would be believed for what was checked when it began.
            config.send_tls13_tickets = 0;
            Ok::<_, Error>(Arc::new(config))
        };
        let classical = if services.has_classical() { Some(config(CLASSICAL.clone(), true)?) } else { None };
        Ok(Self { hybrid: config(hybrid(), false)?, classical })
    }

    /// For a peer that offers `groups`.
    pub(super) fn to(&self, groups: &[NamedGroup]) -> Arc<ServerConfig> {
        match &self.classical {
            Some(classical) if !groups.contains(&NamedGroup::X25519MLKEM768) => classical.clone(),
            _ => self.hybrid.clone(),
        }
    }
}

/// What a client needs: it talks only to servers that it believes. Without a certificate of its own it shows none.
pub(super) fn client(own: Option<Own>, believed: Believed) -> Result<ClientConfig> {
    let provider = if believed.may_be_classical() { ANY.clone() } else { hybrid() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers(believed)));
    let mut config = match own {
        Some(own) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified))),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// SHA-256 of a certificate's DER.
pub(super) fn digest(certificate: &CertificateDer<'_>) -> [u8; 32] {
    crypto::default_provider().sha256(&[certificate.as_ref()])
}

/// Refuses a pinned certificate out of its dates. For others, that is the verifier's work.
pub(super) fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
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

static HYBRID: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| with_groups(vec![X25519MLKEM768]));
static CLASSICAL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| with_groups(vec![X25519, SECP384R1]));
static ANY: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| with_groups(vec![X25519MLKEM768, X25519, SECP384R1]));

/// AWS-LC with one key exchange: a peer that has only classical ones finds nothing in common, and is refused.
pub(super) fn hybrid() -> Arc<CryptoProvider> {
    HYBRID.clone()
}

/// AWS-LC with X25519MLKEM768, and classical key exchanges for peers that have no other.
pub(super) fn any_exchange() -> Arc<CryptoProvider> {
    ANY.clone()
}

fn with_groups(kx_groups: Vec<&'static dyn SupportedKxGroup>) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

fn unusable(e: rustls::Error) -> Error {
    Error::internal("preparing TLS").with_source(e)
}

/// Believes the certificates of services.
struct Clients {
    services: Arc<Services>,
    /// Those alone that may connect with a classical key exchange.
    classical: bool,
}

/// Believes the certificates of servers.
struct Servers(Believed);

/// A peer that is known, and was turned down for its classical key exchange.
#[derive(Debug)]
pub(super) struct NoException {
    pub(super) service: String,
    pub(super) identity: Identity,
}

impl std::fmt::Display for NoException {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "service `{}` ({}) may not use a classical key exchange", self.service, self.identity)
    }
}

impl std::error::Error for NoException {}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients(..)")
    }
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Servers(..)")
    }
}

/// The parts that both verifiers have in common: TLS 1.3 alone.
macro_rules! tls13_alone {
    () => {
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
            verify_tls13_signature(message, certificate, signature, &HYBRID.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            HYBRID.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let service = self.services.of_certificate(end_entity, intermediates, now)?;
        if self.classical && !service.classical_tls {
            let service = service.caller.service().to_owned();
            let refused = NoException { service, identity: Identity::Certificate(digest(end_entity)) };
            return Err(CertificateError::Other(rustls::OtherError(Arc::new(refused))).into());
        }
        Ok(ClientCertVerified::assertion())
    }

    tls13_alone!();
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.check(end_entity, intermediates, ocsp_response, now)
    }

    tls13_alone!();
}
