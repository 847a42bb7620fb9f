//! Searching: by the resident index or by the engine. What is found is opened against the registry.

use std::collections::{BTreeSet, HashMap, HashSet};

use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::limits;
use crate::vectors::engine::{EngineCollection as _, Fields, Nearest, Point};
use crate::vectors::point::{Embedding, OpenedPayload};
use crate::vectors::registry::Entry;
use crate::vectors::resident::{self, Keep, Pass, Question, Resident};
use crate::vectors::slots::Slot;
use crate::vectors::{Engine, Hit, Metric, Mode, SearchRequest, StoredChunk};

use super::filter::{Passing, asks_for_vectors, passes, still_passes};
use super::{Collection, Indexes, Open};

/// A hit before it is opened.
pub(super) struct Found<'a> {
    pub(super) id: &'a RecordId,
    pub(super) score: f32,
    /// With its payload only.
    pub(super) point: &'a Point,
    pub(super) entry: Entry,
    pub(super) embedding: &'a Embedding,
}

/// How many more the engine is asked for at first when what it finds is filtered.
const FILTERED_MORE: usize = 64;

/// Which records may be found; `None` is all.
pub(super) type Filter<'a> = Option<&'a (dyn Fn(&RecordId) -> bool + Sync)>;

impl Collection {
    /// The nearest chunks, best first.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>> {
        Ok(self.search_tagged(request)?.into_iter().map(|(_, hit)| hit).collect())
    }

    /// The same, each with what the engine knows it by.
    pub(crate) fn search_tagged(&self, request: &SearchRequest) -> Result<Vec<(Uuid, Hit)>> {
        self.steadily(|| {
            let open = self.open()?;
            match self.mode() {
                Mode::Sealed => {
                    let nearest = self.nearest_in_memory(&open, request, None)?;
                    // What was written since the index was asked is looked at as it is now.
                    if let Some(filter) = request.filter.as_ref().filter(|filter| asks_for_vectors(filter)) {
                        return self.fetch_hits(nearest, Some(filter));
                    }
                    let mut hits = self.open_hits(&open, nearest)?;
                    if let Some(filter) = &request.filter {
                        hits.retain(|(_, hit)| still_passes(filter, hit));
                    }
                    Ok(hits)
                }
                Mode::Veiled => self.search_veiled(&open, request),
                Mode::Plain => {
                    let found = self.nearest_by_engine(&open, request, None)?;
                    let hits = found.into_iter().map(|(chunk, score)| {
                        let StoredChunk { id, text, metadata, .. } = chunk;
                        Ok((self.tag(&id)?, Hit { id, score, text, metadata }))
                    });
                    hits.collect()
                }
            }
        })
    }

    /// What the engine knows the record `id` by in the epoch that seals, whether there is such a record or not.
    pub(crate) fn tag(&self, id: &RecordId) -> Result<Uuid> {
        self.sealer.blind(self.context.keyring.active(), id)
    }

    /// The ids and exact scores of the nearest records, best first; with a filter, among those whose ids pass.
    pub fn nearest(&self, request: &SearchRequest, filter: Filter<'_>) -> Result<Vec<(RecordId, f32)>> {
        self.steadily(|| self.nearest_by_mode(&*self.open()?, request, filter))
    }

    pub(super) fn nearest_by_mode(
        &self,
        open: &Open,
        request: &SearchRequest,
        filter: Filter<'_>,
    ) -> Result<Vec<(RecordId, f32)>> {
        match self.mode() {
            Mode::Sealed => self.nearest_in_memory(open, request, filter),
            Mode::Veiled => self.nearest_veiled(open, request, filter),
            Mode::Plain => {
                let found = self.nearest_by_engine(open, request, filter)?;
                Ok(found.into_iter().map(|(chunk, score)| (chunk.id, score)).collect())
            }
        }
    }

    /// Whether `request` takes so little that it may run where others wait: its indexes are there and small.
    /// Payloads of a server are not in this process.
    pub fn searches_at_once(&self, request: &SearchRequest) -> bool {
        if self.mode() != Mode::Sealed || self.engine() != Engine::Edge {
            return false;
        }
        let open = self.open.read();
        let Some(resident) = open.current.as_ref().and_then(|open| open.resident.try_read()) else { return false };
        resident.as_ref().is_some_and(|indexes| {
            if let Some(filter) = &request.filter
                && !indexes.payload.as_ref().is_some_and(|payload| payload.decides(filter))
            {
                return false;
            }
            let values = indexes.by_vector.values().map(|index| match index.keep() {
                Keep::Vectors if request.filter.is_none() && !request.exact && index.is_linked() => 0,
                Keep::Vectors => index.len().saturating_mul(index.dimension()),
                // Vectors are read from the engine.
                Keep::Codes | Keep::Signs => usize::MAX,
            });
            values.max().unwrap_or(0) <= limits::SEARCH_AT_ONCE_VALUES
        })
    }

    fn nearest_in_memory(
        &self,
        open: &Open,
        request: &SearchRequest,
        filter: Filter<'_>,
    ) -> Result<Vec<(RecordId, f32)>> {
        let (_, params) = self.spec().vector(request.using.as_deref())?;
        request.validate(params.size, params.metric)?;
        let found = match &request.filter {
            None => self.with_indexes(open, |indexes| self.ask_index(open, indexes, request, filter, None)),
            Some(asked) => self.with_passing(open, asked, |indexes, passing| {
                self.ask_index(open, indexes, request, filter, Some(passing))
            }),
        };
        match found {
            // A write may have been under way between registry and engine. Without one, it has to fit.
            Err(e) if e.kind() == ErrorKind::Integrity => self.nearest_settled(open, request, filter),
            other => other,
        }
    }

    /// The same while nobody writes.
    fn nearest_settled(
        &self,
        open: &Open,
        request: &SearchRequest,
        filter: Filter<'_>,
    ) -> Result<Vec<(RecordId, f32)>> {
        // Who passes is looked at before: that may have to wait for a write itself.
        let passing: Option<BTreeSet<RecordId>> = match &request.filter {
            None => None,
            Some(asked) => Some(self.with_passing(open, asked, |_, passing| Ok(passing.ids().cloned().collect()))?),
        };
        let both = |id: &RecordId| {
            passing.as_ref().is_none_or(|passing| passing.contains(id)) && filter.is_none_or(|pass| pass(id))
        };
        loop {
            let settled = self.settled();
            if let Some(indexes) = open.resident.read().as_ref() {
                return self.ask_index(open, indexes, request, Some(&both), None);
            }
            drop(settled);
            drop(self.load_resident(open)?);
        }
    }

    /// The nearest by the index in memory, which reads from the engine what it does not keep.
    fn ask_index(
        &self,
        open: &Open,
        indexes: &Indexes,
        request: &SearchRequest,
        filter: Filter<'_>,
        passing: Option<&Passing<'_>>,
    ) -> Result<Vec<(RecordId, f32)>> {
        let (position, params) = self.spec().vector(request.using.as_deref())?;
        let index = indexes.by_vector.get(&position);
        let index = index.ok_or_else(|| Error::internal("a vector without an index"))?;
        let source = |ids: &[&RecordId]| self.sealed_vectors(open, position, ids);
        let records = &indexes.records;
        let by_slot = filter.map(|passes| move |slot: Slot| records.id(slot).is_some_and(passes));
        let question = Question {
            vector: &request.vector,
            k: request.limit,
            records,
            filter: by_slot.as_ref().map(|passes| passes as &(dyn Fn(Slot) -> bool + Sync)),
            pass: request.exact.then_some(Pass::Codes),
            source: Some(&source),
        };
        let hits = nearest_among(index, &question, passing)?;
        let found = hits.into_iter().map(|hit| (hit.id, hit.score));
        Ok(found.filter(|(_, score)| request.accepts(params.metric, *score)).collect())
    }

    /// The payloads of what was found in memory. Their vectors were opened when the index took them in; a payload opens
    /// only beside the embedding that was scored.
    pub(super) fn open_hits(&self, open: &Open, nearest: Vec<(RecordId, f32)>) -> Result<Vec<(Uuid, Hit)>> {
        let opened = self.each_found(open, &nearest, |found| {
            let OpenedPayload { text, metadata } =
                self.sealer.open_payload(found.point, &found.entry, found.embedding)?;
            Ok((found.point.id, Hit { id: found.id.clone(), score: found.score, text, metadata }))
        });
        match opened {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write came between index, registry and engine, or something is wrong: open everything, which tells.
                self.fetch_hits(nearest, None)
            }
            other => other,
        }
    }

    /// The same by opening the vectors too, of those that pass `filter`. What was deleted since it was found is left out.
    pub(super) fn fetch_hits(
        &self,
        nearest: Vec<(RecordId, f32)>,
        filter: Option<&crate::filter::Filter>,
    ) -> Result<Vec<(Uuid, Hit)>> {
        let ids: Vec<_> = nearest.iter().map(|(id, _)| id.clone()).collect();
        let chunks = self.fetch(&ids)?;
        let hits = nearest.into_iter().zip(chunks).filter_map(|((id, score), found)| {
            let (_, chunk) = found.filter(|(_, chunk)| filter.is_none_or(|filter| passes(filter, chunk)))?;
            let tag = self.tag(&id);
            Some(tag.map(|tag| (tag, Hit { id, score, text: chunk.text, metadata: chunk.metadata })))
        });
        hits.collect()
    }

    /// Calls `each` with the sealed payload of every hit, its registry entry, and the embedding that was scored.
    pub(super) fn each_found<T: Send>(
        &self,
        open: &Open,
        nearest: &[(RecordId, f32)],
        each: impl Fn(Found<'_>) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let embeddings: Vec<Option<Embedding>> = {
            let resident = open.resident.read();
            let known = |id| resident.as_ref().and_then(|indexes| indexes.embedding(id));
            nearest.iter().map(|(id, _)| known(id)).collect()
        };
        let live = self.context.keyring.live();
        let lives = 1 + live.older().len();
        let candidates = self.candidates(&live, nearest.iter().map(|(id, _)| id))?;
        let rows = self.registry_rows(&candidates)?;
        let points = open.engine.retrieve(&candidates, Fields::Payload)?;
        let points: HashMap<Uuid, Point> = points.into_iter().map(|p| (p.id, p)).collect();
        let one = |at: usize| {
            let epochs = at * lives..(at + 1) * lives;
            let (Some((id, score)), Some(blinded), Some(rows)) =
                (nearest.get(at), candidates.get(epochs.clone()), rows.get(epochs))
            else {
                return Err(Error::internal("a result without an id"));
            };
            // The epoch that the record is in.
            let registered = blinded.iter().zip(rows).find_map(|(blinded, row)| Some((blinded, row.as_ref()?)));
            let embedding = embeddings.get(at).and_then(Option::as_ref);
            let (Some((blinded, row)), Some(embedding)) = (registered, embedding) else {
                return Err(Error::integrity("a record that was found"));
            };
            let point = points.get(blinded).ok_or_else(|| Error::integrity("a record that was found"))?;
            each(Found { id, score: *score, point, entry: self.entry(blinded, row)?, embedding })
        };
        // Opening takes microseconds: only a long page is worth other threads.
        (0..nearest.len()).into_par_iter().with_min_len(64).map(one).collect()
    }

    /// Asks the engine, then trusts nothing but the sealed vectors: the score is computed from them, and an engine that
    /// scored something else is refused.
    pub(super) fn nearest_by_engine(
        &self,
        open: &Open,
        request: &SearchRequest,
        filter: Filter<'_>,
    ) -> Result<Vec<(StoredChunk, f32)>> {
        let (position, params) = self.spec().vector(request.using.as_deref())?;
        request.validate(params.size, params.metric)?;
        match self.try_nearest_by_engine(open, position, params.metric, request, filter) {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write may have been under way between the engine's score and our look. Without one, it has to fit.
                let _settled = self.settled();
                self.try_nearest_by_engine(open, position, params.metric, request, filter)
            }
            other => other,
        }
    }

    fn try_nearest_by_engine(
        &self,
        open: &Open,
        position: u8,
        metric: Metric,
        request: &SearchRequest,
        filter: Filter<'_>,
    ) -> Result<Vec<(StoredChunk, f32)>> {
        // The engine cannot filter by what it must not know: ask for more and filter here.
        let narrowed = filter.is_some() || request.filter.is_some();
        let points = if narrowed { open.engine.status()?.points } else { request.limit };
        let mut limit = points.min(request.limit.saturating_add(FILTERED_MORE));
        loop {
            if limit == 0 {
                return Ok(Vec::new());
            }
            let live = self.context.keyring.live();
            let tokens = request.filter.as_ref().map(|filter| self.token_filter(&live, filter)).transpose()?;
            let nearest = Nearest {
                position,
                vector: &request.vector,
                limit,
                exact: request.exact,
                ef: request.ef,
                filter: tokens.as_ref(),
                fields: Fields::Both,
            };
            let answer = open.engine.search(&nearest)?;
            let all = answer.len() < limit || limit >= points;
            let mut found = self.open_scored(position, metric, request, filter, answer)?;
            if tokens.is_some() && !self.context.keyring.is_current(&live) {
                // Points may have moved to an epoch that the engine was not asked for.
                continue;
            }
            found.sort_by(|a, b| metric.best_first(a.1, b.1).then_with(|| a.0.id.cmp(&b.0.id)));
            found.truncate(request.limit);
            let passing = found.len();
            #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
            let found = found.into_iter().map(|(chunk, score)| (chunk, score as f32));
            let found: Vec<_> = found.filter(|(_, score)| request.accepts(metric, *score)).collect();
            // What comes after one whose score is too bad is no better.
            if all || passing == request.limit || found.len() < passing {
                return Ok(found);
            }
            limit = points.min(limit.saturating_mul(8));
        }
    }

    /// What the engine found and what passes of it, with exact scores.
    fn open_scored(
        &self,
        position: u8,
        metric: Metric,
        request: &SearchRequest,
        filter: Filter<'_>,
        answer: Vec<(Point, f32)>,
    ) -> Result<Vec<(StoredChunk, f64)>> {
        let (points, scores): (Vec<Point>, Vec<f32>) = answer.into_iter().unzip();
        let ids: Vec<_> = points.iter().map(|p| p.id).collect();
        if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
            return Err(Error::integrity("what the vector engine found"));
        }
        let opened = self.try_open_points(&ids, points)?;
        let mut found = Vec::with_capacity(opened.len());
        for (opened, engine_score) in opened.into_iter().zip(scores) {
            let Some((vector, chunk)) = opened else { continue };
            let stored = vector.vectors.at(position);
            let stored = stored.ok_or_else(|| Error::integrity("a vector that the engine searches"))?;
            let exact = metric.score_f64(&request.vector, stored);
            let slack = metric.engine_slack(&request.vector, stored);
            if (exact - f64::from(engine_score)).abs() > slack {
                return Err(Error::integrity("a vector that the engine searches"));
            }
            // Tokens only narrow: the filter decides.
            let passes = request.filter.as_ref().is_none_or(|filter| passes(filter, &chunk));
            if passes && filter.is_none_or(|pass| pass(&chunk.id)) {
                found.push((chunk, exact));
            }
        }
        Ok(found)
    }
}

/// The nearest among those that pass: looked at one by one where they are few, unless each had to be read for that.
fn nearest_among(
    index: &Resident,
    question: &Question<'_>,
    passing: Option<&Passing<'_>>,
) -> Result<Vec<resident::Hit>> {
    let Some(passing) = passing else { return index.answer(question) };
    if passing.len() <= index.len() as u64 / limits::FILTER_FEW && index.keep() != Keep::Signs {
        return index.answer_among(question, passing.slots());
    }
    let outer = question.filter;
    let both = |slot: Slot| passing.has(slot) && outer.is_none_or(|passes| passes(slot));
    index.answer(&Question { filter: Some(&both), ..*question })
}
