//! The bodies of questions as earlier versions ask them.

use serde::Deserialize;
use serde_json::Value;

use super::body::{ParamsBody, WithLookupBody};
use super::{Ask, GroupQuestion, LookupFrom, Question, Strategy};
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::select::{Wanted, WithPayload, WithVector};
use crate::server::qdrant::model::vector::{VectorInput, VectorValue};
use crate::server::qdrant::model::{RawFilter, no_shard_key};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct SearchBody {
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
pub(in crate::server::qdrant) struct SearchGroupsBody {
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
pub(in crate::server::qdrant) struct RecommendBody {
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
pub(in crate::server::qdrant) struct RecommendGroupsBody {
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

/// The vector of the search of earlier versions: with its name beside it, if it has one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(in crate::server::qdrant) enum NamedVectorBody {
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
