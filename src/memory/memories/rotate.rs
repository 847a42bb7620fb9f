//! Moving memories, their history and the labels of their namespaces from one epoch to another.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, Namespace, RecordId};
use crate::kv::{Batch, Row, Table};
use crate::limits;
use crate::memory::address::{self, Address, RowKind};
use crate::memory::sealer::plain;
use crate::rotation::{Load, Mover, Tally};
use crate::vectors::{Chunk, Entry, Staged};

use super::write::Write;
use super::{Memories, Places};

/// What moving needs to know of where to.
struct Move<'a> {
    memories: &'a Memories,
    from: Epoch,
    to: Epoch,
    /// Whether rows that do not open are removed.
    discard: bool,
    /// Namespaces whose labels are in the new epoch already.
    labelled: Mutex<HashSet<Arc<[u8]>>>,
}

/// Moves memories with their registry rows and embeddings.
pub(crate) struct CurrentMover<'a>(Move<'a>);

/// Moves earlier versions.
pub(crate) struct HistoryMover<'a>(Move<'a>);

/// A memory as the tables have it.
pub(crate) struct CurrentRow {
    key: Box<[u8]>,
    registry: Option<Box<[u8]>>,
    memory: Option<Box<[u8]>>,
    seen: Seen,
}

/// An earlier version as the table has it.
pub(crate) struct VersionRow {
    key: Box<[u8]>,
    row: Box<[u8]>,
    seen: Seen,
}

/// How many writes there had been when something was read. As long as there are no more, it is as it was.
type Seen = u64;

/// A row that is ready to be moved, and what must still be there for it.
pub(crate) struct Sealed<F> {
    key: Box<[u8]>,
    before: Option<Box<[u8]>>,
    seen: Seen,
    /// Where it is; `None` for a key that is none.
    address: Option<Address>,
    fate: Option<F>,
}

/// What becomes of a memory.
pub(crate) enum Fate {
    /// It is written to another place.
    Moved { address: Address, namespace: Namespace, registry: Vec<u8>, memory: Vec<u8>, embedded: bool },
    /// It has expired.
    Expired,
}

/// An earlier version at its new place.
pub(crate) struct MovedVersion {
    key: Vec<u8>,
    address: Address,
    namespace: Namespace,
    row: Vec<u8>,
}

impl Memories {
    /// Moves memories from one epoch to the other.
    pub(crate) fn current_mover(&self, from: Epoch, to: Epoch, discard: bool) -> CurrentMover<'_> {
        CurrentMover(Move { memories: self, from, to, discard, labelled: Mutex::default() })
    }

    /// Moves earlier versions from one epoch to the other.
    pub(crate) fn history_mover(&self, from: Epoch, to: Epoch, discard: bool) -> HistoryMover<'_> {
        HistoryMover(Move { memories: self, from, to, discard, labelled: Mutex::default() })
    }

    /// How many rows are sealed in `epoch`, not counting labels of namespaces.
    pub(crate) fn sealed_in(&self, epoch: Epoch) -> Result<u64> {
        let prefix = self.addresses.everything(epoch);
        let mut keys = BTreeSet::new();
        for table in [Table::Registry, Table::Memory] {
            for row in self.context.kv.scan(table, &prefix) {
                let (key, _) = row?;
                if !address::is_label(&key) {
                    keys.insert(key);
                }
            }
        }
        Ok(keys.len() as u64)
    }

    /// How many rows there are to move from `epoch`, if none is damaged.
    pub(crate) fn listed_in(&self, epoch: Epoch) -> Result<u64> {
        let kv = &self.context.kv;
        let current = kv.scan(Table::Registry, &self.addresses.prefix(epoch, RowKind::Current, &[]));
        let history = kv.scan(Table::Memory, &self.addresses.prefix(epoch, RowKind::History, &[]));
        current.chain(history).map(|row| row.map(|_| 1)).sum()
    }

    /// Removes the labels of the namespaces of `epoch`, which nothing is in any more.
    pub(crate) fn remove_labels(&self, epoch: Epoch) -> Result<()> {
        let mut batch = Batch::default();
        batch.delete_prefix(Table::Memory, &self.addresses.prefix(epoch, RowKind::Label, &[]));
        self.context.kv.write(batch)
    }
}

