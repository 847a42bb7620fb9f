//! Why an envelope is not opened: told to the audit log, and to nobody else.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// Why an envelope was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The bytes are no envelope, or not in their one encoding.
    Malformed,
    /// It is for another tenant.
    Recipient,
    /// The session that it is for is not open, or not here.
    Session,
    /// It comes from a tenant that the receiver does not deal with.
    Tenant,
    /// Nobody believes who signed it.
    Signer,
    /// Its algorithms, or its signer, are not of the session's profile.
    Profile,
    /// The signature does not verify.
    Signature,
    /// Its sender is not the one that signed it, or not the one that the session belongs to.
    Sender,
    /// It has expired, lives too long, or comes from the future.
    Time,
    /// Its number was received before, or is too old to tell.
    Replay,
    /// The session's key serves another ciphertext of the KEM.
    Ciphertext,
    /// It does not open with the session's key.
    Open,
    /// It holds something else than was expected, or answers something else than was asked.
    Content,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 13] = [
        Refusal::Malformed,
        Refusal::Recipient,
        Refusal::Session,
        Refusal::Tenant,
        Refusal::Signer,
        Refusal::Profile,
        Refusal::Signature,
        Refusal::Sender,
        Refusal::Time,
        Refusal::Replay,
        Refusal::Ciphertext,
        Refusal::Open,
        Refusal::Content,
    ];

    /// The name in metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::Recipient => "recipient",
            Refusal::Session => "session",
            Refusal::Tenant => "tenant",
            Refusal::Signer => "signer",
            Refusal::Profile => "profile",
            Refusal::Signature => "signature",
            Refusal::Sender => "sender",
            Refusal::Time => "time",
            Refusal::Replay => "replay",
            Refusal::Ciphertext => "ciphertext",
            Refusal::Open => "open",
            Refusal::Content => "content",
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
        Error::new(ErrorKind::Denied, "the envelope is refused")
            .with_remedy("have it sent anew, in a new session; the receiver's audit log says why it was refused")
    }
}

/// What keeps an envelope closed.
pub(super) enum Failure {
    /// It is not to be relied on.
    Refused(Refusal),
    /// That cannot be found out now.
    Away(Error),
}

impl Failure {
    /// What an answer of the key service means, where its own refusal is this one of ours.
    pub(super) fn of(error: Error, refusal: Refusal) -> Self {
        match error.kind() {
            ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::InvalidInput => {
                Failure::Refused(refusal)
            }
            _ => Failure::Away(error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Away(e) => Error::new(ErrorKind::Unavailable, "the envelope cannot be opened now")
                .with_remedy("receive the same envelope again")
                .with_source(e),
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
            let error = Error::from(Failure::from(refusal));
            let source = std::error::Error::source(&error).is_some();
            (error.kind(), error.to_string(), error.remedy().map(str::to_owned), source)
        };
        assert!(Refusal::ALL.into_iter().all(|refusal| shown(refusal) == shown(Refusal::Malformed)));
        for refusal in Refusal::ALL {
            assert_eq!(serde_json::to_value(refusal).unwrap(), refusal.as_str());
        }
    }
}
