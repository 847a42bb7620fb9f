//! Questions: what a client asks, put to the collection.

use std::collections::HashSet;
use std::sync::Arc;

use super::read::{Room, Shape, positive, too_large, within};
use super::{Session, order};
use crate::audit::Access;
use crate::error::Result;
use crate::filter::{Condition, Filter};
use crate::id::RecordId;
use crate::limits;
use crate::server::qdrant::failure::{Answer, Failure};
use crate::server::qdrant::model::PointId;
use crate::server::qdrant::model::points::{OrderValue, ScoredPoint};
use crate::server::qdrant::model::query::{Ask, Found, LookupFrom, OrderBy, Params, Prefetch, Question, Strategy};
use crate::server::qdrant::model::vector::{VectorInput, VectorValue};
use crate::store::{Collection, Looked, Looker, Tenant};
use crate::vectors::{
    self, Fusion, Query, QueryRequest, RRF_K, Recommend, RecommendStrategy, SearchRequest, SparseVector, StoredChunk,
};

/// A question that needs nothing of another collection any more.
pub(super) struct Ready {
    ask: ReadyAsk,
    limit: usize,
    offset: usize,
    filter: Option<Filter>,
}

enum ReadyAsk {
    /// The nearest to a dense vector in the whole collection, or to that of a point, which is not found itself.
    Nearest { request: SearchRequest, of: Option<RecordId> },
    /// Anything else that vectors are compared for.
    Query(Step),
    /// By a field of the payload.
    Order { by: OrderBy, prefetch: Vec<Step> },
    /// By chance.
    Sample,
}

/// A query, and the filters of it and of what it prefetches.
struct Step {
    request: QueryRequest,
    filter: Option<Filter>,
    prefetch: Vec<Step>,
}

impl Session {
    /// The answer to one question.
    pub(in super::super) async fn query(&self, name: &str, question: Question) -> Answer<Found> {
        let collection = self.readable(name).await?;
        self.ask(&collection, question).await.map(|points| Found { points })
    }

    /// The answers to several.
    pub(in super::super) async fn query_all(&self, name: &str, questions: Vec<Question>) -> Answer<Vec<Found>> {
        within(questions.len(), limits::QDRANT_BATCH, "questions at once")?;
        let collection = self.readable(name).await?;
        let mut answers = Vec::with_capacity(questions.len());
        let mut room = Room::default();
        for question in questions {
            let points = self.ask(&collection, question).await?;
            for point in &points {
                if !room.show(point)? {
                    return Err(too_large());
                }
            }
            answers.push(Found { points });
        }
        Ok(answers)
    }

    async fn ask(&self, collection: &Collection, question: Question) -> Answer<Vec<ScoredPoint>> {
        let shape = Shape::new(&question.wanted, collection)?;
        let ready = self.ready(collection, question).await?;
        let found = answer(collection, ready, Every).await?;
        Ok(found.into_iter().map(|(chunk, score, value)| shape.scored(chunk, score, value)).collect())
    }

    /// Looks up what the question needs of other collections, and checks its bounds.
    pub(super) async fn ready(&self, collection: &Collection, question: Question) -> Answer<Ready> {
        let Question { prefetch, ask, using, filter, params, threshold, limit, offset, wanted: _, lookup_from } =
            question;
        positive(limit, "limit")?;
        within(limit.saturating_add(offset), limits::QDRANT_POINTS, "results of a question")?;
        let tenant = self.tenant().await?;
        within(prefetches(&prefetch), limits::QUERIES, "prefetches of a question")?;
        let prefetch = self.steps(&tenant, prefetch, 0).await?;
        let ask = match ask {
            Ask::Other(other) => return Err(other.refusal()),
            Ask::OrderBy(by) => ReadyAsk::Order { by, prefetch },
            Ask::Sample if prefetch.is_empty() => ReadyAsk::Sample,
            Ask::Sample => return Err(Failure::bad("Wrong input: a sample is not taken of what was prefetched")),
            Ask::Nearest(input) if prefetch.is_empty() && is_dense(collection, using.as_deref(), &input) => {
                let input = self.looked_up(&tenant, input, using.as_deref(), lookup_from.as_ref()).await?;
                let (vector, of) = match input {
                    VectorInput::Vector(VectorValue::Dense(vector)) => (vector, None),
                    VectorInput::Id(id) => (Vec::new(), Some(id.0)),
                    VectorInput::Vector(VectorValue::Other(other)) => return Err(other.refusal()),
                    VectorInput::Vector(VectorValue::Sparse(_)) => return Err(wrong_kind()),
                };
                let mut request = SearchRequest::new(vector, limit.saturating_add(offset));
                request.using = Some(using.unwrap_or_default());
                request.score_threshold = threshold;
                (request.exact, request.ef) = (params.exact, params.ef);
                ReadyAsk::Nearest { request, of }
            }
            ask => {
                let query = self.vector_query(&tenant, ask, using.as_deref(), lookup_from.as_ref()).await?;
                let mut request = request(query, using, &params, threshold, limit);
                request.offset = offset;
                ReadyAsk::Query(Step { request, filter: None, prefetch })
            }
        };
        Ok(Ready { ask, limit, offset, filter })
    }

