//! Sealing a chunk into a point and opening it again: two sealed fields, each bound to its place and to the other.
//!
//! The plaintext of the vector field holds the record id and the exact embeddings, and where these are veiled the seeds of
//! their noise; its SHA-256 is part of the payload field's associated data, so a payload opens only beside the embedding
//! that it was stored with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::{Epoch, RecordId};
use crate::keys::{Keyring, Label};
use crate::record::{self, Field, Place, StoreKind};
use crate::secret::SecretBytes;

use super::engine::Point;
use super::registry::{self, Entry};
use super::veiling::Parts;
use super::{Chunk, CollectionId, CollectionSpec, Mode, StoredChunk, Vectors, veil};

/// Seals and opens the points of one collection.
pub(super) struct PointSealer {
    pub(super) keyring: Arc<Keyring>,
    pub(super) id: CollectionId,
    pub(super) spec: CollectionSpec,
    /// The parts of a veiled collection.
    pub(super) parts: Parts,
}

/// A sealed chunk: the point, what the registry must say of it, and the digest of its embeddings.
pub(super) struct Sealed {
    pub(super) point: Point,
    pub(super) entry: Entry,
    pub(super) embedding: Embedding,
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
    /// Each embedding by its position in the collection's description.
    pub(super) vectors: Vec<(u8, Zeroizing<Vec<f32>>)>,
    /// The seed of each one's noise; none where nothing is veiled.
    pub(super) seeds: Zeroizing<Vec<veil::Seed>>,
    pub(super) embedding: Embedding,
}

impl OpenedVector {
    pub(super) fn at(&self, position: u8) -> Result<&[f32]> {
        let found = self.vectors.iter().find(|(p, _)| *p == position);
        found.map(|(_, v)| v.as_slice()).ok_or_else(crypto::open_failed)
    }
}

/// What a vector field with seeds begins with: a zero, which no field without them has, since it begins with the length
/// of an id, and the number of the format.
const SEEDED: [u8; 2] = [0, 2];

#[derive(Serialize, Deserialize)]
struct VectorPlain<'a> {
    #[serde(borrow, with = "serde_bytes")]
    id: &'a [u8],
    #[serde(borrow)]
    vectors: Vec<(u8, &'a serde_bytes::Bytes)>,
}

/// After [`SEEDED`].
#[derive(Serialize, Deserialize)]
struct SeededPlain<'a> {
    #[serde(borrow)]
    vectors: VectorPlain<'a>,
    /// As many as there are vectors.
    seeds: Vec<veil::Seed>,
}

