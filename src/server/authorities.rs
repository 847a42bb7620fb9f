//! Authorities whose certificates are believed by name, from a file, by rustls's own verifiers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, server::VerifierBuilderError};

use super::{files, tls};
use crate::error::{Error, Result};
use crate::id::shown;

/// The certificates of authorities.
pub(super) struct Authorities {
    path: PathBuf,
    roots: Arc<RootCertStore>,
}

impl Authorities {
    /// Reads a PEM file of at least one certificate.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("`{}` {why}", path.display()))
                .with_remedy("name a PEM file with the certificates of the authorities; `strongroom pki` keeps one")
        };
        let pem = files::read(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.expose_secret()) {
            let certificate = certificate.map_err(|_| bad("is no PEM file"))?;
            roots.add(certificate).map_err(|_| bad("has a certificate that is none of an authority"))?;
        }
        if roots.is_empty() {
            return Err(bad("has no certificate"));
        }
        Ok(Self { path: path.to_owned(), roots: Arc::new(roots) })
    }

    /// Where they were read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Verifies certificates of clients.
    pub(super) fn of_clients(&self) -> Result<Arc<dyn ClientCertVerifier>> {
        WebPkiClientVerifier::builder_with_provider(self.roots.clone(), tls::hybrid()).build().map_err(unusable)
    }

    /// Verifies certificates of servers.
    pub(super) fn of_servers(&self) -> Result<Arc<dyn ServerCertVerifier>> {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), tls::hybrid()).build();
        Ok(verifier.map_err(unusable)?)
    }
}

fn unusable(e: VerifierBuilderError) -> Error {
    Error::invalid("the authorities cannot be used").with_source(e)
}

/// A name that a certificate can have: of a host, or of a service.
pub(crate) fn parse_name(name: &str) -> Result<ServerName<'static>> {
    match ServerName::try_from(name.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Ok(name),
        _ => Err(Error::invalid(format!("`{}` is not a name that a certificate can have", shown(name)))
            .with_remedy("use letters, digits, `-` and `.`, as in a host name")),
    }
}
