//! The one public error type: what happened, in words, and a kind that says what the caller can do.

use std::fmt;

/// What the caller can do about an error. The discriminant is the process exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A defect or an unexpected failure below us: report it.
    Internal = 1,
    /// The request itself is wrong: fix it and send it again.
    InvalidInput = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// It exists already, or changed in the meantime.
    Conflict = 4,
    /// Wrong or missing passphrase, or a caller without the right.
    Denied = 5,
    /// Somebody else holds it: retry later.
    Busy = 6,
    /// Stored bytes are not what was written: stop and call the operator.
    Integrity = 7,
    /// No room left: free space, then retry; nothing acknowledged was lost.
    StorageFull = 8,
    /// Something needed is away (engine, network, disk): retry later.
    Unavailable = 9,
    /// Part of the work was done and part was skipped, as asked for.
    Partial = 10,
}

impl ErrorKind {
    /// Every kind, in the order of its exit code.
    pub const ALL: [ErrorKind; 10] = [
        ErrorKind::Internal,
        ErrorKind::InvalidInput,
        ErrorKind::NotFound,
        ErrorKind::Conflict,
        ErrorKind::Denied,
        ErrorKind::Busy,
        ErrorKind::Integrity,
        ErrorKind::StorageFull,
        ErrorKind::Unavailable,
        ErrorKind::Partial,
    ];

    /// The process exit code, 1 to 10. Success is 0.
    pub fn exit_code(self) -> u8 {
        self as u8
    }

    /// The name used in `--json` output.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Internal => "internal",
            ErrorKind::InvalidInput => "invalid_input",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Denied => "denied",
            ErrorKind::Busy => "busy",
            ErrorKind::Integrity => "integrity",
            ErrorKind::StorageFull => "storage_full",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Partial => "partial",
        }
    }
}

/// An error: its [`ErrorKind`], one sentence, a remedy where there is one, and its source.
///
/// The message never holds a secret or a tenant's plaintext.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// The blinded id of the stored record that it is about: for the audit log.
    record: Option<[u8; 16]>,
}

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`: lower case, no full stop, user input in backticks.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None, source: None, record: None }
    }

    /// The same error with what to do next, shown by the command line as `help:`.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same error with the failure below it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error about the stored record with this blinded id.
    #[must_use]
    pub(crate) fn about(mut self, record: &[u8; 16]) -> Self {
        self.record = Some(*record);
        self
    }

    /// The blinded id of the stored record that it is about, if it is about one.
    pub(crate) fn record(&self) -> Option<&[u8; 16]> {
        self.record.as_ref()
    }

    /// [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// [`ErrorKind::Integrity`]: `what` is the thing that cannot be trusted, without its content.
    pub fn integrity(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Integrity, format!("{what} does not match what was stored"))
            .with_remedy("run `strongroom verify`; if it reports damage, restore from a backup")
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do next, where there is something to say.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| &**e as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, message, remedy) = match e.kind() {
            Io::StorageFull | Io::QuotaExceeded => {
                (ErrorKind::StorageFull, "the disk is full", Some("free some space and run the command again"))
            }
            Io::NotFound => (ErrorKind::NotFound, "no such file or directory", None),
            Io::PermissionDenied | Io::ReadOnlyFilesystem => (
                ErrorKind::Unavailable,
                "the file system refuses access",
                Some("check owner, permissions and mount options of the directory"),
            ),
            _ => (ErrorKind::Unavailable, "input or output failed", None),
        };
        let error = Self::new(kind, message).with_source(e);
        match remedy {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_documented_in_order() {
        let codes: Vec<u8> = ErrorKind::ALL.iter().map(|k| k.exit_code()).collect();
        assert_eq!(codes, (1..=10).collect::<Vec<u8>>());
    }
}
