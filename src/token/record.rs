//! Records that are handed on: the stored ciphertext as it is, and where it belongs, sealed too, so that whoever passes
//! them on learns neither.

use serde::{Deserialize, Serialize};

use super::ids::Digest;
use super::ledger::Spent;
use super::refusal::{Refusal, Stop};
use crate::crypto::Provider;
use crate::entropy;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::{Keyring, Label};
use crate::limits;
use crate::record::{self, Field, Place, StoreKind};
use crate::secret::SecretBytes;

const DIGEST: &[u8] = b"strongroom handoff record v1";

/// A record as it is handed on. Neither part says anything to who has no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoffRecord {
    /// Where it belongs, sealed.
    pub place: Vec<u8>,
    /// The record, sealed: `schema/record.md`.
    pub sealed: Vec<u8>,
}

/// What kind of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A chunk: a text with metadata.
    Chunk,
    /// A context window: bytes.
    Context,
}

/// Where a chunk belongs.
#[derive(Clone, Copy)]
pub struct ChunkPlace {
    /// The collection's id.
    pub scope: [u8; 16],
    /// What the engine knows the chunk by.
    pub record: [u8; 16],
    /// Its version.
    pub version: u64,
    /// SHA-256 of what its sealed embedding holds.
    pub embedding: [u8; 32],
}

/// Where a record belongs, opened.
pub struct OpenedPlace(PlacePlain);

/// An opened record.
pub struct Opened {
    /// What it is.
    pub kind: RecordKind,
    /// The text of a chunk, or the context window.
    pub content: SecretBytes,
    /// The metadata of a chunk: JSON.
    pub metadata: Option<SecretBytes>,
}

/// Fixed lengths throughout: the length of the ciphertext says nothing.
#[derive(Serialize, Deserialize)]
struct PlacePlain {
    kind: RecordKind,
    scope: [u8; 16],
    record: [u8; 16],
    /// Big-endian.
    version: [u8; 8],
    embedding: [u8; 32],
}

impl HandoffRecord {
    /// What a token of `tenant` says of it.
    pub fn digest(&self, provider: &dyn Provider, tenant: &TenantId) -> Digest {
        digest(provider, tenant, &self.place, &self.sealed)
    }
}

impl OpenedPlace {
    /// What kind of record is there.
    pub fn kind(&self) -> RecordKind {
        self.0.kind
    }

    /// The collection's id.
    pub fn scope(&self) -> &[u8; 16] {
        &self.0.scope
    }

    /// What the engine knows the record by.
    pub fn record(&self) -> &[u8; 16] {
        &self.0.record
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        u64::from_be_bytes(self.0.version)
    }
}

/// A stored chunk, to be handed on.
pub fn of_chunk(keyring: &Keyring, place: &ChunkPlace, sealed: Vec<u8>) -> Result<HandoffRecord> {
    let plain = PlacePlain {
        kind: RecordKind::Chunk,
        scope: place.scope,
        record: place.record,
        version: place.version.to_be_bytes(),
        embedding: place.embedding,
    };
    Ok(HandoffRecord { place: seal_place(keyring, &plain)?, sealed })
}

/// Seals a context window, to be handed on. It is kept nowhere else.
pub fn seal_context(keyring: &Keyring, context: &[u8]) -> Result<HandoffRecord> {
    if context.len() > limits::CONTEXT_BYTES {
        return Err(Error::invalid(format!("a context window has at most {} MiB", limits::CONTEXT_BYTES >> 20)));
    }
    let mut record = [0; 16];
    entropy::fill(&mut record)?;
    let plain = PlacePlain {
        kind: RecordKind::Context,
        scope: [0; 16],
        record,
        version: 1_u64.to_be_bytes(),
        embedding: [0; 32],
    };
    let key = keyring.sealing(Label::ContextWindow, keyring.active(), b"")?;
    let sealed = key.seal(&plain.place(keyring.tenant()), context)?;
    Ok(HandoffRecord { place: seal_place(keyring, &plain)?, sealed })
}

/// Opens where a record belongs, for a token whose use was counted.
pub fn open_place(_spent: &Spent, keyring: &Keyring, place: &[u8]) -> Result<OpenedPlace, Stop> {
    let epoch = record::claimed_epoch(place).map_err(|_| Refusal::Open)?;
    let key = keyring.sealing(Label::HandoffPlace, epoch, b"").map_err(key_failed)?;
    let plain = key.open(&place_of_places(keyring.tenant()), place).map_err(|_| Refusal::Open)?;
    let (plain, rest) = postcard::take_from_bytes(plain.expose_secret()).map_err(|_| Refusal::Open)?;
    if rest.is_empty() { Ok(OpenedPlace(plain)) } else { Err(Refusal::Open.into()) }
}

