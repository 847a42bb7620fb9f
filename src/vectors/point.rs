//! Sealing a chunk into a point and opening it again: two sealed fields, each bound to its place and to the other.
//!
//! The plaintext of the vector field holds the record id and the exact embeddings, and where these were written as veiled
//! ones the seeds of their noise; its SHA-256 is part of the payload field's associated data, so a payload opens only beside the embedding
//! that it was stored with.

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

use super::blind;
use super::engine::Point;
use super::registry::{self, Entry};
use super::shaping::Shaping;
use super::vector_plain::{self, Embeddings};
use super::veiling::Parts;
use super::{Chunk, CollectionId, CollectionSpec, Mode, StoredChunk, Vectors, veil};

/// Seals and opens the points of one collection.
pub(super) struct PointSealer {
    pub(super) keyring: Arc<Keyring>,
    pub(super) id: CollectionId,
    pub(super) spec: CollectionSpec,
    /// What engines are given of points. It has the mode as it is now, the description the one that it was opened with.
    pub(super) shaping: RwLock<Arc<Shaping>>,
    /// The parts of a veiled collection.
    pub(super) parts: Parts,
}

/// A sealed chunk: the point, what the registry must say of it, and the digest of its embeddings.
pub(super) struct Sealed {
    pub(super) point: Point,
    pub(super) entry: Entry,
    pub(super) embedding: Embedding,
    /// What the rest of the point was derived by.
    pub(super) shaping: Arc<Shaping>,
}

/// What an engine that searches is given besides the sealed fields.
struct Derived {
    searchable: Vec<(u8, Vec<f32>)>,
    /// The part of a veiled collection that it belongs to.
    tag: Option<[u8; 16]>,
    tokens: Vec<[u8; 16]>,
}

/// Which version of a record's embeddings was sealed or opened. With it, that version's payload opens without the
/// vector field, and still only beside the embeddings that it was stored with.
#[derive(Clone, Copy)]
pub(super) struct Embedding {
    version: u64,
    digest: [u8; 32],
}

impl Embedding {
    /// The digest.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

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

/// What is sealed of a record, and what an engine is given is derived from.
struct Plain<'a> {
    id: &'a RecordId,
    vectors: &'a Embeddings,
    vector: &'a SecretBytes,
    payload: &'a SecretBytes,
    /// How many parts a veiled collection has.
    parts: u16,
}

impl PointSealer {
    /// The id that the engine and the registry know `id` by in `epoch`.
    pub(super) fn blind(&self, epoch: Epoch, id: &RecordId) -> Result<Uuid> {
        let tag = self.keyring.blinding(epoch, self.id.as_bytes())?.tag(&[b"record", &id.to_bytes()]);
        Ok(Uuid::from_bytes(crypto::first_16(tag)))
    }

    /// Seals `chunk` as `version` in `epoch`, in one of `parts` parts if it is veiled.
    pub(super) fn seal(&self, epoch: Epoch, chunk: &Chunk, version: u64, parts: u16) -> Result<Sealed> {
        let mut vectors = self.embeddings(chunk);
        if self.shaping().mode == Mode::Veiled {
            vectors.seeds = veil::seeds(vectors.dense.len())?;
        }
        let vector = vector_plain::encode(&chunk.id, &vectors)?;
        let payload = self.payload_plain(chunk)?;
        let plain = Plain { id: &chunk.id, vectors: &vectors, vector: &vector, payload: &payload, parts };
        self.seal_fields(epoch, version, &plain)
    }

    /// Seals what `point` holds, which must be what the registry's `entry` says, in `epoch`: the same version of the same
    /// record, and what is derived from it made anew.
    pub(super) fn reseal(&self, epoch: Epoch, point: &Point, entry: &Entry) -> Result<Sealed> {
        let vector_plain = self.open_vector_plain(point, entry)?;
        let opened = self.parse_vector(point, entry, &vector_plain)?;
        let payload_plain = self.open_payload_plain(point, entry, &opened.embedding)?;
        let parts = self.parts.count();
        let OpenedVector { id, vectors, .. } = &opened;
        let plain = Plain { id, vectors, vector: &vector_plain, payload: &payload_plain, parts };
        self.seal_fields(epoch, entry.version, &plain)
    }

