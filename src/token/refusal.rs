//! Why a token is refused: told to the audit log, and to nobody else.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// Why a token, or what came with it, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The bytes are no token, or not in their one encoding.
    Malformed,
    /// Nobody believes who signed it.
    Issuer,
    /// The signature does not verify.
    Signature,
    /// It is not valid yet.
    NotYet,
    /// It has expired.
    Expired,
    /// It is valid for too long, or its times contradict each other.
    Lifetime,
    /// It is for another sidecar.
    Audience,
    /// It is for another tenant.
    Tenant,
    /// It is for another holder.
    Holder,
    /// There is no such contact, or it has ended.
    Contact,
    /// The holder's proof does not verify.
    Proof,
    /// The holder's proof was used before.
    Replay,
    /// A record that the token does not name, or that is not the one it names.
    Record,
    /// It was revoked: itself, its holder, or its tenant.
    Revoked,
    /// It was issued before this machine was last started, so that its uses may have been forgotten.
    Reboot,
    /// It has no use left.
    UsedUp,
    /// A record did not open.
    Open,
    /// The keys of the record's epoch are gone, or out of reach.
    Key,
    /// Nothing is opened for the tenant until an operator releases it.
    Paused,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 19] = [
        Refusal::Malformed,
        Refusal::Issuer,
        Refusal::Signature,
        Refusal::NotYet,
        Refusal::Expired,
        Refusal::Lifetime,
        Refusal::Audience,
        Refusal::Tenant,
        Refusal::Holder,
        Refusal::Contact,
        Refusal::Proof,
        Refusal::Replay,
        Refusal::Record,
        Refusal::Revoked,
        Refusal::Reboot,
        Refusal::UsedUp,
        Refusal::Open,
        Refusal::Key,
        Refusal::Paused,
    ];

    /// The name in metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::Issuer => "issuer",
            Refusal::Signature => "signature",
            Refusal::NotYet => "not-yet",
            Refusal::Expired => "expired",
            Refusal::Lifetime => "lifetime",
            Refusal::Audience => "audience",
            Refusal::Tenant => "tenant",
            Refusal::Holder => "holder",
            Refusal::Contact => "contact",
            Refusal::Proof => "proof",
            Refusal::Replay => "replay",
            Refusal::Record => "record",
            Refusal::Revoked => "revoked",
            Refusal::Reboot => "reboot",
            Refusal::UsedUp => "used-up",
            Refusal::Open => "open",
            Refusal::Key => "key",
            Refusal::Paused => "paused",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Refusal> for Error {
    /// The same for all.
    fn from(_: Refusal) -> Self {
        Error::new(ErrorKind::Denied, "the token is refused").with_remedy(
            "ask its issuer for another, and make contact again; the sidecar's audit log says why it was refused",
        )
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Stop {
    /// The caller is refused.
    Refused(Refusal),
    /// Something needed failed: nobody's fault who asks.
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(refusal) => refusal.into(),
            Stop::Failed(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against an answer that tells an attacker how far it got.
    #[test]
    fn all_refusals_look_alike_outside() {
        let shown = |refusal: Refusal| {
            let error = Error::from(refusal);
            (error.kind(), error.to_string(), error.remedy().map(str::to_owned))
        };
        assert!(Refusal::ALL.into_iter().all(|refusal| shown(refusal) == shown(Refusal::Malformed)));
        for refusal in Refusal::ALL {
            assert_eq!(serde_json::to_value(refusal).unwrap(), refusal.as_str());
        }
    }
}