    async fn steps(&self, tenant: &Tenant, list: Vec<Prefetch>, depth: usize) -> Answer<Vec<Step>> {
        if depth > limits::QDRANT_PREFETCH_DEPTH {
            let most = limits::QDRANT_PREFETCH_DEPTH;
            return Err(Failure::bad(format!("Wrong input: prefetches lie at most {most} deep in each other")));
        }
        let mut steps = Vec::with_capacity(list.len());
        for one in list {
            let Prefetch { prefetch, ask, using, filter, params, threshold, limit, lookup_from } = one;
            positive(limit, "limit")?;
            within(limit, limits::QDRANT_POINTS, "results of a prefetch")?;
            let prefetch = Box::pin(self.steps(tenant, prefetch, depth + 1)).await?;
            let query = self.vector_query(tenant, ask, using.as_deref(), lookup_from.as_ref()).await?;
            steps.push(Step { request: request(query, using, &params, threshold, limit), filter, prefetch });
        }
        Ok(steps)
    }

    /// What is asked, in the words of a collection; `None` is for points in the order of their ids.
    async fn vector_query(
        &self,
        tenant: &Tenant,
        ask: Ask,
        using: Option<&str>,
        lookup: Option<&LookupFrom>,
    ) -> Answer<Option<Query>> {
        Ok(Some(match ask {
            Ask::Ids => return Ok(None),
            Ask::Nearest(input) => Query::Nearest(to_vector(self.looked_up(tenant, input, using, lookup).await?)?),
            Ask::Recommend { positive, negative, strategy } => {
                let mut recommend = Recommend {
                    positive: Vec::with_capacity(positive.len()),
                    negative: Vec::with_capacity(negative.len()),
                    strategy: match strategy {
                        Strategy::AverageVector => RecommendStrategy::AverageVector,
                        Strategy::BestScore => RecommendStrategy::BestScore,
                        Strategy::SumScores => RecommendStrategy::SumScores,
                    },
                };
                within(positive.len() + negative.len(), limits::QUERY_EXAMPLES, "examples")?;
                for input in positive {
                    recommend.positive.push(to_vector(self.looked_up(tenant, input, using, lookup).await?)?);
                }
                for input in negative {
                    recommend.negative.push(to_vector(self.looked_up(tenant, input, using, lookup).await?)?);
                }
                Query::Recommend(recommend)
            }
            Ask::Rrf { k, weights } => {
                let k = k.map_or(Ok(RRF_K), u32::try_from);
                let k = k.map_err(|_| Failure::bad("Wrong input: `k` is too large"))?;
                Query::Fusion(Fusion::Rrf { k, weights: (!weights.is_empty()).then_some(weights) })
            }
            Ask::Dbsf => Query::Fusion(Fusion::Dbsf),
            Ask::OrderBy(_) | Ask::Sample => {
                return Err(Failure::unsupported(
                    "points are prefetched by vectors or by their ids, not by a field or by chance: ask for these by \
                     themselves, and for the rest with a filter on their ids",
                ));
            }
            Ask::Other(other) => return Err(other.refusal()),
        }))
    }

