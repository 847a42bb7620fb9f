//! The labels that separate one derived key from another, and the encoding of what else a key depends on.

use serde::{Deserialize, Serialize};

use crate::crypto::SuiteId;
use crate::id::Epoch;

/// The label of keys that come from a session key instead of an epoch: no [`DekRequest`](super::kms::DekRequest) names it.
pub(crate) const SESSION_ENVELOPE: &str = "session-envelope-v1";

/// What a derived key is for. The label is part of the HKDF `info` (RFC 5869, section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Label {
    /// Seals chunks and embeddings of one collection.
    VectorStore,
    /// Seals memories.
    MemoryStore,
    /// Seals descriptions of collections and labels of namespaces.
    Catalog,
    /// Blinds record ids, names and filter values.
    BlindIndex,
    /// Seals context windows.
    ContextWindow,
    /// Seals where records belong that are handed on.
    HandoffPlace,
    /// Veils the vectors that an engine searches.
    VectorVeil,
}

impl Label {
    /// Every label.
    pub const ALL: [Label; 7] = [
        Label::VectorStore,
        Label::MemoryStore,
        Label::Catalog,
        Label::BlindIndex,
        Label::ContextWindow,
        Label::HandoffPlace,
        Label::VectorVeil,
    ];

    /// The bytes of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Label::VectorStore => "vector-store-v1",
            Label::MemoryStore => "memory-store-v1",
            Label::Catalog => "catalog-v1",
            Label::BlindIndex => "blind-index-v1",
            Label::ContextWindow => "context-window-v1",
            Label::HandoffPlace => "handoff-place-v1",
            Label::VectorVeil => "vector-veil-v1",
        }
    }

    /// The HKDF `info`: label, suite, epoch and scope, each as its length (u32, big-endian) and its bytes.
    pub fn info(self, suite: SuiteId, epoch: Epoch, scope: &[u8]) -> Vec<u8> {
        parts(&[self.as_str().as_bytes(), &suite.as_u16().to_be_bytes(), &epoch.as_u32().to_be_bytes(), scope])
    }
}

/// Each part as its length (u32, big-endian) and its bytes.
pub(crate) fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        // Scopes, ids and digests: never near 4 GiB.
        encoded.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        encoded.extend_from_slice(part);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_stands_in_the_schema() {
        let schema = include_str!("../../schema/keys.md");
        for label in Label::ALL.map(Label::as_str).into_iter().chain([SESSION_ENVELOPE]) {
            assert!(schema.contains(&format!("`{label}`")), "{label}");
        }
    }

    #[test]
    fn the_encoding_is_the_documented_one() {
        let info = Label::VectorStore.info(SuiteId::Aes256GcmSivSha3_512, Epoch::FIRST, b"ab");
        assert_eq!(info, b"\0\0\0\x0fvector-store-v1\0\0\0\x02\0\x01\0\0\0\x04\0\0\0\x01\0\0\0\x02ab");
    }
}