impl Mover for CurrentMover<'_> {
    type Row = CurrentRow;
    type Sealed = Sealed<Fate>;

    fn read(&self, after: Option<&[u8]>, rows: usize) -> Result<Option<Load<CurrentRow>>> {
        let seen = self.0.memories.seen();
        let mut registry = self.0.scan(Table::Registry, RowKind::Current, after).peekable();
        let mut memories = self.0.scan(Table::Memory, RowKind::Current, after).peekable();
        let mut load = Load::new(rows);
        while load.has_room() {
            // Both tables are in the order of their keys, which are the same.
            let next = [registry.peek(), memories.peek()].into_iter().flatten().filter_map(|row| row.as_ref().ok());
            let Some(key) = next.map(|(key, _)| key).min().cloned() else {
                // Nothing more, or an error that has to be told.
                registry.next().or_else(|| memories.next()).transpose()?;
                break;
            };
            let is_next = |row: &Result<Row>| row.as_ref().is_ok_and(|(at, _)| *at == key);
            let take = |rows: &mut std::iter::Peekable<_>| -> Result<Option<Box<[u8]>>> {
                Ok(rows.next_if(is_next).transpose()?.map(|(_, value): Row| value))
            };
            let row =
                CurrentRow { registry: take(&mut registry)?, memory: take(&mut memories)?, key: key.clone(), seen };
            let bytes = row.memory.as_ref().map_or(0, |row| row.len()) + key.len();
            load.push(row, key.into_vec(), bytes);
        }
        Ok(load.if_any())
    }

    fn seal(&self, row: CurrentRow) -> Result<Sealed<Fate>> {
        let address = address::parse_current(&row.key);
        let fate = match &address {
            Some(address) => or_damaged(self.0.move_current(address, &row))?,
            None => None,
        };
        Ok(Sealed { key: row.key, before: row.registry, seen: row.seen, address, fate })
    }

    fn write(&self, load: Vec<Sealed<Fate>>, beside: Batch) -> Result<Tally> {
        let Move { memories, to, .. } = &self.0;
        let writing = memories.context.keyring.writing();
        crate::rotation::check_epoch(&writing, *to)?;
        let new = load.iter().filter_map(|sealed| match &sealed.fate {
            Some(Fate::Moved { address, .. }) => Some(address),
            _ => None,
        });
        let _locked = memories.lock(load.iter().filter_map(|sealed| sealed.address.as_ref()).chain(new));
        let mut write = Write::new(&writing);
        write.batch = beside;
        let mut leaving = Leaving::new(&[Table::Registry, Table::Memory], &load);
        let mut tally = Tally::default();
        let (mut arriving, mut embedded) = (Vec::with_capacity(load.len()), Vec::new());
        let since = self.0.since(Table::Registry, &load)?;
        for (Sealed { key, address, fate, .. }, since) in load.into_iter().zip(since) {
            if since != Since::Same {
                tally.passed += 1;
                leaving.passes(since);
                continue;
            }
            match (fate, address) {
                (Some(Fate::Moved { address, namespace, registry, memory, embedded: has_embedding }), Some(was)) => {
                    tally.moved(memory.len());
                    self.0.stage_labels(&address, &namespace, &mut write)?;
                    arriving.push((memories.addresses.current(&address), registry, memory));
                    memories.moved.insert(was.clone(), address.clone());
                    if has_embedding {
                        embedded.push((was.clone(), address));
                    }
                    write.entries.push((was, None));
                    leaving.goes(key);
                }
                (Some(Fate::Expired), Some(was)) => {
                    tally.passed += 1;
                    memories.stage_expired(&Places(vec![was]), &mut write)?;
                    leaving.goes(key);
                }
                _ => {
                    tally.damaged += 1;
                    // Whatever it is, it is where it was read.
                    tracing::warn!(row = %address::hex(&key), discarded = self.0.discard, "a memory does not open");
                    leaving.is_damaged(key, self.0.discard);
                }
            }
        }
        // In the order of their keys, which the table puts them in anyway: then it looks less far for the place of each.
        arriving.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        for (key, registry, memory) in arriving {
            write.batch.put(Table::Registry, key.clone(), registry);
            write.batch.put(Table::Memory, key, memory);
        }
        leaving.stage(&mut write.batch);
        memories.commit_move(write, &embedded)?;
        Ok(tally)
    }
}

