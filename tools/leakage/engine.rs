//! The sample corpus in a store, and what the engine's files have of it: read by the engine alone, without the code that
//! wrote them.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use qdrant_edge::{
    EdgeShard, PointId, ScrollRequest, VectorInternal, VectorStructInternal, WithPayloadInterface, WithVector,
};
use serde_json::{Map, Value};
use strongroom::cli::input::NpyReader;
use strongroom::crypto::default_provider;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::keys::{DataKeys as _, Keyring, Keystore, Label};
use strongroom::record::Packing;
use strongroom::vectors::Veil;
use strongroom::{
    Chunk, CollectionSpec, Error, Metric, Mode, Passphrase, RecordId, Result, RotateOptions, SearchRequest, Store,
    StoreOptions, TenantId,
};

/// What is asked for in a search.
const K: usize = 10;
/// Where the engine has its files, in a store's directory.
const SHARDS: &str = "data/shards";

/// Texts with their embeddings, and questions.
pub struct Corpus {
    pub chunks: Vec<Chunk>,
    pub queries: Vec<Vec<f32>>,
}

/// A point as it lies in the engine's files.
pub struct Held {
    /// The number of its text. An attacker does not know it: it tells whether an answer is right.
    pub text: usize,
    /// Which of the collection's parts it is in.
    pub part: usize,
    /// Bytes of its sealed payload.
    pub size: usize,
    /// The vector that the engine searches, if it has one.
    pub vector: Option<Vec<f32>>,
}

/// How a corpus is stored.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    pub mode: Mode,
    pub pad: bool,
}

/// What the engine holds of one corpus: of a tenant, of another tenant, and of the first one after a rotation.
pub struct Stored {
    pub first: Vec<Held>,
    pub other_tenant: Vec<Held>,
    pub next_epoch: Vec<Held>,
    /// For each part of `first`, what the engine is asked for when somebody searches by an embedding of the corpus; by
    /// that of a question first. Nothing where the engine is not asked.
    pub asked: Vec<Vec<Vec<f32>>>,
    /// The share of the true ten nearest to each question that a search finds.
    pub recall: f64,
}

impl Corpus {
    /// The first `most` texts of the sample corpus, and its questions.
    pub fn sample(most: usize) -> Result<Self> {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/sample/jargon");
        let lines = std::fs::read_to_string(sample.join("chunks.jsonl"))?;
        let damaged = || Error::invalid("the sample corpus is damaged");
        let chunk = |(line, vector): (&str, Vec<f32>)| {
            let value: Value = serde_json::from_str(line).map_err(|_| damaged())?;
            let text = value.get("text").and_then(Value::as_str).ok_or_else(damaged)?;
            let id = value.get("id").and_then(Value::as_u64).ok_or_else(damaged)?;
            let metadata = value.get("metadata").and_then(Value::as_object).ok_or_else(damaged)?;
            Ok(Chunk::new(id, text, vector).metadata(metadata.clone()))
        };
        let vectors = rows(&sample.join("chunk_vectors.f16.npy"))?;
        let chunks = lines.lines().zip(vectors).take(most).map(chunk).collect::<Result<_>>()?;
        Ok(Self { chunks, queries: rows(&sample.join("query_vectors.f16.npy"))? })
    }

