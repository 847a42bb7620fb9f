//! Questions: what is near, what is like that, what comes first, how many there are.

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::points::{Record, ScoredPoint};
use super::select::{Wanted, WithPayload, WithVector};
use super::vector::{VectorInput, VectorValue};
use super::{OneOrMany, PointId, RawFilter, no_shard_key};
use crate::server::qdrant::failure::{Answer, Failure};

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

/// A key, or all about the order.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(in super::super) enum OrderByBody {
    Key(String),
    Full(OrderBy),
}

impl From<OrderByBody> for OrderBy {
    fn from(body: OrderByBody) -> Self {
        match body {
            OrderByBody::Key(key) => Self { key, direction: None, start_from: None },
            OrderByBody::Full(order) => order,
        }
    }
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

#[derive(Deserialize)]
#[serde(untagged)]
pub(in super::super) enum WithLookupBody {
    Collection(String),
    Full(WithLookupFull),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WithLookupFull {
    collection: String,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default)]
    with_vectors: Option<WithVector>,
}

impl From<WithLookupBody> for WithLookup {
    fn from(body: WithLookupBody) -> Self {
        match body {
            WithLookupBody::Collection(collection) => Self { collection, wanted: Wanted::new(None, None, true) },
            WithLookupBody::Full(full) => {
                Self { collection: full.collection, wanted: Wanted::new(full.with_payload, full.with_vectors, true) }
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ParamsBody {
    #[serde(default)]
    hnsw_ef: Option<usize>,
    #[serde(default)]
    exact: Option<bool>,
    // How Qdrant's own indexes are walked: where Strongroom searches there are none, and nothing is left out.
    #[serde(default, rename = "quantization")]
    _quantization: Option<de::IgnoredAny>,
    #[serde(default, rename = "indexed_only")]
    _indexed_only: Option<bool>,
    #[serde(default, rename = "acorn")]
    _acorn: Option<de::IgnoredAny>,
    #[serde(default)]
    idf: Option<Value>,
}

impl TryFrom<Option<ParamsBody>> for Params {
    type Error = Failure;

    fn try_from(body: Option<ParamsBody>) -> Answer<Self> {
        let body = body.unwrap_or_default();
        if body.idf.is_some_and(|idf| !idf.is_null() && idf != "global") {
            return Err(no_idf_corpus());
        }
        Ok(Self { ef: body.hnsw_ef, exact: body.exact.unwrap_or(false) })
    }
}

pub(in super::super) fn no_idf_corpus() -> Failure {
    Failure::unsupported(
        "the weights of terms are those of the whole collection: leave out `idf`, or keep such a corpus in a \
         collection of its own",
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PrefetchBody {
    #[serde(default)]
    prefetch: Option<Box<OneOrMany<PrefetchBody>>>,
    #[serde(default)]
    query: Option<AskBody>,
    #[serde(default)]
    using: Option<String>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    params: Option<ParamsBody>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    lookup_from: Option<LookupFrom>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct QueryBody {
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    prefetch: Option<OneOrMany<PrefetchBody>>,
    #[serde(default)]
    query: Option<AskBody>,
    #[serde(default)]
    using: Option<String>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    params: Option<ParamsBody>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default)]
    lookup_from: Option<LookupFrom>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct QueryGroupsBody {
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    prefetch: Option<OneOrMany<PrefetchBody>>,
    #[serde(default)]
    query: Option<AskBody>,
    #[serde(default)]
    using: Option<String>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    params: Option<ParamsBody>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default)]
    lookup_from: Option<LookupFrom>,
    group_by: String,
    #[serde(default)]
    group_size: Option<usize>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    with_lookup: Option<WithLookupBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SearchesBody<T> {
    pub(in super::super) searches: Vec<T>,
}

/// The vector of the search of earlier versions: with its name beside it, if it has one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(in super::super) enum NamedVectorBody {
    Named { name: String, vector: VectorValue },
    Unnamed(VectorValue),
}

impl NamedVectorBody {
    fn parts(self) -> (Option<String>, VectorInput) {
        match self {
            Self::Named { name, vector } => (Some(name), VectorInput::Vector(vector)),
            Self::Unnamed(vector) => (None, VectorInput::Vector(vector)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SearchBody {
    #[serde(default)]
    shard_key: Option<Value>,
    vector: NamedVectorBody,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    params: Option<ParamsBody>,
    limit: usize,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    score_threshold: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SearchGroupsBody {
    #[serde(default)]
    shard_key: Option<Value>,
    vector: NamedVectorBody,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    params: Option<ParamsBody>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    score_threshold: Option<f32>,
    group_by: String,
    group_size: usize,
    limit: usize,
    #[serde(default)]
    with_lookup: Option<WithLookupBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RecommendBody {
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    positive: Vec<VectorInput>,
    #[serde(default)]
    negative: Vec<VectorInput>,
    #[serde(default)]
    strategy: Option<Strategy>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    params: Option<ParamsBody>,
    limit: usize,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default)]
    using: Option<String>,
    #[serde(default)]
    lookup_from: Option<LookupFrom>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RecommendGroupsBody {
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    positive: Vec<VectorInput>,
    #[serde(default)]
    negative: Vec<VectorInput>,
    #[serde(default)]
    strategy: Option<Strategy>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    params: Option<ParamsBody>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default)]
    using: Option<String>,
    #[serde(default)]
    lookup_from: Option<LookupFrom>,
    group_by: String,
    group_size: usize,
    limit: usize,
    #[serde(default)]
    with_lookup: Option<WithLookupBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ScrollBody {
    #[serde(default)]
    shard_key: Option<Value>,
    #[serde(default)]
    offset: Option<PointId>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    filter: Option<RawFilter>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    with_vector: Option<WithVector>,
    #[serde(default)]
    order_by: Option<OrderByBody>,
}

/// A page of points.
pub(in super::super) struct Scroll {
    pub(in super::super) offset: Option<PointId>,
    pub(in super::super) limit: usize,
    pub(in super::super) filter: Option<RawFilter>,
    pub(in super::super) wanted: Wanted,
    pub(in super::super) order_by: Option<OrderBy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct CountBody {
    #[serde(default)]
    pub(in super::super) shard_key: Option<Value>,
    #[serde(default)]
    pub(in super::super) filter: Option<RawFilter>,
    // What is counted is always exact.
    #[serde(default, rename = "exact")]
    _exact: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct FacetBody {
    #[serde(default)]
    pub(in super::super) shard_key: Option<Value>,
    pub(in super::super) key: String,
    #[serde(default)]
    pub(in super::super) limit: Option<usize>,
    #[serde(default)]
    pub(in super::super) filter: Option<RawFilter>,
    #[serde(default, rename = "exact")]
    _exact: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PointsBody {
    #[serde(default)]
    pub(in super::super) shard_key: Option<Value>,
    pub(in super::super) ids: Vec<PointId>,
    #[serde(default)]
    pub(in super::super) with_payload: Option<WithPayload>,
    #[serde(default, alias = "with_vectors")]
    pub(in super::super) with_vector: Option<WithVector>,
}

/// What Qdrant finds unless told otherwise.
pub(in super::super) const LIMIT: usize = 10;
/// How many hits a group has unless told otherwise.
pub(in super::super) const GROUP_SIZE: usize = 3;

/// The question itself, in one of its many forms.
pub(in super::super) struct AskBody(Ask);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecommendInput {
    #[serde(default)]
    positive: Option<Vec<VectorInput>>,
    #[serde(default)]
    negative: Option<Vec<VectorInput>>,
    #[serde(default)]
    strategy: Option<Strategy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RrfInput {
    #[serde(default)]
    k: Option<usize>,
    #[serde(default)]
    weights: Option<Vec<f32>>,
}

impl<'de> Deserialize<'de> for AskBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        ask_from(value).map(Self).map_err(de::Error::custom)
    }
}

fn ask_from(value: Value) -> serde_json::Result<Ask> {
    let Value::Object(mut object) = value else {
        return serde_json::from_value(value).map(Ask::Nearest);
    };
    let only = |object: &super::Object| -> serde_json::Result<()> {
        if object.is_empty() { Ok(()) } else { Err(de::Error::custom("a query is one thing only")) }
    };
    if let Some(nearest) = object.remove("nearest") {
        if object.remove("mmr").is_some_and(|mmr| !mmr.is_null()) {
            return Ok(Ask::Other(Unoffered::Mmr));
        }
        only(&object)?;
        return serde_json::from_value(nearest).map(Ask::Nearest);
    }
    if let Some(recommend) = object.remove("recommend") {
        only(&object)?;
        let RecommendInput { positive, negative, strategy } = serde_json::from_value(recommend)?;
        return Ok(Ask::Recommend {
            positive: positive.unwrap_or_default(),
            negative: negative.unwrap_or_default(),
            strategy: strategy.unwrap_or_default(),
        });
    }
    if let Some(order) = object.remove("order_by") {
        only(&object)?;
        return serde_json::from_value::<OrderByBody>(order).map(|order| Ask::OrderBy(order.into()));
    }
    if let Some(fusion) = object.remove("fusion") {
        only(&object)?;
        return match fusion.as_str() {
            Some("rrf") => Ok(Ask::Rrf { k: None, weights: Vec::new() }),
            Some("dbsf") => Ok(Ask::Dbsf),
            _ => Err(de::Error::custom("a fusion is `rrf` or `dbsf`")),
        };
    }
    if let Some(rrf) = object.remove("rrf") {
        only(&object)?;
        let RrfInput { k, weights } = serde_json::from_value(rrf)?;
        return Ok(Ask::Rrf { k, weights: weights.unwrap_or_default() });
    }
    if let Some(sample) = object.remove("sample") {
        only(&object)?;
        return if sample == "random" { Ok(Ask::Sample) } else { Err(de::Error::custom("a sample is `random`")) };
    }
    let others = [
        ("discover", Unoffered::Discover),
        ("context", Unoffered::Context),
        ("formula", Unoffered::Formula),
        ("relevance_feedback", Unoffered::Feedback),
    ];
    if let Some((_, other)) = others.into_iter().find(|(name, _)| object.contains_key(*name)) {
        return Ok(Ask::Other(other));
    }
    if object.contains_key("text") && !object.contains_key("model") {
        return Ok(Ask::Other(Unoffered::Text));
    }
    serde_json::from_value(Value::Object(object)).map(Ask::Nearest)
}

impl TryFrom<PrefetchBody> for Prefetch {
    type Error = Failure;

    fn try_from(body: PrefetchBody) -> Answer<Self> {
        let inner = OneOrMany::list(body.prefetch.map(|inner| *inner));
        Ok(Self {
            prefetch: inner.into_iter().map(TryInto::try_into).collect::<Answer<_>>()?,
            ask: body.query.map_or(Ask::Ids, |ask| ask.0),
            using: body.using,
            filter: body.filter,
            params: body.params.try_into()?,
            threshold: body.score_threshold,
            limit: body.limit.unwrap_or(LIMIT),
            lookup_from: body.lookup_from,
        })
    }
}

impl TryFrom<QueryBody> for Question {
    type Error = Failure;

    fn try_from(body: QueryBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        let prefetch = OneOrMany::list(body.prefetch);
        Ok(Self {
            prefetch: prefetch.into_iter().map(TryInto::try_into).collect::<Answer<_>>()?,
            ask: body.query.map_or(Ask::Ids, |ask| ask.0),
            using: body.using,
            filter: body.filter,
            params: body.params.try_into()?,
            threshold: body.score_threshold,
            limit: body.limit.unwrap_or(LIMIT),
            offset: body.offset.unwrap_or(0),
            wanted: Wanted::new(body.with_payload, body.with_vector, false),
            lookup_from: body.lookup_from,
        })
    }
}

impl TryFrom<QueryGroupsBody> for GroupQuestion {
    type Error = Failure;

    fn try_from(body: QueryGroupsBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        let prefetch = OneOrMany::list(body.prefetch);
        let groups = body.limit.unwrap_or(LIMIT);
        let question = Question {
            prefetch: prefetch.into_iter().map(TryInto::try_into).collect::<Answer<_>>()?,
            ask: body.query.map_or(Ask::Ids, |ask| ask.0),
            using: body.using,
            filter: body.filter,
            params: body.params.try_into()?,
            threshold: body.score_threshold,
            limit: groups,
            offset: 0,
            wanted: Wanted::new(body.with_payload, body.with_vector, false),
            lookup_from: body.lookup_from,
        };
        let size = body.group_size.unwrap_or(GROUP_SIZE);
        Ok(Self { question, by: body.group_by, groups, size, lookup: body.with_lookup.map(Into::into) })
    }
}

impl TryFrom<SearchBody> for Question {
    type Error = Failure;

    fn try_from(body: SearchBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        let (using, vector) = body.vector.parts();
        Ok(Self {
            prefetch: Vec::new(),
            ask: Ask::Nearest(vector),
            using,
            filter: body.filter,
            params: body.params.try_into()?,
            threshold: body.score_threshold,
            limit: body.limit,
            offset: body.offset.unwrap_or(0),
            wanted: Wanted::new(body.with_payload, body.with_vector, false),
            lookup_from: None,
        })
    }
}

impl TryFrom<SearchGroupsBody> for GroupQuestion {
    type Error = Failure;

    fn try_from(body: SearchGroupsBody) -> Answer<Self> {
        let search = SearchBody {
            shard_key: body.shard_key,
            vector: body.vector,
            filter: body.filter,
            params: body.params,
            limit: body.limit,
            offset: None,
            with_payload: body.with_payload,
            with_vector: body.with_vector,
            score_threshold: body.score_threshold,
        };
        let (by, groups, size) = (body.group_by, body.limit, body.group_size);
        Ok(Self { question: search.try_into()?, by, groups, size, lookup: body.with_lookup.map(Into::into) })
    }
}

impl TryFrom<RecommendBody> for Question {
    type Error = Failure;

    fn try_from(body: RecommendBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        let RecommendBody { positive, negative, strategy, .. } = body;
        Ok(Self {
            prefetch: Vec::new(),
            ask: Ask::Recommend { positive, negative, strategy: strategy.unwrap_or_default() },
            using: body.using,
            filter: body.filter,
            params: body.params.try_into()?,
            threshold: body.score_threshold,
            limit: body.limit,
            offset: body.offset.unwrap_or(0),
            wanted: Wanted::new(body.with_payload, body.with_vector, false),
            lookup_from: body.lookup_from,
        })
    }
}

impl TryFrom<RecommendGroupsBody> for GroupQuestion {
    type Error = Failure;

    fn try_from(body: RecommendGroupsBody) -> Answer<Self> {
        let recommend = RecommendBody {
            shard_key: body.shard_key,
            positive: body.positive,
            negative: body.negative,
            strategy: body.strategy,
            filter: body.filter,
            params: body.params,
            limit: body.limit,
            offset: None,
            with_payload: body.with_payload,
            with_vector: body.with_vector,
            score_threshold: body.score_threshold,
            using: body.using,
            lookup_from: body.lookup_from,
        };
        let (by, groups, size) = (body.group_by, body.limit, body.group_size);
        Ok(Self { question: recommend.try_into()?, by, groups, size, lookup: body.with_lookup.map(Into::into) })
    }
}

impl TryFrom<ScrollBody> for Scroll {
    type Error = Failure;

    fn try_from(body: ScrollBody) -> Answer<Self> {
        no_shard_key(&body.shard_key)?;
        Ok(Self {
            offset: body.offset,
            limit: body.limit.unwrap_or(LIMIT),
            filter: body.filter,
            wanted: Wanted::new(body.with_payload, body.with_vector, true),
            order_by: body.order_by.map(Into::into),
        })
    }
}

/// A page of points, and where the next begins.
#[derive(Serialize)]
pub(in super::super) struct Page {
    pub(in super::super) points: Vec<Record>,
    pub(in super::super) next_page_offset: Option<PointId>,
}

/// What was found.
#[derive(Serialize)]
pub(in super::super) struct Found {
    pub(in super::super) points: Vec<ScoredPoint>,
}

#[derive(Serialize)]
pub(in super::super) struct Groups {
    pub(in super::super) groups: Vec<Group>,
}

#[derive(Serialize)]
pub(in super::super) struct Group {
    pub(in super::super) hits: Vec<ScoredPoint>,
    pub(in super::super) id: GroupId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) lookup: Option<Record>,
}

/// The value of a field that points are grouped by.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub(in super::super) enum GroupId {
    Unsigned(u64),
    Signed(i64),
    Words(String),
}

#[derive(Serialize)]
pub(in super::super) struct Facets {
    pub(in super::super) hits: Vec<Facet>,
}

#[derive(Serialize)]
pub(in super::super) struct Facet {
    pub(in super::super) value: FacetValue,
    pub(in super::super) count: u64,
}

/// A value that is counted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub(in super::super) enum FacetValue {
    Bool(bool),
    Int(i64),
    Words(String),
}

impl FacetValue {
    /// About how many bytes of a record it tells.
    pub(in super::super) fn len(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int(_) => 8,
            Self::Words(words) => words.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(json: &str) -> serde_json::Result<Ask> {
        serde_json::from_str::<AskBody>(json).map(|body| body.0)
    }

    #[test]
    fn questions_are_read_in_all_their_forms() {
        let near = [
            "7",
            "[1, 2]",
            r#"{"nearest": [1, 2]}"#,
            r#"{"nearest": 7, "mmr": null}"#,
            r#"{"indices": [1], "values": [1]}"#,
            r#"{"nearest": {"indices": [1], "values": [1]}}"#,
        ];
        for json in near {
            assert!(matches!(ask(json).unwrap(), Ask::Nearest(_)), "{json}");
        }
        assert!(matches!(ask(r#"{"recommend": {"positive": [1]}}"#).unwrap(), Ask::Recommend { .. }));
        assert!(matches!(ask(r#"{"fusion": "rrf"}"#).unwrap(), Ask::Rrf { k: None, .. }));
        assert!(matches!(ask(r#"{"rrf": {"k": 3}}"#).unwrap(), Ask::Rrf { k: Some(3), .. }));
        assert!(matches!(ask(r#"{"order_by": "price"}"#).unwrap(), Ask::OrderBy(_)));
        assert!(matches!(ask(r#"{"sample": "random"}"#).unwrap(), Ask::Sample));
        for json in [r#"{"fusion": "x"}"#, r#"{"nearest": [1], "recommend": {}}"#, "null", "true", "{}"] {
            assert!(ask(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_not_offered_is_known_as_such() {
        for (json, what) in [
            (r#"{"discover": {"target": 1, "context": []}}"#, Unoffered::Discover),
            (r#"{"context": []}"#, Unoffered::Context),
            (r#"{"formula": {"sum": []}}"#, Unoffered::Formula),
            (r#"{"nearest": [1], "mmr": {"diversity": 0.5}}"#, Unoffered::Mmr),
            (r#"{"text": "words"}"#, Unoffered::Text),
        ] {
            assert!(matches!(ask(json).unwrap(), Ask::Other(other) if other == what), "{json}");
        }
    }
}
