//! What a collection is: its vectors, how they are protected, how payloads are packed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::entropy;
use crate::error::{Error, Result};
use crate::id::Name;
use crate::limits;
use crate::record::Packing;

use super::blind::{Declared, FieldIndexSpec};
use super::inverted::Language;
use super::{Metric, SparseParams};

/// The random id of a collection: the only name that disks and engines see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionId([u8; 16]);

impl CollectionId {
    /// A new one.
    pub fn random() -> Result<Self> {
        let mut id = [0; 16];
        entropy::fill(&mut id)?;
        Ok(Self(id))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<uuid::Uuid> for CollectionId {
    fn from(id: uuid::Uuid) -> Self {
        Self(id.into_bytes())
    }
}

impl TryFrom<&[u8]> for CollectionId {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self> {
        Ok(Self(bytes.try_into().map_err(|_| Error::integrity("a collection id"))?))
    }
}

impl fmt::Display for CollectionId {
    /// 32 hexadecimal digits: the name of its directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// How the embeddings of a collection are protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The engine holds sealed points only; Strongroom searches in trusted memory.
    #[default]
    Sealed,
    /// The engine holds the exact vectors and searches them. They reveal roughly the text. Descriptions of the first format
    /// have it as the second.
    Plain,
    /// The engine holds a keyed, perturbed transform of the vectors and searches that; what it finds is ranked by the
    /// sealed vectors. An attacker with texts of the same kind, or with some known pairs, learns much from it.
    Veiled,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Sealed => "sealed",
            Mode::Veiled => "veiled",
            Mode::Plain => "plain",
        })
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "sealed" => Ok(Mode::Sealed),
            "veiled" => Ok(Mode::Veiled),
            "plain" => Ok(Mode::Plain),
            _ => Err(Error::invalid(format!("`{}` is not a mode", crate::id::shown(s)))
                .with_remedy("use `sealed`, `veiled` or `plain`")),
        }
    }
}

/// Which engine holds the points of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `qdrant-edge` in this process, with its files in the data directory.
    #[default]
    Edge,
    /// A Qdrant server (the setting `qdrant_url`).
    Server(Placement),
}

/// How a collection lies in a Qdrant server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// In a physical collection of its own.
    #[default]
    Dedicated,
    /// In one with all others whose vectors have the same sizes and metrics.
    Shared,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Edge => "edge",
            Engine::Server(Placement::Dedicated) => "server, dedicated",
            Engine::Server(Placement::Shared) => "server, shared",
        })
    }
}

/// Whom a collection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CollectionKind {
    /// Made and named by the tenant.
    Chunks,
    /// The embeddings of the tenant's memories.
    Memories,
}

/// One vector of each point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorParams {
    /// Dimensions, 1 to 65 536.
    pub size: usize,
    /// How two vectors are compared.
    pub metric: Metric,
}

/// The description of a collection, sealed in the catalog.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionSpec {
    /// How embeddings are protected.
    pub mode: Mode,
    /// The vectors of a point by name; the name of the only one may be empty.
    pub vectors: BTreeMap<String, VectorParams>,
    /// The sparse vectors of a point by name. No name is that of a dense one too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sparse: BTreeMap<String, SparseParams>,
    /// How payloads are packed before sealing.
    pub packing: Packing,
    /// The declared fields by path: those that an engine filters by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<String, FieldIndexSpec>,
    /// Which engine holds its points; [`Collection::engine`](super::Collection::engine) tells after it moved.
    #[serde(default)]
    pub engine: Engine,
    /// What language texts are in, for keyword search.
    #[serde(default, skip_serializing_if = "Language::is_default")]
    pub language: Language,
}

impl CollectionSpec {
    /// A `sealed` collection with one unnamed vector.
    pub fn new(size: usize, metric: Metric) -> Self {
        Self { vectors: BTreeMap::from([(String::new(), VectorParams { size, metric })]), ..Self::without_vectors() }
    }

    /// A `sealed` collection without vectors: for sparse ones, or for texts that are found by their words.
    pub fn without_vectors() -> Self {
        Self {
            mode: Mode::default(),
            vectors: BTreeMap::new(),
            sparse: BTreeMap::new(),
            packing: Packing::default(),
            indexes: BTreeMap::new(),
            engine: Engine::default(),
            language: Language::default(),
        }
    }

    /// The same with another mode.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The same with packing.
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// The same in another engine.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// The same with named vectors in place of what it had.
    #[must_use]
    pub fn named<N: Into<String>>(mut self, vectors: impl IntoIterator<Item = (N, VectorParams)>) -> Self {
        self.vectors = vectors.into_iter().map(|(name, params)| (name.into(), params)).collect();
        self
    }

