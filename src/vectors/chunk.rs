//! What goes into a collection and what comes out.

use std::collections::BTreeMap;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use zeroize::Zeroize;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::RecordId;
use crate::limits;

use super::{CollectionSpec, Metric, SparseVector};

/// The embeddings of one chunk by vector name, dense and sparse. Erased when dropped.
#[derive(Clone, Default, PartialEq)]
pub struct Vectors {
    dense: BTreeMap<String, Vec<f32>>,
    sparse: BTreeMap<String, SparseVector>,
}

impl Vectors {
    /// Named vectors.
    pub fn named<N: Into<String>>(vectors: impl IntoIterator<Item = (N, Vec<f32>)>) -> Self {
        let dense = vectors.into_iter().map(|(name, vector)| (name.into(), vector)).collect();
        Self { dense, sparse: BTreeMap::new() }
    }

    /// The same with a sparse vector besides; it replaces what has its name.
    #[must_use]
    pub fn with_sparse(mut self, name: impl Into<String>, vector: SparseVector) -> Self {
        self.insert_sparse(name, vector);
        self
    }

    /// Puts in a dense vector; it replaces what has its name.
    pub fn insert(&mut self, name: impl Into<String>, vector: Vec<f32>) {
        let name = name.into();
        self.remove(&name);
        self.dense.insert(name, vector);
    }

    /// Puts in a sparse vector; it replaces what has its name.
    pub fn insert_sparse(&mut self, name: impl Into<String>, vector: SparseVector) {
        let name = name.into();
        self.remove(&name);
        self.sparse.insert(name, vector);
    }

    /// Takes out and erases what has this name; false where nothing has.
    pub fn remove(&mut self, name: &str) -> bool {
        let dense = self.dense.remove(name).map(|mut vector| vector.zeroize());
        dense.is_some() | self.sparse.remove(name).is_some()
    }

    /// The dense vector called `name`; the unnamed one is called the empty string.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.dense.get(name).map(Vec::as_slice)
    }

    /// The sparse vector called `name`.
    pub fn sparse(&self, name: &str) -> Option<&SparseVector> {
        self.sparse.get(name)
    }

    /// Each name of a dense vector with it, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.dense.iter().map(|(name, vector)| (name.as_str(), vector.as_slice()))
    }

    /// Each name of a sparse vector with it, in the order of the names.
    pub fn iter_sparse(&self) -> impl Iterator<Item = (&str, &SparseVector)> {
        self.sparse.iter().map(|(name, vector)| (name.as_str(), vector))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.dense.is_empty() && self.sparse.is_empty()
    }
}

impl From<Vec<f32>> for Vectors {
    fn from(vector: Vec<f32>) -> Self {
        Self::named([("", vector)])
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        self.dense.values_mut().for_each(Zeroize::zeroize);
    }
}

impl Serialize for Vectors {
    /// An object: to each name an array, or `indices` and `values`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.dense.len() + self.sparse.len()))?;
        for (name, vector) in &self.dense {
            map.serialize_entry(name, vector)?;
        }
        for (name, vector) in &self.sparse {
            map.serialize_entry(name, vector)?;
        }
        map.end()
    }
}

/// A piece of text with its metadata and embeddings.
#[derive(Clone)]
pub struct Chunk {
    /// Its id: writing another chunk with the same id replaces it.
    pub id: RecordId,
    /// The text.
    pub text: String,
    /// Anything else, as JSON.
    pub metadata: Map<String, Value>,
    /// Its embeddings.
    pub vectors: Vectors,
}

impl Chunk {
    /// A chunk without metadata.
    pub fn new(id: impl Into<RecordId>, text: impl Into<String>, vectors: impl Into<Vectors>) -> Self {
        Self { id: id.into(), text: text.into(), metadata: Map::new(), vectors: vectors.into() }
    }

