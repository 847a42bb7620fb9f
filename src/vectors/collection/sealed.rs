//! Searching without opening: payloads leave as they are stored, for somebody else to open by a capability token.

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::id::{Epoch, RecordId};
use crate::kv::Table;
use crate::limits;
use crate::vectors::engine::{EngineCollection as _, Fields};
use crate::vectors::point::OpenedPayload;
use crate::vectors::registry::Entry;
use crate::vectors::{Hit, Mode, SearchRequest};

use super::filter::{asks_for_vectors, passes, still_passes};
use super::{Collection, Open};

/// The payload of a chunk as it is stored, and everything that it is bound to.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// The collection's id.
    pub scope: [u8; 16],
    /// What the engine knows the chunk by.
    pub record: Uuid,
    /// Its version.
    pub version: u64,
    /// The epoch that it is sealed in.
    pub epoch: Epoch,
    /// SHA-256 of what its sealed embedding holds.
    pub embedding: [u8; 32],
    /// The payload: `schema/record.md`.
    pub sealed: Vec<u8>,
}

/// A hit that stays sealed.
#[derive(Clone, PartialEq)]
pub struct SealedHit {
    /// The exact score.
    pub score: f32,
    /// The chunk.
    pub chunk: SealedChunk,
}

impl Collection {
    /// The nearest chunks, best first, with their payloads still sealed. That they are what was stored last is checked
    /// all the same, against the registry.
    pub fn search_sealed(&self, request: &SearchRequest) -> Result<Vec<SealedHit>> {
        let mut tries = 1;
        loop {
            let hits = self.find_sealed(request)?;
            if self.hand_out(&hits)? || tries == limits::HANDED_OUT_TRIES {
                // What still moves away is brought along: only who asks for it by its place has to search again.
                return Ok(hits);
            }
            tries += 1;
        }
    }

    /// From here on a rotation minds that tokens name these chunks. `false` when it came first for one of them.
    fn hand_out(&self, hits: &[SealedHit]) -> Result<bool> {
        self.context.handed.note(self.id(), hits.iter().map(|hit| hit.chunk.record));
        let active = self.context.keyring.active();
        let may_move = hits.iter().filter(|hit| hit.chunk.epoch != active).map(|hit| hit.chunk.record);
        let may_move: Vec<Uuid> = may_move.collect();
        Ok(may_move.is_empty() || self.registry_rows(&may_move)?.iter().all(Option::is_some))
    }

    fn find_sealed(&self, request: &SearchRequest) -> Result<Vec<SealedHit>> {
        self.steadily(|| {
            let open = self.open()?;
            let nearest = self.nearest(request, None)?;
            let filter = request.filter.as_ref();
            if self.mode() != Mode::Sealed || filter.is_some_and(asks_for_vectors) {
                return self.sealed_points(&open, &nearest, filter);
            }
            let provider = self.context.keyring.provider();
            let found = self.each_found(&open, &nearest, |found| {
                found.entry.check(provider, &found.point.payload)?;
                if let Some(filter) = filter {
                    // It may have been written since the index was asked: no token for what does not pass as it is now.
                    let OpenedPayload { text, metadata } =
                        self.sealer.open_payload(found.point, &found.entry, found.embedding)?;
                    let hit = Hit { id: found.id.clone(), score: found.score, text, metadata };
                    if !still_passes(filter, &hit) {
                        return Ok(None);
                    }
                }
                let embedding = found.embedding.of_version(found.entry.version)?;
                let chunk = SealedChunk {
                    scope: *self.id().as_bytes(),
                    record: found.point.id,
                    version: found.entry.version,
                    epoch: found.entry.epoch,
                    embedding,
                    sealed: found.point.payload.clone(),
                };
                Ok(Some(SealedHit { score: found.score, chunk }))
            });
            match found {
                // A write came between index, registry and engine, or something is wrong: opening the vectors tells.
                Err(e) if e.kind() == ErrorKind::Integrity => self.sealed_points(&open, &nearest, filter),
                found => Ok(found?.into_iter().flatten().collect()),
            }
        })
    }

    /// The sealed payload of version `version` of a chunk, for who was given the rest of a [`SealedChunk`].
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when the chunk was deleted or written again since.
    pub fn fetch_sealed(&self, record: &Uuid, version: u64) -> Result<Vec<u8>> {
        self.steadily(|| {
            let open = self.open()?;
            let gone = || Error::not_found("the chunk has been deleted or written again");
            let _settled = self.settled();
            let Some(entry) = self.registered_as(record)? else {
                return self.fetch_left(*record, version)?.ok_or_else(gone);
            };
            if entry.version != version {
                return Err(gone());
            }
            let points = open.engine.retrieve(&[*record], Fields::Payload)?;
            let point = points.into_iter().find(|point| point.id == *record);
            let point = point.ok_or_else(|| Error::integrity("a record that the vector engine dropped"))?;
            entry.check(self.context.keyring.provider(), &point.payload)?;
            Ok(point.payload)
        })
    }

    /// What a rotation moved away, if it is still what was stored last.
    fn fetch_left(&self, record: Uuid, version: u64) -> Result<Option<Vec<u8>>> {
        let handed = &self.context.handed;
        let Some(left) = handed.left(self.id(), record).filter(|left| left.version == version) else { return Ok(None) };
        let mut now = left.moved_to;
        loop {
            if let Some(entry) = self.registered_as(&now)? {
                return Ok((entry.version == version).then(|| left.payload.clone()));
            }
            // It has moved more than once. No place is come to twice: ids differ in every epoch.
            let Some(next) = handed.left(self.id(), now) else { return Ok(None) };
            now = next.moved_to;
        }
    }

    fn registered_as(&self, record: &Uuid) -> Result<Option<Entry>> {
        let row = self.context.kv.get(Table::Registry, &self.registry_key(record))?;
        row.map(|row| self.entry(record, &row)).transpose()
    }

    /// The same by opening the vectors, while nobody writes. What was deleted since it was found is left out, and what does
    /// not pass `filter` any more.
    fn sealed_points(
        &self,
        open: &Open,
        nearest: &[(RecordId, f32)],
        filter: Option<&Filter>,
    ) -> Result<Vec<SealedHit>> {
        let _settled = self.settled();
        let live = self.context.keyring.live();
        let mut hits = Vec::with_capacity(nearest.len());
        for (id, score) in nearest {
            let candidates = self.candidates(&live, [id])?;
            let rows = self.registry_rows(&candidates)?;
            let points = open.engine.retrieve(&candidates, Fields::Both)?;
            let registered = candidates.into_iter().zip(rows).find_map(|(record, row)| Some((record, row?)));
            let (record, row, point) = match (registered, points) {
                (None, points) if points.is_empty() => continue,
                (Some((record, row)), points) => {
                    let point = points.into_iter().find(|point| point.id == record);
                    (record, row, point.ok_or_else(|| Error::integrity("a record that was found"))?)
                }
                _ => return Err(Error::integrity("a record that was found")),
            };
            let entry = self.entry(&record, &row)?;
            entry.check(self.context.keyring.provider(), &point.payload)?;
            let vector = self.sealer.open_vector(&point, &entry)?;
            if let Some(filter) = filter
                && !passes(filter, &self.sealer.open_chunk(&point, &entry, &vector)?)
            {
                continue;
            }
            let embedding = vector.embedding.of_version(entry.version)?;
            let (version, epoch) = (entry.version, entry.epoch);
            let chunk =
                SealedChunk { scope: *self.id().as_bytes(), record, version, epoch, embedding, sealed: point.payload };
            hits.push(SealedHit { score: *score, chunk });
        }
        Ok(hits)
    }
}
