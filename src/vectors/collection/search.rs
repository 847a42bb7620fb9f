//! Searching: by the resident index or by the engine. What is found is opened against the registry.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::limits;
use crate::vectors::engine::{Fields, Nearest, Point};
use crate::vectors::point::{Embedding, OpenedPayload};
use crate::vectors::registry::Entry;
use crate::vectors::resident::{Keep, Pass, Question};
use crate::vectors::{Hit, Metric, Mode, SearchRequest, StoredChunk};

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

/// Which records may be found; `None` is all.
pub(super) type Filter<'a> = Option<&'a (dyn Fn(&RecordId) -> bool + Sync)>;

impl Collection {
    /// The nearest chunks, best first.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>> {
        Ok(self.search_tagged(request)?.into_iter().map(|(_, hit)| hit).collect())
    }

    /// The same, each with what the engine knows it by.
    pub(crate) fn search_tagged(&self, request: &SearchRequest) -> Result<Vec<(Uuid, Hit)>> {
        let open = self.open()?;
        match self.spec().mode {
            Mode::Sealed => {
                let nearest = self.nearest_in_memory(&open, request, None)?;
                self.open_hits(&open, nearest)
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
    }

    /// What the engine knows the record `id` by in the epoch that seals, whether there is such a record or not.
    pub(crate) fn tag(&self, id: &RecordId) -> Result<Uuid> {
        self.sealer.blind(self.context.keyring.active(), id)
    }

    /// The ids and exact scores of the nearest records, best first; with a filter, among those whose ids pass.
    pub fn nearest(&self, request: &SearchRequest, filter: Filter<'_>) -> Result<Vec<(RecordId, f32)>> {
        let open = self.open()?;
        match self.spec().mode {
            Mode::Sealed => self.nearest_in_memory(&open, request, filter),
            Mode::Veiled => self.nearest_veiled(&open, request, filter),
            Mode::Plain => {
                let found = self.nearest_by_engine(&open, request, filter)?;
                Ok(found.into_iter().map(|(chunk, score)| (chunk.id, score)).collect())
            }
        }
    }

    /// Whether a search takes so little that it may run where others wait: its index is there and small.
    pub fn searches_at_once(&self) -> bool {
        if self.spec().mode != Mode::Sealed {
            return false;
        }
        let open = self.open.read();
        let Some(resident) = open.current.as_ref().and_then(|open| open.resident.try_read()) else { return false };
        resident.as_ref().is_some_and(|indexes| {
            let values = indexes.by_vector.values().map(|index| match index.keep() {
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
        let (position, params) = self.spec().vector(request.using.as_deref())?;
        request.validate(params.size, params.metric)?;
        let search = |indexes: &Indexes| {
            let index = indexes.by_vector.get(&position);
            let index = index.ok_or_else(|| Error::internal("a vector without an index"))?;
            let source = |ids: &[&RecordId]| self.sealed_vectors(open, position, ids);
            let hits = index.answer(&Question {
                vector: &request.vector,
                k: request.limit,
                filter,
                pass: request.exact.then_some(Pass::Codes),
                source: Some(&source),
            })?;
            let found = hits.into_iter().map(|hit| (hit.id, hit.score));
            Ok(found.filter(|(_, score)| request.accepts(params.metric, *score)).collect())
        };
        match self.with_indexes(open, search) {
            Err(e) if e.kind() == ErrorKind::Integrity => loop {
                // A write may have been under way between registry and engine. Without one, it has to fit.
                let settled = self.settled();
                if let Some(indexes) = open.resident.read().as_ref() {
                    return search(indexes);
                }
                drop(settled);
                drop(self.load_resident(open)?);
            },
            other => other,
        }
    }

    /// The payloads of what was found in memory. Their vectors were opened when the index took them in; a payload opens
    /// only beside the embedding that was scored.
    fn open_hits(&self, open: &Open, nearest: Vec<(RecordId, f32)>) -> Result<Vec<(Uuid, Hit)>> {
        let opened = self.each_found(open, &nearest, |found| {
            let OpenedPayload { text, metadata } =
                self.sealer.open_payload(found.point, &found.entry, found.embedding)?;
            Ok((found.point.id, Hit { id: found.id.clone(), score: found.score, text, metadata }))
        });
        match opened {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write came between index, registry and engine, or something is wrong: open everything, which tells.
                let ids: Vec<_> = nearest.iter().map(|(id, _)| id.clone()).collect();
                let chunks = self.fetch(&ids)?;
                // What was deleted since the index was asked is left out.
                let hits = nearest.into_iter().zip(chunks).filter_map(|((id, score), found)| {
                    let (_, chunk) = found?;
                    let tag = self.tag(&id);
                    Some(tag.map(|tag| (tag, Hit { id, score, text: chunk.text, metadata: chunk.metadata })))
                });
                hits.collect()
            }
            other => other,
        }
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
            let known = |id| resident.as_ref().and_then(|indexes| indexes.embeddings.get(id)).copied();
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
    fn nearest_by_engine(
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
        // The engine cannot filter by what it must not know: ask for everything and filter here.
        let limit = if filter.is_some() { open.engine.status()?.points } else { request.limit };
        if limit == 0 {
            return Ok(Vec::new());
        }
        let nearest = Nearest {
            position,
            vector: &request.vector,
            limit,
            exact: request.exact,
            ef: request.ef,
            filter: None,
            fields: Fields::Both,
        };
        let (points, scores): (Vec<Point>, Vec<f32>) = open.engine.search(&nearest)?.into_iter().unzip();
        let ids: Vec<_> = points.iter().map(|p| p.id).collect();
        if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
            return Err(Error::integrity("what the vector engine found"));
        }
        let opened = self.try_open_points(&ids, points)?;
        let mut found = Vec::with_capacity(opened.len());
        for (opened, engine_score) in opened.into_iter().zip(scores) {
            let Some((vector, chunk)) = opened else { continue };
            let exact = metric.score_f64(&request.vector, vector.at(position)?);
            let slack = metric.engine_slack(&request.vector, vector.at(position)?);
            if (exact - f64::from(engine_score)).abs() > slack {
                return Err(Error::integrity("a vector that the engine searches"));
            }
            if filter.is_none_or(|pass| pass(&chunk.id)) {
                found.push((chunk, exact));
            }
        }
        found.sort_by(|a, b| metric.best_first(a.1, b.1).then_with(|| a.0.id.cmp(&b.0.id)));
        found.truncate(request.limit);
        #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
        let found = found.into_iter().map(|(chunk, score)| (chunk, score as f32));
        Ok(found.filter(|(_, score)| request.accepts(metric, *score)).collect())
    }
}
