//! Questions, in all forms that clients send them in.

use qdrant_client::qdrant as wire;

use super::{filter, input};
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::no_shard_key;
use crate::server::qdrant::model::query::{
    Ask, Direction, GROUP_SIZE, GroupQuestion, LIMIT, LookupFrom, OrderBy, Params, Prefetch, Question, Scroll,
    StartFrom, Strategy, Unoffered, WithLookup, no_idf_corpus,
};
use crate::server::qdrant::model::select::Wanted;
use crate::server::qdrant::model::vector::{SparseValue, VectorInput, VectorValue};

fn params(params: Option<wire::SearchParams>) -> Answer<Params> {
    let params = params.unwrap_or_default();
    if params.idf.is_some_and(|idf| idf.corpus.is_some()) {
        return Err(no_idf_corpus());
    }
    Ok(Params { ef: params.hnsw_ef.map(input::size).transpose()?, exact: params.exact.unwrap_or(false) })
}

fn lookup_from(lookup: Option<wire::LookupLocation>) -> Answer<Option<LookupFrom>> {
    let Some(lookup) = lookup else { return Ok(None) };
    no_shard_key(&lookup.shard_key_selector)?;
    Ok(Some(LookupFrom { collection: lookup.collection_name, vector: lookup.vector_name, shard_key: None }))
}

fn with_lookup(lookup: Option<wire::WithLookup>) -> Option<WithLookup> {
    let lookup = lookup?;
    let (payload, vector) = (input::with_payload(lookup.with_payload), input::with_vector(lookup.with_vectors));
    Some(WithLookup { collection: lookup.collection, wanted: Wanted::new(payload, vector, true) })
}

fn strategy(strategy: Option<i32>) -> Answer<Strategy> {
    match strategy.map(wire::RecommendStrategy::try_from) {
        None | Some(Ok(wire::RecommendStrategy::AverageVector)) => Ok(Strategy::AverageVector),
        Some(Ok(wire::RecommendStrategy::BestScore)) => Ok(Strategy::BestScore),
        Some(Ok(wire::RecommendStrategy::SumScores)) => Ok(Strategy::SumScores),
        Some(Err(_)) => Err(Failure::bad("Wrong input: the strategy is not known")),
    }
}

fn order_by(order: wire::OrderBy) -> Answer<OrderBy> {
    use wire::start_from::Value;
    let direction = match order.direction.map(wire::Direction::try_from) {
        None => None,
        Some(Ok(wire::Direction::Asc)) => Some(Direction::Asc),
        Some(Ok(wire::Direction::Desc)) => Some(Direction::Desc),
        Some(Err(_)) => return Err(Failure::bad("Wrong input: the direction is not known")),
    };
    let start_from = match order.start_from.and_then(|start| start.value) {
        None => None,
        Some(Value::Float(x)) => Some(StartFrom::Float(x)),
        Some(Value::Integer(n)) => Some(StartFrom::Int(n)),
        Some(Value::Timestamp(at)) => Some(StartFrom::Datetime(input::date(at.seconds, at.nanos)?)),
        Some(Value::Datetime(words)) => Some(StartFrom::Datetime(words)),
    };
    Ok(OrderBy { key: order.key, direction, start_from })
}

