//! One place of a server as a collection of the engine.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use qdrant_client::qdrant::{GetCollectionInfoRequest, RetrievedPoint, ScoredPoint};
use uuid::Uuid;

use super::Server;
use super::point::{from_id, from_qdrant, to_qdrant};
use super::scope::{Retrieve, Scope};
use crate::error::{Error, Result};
use crate::limits;
use crate::vectors::engine::{EngineCollection, EngineStatus, Fields, Nearest, Page, Point, TokenFilter};

pub(super) struct ServerCollection {
    server: Arc<Server>,
    scope: Scope,
    searchable: bool,
}

impl ServerCollection {
    pub(super) fn new(server: Arc<Server>, scope: Scope, searchable: bool) -> Self {
        Self { server, scope, searchable }
    }

    /// As many points from `from` on as fit into an answer, `limit` at most.
    fn page(&self, from: Option<&Uuid>, limit: usize, fields: Fields, filter: Option<&TokenFilter>) -> Result<Page> {
        let mut limit = limit.clamp(1, limits::QDRANT_READ_POINTS);
        loop {
            let message = self.scope.scroll(from, limit, fields, self.searchable && fields == Fields::Both, filter);
            let answer =
                self.server.link.bounded(message, |mut c, request| async move { c.points.scroll(request).await })?;
            let Some(answer) = answer else {
                limit = half(limit)?;
                continue;
            };
            let points = self.retrieved(answer.result, fields)?;
            let next = answer.next_page_offset.map(|id| from_id(Some(id))).transpose()?;
            self.check_page(from, limit, &points, next.as_ref())?;
            return Ok((points, next));
        }
    }

    /// That a page is one, and that the next one comes after it: else a listing would never end.
    fn check_page(&self, from: Option<&Uuid>, limit: usize, points: &[Point], next: Option<&Uuid>) -> Result<()> {
        let ids = points.iter().map(|point| &point.id).chain(next);
        let in_order = ids.clone().zip(ids.clone().skip(1)).all(|(a, b)| a < b);
        let after = from.is_none_or(|from| ids.clone().next().is_none_or(|first| first >= from));
        let ends = next.is_none() || !points.is_empty();
        if in_order && after && ends && points.len() <= limit {
            Ok(())
        } else {
            Err(Error::integrity("a page of Qdrant's points"))
        }
    }

    fn retrieved(&self, points: Vec<RetrievedPoint>, fields: Fields) -> Result<Vec<Point>> {
        let tag = self.scope.tag();
        points.into_iter().map(|p| from_qdrant(p.id, p.payload, p.vectors, fields, tag)).collect()
    }

    /// The nearest points, unless they are too large for one answer.
    fn find(&self, nearest: &Nearest<'_>, fields: Fields) -> Result<Option<Vec<(Point, f32)>>> {
        let message = self.scope.nearest(nearest, fields);
        let answer =
            self.server.link.bounded(message, |mut c, request| async move { c.points.query(request).await })?;
        let Some(answer) = answer else { return Ok(None) };
        if answer.result.len() > nearest.limit {
            return Err(Error::integrity("what Qdrant found"));
        }
        let point = |found: ScoredPoint| {
            let score = found.score;
            Ok((from_qdrant(found.id, found.payload, None, fields, self.scope.tag())?, score))
        };
        answer.result.into_iter().map(point).collect::<Result<_>>().map(Some)
    }

    fn retrieve_some(&self, ids: &[Uuid], fields: Fields) -> Result<Option<Vec<Point>>> {
        let link = &self.server.link;
        let found = match self.scope.retrieve(ids, fields) {
            Retrieve::Ids(message) => {
                let answer = link.bounded(message, |mut c, request| async move { c.points.get(request).await })?;
                answer.map(|answer| answer.result)
            }
            Retrieve::Filtered(message) => {
                let answer = link.bounded(message, |mut c, request| async move { c.points.scroll(request).await })?;
                answer.map(|answer| answer.result)
            }
        };
        let Some(found) = found else { return Ok(None) };
        let points = self.retrieved(found, fields)?;
        let asked: HashSet<&Uuid> = ids.iter().collect();
        if points.len() > ids.len() || points.iter().any(|point| !asked.contains(&point.id)) {
            return Err(Error::integrity("what Qdrant found"));
        }
        Ok(Some(points))
    }
}