/// Opens record number `index` of those that `spent` is for, which must be just that one.
pub fn open(
    spent: &Spent,
    index: usize,
    keyring: &Keyring,
    place: &OpenedPlace,
    record: &HandoffRecord,
) -> Result<Opened, Stop> {
    let expected = spent.records().get(index).ok_or(Refusal::Record)?;
    if spent.tenant() != keyring.tenant() {
        return Err(Refusal::Tenant.into());
    }
    if record.digest(keyring.provider(), keyring.tenant()) != *expected {
        return Err(Refusal::Record.into());
    }
    let epoch = record::claimed_epoch(&record.sealed).map_err(|_| Refusal::Open)?;
    let (label, scope) = match place.0.kind {
        RecordKind::Chunk => (Label::VectorStore, &place.0.scope[..]),
        RecordKind::Context => (Label::ContextWindow, &b""[..]),
    };
    let key = keyring.sealing(label, epoch, scope).map_err(key_failed)?;
    let plain = key.open(&place.0.place(keyring.tenant()), &record.sealed).map_err(|_| Refusal::Open)?;
    match place.0.kind {
        RecordKind::Context => Ok(Opened { kind: RecordKind::Context, content: plain, metadata: None }),
        RecordKind::Chunk => {
            let owned = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
            let opened = record::with_payload(&plain, |text, metadata| {
                Ok(Opened { kind: RecordKind::Chunk, content: owned(text), metadata: Some(owned(metadata)) })
            });
            Ok(opened.map_err(|_| Refusal::Open)?)
        }
    }
}

/// Keys that are gone for ever, and such as are only out of reach now.
fn key_failed(e: Error) -> Stop {
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::Integrity | ErrorKind::Denied => Refusal::Key.into(),
        _ => e.into(),
    }
}

impl PlacePlain {
    fn place<'a>(&'a self, tenant: &'a TenantId) -> Place<'a> {
        let (store, scope, embedding) = match self.kind {
            RecordKind::Chunk => (StoreKind::Vectors, &self.scope[..], Some(&self.embedding)),
            RecordKind::Context => (StoreKind::Context, &b""[..], None),
        };
        let version = u64::from_be_bytes(self.version);
        Place { tenant, store, scope, record: &self.record, version, field: Field::Payload, embedding }
    }
}

fn seal_place(keyring: &Keyring, plain: &PlacePlain) -> Result<Vec<u8>> {
    let encoded = postcard::to_stdvec(plain).map_err(|e| Error::internal("encoding a place").with_source(e))?;
    let key = keyring.sealing(Label::HandoffPlace, keyring.active(), b"")?;
    key.seal(&place_of_places(keyring.tenant()), SecretBytes::new(encoded).expose_secret())
}

/// Where the places themselves belong: to the tenant, and nowhere else.
fn place_of_places(tenant: &TenantId) -> Place<'_> {
    let (store, field) = (StoreKind::Handoff, Field::Place);
    Place { tenant, store, scope: b"", record: b"", version: 0, field, embedding: None }
}

fn digest(provider: &dyn Provider, tenant: &TenantId, place: &[u8], sealed: &[u8]) -> Digest {
    let parts = [DIGEST, tenant.as_str().as_bytes(), place, sealed];
    // The encoding of `label::parts`, without copying the record.
    let lengths = parts.map(|part| (part.len() as u32).to_be_bytes());
    let [l0, l1, l2, l3] = &lengths;
    let [p0, p1, p2, p3] = parts;
    Digest::from(provider.sha256(&[l0, p0, l1, p1, l2, p2, l3, p3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::default_provider;
    use crate::keys::label;

    #[test]
    fn the_digest_is_over_each_part_with_its_length() {
        let (provider, tenant) = (default_provider(), "acme".parse().unwrap());
        let record = HandoffRecord { place: vec![1, 2], sealed: vec![3] };
        let encoded = label::parts(&[DIGEST, b"acme", &[1, 2], &[3]]);
        assert_eq!(record.digest(provider, &tenant), Digest::from(provider.sha256(&[&encoded])));
        let shifted = HandoffRecord { place: vec![1], sealed: vec![2, 3] };
        assert_ne!(shifted.digest(provider, &tenant), record.digest(provider, &tenant));
    }
}