    fn seal_fields(&self, epoch: Epoch, version: u64, plain: &Plain<'_>) -> Result<Sealed> {
        let id = self.blind(epoch, plain.id)?;
        let (vector, payload) = (plain.vector.expose_secret(), plain.payload.expose_secret());
        let key = self.keyring.sealing(Label::VectorStore, epoch, self.id.as_bytes())?;
        let embedding = Embedding { version, digest: self.keyring.provider().sha256(&[vector]) };
        let vector = key.seal(&self.place(&id, version, Field::Vector, None), vector)?;
        let payload = key.seal(&self.place(&id, version, Field::Payload, Some(&embedding.digest)), payload)?;
        let shaping = self.shaping();
        let Derived { searchable, tag, tokens } = self.derived(&shaping, epoch, plain, &embedding)?;
        let digest = registry::digest(self.keyring.provider(), &payload);
        let entry = Entry { expires_at_ms: 0, epoch, version, digest };
        let epoch = epoch.as_u32();
        let point = Point { id, epoch, version, payload, vector, searchable, tag, tokens };
        Ok(Sealed { point, entry, embedding, shaping })
    }

    /// What is derived from the fields of a point.
    fn derived(&self, shaping: &Shaping, epoch: Epoch, plain: &Plain<'_>, embedding: &Embedding) -> Result<Derived> {
        let declared = &shaping.declared;
        let (searchable, tag) = match shaping.mode {
            Mode::Sealed => return Ok(Derived { searchable: Vec::new(), tag: None, tokens: Vec::new() }),
            Mode::Veiled => {
                let part = self.part(epoch, plain.id, plain.parts)?;
                let seeds = shaping.seeds(plain.vectors, &embedding.digest)?;
                (self.veiled(epoch, part, plain.vectors, &seeds)?, Some(self.part_tag(epoch, part)?))
            }
            Mode::Plain => {
                let dense = plain.vectors.dense.iter();
                (dense.map(|(position, vector)| (*position, vector.to_vec())).collect(), None)
            }
        };
        if declared.is_empty() {
            return Ok(Derived { searchable, tag, tokens: Vec::new() });
        }
        let key = self.keyring.blinding(epoch, self.id.as_bytes())?;
        let tokens = record::with_payload(plain.payload, |text, metadata| {
            let mut metadata: Map<String, Value> = serde_json::from_str(metadata).map_err(|_| crypto::open_failed())?;
            let tokens = blind::tokens(&*key, declared, &metadata, text);
            erase_fields(&mut metadata);
            Ok(tokens)
        })?;
        Ok(Derived { searchable, tag, tokens })
    }

    /// `point`, which must be what the registry's `entry` says, with what is derived from it made anew. Its sealed fields
    /// stay what they are: tokens that name it remain good.
    pub(super) fn rederive(&self, point: &Point, entry: &Entry) -> Result<Sealed> {
        self.derive_anew(&self.shaping(), point, entry)
    }

    /// The same as `shaping` says.
    pub(super) fn derive_anew(&self, shaping: &Arc<Shaping>, point: &Point, entry: &Entry) -> Result<Sealed> {
        let vector_plain = self.open_vector_plain(point, entry)?;
        let opened = self.parse_vector(point, entry, &vector_plain)?;
        let payload_plain = self.open_payload_plain(point, entry, &opened.embedding)?;
        let parts = self.parts.count();
        let OpenedVector { id, vectors, .. } = &opened;
        let plain = Plain { id, vectors, vector: &vector_plain, payload: &payload_plain, parts };
        let Derived { searchable, tag, tokens } = self.derived(shaping, entry.epoch, &plain, &opened.embedding)?;
        let point = Point { searchable, tag, tokens, ..point.clone() };
        Ok(Sealed { point, entry: *entry, embedding: opened.embedding, shaping: shaping.clone() })
    }

    /// Whether `point` has the tokens that were made of `chunk`. While those of a field are made or removed, nobody knows.
    pub(super) fn has_its_tokens(
        &self,
        shaping: &Shaping,
        point: &Point,
        epoch: Epoch,
        chunk: &StoredChunk,
    ) -> Result<bool> {
        let declared = &shaping.declared;
        if shaping.mode == Mode::Sealed || declared.is_changing() {
            return Ok(true);
        }
        let key = self.keyring.blinding(epoch, self.id.as_bytes())?;
        let mut stored = point.tokens.clone();
        stored.sort_unstable();
        Ok(stored == blind::tokens(&*key, declared, &chunk.metadata, &chunk.text))
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
        let chunk = self.open_chunk(point, entry, &opened)?;
        Ok((opened, chunk))
    }

    /// The same of which the vector field is `opened`.
    pub(super) fn open_chunk(&self, point: &Point, entry: &Entry, opened: &OpenedVector) -> Result<StoredChunk> {
        let OpenedPayload { text, metadata } = self.open_payload(point, entry, &opened.embedding)?;
        let (id, version) = (opened.id.clone(), entry.version);
        Ok(StoredChunk { id, version, text, metadata, vectors: self.named(&opened.vectors)? })
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
        Embeddings { dense: dense.collect(), sparse: sparse.collect(), ..Embeddings::default() }
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