impl EngineCollection for ServerCollection {
    fn upsert(&self, points: Vec<Point>) -> Result<()> {
        let newest = points.iter().map(|point| point.version).max().unwrap_or_default();
        let mut points = points.into_iter().peekable();
        while points.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(point) = points.next_if(|point| {
                batch.is_empty()
                    || (batch.len() < limits::QDRANT_WRITE_POINTS
                        && bytes + weight(point) <= limits::QDRANT_WRITE_BYTES)
            }) {
                bytes += weight(&point);
                batch.push(to_qdrant(point, self.scope.tag())?);
            }
            let message = self.scope.upsert(batch, newest);
            self.server.link.points(message, |mut c, request| async move { c.points.upsert(request).await })?;
        }
        Ok(())
    }

    fn delete(&self, ids: &[Uuid], through: u64) -> Result<()> {
        for ids in ids.chunks(limits::QDRANT_READ_POINTS) {
            let message = self.scope.delete(ids, through);
            self.server.link.points(message, |mut c, request| async move { c.points.delete(request).await })?;
        }
        Ok(())
    }

    fn retrieve(&self, ids: &[Uuid], fields: Fields) -> Result<Vec<Point>> {
        let mut found = Vec::with_capacity(ids.len());
        let (mut rest, mut most) = (ids, limits::QDRANT_READ_POINTS);
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rest.len().min(most));
            match self.retrieve_some(some, fields)? {
                Some(points) => {
                    found.extend(points);
                    rest = others;
                }
                None => most = half(some.len())?,
            }
        }
        Ok(found)
    }

    fn scroll_filtered(
        &self,
        from: Option<Uuid>,
        limit: usize,
        fields: Fields,
        filter: Option<&TokenFilter>,
    ) -> Result<Page> {
        let (mut points, mut next) = self.page(from.as_ref(), limit, fields, filter)?;
        // What is asked for at once may be more than one answer has; bytes are bounded by what one answer may have.
        let small = matches!(fields, Fields::Head | Fields::Id);
        while let (Some(from), true) = (next, small && points.len() < limit) {
            let (more, after) = self.page(Some(&from), limit - points.len(), fields, filter)?;
            points.extend(more);
            next = after;
        }
        Ok((points, next))
    }

    fn search(&self, nearest: &Nearest<'_>) -> Result<Vec<(Point, f32)>> {
        if let Some(found) = self.find(nearest, nearest.fields)? {
            return Ok(found);
        }
        // More than fits into one answer: first which, then what they are.
        let found = self.find(nearest, Fields::Head)?.ok_or_else(|| Error::integrity("what Qdrant found"))?;
        let ids: Vec<Uuid> = found.iter().map(|(point, _)| point.id).collect();
        let mut points: HashMap<Uuid, Point> =
            self.retrieve(&ids, nearest.fields)?.into_iter().map(|point| (point.id, point)).collect();
        // What was deleted in between is left out.
        Ok(found.into_iter().filter_map(|(head, score)| Some((points.remove(&head.id)?, score))).collect())
    }

    fn status(&self) -> Result<EngineStatus> {
        let link = &self.server.link;
        let counted = link.points(self.scope.count(), |mut c, request| async move { c.points.count(request).await })?;
        let points = usize::try_from(counted.result.map_or(0, |result| result.count)).unwrap_or(usize::MAX);
        if !self.searchable {
            return Ok(EngineStatus { points, indexed_vectors: 0 });
        }
        let ask = GetCollectionInfoRequest { collection_name: self.scope.physical().to_owned() };
        let answer = link.about(ask, |mut c, request| async move { c.collections.get(request).await })?;
        let info = answer.result.unwrap_or_default();
        let indexed = usize::try_from(info.indexed_vectors_count()).unwrap_or(usize::MAX);
        // In a shared collection, how many others have there is nobody's business.
        let all = info.indexed_vectors_count() >= info.points_count();
        let indexed_vectors = match self.scope.is_shared() {
            true if all => points,
            true => 0,
            false => indexed,
        };
        Ok(EngineStatus { points, indexed_vectors })
    }

    /// The server acknowledges what is in its write-ahead log, which survives it.
    fn flush(&self) -> Result<bool> {
        Ok(true)
    }

    /// The server does by itself.
    fn optimize(&self) -> Result<bool> {
        Ok(false)
    }
}

/// About how many bytes a point takes on the wire.
fn weight(point: &Point) -> usize {
    let vectors: usize = point.searchable.iter().map(|(_, vector)| size_of_val(&vector[..]) + 16).sum();
    (point.payload.len() + point.vector.len()) / 3 * 4 + vectors + point.tokens.len() * 36 + 200
}

/// Half of what was too much for one answer.
fn half(points: usize) -> Result<usize> {
    match points / 2 {
        0 => Err(Error::integrity("a point of Qdrant")),
        half => Ok(half),
    }
}
