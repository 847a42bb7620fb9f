//! Verifying: every point of the engine against the registry, and every registry row against the engine.

use serde::Serialize;
use uuid::Uuid;

use crate::error::{ErrorKind, Result};
use crate::vectors::engine::{EngineCollection as _, Fields, Point};
use crate::vectors::registry::Entry;
use crate::vectors::shaping::Shaping;
use crate::vectors::{Mode, StoredChunk};

use super::Collection;
use super::read::{Listed, Registered};

const SCROLL_POINTS: usize = 256;

/// What [`Collection::verify`] found. Ids are blinded: they name points of the engine, not records.
#[derive(Debug, Default, Clone, Serialize)]
pub struct CollectionReport {
    /// Records that opened and are what was written.
    pub sound: u64,
    /// Records that the registry has and the engine does not.
    pub dropped: Vec<Uuid>,
    /// Points of the engine that the registry does not have.
    pub unknown: Vec<Uuid>,
    /// Points that do not open, are of another version, or lie beside another vector or other tokens.
    pub damaged: Vec<Uuid>,
}

impl CollectionReport {
    /// Whether everything is as it was written.
    pub fn is_clean(&self) -> bool {
        self.dropped.is_empty() && self.unknown.is_empty() && self.damaged.is_empty()
    }
}

impl Collection {
    /// Opens every record. Writes wait meanwhile; `progress` is told after every page how many points were looked at.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<CollectionReport> {
        self.steadily(|| {
            let open = self.open()?;
            let _settled = self.settled();
            let Registered { mut entries, mut damaged } = self.registered()?;
            let mut report = CollectionReport::default();
            let (mut from, mut seen, mut listed) = (None, 0, Listed::default());
            loop {
                let (points, next) = open.engine.scroll(from, SCROLL_POINTS, Fields::Both)?;
                listed.add(self, points.len())?;
                for point in points {
                    seen += 1;
                    match entries.remove(&point.id) {
                        Some(entry) if self.is_sound(&point, &entry)? => report.sound += 1,
                        Some(_) => report.damaged.push(point.id),
                        None if damaged.remove(&point.id) => report.damaged.push(point.id),
                        None => report.unknown.push(point.id),
                    }
                }
                progress(seen);
                match next {
                    Some(id) => from = Some(id),
                    None => break,
                }
            }
            report.dropped.extend(entries.into_keys().chain(damaged));
            report.dropped.sort();
            Ok(report)
        })
    }

    pub(super) fn is_sound(&self, point: &Point, entry: &Entry) -> Result<bool> {
        let shaping = self.sealer.shaping();
        match self.opened_as(&shaping, point, entry)? {
            Some(chunk) => self.sealer.has_its_tokens(&shaping, point, entry.epoch, &chunk),
            None => Ok(false),
        }
    }

    /// Whether a point opens and what is derived from it is what `shaping` says, but for its tokens.
    pub(super) fn is_sound_as(&self, shaping: &Shaping, point: &Point, entry: &Entry) -> Result<bool> {
        self.opened_as(shaping, point, entry).map(|opened| opened.is_some())
    }

    /// What is in such a point.
    fn opened_as(&self, shaping: &Shaping, point: &Point, entry: &Entry) -> Result<Option<StoredChunk>> {
        let (vector, chunk) = match self.sealer.open(point, entry) {
            Ok(opened) => opened,
            Err(e) if matches!(e.kind(), ErrorKind::Integrity | ErrorKind::NotFound) => return Ok(None),
            Err(e) => return Err(e),
        };
        if shaping.mode == Mode::Veiled {
            let sound = self.sealer.is_veiled_as(shaping, entry.epoch, &vector, point)?;
            return Ok(sound.then_some(chunk));
        }
        for search in self.searchable(shaping.mode) {
            let stored = point.searchable.iter().find(|(position, _)| *position == search.position);
            let same = match (vector.vectors.at(search.position), stored) {
                (Some(exact), Some((_, stored))) => search.metric.same_for_engine(exact, stored),
                (None, None) => true,
                _ => false,
            };
            if !same {
                return Ok(None);
            }
        }
        Ok(Some(chunk))
    }
}
