//! The points of a veiled collection: which part each belongs to, what the engine is given, and how many parts there are.

use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::{Epoch, RecordId};
use crate::keys::label;
use crate::kv::{Batch, KvBackend, Table};

use super::engine::Point;
use super::point::{OpenedVector, PointSealer};
use super::shaping::Shaping;
use super::vector_plain::Embeddings;
use super::{CollectionId, Metric, veil};

/// What the key begins with under which a collection's number of parts is.
const PARTS: &[u8] = b"veil/";

/// How many parts a veiled collection has. They only grow in number: who asks all of them misses nothing.
pub(super) struct Parts {
    /// As it is stored.
    count: AtomicU16,
    /// How many records there are, rather more than less; [`usize::MAX`] before anybody counted.
    records: AtomicUsize,
    /// Writes that may take records to other parts: how many began, and how many ended.
    moves: [AtomicU64; 2],
}

/// While it lives, records may go to other parts.
pub(super) struct Moving<'a>(&'a Parts);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let [_, ended] = &self.0.moves;
        ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Parts {
    /// As the database has it.
    pub(super) fn load(kv: &dyn KvBackend, id: CollectionId) -> Result<Self> {
        let count = match kv.get(Table::Meta, &parts_key(id))? {
            Some(row) => {
                let bytes = row[..].try_into().map_err(|_| Error::integrity("a number of parts"))?;
                u16::from_be_bytes(bytes)
            }
            None => 1,
        };
        if !(1..=veil::MOST_PARTS).contains(&count) {
            return Err(Error::integrity("a number of parts"));
        }
        let (count, records) = (AtomicU16::new(count), AtomicUsize::new(usize::MAX));
        Ok(Self { count, records, moves: Default::default() })
    }

    /// Who writes what may be in another part says so until the engine has it.
    pub(super) fn moving(&self) -> Moving<'_> {
        let [began, _] = &self.moves;
        began.fetch_add(1, Ordering::SeqCst);
        Moving(self)
    }

    /// How many writes that may have taken records to other parts have ended.
    pub(super) fn moved(&self) -> u64 {
        let [_, ended] = &self.moves;
        ended.load(Ordering::SeqCst)
    }

    /// Whether records may have gone to other parts since [`moved`](Self::moved) said `before`: a write was under way then,
    /// or began later.
    pub(super) fn have_moved_since(&self, before: u64) -> bool {
        let [began, _] = &self.moves;
        began.load(Ordering::SeqCst) != before
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.count.load(Ordering::SeqCst)
    }

    /// How many there are to be once `new` records more are written, and how many records there are then; `registered`
    /// counts those that are there. Only who holds off other writes may ask.
    pub(super) fn with(&self, new: usize, registered: impl FnOnce() -> Result<usize>) -> Result<(u16, usize)> {
        let known = match self.records.load(Ordering::SeqCst) {
            usize::MAX => registered()?,
            known => known,
        };
        let records = known.saturating_add(new);
        Ok((veil::parts_for(records).max(self.count()), records))
    }

    /// How many there are to be where `points` points become veiled.
    pub(super) fn for_points(&self, points: usize) -> u16 {
        veil::parts_for(points).max(self.count())
    }

    /// Adds the number to the batch that first needs it.
    pub(super) fn put(&self, batch: &mut Batch, id: CollectionId, count: u16) {
        if count != self.count() {
            batch.put(Table::Meta, parts_key(id), count.to_be_bytes());
        }
    }

    /// That batch is written. There are `records` now but for those that it `deleted`, if anybody counted.
    pub(super) fn stored(&self, count: u16, records: Option<usize>, deleted: usize) {
        self.count.store(count, Ordering::SeqCst);
        let records = records.map_or(usize::MAX, |records| records.saturating_sub(deleted));
        self.records.store(records, Ordering::SeqCst);
    }
}

/// Adds the removal of what is stored of a collection's parts.
pub(super) fn forget_parts(batch: &mut Batch, id: CollectionId) {
    batch.delete(Table::Meta, parts_key(id));
}

fn parts_key(id: CollectionId) -> Vec<u8> {
    [PARTS, id.as_bytes()].concat()
}

