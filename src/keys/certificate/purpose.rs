//! What a signer's key is for. A signature for one use is worth nothing for another.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};

/// What a signer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignerUse {
    /// Capability tokens.
    Tokens,
    /// Handoff envelopes.
    Envelopes,
    /// Records of an agent's actions.
    Actions,
}

impl SignerUse {
    /// Every use.
    pub const ALL: [SignerUse; 3] = [SignerUse::Tokens, SignerUse::Envelopes, SignerUse::Actions];

    /// The name in certificates and output.
    pub fn as_str(self) -> &'static str {
        match self {
            SignerUse::Tokens => "tokens",
            SignerUse::Envelopes => "envelopes",
            SignerUse::Actions => "actions",
        }
    }
}

impl fmt::Display for SignerUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SignerUse {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = SignerUse::ALL.into_iter().find(|purpose| purpose.as_str() == name);
        found.ok_or_else(|| {
            Error::invalid("this is not a use of a signer").with_remedy("use tokens, envelopes or actions")
        })
    }
}
