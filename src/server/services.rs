//! The services that may call, each by its user ids, its certificates, or a name that an authority vouches for.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_rustls::rustls;

use rustls::CertificateError;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::ClientCertVerifier;

use super::authorities::{Authorities, parse_name};
use super::identity::{Identity, parse_sha256};
use super::{files, tls};
use crate::error::{Error, Result};
use crate::id::shown;
use crate::keys::kms::{Caller, Role, Scope};
use crate::limits;

/// The services that may call.
pub struct Services {
    by_identity: HashMap<Identity, Arc<Service>>,
    by_name: Vec<(ServerName<'static>, Arc<Service>)>,
    authorities: Option<(Authorities, Arc<dyn ClientCertVerifier>)>,
    /// Where they were read from.
    source: Option<PathBuf>,
}

/// A service, and how much of this server it uses.
pub(super) struct Service {
    pub(super) caller: Caller,
    /// Whether it may connect with a classical key exchange.
    pub(super) classical_tls: bool,
    pub(super) requests: Arc<Semaphore>,
    pub(super) connections: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    client_ca: Option<PathBuf>,
    #[serde(default)]
    service: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    tenants: Vec<String>,
    uid: Option<u32>,
    certificate_sha256: Option<OneOrMore>,
    certificate_name: Option<OneOrMore>,
    #[serde(default)]
    classical_tls: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn list(this: Option<Self>) -> Vec<String> {
        match this {
            Some(Self::One(one)) => vec![one],
            Some(Self::More(more)) => more,
            None => Vec::new(),
        }
    }
}

impl Services {
    /// No services: nobody may call.
    pub fn none() -> Self {
        Self { by_identity: HashMap::new(), by_name: Vec::new(), authorities: None, source: None }
    }

    /// Reads the file at `path`. A server reads it again when it has changed.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for unknown keys, names that are no tenants, two services with
    /// the same name or identity, and a file that everybody may write.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_after(path, None)
    }

    /// The same. A service that there was `before` goes on with what it has under way.
    fn load_after(path: &Path, before: Option<&Self>) -> Result<Self> {
        let about = |e: Error| {
            let words = format!("the services in `{}` cannot be used: {e}", path.display());
            let about = Error::new(e.kind(), words);
            match e.remedy() {
                Some(remedy) => about.with_remedy(remedy.to_owned()),
                None => about.with_remedy("the manual's chapter on the key service has an example"),
            }
        };
        let metadata = fs::metadata(path).map_err(|e| about(e.into()))?;
        if metadata.mode() & 0o002 != 0 {
            return Err(about(Error::invalid("everybody may write the file").with_remedy("run `chmod o-w` on it")));
        }
        let bytes = files::read(path).map_err(about)?;
        let text = std::str::from_utf8(bytes.expose_secret()).map_err(|_| about(Error::invalid("it is not a text")))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let services = Self::parse(text, dir, before).map_err(about)?;
        Ok(Self { source: Some(path.to_owned()), ..services })
    }

    /// From TOML; files are looked for in `dir`.
    fn parse(text: &str, dir: &Path, before: Option<&Self>) -> Result<Self> {
        let file: File = toml::from_str(text)
            .map_err(|e| Error::invalid(format!("they are not as they should be: {}", e.message())).with_source(e))?;
        if file.service.len() > limits::SERVICES {
            return Err(Error::invalid(format!("there are more than {} services", limits::SERVICES)));
        }
        let authorities = match file.client_ca {
            Some(path) => {
                let authorities = Authorities::load(&dir.join(path))?;
                let verifier = authorities.of_clients()?;
                Some((authorities, verifier))
            }
            None => None,
        };
        let mut services = Self { by_identity: HashMap::new(), by_name: Vec::new(), authorities, source: None };
        let mut names = BTreeSet::new();
        for entry in file.service {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if entry.name.is_empty() || entry.name.len() > limits::SERVICE_NAME_BYTES || !entry.name.chars().all(plain)
            {
                return Err(Error::invalid(format!("`{}` is not a service's name", shown(&entry.name)))
                    .with_remedy("use letters, digits, `-`, `_` and `.`"));
            }
            if !names.insert(entry.name.clone()) {
                return Err(Error::invalid(format!("there are two services `{}`", entry.name))
                    .with_remedy("give a service that has several certificates a list of them"));
            }
            services.add(entry, before)?;
        }
        Ok(services)
    }

