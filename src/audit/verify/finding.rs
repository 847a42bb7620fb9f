//! What a verifier can find.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// What was done to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attack {
    /// An entry is not what was logged.
    ChangedEntry,
    /// An entry is missing.
    DroppedEntry,
    /// An entry is there that was not logged at that place.
    InsertedEntry,
    /// Entries are there, in another order.
    Reordered,
    /// The end is missing.
    Truncated,
    /// Two signed checkpoints cannot be of one log.
    Forked,
    /// Entries and tree fit together, and are not what the checkpoint signs.
    Rewritten,
    /// A hash of the tree is not what was logged.
    ChangedTree,
    /// Nothing shows that the holder of the log's key signed the checkpoint.
    WrongKey,
    /// An entry of somebody else is in a tenant's view.
    ForeignEntry,
    /// A file is not of the form that it must have.
    Malformed,
}

impl Attack {
    /// Every one.
    pub const ALL: [Attack; 11] = [
        Attack::ChangedEntry,
        Attack::DroppedEntry,
        Attack::InsertedEntry,
        Attack::Reordered,
        Attack::Truncated,
        Attack::Forked,
        Attack::Rewritten,
        Attack::ChangedTree,
        Attack::WrongKey,
        Attack::ForeignEntry,
        Attack::Malformed,
    ];

    /// The name in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Attack::ChangedEntry => "changed-entry",
            Attack::DroppedEntry => "dropped-entry",
            Attack::InsertedEntry => "inserted-entry",
            Attack::Reordered => "reordered",
            Attack::Truncated => "truncated",
            Attack::Forked => "forked",
            Attack::Rewritten => "rewritten",
            Attack::ChangedTree => "changed-tree",
            Attack::WrongKey => "wrong-key",
            Attack::ForeignEntry => "foreign-entry",
            Attack::Malformed => "malformed",
        }
    }
}

/// Why a log is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was done to it.
    pub attack: Attack,
    /// Where and how, in words.
    pub message: String,
}

impl Finding {
    pub(super) fn new(attack: Attack, message: impl Into<String>) -> Self {
        Self { attack, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.attack.as_str(), self.message)
    }
}

impl std::error::Error for Finding {}

/// Why a log could not be shown to be sound.
#[derive(Debug)]
pub enum Failure {
    /// It is not.
    Found(Finding),
    /// It could not be read.
    Unread(Error),
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Unread(e)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Found(finding) => finding.into(),
            Failure::Unread(e) => e,
        }
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        let remedy = match finding.attack {
            Attack::Malformed => "export the log again; if the file is the same again, it was tampered with",
            Attack::WrongKey => "check that the key is the one that the log's operator published",
            Attack::ForeignEntry => "do not believe this view, and ask the operator for a right one",
            _ => "keep this export and the checkpoint as evidence, and compare with an earlier export or a witness",
        };
        Error::new(ErrorKind::Integrity, finding.to_string()).with_remedy(remedy)
    }
}
