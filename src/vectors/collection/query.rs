//! Answering queries: leaves by the index that they are for, prefetched results fused or scored again.

use std::collections::{BTreeSet, HashMap, HashSet};

use rayon::prelude::*;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::vectors::inverted::Best;
use crate::vectors::point::OpenedVector;
use crate::vectors::query::{Query, QueryRequest, Recommend, RecommendStrategy, VectorInput};
use crate::vectors::resident::Keep;
use crate::vectors::{Hit, Metric, Mode, SearchRequest, SparseVector, VectorParams};

use super::search::Filter;
use super::{Collection, Open};

/// Records whose vectors are fetched at a time to be scored.
const FETCHED: usize = 1024;

/// The results of one query, best first, and how their scores compare.
type Ranked = (Metric, Vec<(RecordId, f32)>);

/// What the ids that a query names stand for.
type Known = HashMap<RecordId, OpenedVector>;

/// A dense vector of a query.
type Dense = Zeroizing<Vec<f32>>;

/// Which vector of the points a query compares with.
enum Target {
    Dense(u8, VectorParams),
    Sparse(u8),
}

/// Examples that a score is made of.
struct Examples<T> {
    /// The positive ones, then the negative ones.
    all: Vec<T>,
    positive: usize,
    strategy: RecommendStrategy,
}

impl Collection {
    /// What `request` finds, best first.
    pub fn query(&self, request: &QueryRequest) -> Result<Vec<Hit>> {
        Ok(self.query_tagged(request)?.into_iter().map(|(_, hit)| hit).collect())
    }

    /// The same, each with what the engine knows it by.
    pub(crate) fn query_tagged(&self, request: &QueryRequest) -> Result<Vec<(Uuid, Hit)>> {
        self.steadily(|| {
            let open = self.open()?;
            let found = self.answer(&open, request)?;
            match self.mode() {
                Mode::Sealed => self.open_hits(&open, found),
                Mode::Veiled | Mode::Plain => self.fetch_hits(found, None),
            }
        })
    }

    /// The ids and scores of what `request` finds, best first.
    pub fn query_ids(&self, request: &QueryRequest) -> Result<Vec<(RecordId, f32)>> {
        self.steadily(|| self.answer(&*self.open()?, request))
    }

    fn answer(&self, open: &Open, request: &QueryRequest) -> Result<Vec<(RecordId, f32)>> {
        request.validate()?;
        let named = request.named_ids();
        let known = self.known(&named)?;
        let named: HashSet<RecordId> = named.into_iter().collect();
        let unnamed = |id: &RecordId| !named.contains(id);
        let filter: Filter<'_> = if named.is_empty() { None } else { Some(&unnamed) };
        let (_, mut found) = self.run(open, request, &known, filter)?;
        found.drain(..request.offset.min(found.len()));
        Ok(found)
    }

    /// The vectors of the records that a query names.
    fn known(&self, ids: &[RecordId]) -> Result<Known> {
        let mut known = Known::new();
        if ids.is_empty() {
            return Ok(known);
        }
        for (id, found) in ids.iter().zip(self.fetch(ids)?) {
            let (vector, _) = found.ok_or_else(|| Error::not_found(format!("there is no record `{id}`")))?;
            known.insert(id.clone(), vector);
        }
        Ok(known)
    }

    fn run(&self, open: &Open, request: &QueryRequest, known: &Known, outer: Filter<'_>) -> Result<Ranked> {
        let both =
            |id: &RecordId| outer.is_none_or(|pass| pass(id)) && request.among.as_ref().is_none_or(|pass| pass(id));
        let filter: Filter<'_> = if request.among.is_some() { Some(&both) } else { outer };
        if request.prefetch.is_empty() {
            return self.score(open, request, known, None, filter);
        }
        let sources = request.prefetch.iter().map(|prefetch| {
            let (metric, mut found) = self.run(open, prefetch, known, filter)?;
            found.drain(..prefetch.offset.min(found.len()));
            Ok((metric, found))
        });
        let sources: Vec<Ranked> = sources.collect::<Result<_>>()?;
        if let Some(Query::Fusion(fusion)) = &request.query {
            let mut fused = fusion.fuse(sources);
            fused.truncate(request.most());
            fused.retain(|(_, score)| request.score_threshold.is_none_or(|worst| *score >= worst));
            return Ok((Metric::Dot, fused));
        }
        let candidates: BTreeSet<RecordId> =
            sources.into_iter().flat_map(|(_, found)| found.into_iter().map(|(id, _)| id)).collect();
        let candidate = |id: &RecordId| candidates.contains(id);
        self.score(open, request, known, Some(&candidates), Some(&candidate))
    }

