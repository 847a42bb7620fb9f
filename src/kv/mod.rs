//! The ordered key-value engine behind memories, catalog, registry, journal and ledgers: [`KvBackend`] is its joint,
//! [`rocks`] its implementation.

pub mod rocks;

use std::path::Path;

use crate::error::Result;

/// A table of the engine. Every key starts with the blinded tag of a tenant or the id of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// About the store itself: format version.
    Meta,
    /// Descriptions of collections, sealed.
    Catalog,
    /// Memories, their history and the labels of their namespaces, sealed.
    Memory,
    /// Writes to the vector engine that it may not have on disk yet, sealed.
    Journal,
    /// Version and digest of every record.
    Registry,
    /// Search graphs of indexes in memory, sealed.
    Graph,
    /// How far rotations came, sealed.
    Rotation,
    /// Uses of capability tokens, and revocations: a sidecar's.
    Tokens,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 8] = [
        Table::Meta,
        Table::Catalog,
        Table::Memory,
        Table::Journal,
        Table::Registry,
        Table::Graph,
        Table::Rotation,
        Table::Tokens,
    ];

    /// Its name in the engine.
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Catalog => "catalog",
            Table::Memory => "memory",
            Table::Journal => "journal",
            Table::Registry => "registry",
            Table::Graph => "graph",
            Table::Rotation => "rotation",
            Table::Tokens => "tokens",
        }
    }
}

/// One change of a [`Batch`].
#[derive(Debug)]
pub enum Change {
    /// Writes a value.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a key, if it is there.
    Delete(Table, Vec<u8>),
    /// Removes every key from the first (inclusive) to the second (exclusive).
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

/// Changes that happen together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
    frees_space: bool,
}

impl Batch {
    /// Adds a write.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change::Put(table, key.into(), value.into()));
    }

    /// Adds a removal.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(table, key.into()));
    }

    /// Adds the removal of every key that starts with `prefix`.
    pub fn delete_prefix(&mut self, table: Table, prefix: &[u8]) {
        if let Some(end) = prefix_end(prefix) {
            self.changes.push(Change::DeleteRange(table, prefix.to_vec(), end));
        }
    }

    /// Adds the removal of every key from `from` (inclusive) to `to` (exclusive).
    pub fn delete_range(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        self.changes.push(Change::DeleteRange(table, from, to));
    }

    /// Adds the changes of `other` after these.
    pub fn append(&mut self, other: Batch) {
        self.changes.extend(other.changes);
    }

    /// The changes in order.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Says that it is part of a deletion: it is let through when little room is left, although deleting is recorded
    /// too.
    pub fn frees_space(&mut self) {
        self.frees_space = true;
    }

    /// Whether it is let through when little room is left.
    pub fn is_freeing(&self) -> bool {
        self.frees_space || !self.changes.iter().any(|c| matches!(c, Change::Put(..)))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A key and its value.
pub type Row = (Box<[u8]>, Box<[u8]>);

/// An ordered key-value engine with atomic batches.
///
/// What comes back from it is hostile until opened.
pub trait KvBackend: Send + Sync {
    /// The value of `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The values of `keys`, in their order.
    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>>;

    /// The rows whose keys start with `prefix`, in key order, as of the moment of the call.
    fn scan<'a>(&'a self, table: Table, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Row>> + 'a>;

    /// As [`scan`](KvBackend::scan), without the rows before `from`.
    fn scan_from<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
        from: Vec<u8>,
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        Box::new(self.scan(table, prefix).skip_while(move |row| matches!(row, Ok((key, _)) if **key < from[..])))
    }

    /// Applies `batch`, all or nothing. It survives the death of the process; for power loss see
    /// [`sync`](KvBackend::sync).
    fn write(&self, batch: Batch) -> Result<()>;

    /// Returns once everything written before the call is on stable storage. Concurrent calls share one disk sync.
    fn sync(&self) -> Result<()>;

    /// Makes the files of a copy of everything, as of one instant during the call, in `dir`, which must not exist but
    /// lie on the same file system. Writes go on meanwhile.
    fn checkpoint(&self, dir: &Path) -> Result<()>;

    /// Rewrites the files so that they have nothing any more of rows that were removed or replaced and whose keys start
    /// with `prefix`. Others read and write meanwhile. An engine without files has nothing to do.
    fn purge(&self, _table: Table, _prefix: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// The first key after all keys that start with `prefix`; `None` when there is no such key.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_without_it() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
