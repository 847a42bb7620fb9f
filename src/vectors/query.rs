//! What can be asked of a collection: nearest, recommended, by words, and several of these fused or scored again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::limits;

use super::{Fusion, SparseVector};

/// Says of each id whether it may be found.
pub type IdFilter = Arc<dyn Fn(&RecordId) -> bool + Send + Sync>;

/// A query, with the meaning that Qdrant gives to its parts.
///
/// Without [`prefetch`](Self::prefetch) it looks through the whole collection. With it, a [`Fusion`] merges what was
/// prefetched, and anything else scores again what was prefetched and nothing else. Records that a query anywhere in it
/// names by id are never found.
#[derive(Clone)]
pub struct QueryRequest {
    /// What is asked. Without it and without prefetches: records in the order of their ids, with score 1.
    pub query: Option<Query>,
    /// What comes first. The `limit` of each is that of its own results.
    pub prefetch: Vec<QueryRequest>,
    /// Which vector of the points is compared with, dense or sparse; needed when there are several.
    pub using: Option<String>,
    /// What may be found here and in all that is prefetched; `None` is all.
    pub among: Option<IdFilter>,
    /// How many results at most.
    pub limit: usize,
    /// How many of the best are left out before them.
    pub offset: usize,
    /// The worst score that is still a result.
    pub score_threshold: Option<f32>,
    /// In `plain` mode: scan all vectors instead of walking the engine's graph.
    pub exact: bool,
    /// In `plain` mode: how many candidates the graph walk keeps (`hnsw_ef`).
    pub ef: Option<usize>,
}

/// What a [`QueryRequest`] asks.
#[derive(Clone)]
pub enum Query {
    /// The nearest to a vector.
    Nearest(VectorInput),
    /// What is like some vectors and unlike others.
    Recommend(Recommend),
    /// Whose texts have these words, ranked by BM25.
    Text(String),
    /// What was prefetched, fused into one list.
    Fusion(Fusion),
}

/// A vector of a query. Erased when dropped.
#[derive(Clone)]
pub enum VectorInput {
    /// The one that this record has.
    Id(RecordId),
    /// A dense one.
    Dense(Vec<f32>),
    /// A sparse one.
    Sparse(SparseVector),
}

/// Examples of what is wanted and of what is not.
#[derive(Clone, Default)]
pub struct Recommend {
    /// Of what is wanted.
    pub positive: Vec<VectorInput>,
    /// Of what is not.
    pub negative: Vec<VectorInput>,
    /// How they become one score.
    pub strategy: RecommendStrategy,
}

/// How examples become one score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecommendStrategy {
    /// The nearest to one vector: twice the mean of the positive ones less the mean of the negative ones.
    #[default]
    AverageVector,
    /// By the best of the positive examples, or against the best of the negative ones where that is nearer: ½ (1 + s /
    /// (1 + |s|)) of its score s, negated for a negative one.
    BestScore,
    /// The sum of the scores against positive examples less those against negative ones.
    SumScores,
}

impl QueryRequest {
    /// The best `limit` for `query`.
    pub fn new(query: impl Into<Query>, limit: usize) -> Self {
        Self { query: Some(query.into()), ..Self::all(limit) }
    }

    /// The first `limit` records in the order of their ids.
    pub fn all(limit: usize) -> Self {
        Self {
            query: None,
            prefetch: Vec::new(),
            using: None,
            among: None,
            limit,
            offset: 0,
            score_threshold: None,
            exact: false,
            ef: None,
        }
    }

    /// Nearest to `vector` and by the words of `text`, fused by reciprocal rank: `candidates` of each.
    pub fn hybrid(vector: Vec<f32>, text: impl Into<String>, candidates: usize, limit: usize) -> Self {
        let dense = Self::new(vector, candidates);
        let words = Self::new(Query::Text(text.into()), candidates);
        Self::new(Fusion::rrf(), limit).prefetch([dense, words])
    }

    /// The same after `prefetch`.
    #[must_use]
    pub fn prefetch(mut self, prefetch: impl IntoIterator<Item = QueryRequest>) -> Self {
        self.prefetch = prefetch.into_iter().collect();
        self
    }

    /// The same, comparing with the vector called `name`.
    #[must_use]
    pub fn using(mut self, name: impl Into<String>) -> Self {
        self.using = Some(name.into());
        self
    }

    /// The same among records whose ids pass.
    #[must_use]
    pub fn among(mut self, pass: impl Fn(&RecordId) -> bool + Send + Sync + 'static) -> Self {
        self.among = Some(Arc::new(pass));
        self
    }