    /// The best for a query that looks through the collection, or through `candidates`, which `filter` lets pass.
    fn score(
        &self,
        open: &Open,
        request: &QueryRequest,
        known: &Known,
        candidates: Option<&BTreeSet<RecordId>>,
        filter: Filter<'_>,
    ) -> Result<Ranked> {
        let most = request.most();
        let (metric, mut found) = match &request.query {
            None => (Metric::Dot, self.first(open, most, filter)?),
            Some(Query::Text(text)) => {
                (Metric::Dot, self.with_keywords(open, |index| Ok(index.search(text, most, filter)))?)
            }
            Some(Query::Nearest(input)) => match self.target(request, [input])? {
                Target::Dense(position, params) => {
                    let vector = self.dense(input, known, position, params)?;
                    (params.metric, self.nearest_dense(open, request, params, &vector, candidates, filter)?)
                }
                Target::Sparse(position) => (
                    Metric::Dot,
                    self.nearest_sparse(open, position, &self.sparse(input, known, position)?, most, filter)?,
                ),
            },
            Some(Query::Recommend(recommend)) => self.recommend(open, request, recommend, known, candidates, filter)?,
            // Checked before: there is nothing to fuse without prefetches.
            Some(Query::Fusion(_)) => return Err(Error::internal("a fusion without prefetches")),
        };
        let threshold = request.score_threshold.map(f64::from);
        found.retain(|(_, score)| threshold.is_none_or(|worst| !metric.better(worst, f64::from(*score))));
        Ok((metric, found))
    }