/// What is sealed of a record besides its payload.
struct Embedded {
    vectors: Zeroizing<Vec<(u8, Vec<f32>)>>,
    seeds: Zeroizing<Vec<veil::Seed>>,
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
        let vectors = Zeroizing::new(self.vectors(chunk));
        let seeds = match self.spec.mode {
            Mode::Veiled => veil::seeds(vectors.len())?,
            Mode::Sealed | Mode::Plain => Zeroizing::default(),
        };
        let embedded = Embedded { vectors, seeds, parts };
        let vector_plain = vector_plain(&chunk.id, &embedded)?;
        self.seal_fields(epoch, version, &chunk.id, &embedded, &vector_plain, &self.payload_plain(chunk)?)
    }

    /// Seals what `point` holds, which must be what the registry's `entry` says, in `epoch`: the same version of the same
    /// record, and what is derived from it made anew.
    pub(super) fn reseal(&self, epoch: Epoch, point: &Point, entry: &Entry) -> Result<Sealed> {
        let vector_plain = self.open_vector_plain(point, entry)?;
        let opened = self.parse_vector(point, entry, &vector_plain)?;
        let payload_plain = self.open_payload_plain(point, entry, &opened.embedding)?;
        let OpenedVector { id, vectors, seeds, .. } = opened;
        let vectors = Zeroizing::new(vectors.iter().map(|(position, v)| (*position, v.to_vec())).collect());
        let embedded = Embedded { vectors, seeds, parts: self.parts.count() };
        self.seal_fields(epoch, entry.version, &id, &embedded, &vector_plain, &payload_plain)
    }

    fn seal_fields(
        &self,
        epoch: Epoch,
        version: u64,
        record: &RecordId,
        embedded: &Embedded,
        vector_plain: &SecretBytes,
        payload_plain: &SecretBytes,
    ) -> Result<Sealed> {
        let id = self.blind(epoch, record)?;
        let key = self.keyring.sealing(Label::VectorStore, epoch, self.id.as_bytes())?;
        let embedding = Embedding { version, digest: self.keyring.provider().sha256(&[vector_plain.expose_secret()]) };
        let vector = key.seal(&self.place(&id, version, Field::Vector, None), vector_plain.expose_secret())?;
        let place = self.place(&id, version, Field::Payload, Some(&embedding.digest));
        let payload = key.seal(&place, payload_plain.expose_secret())?;
        let (searchable, tag) = match self.spec.mode {
            Mode::Sealed => (Vec::new(), None),
            Mode::Plain => (embedded.vectors.to_vec(), None),
            Mode::Veiled => {
                let part = self.part(epoch, record, embedded.parts)?;
                let veiled = self.veiled(epoch, part, &embedded.vectors, &embedded.seeds)?;
                (veiled, Some(self.part_tag(epoch, part)?))
            }
        };
        let digest = registry::digest(self.keyring.provider(), &payload);
        let entry = Entry { expires_at_ms: 0, epoch, version, digest };
        let (epoch, tokens) = (epoch.as_u32(), Vec::new());
        let point = Point { id, epoch, version, payload, vector, searchable, tag, tokens };
        Ok(Sealed { point, entry, embedding })
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
        let failed = |_| crypto::open_failed();
        let SeededPlain { vectors: parsed, seeds } = match plain.expose_secret().strip_prefix(&SEEDED) {
            Some(body) => postcard::from_bytes(body).map_err(failed)?,
            None => {
                SeededPlain { vectors: postcard::from_bytes(plain.expose_secret()).map_err(failed)?, seeds: Vec::new() }
            }
        };
        let seeds = Zeroizing::new(seeds);
        let expected = if self.spec.mode == Mode::Veiled { parsed.vectors.len() } else { 0 };
        if seeds.len() != expected {
            return Err(crypto::open_failed());
        }
        let id = RecordId::from_bytes(parsed.id)?;
        if self.blind(entry.epoch, &id)? != point.id {
            return Err(crypto::open_failed());
        }
        let vectors = parsed.vectors.into_iter().map(|(position, bytes)| {
            let (values, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(crypto::open_failed());
            }
            Ok((position, Zeroizing::new(values.iter().map(|b| f32::from_le_bytes(*b)).collect())))
        });
        let embedding = Embedding { version: entry.version, digest };
        Ok(OpenedVector { id, vectors: vectors.collect::<Result<_>>()?, seeds, embedding })
    }

    /// Opens both fields of `point`, which must be what the registry's `entry` says.
    pub(super) fn open(&self, point: &Point, entry: &Entry) -> Result<(OpenedVector, StoredChunk)> {
        let opened = self.open_vector(point, entry)?;
        let OpenedPayload { text, metadata } = self.open_payload(point, entry, &opened.embedding)?;
        let names: Vec<&String> = self.spec.vectors.keys().collect();
        let vectors: BTreeMap<String, Vec<f32>> = opened
            .vectors
            .iter()
            .map(|(position, v)| {
                let name = names.get(usize::from(*position)).ok_or_else(crypto::open_failed)?;
                Ok(((*name).clone(), v.to_vec()))
            })
            .collect::<Result<_>>()?;
        let chunk = StoredChunk {
            id: opened.id.clone(),
            version: entry.version,
            text,
            metadata,
            vectors: Vectors::named(vectors),
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
    fn vectors(&self, chunk: &Chunk) -> Vec<(u8, Vec<f32>)> {
        // The description has at most 16 vectors, so positions fit.
        (0_u8..)
            .zip(self.spec.vectors.keys())
            .filter_map(|(p, name)| Some((p, chunk.vectors.get(name)?.to_vec())))
            .collect()
    }
}

fn vector_plain(id: &RecordId, embedded: &Embedded) -> Result<SecretBytes> {
    let little_endian: Vec<(u8, Zeroizing<Vec<u8>>)> = embedded
        .vectors
        .iter()
        .map(|(position, v)| (*position, Zeroizing::new(v.iter().flat_map(|x| x.to_le_bytes()).collect())))
        .collect();
    let id = Zeroizing::new(id.to_bytes());
    let vectors = little_endian.iter().map(|(position, v)| (*position, serde_bytes::Bytes::new(v))).collect();
    let vectors = VectorPlain { id: &id, vectors };
    let plain = if embedded.seeds.is_empty() {
        postcard::to_stdvec(&vectors)
    } else {
        // Seeds are copied for the encoder, which has no other use for them; the copy is erased like the rest.
        let mut plain = SeededPlain { vectors, seeds: embedded.seeds.to_vec() };
        let encoded = postcard::to_extend(&plain, SEEDED.to_vec());
        plain.seeds.zeroize();
        encoded
    };
    Ok(SecretBytes::new(plain.map_err(|e| Error::internal("encoding a vector").with_source(e))?))
}
