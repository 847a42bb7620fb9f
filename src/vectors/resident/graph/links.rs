//! The links of a graph: one short list of slots for each slot, in a few flat allocations.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use diskann::ANNError;
use diskann::graph::AdjacencyList;
use diskann::provider::{DataProvider, DefaultContext, NoopGuard, SetElement};
use parking_lot::{Mutex, MutexGuard};

use super::steps::Row;

/// Slots of one allocation.
const CHUNK_SLOTS: usize = 4096;
/// Writers of neighbouring slots do not wait for each other.
const WRITERS: usize = 512;
/// Stands for no slot.
const NONE: u32 = u32::MAX;
/// Bits of a word of `live`.
const WORD_BITS: usize = u64::BITS as usize;

/// The links between slots, and which slots are in use.
///
/// ```text
/// slot s: length, then up to `degree` slots, at (s % 4096)·(1 + degree) of chunk s ÷ 4096
/// ```
///
/// Readers never wait: they may see a list while it is overwritten, with links of both, all of which were slots in use.
#[derive(Debug)]
pub(super) struct Links {
    degree: usize,
    chunks: Vec<Box<[AtomicU32]>>,
    live: Vec<AtomicU64>,
    count: AtomicUsize,
    entries: Box<[AtomicU32]>,
    /// Held to take slots out, and to change `entries`.
    membership: Mutex<()>,
    /// Held to change the list of a slot, by its lowest bits.
    writers: Box<[Mutex<()>]>,
}

impl Links {
    /// No slots yet; lists of at most `degree` links, and searches that may begin at `entries` slots.
    pub fn new(degree: usize, entries: usize) -> Self {
        Self {
            degree,
            chunks: Vec::new(),
            live: Vec::new(),
            count: AtomicUsize::new(0),
            entries: (0..entries).map(|_| AtomicU32::new(NONE)).collect(),
            membership: Mutex::new(()),
            writers: (0..WRITERS).map(|_| Mutex::new(())).collect(),
        }
    }

