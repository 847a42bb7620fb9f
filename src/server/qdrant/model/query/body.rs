//! The bodies of questions as they are asked now, and what those of earlier versions share with them.

use serde::{Deserialize, de};
use serde_json::Value;

use super::ask::AskBody;
use super::{Ask, GROUP_SIZE, GroupQuestion, LIMIT, LookupFrom, Params, Prefetch, Question, WithLookup, no_idf_corpus};
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::select::{Wanted, WithPayload, WithVector};
use crate::server::qdrant::model::{OneOrMany, RawFilter, no_shard_key};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct QueryBody {
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
pub(in crate::server::qdrant) struct QueryGroupsBody {
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
pub(in crate::server::qdrant) struct PrefetchBody {
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
pub(in crate::server::qdrant) struct SearchesBody<T> {
    pub(in crate::server::qdrant) searches: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct ParamsBody {
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

#[derive(Deserialize)]
#[serde(untagged)]
pub(in crate::server::qdrant) enum WithLookupBody {
    Collection(String),
    Full(WithLookupFull),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::server::qdrant) struct WithLookupFull {
    collection: String,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default)]
    with_vectors: Option<WithVector>,
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
