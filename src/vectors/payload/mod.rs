//! The payload index: what filters ask about the metadata of a collection, answered in trusted memory.
//!
//! A set of records is a bitmap of their [slots](crate::vectors::slots). The metadata of each is kept as
//! JSON, and for every field that a filter has named there is an [index](field::FieldIndex) from its values to slots. A
//! filter is first [bounded](Bounds) from both sides by those; what is between the bounds is looked at record by record.
//!
//! Metadata is plaintext. It is erased when it goes, as embeddings are, but lies in ordinary memory: outside core dumps,
//! and not kept out of swap. Texts are not kept here: a filter that asks about them is decided on opened chunks.

mod bounds;
mod field;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use rayon::prelude::*;
use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::filter::{Condition, Filter, JsonPath, Record, TEXT_FIELD, erase_fields};
use crate::limits;
use crate::secret::SecretBytes;
use crate::vectors::slots::{Slot, Slots};

pub(super) use bounds::Bounds;
use field::FieldIndex;

/// The metadata of one collection, searchable by filters.
pub(super) struct PayloadIndex {
    /// The names of vectors, each with the records that have it.
    vectors: Vec<(String, RoaringBitmap)>,
    /// By slot.
    rows: Vec<Option<Row>>,
    /// Slots that are taken.
    all: RoaringBitmap,
    fields: HashMap<JsonPath, FieldIndex>,
    metadata_bytes: usize,
}

/// The metadata of a record as JSON.
struct Row(SecretBytes);

impl PayloadIndex {
    pub(super) fn new(vectors: Vec<String>) -> Self {
        Self {
            vectors: vectors.into_iter().map(|name| (name, RoaringBitmap::new())).collect(),
            rows: Vec::new(),
            all: RoaringBitmap::new(),
            fields: HashMap::new(),
            metadata_bytes: 0,
        }
    }

    /// Takes in the record in `slot`, in place of what it was. `has` says which vectors it has.
    pub(super) fn upsert(
        &mut self,
        slot: Slot,
        metadata: &Map<String, Value>,
        has: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let json = serde_json::to_vec(metadata).map_err(|e| Error::internal("encoding metadata").with_source(e))?;
        let json = SecretBytes::new(json);
        self.remove(slot)?;
        let at = slot as usize;
        if self.rows.len() <= at {
            self.rows.resize_with(at + 1, || None);
        }
        for (path, field) in &mut self.fields {
            field.add(slot, path, metadata);
        }
        self.metadata_bytes += json.len();
        if let Some(row) = self.rows.get_mut(at) {
            *row = Some(Row(json));
        }
        self.vectors.iter_mut().filter(|(name, _)| has(name)).for_each(|(_, slots)| {
            slots.insert(slot);
        });
        self.all.insert(slot);
        Ok(())
    }

    /// Takes a record out and erases it.
    pub(super) fn remove(&mut self, slot: Slot) -> Result<()> {
        let Some(row) = self.rows.get_mut(slot as usize).and_then(Option::take) else { return Ok(()) };
        self.metadata_bytes -= row.0.len();
        if !self.fields.is_empty() {
            let metadata = row.open()?;
            for (path, field) in &mut self.fields {
                field.remove(slot, path, &metadata.0);
            }
        }
        self.vectors.iter_mut().for_each(|(_, slots)| {
            slots.remove(slot);
        });
        self.all.remove(slot);
        Ok(())
    }

    /// The fields that `filter` asks about and that have no index yet, as far as there is room for more.
    pub(super) fn wanted(&self, filter: &Filter) -> Vec<JsonPath> {
        let mut wanted = Vec::new();
        paths(filter, &mut wanted);
        wanted.retain(|path| !self.fields.contains_key(*path));
        wanted.sort_unstable();
        wanted.dedup();
        wanted.truncate(limits::FILTER_FIELDS.saturating_sub(self.fields.len()));
        wanted.into_iter().cloned().collect()
    }

    /// Whether it decides `filter` without looking at records.
    pub(super) fn decides(&self, filter: &Filter) -> bool {
        fn has_nested(filter: &Filter) -> bool {
            filter.conditions().any(|condition| match condition {
                Condition::Nested { .. } => true,
                Condition::Filter(filter) => has_nested(filter),
                _ => false,
            })
        }
        let mut asked = Vec::new();
        paths(filter, &mut asked);
        !asks_for_text(filter) && !has_nested(filter) && asked.iter().all(|path| self.fields.contains_key(*path))
    }

