//! The joint to a vector engine. An engine sees sealed bytes, blinded ids, blind tokens and, in modes that it searches,
//! vectors.

use uuid::Uuid;

use crate::error::Result;

use super::{CollectionId, Metric};

/// A point as an engine holds it.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Point {
    /// The blinded record id.
    pub id: Uuid,
    /// The epoch it is sealed in.
    pub epoch: u32,
    /// The record's version.
    pub version: u64,
    /// The sealed payload.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// The sealed vector.
    #[serde(with = "serde_bytes")]
    pub vector: Vec<u8>,
    /// In modes that the engine searches: each vector by its position in the collection's description.
    pub searchable: Vec<(u8, Vec<f32>)>,
    /// Which of the collection's parts it belongs to: a part is searched alone. `None` where there are no parts.
    pub tag: Option<[u8; 16]>,
    /// The blind tokens that filters ask for.
    pub tokens: Vec<[u8; 16]>,
}

/// What an engine is to search and filter the points of a collection by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// The vectors of a point that are searched; none in modes that the engine does not search.
    pub vectors: Vec<SearchableVector>,
    /// Whether points have a tag, by which every search is filtered: a search graph for each, and none of the whole.
    pub tags: bool,
    /// Whether points have tokens to filter by.
    pub tokens: bool,
}

/// A vector that an engine is to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchableVector {
    /// Its position in the collection's description; engines never see the name.
    pub position: u8,
    /// Dimensions.
    pub size: usize,
    /// How it is compared.
    pub metric: Metric,
}

/// Which points are asked for, by what an engine may know of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFilter {
    /// Those that pass all of these; every point does if there are none.
    All(Vec<TokenFilter>),
    /// Those that pass one of these at least; no point does if there are none.
    Any(Vec<TokenFilter>),
    /// Those that do not pass it.
    Not(Box<TokenFilter>),
    /// Those that have the token.
    Token([u8; 16]),
    /// Those that have the tag.
    Tag([u8; 16]),
}

impl TokenFilter {
    /// Whether a point with `tag` and `tokens` passes.
    pub fn passes(&self, tag: Option<&[u8; 16]>, tokens: &[[u8; 16]]) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.passes(tag, tokens)),
            Self::Any(parts) => parts.iter().any(|part| part.passes(tag, tokens)),
            Self::Not(part) => !part.passes(tag, tokens),
            Self::Token(token) => tokens.contains(token),
            Self::Tag(wanted) => tag == Some(wanted),
        }
    }
}

/// A page of points, and the id to go on from.
pub type Page = (Vec<Point>, Option<Uuid>);

/// Which fields of a point are wanted besides its id; those that are not are left empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Epoch, version, payload, vector, tag and tokens.
    Both,
    /// Epoch, version and payload.
    Payload,
    /// Epoch, version and vector.
    Vector,
    /// Epoch and version.
    Head,
    /// None: who searches wants ids and scores.
    Id,
}

/// A question to an engine.
#[derive(Clone, Copy)]
pub struct Nearest<'a> {
    /// Which vector.
    pub position: u8,
    /// The query.
    pub vector: &'a [f32],
    /// How many.
    pub limit: usize,
    /// Scan everything.
    pub exact: bool,
    /// How many candidates a graph walk keeps.
    pub ef: Option<usize>,
    /// Among which points; `None` is all.
    pub filter: Option<&'a TokenFilter>,
    /// What is wanted of those that are found.
    pub fields: Fields,
}

/// What an engine says of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineStatus {
    /// Points.
    pub points: usize,
    /// Vectors in a search graph.
    pub indexed_vectors: usize,
}

/// A vector engine: makes and drops collections.
pub trait VectorBackend: Send + Sync {
    /// Opens the engine's collection `id`, making it if it is not there. Its vectors are those that it was made with;
    /// tags and tokens may come later.
    fn open(&self, id: CollectionId, shape: &Shape) -> Result<Box<dyn EngineCollection>>;

    /// Removes the collection `id` and everything in it; one that is not there is no error.
    fn drop_collection(&self, id: CollectionId) -> Result<()>;
}

/// One open collection of an engine. Writes come one at a time; reads may come beside them.
pub trait EngineCollection: Send + Sync {
    /// Writes points, replacing those with the same ids. They may be lost on a crash until [`flush`](Self::flush).
    fn upsert(&self, points: Vec<Point>) -> Result<()>;

    /// Removes points that have no newer version than `through`: a removal that arrives late leaves what came after it.
    /// Ids that are not there are no error.
    fn delete(&self, ids: &[Uuid], through: u64) -> Result<()>;

    /// The points with `ids` that are there, in any order; those `fields` of them that are asked for.
    fn retrieve(&self, ids: &[Uuid], fields: Fields) -> Result<Vec<Point>>;

    /// Up to `limit` points in the order of their ids, from `from` on, and the id to go on from; those `fields` of them
    /// that are asked for, and with both of these the vectors that the engine searches.
    fn scroll(&self, from: Option<Uuid>, limit: usize, fields: Fields) -> Result<Page> {
        self.scroll_filtered(from, limit, fields, None)
    }

    /// The same of the points that pass `filter`.
    fn scroll_filtered(
        &self,
        from: Option<Uuid>,
        limit: usize,
        fields: Fields,
        filter: Option<&TokenFilter>,
    ) -> Result<Page>;

    /// The nearest points that pass the filter and their scores, best first.
    fn search(&self, nearest: &Nearest<'_>) -> Result<Vec<(Point, f32)>>;

    /// How many points there are, and how far they are indexed.
    fn status(&self) -> Result<EngineStatus>;

    /// Has the disk catch up while others write on, as far as it can: a flush after that keeps them waiting for less.
    fn write_back(&self) {}

    /// Returns once everything written is on stable storage; `false` when that has to wait for a running optimisation.
    fn flush(&self) -> Result<bool>;

    /// Builds search graphs and reclaims space where that is due; long. Returns whether anything was done.
    fn optimize(&self) -> Result<bool>;
}