    /// Which vector `request` compares with, given the vectors it has.
    fn target<'a>(&self, request: &QueryRequest, inputs: impl IntoIterator<Item = &'a VectorInput>) -> Result<Target> {
        let spec = self.spec();
        let mut sparse = None;
        for input in inputs {
            match input {
                VectorInput::Id(_) => {}
                VectorInput::Dense(_) => sparse = Some(false),
                VectorInput::Sparse(_) => sparse = Some(true),
            }
        }
        let using = request.using.as_deref();
        let sparse = match using {
            Some(name) => spec.sparse.contains_key(name),
            None => sparse.unwrap_or(spec.vectors.is_empty()),
        };
        if sparse {
            return Ok(Target::Sparse(spec.sparse_vector(using)?.0));
        }
        let (position, params) = spec.vector(using)?;
        Ok(Target::Dense(position, params))
    }

    fn dense(&self, input: &VectorInput, known: &Known, position: u8, params: VectorParams) -> Result<Dense> {
        match input {
            VectorInput::Dense(vector) => {
                params.metric.validate(vector, params.size)?;
                Ok(Zeroizing::new(vector.clone()))
            }
            VectorInput::Id(id) => {
                let vector = known.get(id).and_then(|record| record.vectors.at(position));
                Ok(Zeroizing::new(vector.ok_or_else(|| lacks_vector(id))?.to_vec()))
            }
            VectorInput::Sparse(_) => {
                Err(Error::invalid("the query is a sparse vector and is compared with dense ones")
                    .with_remedy("name a sparse vector of the collection"))
            }
        }
    }

    fn sparse(&self, input: &VectorInput, known: &Known, position: u8) -> Result<SparseVector> {
        match input {
            VectorInput::Sparse(vector) => Ok(vector.clone()),
            VectorInput::Id(id) => {
                let vector = known.get(id).and_then(|record| record.vectors.sparse_at(position));
                vector.cloned().ok_or_else(|| lacks_vector(id))
            }
            VectorInput::Dense(_) => {
                Err(Error::invalid("the query is a dense vector and is compared with sparse ones")
                    .with_remedy("give `indices` and `values`, or name a dense vector of the collection"))
            }
        }
    }

    fn nearest_dense(
        &self,
        open: &Open,
        request: &QueryRequest,
        params: VectorParams,
        vector: &[f32],
        candidates: Option<&BTreeSet<RecordId>>,
        filter: Filter<'_>,
    ) -> Result<Vec<(RecordId, f32)>> {
        if let Some(candidates) = candidates {
            let metric = params.metric;
            let merit = |stored: &[f32]| merit(metric, metric.score_f64(vector, stored));
            let (position, _) = self.spec().vector(request.using.as_deref())?;
            let found = self.scan_dense(open, position, request.most(), merit, Some(candidates), filter)?;
            return Ok(found.into_iter().map(|(id, merit)| (id, of_merit(metric, merit) as f32)).collect());
        }
        let mut search = SearchRequest::new(vector.to_vec(), request.most());
        search.using.clone_from(&request.using);
        (search.exact, search.ef) = (request.exact, request.ef);
        self.nearest_by_mode(open, &search, filter)
    }

    fn nearest_sparse(
        &self,
        open: &Open,
        position: u8,
        vector: &SparseVector,
        most: usize,
        filter: Filter<'_>,
    ) -> Result<Vec<(RecordId, f32)>> {
        self.with_indexes(open, |indexes| {
            let index = indexes.by_sparse.get(&position);
            let index = index.ok_or_else(|| Error::internal("a sparse vector without an index"))?;
            Ok(index.search(vector, most, filter))
        })
    }

    fn recommend(
        &self,
        open: &Open,
        request: &QueryRequest,
        recommend: &Recommend,
        known: &Known,
        candidates: Option<&BTreeSet<RecordId>>,
        filter: Filter<'_>,
    ) -> Result<Ranked> {
        let average = recommend.strategy == RecommendStrategy::AverageVector;
        let (strategy, positive) = (recommend.strategy, recommend.positive.len());
        match self.target(request, recommend.inputs())? {
            Target::Dense(position, params) => {
                let all = recommend.inputs().map(|input| {
                    let mut vector = self.dense(input, known, position, params)?;
                    if average && params.metric == Metric::Cosine && matches!(input, VectorInput::Id(_)) {
                        // What Qdrant has stored, and so takes the mean of, has length 1.
                        scale_to_one(&mut vector);
                    }
                    Ok(vector)
                });
                let examples = Examples { all: all.collect::<Result<Vec<Dense>>>()?, positive, strategy };
                if average {
                    let vector = examples.average();
                    params.metric.validate(&vector, params.size)?;
                    let found = self.nearest_dense(open, request, params, &vector, candidates, filter)?;
                    return Ok((params.metric, found));
                }
                let score = |stored: &[f32]| {
                    let similar = examples.all.iter().map(|e| merit(params.metric, params.metric.score_f64(e, stored)));
                    examples.score(similar)
                };
                let found = self.scan_dense(open, position, request.most(), score, candidates, filter)?;
                Ok((Metric::Dot, found.into_iter().map(|(id, score)| (id, score as f32)).collect()))
            }
            Target::Sparse(position) => {
                let all = recommend.inputs().map(|input| self.sparse(input, known, position));
                let examples = Examples { all: all.collect::<Result<Vec<SparseVector>>>()?, positive, strategy };
                if average {
                    let vector = examples.average()?;
                    let found = self.nearest_sparse(open, position, &vector, request.most(), filter)?;
                    return Ok((Metric::Dot, found));
                }
                let found = self.with_indexes(open, |indexes| {
                    let index = indexes.by_sparse.get(&position);
                    let index = index.ok_or_else(|| Error::internal("a sparse vector without an index"))?;
                    let score = |dots: &[f64]| examples.score(dots.iter().copied());
                    Ok(index.scan(&examples.all, request.most(), score, filter))
                });
                Ok((Metric::Dot, found?))
            }
        }
    }

    /// The first `most` records that pass `filter`, in the order of their ids.
    fn first(&self, open: &Open, most: usize, filter: Filter<'_>) -> Result<Vec<(RecordId, f32)>> {
        self.with_indexes(open, |indexes| {
            let passing = indexes.records.iter().filter(|(id, _)| filter.is_none_or(|pass| pass(id)));
            Ok(passing.take(most).map(|(id, _)| (id.clone(), 1.0)).collect())
        })
    }

    /// The `most` records that `score` puts first by their dense vector, of those that have it: among `candidates`, or
    /// all that pass `filter`.
    fn scan_dense(
        &self,
        open: &Open,
        position: u8,
        most: usize,
        score: impl Fn(&[f32]) -> f64 + Sync,
        candidates: Option<&BTreeSet<RecordId>>,
        filter: Filter<'_>,
    ) -> Result<Vec<(RecordId, f64)>> {
        let wanted: Vec<RecordId> = match candidates {
            Some(candidates) => candidates.iter().cloned().collect(),
            None => self.with_indexes(open, |indexes| {
                let ids = indexes.records.iter().map(|(id, _)| id);
                Ok(ids.filter(|id| filter.is_none_or(|pass| pass(id))).cloned().collect())
            })?,
        };
        let in_memory: Option<Vec<Option<f64>>> = match self.mode() {
            Mode::Sealed => self.with_indexes(open, |indexes| {
                let index = indexes.by_vector.get(&position);
                let index = index.ok_or_else(|| Error::internal("a vector without an index"))?;
                let score_one = |id| index.vector(indexes.records.slot(id)?).map(&score);
                let scored = || wanted.par_iter().with_min_len(256).map(score_one).collect();
                Ok((index.keep() == Keep::Vectors).then(scored))
            })?,
            // The engine has only vectors that nobody vouches for.
            Mode::Veiled | Mode::Plain => None,
        };
        let scored = match in_memory {
            Some(scored) => scored,
            None => {
                let mut scored = Vec::with_capacity(wanted.len());
                for ids in wanted.chunks(FETCHED) {
                    let fetched = self.fetch(ids)?;
                    scored.extend(fetched.into_iter().map(|found| Some(score(found?.0.vectors.at(position)?))));
                }
                scored
            }
        };
        let mut best = Best::new(most.min(wanted.len()));
        for (id, score) in wanted.iter().zip(scored) {
            if let Some(score) = score {
                best.offer(id, score, None);
            }
        }
        Ok(best.into_sorted().into_iter().map(|(id, score)| (id.clone(), score)).collect())
    }
}

