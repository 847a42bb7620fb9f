//! Proofs as they are handed on: JSON with the names that transparency-dev's test vectors have, hashes in base64.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::tree::{Hash, Nodes};
use crate::error::Result;

/// That an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inclusion {
    /// The entry's index.
    pub leaf_idx: u64,
    /// The size of the log that it is proved for.
    pub tree_size: u64,
    /// The root of that log.
    #[serde(serialize_with = "base64")]
    pub root: Hash,
    /// The hash of the entry.
    #[serde(serialize_with = "base64")]
    pub leaf_hash: Hash,
    /// The hashes beside the way from the entry to the root.
    #[serde(serialize_with = "base64_all")]
    pub proof: Vec<Hash>,
}

/// That a log begins with what an earlier one was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Consistency {
    /// The size of the earlier log.
    pub size1: u64,
    /// The size of the later one.
    pub size2: u64,
    /// The root of the earlier one.
    #[serde(serialize_with = "base64")]
    pub root1: Hash,
    /// The root of the later one.
    #[serde(serialize_with = "base64")]
    pub root2: Hash,
    /// The hashes that make both.
    #[serde(serialize_with = "base64_all")]
    pub proof: Vec<Hash>,
}

impl Inclusion {
    /// Proves that entry `index` is in the log of `size` entries.
    pub fn of(nodes: &impl Nodes, index: u64, size: u64, leaf_hash: Hash) -> Result<Self> {
        let proof = nodes.inclusion(index, size)?;
        Ok(Self { leaf_idx: index, tree_size: size, root: nodes.root(size)?, leaf_hash, proof })
    }
}

impl Consistency {
    /// Proves that the log of `new` entries begins with the one of `old` entries.
    pub fn of(nodes: &impl Nodes, old: u64, new: u64) -> Result<Self> {
        let proof = nodes.consistency(old, new)?;
        Ok(Self { size1: old, size2: new, root1: nodes.root(old)?, root2: nodes.root(new)?, proof })
    }
}

fn base64<S: serde::Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(hash))
}

fn base64_all<S: serde::Serializer>(hashes: &[Hash], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(hashes.iter().map(|hash| BASE64_STANDARD.encode(hash)))
}
