//! Writing: seal → registry and journal in one batch → disk → engine and indexes in the order of the journal.

use std::collections::HashSet;

use parking_lot::{Condvar, MutexGuard};
use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::keys::{Live, Writing};
use crate::kv::{Batch, Table};
use crate::limits;
use crate::vectors::journal::{self, JournalEntry};
use crate::vectors::point::{Embedding, Sealed};
use crate::vectors::registry::Entry;
use crate::vectors::{Chunk, Mode};

use super::{Collection, Indexes, Open, apply};

/// Chunks to write and ids to delete, as one change.
#[derive(Default)]
pub struct Staged {
    /// Chunks to write: each replaces what has its id.
    pub upserts: Vec<Chunk>,
    /// Ids to delete.
    pub deletes: Vec<RecordId>,
}

/// What a write removes.
struct Gone {
    points: Vec<Uuid>,
    /// How many of the records to delete were there.
    records: usize,
}

/// What a write means for the parts of a veiled collection.
struct Veiling {
    /// How many there are then.
    parts: u16,
    /// How many records there are then, if that counts.
    records: Option<usize>,
    /// Whether records are written again, which may take them to other parts.
    again: bool,
}

/// The turn of one write: passes on when dropped, whatever happened meanwhile.
struct Turn<'a> {
    applied: MutexGuard<'a, u64>,
    seq: u64,
    passed: &'a Condvar,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.applied = self.seq;
        self.passed.notify_all();
    }
}

impl Collection {
    /// Writes `chunks`, all or nothing; each replaces what has its id. Returns the version they have now, once they
    /// would survive a power loss.
    pub fn upsert(&self, chunks: Vec<Chunk>) -> Result<u64> {
        let staged = Staged { upserts: chunks, deletes: Vec::new() };
        self.write(&self.context.keyring.writing(), staged, Batch::default()).map(|(version, _)| version)
    }

    /// Deletes `ids`, all or nothing, and returns how many were there.
    pub fn delete(&self, mut ids: Vec<RecordId>) -> Result<usize> {
        ids.sort();
        ids.dedup();
        let staged = Staged { upserts: Vec::new(), deletes: ids };
        self.write(&self.context.keyring.writing(), staged, Batch::default()).map(|(_, deleted)| deleted)
    }

    /// Writes `staged` if every record of `expected` still has the version that it is given there: see
    /// [`write_expecting`](Self::write_expecting).
    pub fn change(&self, staged: Staged, expected: &[(RecordId, Option<u64>)]) -> Result<u64> {
        let writing = self.context.keyring.writing();
        self.write_expecting(&writing, staged, Batch::default(), expected).map(|(version, _)| version)
    }

    /// Writes `staged` together with `beside`, all or nothing. Returns the version and how many of the ids to delete
    /// were there.
    pub fn write(&self, writing: &Writing<'_>, staged: Staged, beside: Batch) -> Result<(u64, usize)> {
        self.write_expecting(writing, staged, beside, &[])
    }

    /// The same if every record of `expected` still has the version that it is given there; `None` is not to be there.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) when one has another: nothing is written then.
    pub fn write_expecting(
        &self,
        writing: &Writing<'_>,
        staged: Staged,
        beside: Batch,
        expected: &[(RecordId, Option<u64>)],
    ) -> Result<(u64, usize)> {
        self.check(&staged)?;
        let open = self.open()?;
        let head = self.head.lock();
        self.expect_versions(writing.live(), expected)?;
        self.write_after(&open, head, writing, staged, beside)
    }

    /// Writes what has been checked, after the write that `head` is at.
    pub(super) fn write_after(
        &self,
        open: &Open,
        mut head: MutexGuard<'_, u64>,
        writing: &Writing<'_>,
        staged: Staged,
        beside: Batch,
    ) -> Result<(u64, usize)> {
        if staged.upserts.is_empty() && staged.deletes.is_empty() && beside.is_empty() {
            return Ok((*head, 0));
        }
        let seq = head.checked_add(1).ok_or_else(|| Error::integrity("the head of a journal"))?;
        let Veiling { parts, records, again } = self.veiling(writing.live(), &staged.upserts)?;
        let seal = |chunk| self.sealer.seal(writing.epoch(), chunk, seq, parts);
        let sealed: Vec<Sealed> = staged.upserts.par_iter().with_min_len(32).map(seal).collect::<Result<_>>()?;
        let Gone { points: deletes, records: deleted } = self.gone(writing.live(), &staged)?;

        let mut batch = beside;
        if sealed.is_empty() {
            batch.frees_space();
        }
        let mut points = Vec::with_capacity(sealed.len());
        let mut embeddings = Vec::with_capacity(sealed.len());
        for Sealed { point, entry, embedding, .. } in sealed {
            self.register(&mut batch, &point.id, &entry)?;
            points.push(point);
            embeddings.push(embedding);
        }
        deletes.iter().for_each(|id| batch.delete(Table::Registry, self.registry_key(id)));
        let writes = [JournalEntry::Upsert(points), JournalEntry::Delete(deletes)];
        let bytes = journal::append(&mut batch, self.id(), seq, &writes)?;
        self.sealer.parts.put(&mut batch, self.id(), parts);
        self.context.kv.write(batch)?;
        self.sealer.parts.stored(parts, records, deleted);
        *head = seq;
        drop(head);

        let synced = self.context.kv.sync();
        let _moving = again.then(|| self.sealer.parts.moving());
        self.give_to_engine(open, seq, bytes, synced, writes, |indexes| {
            self.update_indexes(indexes, &staged, embeddings)
        })?;
        Ok((seq, deleted))
    }