    /// The vector of a point in another collection, where one is named.
    async fn looked_up(
        &self,
        tenant: &Tenant,
        input: VectorInput,
        using: Option<&str>,
        lookup: Option<&LookupFrom>,
    ) -> Answer<VectorInput> {
        let (VectorInput::Id(id), Some(lookup)) = (&input, lookup) else { return Ok(input) };
        crate::server::qdrant::model::no_shard_key(&lookup.shard_key)?;
        let collection = self.resolve(tenant, &lookup.collection)?;
        let name = lookup.vector.as_deref().or(using).unwrap_or_default();
        let found = collection.get(vec![id.0.clone()]).await?.pop().ok_or_else(|| no_point(id))?;
        let dense = found.vectors.get(name).map(|values| VectorValue::Dense(values.to_vec()));
        let sparse = found.vectors.sparse(name).map(|vector| {
            VectorValue::Sparse(crate::server::qdrant::model::vector::SparseValue {
                indices: vector.indices().to_vec(),
                values: vector.values().to_vec(),
            })
        });
        dense.or(sparse).map(VectorInput::Vector).ok_or_else(|| no_vector(id, name))
    }
}

/// How many there are, with those in others.
fn prefetches(list: &[Prefetch]) -> usize {
    list.len() + list.iter().map(|one| prefetches(&one.prefetch)).sum::<usize>()
}

fn no_point(id: &PointId) -> Failure {
    Failure::not_found(format!("Not found: No point with id {} found", id.0))
}

fn no_vector(id: &PointId, name: &str) -> Failure {
    let name = crate::id::shown(name);
    Failure::bad(format!("Wrong input: Vector with name `{name}` for point {} not found", id.0))
}

fn wrong_kind() -> Failure {
    Failure::bad("Wrong input: the vector is sparse, and the one that it is compared with is not")
}

/// Whether a question is for a dense vector of the collection.
fn is_dense(collection: &Collection, using: Option<&str>, input: &VectorInput) -> bool {
    let name = using.unwrap_or_default();
    collection.spec().vectors.contains_key(name) && !matches!(input, VectorInput::Vector(VectorValue::Sparse(_)))
}

fn request(
    query: Option<Query>,
    using: Option<String>,
    params: &Params,
    threshold: Option<f32>,
    limit: usize,
) -> QueryRequest {
    let mut request = QueryRequest::all(limit);
    // The name of the unnamed vector is meant where none is named.
    request.using = Some(using.unwrap_or_default());
    request.query = query;
    request.score_threshold = threshold;
    (request.exact, request.ef) = (params.exact, params.ef);
    request
}

fn to_vector(input: VectorInput) -> Answer<vectors::VectorInput> {
    Ok(match input {
        VectorInput::Id(id) => vectors::VectorInput::Id(id.0),
        VectorInput::Vector(VectorValue::Dense(values)) => vectors::VectorInput::Dense(values),
        VectorInput::Vector(VectorValue::Sparse(sparse)) => {
            vectors::VectorInput::Sparse(SparseVector::new(sparse.indices, sparse.values)?)
        }
        VectorInput::Vector(VectorValue::Other(other)) => return Err(other.refusal()),
    })
}

/// A point that was found, its score, and what it was ordered by.
pub(super) type Hit = (StoredChunk, f32, Option<OrderValue>);

/// Which of the points that are found are shown: asked of each, the best first.
pub(super) trait Pick: Send + 'static {
    /// How many are opened at a time.
    const PAGE: usize;

    /// Whether it is.
    fn takes(&mut self, chunk: &StoredChunk) -> bool;

    /// Whether none is that comes after.
    fn is_done(&self) -> bool;
}

/// All of them.
pub(super) struct Every;

impl Pick for Every {
    const PAGE: usize = limits::LOOK_CHUNKS;

    fn takes(&mut self, _: &StoredChunk) -> bool {
        true
    }

    fn is_done(&self) -> bool {
        false
    }
}