    fn add(&mut self, entry: Entry, before: Option<&Self>) -> Result<()> {
        let Entry { name, role, tenants, uid, certificate_sha256, certificate_name, classical_tls } = entry;
        let old = before.and_then(|before| before.all().find(|old| old.caller.service() == name));
        let places = |old: Option<&Arc<Semaphore>>, n| old.cloned().unwrap_or_else(|| Arc::new(Semaphore::new(n)));
        let service = Arc::new(Service {
            caller: Caller::new(name.clone(), role, scope(&tenants)?),
            classical_tls,
            requests: places(old.map(|old| &old.requests), limits::RPC_REQUESTS_PER_SERVICE),
            connections: places(old.map(|old| &old.connections), limits::RPC_CONNECTIONS_PER_SERVICE),
        });
        let (pins, names) = (OneOrMore::list(certificate_sha256), OneOrMore::list(certificate_name));
        if classical_tls && pins.is_empty() && names.is_empty() {
            return Err(Error::invalid(format!(
                "service `{name}` has no certificate, so no TLS to make exceptions for"
            ))
            .with_remedy("leave out its `classical_tls`"));
        }
        if !names.is_empty() && self.authorities.is_none() {
            return Err(Error::invalid(format!("nobody vouches for the `certificate_name` of service `{name}`"))
                .with_remedy("put `client_ca = \"ca.pem\"` at the head of the file"));
        }
        let mut identities: Vec<Identity> = uid.map(Identity::Uid).into_iter().collect();
        for pin in &pins {
            identities.push(Identity::Certificate(parse_sha256(pin)?));
        }
        if identities.is_empty() && names.is_empty() {
            return Err(Error::invalid(format!("service `{name}` has no identity"))
                .with_remedy("give it a `uid`, a `certificate_sha256` or a `certificate_name`"));
        }
        let both = |what: String, other: &Service| {
            Error::invalid(format!("{what} is both service `{}` and `{name}`", other.caller.service()))
                .with_remedy("let each service have its own user id or certificate")
        };
        for identity in identities {
            if let Some(other) = self.by_identity.insert(identity, service.clone()) {
                return Err(both(identity.to_string(), &other));
            }
        }
        for text in &names {
            let parsed = parse_name(text)?;
            if let Some((_, other)) = self.by_name.iter().find(|(known, _)| *known == parsed) {
                return Err(both(format!("certificate `{text}`"), other));
            }
            self.by_name.push((parsed, service.clone()));
        }
        Ok(())
    }

    /// The service of a process on this machine.
    pub(super) fn of_user(&self, uid: u32) -> Option<Arc<Service>> {
        self.by_identity.get(&Identity::Uid(uid)).cloned()
    }

    /// The service of a certificate: a pinned one, in date, or one that an authority issued, by way of `others`, to
    /// exactly one of the names.
    pub(super) fn of_certificate(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<Service>, rustls::Error> {
        if let Some(service) = self.by_identity.get(&Identity::Certificate(tls::digest(certificate))) {
            tls::check_dates(certificate, now)?;
            return Ok(service.clone());
        }
        let unknown = CertificateError::ApplicationVerificationFailure;
        let (_, verifier) = self.authorities.as_ref().ok_or(unknown.clone())?;
        verifier.verify_client_cert(certificate, others, now)?;
        let parsed = ParsedCertificate::try_from(certificate)?;
        let mut named = self.by_name.iter().filter(|(name, _)| verify_server_name(&parsed, name).is_ok());
        let (_, service) = named.next().ok_or(unknown.clone())?;
        // A certificate that could be two services is none.
        if named.any(|(_, other)| !Arc::ptr_eq(service, other)) { Err(unknown.into()) } else { Ok(service.clone()) }
    }

    /// Whether there is one that may connect with a classical key exchange.
    pub(super) fn has_classical(&self) -> bool {
        self.all().any(|service| service.classical_tls)
    }

    /// The files that they were read from, if they were.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let authorities = self.authorities.iter().map(|(authorities, _)| authorities.path().to_owned());
        self.source.iter().cloned().chain(authorities.filter(|_| self.source.is_some())).collect()
    }

