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

use super::Metric;

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
    /// How payloads are packed before sealing.
    pub packing: Packing,
}

impl CollectionSpec {
    /// A `sealed` collection with one unnamed vector.
    pub fn new(size: usize, metric: Metric) -> Self {
        Self {
            mode: Mode::default(),
            vectors: BTreeMap::from([(String::new(), VectorParams { size, metric })]),
            packing: Packing::default(),
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

    /// The same with named vectors in place of what it had.
    #[must_use]
    pub fn named<N: Into<String>>(mut self, vectors: impl IntoIterator<Item = (N, VectorParams)>) -> Self {
        self.vectors = vectors.into_iter().map(|(name, params)| (name.into(), params)).collect();
        self
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<()> {
        if self.vectors.is_empty() || self.vectors.len() > limits::NAMED_VECTORS {
            return Err(Error::invalid(format!("a collection has 1 to {} vectors", limits::NAMED_VECTORS)));
        }
        for (name, params) in &self.vectors {
            if !name.is_empty() {
                name.parse::<Name>()?;
            }
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
        Ok(())
    }

    /// The position and parameters of the vector called `name`; without a name, of the only one.
    pub fn vector(&self, name: Option<&str>) -> Result<(u8, VectorParams)> {
        let known = || {
            let names: Vec<_> = self.vectors.keys().map(|n| format!("`{n}`")).collect();
            format!("it has {}", names.join(", "))
        };
        let (at, (_, params)) = match name {
            Some(name) => self.vectors.iter().enumerate().find(|(_, (n, _))| *n == name).ok_or_else(|| {
                Error::invalid(format!("the collection has no vector `{}`", crate::id::shown(name)))
                    .with_remedy(known())
            })?,
            None if self.vectors.len() == 1 => {
                self.vectors.iter().enumerate().next().ok_or_else(|| Error::internal("a collection without vectors"))?
            }
            None => {
                return Err(
                    Error::invalid("the collection has several vectors and none was named").with_remedy(known())
                );
            }
        };
        Ok((u8::try_from(at).map_err(|_| Error::internal("too many vectors"))?, *params))
    }
}
