//! The engine that a collection sits in: one, and while it moves a second that is given every write too.

use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use crate::error::{Error, Result};

use super::engine::{EngineCollection, EngineStatus, Fields, Nearest, Page, Point, TokenFilter};

type Engine = Arc<dyn EngineCollection>;

/// What the engine that it moves to is given in place of points.
pub(super) type Derive = Arc<dyn Fn(Vec<Point>) -> Result<Vec<Point>> + Send + Sync>;

pub(super) struct Seat {
    engine: RwLock<Engine>,
    /// Where it moves to.
    next: RwLock<Option<Next>>,
}

struct Next {
    engine: Engine,
    derive: Derive,
    /// Why it misses a write. Whoever writes is not told: what counts is the engine that it still sits in.
    failed: Option<Error>,
}

impl Seat {
    pub(super) fn new(engine: Box<dyn EngineCollection>) -> Self {
        Self { engine: RwLock::new(engine.into()), next: RwLock::new(None) }
    }

    /// Where it sits.
    pub(super) fn current(&self) -> Engine {
        self.engine.read().clone()
    }

    /// Gives `engine` every write from now on, with what `derive` makes of points. Nobody may write meanwhile.
    pub(super) fn begin(&self, engine: Engine, derive: Derive) {
        *self.next.write() = Some(Next { engine, derive, failed: None });
    }

    /// Why the engine that it moves to misses a write, if it does.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.next.write().as_mut().and_then(|next| next.failed.take())
    }

    /// Stays where it is.
    pub(super) fn give_up(&self) {
        *self.next.write() = None;
    }

    /// Sits in the engine that it moves to, and returns the other. Nobody may write meanwhile.
    pub(super) fn change(&self) -> Result<Engine> {
        match self.next.write().take() {
            Some(Next { engine, failed: None, .. }) => Ok(std::mem::replace(&mut *self.engine.write(), engine)),
            Some(Next { failed: Some(e), .. }) => Err(e),
            None => Err(Error::internal("a collection that does not move")),
        }
    }

    /// The same write to the engine that it moves to, if it moves.
    fn also(&self, write: impl FnOnce(&Next) -> Result<()>) {
        let mut next = self.next.write();
        if let Some(next) = next.as_mut().filter(|next| next.failed.is_none()) {
            next.failed = write(next).err();
        }
    }

    fn moves(&self) -> bool {
        self.next.read().is_some()
    }
}

impl EngineCollection for Seat {
    fn upsert(&self, points: Vec<Point>) -> Result<()> {
        let copy = if self.moves() { points.clone() } else { Vec::new() };
        self.current().upsert(points)?;
        self.also(|next| next.engine.upsert((next.derive)(copy)?));
        Ok(())
    }

    fn delete(&self, ids: &[Uuid], through: u64) -> Result<()> {
        self.current().delete(ids, through)?;
        self.also(|next| next.engine.delete(ids, through));
        Ok(())
    }

    fn retrieve(&self, ids: &[Uuid], fields: Fields) -> Result<Vec<Point>> {
        self.current().retrieve(ids, fields)
    }

    fn scroll_filtered(
        &self,
        from: Option<Uuid>,
        limit: usize,
        fields: Fields,
        filter: Option<&TokenFilter>,
    ) -> Result<Page> {
        self.current().scroll_filtered(from, limit, fields, filter)
    }

    fn search(&self, nearest: &Nearest<'_>) -> Result<Vec<(Point, f32)>> {
        self.current().search(nearest)
    }

    fn status(&self) -> Result<EngineStatus> {
        self.current().status()
    }

    fn write_back(&self) {
        self.current().write_back();
    }

    fn flush(&self) -> Result<bool> {
        self.current().flush()
    }

    fn optimize(&self) -> Result<bool> {
        self.current().optimize()
    }
}