    /// The embeddings of the texts.
    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.chunks.iter().map(|chunk| chunk.vectors.get("").unwrap_or_default())
    }

    fn dimensions(&self) -> usize {
        self.vectors().next().map_or(0, <[f32]>::len)
    }

    /// Stores it for two tenants, moves the first to its next epoch, and reads what the engine has each time.
    pub async fn stored(&self, way: Way) -> Result<Stored> {
        let dir = tempfile::tempdir()?;
        let options = || StoreOptions::new(dir.path()).kdf_cost(KdfCost::INSECURE_FAST);
        let passphrase = || Passphrase::new(b"for this run only".to_vec());
        Store::init(&options(), passphrase()?).await?;
        let (one, two): (TenantId, TenantId) = ("one".parse()?, "two".parse()?);

        let store = Store::open(options(), passphrase()?).await?;
        let mut recall = 0.0;
        for id in [&one, &two] {
            let packing = Packing { pad: way.pad, ..Packing::default() };
            let spec = CollectionSpec::new(self.dimensions(), Metric::Cosine).mode(way.mode).packing(packing);
            let docs = store.create_tenant(id).await?.create_collection("docs", spec).await?;
            docs.ingest(self.chunks.clone()).await?;
            recall = self.recall(&docs).await?;
            docs.flush().await?;
        }
        store.close().await?;
        let keys = || Keystore::open(&options().keystore_dir(), default_provider(), options().unlock(passphrase()?));
        let (first, other_tenant, asked) = {
            let keys = keys()?;
            let Found { held, collection, tags } = self.held(dir.path(), &keys, &one)?;
            let asked = self.asked(way.mode, &keys, &one, &collection, &tags)?;
            (held, self.held(dir.path(), &keys, &two)?.held, asked)
        };

        let store = Store::open(options(), passphrase()?).await?;
        store.rotate(&one, RotateOptions::default(), |_| ()).await?;
        store.close().await?;
        let next_epoch = self.held(dir.path(), &keys()?, &one)?.held;
        Ok(Stored { first, other_tenant, next_epoch, asked, recall })
    }

    async fn recall(&self, docs: &strongroom::Collection) -> Result<f64> {
        let mut found = 0;
        for query in &self.queries {
            let mut scores: Vec<(f64, &RecordId)> = Vec::with_capacity(self.chunks.len());
            for (chunk, vector) in self.chunks.iter().zip(self.vectors()) {
                scores.push((Metric::Cosine.score_f64(query, vector), &chunk.id));
            }
            scores.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            scores.truncate(K);
            let hits = docs.search(SearchRequest::new(query.clone(), K)).await?;
            found += hits.iter().filter(|hit| scores.iter().any(|(_, id)| **id == hit.id)).count();
        }
        Ok(found as f64 / (self.queries.len() * K) as f64)
    }

    /// Every point in the engine's files that is of `tenant`.
    fn held(&self, store: &Path, keys: &Keystore, tenant: &TenantId) -> Result<Found> {
        let keyring = Keyring::open(keys, default_provider(), tenant)?;
        for entry in std::fs::read_dir(store.join(SHARDS))? {
            let shard = entry?.path();
            let Some(collection) = collection_of(&shard) else { continue };
            // `schema/keys.md`: what the engine calls a record.
            let blinding = keyring.blinding(keyring.active(), &collection)?;
            let blind = |chunk: &Chunk| half(blinding.tag(&[b"record", &chunk.id.to_bytes()]));
            let texts: HashMap<[u8; 16], usize> = self.chunks.iter().map(blind).zip(0..).collect();
            let found = Found::read(&shard, collection, &texts)?;
            if found.held.len() == texts.len() {
                return Ok(found);
            }
        }
        Err(Error::internal("the engine has no files of a tenant"))
    }

    /// What the engine is asked for in each part: only who has the keys can tell beforehand, but the engine sees it.
    fn asked(
        &self,
        mode: Mode,
        keys: &Keystore,
        tenant: &TenantId,
        collection: &[u8; 16],
        tags: &[String],
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let questions = || self.queries.iter().map(Vec::as_slice).chain(self.vectors());
        let keyring = Keyring::open(keys, default_provider(), tenant)?;
        let epoch = keyring.active();
        match mode {
            Mode::Sealed => Ok(Vec::new()),
            Mode::Plain => Ok(vec![questions().map(<[f32]>::to_vec).collect()]),
            Mode::Veiled => {
                let derived = keys.epoch_keys(tenant, epoch)?;
                let blinding = keyring.blinding(epoch, collection)?;
                let mut asked = vec![Vec::new(); tags.len()];
                for part in 0..u16::try_from(tags.len()).unwrap_or_default() {
                    let tag = word(half(blinding.tag(&[b"part", &part.to_be_bytes()])));
                    let Some(at) = tags.iter().position(|known| *known == tag) else { continue };
                    // `schema/keys.md`: collection, name of the vector, its size and the part.
                    let size = u32::try_from(self.dimensions()).unwrap_or_default().to_be_bytes();
                    let scope = parts(&[collection, b"", &size, &part.to_be_bytes()]);
                    let veil = Veil::new(&derived.dek(Label::VectorVeil, &scope)?, self.dimensions());
                    let Some(asked) = asked.get_mut(at) else { continue };
                    *asked = questions().map(|question| veil.query(question).to_vec()).collect();
                }
                Ok(asked)
            }
        }
    }
}