fn ask(query: Option<wire::Query>) -> Answer<Ask> {
    use wire::query::Variant;
    let Some(variant) = query.and_then(|query| query.variant) else { return Ok(Ask::Ids) };
    let inputs = |list: Vec<wire::VectorInput>| list.into_iter().map(input::vector_input).collect::<Answer<Vec<_>>>();
    Ok(match variant {
        Variant::Nearest(nearest) => Ask::Nearest(input::vector_input(nearest)?),
        Variant::Recommend(recommend) => Ask::Recommend {
            positive: inputs(recommend.positive)?,
            negative: inputs(recommend.negative)?,
            strategy: strategy(recommend.strategy)?,
        },
        Variant::OrderBy(order) => Ask::OrderBy(order_by(order)?),
        Variant::Fusion(fusion) => match wire::Fusion::try_from(fusion) {
            Ok(wire::Fusion::Rrf) => Ask::Rrf { k: None, weights: Vec::new() },
            Ok(wire::Fusion::Dbsf) => Ask::Dbsf,
            Err(_) => return Err(Failure::bad("Wrong input: the fusion is not known")),
        },
        Variant::Rrf(rrf) => Ask::Rrf { k: rrf.k.map(|k| input::size(k.into())).transpose()?, weights: rrf.weights },
        Variant::Sample(sample) => match wire::Sample::try_from(sample) {
            Ok(wire::Sample::Random) => Ask::Sample,
            Err(_) => return Err(Failure::bad("Wrong input: the sample is not known")),
        },
        Variant::Discover(_) => Ask::Other(Unoffered::Discover),
        Variant::Context(_) => Ask::Other(Unoffered::Context),
        Variant::Formula(_) => Ask::Other(Unoffered::Formula),
        Variant::NearestWithMmr(_) => Ask::Other(Unoffered::Mmr),
        Variant::RelevanceFeedback(_) => Ask::Other(Unoffered::Feedback),
        Variant::Text(_) => Ask::Other(Unoffered::Text),
    })
}

fn limit(limit: Option<u64>) -> Answer<usize> {
    limit.map_or(Ok(LIMIT), input::size)
}

fn prefetches(list: Vec<wire::PrefetchQuery>) -> Answer<Vec<Prefetch>> {
    list.into_iter().map(prefetch).collect()
}

fn prefetch(asked: wire::PrefetchQuery) -> Answer<Prefetch> {
    Ok(Prefetch {
        prefetch: prefetches(asked.prefetch)?,
        ask: ask(asked.query)?,
        using: asked.using,
        filter: filter::maybe(asked.filter)?,
        params: params(asked.params)?,
        threshold: asked.score_threshold,
        limit: limit(asked.limit)?,
        lookup_from: lookup_from(asked.lookup_from)?,
    })
}

pub(super) fn query(asked: wire::QueryPoints) -> Answer<Question> {
    no_shard_key(&asked.shard_key_selector)?;
    Ok(Question {
        prefetch: prefetches(asked.prefetch)?,
        ask: ask(asked.query)?,
        using: asked.using,
        filter: filter::maybe(asked.filter)?,
        params: params(asked.params)?,
        threshold: asked.score_threshold,
        limit: limit(asked.limit)?,
        offset: input::size(asked.offset.unwrap_or(0))?,
        wanted: Wanted::new(input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors), false),
        lookup_from: lookup_from(asked.lookup_from)?,
    })
}

pub(super) fn query_groups(asked: wire::QueryPointGroups) -> Answer<GroupQuestion> {
    no_shard_key(&asked.shard_key_selector)?;
    let groups = limit(asked.limit)?;
    let question = Question {
        prefetch: prefetches(asked.prefetch)?,
        ask: ask(asked.query)?,
        using: asked.using,
        filter: filter::maybe(asked.filter)?,
        params: params(asked.params)?,
        threshold: asked.score_threshold,
        limit: groups,
        offset: 0,
        wanted: Wanted::new(input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors), false),
        lookup_from: lookup_from(asked.lookup_from)?,
    };
    let size = asked.group_size.map_or(Ok(GROUP_SIZE), input::size)?;
    Ok(GroupQuestion { question, by: asked.group_by, groups, size, lookup: with_lookup(asked.with_lookup) })
}

/// A vector of the search of earlier versions: sparse where it has indices.
fn plain_vector(data: Vec<f32>, indices: Option<wire::SparseIndices>) -> Ask {
    let vector = match indices {
        Some(indices) => VectorValue::Sparse(SparseValue { indices: indices.data, values: data }),
        None => VectorValue::Dense(data),
    };
    Ask::Nearest(VectorInput::Vector(vector))
}