    /// Indexes of `paths`, over all records.
    pub(super) fn make_fields(&self, paths: &[JsonPath]) -> Result<Vec<(JsonPath, Made)>> {
        let mut made: Vec<FieldIndex> = paths.iter().map(|_| FieldIndex::default()).collect();
        for (slot, row) in (0..).zip(&self.rows) {
            let Some(row) = row else { continue };
            let metadata = row.open()?;
            for (path, field) in paths.iter().zip(&mut made) {
                field.add(slot, path, &metadata.0);
            }
        }
        Ok(paths.iter().cloned().zip(made.into_iter().map(Made)).collect())
    }

    /// Takes in what [`PayloadIndex::make_fields`] made, if no record has changed since.
    pub(super) fn add_fields(&mut self, made: Vec<(JsonPath, Made)>) {
        self.fields.extend(made.into_iter().map(|(path, made)| (path, made.0)));
    }

    /// The records that pass, as far as they can be told without their texts. `records` says who is in which slot.
    pub(super) fn bound(&self, filter: &Filter, records: &Slots) -> Result<Bounds> {
        let bounds = bounds::of_filter(self, records, filter);
        if asks_for_text(filter) { Ok(bounds) } else { Ok(Bounds::exactly(self.settle(filter, records, bounds)?)) }
    }

    /// Looks at what lies between `bounds`.
    fn settle(&self, filter: &Filter, records: &Slots, bounds: Bounds) -> Result<RoaringBitmap> {
        let Bounds { mut sure, possible } = bounds;
        let open: Vec<Slot> = (&possible - &sure).into_iter().collect();
        let passes = |slot: &Slot| -> Result<bool> {
            let (Some(row), Some(id)) = (self.row(*slot), records.id(*slot)) else { return Ok(false) };
            let metadata = row.open()?;
            let vectors = self.vectors.iter().filter(|(_, slots)| slots.contains(*slot)).map(|(name, _)| name.as_str());
            let vectors: Vec<&str> = vectors.collect();
            Ok(filter.matches(&Record { id, metadata: &metadata.0, text: "", vectors: &vectors }))
        };
        let passed: Vec<bool> = open.par_iter().with_min_len(256).map(passes).collect::<Result<_>>()?;
        sure.extend(open.into_iter().zip(passed).filter_map(|(slot, passed)| passed.then_some(slot)));
        Ok(sure)
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.capacity() * size_of::<Option<Row>>();
        let fields: usize = self.fields.values().map(FieldIndex::bytes).sum();
        rows + self.metadata_bytes + fields
    }

    fn row(&self, slot: Slot) -> Option<&Row> {
        self.rows.get(slot as usize)?.as_ref()
    }
}

/// A field index that is not part of a payload index yet.
pub(super) struct Made(FieldIndex);

/// Metadata that is erased when dropped.
struct Opened(Map<String, Value>);

impl Drop for Opened {
    fn drop(&mut self) {
        erase_fields(&mut self.0);
    }
}

impl Row {
    fn open(&self) -> Result<Opened> {
        let metadata = serde_json::from_slice(self.0.expose_secret());
        metadata.map(Opened).map_err(|_| Error::internal("metadata in memory is not what was put there"))
    }
}

/// The fields of the record that `filter` asks about, but for those of objects within arrays, and the text.
fn paths<'a>(filter: &'a Filter, found: &mut Vec<&'a JsonPath>) {
    for condition in filter.conditions() {
        match condition {
            Condition::Field(field) => found.push(&field.key),
            Condition::IsEmpty(key) | Condition::IsNull(key) => found.push(key),
            Condition::Filter(filter) => paths(filter, found),
            _ => {}
        }
    }
    found.retain(|path| path.first() != TEXT_FIELD);
}

/// Whether the text of a record may decide.
pub(super) fn asks_for_text(filter: &Filter) -> bool {
    filter.conditions().any(|condition| match condition {
        Condition::Field(field) => field.key.first() == TEXT_FIELD,
        Condition::IsEmpty(key) | Condition::IsNull(key) | Condition::Nested { key, .. } => key.first() == TEXT_FIELD,
        Condition::Filter(filter) => asks_for_text(filter),
        _ => false,
    })
}