/// What is in the files of one collection.
struct Found {
    held: Vec<Held>,
    collection: [u8; 16],
    /// The tags of its parts.
    tags: Vec<String>,
}

impl Found {
    /// Reads points whatever they have, and asks for every vector.
    fn read(shard: &Path, collection: [u8; 16], texts: &HashMap<[u8; 16], usize>) -> Result<Self> {
        let damaged =
            |e: &dyn std::fmt::Display| Error::internal("the engine's files do not open").with_source(e.to_string());
        let engine = EdgeShard::load(shard, None).map_err(|e| damaged(&e))?;
        let request = ScrollRequest {
            offset: None,
            limit: Some(usize::MAX),
            filter: None,
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: WithVector::Bool(true),
            order_by: None,
        };
        let (records, _) = engine.scroll(request).map_err(|e| damaged(&e))?;
        let tag_of = |payload: &Map<String, Value>| payload.get("te").and_then(Value::as_str).map(str::to_owned);
        let (mut held, mut tagged) = (Vec::new(), Vec::new());
        for record in records {
            let PointId::Uuid(id) = record.id else { continue };
            let Some(&text) = texts.get(id.as_bytes()) else { continue };
            let payload = record.payload.map(|payload| payload.0).unwrap_or_default();
            let sealed = payload.get("p").and_then(Value::as_str).unwrap_or_default();
            let size = BASE64.decode(sealed).map_err(|e| damaged(&e))?.len();
            tagged.push(tag_of(&payload).unwrap_or_default());
            held.push(Held { text, part: 0, size, vector: record.vector.and_then(any_vector) });
        }
        let tags: BTreeSet<&String> = tagged.iter().collect();
        let tags: Vec<String> = tags.into_iter().cloned().collect();
        for (held, tag) in held.iter_mut().zip(&tagged) {
            held.part = tags.iter().position(|known| known == tag).unwrap_or_default();
        }
        Ok(Self { held, collection, tags })
    }
}

fn any_vector(vectors: VectorStructInternal) -> Option<Vec<f32>> {
    match vectors {
        VectorStructInternal::Single(vector) => Some(vector),
        VectorStructInternal::Named(named) => named.into_values().find_map(|vector| match vector {
            VectorInternal::Dense(vector) => Some(vector),
            _ => None,
        }),
        VectorStructInternal::MultiDense(_) => None,
    }
}

/// The id of a collection is the name of its directory.
fn collection_of(shard: &Path) -> Option<[u8; 16]> {
    Some(uuid::Uuid::try_parse(shard.file_name()?.to_str()?).ok()?.into_bytes())
}

fn half(tag: [u8; 32]) -> [u8; 16] {
    tag.first_chunk().copied().unwrap_or_default()
}

fn word(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each part after its length, as a scope is encoded.
fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or_default().to_be_bytes();
    parts.iter().flat_map(|part| [&length(part)[..], part].concat()).collect()
}

/// The rows of a `.npy` file.
fn rows(file: &Path) -> Result<Vec<Vec<f32>>> {
    let mut reader = NpyReader::open(file)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row?);
    }
    Ok(rows)
}