    /// Makes room for the slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        let chunks = slots.min(NONE as usize - CHUNK_SLOTS).div_ceil(CHUNK_SLOTS);
        let row = 1 + self.degree;
        while self.chunks.len() < chunks {
            self.chunks.push((0..CHUNK_SLOTS * row).map(|_| AtomicU32::new(0)).collect());
        }
        let words = self.slots() / WORD_BITS;
        self.live.resize_with(words, AtomicU64::default);
    }

    /// There is room for the slots below this one.
    pub fn slots(&self) -> usize {
        self.chunks.len() * CHUNK_SLOTS
    }

    /// The bytes held, used or not.
    pub fn bytes(&self) -> usize {
        self.slots() * (1 + self.degree) * size_of::<u32>() + self.live.len() * size_of::<u64>()
    }

    /// Whether `slot` is in use.
    pub fn is_live(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.live.get(word).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }

    /// The slots in use, in order.
    pub fn live(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.live).flat_map(|(at, word): (u32, _)| {
            let word = word.load(Ordering::Acquire);
            (0..u64::BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * u64::BITS + bit)
        })
    }

    /// How many slots are in use.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Where a search may begin: a sample of the slots in use.
    pub fn entries(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|entry| entry.load(Ordering::Acquire)).filter(|slot| self.is_live(*slot))
    }

    /// Takes `slot` into use.
    pub fn occupy(&self, slot: u32) -> Result<(), ANNError> {
        let (word, bit) = place(slot);
        let word = self.live.get(word).ok_or_else(|| outside(slot))?;
        if word.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Ok(());
        }
        let nth = self.count.fetch_add(1, Ordering::Relaxed);
        if nth < self.entries.len() {
            let _held = self.membership.lock();
            if let Some(free) = self.entries.iter().find(|entry| entry.load(Ordering::Acquire) == NONE) {
                free.store(slot, Ordering::Release);
            }
        } else if let Some(entry) = self.entries.get(spread(slot) as usize % (nth + 1)) {
            let _held = self.membership.lock();
            entry.store(slot, Ordering::Release);
        }
        Ok(())
    }

    /// Takes `slot` out of use, and returns whether it was; its links stay until they are overwritten. An entry is replaced
    /// by a neighbour.
    pub fn vacate(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        let _held = self.membership.lock();
        let Some(word) = self.live.get(word) else { return false };
        if word.fetch_and(!bit, Ordering::AcqRel) & bit == 0 {
            return false;
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(entry) = self.entries.iter().find(|entry| entry.load(Ordering::Acquire) == slot) {
            entry.store(self.another_entry(slot).unwrap_or(NONE), Ordering::Release);
        }
        true
    }

    /// A slot in use that is no entry, if possible one that `slot` links to.
    fn another_entry(&self, slot: u32) -> Option<u32> {
        let mut near = Vec::new();
        self.read(slot, &mut near);
        let taken: Vec<_> = self.entries().collect();
        near.into_iter().filter(|slot| self.is_live(*slot)).chain(self.live()).find(|slot| !taken.contains(slot))
    }

    /// Puts the links of `slot` in place of what `into` has, without waiting for writers.
    pub fn read(&self, slot: u32, into: &mut Vec<u32>) {
        into.clear();
        if let Some((length, links)) = self.list(slot) {
            let length = length.load(Ordering::Acquire) as usize;
            into.extend(links.iter().take(length).map(|link| link.load(Ordering::Relaxed)));
        }
    }

    /// The links of `slot` as one writer left them.
    pub fn read_settled(&self, slot: u32, into: &mut AdjacencyList<u32>) {
        let mut links = Vec::new();
        {
            let _held = self.writer(slot);
            self.read(slot, &mut links);
        }
        into.clear();
        into.extend_from_slice(&links);
    }

    /// Makes `new` the links of `slot`, as far as there is room.
    pub fn write(&self, slot: u32, new: &[u32]) -> Result<(), ANNError> {
        let _held = self.writer(slot);
        self.put(slot, 0, new)
    }

    /// Adds to the links of `slot` those of `new` that it lacks, as far as there is room.
    pub fn append(&self, slot: u32, new: &[u32]) -> Result<(), ANNError> {
        let _held = self.writer(slot);
        let mut links = Vec::new();
        self.read(slot, &mut links);
        let lacking: Vec<_> = new.iter().copied().filter(|link| !links.contains(link)).collect();
        self.put(slot, links.len(), &lacking)
    }

    /// Writes `new` after the first `kept` links.
    fn put(&self, slot: u32, kept: usize, new: &[u32]) -> Result<(), ANNError> {
        let (length, links) = self.list(slot).ok_or_else(|| outside(slot))?;
        let mut end = kept as u32;
        for (link, new) in links.iter().skip(kept).zip(new) {
            link.store(*new, Ordering::Relaxed);
            end += 1;
        }
        length.store(end, Ordering::Release);
        Ok(())
    }

    /// The length and the places of the list of `slot`.
    fn list(&self, slot: u32) -> Option<(&AtomicU32, &[AtomicU32])> {
        let row = 1 + self.degree;
        let at = slot as usize % CHUNK_SLOTS * row;
        self.chunks.get(slot as usize / CHUNK_SLOTS)?.get(at..at + row)?.split_first()
    }

    fn writer(&self, slot: u32) -> Option<MutexGuard<'_, ()>> {
        self.writers.get(slot as usize % WRITERS).map(Mutex::lock)
    }
}

impl DataProvider for Links {
    type Context = DefaultContext;
    type InternalId = u32;
    type ExternalId = u32;
    type Error = ANNError;
    type Guard = NoopGuard<u32>;

    fn to_internal_id(&self, _: &DefaultContext, slot: &u32) -> Result<u32, ANNError> {
        Ok(*slot)
    }

    fn to_external_id(&self, _: &DefaultContext, slot: u32) -> Result<u32, ANNError> {
        Ok(slot)
    }
}

impl SetElement<Row> for Links {
    type SetError = ANNError;

    async fn set_element(&self, _: &DefaultContext, slot: &u32, _: Row) -> Result<NoopGuard<u32>, ANNError> {
        self.occupy(*slot)?;
        Ok(NoopGuard::new(*slot))
    }
}

/// The word and the bit of `slot`.
fn place(slot: u32) -> (usize, u64) {
    (slot as usize / WORD_BITS, 1 << (slot as usize % WORD_BITS))
}

/// A number that tells nothing of `slot`'s place in the table, but is always the same (the finalizer of MurmurHash3).
fn spread(slot: u32) -> u32 {
    let mixed = (slot ^ slot >> 16).wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35);
    mixed ^ mixed >> 16
}

fn outside(slot: u32) -> ANNError {
    ANNError::message(format!("no room for slot {slot}"))
}
