//! What is asked of an authority, and what it issued.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::SanType;
use serde::Serialize;
use tokio_rustls::rustls::pki_types::ServerName;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{DecodePem as _, Encode as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};

use crate::crypto::default_provider;
use crate::error::{Error, ErrorKind, Result};
use crate::id::shown;
use crate::limits;
use crate::server::parse_name;

/// id-kp-serverAuth and id-kp-clientAuth (RFC 5280, section 4.2.1.12).
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// What a certificate shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose it is: a name in lower case, as a host can have one.
    pub name: String,
    /// Whether a server may show it.
    pub server: bool,
    /// Whether a client may show it.
    pub client: bool,
    /// Names and addresses of the hosts that it is for besides.
    pub hosts: Vec<String>,
    /// How long it is valid, in days.
    pub days: u32,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issued {
    /// Whose it is.
    pub name: String,
    /// Where it is.
    pub certificate: PathBuf,
    /// Where its key is.
    pub key: PathBuf,
    /// SHA-256 of the certificate, as `certificate_sha256` takes it.
    pub sha256: String,
    /// Whether a server may show it.
    pub server: bool,
    /// Whether a client may show it.
    pub client: bool,
    /// Names and addresses of the hosts that it is for besides.
    pub hosts: Vec<String>,
    /// How long it is valid as a whole, in days.
    pub days: u32,
    /// When it ends: Unix time in milliseconds.
    pub not_after_ms: u64,
    /// The authority that issued it.
    pub issuer: String,
}

impl Request {
    /// For `name`, as a server and as a client.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), server: true, client: true, hosts: Vec::new(), days: limits::PKI_DAYS }
    }

    pub(super) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if !self.server && !self.client {
            return Err(Error::invalid("a certificate is for a server, a client, or both"));
        }
        if self.hosts.len() > limits::PKI_HOSTS {
            return Err(Error::invalid(format!("a certificate is for at most {} hosts", limits::PKI_HOSTS)));
        }
        if !(1..=limits::PKI_DAYS_MOST).contains(&self.days) {
            return Err(Error::invalid(format!("{} days are not possible", self.days))
                .with_remedy(format!("choose between 1 and {}", limits::PKI_DAYS_MOST)));
        }
        self.alternative_names().map(drop)
    }

    /// The name, then the hosts.
    pub(super) fn alternative_names(&self) -> Result<Vec<SanType>> {
        let one = |host: &String| {
            let bad = || {
                Error::invalid(format!("`{}` is neither a host's name nor an address", shown(host)))
                    .with_remedy("write it as in `store.example` or `192.0.2.7`")
            };
            match ServerName::try_from(host.as_str()).map_err(|_| bad())? {
                ServerName::IpAddress(address) => Ok(SanType::IpAddress(std::net::IpAddr::from(address))),
                _ => Ok(SanType::DnsName(host.as_str().try_into().map_err(|_| bad())?)),
            }
        };
        std::iter::once(&self.name).chain(&self.hosts).map(one).collect()
    }
}

/// A name is part of a path, and stands for a service.
pub(super) fn check_name(name: &str) -> Result<()> {
    parse_name(name)?;
    if name.contains(char::is_uppercase) || name.contains('*') || name.ends_with('.') {
        return Err(Error::invalid(format!("`{}` is not a name for a certificate", shown(name)))
            .with_remedy("use small letters, digits, `-` and `.`"));
    }
    Ok(())
}

impl Issued {
    pub(super) fn load(name: &str, certificate: PathBuf, key: PathBuf) -> Result<Self> {
        let Facts { sha256, issuer, not_before_ms, not_after_ms, server, client, names, .. } =
            Facts::load(&certificate)?;
        let days = not_after_ms.saturating_sub(not_before_ms.saturating_add(limits::CERTIFICATE_SKEW_MS)) / 86_400_000;
        let days = u32::try_from(days).unwrap_or(u32::MAX).clamp(1, limits::PKI_DAYS_MOST);
        let hosts = names.into_iter().filter(|host| host != name).collect();
        let name = name.to_owned();
        Ok(Self { name, certificate, key, sha256, server, client, hosts, days, not_after_ms, issuer })
    }

    /// What would make one like it.
    pub(super) fn request(&self) -> Request {
        let Self { name, server, client, hosts, days, .. } = self.clone();
        Request { name, server, client, hosts, days }
    }
}

/// What a certificate says.
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) sha256: String,
    pub(super) not_after_ms: u64,
    issuer: String,
    not_before_ms: u64,
    server: bool,
    client: bool,
    names: Vec<String>,
}

impl Facts {
    pub(super) fn load(path: &Path) -> Result<Self> {
        let bad = || damaged(path);
        let certificate = Certificate::from_pem(fs::read(path)?).map_err(|_| bad())?;
        let tbs = certificate.tbs_certificate();
        let usages = tbs.get_extension::<ExtendedKeyUsage>().map_err(|_| bad())?;
        let usages = usages.map(|(_, usages)| usages.0).unwrap_or_default();
        let names = tbs.get_extension::<SubjectAltName>().map_err(|_| bad())?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let ms = |time: x509_cert::time::Time| u64::try_from(time.to_unix_duration().as_millis()).unwrap_or(u64::MAX);
        let der = certificate.to_der().map_err(|_| bad())?;
        Ok(Self {
            subject: tbs.subject().to_string(),
            sha256: default_provider().sha256(&[&der]).iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after_ms: ms(tbs.validity().not_after),
            issuer: tbs.issuer().to_string(),
            not_before_ms: ms(tbs.validity().not_before),
            server: usages.contains(&SERVER_AUTH),
            client: usages.contains(&CLIENT_AUTH),
            names: names.iter().map(|name| shown_name(name).ok_or_else(bad)).collect::<Result<_>>()?,
        })
    }
}

/// A file of the directory that is not as it was made.
pub(super) fn damaged(path: &Path) -> Error {
    Error::new(ErrorKind::Integrity, format!("`{}` is not what was written there", path.display()))
        .with_remedy("restore it from a backup, or remove it with its counterpart and issue anew")
}

fn shown_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let address = match bytes.as_bytes() {
                four if four.len() == 4 => std::net::IpAddr::from(<[u8; 4]>::try_from(four).ok()?),
                other => std::net::IpAddr::from(<[u8; 16]>::try_from(other).ok()?),
            };
            Some(address.to_string())
        }
        _ => None,
    }
}
