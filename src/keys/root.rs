//! A tenant's root keys: their states, and what may be shown of them. A tenant has one that is active, and earlier ones
//! for as long as epochs are left whose secrets only they give back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Fingerprint;
use crate::id::Epoch;

/// The state of a root key. `src/manual/lifecycle.md` draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKeyState {
    /// Written down, so that it can be found: it may or may not have been made.
    PreActive,
    /// New epochs are encapsulated to it. Exactly one root key of a tenant is active.
    Active,
    /// Opens the epochs that were encapsulated to it, and gets no others.
    Deactivated,
    /// Its private half is gone.
    Destroyed,
}

impl fmt::Display for RootKeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Destroyed => "destroyed",
        })
    }
}

/// What may be shown of a root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyRecord {
    /// The fingerprint of its public half (ML-KEM-1024).
    pub fingerprint: Fingerprint,
    /// The state.
    pub state: RootKeyState,
    /// When it was made: Unix time in milliseconds.
    pub created_at_ms: u64,
    /// When it got its state: Unix time in milliseconds.
    pub since_ms: u64,
    /// The epochs that are not destroyed and open with it, oldest first.
    pub epochs: Vec<Epoch>,
}
