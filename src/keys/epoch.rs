//! An epoch of a tenant's keys: its states (NIST SP 800-57 part 1, section 7) and what is stored of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::crypto::{Provider, SuiteId};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Epoch;

/// The state of an epoch. `src/manual/lifecycle.md` draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpochState {
    /// Made, not used yet.
    PreActive,
    /// Seals and opens. Exactly one epoch of a tenant is active.
    Active,
    /// Opens only.
    Deactivated,
    /// Opens only, and its records are to be sealed anew at once.
    Compromised,
    /// Its encapsulated secret is gone: nothing opens any more.
    Destroyed,
}

impl EpochState {
    /// Whether records of an epoch in this state may be opened.
    pub fn can_open(self) -> bool {
        matches!(self, Self::Active | Self::Deactivated | Self::Compromised)
    }

    /// The state after moving to `next`, or a [`Conflict`](ErrorKind::Conflict) when there is no such arrow.
    pub fn to(self, next: EpochState) -> Result<EpochState> {
        use EpochState::{Active, Compromised, Deactivated, Destroyed, PreActive};
        match (self, next) {
            (PreActive, Active | Destroyed)
            | (Active, Deactivated | Compromised)
            | (Deactivated, Compromised | Destroyed)
            | (Compromised, Destroyed) => Ok(next),
            _ => Err(Error::new(ErrorKind::Conflict, format!("an epoch that is {self} cannot become {next}"))
                .with_remedy("`strongroom epoch list` shows the states of a tenant's epochs")),
        }
    }
}

impl fmt::Display for EpochState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        })
    }
}

/// A name for key material that reveals nothing of it: the first 8 bytes of a SHA-256, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of public bytes: a public key or a KEM ciphertext.
    pub fn of(provider: &dyn Provider, bytes: &[u8]) -> Self {
        let digest = provider.sha256(&[bytes]);
        Self(digest.iter().take(8).map(|b| format!("{b:02x}")).collect())
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = Error;

    /// From 16 hexadecimal digits, in lower case.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid("a fingerprint has 16 hexadecimal digits"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What may be shown of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The number.
    pub epoch: Epoch,
    /// The state.
    pub state: EpochState,
    /// The suite that seals in it.
    pub suite: String,
    /// When it was made: Unix time in milliseconds.
    pub created_at_ms: u64,
    /// When it got its state: Unix time in milliseconds.
    pub since_ms: u64,
    /// The fingerprint of its encapsulated secret.
    pub fingerprint: Fingerprint,
    /// The fingerprint of the root key that its secret is encapsulated to.
    pub root_fingerprint: Fingerprint,
}

impl EpochRecord {
    /// The suite, parsed.
    pub fn suite(&self) -> Result<SuiteId> {
        SuiteId::ALL
            .into_iter()
            .find(|s| s.as_str() == self.suite)
            .ok_or_else(|| Error::integrity("the suite of an epoch"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drawn_arrows_exist() {
        use EpochState::{Active, Compromised, Deactivated, Destroyed, PreActive};
        let all = [PreActive, Active, Deactivated, Compromised, Destroyed];
        let arrows = [
            (PreActive, Active),
            (PreActive, Destroyed),
            (Active, Deactivated),
            (Active, Compromised),
            (Deactivated, Compromised),
            (Deactivated, Destroyed),
            (Compromised, Destroyed),
        ];
        for from in all {
            for to in all {
                assert_eq!(from.to(to).is_ok(), arrows.contains(&(from, to)), "{from} → {to}");
            }
        }
    }
}
