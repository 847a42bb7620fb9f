//! Copying a collection's sealed points out and back in, as backups do, without opening one.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::kv::{Batch, Table};
use crate::limits;
use crate::vectors::engine::{EngineCollection as _, Fields, Page, Point};
use crate::vectors::registry;

use super::Collection;
use super::read::registered_id;

impl Collection {
    /// The number of the last write, once the engine has been given it and all before it.
    pub(crate) fn settled_head(&self) -> Result<u64> {
        self.open()?;
        let (head, _applied) = self.settled();
        Ok(*head)
    }

    /// Up to `limit` sealed points in the order of their ids, from `from` on, and the id to go on from: as they are at
    /// the moment. Writes go on between two pages.
    pub(crate) fn sealed_page(&self, from: Option<Uuid>, limit: usize) -> Result<Page> {
        self.open()?.engine.scroll(from, limit, Fields::Both)
    }

    /// Gives the engine the points of a copy, before the collection is first opened and its journal replayed on top of
    /// them. Returns how many there were.
    pub(crate) fn load(&self, buckets: impl Iterator<Item = Result<Vec<Point>>>) -> Result<u64> {
        let _opening = self.opening.lock();
        let slot = self.open.write();
        if slot.current.is_some() || super::is_closing(&slot) {
            return Err(Error::internal("points were loaded into an open collection"));
        }
        let engine = self.context.engine.open(self.id(), &self.home(), &self.shape(self.mode()))?;
        let mut points = 0;
        for bucket in buckets {
            let bucket = bucket?;
            points += bucket.len() as u64;
            engine.upsert(bucket)?;
        }
        if engine.flush()? { Ok(points) } else { Err(Error::internal("a collection that nobody uses was optimized")) }
    }

    /// Removes every record that is sealed in one of `epochs`, whose keys are gone. Nobody else may use the collection.
    pub(crate) fn discard(&self, epochs: &BTreeSet<Epoch>) -> Result<()> {
        let open = self.open()?;
        let head = *self.settled().0;
        let mut lost = Vec::new();
        for row in self.context.kv.scan(Table::Registry, self.id().as_bytes()) {
            let (key, value) = row?;
            if epochs.contains(&registry::claimed_epoch(&value)?) {
                lost.push(registered_id(&key)?);
            }
        }
        for ids in lost.chunks(limits::WRITE_RECORDS) {
            open.engine.delete(ids, head)?;
        }
        drop(open);
        // The journal has them too, and goes with the flush.
        self.close()?;
        for ids in lost.chunks(limits::WRITE_RECORDS) {
            let mut batch = Batch::default();
            batch.frees_space();
            ids.iter().for_each(|id| batch.delete(Table::Registry, self.registry_key(id)));
            self.context.kv.write(batch)?;
        }
        Ok(())
    }
}
