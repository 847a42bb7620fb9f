//! Searching a veiled collection: every part of every live epoch is asked for more than is wanted, and what is found is
//! ranked by the sealed vectors. The scores are theirs. Candidates are opened from the one that the engine has first on,
//! until noise is unlikely to have kept a better one back. Where only some records may be found these may be far away and
//! their scores close together, so more are opened.

use std::collections::HashMap;

use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, RecordId};
use crate::keys::Live;
use crate::limits;
use crate::vectors::engine::{EngineCollection as _, Fields, Nearest, Point, TokenFilter};
use crate::vectors::point::{OpenedPayload, OpenedVector};
use crate::vectors::registry::Entry;
use crate::vectors::veil;
use crate::vectors::veiling::Candidate;
use crate::vectors::{Engine, Hit, Metric, SearchRequest};

use super::filter::passes;
use super::search::Filter;
use super::{Collection, Open};

/// By how many deviations of the noise an engine's score may fall short of the threshold.
const SLACK: f64 = 4.0;

/// By how many deviations of the noise the best candidate that is not opened has to fall short of the last result. At most
/// one in 44 of the records that belong among the results has noise that takes it farther.
const CERTAIN: f64 = 2.0;

/// How many times as many candidates the engine is asked for at the next try when what was found does not do.
const WIDER: usize = 8;

/// Candidates that are opened before it is looked how good they are.
const OPENED_FIRST: usize = 64;

/// Candidates that are opened at a time.
const OPENED: usize = 1024;

/// What the engine is asked.
struct Asked<'a> {
    request: &'a SearchRequest,
    position: u8,
    /// How many of each part.
    limit: usize,
    /// Scan everything.
    exact: bool,
    /// The least score that one may have.
    least: f64,
}

