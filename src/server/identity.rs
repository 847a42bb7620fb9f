//! Who is calling: a user id on a Unix socket, a certificate's SHA-256 over TLS, each of at most one service.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::id::shown;
use crate::keys::kms::{Caller, Role, Scope};
use crate::limits;

/// What the connection says of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The user id of a process on this machine, from the kernel.
    Uid(u32),
    /// SHA-256 of a client certificate (DER), whose key was proved in the handshake.
    Certificate([u8; 32]),
}

/// The services that may call, by identity.
pub struct Services {
    by_identity: HashMap<Identity, Arc<Service>>,
}

/// A service, and how much of this server it uses.
pub(super) struct Service {
    pub(super) caller: Caller,
    pub(super) requests: Arc<Semaphore>,
    pub(super) connections: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
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
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Services {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for unknown keys, names that are no tenants, two services with
    /// the same name or identity, and a file that everybody may write.
    pub fn load(path: &Path) -> Result<Self> {
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
        if metadata.len() > limits::SERVICE_FILE_BYTES {
            return Err(about(Error::invalid("the file is too long")));
        }
        let text = fs::read_to_string(path).map_err(|e| about(e.into()))?;
        text.parse().map_err(about)
    }

    pub(super) fn find(&self, identity: &Identity) -> Option<Arc<Service>> {
        self.by_identity.get(identity).cloned()
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        let caller = Caller::new(entry.name.clone(), entry.role, scope(&entry.tenants)?);
        let service = Arc::new(Service {
            caller,
            requests: Arc::new(Semaphore::new(limits::RPC_REQUESTS_PER_SERVICE)),
            connections: Arc::new(Semaphore::new(limits::RPC_CONNECTIONS_PER_SERVICE)),
        });
        let pins = match entry.certificate_sha256 {
            Some(OneOrMore::One(pin)) => vec![pin],
            Some(OneOrMore::More(pins)) => pins,
            None => Vec::new(),
        };
        let mut identities: Vec<Identity> = entry.uid.map(Identity::Uid).into_iter().collect();
        for pin in &pins {
            identities.push(Identity::Certificate(parse_sha256(pin)?));
        }
        if identities.is_empty() {
            return Err(Error::invalid(format!("service `{}` has no identity", entry.name))
                .with_remedy("give it a `uid` or a `certificate_sha256`"));
        }
        for identity in identities {
            if let Some(other) = self.by_identity.insert(identity, service.clone()) {
                let other = other.caller.service();
                return Err(Error::invalid(format!("{identity} is both service `{other}` and `{}`", entry.name))
                    .with_remedy("let each service have its own user id or certificate"));
            }
        }
        Ok(())
    }
}

impl FromStr for Services {
    type Err = Error;

    /// From TOML.
    fn from_str(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)
            .map_err(|e| Error::invalid(format!("they are not as they should be: {}", e.message())).with_source(e))?;
        if file.service.len() > limits::SERVICES {
            return Err(Error::invalid(format!("there are more than {} services", limits::SERVICES)));
        }
        let mut services = Self { by_identity: HashMap::new() };
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
            services.add(entry)?;
        }
        Ok(services)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Uid(uid) => write!(f, "user id {uid}"),
            Identity::Certificate(digest) => {
                f.write_str("certificate ")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn scope(tenants: &[String]) -> Result<Scope> {
    match tenants {
        [] => Err(Error::invalid("a service works for no tenant").with_remedy("list tenants, or `*` alone for all")),
        [all] if all == "*" => Ok(Scope::All),
        some => Ok(Scope::Tenants(some.iter().map(|tenant| tenant.parse()).collect::<Result<_>>()?)),
    }
}

/// 32 bytes from 64 hexadecimal digits, with or without colons between them.
pub(crate) fn parse_sha256(text: &str) -> Result<[u8; 32]> {
    let bad = || {
        Error::invalid(format!("`{}` is not a certificate's SHA-256", shown(text)))
            .with_remedy("`openssl x509 -noout -fingerprint -sha256 -in FILE` prints it")
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return Err(bad());
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = pair.iter().try_fold(0, |n, digit| Some(n * 16 + char::from(*digit).to_digit(16)?));
        *byte = pair.and_then(|n| u8::try_from(n).ok()).ok_or_else(bad)?;
    }
    Ok(digest)
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
        let name = |identity| services.find(&identity).map(|s| s.caller.service().to_owned());
        assert_eq!(name(Identity::Uid(7)).as_deref(), Some("a"));
        assert_eq!(name(Identity::Uid(8)), None);
        assert_eq!(name(Identity::Certificate([0xab; 32])).as_deref(), Some("b"));
        assert_eq!(name(Identity::Certificate([0xcd; 32])).as_deref(), Some("b"));
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
        ] {
            let error = text.parse::<Services>().err().expect(words);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