impl Mover for HistoryMover<'_> {
    type Row = VersionRow;
    type Sealed = Sealed<MovedVersion>;

    fn read(&self, after: Option<&[u8]>, rows: usize) -> Result<Option<Load<VersionRow>>> {
        let seen = self.0.memories.seen();
        let mut load = Load::new(rows);
        for row in self.0.scan(Table::Memory, RowKind::History, after) {
            let (key, row) = row?;
            let bytes = key.len() + row.len();
            load.push(VersionRow { key: key.clone(), row, seen }, key.into_vec(), bytes);
            if !load.has_room() {
                break;
            }
        }
        Ok(load.if_any())
    }

    fn seal(&self, VersionRow { key, row, seen }: VersionRow) -> Result<Sealed<MovedVersion>> {
        let parsed = address::parse_history(&key);
        let fate = match &parsed {
            Some((address, version)) => or_damaged(self.0.move_version(address, *version, &row))?,
            None => None,
        };
        Ok(Sealed { key, before: Some(row), seen, address: parsed.map(|(address, _)| address), fate })
    }

    fn write(&self, load: Vec<Sealed<MovedVersion>>, beside: Batch) -> Result<Tally> {
        let Move { memories, to, .. } = &self.0;
        let writing = memories.context.keyring.writing();
        crate::rotation::check_epoch(&writing, *to)?;
        let new = load.iter().filter_map(|sealed| sealed.fate.as_ref().map(|moved| &moved.address));
        let _locked = memories.lock(load.iter().filter_map(|sealed| sealed.address.as_ref()).chain(new));
        let mut write = Write::new(&writing);
        write.batch = beside;
        let mut leaving = Leaving::new(&[Table::Memory], &load);
        let mut tally = Tally::default();
        let since = self.0.since(Table::Memory, &load)?;
        for (sealed, since) in load.into_iter().zip(since) {
            if since != Since::Same {
                tally.passed += 1;
                leaving.passes(since);
                continue;
            }
            let Some(moved) = sealed.fate else {
                tally.damaged += 1;
                tracing::warn!(row = %address::hex(&sealed.key), discarded = self.0.discard, "a version does not open");
                leaving.is_damaged(sealed.key, self.0.discard);
                continue;
            };
            tally.moved(moved.row.len());
            self.0.stage_labels(&moved.address, &moved.namespace, &mut write)?;
            write.batch.put(Table::Memory, moved.key, moved.row);
            leaving.goes(sealed.key);
        }
        leaving.stage(&mut write.batch);
        memories.commit_move(write, &[])?;
        Ok(tally)
    }
}

/// What became of a row since it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    Same,
    Changed,
    Gone,
}

/// The rows of a load that go from where they were.
struct Leaving {
    tables: &'static [Table],
    /// From the first key of the load to what comes after its last.
    range: Option<(Vec<u8>, Vec<u8>)>,
    keys: Vec<Box<[u8]>>,
    /// Whether something in between stays.
    some_stay: bool,
}

