//! Why an envelope was not opened: the audit log is told, the outside is not.

use crate::audit::Reason;
use crate::error::{Error, ErrorKind};

/// What keeps an envelope closed.
pub(super) enum Failure {
    /// It is not to be relied on.
    Refused(Reason),
    /// That cannot be found out now.
    Away(Error),
}

impl Failure {
    /// What an answer of the key service means, where a refusal of it has this `reason`.
    pub(super) fn of(error: Error, reason: Reason) -> Self {
        match error.kind() {
            ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::InvalidInput => {
                Failure::Refused(reason)
            }
            _ => Failure::Away(error),
        }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Failure::Refused(reason)
    }
}

impl From<Failure> for Error {
    /// The same words for every refusal.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(_) => Error::new(ErrorKind::Denied, "the envelope is refused")
                .with_remedy("have it sent anew, in a new session; the receiver's audit log says why"),
            Failure::Away(e) => Error::new(ErrorKind::Unavailable, "the envelope cannot be opened now")
                .with_remedy("receive the same envelope again")
                .with_source(e),
        }
    }
}
