//! What questions come to.

use serde::Serialize;

use crate::server::qdrant::model::PointId;
use crate::server::qdrant::model::points::{Record, ScoredPoint};

/// A page of points, and where the next begins.
#[derive(Serialize)]
pub(in crate::server::qdrant) struct Page {
    pub(in crate::server::qdrant) points: Vec<Record>,
    pub(in crate::server::qdrant) next_page_offset: Option<PointId>,
}

/// What was found.
#[derive(Serialize)]
pub(in crate::server::qdrant) struct Found {
    pub(in crate::server::qdrant) points: Vec<ScoredPoint>,
}

#[derive(Serialize)]
pub(in crate::server::qdrant) struct Groups {
    pub(in crate::server::qdrant) groups: Vec<Group>,
}

#[derive(Serialize)]
pub(in crate::server::qdrant) struct Group {
    pub(in crate::server::qdrant) hits: Vec<ScoredPoint>,
    pub(in crate::server::qdrant) id: GroupId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server::qdrant) lookup: Option<Record>,
}

/// The value of a field that points are grouped by.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub(in crate::server::qdrant) enum GroupId {
    Unsigned(u64),
    Signed(i64),
    Words(String),
}

#[derive(Serialize)]
pub(in crate::server::qdrant) struct Facets {
    pub(in crate::server::qdrant) hits: Vec<Facet>,
}

#[derive(Serialize)]
pub(in crate::server::qdrant) struct Facet {
    pub(in crate::server::qdrant) value: FacetValue,
    pub(in crate::server::qdrant) count: u64,
}

/// A value that is counted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub(in crate::server::qdrant) enum FacetValue {
    Bool(bool),
    Int(i64),
    Words(String),
}

impl FacetValue {
    /// About how many bytes of a record it tells.
    pub(in crate::server::qdrant) fn len(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int(_) => 8,
            Self::Words(words) => words.len(),
        }
    }
}
