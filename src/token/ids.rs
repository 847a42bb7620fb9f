//! The names in a token: of the sidecar that may redeem it, of who may have it redeemed, of records, and its own.

use std::fmt;
use std::str::FromStr;

use crate::entropy;
use crate::error::{Error, Result};
use crate::id::shown;
use crate::limits;

/// The name of a sidecar: 1 to 64 of `a-z 0-9 - _ .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Audience(String);

impl Audience {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Audience {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > limits::AUDIENCE_BYTES || !name.chars().all(plain) {
            return Err(Error::invalid(format!("`{}` is not the name of a sidecar", shown(name)))
                .with_remedy("use 1 to 64 of a-z, 0-9, `-`, `_` and `.`"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Declares a name of fixed length that is shown in hexadecimal.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Error;

            fn try_from(bytes: &[u8]) -> Result<Self> {
                let bytes = bytes.try_into();
                bytes.map(Self).map_err(|_| Error::invalid(format!(concat!($what, " has {} bytes"), $len)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let bad = || {
                    Error::invalid(format!(concat!("`{}` is not ", $what), shown(text)))
                        .with_remedy(format!("it has {} hexadecimal digits", $len * 2))
                };
                let mut bytes = [0; $len];
                let (pairs, rest) = text.as_bytes().as_chunks::<2>();
                if pairs.len() != $len || !rest.is_empty() {
                    return Err(bad());
                }
                for (byte, pair) in bytes.iter_mut().zip(pairs) {
                    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                    let [high, low] = pair.map(digit);
                    *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(bad)?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

hex_id! {
    /// Who may have a token redeemed: the COSE Key Thumbprint (RFC 9679) of a public key.
    HolderId, 32, "a holder's thumbprint"
}

hex_id! {
    /// What a token says of a record: SHA-256, see `schema/token.md`.
    Digest, 32, "a record's digest"
}

hex_id! {
    /// A token's own name: `cti` (RFC 8392, section 3.1.7).
    TokenId, 16, "a token's id"
}

impl TokenId {
    /// A new one.
    pub(super) fn random() -> Result<Self> {
        let mut id = [0; 16];
        entropy::fill(&mut id)?;
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn thumbprints_round_trip(bytes: [u8; 32]) {
            let id = HolderId::from(bytes);
            prop_assert_eq!(id.to_string().parse::<HolderId>().unwrap(), id);
            prop_assert_eq!(HolderId::try_from(&bytes[..]).unwrap(), id);
        }

        #[test]
        fn hostile_names_never_panic(text in "\\PC{0,80}") {
            if let Ok(id) = text.parse::<TokenId>() {
                prop_assert_eq!(id.to_string(), text.to_lowercase());
            }
            let _ = text.parse::<Audience>();
        }
    }

    #[test]
    fn a_sidecars_name_is_plain() {
        for name in ["", "A", "a b", "é", &"a".repeat(65)] {
            assert!(name.parse::<Audience>().is_err(), "{name}");
        }
        assert_eq!("node-1.eu_west".parse::<Audience>().unwrap().as_str(), "node-1.eu_west");
    }
}
