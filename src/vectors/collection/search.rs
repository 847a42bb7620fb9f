//! Searching: by the resident index or by the engine. What is found is opened against the registry.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::vectors::engine::{Nearest, Point};
use crate::vectors::point::OpenedVector;
use crate::vectors::resident::Resident;
use crate::vectors::{Hit, Mode, SearchRequest};

use super::read::{Registered, SCROLL_POINTS};
use super::{Collection, Open};

impl Collection {
    /// The nearest chunks, best first.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>> {
        let nearest = self.nearest(request, None)?;
        let ids: Vec<_> = nearest.iter().map(|(id, _)| id.clone()).collect();
        let chunks = self.fetch(&ids)?;
        // What was deleted since the index was asked is left out.
        let hits = nearest.into_iter().zip(chunks).filter_map(|((id, score), found)| {
            let (_, chunk) = found?;
            Some(Hit { id, score, text: chunk.text, metadata: chunk.metadata })
        });
        Ok(hits.collect())
    }

    /// The ids and exact scores of the nearest records, best first; with a filter, among those whose ids pass.
    pub fn nearest(
        &self,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        let (position, params) = self.spec().vector(request.using.as_deref())?;
        request.validate(params.size, params.metric)?;
        let open = self.open()?;
        let mut found = match self.spec().mode {
            Mode::Sealed => self.search_resident(&open, position, request, filter)?,
            Mode::Plain => self.search_engine(&open, position, request, filter)?,
        };
        if let Some(worst) = request.score_threshold {
            found.retain(|(_, score)| !params.metric.better(f64::from(worst), f64::from(*score)));
        }
        Ok(found)
    }

    fn search_resident(
        &self,
        open: &Open,
        position: u8,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        loop {
            if let Some(indexes) = open.resident.read().as_ref() {
                let index = indexes.get(&position).ok_or_else(|| Error::internal("a vector without an index"))?;
                let hits = index.search(&request.vector, request.limit, filter)?;
                return Ok(hits.into_iter().map(|hit| (hit.id, hit.score)).collect());
            }
            self.load_resident(open)?;
        }
    }

    /// Opens every sealed vector into the resident indexes, and notices whatever the engine dropped or changed.
    fn load_resident(&self, open: &Open) -> Result<()> {
        let _settled = self.settled();
        if open.resident.read().is_some() {
            return Ok(());
        }
        let Registered { mut entries, damaged } = self.registered()?;
        if !damaged.is_empty() {
            return Err(Error::integrity("a registry row"));
        }
        let mut indexes: BTreeMap<u8, Resident> = (0_u8..)
            .zip(self.spec().vectors.values())
            .map(|(position, p)| Ok((position, Resident::new(p.size, p.metric, self.context.lock_policy)?)))
            .collect::<Result<_>>()?;
        for index in indexes.values_mut() {
            index.reserve(entries.len());
        }
        let mut from = None;
        loop {
            let (points, next) = open.engine.scroll(from, SCROLL_POINTS)?;
            let expected: Vec<_> = points
                .iter()
                .map(|p| {
                    entries.remove(&p.id).ok_or_else(|| Error::integrity("a record that the vector engine made up"))
                })
                .collect::<Result<_>>()?;
            let opened: Vec<OpenedVector> = points
                .par_iter()
                .zip(expected.par_iter())
                .with_min_len(32)
                .map(|(point, entry)| {
                    entry.check(self.context.keyring.provider(), &point.payload)?;
                    self.sealer.open_vector(point, entry)
                })
                .collect::<Result<_>>()?;
            for vector in &opened {
                for (position, index) in &mut indexes {
                    index.upsert(vector.id.clone(), vector.at(*position)?)?;
                }
            }
            match next {
                Some(id) => from = Some(id),
                None => break,
            }
        }
        if !entries.is_empty() {
            return Err(Error::integrity(format!("the vector engine dropped {} records: it", entries.len())));
        }
        *open.resident.write() = Some(indexes);
        Ok(())
    }

    /// Asks the engine, then trusts nothing but the sealed vectors: the score is computed from them, and an engine that
    /// scored something else is refused.
    fn search_engine(
        &self,
        open: &Open,
        position: u8,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        match self.try_search_engine(open, position, request, filter) {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write may have been under way between the engine's score and our look. Without one, it has to fit.
                let _settled = self.settled();
                self.try_search_engine(open, position, request, filter)
            }
            other => other,
        }
    }

    fn try_search_engine(
        &self,
        open: &Open,
        position: u8,
        request: &SearchRequest,
        filter: Option<&(dyn Fn(&RecordId) -> bool + Sync)>,
    ) -> Result<Vec<(RecordId, f32)>> {
        let (_, params) = self.spec().vector(request.using.as_deref())?;
        let metric = params.metric;
        // The engine cannot filter by what it must not know: ask for everything and filter here.
        let limit = if filter.is_some() { open.engine.status()?.points } else { request.limit };
        if limit == 0 {
            return Ok(Vec::new());
        }
        let nearest = Nearest { position, vector: &request.vector, limit, exact: request.exact, ef: request.ef };
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
                found.push((chunk.id.clone(), exact));
            }
        }
        found.sort_by(|a, b| metric.best_first(a.1, b.1).then_with(|| a.0.cmp(&b.0)));
        found.truncate(request.limit);
        #[expect(clippy::cast_possible_truncation, reason = "scores are f32 outside")]
        let found = found.into_iter().map(|(id, score)| (id, score as f32)).collect();
        Ok(found)
    }
}