    /// What a write of `chunks` means for the parts. It is not for the engine to say how many records there are: with too few
    /// parts it would find out more.
    fn veiling(&self, live: &Live, chunks: &[Chunk]) -> Result<Veiling> {
        if self.mode() != Mode::Veiled {
            return Ok(Veiling { parts: self.sealer.parts.count(), records: None, again: false });
        }
        let rows = self.registry_rows(&self.candidates(live, chunks.iter().map(|chunk| &chunk.id))?)?;
        let lives = 1 + live.older().len();
        let new = rows.chunks(lives).filter(|rows| rows.iter().all(Option::is_none)).count();
        let (parts, records) = self.sealer.parts.with(new, || self.registry_len())?;
        Ok(Veiling { parts, records: Some(records), again: parts > 1 && new < chunks.len() })
    }

    /// Nobody may write meanwhile.
    fn expect_versions(&self, live: &Live, expected: &[(RecordId, Option<u64>)]) -> Result<()> {
        let points = self.candidates(live, expected.iter().map(|(id, _)| id))?;
        let rows = self.registry_rows(&points)?;
        let lives = 1 + live.older().len();
        for ((points, rows), (_, version)) in points.chunks(lives).zip(rows.chunks(lives)).zip(expected) {
            // A record is in one epoch.
            let found = points.iter().zip(rows).find_map(|(id, row)| Some((id, row.as_ref()?)));
            let found = found.map(|(id, row)| self.entry(id, row)).transpose()?;
            if found.map(|entry| entry.version) != *version {
                return Err(Error::new(ErrorKind::Conflict, "a record was changed meanwhile")
                    .with_remedy("read it again, and write what follows from that"));
            }
        }
        Ok(())
    }

    /// Adds the registry row of a point to `batch`.
    pub(super) fn register(&self, batch: &mut Batch, id: &Uuid, entry: &Entry) -> Result<()> {
        let key = self.registry_key(id);
        let row = entry.to_row(&self.context.keyring, &key)?;
        batch.put(Table::Registry, key, row);
        Ok(())
    }

    /// What goes when `staged` is written: the records to delete, in whatever epoch they are, and what older epochs have
    /// of those that are written anew.
    fn gone(&self, live: &Live, staged: &Staged) -> Result<Gone> {
        let lives = 1 + live.older().len();
        let mut points = Vec::with_capacity(staged.deletes.len() * lives);
        for id in &staged.deletes {
            for epoch in live.newest_first() {
                points.push(self.sealer.blind(epoch, id)?);
            }
        }
        let rows = self.registry_rows(&points)?;
        let records = rows.chunks(lives).filter(|rows| rows.iter().any(Option::is_some)).count();
        let mut before = Vec::with_capacity(staged.upserts.len() * live.older().len());
        for chunk in &staged.upserts {
            for epoch in live.older() {
                before.push(self.sealer.blind(*epoch, &chunk.id)?);
            }
        }
        let rows = self.registry_rows(&before)?;
        points.extend(before.into_iter().zip(rows).filter_map(|(id, row)| row.is_some().then_some(id)));
        Ok(Gone { points, records })
    }

    /// The registry rows of points, in their order.
    pub(super) fn registry_rows(&self, points: &[Uuid]) -> Result<Vec<Option<Vec<u8>>>> {
        let keys: Vec<_> = points.iter().map(|id| self.registry_key(id)).collect();
        self.context.kv.get_many(Table::Registry, &keys)
    }

