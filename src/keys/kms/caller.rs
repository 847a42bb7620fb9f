//! Who calls, what they may do, and the proof that they were asked.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;

/// An identified service: what the listener or the embedding program knows of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    service: String,
    role: Role,
    scope: Scope,
}

/// What a service is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Makes and destroys tenants, epochs and sessions.
    Admin,
    /// A store node: derives data keys, rotates epochs, signs tokens.
    Store,
    /// A decrypt sidecar: derives data keys, decapsulates.
    Sidecar,
    /// An agent's interceptor: opens sessions, encapsulates, decapsulates, signs.
    Agent,
    /// Reads public keys and certificates.
    Reader,
    /// An inference node: has tokens redeemed by a sidecar. To the key service it is a reader.
    Node,
}

/// Which tenants a service works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// These.
    Tenants(BTreeSet<TenantId>),
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Fingerprints, states, public keys, certificates.
    Describe,
    /// Make a tenant, destroy it.
    Administer,
    /// Make epochs, move and destroy them.
    Rotate,
    /// Open and revoke sessions.
    Session,
    /// Encapsulate to a session key.
    Encapsulate,
    /// Decapsulate with a session key.
    Decapsulate,
    /// Sign with the tenant's key.
    Sign,
    /// Verify the tenant's signatures.
    Verify,
    /// Derive data keys.
    DeriveDek,
    /// Have a key certified that signs capability tokens.
    CertifyTokens,
}

/// The proof that a caller may do one operation for one tenant. Only [`Caller::permit`] makes one.
#[derive(Debug)]
pub struct Permit {
    tenant: TenantId,
    operation: Operation,
}

impl Permit {
    /// For whom.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What.
    pub fn operation(&self) -> Operation {
        self.operation
    }
}

impl Caller {
    /// The service called `service`.
    pub fn new(service: impl Into<String>, role: Role, scope: Scope) -> Self {
        Self { service: service.into(), role, scope }
    }

    /// Its name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The proof that the caller may do `operation` for `tenant`.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorKind::Denied), with the same words whether the tenant exists or not.
    pub fn permit(&self, operation: Operation, tenant: &TenantId) -> Result<Permit> {
        // Every store blinds its tenants' names with a key of the platform's own entry, whichever they are.
        let blinds = tenant.is_system() && self.role == Role::Store;
        let blinds = blinds && matches!(operation, Operation::Describe | Operation::DeriveDek);
        if !self.scope.covers(tenant) && !blinds {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("service `{}` does not work for this tenant", self.service),
            )
            .with_remedy("add the tenant to the service's scope in the configuration, if it should"));
        }
        if !self.role.may(operation) {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("service `{}` is a {} and may not {operation}", self.service, self.role),
            )
            .with_remedy("use a service with another role"));
        }
        Ok(Permit { tenant: tenant.clone(), operation })
    }

    /// Whether every tenant is within the caller's scope.
    pub fn works_for_all(&self) -> bool {
        self.scope == Scope::All
    }

    /// Whether `tenant` is within the caller's scope.
    pub fn works_for(&self, tenant: &TenantId) -> bool {
        self.scope.covers(tenant)
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 6] = [Role::Admin, Role::Store, Role::Sidecar, Role::Agent, Role::Reader, Role::Node];

    /// The table of `src/manual/kms.md`.
    pub fn may(self, operation: Operation) -> bool {
        use Operation::{
            Administer, CertifyTokens, Decapsulate, DeriveDek, Describe, Encapsulate, Rotate, Session, Sign, Verify,
        };
        match operation {
            Describe | Verify => true,
            Administer => self == Role::Admin,
            // Only who has the records can tell when an epoch is not needed any more.
            Rotate => matches!(self, Role::Admin | Role::Store),
            Session => matches!(self, Role::Admin | Role::Agent),
            Encapsulate => matches!(self, Role::Store | Role::Sidecar | Role::Agent),
            Decapsulate => matches!(self, Role::Sidecar | Role::Agent),
            Sign => matches!(self, Role::Store | Role::Agent),
            DeriveDek => matches!(self, Role::Store | Role::Sidecar),
            CertifyTokens => self == Role::Store,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Store => "store",
            Role::Sidecar => "sidecar",
            Role::Agent => "agent",
            Role::Reader => "reader",
            Role::Node => "node",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Role::ALL.into_iter().find(|role| role.as_str() == name).ok_or_else(|| {
            Error::invalid(format!("`{}` is not a role", crate::id::shown(name)))
                .with_remedy("use admin, store, sidecar, agent, reader or node")
        })
    }
}

impl Scope {
    fn covers(&self, tenant: &TenantId) -> bool {
        match self {
            Scope::All => true,
            Scope::Tenants(tenants) => tenants.contains(tenant),
        }
    }
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 10] = [
        Operation::Describe,
        Operation::Administer,
        Operation::Rotate,
        Operation::Session,
        Operation::Encapsulate,
        Operation::Decapsulate,
        Operation::Sign,
        Operation::Verify,
        Operation::DeriveDek,
        Operation::CertifyTokens,
    ];

    /// The name in output, metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Describe => "describe",
            Operation::Administer => "administer",
            Operation::Rotate => "rotate epochs",
            Operation::Session => "manage sessions",
            Operation::Encapsulate => "encapsulate",
            Operation::Decapsulate => "decapsulate",
            Operation::Sign => "sign",
            Operation::Verify => "verify",
            Operation::DeriveDek => "derive data keys",
            Operation::CertifyTokens => "certify keys for tokens",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a role that may do what the manual does not say.
    #[test]
    fn the_manuals_table_is_the_codes() {
        let manual = include_str!("../../manual/kms.md");
        let row = |first: &str| {
            let line = manual.lines().find(|line| line.starts_with(&format!("| {first}|"))).unwrap();
            line.split('|').skip(2).take(Role::ALL.len()).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(row(""), Role::ALL.map(|role| role.to_string()));
        for operation in Operation::ALL {
            let said = row(&format!("{operation} "));
            for (role, cell) in Role::ALL.into_iter().zip(said) {
                assert_eq!(cell == "yes", role.may(operation), "{role} {operation}");
            }
        }
    }

    #[test]
    fn a_permit_needs_role_and_scope() {
        let (acme, initech): (TenantId, TenantId) = ("acme".parse().unwrap(), "initech".parse().unwrap());
        let caller = Caller::new("s", Role::Store, Scope::Tenants([acme.clone()].into()));
        let permit = caller.permit(Operation::Sign, &acme).unwrap();
        assert!(permit.tenant() == &acme && permit.operation() == Operation::Sign);
        for (operation, tenant) in [(Operation::Sign, &initech), (Operation::Administer, &acme)] {
            assert_eq!(caller.permit(operation, tenant).err().unwrap().kind(), ErrorKind::Denied);
        }
    }
}
