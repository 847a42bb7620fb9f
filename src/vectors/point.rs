//! Sealing a chunk into a point and opening it again: two sealed fields, each bound to its place and to the other.
//!
//! The plaintext of the vector field holds the record id and the exact embeddings; its SHA-256 is part of the payload
//! field's associated data, so a payload opens only beside the embedding that it was stored with.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto;
use crate::error::{Error, Result};
use crate::filter::erase_fields;
use crate::id::{Epoch, RecordId};
use crate::keys::{Keyring, Label};
use crate::record::{self, Field, Place, StoreKind};
use crate::secret::SecretBytes;

use super::blind::{self, Declared};
use super::engine::Point;
use super::registry::{self, Entry};
use super::vector_plain::{self, Embeddings};
use super::{Chunk, CollectionId, CollectionSpec, Mode, StoredChunk, Vectors};

/// Seals and opens the points of one collection.
pub(super) struct PointSealer {
    pub(super) keyring: Arc<Keyring>,
    pub(super) id: CollectionId,
    pub(super) spec: CollectionSpec,
    /// The fields that points have tokens of.
    pub(super) declared: RwLock<Arc<Declared>>,
}

/// A sealed chunk: the point, what the registry must say of it, and the digest of its embeddings.
pub(super) struct Sealed {
    pub(super) point: Point,
    pub(super) entry: Entry,
    pub(super) embedding: Embedding,
    /// What its tokens were made by.
    pub(super) declared: Arc<Declared>,
}

/// What an engine that searches is given besides the sealed fields.
struct Derived {
    searchable: Vec<(u8, Vec<f32>)>,
    tokens: Vec<[u8; 16]>,
    /// What the tokens were made by.
    declared: Arc<Declared>,
}

/// Which version of a record's embeddings was sealed or opened. With it, that version's payload opens without the
/// vector field, and still only beside the embeddings that it was stored with.
#[derive(Clone, Copy)]
pub(super) struct Embedding {
    version: u64,
    digest: [u8; 32],
}

impl Embedding {
    /// The digest, if it is of this version of the record.
    pub(super) fn of_version(&self, version: u64) -> Result<[u8; 32]> {
        if self.version == version { Ok(self.digest) } else { Err(crypto::open_failed()) }
    }
}

/// An opened payload field.
pub(super) struct OpenedPayload {
    pub(super) text: String,
    pub(super) metadata: Map<String, Value>,
}

/// An opened vector field.
pub(super) struct OpenedVector {
    pub(super) id: RecordId,
    pub(super) vectors: Embeddings,
    pub(super) embedding: Embedding,
}

impl PointSealer {
    /// The id that the engine and the registry know `id` by in `epoch`.
    pub(super) fn blind(&self, epoch: Epoch, id: &RecordId) -> Result<Uuid> {
        let tag = self.keyring.blinding(epoch, self.id.as_bytes())?.tag(&[b"record", &id.to_bytes()]);
        Ok(Uuid::from_bytes(crypto::first_16(tag)))
    }

    /// Seals `chunk` as `version` in `epoch`.
    pub(super) fn seal(&self, epoch: Epoch, chunk: &Chunk, version: u64) -> Result<Sealed> {
        let vectors = self.embeddings(chunk);
        let vector_plain = vector_plain::encode(&chunk.id, &vectors)?;
        self.seal_fields(epoch, version, &chunk.id, &vectors, &vector_plain, &self.payload_plain(chunk)?)
    }

    /// Seals what `point` holds, which must be what the registry's `entry` says, in `epoch`: the same version of the same
    /// record, and what is derived from it made anew.
    pub(super) fn reseal(&self, epoch: Epoch, point: &Point, entry: &Entry) -> Result<Sealed> {
        let vector_plain = self.open_vector_plain(point, entry)?;
        let opened = self.parse_vector(point, entry, &vector_plain)?;
        let payload_plain = self.open_payload_plain(point, entry, &opened.embedding)?;
        self.seal_fields(epoch, entry.version, &opened.id, &opened.vectors, &vector_plain, &payload_plain)
    }

