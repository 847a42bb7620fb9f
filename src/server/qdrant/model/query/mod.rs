//! Questions: what is near, what is like that, what comes first, how many there are.
//!
//! What they are is here, however they were asked; in what forms REST has them, in the modules below.

mod ask;
mod body;
mod earlier;
mod found;
mod read;

use serde::Deserialize;
use serde_json::Value;

use super::select::Wanted;
use super::vector::VectorInput;
use super::{PointId, RawFilter};
use crate::server::qdrant::failure::Failure;

pub(in super::super) use body::{QueryBody, QueryGroupsBody, SearchesBody};
pub(in super::super) use earlier::{RecommendBody, RecommendGroupsBody, SearchBody, SearchGroupsBody};
pub(in super::super) use found::{Facet, FacetValue, Facets, Found, Group, GroupId, Groups, Page};
pub(in super::super) use read::{CountBody, FacetBody, PointsBody, ScrollBody};

/// What Qdrant finds unless told otherwise.
pub(in super::super) const LIMIT: usize = 10;
/// How many hits a group has unless told otherwise.
pub(in super::super) const GROUP_SIZE: usize = 3;

/// A question, however it was asked.
pub(in super::super) struct Question {
    pub(in super::super) prefetch: Vec<Prefetch>,
    pub(in super::super) ask: Ask,
    pub(in super::super) using: Option<String>,
    pub(in super::super) filter: Option<RawFilter>,
    pub(in super::super) params: Params,
    pub(in super::super) threshold: Option<f32>,
    pub(in super::super) limit: usize,
    pub(in super::super) offset: usize,
    pub(in super::super) wanted: Wanted,
    pub(in super::super) lookup_from: Option<LookupFrom>,
}

/// Candidates that are found before the question itself is put to them.
pub(in super::super) struct Prefetch {
    pub(in super::super) prefetch: Vec<Prefetch>,
    pub(in super::super) ask: Ask,
    pub(in super::super) using: Option<String>,
    pub(in super::super) filter: Option<RawFilter>,
    pub(in super::super) params: Params,
    pub(in super::super) threshold: Option<f32>,
    pub(in super::super) limit: usize,
    pub(in super::super) lookup_from: Option<LookupFrom>,
}

/// What is asked.
pub(in super::super) enum Ask {
    /// Nothing: the points in the order of their ids.
    Ids,
    /// What is nearest.
    Nearest(VectorInput),
    /// What is like these and unlike those.
    Recommend { positive: Vec<VectorInput>, negative: Vec<VectorInput>, strategy: Strategy },
    /// What comes first by a field of the payload.
    OrderBy(OrderBy),
    /// What ranks well in all prefetches.
    Rrf { k: Option<usize>, weights: Vec<f32> },
    /// What has good scores in all prefetches.
    Dbsf,
    /// Some points by chance.
    Sample,
    /// What Qdrant has and Strongroom does not.
    Other(Unoffered),
}

/// Questions that Strongroom does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Unoffered {
    Discover,
    Context,
    Formula,
    Mmr,
    Feedback,
    Text,
}

impl Unoffered {
    pub(in super::super) fn refusal(self) -> Failure {
        Failure::unsupported(match self {
            Unoffered::Discover => {
                "discovery is not offered, since pairs of examples are not scored in trusted memory: ask with \
                 `recommend` and its strategy `best_score`, which takes positive and negative examples"
            }
            Unoffered::Context => {
                "context search is not offered, since pairs of examples are not scored in trusted memory: ask with \
                 `recommend` and its strategy `best_score`, which takes positive and negative examples"
            }
            Unoffered::Formula => {
                "formulas are not offered, since they would be evaluated on opened payloads: ask for more candidates \
                 with their payload, and score those in your program"
            }
            Unoffered::Mmr => {
                "results are not made diverse here: ask for more candidates with their vectors, and choose from those \
                 in your program"
            }
            Unoffered::Feedback => {
                "relevance feedback is not offered: ask with `recommend`, with what was relevant as positive examples"
            }
            Unoffered::Text => {
                "no text is ranked here: store a sparse vector of your tokenizer, in a collection whose `modifier` is \
                 `idf`, and ask for the nearest to that of the query"
            }
        })
    }
}

/// How examples are weighed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Strategy {
    #[default]
    AverageVector,
    BestScore,
    SumScores,
}

/// How an engine walks; answers are exact where Strongroom searches.
#[derive(Clone, Default)]
pub(in super::super) struct Params {
    pub(in super::super) ef: Option<usize>,
    pub(in super::super) exact: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct LookupFrom {
    pub(in super::super) collection: String,
    #[serde(default)]
    pub(in super::super) vector: Option<String>,
    #[serde(default)]
    pub(in super::super) shard_key: Option<Value>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct OrderBy {
    pub(in super::super) key: String,
    #[serde(default)]
    pub(in super::super) direction: Option<Direction>,
    #[serde(default)]
    pub(in super::super) start_from: Option<StartFrom>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Direction {
    Asc,
    Desc,
}

/// From which value on, inclusive.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(in super::super) enum StartFrom {
    Int(i64),
    Float(f64),
    Datetime(String),
}

/// A question in groups.
pub(in super::super) struct GroupQuestion {
    pub(in super::super) question: Question,
    pub(in super::super) by: String,
    pub(in super::super) groups: usize,
    pub(in super::super) size: usize,
    pub(in super::super) lookup: Option<WithLookup>,
}

/// Points of another collection to show with groups, by the groups' ids.
pub(in super::super) struct WithLookup {
    pub(in super::super) collection: String,
    pub(in super::super) wanted: Wanted,
}

/// A page of points.
pub(in super::super) struct Scroll {
    pub(in super::super) offset: Option<PointId>,
    pub(in super::super) limit: usize,
    pub(in super::super) filter: Option<RawFilter>,
    pub(in super::super) wanted: Wanted,
    pub(in super::super) order_by: Option<OrderBy>,
}

pub(in super::super) fn no_idf_corpus() -> Failure {
    Failure::unsupported(
        "the weights of terms are those of the whole collection: leave out `idf`, or keep such a corpus in a \
         collection of its own",
    )
}