impl Examples<Dense> {
    fn average(&self) -> Dense {
        let (positive, negative) = self.all.split_at(self.positive.min(self.all.len()));
        let mut vector = mean(positive);
        if !negative.is_empty() {
            vector.iter_mut().zip(mean(negative).iter()).for_each(|(p, n)| *p += *p - n);
        }
        vector
    }
}

impl Examples<SparseVector> {
    fn average(&self) -> Result<SparseVector> {
        let (positive, negative) = self.all.split_at(self.positive.min(self.all.len()));
        let mean = |of: &[SparseVector]| {
            let sum = of.iter().try_fold(SparseVector::default(), |sum, vector| sum.combine(vector, |a, b| a + b))?;
            sum.combine(&SparseVector::default(), |value, _| value / of.len() as f32)
        };
        let wanted = mean(positive)?;
        if negative.is_empty() { Ok(wanted) } else { wanted.combine(&mean(negative)?, |p, n| p + p - n) }
    }
}

impl<T> Examples<T> {
    /// What `similar`, how near each example is, makes of a record.
    fn score(&self, similar: impl Iterator<Item = f64>) -> f64 {
        let similar: Vec<f64> = similar.collect();
        let (positive, negative) = similar.split_at(self.positive.min(similar.len()));
        if self.strategy == RecommendStrategy::SumScores {
            return positive.iter().sum::<f64>() - negative.iter().sum::<f64>();
        }
        let best = |of: &[f64]| of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (for_it, against) = (best(positive), best(negative));
        let squashed = |s: f64| 0.5 * (s / (1.0 + s.abs()) + 1.0);
        if for_it > against { squashed(for_it) } else { -squashed(against) }
    }
}

fn mean(vectors: &[Dense]) -> Dense {
    let mut mean = Zeroizing::new(vec![0.0_f32; vectors.first().map_or(0, |vector| vector.len())]);
    for vector in vectors {
        mean.iter_mut().zip(vector.iter()).for_each(|(sum, value)| *sum += value);
    }
    mean.iter_mut().for_each(|sum| *sum /= vectors.len() as f32);
    mean
}

fn scale_to_one(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}

/// How near a score is, so that more is better: of a distance its square, negated, as Qdrant has it.
fn merit(metric: Metric, score: f64) -> f64 {
    match metric {
        Metric::Cosine | Metric::Dot => score,
        Metric::Euclid => -score * score,
    }
}

fn of_merit(metric: Metric, merit: f64) -> f64 {
    match metric {
        Metric::Cosine | Metric::Dot => merit,
        Metric::Euclid => (-merit).sqrt(),
    }
}

fn lacks_vector(id: &RecordId) -> Error {
    Error::not_found(format!("record `{id}` does not have the vector that is compared with"))
}