impl PointSealer {
    /// The part, one of `parts`, that the record `id` belongs to in `epoch`.
    pub(super) fn part(&self, epoch: Epoch, id: &RecordId, parts: u16) -> Result<u16> {
        let tag = self.keyring.blinding(epoch, self.id.as_bytes())?.tag(&[b"place", &id.to_bytes()]);
        let hash = crypto::first_16(tag);
        Ok(veil::part_of(hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)), parts))
    }

    /// What the engine knows a part by.
    pub(super) fn part_tag(&self, epoch: Epoch, part: u16) -> Result<[u8; 16]> {
        let tag = self.keyring.blinding(epoch, self.id.as_bytes())?.tag(&[b"part", &part.to_be_bytes()]);
        Ok(crypto::first_16(tag))
    }

    /// What the engine is asked for in a part.
    pub(super) fn veiled_query(
        &self,
        epoch: Epoch,
        part: u16,
        position: u8,
        query: &[f32],
    ) -> Result<Zeroizing<Vec<f32>>> {
        Ok(self.veil(epoch, part, position)?.query(query))
    }

    /// What the engine is given of `vectors` in a part.
    pub(super) fn veiled(
        &self,
        epoch: Epoch,
        part: u16,
        vectors: &Embeddings,
        seeds: &[veil::Seed],
    ) -> Result<Vec<(u8, Vec<f32>)>> {
        if vectors.dense.len() != seeds.len() {
            return Err(crypto::open_failed());
        }
        let each = vectors.dense.iter().zip(seeds);
        each.map(|((position, v), seed)| Ok((*position, self.veil(epoch, part, *position)?.veiled(v, seed)))).collect()
    }

    /// Whether tag and vectors of `point` are what was made of `opened`. It may have been written when there were fewer
    /// parts.
    pub(super) fn is_veiled_as(
        &self,
        shaping: &Shaping,
        epoch: Epoch,
        opened: &OpenedVector,
        point: &Point,
    ) -> Result<bool> {
        let mut parts = (1..=self.parts.count()).map(|parts| self.part(epoch, &opened.id, parts));
        let part = parts.find_map(|part| {
            let tagged = part.and_then(|part| Ok((part, self.part_tag(epoch, part)?)));
            tagged.map(|(part, tag)| (point.tag == Some(tag)).then_some(part)).transpose()
        });
        let Some(part) = part.transpose()? else { return Ok(false) };
        let seeds = shaping.seeds(&opened.vectors, opened.embedding.digest())?;
        let expected = self.veiled(epoch, part, &opened.vectors, &seeds)?;
        let is_there = |(position, veiled): &(u8, Vec<f32>)| {
            let stored = point.searchable.iter().find(|(at, _)| at == position);
            stored.is_some_and(|(_, stored)| Metric::Dot.same_for_engine(veiled, stored))
        };
        Ok(expected.len() == point.searchable.len() && expected.iter().all(is_there))
    }

    fn veil(&self, epoch: Epoch, part: u16, position: u8) -> Result<std::sync::Arc<veil::Veil>> {
        let vector = self.spec.vectors.iter().nth(usize::from(position));
        let (name, params) = vector.ok_or_else(crypto::open_failed)?;
        let size = u32::try_from(params.size).map_err(|_| crypto::open_failed())?.to_be_bytes();
        let scope = label::parts(&[self.id.as_bytes(), name.as_bytes(), &size, &part.to_be_bytes()]);
        self.keyring.veil(epoch, &scope, params.size)
    }
}

/// What a search of a veiled collection goes by: where a point is in the engine, and the engine's score of it.
pub(super) struct Candidate {
    pub(super) id: Uuid,
    pub(super) score: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_shows_to_who_looked_before_it_ended() {
        let count = AtomicU16::new(2);
        let parts = Parts { count, records: AtomicUsize::new(0), moves: Default::default() };
        let before = parts.moved();
        assert!(!parts.have_moved_since(before));
        let moving = parts.moving();
        let (beside, during) = (before, parts.moved());
        assert!(parts.have_moved_since(beside) && parts.have_moved_since(during));
        drop(moving);
        let after = parts.moved();
        assert!(parts.have_moved_since(before) && parts.have_moved_since(during) && !parts.have_moved_since(after));
    }
}
