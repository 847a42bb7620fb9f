//! What tokens may name: whoever was handed the place of a chunk finds the chunk there until the token has expired, also
//! when a rotation moves it meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use quick_cache::{UnitWeighter, Weighter};
use uuid::Uuid;

use crate::limits;

use super::CollectionId;

/// How long a token lasts at most by the clock of who redeems it.
const LIFE: Duration = Duration::from_millis(limits::TOKEN_LIFE_MS + limits::TOKEN_SKEW_MS);
/// Chunks that these caches are made for at first; they grow.
const EXPECTED: usize = 64;

type Place = (CollectionId, Uuid);

/// The chunks of a store that were handed out lately. In memory only: who asks after a restart searches again. Clones
/// share it.
#[derive(Clone)]
pub struct HandedOut(Arc<Inner>);

struct Inner {
    /// Until when a token may name the chunk at a place.
    places: Cache<Place, Instant>,
    /// What has moved.
    left: Cache<Place, Arc<Left>, LeftWeight>,
}

/// What was at a place before it moved.
pub(super) struct Left {
    /// The point that the chunk is now.
    pub(super) moved_to: Uuid,
    pub(super) version: u64,
    /// As it was sealed there.
    pub(super) payload: Vec<u8>,
    until: Instant,
}

#[derive(Clone)]
struct LeftWeight;

impl Weighter<Place, Arc<Left>> for LeftWeight {
    fn weight(&self, _: &Place, left: &Arc<Left>) -> u64 {
        (left.payload.len() + 128) as u64
    }
}

impl Default for HandedOut {
    fn default() -> Self {
        let left = Cache::with_weighter(EXPECTED, limits::HANDED_OUT_BYTES, LeftWeight);
        let places = Cache::with_weighter(EXPECTED, limits::HANDED_OUT, UnitWeighter);
        Self(Arc::new(Inner { places, left }))
    }
}

impl HandedOut {
    /// A token is about to name the chunks at these places.
    pub(super) fn note(&self, collection: CollectionId, points: impl Iterator<Item = Uuid>) {
        let until = Instant::now() + LIFE;
        points.for_each(|point| self.0.places.insert((collection, point), until));
    }

    /// A chunk is about to move. What it was is kept for as long as a token may name it.
    pub(super) fn moves(&self, collection: CollectionId, from: Uuid, to: Uuid, version: u64, payload: Vec<u8>) {
        let Some((_, until)) = self.0.places.remove(&(collection, from)) else { return };
        if until > Instant::now() {
            self.0.places.insert((collection, to), until);
            let left = Left { moved_to: to, version, payload, until };
            self.0.left.insert((collection, from), Arc::new(left));
        }
    }

    /// What was at a place that is empty now.
    pub(super) fn left(&self, collection: CollectionId, point: Uuid) -> Option<Arc<Left>> {
        let left = self.0.left.get(&(collection, point))?;
        if left.until > Instant::now() {
            return Some(left);
        }
        self.0.left.remove(&(collection, point));
        None
    }
}
