//! The small numbers that the indexes in memory know the records of a collection by, so that each index is a table and a
//! set of records a bitmap.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;

/// The number of a record, while it is there; another record may get it later.
pub type Slot = u32;

/// The records of a collection, each with its slot. Ids are kept in ordinary memory.
#[derive(Default)]
pub struct Slots {
    by_id: BTreeMap<RecordId, Slot>,
    /// By slot.
    ids: Vec<Option<RecordId>>,
    /// Slots that are empty.
    free: Vec<Slot>,
    /// Heap bytes of the textual ids, counted once.
    text_bytes: usize,
}

impl Slots {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// The records `ids`, with slots from 0 on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Integrity`] where one is there twice; [`ErrorKind::Unavailable`] for more than 2³² of them.
    pub fn numbered(ids: Vec<RecordId>) -> Result<Self> {
        let slots = 0..u32::try_from(ids.len()).map_err(|_| full())?;
        let text_bytes = ids.iter().map(text_bytes).sum();
        let by_id: BTreeMap<RecordId, Slot> = ids.iter().cloned().zip(slots).collect();
        if by_id.len() < ids.len() {
            return Err(Error::integrity("a record that is there twice"));
        }
        Ok(Self { by_id, ids: ids.into_iter().map(Some).collect(), free: Vec::new(), text_bytes })
    }

    /// The slot of `id`, which gets one if it has none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] where 2³² records are there.
    pub fn add(&mut self, id: &RecordId) -> Result<Slot> {
        if let Some(slot) = self.slot(id) {
            return Ok(slot);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot::try_from(self.ids.len()).map_err(|_| full())?;
                self.ids.push(None);
                slot
            }
        };
        if let Some(place) = self.ids.get_mut(slot as usize) {
            *place = Some(id.clone());
        }
        self.text_bytes += text_bytes(id);
        self.by_id.insert(id.clone(), slot);
        Ok(slot)
    }

    /// Takes a record out, and returns the slot that it had.
    pub fn remove(&mut self, id: &RecordId) -> Option<Slot> {
        let slot = self.by_id.remove(id)?;
        self.text_bytes -= text_bytes(id);
        *self.ids.get_mut(slot as usize)? = None;
        self.free.push(slot);
        Some(slot)
    }

    /// The slot of `id`.
    pub fn slot(&self, id: &RecordId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    /// The record in `slot`.
    pub fn id(&self, slot: Slot) -> Option<&RecordId> {
        self.ids.get(slot as usize)?.as_ref()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The records in the order of their ids, from the first that is not before `from` on.
    pub fn from(&self, from: Bound<&RecordId>) -> impl Iterator<Item = (&RecordId, Slot)> {
        self.by_id.range::<RecordId, _>((from, Bound::Unbounded)).map(|(id, slot)| (id, *slot))
    }

    /// Every record, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&RecordId, Slot)> {
        self.from(Bound::Unbounded)
    }

    /// Bytes in memory; those of the tree are an estimate.
    pub fn bytes(&self) -> usize {
        // Nodes of a tree that was filled in any order are three quarters full.
        let tree = self.by_id.len() * size_of::<(RecordId, Slot)>() * 4 / 3;
        tree + self.ids.capacity() * size_of::<Option<RecordId>>()
            + self.free.capacity() * size_of::<Slot>()
            + 2 * self.text_bytes
    }
}

fn full() -> Error {
    Error::new(ErrorKind::Unavailable, "the index is full").with_remedy("divide the collection")
}

/// Bytes that an id has besides itself.
pub(super) fn text_bytes(id: &RecordId) -> usize {
    match id {
        RecordId::Number(_) | RecordId::Uuid(_) => 0,
        RecordId::Text(text) => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(slots: &Slots) -> Vec<(String, Slot)> {
        slots.iter().map(|(id, slot)| (id.to_string(), slot)).collect()
    }

    #[test]
    fn a_record_keeps_its_slot_and_leaves_it_to_another() {
        let mut slots = Slots::numbered(vec![7_u64.into(), 3_u64.into()]).unwrap();
        let text = RecordId::text("page 1").unwrap();
        let bytes = slots.bytes();
        assert_eq!(
            (slots.add(&text).unwrap(), slots.add(&text).unwrap(), slots.add(&7_u64.into()).unwrap()),
            (2, 2, 0)
        );
        assert!(slots.bytes() > bytes && slots.text_bytes == 6);
        assert_eq!(slots.remove(&7_u64.into()), Some(0));
        assert_eq!((slots.remove(&7_u64.into()), slots.id(0), slots.slot(&7_u64.into())), (None, None, None));
        assert_eq!(slots.add(&9_u64.into()).unwrap(), 0);
        assert_eq!(numbers(&slots), [("3".into(), 1), ("9".into(), 0), ("page 1".into(), 2)]);
        assert_eq!(slots.from(Bound::Excluded(&3_u64.into())).count(), 2);
        assert_eq!(slots.remove(&text), Some(2));
        assert_eq!((slots.text_bytes, slots.len(), slots.is_empty()), (0, 2, false));
    }

    #[test]
    fn a_record_that_is_there_twice_is_noticed() {
        let twice = Slots::numbered(vec![1_u64.into(), 2_u64.into(), 1_u64.into()]);
        assert_eq!(twice.err().unwrap().kind(), ErrorKind::Integrity);
    }
}