impl Leaving {
    fn new<F>(tables: &'static [Table], load: &[Sealed<F>]) -> Self {
        let range = load.first().zip(load.last());
        let range = range.map(|(first, last)| (first.key.to_vec(), [&last.key[..], &[0]].concat()));
        Self { tables, range, keys: Vec::with_capacity(load.len()), some_stay: false }
    }

    fn goes(&mut self, key: Box<[u8]>) {
        self.keys.push(key);
    }

    /// What is there now was not read: it stays.
    fn passes(&mut self, since: Since) {
        self.some_stay |= since == Since::Changed;
    }

    fn is_damaged(&mut self, key: Box<[u8]>, discard: bool) {
        self.some_stay |= !discard;
        if discard {
            self.keys.push(key);
        }
    }

    /// Adds their removal. Nobody else puts anything there, so that all between may be what was read: for many keys,
    /// one removal of all costs less. For few it would cost readers more, who look through such removals at each read.
    fn stage(self, batch: &mut Batch) {
        for table in self.tables {
            match &self.range {
                Some((first, end)) if !self.some_stay && self.keys.len() >= limits::ROTATION_RANGE => {
                    batch.delete_range(*table, first.clone(), end.clone());
                }
                _ => self.keys.iter().for_each(|key| batch.delete(*table, key.to_vec())),
            }
        }
    }
}

impl<'a> Move<'a> {
    fn scan(&self, table: Table, kind: RowKind, after: Option<&[u8]>) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        let prefix = self.memories.addresses.prefix(self.from, kind, &[]);
        // The first key that is greater.
        let from = after.map_or_else(|| prefix.clone(), |after| [after, &[0]].concat());
        self.memories.context.kv.scan_from(table, &prefix, from)
    }

    /// What became of the rows of a load, whose locks are held.
    fn since<F>(&self, table: Table, load: &[Sealed<F>]) -> Result<Vec<Since>> {
        let seen = self.memories.seen();
        if load.iter().all(|sealed| sealed.seen == seen) {
            return Ok(vec![Since::Same; load.len()]);
        }
        let keys: Vec<_> = load.iter().map(|sealed| sealed.key.to_vec()).collect();
        let now = self.memories.context.kv.get_many(table, &keys)?;
        let since = load.iter().zip(now).map(|(sealed, now)| match now {
            now if now.as_deref() == sealed.before.as_deref() => Since::Same,
            Some(_) => Since::Changed,
            None => Since::Gone,
        });
        Ok(since.collect())
    }

    fn move_current(&self, was: &Address, row: &CurrentRow) -> Result<Fate> {
        let memories = self.memories;
        let Some(registry) = &row.registry else {
            let now_ms = memories.context.clock.now_ms();
            let expired = row.memory.as_ref().is_some_and(|row| crate::vectors::expired(row, now_ms));
            return if expired { Ok(Fate::Expired) } else { Err(crate::crypto::open_failed()) };
        };
        let before = memories.parse_entry(was, &row.key, registry)?;
        let Some(row) = &row.memory else {
            let dropped = Error::integrity("a memory that the database dropped");
            return if memories.has_expired(before.expires_at_ms) { Ok(Fate::Expired) } else { Err(dropped) };
        };
        if memories.digest(row) != before.digest {
            return Err(crate::crypto::open_failed());
        }
        let encoded = memories.sealer.open_encoded(was, before.version, row)?;
        let plain = plain(&encoded, row)?;
        if plain.deleted || plain.expires_at_ms != before.expires_at_ms {
            return Err(crate::crypto::open_failed());
        }
        let namespace = Namespace::new(&plain.namespace).map_err(|_| crate::crypto::open_failed())?;
        let address = memories.addresses.of(self.to, &namespace, plain.key)?;
        let memory = memories.sealer.seal_encoded(&address, before.version, before.expires_at_ms, &encoded)?;
        let entry = Entry { epoch: self.to, digest: memories.digest(&memory), ..before };
        let registry = entry.to_row(&memories.context.keyring, &memories.addresses.current(&address))?;
        Ok(Fate::Moved { address, namespace, registry, memory, embedded: plain.has_embedding })
    }

    fn move_version(&self, was: &Address, version: u64, row: &[u8]) -> Result<MovedVersion> {
        let memories = self.memories;
        let encoded = memories.sealer.open_encoded(was, version, row)?;
        let plain = plain(&encoded, row)?;
        let namespace = Namespace::new(&plain.namespace).map_err(|_| crate::crypto::open_failed())?;
        let address = memories.addresses.of(self.to, &namespace, plain.key)?;
        let row = memories.sealer.seal_encoded(&address, version, plain.expires_at_ms, &encoded)?;
        Ok(MovedVersion { key: memories.addresses.history(&address, Some(version)), address, namespace, row })
    }

    /// Adds the labels of a namespace, once.
    fn stage_labels(&self, address: &Address, namespace: &Namespace, write: &mut Write<'_>) -> Result<()> {
        if self.labelled.lock().contains(address.chain()) {
            return Ok(());
        }
        self.memories.stage_labels(address, namespace, write)?;
        let mut labelled = self.labelled.lock();
        if labelled.len() >= limits::ROTATION_NAMESPACES {
            labelled.clear();
        }
        labelled.insert(address.chain().into());
        Ok(())
    }
}

