//! Who a certificate is about: agents, sessions, and how they and tenants are written into it.

use std::fmt;
use std::str::FromStr;

use x509_cert::der::asn1::Ia5String;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::malformed;
use super::oid::encoding;
use crate::error::{Error, Result};
use crate::id::{TenantId, shown};
use crate::limits;
use crate::secret::Secret;

/// The scheme of the names. There is no `//`: RFC 5280, section 4.2.1.6 wants a domain name after it.
const SCHEME: &str = "strongroom:";

/// An agent of a tenant: 1 to 64 of `a-z A-Z 0-9 - _ .`, starting with a letter or digit.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(String);

impl AgentName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let ok = s.len() <= limits::AGENT_NAME_BYTES
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && s.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if ok {
            return Ok(Self(s.to_owned()));
        }
        Err(Error::invalid(format!("`{}` is not an agent name", shown(s))).with_remedy(format!(
            "use 1 to {} of a-z, A-Z, 0-9, `-`, `_` and `.`, starting with a letter or digit",
            limits::AGENT_NAME_BYTES
        )))
    }
}

impl fmt::Debug for AgentName {
    /// As with every name: shown in answers, never in logs or panics.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentName(..)")
    }
}

/// A session of an agent: 16 random bytes, written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new one, from the random source.
    pub fn random() -> Result<Self> {
        Ok(Self(*Secret::<16>::random()?.expose_secret()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for SessionId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl FromStr for SessionId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("`{}` is not a session id", shown(s)));
        if s.len() != 32 || s.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad().with_remedy("a session id is 32 lower-case hexadecimal digits"));
        }
        u128::from_str_radix(s, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| bad())
    }
}

/// Whom a certificate names: nobody (an authority), a tenant, or a session of one of its agents.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Who {
    Tenant(TenantId),
    Session(TenantId, AgentName, SessionId),
}

impl Who {
    pub(super) fn tenant(&self) -> &TenantId {
        match self {
            Who::Tenant(tenant) | Who::Session(tenant, ..) => tenant,
        }
    }

    /// The distinguished name: `CN` is the tenant id; a session adds its id as `UID`, for otherwise it would bear its
    /// issuer's name.
    pub(super) fn subject(&self) -> Result<Name> {
        // No character of an id is special in RFC 4514.
        distinguished(&match self {
            Who::Tenant(tenant) => format!("CN={}", tenant.as_str()),
            Who::Session(tenant, _, session) => format!("UID={session},CN={}", tenant.as_str()),
        })
    }

    /// `strongroom:TENANT` or `strongroom:TENANT/AGENT/SESSION`, as the only alternative name.
    pub(super) fn alternative(&self) -> Result<SubjectAltName> {
        let uri = match self {
            Who::Tenant(tenant) => format!("{SCHEME}{}", tenant.as_str()),
            Who::Session(tenant, agent, session) => format!("{SCHEME}{}/{}/{session}", tenant.as_str(), agent.as_str()),
        };
        let uri = Ia5String::new(&uri).map_err(encoding)?;
        Ok(SubjectAltName(vec![GeneralName::UniformResourceIdentifier(uri)]))
    }

    /// The inverse of [`Who::alternative`].
    pub(super) fn from_alternative(name: &SubjectAltName) -> Result<Self> {
        let bad = || malformed("subject alternative name");
        let [GeneralName::UniformResourceIdentifier(uri)] = name.0.as_slice() else { return Err(bad()) };
        let path = uri.as_str().strip_prefix(SCHEME).ok_or_else(bad)?;
        match *path.split('/').collect::<Vec<_>>().as_slice() {
            [tenant] => Ok(Self::Tenant(tenant.parse()?)),
            [tenant, agent, session] => Ok(Self::Session(tenant.parse()?, agent.parse()?, session.parse()?)),
            _ => Err(bad()),
        }
    }
}

/// The name of an authority: two platforms never bear the same.
pub(super) fn authority(fingerprint: &crate::keys::Fingerprint) -> Result<Name> {
    distinguished(&format!("CN=Strongroom authority {fingerprint}"))
}

fn distinguished(name: &str) -> Result<Name> {
    name.parse().map_err(|e: x509_cert::der::Error| encoding(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agents_and_sessions_are_checked() {
        for good in ["a", "Planner-2", "0.x_y", &"x".repeat(64)] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "a/b", "ä", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad}");
        }
        for bad in ["", "0", "+0000000000000000000000000000000", &"A".repeat(32), &"0".repeat(33)] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(tenant in "[a-z0-9][a-z0-9._-]{0,63}", agent in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}", id: [u8; 16]) {
            let session = SessionId::from(id);
            prop_assert_eq!(session.to_string().parse::<SessionId>().unwrap(), session);
            let tenant: TenantId = tenant.parse().unwrap();
            for who in [Who::Tenant(tenant.clone()), Who::Session(tenant, agent.parse().unwrap(), session)] {
                prop_assert!(Who::from_alternative(&who.alternative().unwrap()).unwrap() == who);
                prop_assert!(!who.subject().unwrap().is_empty());
            }
        }

        #[test]
        fn hostile_names_never_panic(uri in "(strongroom:)?[ -~]{0,80}") {
            let name = SubjectAltName(vec![GeneralName::UniformResourceIdentifier(Ia5String::new(&uri).unwrap())]);
            if let Ok(who) = Who::from_alternative(&name) {
                prop_assert!(who.alternative().unwrap() == name);
            }
        }
    }
}
