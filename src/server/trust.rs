//! Which servers a client believes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls;

use rustls::CertificateError;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::authorities::{Authorities, parse_name};
use super::tls;
use crate::error::Result;

/// Which servers a client believes over TCP: by the SHA-256 of their certificates, by a name that an authority vouches
/// for, or both. Without either, none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTrust {
    pins: BTreeSet<[u8; 32]>,
    named: Option<(PathBuf, String)>,
    classical: bool,
}

impl ServerTrust {
    /// Also those with a certificate for `name` of an authority in the PEM file `authorities`, which is read again when
    /// it has changed.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when a certificate cannot have that name.
    pub fn named(mut self, authorities: impl Into<PathBuf>, name: &str) -> Result<Self> {
        parse_name(name)?;
        self.named = Some((authorities.into(), name.to_owned()));
        Ok(self)
    }

    /// Also with a classical key exchange, if the server has no other: an exception to be made for one server.
    #[must_use]
    pub fn allow_classical(mut self) -> Self {
        self.classical = true;
        self
    }

    /// Whether there is no server that is believed.
    pub(super) fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.named.is_none()
    }

    /// The file of authorities.
    pub(super) fn file(&self) -> Option<&Path> {
        self.named.as_ref().map(|(path, _)| path.as_path())
    }

    /// With the authorities as they are now.
    pub(super) fn load(&self) -> Result<Believed> {
        let named = match &self.named {
            Some((path, name)) => Some((Authorities::load(path)?.of_servers()?, parse_name(name)?)),
            None => None,
        };
        Ok(Believed { pins: self.pins.clone(), named, classical: self.classical })
    }
}

impl FromIterator<[u8; 32]> for ServerTrust {
    /// Those with one of these certificates, by SHA-256.
    fn from_iter<T: IntoIterator<Item = [u8; 32]>>(pins: T) -> Self {
        Self { pins: pins.into_iter().collect(), ..Self::default() }
    }
}

/// [`ServerTrust`], with the authorities' certificates.
pub(super) struct Believed {
    pins: BTreeSet<[u8; 32]>,
    named: Option<(Arc<dyn ServerCertVerifier>, ServerName<'static>)>,
    classical: bool,
}

impl Believed {
    pub(super) fn may_be_classical(&self) -> bool {
        self.classical
    }

    /// The name that is asked for.
    pub(super) fn name(&self) -> Option<&ServerName<'static>> {
        self.named.as_ref().map(|(_, name)| name)
    }

    pub(super) fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pins.contains(&tls::digest(certificate)) {
            return tls::check_dates(certificate, now).map(|()| ServerCertVerified::assertion());
        }
        match &self.named {
            Some((verifier, name)) => verifier.verify_server_cert(certificate, others, name, ocsp_response, now),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
}