impl Memories {
    /// Writes what was moved. Not synced: rotation does that before it relies on it.
    fn commit_move(&self, write: Write<'_>, embedded: &[(Address, Address)]) -> Result<()> {
        let Write { writing, batch, mut embeddings, entries, .. } = write;
        entries.iter().for_each(|(was, _)| self.uncache(was));
        self.stage_embeddings(embedded, &mut embeddings)?;
        let has_embeddings = !embeddings.upserts.is_empty() || !embeddings.deletes.is_empty();
        match self.context.catalog.memories() {
            Some(collection) if has_embeddings => collection.write(writing, embeddings, batch).map(|_| ())?,
            _ => self.context.kv.write(batch)?,
        }
        // Again: a reader may have put it back meanwhile.
        entries.iter().for_each(|(was, _)| self.uncache(was));
        Ok(())
    }

    /// Adds the embeddings of memories that move: under the ids of their new places.
    fn stage_embeddings(&self, embedded: &[(Address, Address)], staged: &mut Staged) -> Result<()> {
        if embedded.is_empty() {
            return Ok(());
        }
        let collection = self.context.catalog.memories().ok_or_else(|| Error::integrity("a memory's embedding"))?;
        let before: Vec<RecordId> =
            embedded.iter().map(|(was, _)| RecordId::text(&was.embedding_id())).collect::<Result<_>>()?;
        let found = match collection.get(&before) {
            // One that does not open keeps no other from moving.
            Err(e) if e.kind() == ErrorKind::Integrity => {
                before.iter().filter_map(|id| collection.get(std::slice::from_ref(id)).ok()).flatten().collect()
            }
            other => other?,
        };
        let mut chunks: HashMap<RecordId, _> = found.into_iter().map(|chunk| (chunk.id.clone(), chunk)).collect();
        for ((_, address), before) in embedded.iter().zip(before) {
            let Some(chunk) = chunks.remove(&before) else {
                tracing::warn!("the embedding of a memory does not open and is left behind");
                continue;
            };
            let id = RecordId::text(&address.embedding_id())?;
            staged.upserts.push(Chunk { id, text: chunk.text, metadata: chunk.metadata, vectors: chunk.vectors });
            staged.deletes.push(before);
        }
        Ok(())
    }
}

/// `None` for what does not open: it stays where it is, or goes, but nothing else waits for it.
fn or_damaged<T>(moved: Result<T>) -> Result<Option<T>> {
    match moved {
        Err(e) if e.kind() == ErrorKind::Integrity => Ok(None),
        other => other.map(Some),
    }
}