    fn seal_fields(
        &self,
        epoch: Epoch,
        version: u64,
        id: &RecordId,
        vectors: &Embeddings,
        vector_plain: &SecretBytes,
        payload_plain: &SecretBytes,
    ) -> Result<Sealed> {
        let id = self.blind(epoch, id)?;
        let key = self.keyring.sealing(Label::VectorStore, epoch, self.id.as_bytes())?;
        let embedding = Embedding { version, digest: self.keyring.provider().sha256(&[vector_plain.expose_secret()]) };
        let vector = key.seal(&self.place(&id, version, Field::Vector, None), vector_plain.expose_secret())?;
        let place = self.place(&id, version, Field::Payload, Some(&embedding.digest));
        let payload = key.seal(&place, payload_plain.expose_secret())?;
        let Derived { searchable, tokens, declared } = self.derived(epoch, vectors, payload_plain)?;
        let digest = registry::digest(self.keyring.provider(), &payload);
        let entry = Entry { expires_at_ms: 0, epoch, version, digest };
        let (epoch, tag) = (epoch.as_u32(), None);
        let point = Point { id, epoch, version, payload, vector, searchable, tag, tokens };
        Ok(Sealed { point, entry, embedding, declared })
    }

    /// What is derived from the fields of a point.
    fn derived(&self, epoch: Epoch, vectors: &Embeddings, payload_plain: &SecretBytes) -> Result<Derived> {
        let declared = self.declared.read().clone();
        let searchable = match self.spec.mode {
            Mode::Sealed => return Ok(Derived { searchable: Vec::new(), tokens: Vec::new(), declared }),
            Mode::Plain => vectors.dense.iter().map(|(position, vector)| (*position, vector.to_vec())).collect(),
        };
        if declared.is_empty() {
            return Ok(Derived { searchable, tokens: Vec::new(), declared });
        }
        let key = self.keyring.blinding(epoch, self.id.as_bytes())?;
        let tokens = record::with_payload(payload_plain, |text, metadata| {
            let mut metadata: Map<String, Value> = serde_json::from_str(metadata).map_err(|_| crypto::open_failed())?;
            let tokens = blind::tokens(&*key, &declared, &metadata, text);
            erase_fields(&mut metadata);
            Ok(tokens)
        })?;
        Ok(Derived { searchable, tokens, declared })
    }

    /// `point`, which must be what the registry's `entry` says, with what is derived from it made anew. Its sealed fields
    /// stay what they are: tokens that name it remain good.
    pub(super) fn rederive(&self, point: &Point, entry: &Entry) -> Result<Sealed> {
        let vector_plain = self.open_vector_plain(point, entry)?;
        let opened = self.parse_vector(point, entry, &vector_plain)?;
        let payload_plain = self.open_payload_plain(point, entry, &opened.embedding)?;
        let Derived { searchable, tokens, declared } = self.derived(entry.epoch, &opened.vectors, &payload_plain)?;
        let point = Point { searchable, tokens, ..point.clone() };
        Ok(Sealed { point, entry: *entry, embedding: opened.embedding, declared })
    }

    /// Opens the vector field of `point`, which must be what the registry's `entry` says.
    pub(super) fn open_vector(&self, point: &Point, entry: &Entry) -> Result<OpenedVector> {
        let opened = self.open_vector_plain(point, entry).and_then(|plain| self.parse_vector(point, entry, &plain));
        opened.map_err(|e| e.about(point.id.as_bytes()))
    }

    fn open_vector_plain(&self, point: &Point, entry: &Entry) -> Result<SecretBytes> {
        let same = point.version == entry.version && point.epoch == entry.epoch.as_u32();
        // Chunks do not expire.
        if !same || entry.expires_at_ms != 0 {
            return Err(crypto::open_failed());
        }
        let key = self.keyring.sealing(Label::VectorStore, entry.epoch, self.id.as_bytes())?;
        key.open(&self.place(&point.id, entry.version, Field::Vector, None), &point.vector)
    }

