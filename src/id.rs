//! Identifiers: each a newtype that can only be made by parsing, so that whoever holds one holds a valid one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::limits;
use crate::secret::Secret;

/// A tenant: 1 to 64 of `a-z 0-9 - _ .`, starting with a letter or digit. It salts the tenant's keys and is part of
/// every record's associated data.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(String);

impl TenantId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The store's own entry in a keystore: a name that no tenant can have. Its keys blind the tenants' names.
    pub(crate) fn system() -> Self {
        Self("_system".to_owned())
    }

    /// Whether it is the store's own entry.
    pub(crate) fn is_system(&self) -> bool {
        *self == Self::system()
    }

    /// The entry of the authority that signs certificates with `algorithm`: a name that no tenant can have either.
    pub(crate) fn authority(algorithm: &str) -> Self {
        Self(format!("_authority-{algorithm}"))
    }

    /// The id in a keystore's own record, which may be an entry of its own.
    pub(crate) fn stored(id: &str) -> Result<Self> {
        id.strip_prefix('_').unwrap_or(id).parse::<Self>().map(|_| Self(id.to_owned()))
    }
}

impl FromStr for TenantId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if is_plain(s) {
            return Ok(Self(s.to_owned()));
        }
        Err(Error::invalid(format!("`{}` is not a tenant id", shown(s))).with_remedy(PLAIN))
    }
}

/// What [`is_plain`] wants, in words.
const PLAIN: &str = "use 1 to 64 of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit";

/// Whether `s` can stand in file names, addresses and certificates as it is.
fn is_plain(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= limits::TENANT_ID_BYTES
        && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
        && s.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// An agent of a tenant: the same letters as a tenant's id. It stands in the agent's session credentials.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(String);

impl AgentId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if is_plain(s) {
            return Ok(Self(s.to_owned()));
        }
        Err(Error::invalid(format!("`{}` is not an agent's name", shown(s))).with_remedy(PLAIN))
    }
}

/// A session of an agent: 16 random bytes, written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new one, from the random source.
    pub fn random() -> Result<Self> {
        Ok(Self(*Secret::<16>::random()?.expose_secret()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for SessionId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl FromStr for SessionId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("`{}` is not a session id", shown(s)));
        if s.len() != 32 || s.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad().with_remedy("a session id is 32 lower-case hexadecimal digits"));
        }
        u128::from_str_radix(s, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| bad())
    }
}

/// A collection of a tenant, or one of its named vectors: 1 to 255 bytes without control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if !s.is_empty() && s.len() <= limits::NAME_BYTES && !s.chars().any(char::is_control) {
            return Ok(Self(s.to_owned()));
        }
        Err(Error::invalid(format!("`{}` is not a name", shown(s)))
            .with_remedy(format!("use 1 to {} bytes without control characters", limits::NAME_BYTES)))
    }
}

/// A chunk within a collection: a number or UUID, as Qdrant has them, or any text up to 512 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordId {
    /// An unsigned number.
    Number(u64),
    /// A UUID.
    Uuid(Uuid),
    /// Any other text.
    Text(Box<str>),
}

impl RecordId {
    /// A textual id, even where it looks like a number.
    pub fn text(s: &str) -> Result<Self> {
        if s.is_empty() || s.len() > limits::RECORD_ID_BYTES {
            return Err(Error::invalid("a record id is empty or too long")
                .with_remedy(format!("use 1 to {} bytes", limits::RECORD_ID_BYTES)));
        }
        Ok(Self::Text(s.into()))
    }

    /// The canonical bytes: a kind byte, then the value; equal only for equal ids.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            RecordId::Number(n) => [&[0][..], &n.to_be_bytes()].concat(),
            RecordId::Uuid(u) => [&[1][..], u.as_bytes()].concat(),
            RecordId::Text(t) => [&[2][..], t.as_bytes()].concat(),
        }
    }

    /// The inverse of [`RecordId::to_bytes`]; anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bad = || Error::integrity("a record id");
        let (kind, rest) = bytes.split_first().ok_or_else(bad)?;
        match kind {
            0 => Ok(Self::Number(u64::from_be_bytes(rest.try_into().map_err(|_| bad())?))),
            1 => Ok(Self::Uuid(Uuid::from_bytes(rest.try_into().map_err(|_| bad())?))),
            2 => Self::text(std::str::from_utf8(rest).map_err(|_| bad())?).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl FromStr for RecordId {
    type Err = Error;

    /// A number in canonical decimal form, a hyphenated UUID, or text.
    fn from_str(s: &str) -> Result<Self> {
        if let Ok(n) = s.parse::<u64>()
            && n.to_string() == s
        {
            return Ok(Self::Number(n));
        }
        if s.len() == 36
            && let Ok(u) = Uuid::try_parse(s)
        {
            return Ok(Self::Uuid(u));
        }
        Self::text(s)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordId::Number(n) => n.fmt(f),
            RecordId::Uuid(u) => u.hyphenated().fmt(f),
            RecordId::Text(t) => f.write_str(t),
        }
    }
}

