//! Who a certificate is about: how tenants, agents and sessions are written into it.

use x509_cert::der::asn1::Ia5String;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::malformed;
use super::oid::encoding;
use crate::error::Result;
use crate::id::{AgentId, SessionId, TenantId};

/// The scheme of the names. There is no `//`: RFC 5280, section 4.2.1.6 wants a domain name after it.
const SCHEME: &str = "strongroom:";

/// Whom a certificate names: nobody (an authority), a tenant, or a session of one of its agents.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Who {
    Tenant(TenantId),
    Session(TenantId, AgentId, SessionId),
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

    proptest! {
        #[test]
        fn names_round_trip(tenant in "[a-z0-9][a-z0-9._-]{0,63}", agent in "[a-z0-9][a-z0-9._-]{0,63}", id: [u8; 16]) {
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