pub(super) fn search(asked: wire::SearchPoints) -> Answer<Question> {
    no_shard_key(&asked.shard_key_selector)?;
    Ok(Question {
        prefetch: Vec::new(),
        ask: plain_vector(asked.vector, asked.sparse_indices),
        using: asked.vector_name,
        filter: filter::maybe(asked.filter)?,
        params: params(asked.params)?,
        threshold: asked.score_threshold,
        limit: input::size(asked.limit)?,
        offset: input::size(asked.offset.unwrap_or(0))?,
        wanted: Wanted::new(input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors), false),
        lookup_from: None,
    })
}

pub(super) fn search_groups(asked: wire::SearchPointGroups) -> Answer<GroupQuestion> {
    no_shard_key(&asked.shard_key_selector)?;
    let groups = input::size(asked.limit.into())?;
    let question = Question {
        prefetch: Vec::new(),
        ask: plain_vector(asked.vector, asked.sparse_indices),
        using: asked.vector_name,
        filter: filter::maybe(asked.filter)?,
        params: params(asked.params)?,
        threshold: asked.score_threshold,
        limit: groups,
        offset: 0,
        wanted: Wanted::new(input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors), false),
        lookup_from: None,
    };
    let size = input::size(asked.group_size.into())?;
    Ok(GroupQuestion { question, by: asked.group_by, groups, size, lookup: with_lookup(asked.with_lookup) })
}

/// Examples of the recommendations of earlier versions: points, and vectors besides.
fn examples(points: Vec<wire::PointId>, vectors: Vec<wire::Vector>) -> Answer<Vec<VectorInput>> {
    let points = points.into_iter().map(|point| Ok(VectorInput::Id(input::id(point)?)));
    let vectors = vectors.into_iter().map(|vector| Ok(VectorInput::Vector(input::vector(vector))));
    points.chain(vectors).collect()
}

pub(super) fn recommend(asked: wire::RecommendPoints) -> Answer<Question> {
    no_shard_key(&asked.shard_key_selector)?;
    Ok(Question {
        prefetch: Vec::new(),
        ask: Ask::Recommend {
            positive: examples(asked.positive, asked.positive_vectors)?,
            negative: examples(asked.negative, asked.negative_vectors)?,
            strategy: strategy(asked.strategy)?,
        },
        using: asked.using,
        filter: filter::maybe(asked.filter)?,
        params: params(asked.params)?,
        threshold: asked.score_threshold,
        limit: input::size(asked.limit)?,
        offset: input::size(asked.offset.unwrap_or(0))?,
        wanted: Wanted::new(input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors), false),
        lookup_from: lookup_from(asked.lookup_from)?,
    })
}

pub(super) fn recommend_groups(asked: wire::RecommendPointGroups) -> Answer<GroupQuestion> {
    no_shard_key(&asked.shard_key_selector)?;
    let groups = input::size(asked.limit.into())?;
    let question = Question {
        prefetch: Vec::new(),
        ask: Ask::Recommend {
            positive: examples(asked.positive, asked.positive_vectors)?,
            negative: examples(asked.negative, asked.negative_vectors)?,
            strategy: strategy(asked.strategy)?,
        },
        using: asked.using,
        filter: filter::maybe(asked.filter)?,
        params: params(asked.params)?,
        threshold: asked.score_threshold,
        limit: groups,
        offset: 0,
        wanted: Wanted::new(input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors), false),
        lookup_from: lookup_from(asked.lookup_from)?,
    };
    let size = input::size(asked.group_size.into())?;
    Ok(GroupQuestion { question, by: asked.group_by, groups, size, lookup: with_lookup(asked.with_lookup) })
}

pub(super) fn scroll(asked: wire::ScrollPoints) -> Answer<Scroll> {
    no_shard_key(&asked.shard_key_selector)?;
    Ok(Scroll {
        offset: asked.offset.map(input::id).transpose()?,
        limit: limit(asked.limit.map(Into::into))?,
        filter: filter::maybe(asked.filter)?,
        wanted: Wanted::new(input::with_payload(asked.with_payload), input::with_vector(asked.with_vectors), true),
        order_by: asked.order_by.map(order_by).transpose()?,
    })
}