    /// The same with metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = metadata;
        self
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let dense: usize = self.vectors.iter().map(|(_, v)| size_of_val(v)).sum();
        let sparse: usize = self.vectors.iter_sparse().map(|(_, v)| v.len() * size_of::<(u32, f32)>()).sum();
        // Metadata that cannot be written is refused elsewhere.
        self.text.len() + json_bytes(&self.metadata).unwrap_or_default() + 2 * (dense + sparse)
    }

    /// Checks that it fits `spec`: no vector that the collection does not have, each of the right size and finite, and
    /// the payload not too large. Vectors may be missing, but not the only one of a collection whose vector has no name.
    pub fn validate(&self, spec: &CollectionSpec) -> Result<()> {
        if self.vectors.is_empty() && spec.has_one_unnamed() {
            return Err(Error::invalid(format!("record `{}` has no vector", self.id)));
        }
        for (name, vector) in self.vectors.iter() {
            let params = spec.vectors.get(name).ok_or_else(|| self.unknown(name, spec))?;
            let what = if name.is_empty() { "vector".into() } else { format!("vector `{name}`") };
            params.metric.validate(vector, params.size).map_err(|e| at_record(&self.id, &what, e))?;
        }
        if let Some((name, _)) = self.vectors.iter_sparse().find(|(name, _)| !spec.sparse.contains_key(*name)) {
            return Err(self.unknown(name, spec));
        }
        if !self.metadata.values().all(|value| is_nested_within(value, limits::JSON_DEPTH)) {
            return Err(Error::invalid(format!("the metadata of record `{}` is nested too deeply", self.id))
                .with_remedy(format!("nest objects and arrays at most {} deep", limits::JSON_DEPTH)));
        }
        let bytes = self.text.len() + json_bytes(&self.metadata)?;
        if bytes > limits::PAYLOAD_BYTES {
            return Err(Error::invalid(format!("text and metadata of record `{}` have {bytes} bytes", self.id))
                .with_remedy(format!("split it: a record holds at most {} MiB", limits::PAYLOAD_BYTES >> 20)));
        }
        Ok(())
    }

    fn unknown(&self, name: &str, spec: &CollectionSpec) -> Error {
        let (id, shown) = (&self.id, crate::id::shown(name));
        if spec.sparse.contains_key(name) {
            return Error::invalid(format!("vector `{shown}` of record `{id}` is dense instead of sparse"))
                .with_remedy("give `indices` and `values`");
        }
        if spec.vectors.contains_key(name) {
            return Error::invalid(format!("vector `{shown}` of record `{id}` is sparse instead of dense"))
                .with_remedy("give an array with a value for each dimension");
        }
        Error::invalid(format!("record `{id}` has a vector `{shown}` that the collection does not have"))
    }
}

/// A chunk as it was stored.
#[derive(Clone, Serialize)]
pub struct StoredChunk {
    /// Its id.
    pub id: RecordId,
    /// The version: grows with every write to the collection.
    pub version: u64,
    /// The text.
    pub text: String,
    /// The metadata.
    pub metadata: Map<String, Value>,
    /// The embeddings, exactly as they were given.
    pub vectors: Vectors,
}

/// A chunk that a search found.
#[derive(Clone, Serialize)]
pub struct Hit {
    /// Its id.
    pub id: RecordId,
    /// Its score by the collection's metric, computed from the sealed vector.
    pub score: f32,
    /// The text.
    pub text: String,
    /// The metadata.
    pub metadata: Map<String, Value>,
}

/// What to search for.
#[derive(Clone)]
pub struct SearchRequest {
    /// The query vector.
    pub vector: Vec<f32>,
    /// Which vector of the points to compare with; needed when there are several.
    pub using: Option<String>,
    /// How many results at most.
    pub limit: usize,
    /// The worst score that is still a result.
    pub score_threshold: Option<f32>,
    /// Which chunks may be found; `None` is all.
    pub filter: Option<Filter>,
    /// In `plain` mode: scan all vectors instead of walking the engine's graph.
    /// Miss nothing, whatever that takes: in `plain` mode scan all vectors instead of walking the engine's graph, in
    /// `veiled` mode open and compare all, in `sealed` mode never go by the signs of vectors alone, as large collections
    /// otherwise do.
    pub exact: bool,
    /// In modes that the engine searches: how many candidates the graph walk keeps (`hnsw_ef`).
    pub ef: Option<usize>,
}

impl SearchRequest {
    /// The `limit` nearest to `vector`.
    pub fn new(vector: Vec<f32>, limit: usize) -> Self {
        Self { vector, using: None, limit, score_threshold: None, filter: None, exact: false, ef: None }
    }

    /// The same, comparing with the vector called `name`.
    #[must_use]
    pub fn using(mut self, name: impl Into<String>) -> Self {
        self.using = Some(name.into());
        self
    }

    /// The same, without results worse than `score`.
    #[must_use]
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.score_threshold = Some(score);
        self
    }

    /// The same among the chunks that pass `filter`.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Whether `score` is good enough to be a result.
    pub(super) fn accepts(&self, metric: Metric, score: f32) -> bool {
        self.score_threshold.is_none_or(|worst| !metric.better(f64::from(worst), f64::from(score)))
    }

    /// Checks that it fits a vector of `size` dimensions.
    pub(super) fn validate(&self, size: usize, metric: Metric) -> Result<()> {
        if self.limit > limits::SEARCH_RESULTS {
            return Err(Error::invalid(format!("a search has at most {} results", limits::SEARCH_RESULTS)));
        }
        self.filter.as_ref().map_or(Ok(()), Filter::validate)?;
        metric.validate(&self.vector, size).map(|_| ())
    }
}

impl Drop for SearchRequest {
    fn drop(&mut self) {
        self.vector.zeroize();
    }
}

/// Whether arrays and objects of `value` are in each other at most `depth` times.
fn is_nested_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(|value| is_nested_within(value, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|value| is_nested_within(value, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// How long `metadata` is as JSON.
pub(crate) fn json_bytes(metadata: &Map<String, Value>) -> Result<usize> {
    /// Counts what is written to it.
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, metadata).map_err(|e| Error::invalid("metadata is no JSON").with_source(e))?;
    Ok(count.0)
}

fn at_record(id: &RecordId, what: &str, e: Error) -> Error {
    let named = Error::new(e.kind(), format!("record `{id}`, {what}: {e}"));
    match e.remedy() {
        Some(remedy) => named.with_remedy(remedy),
        None => named,
    }
}