    fn parse_vector(&self, point: &Point, entry: &Entry, plain: &SecretBytes) -> Result<OpenedVector> {
        let digest = self.keyring.provider().sha256(&[plain.expose_secret()]);
        let (id, vectors) = vector_plain::decode(plain)?;
        if self.blind(entry.epoch, &id)? != point.id {
            return Err(crypto::open_failed());
        }
        let embedding = Embedding { version: entry.version, digest };
        Ok(OpenedVector { id, vectors, embedding })
    }

    /// Opens both fields of `point`, which must be what the registry's `entry` says.
    pub(super) fn open(&self, point: &Point, entry: &Entry) -> Result<(OpenedVector, StoredChunk)> {
        let opened = self.open_vector(point, entry)?;
        let OpenedPayload { text, metadata } = self.open_payload(point, entry, &opened.embedding)?;
        let chunk = StoredChunk {
            id: opened.id.clone(),
            version: entry.version,
            text,
            metadata,
            vectors: self.named(&opened.vectors)?,
        };
        Ok((opened, chunk))
    }

    /// Opens the payload field of `point`, which must be what the registry's `entry` says and belong to `embedding`.
    pub(super) fn open_payload(&self, point: &Point, entry: &Entry, embedding: &Embedding) -> Result<OpenedPayload> {
        let opened = self.open_payload_plain(point, entry, embedding).and_then(|plain| {
            record::with_payload(&plain, |text, metadata| {
                let metadata = serde_json::from_str(metadata).map_err(|_| crypto::open_failed())?;
                Ok(OpenedPayload { text: text.to_owned(), metadata })
            })
        });
        opened.map_err(|e| e.about(point.id.as_bytes()))
    }

    fn open_payload_plain(&self, point: &Point, entry: &Entry, embedding: &Embedding) -> Result<SecretBytes> {
        let versions = [point.version, embedding.version];
        if versions != [entry.version; 2] || point.epoch != entry.epoch.as_u32() {
            return Err(crypto::open_failed());
        }
        entry.check(self.keyring.provider(), &point.payload)?;
        let key = self.keyring.sealing(Label::VectorStore, entry.epoch, self.id.as_bytes())?;
        key.open(&self.place(&point.id, entry.version, Field::Payload, Some(&embedding.digest)), &point.payload)
    }

    fn payload_plain(&self, chunk: &Chunk) -> Result<SecretBytes> {
        let metadata = serde_json::to_string(&chunk.metadata);
        let metadata = Zeroizing::new(metadata.map_err(|e| Error::internal("encoding metadata").with_source(e))?);
        record::pack_payload(self.spec.packing, &chunk.text, &metadata)
    }

    fn place<'a>(&'a self, id: &'a Uuid, version: u64, field: Field, embedding: Option<&'a [u8; 32]>) -> Place<'a> {
        Place {
            tenant: self.keyring.tenant(),
            store: StoreKind::Vectors,
            scope: self.id.as_bytes(),
            record: id.as_bytes(),
            version,
            field,
            embedding,
        }
    }

    /// The vectors of `chunk` by their position in the collection's description.
    fn embeddings(&self, chunk: &Chunk) -> Embeddings {
        // The description has at most 16 vectors, so positions fit.
        let dense = (0_u8..).zip(self.spec.vectors.keys());
        let dense = dense.filter_map(|(p, name)| Some((p, Zeroizing::new(chunk.vectors.get(name)?.to_vec()))));
        let sparse = (0_u8..).zip(self.spec.sparse.keys());
        let sparse = sparse.filter_map(|(p, name)| Some((p, chunk.vectors.sparse(name)?.clone())));
        Embeddings { dense: dense.collect(), sparse: sparse.collect() }
    }

    /// The inverse: vectors by name.
    fn named(&self, embeddings: &Embeddings) -> Result<Vectors> {
        let mut vectors = Vectors::default();
        for (position, vector) in &embeddings.dense {
            let name = self.spec.vectors.keys().nth(usize::from(*position)).ok_or_else(crypto::open_failed)?;
            vectors.insert(name, vector.to_vec());
        }
        for (position, vector) in &embeddings.sparse {
            let name = self.spec.sparse.keys().nth(usize::from(*position)).ok_or_else(crypto::open_failed)?;
            vectors.insert_sparse(name, vector.clone());
        }
        Ok(vectors)
    }
}