    /// What their file says now; `None` when they were not read from one.
    pub(super) fn reload(&self) -> Result<Option<Self>> {
        self.source.as_deref().map(|source| Self::load_after(source, Some(self))).transpose()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_identity.values().chain(self.by_name.iter().map(|(_, service)| service))
    }
}

impl Service {
    /// Whether this is still what `other` is.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.caller == other.caller && self.classical_tls == other.classical_tls
    }
}

impl FromStr for Services {
    type Err = Error;

    /// From TOML.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, Path::new("."), None)
    }
}

fn scope(tenants: &[String]) -> Result<Scope> {
    match tenants {
        [] => Err(Error::invalid("a service works for no tenant").with_remedy("list tenants, or `*` alone for all")),
        [all] if all == "*" => Ok(Scope::All),
        some => Ok(Scope::Tenants(some.iter().map(|tenant| tenant.parse()).collect::<Result<_>>()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[service]]\nname = \"a\"\nrole = \"store\"\ntenants = [\"acme\"]\nuid = 7\n";

    #[test]
    fn services_are_found_by_what_the_connection_says() {
        let pin = "AB:".repeat(31) + "ab";
        let text = format!(
            "{ONE}[[service]]\nname = \"b\"\nrole = \"admin\"\ntenants = [\"*\"]\n\
             certificate_sha256 = [\"{pin}\", \"{}\"]\n",
            "cd".repeat(32)
        );
        let services: Services = text.parse().unwrap();
        let name = |identity| services.by_identity.get(&identity).map(|s| s.caller.service());
        assert_eq!(name(Identity::Uid(7)), Some("a"));
        assert_eq!(name(Identity::Uid(8)), None);
        assert_eq!(name(Identity::Certificate([0xab; 32])), Some("b"));
        assert_eq!(name(Identity::Certificate([0xcd; 32])), Some("b"));
    }

    /// Guards against a service that gets rights by an oversight in the file.
    #[test]
    fn whatever_is_not_clear_is_refused() {
        let other = ONE.replace("\"a\"", "\"b\"");
        for (text, words) in [
            (format!("{ONE}{other}"), "both service"),
            (format!("{ONE}{}", ONE.replace('7', "8")), "two services"),
            (ONE.replace("uid = 7", ""), "no identity"),
            (ONE.replace("uid", "uit"), "unknown field"),
            (ONE.replace("store", "boss"), "unknown variant"),
            (ONE.replace("\"acme\"", ""), "no tenant"),
            (ONE.replace("\"acme\"", "\"*\", \"acme\""), "not a tenant id"),
            (ONE.replace("\"a\"", "\"a b\""), "not a service's name"),
            (ONE.replace("uid = 7", "certificate_sha256 = \"abc\""), "SHA-256"),
            (ONE.replace("uid = 7", &format!("certificate_sha256 = \"{}\"", "zz".repeat(32))), "SHA-256"),
            (ONE.replace("uid = 7", "certificate_name = \"a\""), "nobody vouches"),
            (format!("client_ca = \"/none\"\n{ONE}"), "`/none` cannot be read"),
            (format!("{ONE}classical_tls = true\n"), "no TLS to make exceptions for"),
        ] {
            let error = text.parse::<Services>().err().expect(words);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