    /// Waits for the turn of write number `seq`, which is in the journal, and gives it to the engine and the indexes.
    pub(super) fn give_to_engine(
        &self,
        open: &super::Open,
        seq: u64,
        bytes: usize,
        synced: Result<()>,
        writes: [JournalEntry; 2],
        update: impl FnOnce(&mut Indexes) -> Result<()>,
    ) -> Result<()> {
        // The number is taken: whatever happened, its turn must pass.
        let turn = self.wait_for_turn(seq);
        self.note_write(bytes);
        let result = synced.and_then(|()| self.take_effect(open, seq, writes, update));
        if result.is_err() {
            // Within the turn: nobody may flush an engine that misses a write and trim the journal that has it.
            self.give_up();
        }
        drop(turn);
        result
    }

    fn wait_for_turn(&self, seq: u64) -> Turn<'_> {
        let mut applied = self.applied.lock();
        while *applied != seq - 1 {
            self.turn.wait(&mut applied);
        }
        Turn { applied, seq, passed: &self.turn }
    }

    fn take_effect(
        &self,
        open: &super::Open,
        seq: u64,
        writes: [JournalEntry; 2],
        update: impl FnOnce(&mut Indexes) -> Result<()>,
    ) -> Result<()> {
        for write in writes {
            let empty = match &write {
                JournalEntry::Upsert(points) => points.is_empty(),
                JournalEntry::Delete(ids) => ids.is_empty(),
            };
            if !empty {
                apply(&open.engine, seq, write)?;
            }
        }
        let mut resident = open.resident.write();
        let Some(indexes) = resident.as_mut() else { return Ok(()) };
        if let Err(e) = update(indexes) {
            // The write is done all the same; the next search loads the indexes anew and says what is wrong.
            tracing::warn!(collection = %self.id(), error = %e, "an index could not be updated and was dropped");
            *resident = None;
        }
        Ok(())
    }

    fn update_indexes(&self, indexes: &mut Indexes, staged: &Staged, embeddings: Vec<Embedding>) -> Result<()> {
        // What is deleted leaves its slots to what comes.
        for id in &staged.deletes {
            let Some(slot) = indexes.records.remove(id) else { continue };
            indexes.by_vector.values_mut().try_for_each(|index| index.remove(slot).map(|_| ()))?;
            if let Some(payload) = &mut indexes.payload {
                payload.remove(slot)?;
            }
        }
        for (chunk, embedding) in staged.upserts.iter().zip(embeddings) {
            let slot = indexes.records.add(&chunk.id)?;
            indexes.set_embedding(slot, embedding);
            for (position, name) in (0_u8..).zip(self.spec().vectors.keys()) {
                let Some(index) = indexes.by_vector.get_mut(&position) else { continue };
                match chunk.vectors.get(name) {
                    Some(vector) => index.upsert(slot, vector)?,
                    None => {
                        index.remove(slot)?;
                    }
                }
            }
            if let Some(payload) = &mut indexes.payload {
                let has = |name: &str| chunk.vectors.get(name).is_some() || chunk.vectors.sparse(name).is_some();
                payload.upsert(slot, &chunk.metadata, has)?;
            }
        }
        for (position, name) in (0_u8..).zip(self.spec().sparse.keys()) {
            let Some(index) = indexes.by_sparse.get_mut(&position) else { continue };
            for chunk in &staged.upserts {
                match chunk.vectors.sparse(name) {
                    Some(vector) => index.upsert(chunk.id.clone(), vector)?,
                    None => {
                        index.remove(&chunk.id);
                    }
                }
            }
            staged.deletes.iter().for_each(|id| {
                index.remove(id);
            });
        }
        if let Some(keywords) = &mut indexes.keywords {
            keywords.upsert(staged.upserts.par_iter().map(|chunk| (&chunk.id, chunk.text.as_str())))?;
            staged.deletes.iter().for_each(|id| {
                keywords.remove(id);
            });
        }
        indexes.fit()
    }

    fn check(&self, staged: &Staged) -> Result<()> {
        let records = staged.upserts.len() + staged.deletes.len();
        if records > limits::WRITE_RECORDS {
            return Err(Error::invalid(format!("a write of {records} records is too large"))
                .with_remedy(format!("split it into writes of at most {}", limits::WRITE_RECORDS)));
        }
        let mut ids = HashSet::with_capacity(records);
        for chunk in &staged.upserts {
            chunk.validate(self.spec())?;
            if !ids.insert(&chunk.id) {
                return Err(Error::invalid(format!("record `{}` is in the write twice", chunk.id)));
            }
        }
        match staged.deletes.iter().find(|id| !ids.insert(id)) {
            Some(id) => Err(Error::invalid(format!("record `{id}` is in the write twice"))),
            None => Ok(()),
        }
    }

    pub(super) fn registry_key(&self, id: &Uuid) -> Vec<u8> {
        [&self.id().as_bytes()[..], id.as_bytes()].concat()
    }
}