    /// The same without the best `offset`.
    #[must_use]
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// The same, without results worse than `score`.
    #[must_use]
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.score_threshold = Some(score);
        self
    }

    /// How many results are looked for.
    pub(super) fn most(&self) -> usize {
        self.limit.saturating_add(self.offset)
    }

    /// Checks the bounds of this query and of all that it prefetches.
    pub(super) fn validate(&self) -> Result<()> {
        let mut queries = 0;
        self.each(&mut |request| {
            queries += 1;
            if queries > limits::QUERIES {
                return Err(Error::invalid(format!("a query prefetches at most {} others", limits::QUERIES - 1)));
            }
            request.validate_alone()
        })
    }

    fn validate_alone(&self) -> Result<()> {
        if self.most() > limits::SEARCH_RESULTS {
            return Err(Error::invalid(format!("a search has at most {} results", limits::SEARCH_RESULTS)));
        }
        match &self.query {
            None if !self.prefetch.is_empty() => Err(Error::invalid("there are prefetches and no query for them")
                .with_remedy("say how they are fused, or what they are scored by")),
            Some(Query::Fusion(fusion)) => fusion.validate(self.prefetch.len()),
            Some(Query::Text(text)) if text.len() > limits::QUERY_TEXT_BYTES => {
                Err(Error::invalid(format!("the text of the query has {} bytes", text.len()))
                    .with_remedy(format!("shorten it to {} KiB", limits::QUERY_TEXT_BYTES >> 10)))
            }
            Some(Query::Recommend(recommend)) => recommend.validate(),
            _ => Ok(()),
        }
    }

    /// Every id that a query names anywhere.
    pub(super) fn named_ids(&self) -> Vec<RecordId> {
        let mut ids = Vec::new();
        let visit = self.each(&mut |request| {
            let inputs: Vec<&VectorInput> = match &request.query {
                Some(Query::Nearest(input)) => vec![input],
                Some(Query::Recommend(recommend)) => recommend.inputs().collect(),
                _ => Vec::new(),
            };
            ids.extend(inputs.into_iter().filter_map(|input| match input {
                VectorInput::Id(id) => Some(id.clone()),
                _ => None,
            }));
            Ok(())
        });
        debug_assert!(visit.is_ok(), "nothing is refused");
        ids.sort();
        ids.dedup();
        ids
    }

    /// Calls `visit` with this request and all that it prefetches, outer ones first.
    fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Self) -> Result<()>) -> Result<()> {
        let mut waiting = vec![self];
        while let Some(request) = waiting.pop() {
            visit(request)?;
            waiting.extend(&request.prefetch);
        }
        Ok(())
    }
}

impl Recommend {
    pub(super) fn inputs(&self) -> impl Iterator<Item = &VectorInput> {
        self.positive.iter().chain(&self.negative)
    }

    fn validate(&self) -> Result<()> {
        let examples = self.positive.len() + self.negative.len();
        if examples > limits::QUERY_EXAMPLES {
            return Err(Error::invalid(format!("a recommendation has at most {} examples", limits::QUERY_EXAMPLES)));
        }
        match self.strategy {
            RecommendStrategy::AverageVector if self.positive.is_empty() => {
                Err(Error::invalid("`average_vector` needs a positive example")
                    .with_remedy("give one, or use `best_score`"))
            }
            _ if examples == 0 => Err(Error::invalid("a recommendation needs an example")),
            _ => Ok(()),
        }
    }
}

impl From<Vec<f32>> for Query {
    fn from(vector: Vec<f32>) -> Self {
        Self::Nearest(VectorInput::Dense(vector))
    }
}

impl From<SparseVector> for Query {
    fn from(vector: SparseVector) -> Self {
        Self::Nearest(VectorInput::Sparse(vector))
    }
}

impl From<RecordId> for Query {
    fn from(id: RecordId) -> Self {
        Self::Nearest(VectorInput::Id(id))
    }
}

impl From<Recommend> for Query {
    fn from(recommend: Recommend) -> Self {
        Self::Recommend(recommend)
    }
}

impl From<Fusion> for Query {
    fn from(fusion: Fusion) -> Self {
        Self::Fusion(fusion)
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if let Self::Text(text) = self {
            text.zeroize();
        }
    }
}

impl Drop for VectorInput {
    fn drop(&mut self) {
        // A sparse one erases itself.
        if let Self::Dense(vector) = self {
            vector.zeroize();
        }
    }
}