/// What the engine found.
struct Candidates {
    /// The best by its scores.
    found: Vec<Candidate>,
    /// No other has a better score; −∞ if there are no others.
    others: f64,
}

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
        let points = || open.engine.status().map(|status| status.points.max(1));
        let narrowed = filter.is_some() || request.filter.is_some();
        let most = match narrowed {
            true => candidates_for(request.limit).saturating_mul(limits::VEILED_FILTERED),
            false => candidates_for(request.limit),
        };
        let mut everything = request.exact;
        let mut wanted = if everything { points()? } else { most };
        let mut ranked = loop {
            let candidates = self.veiled_candidates(open, position, request, wanted, everything)?;
            let (best, done) = self.best_of(open, &candidates, position, request, filter, most)?;
            if done || !narrowed || everything {
                break best;
            }
            let points = points()?;
            wanted = wanted.saturating_mul(WIDER).min(points);
            everything = wanted >= points;
        };
        #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
        ranked.retain(|found| request.accepts(params.metric, found.score as f32));
        Ok(ranked)
    }

    /// The best of the candidates, and whether that is the answer: there are no others, or none that is likely to be
    /// better, or `most` were opened that pass.
    fn best_of(
        &self,
        open: &Open,
        candidates: &Candidates,
        position: u8,
        request: &SearchRequest,
        filter: Filter<'_>,
        most: usize,
    ) -> Result<(Vec<Ranked>, bool)> {
        let (_, params) = self.spec().vector(request.using.as_deref())?;
        let first = candidates_for(request.limit);
        let mut rest = candidates.found.as_slice();
        let (mut best, mut opened, mut passing) = (Vec::new(), 0, 0);
        let mut step = OPENED_FIRST.max(request.limit.saturating_mul(2)).min(first);
        loop {
            let (some, others) = rest.split_at(step.min(OPENED).min(rest.len()));
            let passed = self.opened_candidates(open, some, position, request, filter)?;
            (rest, opened, passing) = (others, opened + some.len(), passing + passed.len());
            // All may be very many: those that cannot be among the best any more are let go.
            best.extend(passed);
            keep_best(&mut best, params.metric, request.limit);
            let last = best.get(request.limit - 1).map_or(f64::NEG_INFINITY, |last: &Ranked| last.score);
            let far = last - CERTAIN * veil::SIGMA;
            let next = rest.first().map_or(f64::NEG_INFINITY, |next| f64::from(next.score)).max(candidates.others);
            let certain = next == f64::NEG_INFINITY || next <= far;
            if !request.exact && (certain || passing >= most) {
                return Ok((best, true));
            }
            step = match request.exact {
                true => rest.len(),
                false => rest.partition_point(|next| f64::from(next.score) > far),
            };
            if step == 0 {
                return Ok((best, certain));
            }
            // The last result gets better with what is opened: soon fewer may be needed.
            step = step.min(first.saturating_sub(opened).max(opened));
        }
    }

    fn veiled_candidates(
        &self,
        open: &Open,
        position: u8,
        request: &SearchRequest,
        wanted: usize,
        everything: bool,
    ) -> Result<Candidates> {
        let least = request.score_threshold.map_or(f64::NEG_INFINITY, |worst| f64::from(worst) - SLACK * veil::SIGMA);
        self.context.keyring.looking(|live| {
            // Who waits for a server must not keep the threads that others compute on.
            let mut in_turn = self.engine() != Engine::Edge;
            loop {
                let (parts, moved) = (self.sealer.parts.count(), self.sealer.parts.moved());
                // Points stay in the part that they were written to: one part may have nearly all.
                let limit = match everything {
                    true => wanted,
                    false => wanted.saturating_mul(2).div_ceil(usize::from(parts)),
                };
                let limit = limit.max(limits::VEILED_PART_RESULTS);
                let asked = Asked { request, position, limit, exact: everything, least };
                let found = self.candidates_in(open, live, parts, &asked, in_turn)?;
                // A part that came meanwhile may have records that this missed.
                if self.sealer.parts.count() != parts {
                    continue;
                }
                if in_turn || !self.sealer.parts.have_moved_since(moved) {
                    return Ok(found);
                }
                in_turn = true;
            }
        })
    }

    /// What the engine found, the best by its scores first. The epoch that seals is asked last: what moves meanwhile goes to
    /// where nobody has asked yet. So does what goes to another part of an epoch if they are asked `in_turn`, in the order
    /// in which they came, and not all at once.
    fn candidates_in(
        &self,
        open: &Open,
        live: &Live,
        parts: u16,
        asked: &Asked<'_>,
        in_turn: bool,
    ) -> Result<Candidates> {
        let tokens = asked.request.filter.as_ref().map(|filter| self.token_filter(live, filter)).transpose()?;
        let mut all = Candidates { found: Vec::new(), others: f64::NEG_INFINITY };
        for epoch in live.oldest_first() {
            let ask = |part| self.ask_part(open, (epoch, part), asked, tokens.as_ref());
            let answers: Vec<Candidates> = match in_turn {
                true => (0..parts).map(ask).collect::<Result<_>>()?,
                false => (0..parts).into_par_iter().with_max_len(1).map(ask).collect::<Result<_>>()?,
            };
            for Candidates { found, others } in answers {
                all.found.extend(found);
                all.others = all.others.max(others);
            }
        }
        all.found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    /// What is found in a part.
    fn ask_part(
        &self,
        open: &Open,
        (epoch, part): (Epoch, u16),
        asked: &Asked<'_>,
        tokens: Option<&TokenFilter>,
    ) -> Result<Candidates> {
        let Asked { request, position, limit, exact, least } = *asked;
        let query = self.sealer.veiled_query(epoch, part, position, &request.vector)?;
        let tag = TokenFilter::Tag(self.sealer.part_tag(epoch, part)?);
        let filter = match tokens {
            None => tag,
            Some(tokens) => TokenFilter::All(vec![tag, tokens.clone()]),
        };
        let nearest = Nearest {
            position,
            vector: &query,
            limit,
            exact,
            ef: request.ef.map(|ef| ef.max(limit)),
            filter: Some(&filter),
            fields: Fields::Id,
        };
        let nearest = open.engine.search(&nearest)?;
        let worst = nearest.last().map_or(f64::NEG_INFINITY, |(_, score)| f64::from(*score));
        // What comes after one whose score is too bad is no better.
        let others = if nearest.len() < limit || worst < least { f64::NEG_INFINITY } else { worst };
        let candidates = nearest.into_iter().map(|(point, score)| Candidate { id: point.id, score });
        let found = candidates.filter(|candidate| f64::from(candidate.score) >= least).collect();
        Ok(Candidates { found, others })
    }

    /// The candidates that pass, with their exact scores.
    fn opened_candidates(
        &self,
        open: &Open,
        candidates: &[Candidate],
        position: u8,
        request: &SearchRequest,
        filter: Filter<'_>,
    ) -> Result<Vec<Ranked>> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
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
        let open_one = |(point, row): (Point, Vec<u8>)| -> Result<Option<Ranked>> {
            let entry = self.entry(&point.id, &row)?;
            let vector = self.sealer.open_vector(&point, &entry)?;
            let exact = vector.vectors.at(position).ok_or_else(changed)?;
            let score = params.metric.score_f64(&request.vector, exact);
            // Tokens only narrow: the filter decides.
            let wanted = filter.is_none_or(|pass| pass(&vector.id))
                && match &request.filter {
                    None => true,
                    Some(filter) => passes(filter, &self.sealer.open_chunk(&point, &entry, &vector)?),
                };
            Ok(wanted.then_some(Ranked { point, entry, vector, score }))
        };
        let opened = sealed.into_par_iter().with_min_len(32).map(open_one).filter_map(Result::transpose);
        opened.collect()
    }
}

/// Leaves the `limit` best, best first.
fn keep_best(ranked: &mut Vec<Ranked>, metric: Metric, limit: usize) {
    // A record that moves between two epochs may be found in both: its highest version counts.
    ranked.sort_by(|a, b| a.vector.id.cmp(&b.vector.id).then(b.entry.version.cmp(&a.entry.version)));
    ranked.dedup_by(|later, kept| later.vector.id == kept.vector.id);
    ranked.sort_by(|a, b| metric.best_first(a.score, b.score).then_with(|| a.vector.id.cmp(&b.vector.id)));
    ranked.truncate(limit);
}

/// How many candidates are opened for `limit` results: the noise moves more of them past each other the more there are.
fn candidates_for(limit: usize) -> usize {
    limit.saturating_mul(limits::VEILED_OVERFETCH).max(limits::VEILED_CANDIDATES)
}
