//! A vector engine whose every stored byte the test can change: it keeps points in a map and does as it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use strongroom::vectors::CollectionId;
use strongroom::vectors::engine::{
    EngineCollection, EngineStatus, Fields, Nearest, Page, Point, Shape, TokenFilter, VectorBackend,
};
use strongroom::{Metric, Result};
use uuid::Uuid;

pub type Points = BTreeMap<Uuid, Point>;

/// What the engine stores, and how it answers.
#[derive(Default)]
pub struct Stored {
    pub collections: BTreeMap<CollectionId, Points>,
    /// Every answer has its first point twice.
    pub repeats: bool,
    /// Added to every score.
    pub score_lie: f32,
    /// Says that it is empty.
    pub denies: bool,
    /// Lists points that nobody wrote, without end.
    pub endless: bool,
}

#[derive(Clone, Default)]
pub struct Vault {
    pub stored: Arc<Mutex<Stored>>,
}

struct Opened {
    id: CollectionId,
    metrics: Vec<Metric>,
    stored: Arc<Mutex<Stored>>,
}

impl VectorBackend for Vault {
    fn open(&self, id: CollectionId, shape: &Shape) -> Result<Box<dyn EngineCollection>> {
        self.stored.lock().collections.entry(id).or_default();
        let metrics = shape.vectors.iter().map(|s| s.metric).collect();
        Ok(Box::new(Opened { id, metrics, stored: self.stored.clone() }))
    }

    fn drop_collection(&self, id: CollectionId) -> Result<()> {
        self.stored.lock().collections.remove(&id);
        Ok(())
    }
}

impl Opened {
    fn with<T>(&self, work: impl FnOnce(&mut Points) -> T) -> T {
        work(self.stored.lock().collections.get_mut(&self.id).unwrap())
    }

    fn answer<T: Clone>(&self, mut found: Vec<T>) -> Vec<T> {
        if self.stored.lock().repeats {
            found.extend(found.first().cloned());
        }
        found
    }
}

impl EngineCollection for Opened {
    fn upsert(&self, points: Vec<Point>) -> Result<()> {
        self.with(|stored| stored.extend(points.into_iter().map(|p| (p.id, p))));
        Ok(())
    }

    fn delete(&self, ids: &[Uuid], _through: u64) -> Result<()> {
        self.with(|stored| stored.retain(|id, _| !ids.contains(id)));
        Ok(())
    }

    fn retrieve(&self, ids: &[Uuid], _: Fields) -> Result<Vec<Point>> {
        Ok(self.answer(self.with(|stored| ids.iter().filter_map(|id| stored.get(id).cloned()).collect())))
    }

    fn scroll_filtered(
        &self,
        from: Option<Uuid>,
        limit: usize,
        _fields: Fields,
        filter: Option<&TokenFilter>,
    ) -> Result<Page> {
        if self.stored.lock().endless {
            let first = from.unwrap_or_default().as_u128();
            let made_up = |n: u128| {
                let (searchable, tag, tokens) = (Vec::new(), None, Vec::new());
                let (payload, vector) = (Vec::new(), Vec::new());
                Point { id: Uuid::from_u128(n), epoch: 1, version: 1, payload, vector, searchable, tag, tokens }
            };
            let end = first + limit as u128;
            return Ok(((first..end).map(made_up).collect(), Some(Uuid::from_u128(end))));
        }
        let passes = |p: &Point| filter.is_none_or(|filter| filter.passes(p.tag.as_ref(), &p.tokens));
        let mut points: Vec<Point> = self.with(|stored| {
            let rest = stored.range(from.unwrap_or_default()..).map(|(_, p)| p);
            rest.filter(|p| passes(p)).take(limit + 1).cloned().collect()
        });
        let next = if points.len() > limit { points.pop().map(|p| p.id) } else { None };
        Ok((self.answer(points), next))
    }

    fn search(&self, nearest: &Nearest<'_>) -> Result<Vec<(Point, f32)>> {
        let metric = self.metrics[usize::from(nearest.position)];
        let lie = self.stored.lock().score_lie;
        let mut found: Vec<(Point, f32)> = self.with(|stored| {
            let vector = |p: &Point| Some(p.searchable.iter().find(|(at, _)| *at == nearest.position)?.1.clone());
            let passes = |p: &&Point| nearest.filter.is_none_or(|filter| filter.passes(p.tag.as_ref(), &p.tokens));
            let scored = stored
                .values()
                .filter(passes)
                .filter_map(|p| Some((p.clone(), metric.score(nearest.vector, &vector(p)?) + lie)));
            scored.collect()
        });
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        if metric == Metric::Euclid {
            found.reverse();
        }
        found.truncate(nearest.limit);
        Ok(self.answer(found))
    }

    fn status(&self) -> Result<EngineStatus> {
        let points = if self.stored.lock().denies { 0 } else { self.with(|stored| stored.len()) };
        Ok(EngineStatus { points, indexed_vectors: 0 })
    }

    fn flush(&self) -> Result<bool> {
        Ok(true)
    }

    fn optimize(&self) -> Result<bool> {
        Ok(false)
    }
}