    /// The same with a declared field.
    #[must_use]
    pub fn index(mut self, field: impl Into<String>, index: FieldIndexSpec) -> Self {
        self.indexes.insert(field.into(), index);
        self
    }

    /// The same with sparse vectors in place of those it had.
    #[must_use]
    pub fn sparse<N: Into<String>>(mut self, vectors: impl IntoIterator<Item = (N, SparseParams)>) -> Self {
        self.sparse = vectors.into_iter().map(|(name, params)| (name.into(), params)).collect();
        self
    }

    /// The same with texts in `language`.
    #[must_use]
    pub fn language(mut self, language: Language) -> Self {
        self.language = language;
        self
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<()> {
        if self.vectors.len() + self.sparse.len() > limits::NAMED_VECTORS {
            return Err(Error::invalid(format!("a collection has at most {} vectors", limits::NAMED_VECTORS)));
        }
        for name in self.vectors.keys().chain(self.sparse.keys()).filter(|name| !name.is_empty()) {
            name.parse::<Name>()?;
        }
        if self.sparse.contains_key("") {
            return Err(Error::invalid("a sparse vector needs a name"));
        }
        if let Some(name) = self.sparse.keys().find(|name| self.vectors.contains_key(*name)) {
            return Err(Error::invalid(format!("`{name}` is the name of a dense and of a sparse vector"))
                .with_remedy("give one of them another name"));
        }
        for params in self.vectors.values() {
            if params.size == 0 || params.size > limits::VECTOR_DIMENSIONS {
                return Err(Error::invalid(format!("{} is not a number of dimensions", params.size))
                    .with_remedy(format!("use 1 to {}", limits::VECTOR_DIMENSIONS)));
            }
            if self.mode == Mode::Veiled && params.metric != Metric::Cosine {
                return Err(Error::invalid(format!(
                    "a veil keeps directions only, so a `veiled` collection cannot compare by `{}`",
                    params.metric
                ))
                .with_remedy("use `cosine`, or the mode `sealed`"));
            }
        }
        Declared::new(&self.indexes).map(|_| ())
    }

    /// Whether its only vector is one without a name.
    pub(super) fn has_one_unnamed(&self) -> bool {
        self.vectors.len() == 1 && self.sparse.is_empty() && self.vectors.contains_key("")
    }

    /// The position and parameters of the dense vector called `name`; without a name, of the one that has none, or of
    /// the only one.
    pub fn vector(&self, name: Option<&str>) -> Result<(u8, VectorParams)> {
        let found = find(&self.vectors, name).ok_or_else(|| self.no_such_vector("dense", name))?;
        Ok((position(found.0)?, *found.1))
    }

    /// The position among sparse vectors and the parameters of the one called `name`; without a name, of the only one.
    pub fn sparse_vector(&self, name: Option<&str>) -> Result<(u8, SparseParams)> {
        let found = find(&self.sparse, name).ok_or_else(|| self.no_such_vector("sparse", name))?;
        Ok((position(found.0)?, *found.1))
    }

    fn no_such_vector(&self, kind: &str, name: Option<&str>) -> Error {
        let list = |names: Vec<&String>| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let (dense, sparse) = (list(self.vectors.keys().collect()), list(self.sparse.keys().collect()));
        let known = match (dense.is_empty(), sparse.is_empty()) {
            (true, true) => "it has none".to_owned(),
            (false, true) => format!("it has {dense}"),
            (true, false) => format!("it has {sparse}, sparse"),
            (false, false) => format!("it has {dense}, and {sparse}, sparse"),
        };
        let of_kind = if kind == "sparse" { self.sparse.len() } else { self.vectors.len() };
        let error = match name {
            Some(name) => format!("the collection has no {kind} vector `{}`", crate::id::shown(name)),
            None if of_kind == 0 => format!("the collection has no {kind} vector"),
            None => format!("the collection has several {kind} vectors and none was named"),
        };
        Error::invalid(error).with_remedy(known)
    }
}

/// The vector called `name`; without a name, the one that has none, or the only one.
fn find<'a, P>(vectors: &'a BTreeMap<String, P>, name: Option<&str>) -> Option<(usize, &'a P)> {
    let wanted = match name {
        Some(name) => name,
        None if vectors.len() == 1 => vectors.keys().next()?,
        None => "",
    };
    vectors.iter().enumerate().find(|(_, (name, _))| *name == wanted).map(|(at, (_, params))| (at, params))
}

fn position(at: usize) -> Result<u8> {
    u8::try_from(at).map_err(|_| Error::internal("too many vectors"))
}