/// Puts a question to a collection. The audit log has what is picked.
pub(super) async fn answer<P: Pick>(collection: &Collection, ready: Ready, mut pick: P) -> Answer<Vec<Hit>> {
    let Ready { ask, limit, offset, filter } = ready;
    if let ReadyAsk::Order { by, prefetch } = ask {
        let filter = match prefetch.is_empty() {
            true => filter,
            false => Some(among_prefetched(collection, prefetch, filter).await?),
        };
        let ordered = order::ordered(collection, by, filter, limit.saturating_add(offset), pick).await?;
        return Ok(ordered.into_iter().skip(offset).map(|(chunk, value)| (chunk, 1.0, Some(value))).collect());
    }
    let look = move |looker: &Looker| {
        let found = run(looker, ask, limit, offset, filter.as_ref())?;
        let mut hits: Vec<Hit> = Vec::new();
        let mut room = Room::default();
        for found in found.chunks(P::PAGE) {
            if pick.is_done() {
                break;
            }
            let ids: Vec<RecordId> = found.iter().map(|(id, _)| id.clone()).collect();
            let mut chunks = looker.get(&ids)?.into_iter().peekable();
            for (id, score) in found {
                // What was deleted or changed since the index was asked is looked at as it is now.
                if let Some(chunk) = chunks.next_if(|chunk| chunk.id == *id)
                    && filter.as_ref().is_none_or(|filter| looker.passes(filter, &chunk))
                    && pick.takes(&chunk)
                {
                    if !room.take(&chunk)? {
                        return Ok(Looked { value: None, revealed: Vec::new(), bytes: 0 });
                    }
                    hits.push((chunk, *score, None));
                }
            }
        }
        let revealed = hits.iter().map(|(chunk, ..)| chunk.id.clone()).collect();
        let bytes = hits.iter().map(|(chunk, ..)| chunk.text.len()).sum();
        Ok(Looked { value: Some(hits), revealed, bytes })
    };
    collection.look(Access::Search, look).await?.ok_or_else(too_large)
}

/// The ids and scores of what is asked for, best first.
fn run(
    looker: &Looker,
    ask: ReadyAsk,
    limit: usize,
    offset: usize,
    filter: Option<&Filter>,
) -> Result<Vec<(RecordId, f32)>> {
    match ask {
        ReadyAsk::Nearest { mut request, of } => {
            let mut except = HashSet::new();
            if let Some(id) = of {
                let name = request.using.clone().unwrap_or_default();
                let known = looker.get(std::slice::from_ref(&id))?.pop();
                let known = known
                    .ok_or_else(|| crate::error::Error::not_found(format!("Not found: No point with id {id} found")))?;
                let vector = known.vectors.get(&name).map(<[f32]>::to_vec);
                request.vector = vector.ok_or_else(|| {
                    let name = crate::id::shown(&name);
                    crate::error::Error::invalid(format!("vector `{name}` of point {id} is not there"))
                })?;
                except.insert(id);
            }
            request.filter = filter.cloned();
            let mut found = looker.nearest(&request, &except)?;
            found.drain(..offset.min(found.len()));
            Ok(found)
        }
        ReadyAsk::Query(mut step) => {
            step.filter = filter.cloned();
            looker.query(&with_filters(looker, step)?)
        }
        ReadyAsk::Sample => {
            let mut ids = match filter {
                Some(filter) => looker.passing(filter)?,
                None => looker.passing(&Filter::default())?,
            };
            let mut random = rand::rng();
            let (picked, _) = rand::seq::SliceRandom::partial_shuffle(&mut ids[..], &mut random, limit);
            Ok(picked.iter().map(|id| (id.clone(), 1.0)).collect())
        }
        ReadyAsk::Order { .. } => Err(crate::error::Error::internal("an order is asked for elsewhere")),
    }
}

/// The query with its filters, and those of its prefetches, as the ids that pass them.
fn with_filters(looker: &Looker, step: Step) -> Result<QueryRequest> {
    let Step { mut request, filter, prefetch } = step;
    if let Some(filter) = filter.filter(|filter| !filter.is_empty()) {
        let passing: HashSet<RecordId> = looker.passing(&filter)?.into_iter().collect();
        request.among = Some(Arc::new(move |id: &RecordId| passing.contains(id)));
    }
    request.prefetch = prefetch.into_iter().map(|step| with_filters(looker, step)).collect::<Result<_>>()?;
    Ok(request)
}

/// `filter`, and that a point was prefetched.
async fn among_prefetched(collection: &Collection, steps: Vec<Step>, filter: Option<Filter>) -> Answer<Filter> {
    let propagated = filter.clone();
    let look = move |looker: &Looker| {
        let mut ids = std::collections::BTreeSet::new();
        for mut step in steps {
            step.filter = match (step.filter.take(), &propagated) {
                (Some(own), Some(outer)) => Some(Filter::default().must(own).must(outer.clone())),
                (own, outer) => own.or_else(|| outer.clone()),
            };
            ids.extend(looker.query(&with_filters(looker, step)?)?.into_iter().map(|(id, _)| id));
        }
        Ok(Looked { value: ids, revealed: Vec::new(), bytes: 0 })
    };
    let ids = collection.look(Access::Search, look).await?;
    let prefetched = Filter::default().must(Condition::HasId(ids));
    Ok(match filter {
        Some(filter) => prefetched.must(filter),
        None => prefetched,
    })
}
