//! What goes into memory and what comes out.

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroize;

use crate::error::{Error, Result};
use crate::id::Namespace;
use crate::limits;

/// A memory to write. Writing replaces the value, the expiry and the embedding of what has its key.
#[derive(Clone)]
pub struct Memory {
    pub(super) namespace: Namespace,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) ttl_ms: Option<u64>,
    pub(super) embedding: Option<Vec<f32>>,
}

impl Memory {
    /// `value` under `key` in `namespace`; any value that serializes to JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a key that is empty or longer than 512 bytes, and for a
    /// value that is no JSON or larger than 16 MiB.
    pub fn new(namespace: Namespace, key: impl Into<String>, value: &impl Serialize) -> Result<Self> {
        let key = key.into();
        check_key(&key)?;
        let value = serde_json::to_string(value)
            .map_err(|e| Error::invalid("the value cannot be written as JSON").with_source(e))?;
        if value.len() > limits::PAYLOAD_BYTES {
            return Err(Error::invalid(format!("the value has {} bytes", value.len()))
                .with_remedy(format!("split it: a memory holds at most {} MiB", limits::PAYLOAD_BYTES >> 20)));
        }
        Ok(Self { namespace, key, value, ttl_ms: None, embedding: None })
    }

    /// The same, forgotten `ttl_ms` milliseconds after it is written.
    #[must_use]
    pub fn ttl_ms(mut self, ttl_ms: u64) -> Self {
        self.ttl_ms = Some(ttl_ms);
        self
    }

    /// The same, to be found by the nearness of `embedding`.
    #[must_use]
    pub fn embedding(mut self, embedding: Vec<f32>) -> Self {
        self.embedding = Some(embedding);
        self
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.value.zeroize();
        self.embedding.zeroize();
    }
}

/// One change of an atomic batch.
pub enum MemoryOp {
    /// Writes a memory.
    Put(Memory),
    /// Deletes a memory; one that is not there is no error.
    Delete(Namespace, String),
}

/// A memory as it was stored.
#[derive(Clone, Serialize)]
pub struct MemoryItem {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its key.
    pub key: String,
    /// The value, as JSON text.
    #[serde(rename = "value", serialize_with = "as_json")]
    pub json: String,
    /// Counts the writes to this key, from 1.
    pub version: u64,
    /// When the key was first written: Unix time in milliseconds.
    pub created_at_ms: u64,
    /// When this version was written: Unix time in milliseconds.
    pub updated_at_ms: u64,
    /// When it expires: Unix time in milliseconds; never, if `None`.
    pub expires_at_ms: Option<u64>,
    /// Whether it has an embedding to be recalled by.
    pub has_embedding: bool,
}

impl MemoryItem {
    /// The value.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.json).map_err(|e| Error::invalid("the value is of another type").with_source(e))
    }
}

/// One version of a memory.
#[derive(Clone, Serialize)]
pub struct MemoryVersion {
    /// The memory as it was; for a deletion, the value is `null`.
    #[serde(flatten)]
    pub item: MemoryItem,
    /// Whether this version is the deletion of the memory.
    pub deleted: bool,
}

/// What to recall.
#[derive(Clone, Default)]
pub struct RecallRequest {
    /// Only memories in namespaces that begin with these labels.
    pub prefix: Vec<String>,
    /// The nearest to this embedding, best first.
    pub embedding: Option<Vec<f32>>,
    /// Only memories whose value contains every word of this, whatever the case.
    pub text: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// A memory that was recalled.
#[derive(Clone, Serialize)]
pub struct Recalled {
    /// The memory.
    #[serde(flatten)]
    pub item: MemoryItem,
    /// How near it is to the embedding that was asked for: cosine, from −1 to 1.
    pub score: Option<f32>,
}

pub(super) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > limits::RECORD_ID_BYTES {
        return Err(Error::invalid("a memory's key is empty or too long")
            .with_remedy(format!("use 1 to {} bytes", limits::RECORD_ID_BYTES)));
    }
    Ok(())
}

fn as_json<S: Serializer>(json: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<&RawValue>(json).map_err(serde::ser::Error::custom)?.serialize(serializer)
}