impl From<u64> for RecordId {
    fn from(n: u64) -> Self {
        Self::Number(n)
    }
}

macro_rules! redacted_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            /// Names may be confidential: they show in answers, never in logs or panics.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

redacted_debug!(TenantId, AgentId, Name, RecordId, Namespace);

impl Serialize for RecordId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RecordId::Number(n) => serializer.serialize_u64(*n),
            RecordId::Uuid(_) | RecordId::Text(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for RecordId {
    /// A JSON number, or a string read as on the command line: `"7"` and `7` are the same id.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(n) => Ok(Self::Number(n)),
            Raw::Text(s) => s.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A key epoch of a tenant, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Epoch(u32);

impl Epoch {
    /// The first epoch.
    pub const FIRST: Epoch = Epoch(1);

    /// The number.
    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// The epoch after this one; `None` after the last.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl TryFrom<u32> for Epoch {
    type Error = Error;

    fn try_from(n: u32) -> Result<Self> {
        if n == 0 { Err(Error::integrity("an epoch number")) } else { Ok(Self(n)) }
    }
}

impl From<Epoch> for u32 {
    fn from(epoch: Epoch) -> u32 {
        epoch.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a memory lives: 1 to 8 labels, written `users/ada/preferences`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Vec<String>);

impl Namespace {
    /// From its labels: each 1 to 256 bytes, without `/` and control characters.
    pub fn new<S: AsRef<str>>(labels: impl IntoIterator<Item = S>) -> Result<Self> {
        let labels: Vec<String> = labels.into_iter().map(|l| l.as_ref().to_owned()).collect();
        if labels.is_empty() || labels.len() > limits::NAMESPACE_DEPTH {
            return Err(Error::invalid(format!("a namespace has 1 to {} labels", limits::NAMESPACE_DEPTH)));
        }
        let bad = |l: &&String| {
            l.is_empty() || l.len() > limits::NAMESPACE_LABEL_BYTES || l.chars().any(|c| c == '/' || c.is_control())
        };
        if let Some(label) = labels.iter().find(bad) {
            return Err(Error::invalid(format!("`{}` is not a namespace label", shown(label))).with_remedy(format!(
                "use 1 to {} bytes without `/` and control characters",
                limits::NAMESPACE_LABEL_BYTES
            )));
        }
        Ok(Self(labels))
    }

    /// The labels, outermost first.
    pub fn labels(&self) -> &[String] {
        &self.0
    }

    /// Whether `self` is `prefix` or lies below it.
    pub fn starts_with(&self, prefix: &[String]) -> bool {
        self.0.starts_with(prefix)
    }
}

impl FromStr for Namespace {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::new(s.split('/'))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

impl Serialize for Namespace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// User input as it may be shown in a message: short and without control characters.
pub(crate) fn shown(s: &str) -> String {
    s.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tenant_ids_are_checked() {
        for good in ["a", "acme", "0x", "a.b-c_d", &"x".repeat(64)] {
            assert!(good.parse::<TenantId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "A", "a b", "a/b", "ä", &"x".repeat(65), "a\0"] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn agents_and_sessions_are_checked() {
        for good in ["a", "planner-2", "0.x_y", &"x".repeat(64)] {
            assert!(good.parse::<AgentId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a/b", "ä", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad}");
        }
        for bad in ["", "0", "+0000000000000000000000000000000", &"A".repeat(32), &"0".repeat(33)] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
        let id = SessionId::from([0x0a; 16]);
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
    }

    #[test]
    fn namespaces_are_checked() {
        assert!("users/ada".parse::<Namespace>().is_ok());
        for bad in ["", "/", "a//b", "a/b/c/d/e/f/g/h/i", "a\n"] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_text_never_meet() {
        assert_eq!("7".parse::<RecordId>().unwrap(), RecordId::Number(7));
        assert_eq!("07".parse::<RecordId>().unwrap(), RecordId::text("07").unwrap());
        assert_ne!(RecordId::text("7").unwrap().to_bytes(), RecordId::Number(7).to_bytes());
    }

    proptest! {
        #[test]
        fn record_ids_round_trip(text in "\\PC{1,40}", n: u64, u: u128) {
            for id in [RecordId::text(&text).unwrap(), RecordId::Number(n), RecordId::Uuid(Uuid::from_u128(u))] {
                prop_assert!(RecordId::from_bytes(&id.to_bytes()).unwrap() == id);
            }
        }

        #[test]
        fn hostile_record_ids_never_panic(bytes: Vec<u8>) {
            if let Ok(id) = RecordId::from_bytes(&bytes) {
                prop_assert_eq!(id.to_bytes(), bytes);
            }
        }
    }
}
