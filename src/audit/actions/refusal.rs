//! Why an action record is not taken in.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// Why an action record was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The bytes are no record, or not in their one encoding.
    Malformed,
    /// Nobody believes who signed it.
    Signer,
    /// It is another tenant's.
    Tenant,
    /// It names another agent than its signer.
    Agent,
    /// It names another session than its signer's.
    Session,
    /// The signature does not verify.
    Signature,
    /// Its time is too far from the time here.
    Time,
    /// Another record of this id was taken in before.
    Conflict,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 8] = [
        Refusal::Malformed,
        Refusal::Signer,
        Refusal::Tenant,
        Refusal::Agent,
        Refusal::Session,
        Refusal::Signature,
        Refusal::Time,
        Refusal::Conflict,
    ];

    /// The name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::Signer => "signer",
            Refusal::Tenant => "tenant",
            Refusal::Agent => "agent",
            Refusal::Session => "session",
            Refusal::Signature => "signature",
            Refusal::Time => "time",
            Refusal::Conflict => "conflict",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Refusal> for Error {
    /// Agents sign for themselves and are told what is wrong: there is nothing to learn from it.
    fn from(refusal: Refusal) -> Self {
        let remedy = match refusal {
            Refusal::Malformed => "make it as `schema/audit-action.md` says",
            Refusal::Signer => "have the key certified for `actions`, in a session that is open",
            Refusal::Tenant | Refusal::Agent | Refusal::Session => "sign it with the agent's own key of this tenant",
            Refusal::Signature => "sign the record as it is sent",
            Refusal::Time => "set the clock right, and hand actions over within minutes",
            Refusal::Conflict => "give every action an id of its own",
        };
        Error::new(ErrorKind::Denied, format!("the action record is refused: {refusal}")).with_remedy(remedy)
    }
}
