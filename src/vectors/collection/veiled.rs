//! Searching a veiled collection: every part of every live epoch is asked for more than is wanted, and what is found is
//! ranked by the sealed vectors. The scores are theirs.

use std::collections::HashMap;

use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, RecordId};
use crate::keys::Live;
use crate::limits;
use crate::vectors::engine::{Fields, Nearest, Point, TokenFilter};
use crate::vectors::point::{OpenedPayload, OpenedVector};
use crate::vectors::registry::Entry;
use crate::vectors::veil;
use crate::vectors::veiling::Candidate;
use crate::vectors::{Hit, SearchRequest};

use super::search::Filter;
use super::{Collection, Open};

/// By how many deviations of the noise an engine's score may fall short of the threshold.
const SLACK: f64 = 4.0;

/// A chunk whose vector was opened and scored.
struct Ranked {
    point: Point,
    entry: Entry,
    vector: OpenedVector,
    score: f64,
}

impl Collection {
    /// The nearest chunks, best first, each with what the engine knows it by.
    pub(super) fn search_veiled(&self, open: &Open, request: &SearchRequest) -> Result<Vec<(Uuid, Hit)>> {
        self.unsettled(|| {
            let ranked = self.rank_veiled(open, request, None)?;
            let hits = ranked.par_iter().with_min_len(16).map(|Ranked { point, entry, vector, score }| {
                let OpenedPayload { text, metadata } = self.sealer.open_payload(point, entry, &vector.embedding)?;
                #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
                let score = *score as f32;
                Ok((self.tag(&vector.id)?, Hit { id: vector.id.clone(), score, text, metadata }))
            });
            hits.collect()
        })
    }

    /// The ids and exact scores of the nearest records, best first.
    pub(super) fn nearest_veiled(
        &self,
        open: &Open,
        request: &SearchRequest,
        filter: Filter<'_>,
    ) -> Result<Vec<(RecordId, f32)>> {
        let provider = self.context.keyring.provider();
        self.unsettled(|| {
            let ranked = self.rank_veiled(open, request, filter)?;
            let nearest = ranked.into_iter().map(|Ranked { point, entry, vector, score }| {
                entry.check(provider, &point.payload)?;
                #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
                let score = score as f32;
                Ok((vector.id, score))
            });
            nearest.collect()
        })
    }

    /// What `look` finds. When something does not fit, a write may have been under way: it looks again without one.
    fn unsettled<T>(&self, look: impl Fn() -> Result<T>) -> Result<T> {
        match look() {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                let _settled = self.settled();
                look()
            }
            other => other,
        }
    }

    fn rank_veiled(&self, open: &Open, request: &SearchRequest, filter: Filter<'_>) -> Result<Vec<Ranked>> {
        let (position, params) = self.spec().vector(request.using.as_deref())?;
        request.validate(params.size, params.metric)?;
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        // The engine cannot filter by what it must not know: ask for everything and filter here.
        let wanted = if filter.is_some() || request.exact {
            open.engine.status()?.points.max(1)
        } else {
            candidates_for(request.limit)
        };
        let candidates = self.context.keyring.looking(|live| {
            loop {
                let parts = self.sealer.parts.count();
                let found = self.candidates_in(open, live, parts, position, request, wanted)?;
                // A part that came meanwhile may have records that this missed.
                if self.sealer.parts.count() == parts {
                    return Ok(found);
                }
            }
        })?;
        let mut ranked = self.opened_candidates(open, &candidates, position, request)?;
        if let Some(pass) = filter {
            ranked.retain(|found| pass(&found.vector.id));
        }
        // A record that moves between two epochs may be found in both: its highest version counts.
        ranked.sort_by(|a, b| a.vector.id.cmp(&b.vector.id).then(b.entry.version.cmp(&a.entry.version)));
        ranked.dedup_by(|later, kept| later.vector.id == kept.vector.id);
        ranked.sort_by(|a, b| params.metric.best_first(a.score, b.score).then_with(|| a.vector.id.cmp(&b.vector.id)));
        ranked.truncate(request.limit);
        #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
        ranked.retain(|found| request.accepts(params.metric, found.score as f32));
        Ok(ranked)
    }

    /// The best by the engine's scores. The epoch that seals is asked last, and parts in the order in which they came:
    /// what moves meanwhile goes to where nobody has asked yet.
    fn candidates_in(
        &self,
        open: &Open,
        live: &Live,
        parts: u16,
        position: u8,
        request: &SearchRequest,
        wanted: usize,
    ) -> Result<Vec<Candidate>> {
        let limit = (2 * wanted).div_ceil(usize::from(parts)).max(limits::VEILED_PART_RESULTS);
        let mut found = Vec::new();
        for epoch in live.oldest_first() {
            for part in 0..parts {
                self.ask_part(open, (epoch, part), position, request, limit, &mut found)?;
            }
        }
        if let Some(worst) = request.score_threshold {
            let worst = f64::from(worst) - SLACK * veil::SIGMA;
            found.retain(|candidate| f64::from(candidate.score) >= worst);
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        found.truncate(wanted);
        Ok(found)
    }

    fn ask_part(
        &self,
        open: &Open,
        (epoch, part): (Epoch, u16),
        position: u8,
        request: &SearchRequest,
        limit: usize,
        found: &mut Vec<Candidate>,
    ) -> Result<()> {
        let query = self.sealer.veiled_query(epoch, part, position, &request.vector)?;
        let tag = TokenFilter::Tag(self.sealer.part_tag(epoch, part)?);
        let nearest = Nearest {
            position,
            vector: &query,
            limit,
            exact: request.exact,
            ef: request.ef.map(|ef| ef.max(limit)),
            filter: Some(&tag),
            fields: Fields::Id,
        };
        let nearest = open.engine.search(&nearest)?;
        found.extend(nearest.into_iter().map(|(point, score)| Candidate { id: point.id, score }));
        Ok(())
    }

    fn opened_candidates(
        &self,
        open: &Open,
        candidates: &[Candidate],
        position: u8,
        request: &SearchRequest,
    ) -> Result<Vec<Ranked>> {
        let ids: Vec<Uuid> = candidates.iter().map(|candidate| candidate.id).collect();
        let (_, params) = self.spec().vector(request.using.as_deref())?;
        let points = open.engine.retrieve(&ids, Fields::Both)?;
        // Read after the points: what has moved since is missing here, and the caller looks again.
        let rows = self.registry_rows(&ids)?;
        let mut points: HashMap<Uuid, Point> = points.into_iter().map(|point| (point.id, point)).collect();
        let changed = || Error::integrity("what the vector engine found");
        let mut sealed = Vec::with_capacity(ids.len());
        for (id, row) in ids.iter().zip(rows) {
            // An engine that names a point twice finds nothing here the second time.
            let (Some(point), Some(row)) = (points.remove(id), row) else { return Err(changed()) };
            sealed.push((point, row));
        }
        let open_one = |(point, row): (Point, Vec<u8>)| {
            let entry = self.entry(&point.id, &row)?;
            let vector = self.sealer.open_vector(&point, &entry)?;
            let score = params.metric.score_f64(&request.vector, vector.at(position)?);
            Ok(Ranked { point, entry, vector, score })
        };
        sealed.into_par_iter().with_min_len(32).map(open_one).collect()
    }
}

/// How many candidates are opened for `limit` results: the noise moves more of them past each other the more there are.
fn candidates_for(limit: usize) -> usize {
    limit.saturating_mul(limits::VEILED_OVERFETCH).max(limits::VEILED_CANDIDATES)
}
