//! Writing memories: the new version, its registry row, the version before and its embedding in one batch.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::id::{Epoch, Namespace, RecordId};
use crate::keys::Writing;
use crate::kv::{Batch, Table};
use crate::limits;
use crate::memory::address::{self, Address, RowKind, TAG_LEN};
use crate::memory::sealer::MemoryPlain;
use crate::memory::{Memory, MemoryItem, MemoryOp};
use crate::vectors::{Chunk, Entry, Metric, Staged};

use super::{Memories, Places};

/// Memories that one batch of [`Memories::delete_all`] deletes.
const DELETE_AT_A_TIME: usize = 512;

/// A batch in the making, and what has to be done once it is written.
pub(super) struct Write<'a> {
    pub(super) writing: &'a Writing<'a>,
    pub(super) batch: Batch,
    pub(super) embeddings: Staged,
    pub(super) size: Option<usize>,
    pub(super) entries: Vec<(Address, Option<Entry>)>,
}

impl<'a> Write<'a> {
    pub(super) fn new(writing: &'a Writing<'a>) -> Self {
        Self { writing, batch: Batch::default(), embeddings: Staged::default(), size: None, entries: Vec::new() }
    }
}

impl Memories {
    /// Writes a memory and returns its version, once it would survive a power loss.
    pub fn put(&self, memory: Memory) -> Result<u64> {
        let writing = self.context.keyring.writing();
        let places = self.places(writing.live(), &memory.namespace, &memory.key)?;
        let _locked = self.lock(&places.0);
        let mut write = Write::new(&writing);
        let version = self.stage_put(&places, &memory, &mut write)?;
        self.commit(write)?;
        Ok(version)
    }

    /// Writes a memory that must exist; without an expiry of its own it keeps the one it has.
    pub fn update(&self, mut memory: Memory) -> Result<u64> {
        let writing = self.context.keyring.writing();
        let places = self.places(writing.live(), &memory.namespace, &memory.key)?;
        let _locked = self.lock(&places.0);
        let Some((_, _, item)) = self.current_of(&places)? else {
            return Err(Error::not_found("there is no such memory").with_remedy("use `put` or `remember` to make one"));
        };
        if let (None, Some(expires_at_ms)) = (memory.ttl_ms, item.expires_at_ms) {
            memory.ttl_ms = Some(expires_at_ms.saturating_sub(self.context.clock.now_ms()));
        }
        let mut write = Write::new(&writing);
        let version = self.stage_put(&places, &memory, &mut write)?;
        self.commit(write)?;
        Ok(version)
    }

    /// Deletes a memory and returns whether it was there. Its history stays, with the deletion as its last version,
    /// unless `purge` removes that too.
    pub fn delete(&self, namespace: &Namespace, key: &str, purge: bool) -> Result<bool> {
        let writing = self.context.keyring.writing();
        let places = self.places(writing.live(), namespace, key)?;
        let _locked = self.lock(&places.0);
        let mut write = Write::new(&writing);
        let was_there = self.stage_delete(&places, purge, &mut write)?;
        self.commit(write)?;
        Ok(was_there)
    }

    /// Deletes every memory in namespaces that begin with `prefix` and returns how many there were. What is written
    /// meanwhile may stay. A crash may leave a part; run it again.
    pub fn delete_all(&self, prefix: &[String], purge: bool) -> Result<usize> {
        let deleted = AtomicUsize::new(0);
        self.context.keyring.looking(|live| {
            for epoch in live.oldest_first() {
                deleted.fetch_add(self.delete_in(epoch, prefix, purge)?, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(deleted.into_inner())
    }

    /// Deletes those that are in `epoch`.
    fn delete_in(&self, epoch: Epoch, prefix: &[String], purge: bool) -> Result<usize> {
        let chain = self.addresses.chain(epoch, prefix)?;
        let addresses: Vec<_> = self.addresses_in(Table::Registry, epoch, &chain)?.into_iter().collect();
        let mut deleted = 0;
        for some in addresses.chunks(DELETE_AT_A_TIME) {
            let writing = self.context.keyring.writing();
            let _locked = self.lock(some);
            let mut write = Write::new(&writing);
            for address in some {
                // Whoever writes this memory locks all its places, so this one is enough.
                deleted += usize::from(self.stage_delete(&Places(vec![address.clone()]), purge, &mut write)?);
            }
            self.commit(write)?;
        }
        if purge {
            let writing = self.context.keyring.writing();
            let mut write = Write::new(&writing);
            write.batch.delete_prefix(Table::Memory, &self.addresses.prefix(epoch, RowKind::History, &chain));
            self.commit(write)?;
        }
        Ok(deleted)
    }

    /// Removes up to `limit` expired memories with their embeddings; returns how many. Reading never shows them; this
    /// gives back their space.
    pub fn reap(&self, limit: usize) -> Result<usize> {
        let writing = self.context.keyring.writing();
        let now = self.context.clock.now_ms();
        let mut expired = Vec::new();
        for epoch in writing.live().oldest_first() {
            let prefix = self.addresses.prefix(epoch, RowKind::Current, &[]);
            for row in self.context.kv.scan(Table::Registry, &prefix) {
                let (key, value) = row?;
                if crate::vectors::expired(&value, now) {
                    expired.extend(address::parse_current(&key));
                }
                if expired.len() >= limit {
                    break;
                }
            }
        }
        let _locked = self.lock(&expired);
        let mut write = Write::new(&writing);
        write.batch.frees_space();
        for address in &expired {
            // It may have been written anew since; and a row that is not ours is left for `verify` to report.
            let Ok(Some(entry)) = self.entry(address) else { continue };
            if self.has_expired(entry.expires_at_ms) {
                self.stage_expired(&Places(vec![address.clone()]), &mut write)?;
            }
        }
        self.commit(write)?;
        Ok(expired.len())
    }

    /// Makes all of `ops`, in their order, or none. Two of them cannot be about the same memory.
    pub fn batch(&self, ops: Vec<MemoryOp>) -> Result<()> {
        if ops.len() > limits::MEMORY_BATCH {
            return Err(Error::invalid(format!("a batch of {} operations is too large", ops.len()))
                .with_remedy(format!("split it into batches of at most {}", limits::MEMORY_BATCH)));
        }
        let writing = self.context.keyring.writing();
        let placed: Vec<(Places, MemoryOp)> = ops
            .into_iter()
            .map(|op| {
                let places = match &op {
                    MemoryOp::Put(memory) => self.places(writing.live(), &memory.namespace, &memory.key)?,
                    MemoryOp::Delete(namespace, key) => self.places(writing.live(), namespace, key)?,
                };
                Ok((places, op))
            })
            .collect::<Result<_>>()?;
        let mut seen = HashSet::new();
        if !placed.iter().all(|(places, _)| seen.insert(&places.0)) {
            return Err(
                Error::invalid("a batch has two operations on the same memory").with_remedy("keep the last of them")
            );
        }
        let _locked = self.lock(placed.iter().flat_map(|(places, _)| &places.0));
        let mut write = Write::new(&writing);
        for (places, op) in &placed {
            match op {
                MemoryOp::Put(memory) => self.stage_put(places, memory, &mut write).map(|_| ())?,
                MemoryOp::Delete(..) => self.stage_delete(places, false, &mut write).map(|_| ())?,
            }
        }
        self.commit(write)
    }

    fn stage_put(&self, places: &Places, memory: &Memory, write: &mut Write<'_>) -> Result<u64> {
        if let Some(embedding) = &memory.embedding {
            Metric::Cosine.validate(embedding, embedding.len())?;
        }
        let now = self.context.clock.now_ms();
        let address = self.addresses.of(write.writing.epoch(), &memory.namespace, &memory.key)?;
        let before = self.current_of(places)?;
        let last = match &before {
            Some((_, _, item)) => item.version,
            None => self.stage_expired(places, write)?.max(self.last_version(places)?),
        };
        let version = last.saturating_add(1);
        let plain = MemoryPlain {
            namespace: memory.namespace.labels().iter().map(String::as_str).collect(),
            key: &memory.key,
            value: &memory.value,
            created_at_ms: before.as_ref().map_or(now, |(_, _, item)| item.created_at_ms),
            updated_at_ms: now,
            expires_at_ms: memory.ttl_ms.map_or(0, |ttl| now.saturating_add(ttl).max(1)),
            has_embedding: memory.embedding.is_some(),
            deleted: false,
        };
        let row = self.sealer.seal(&address, version, &plain)?;
        self.stage_labels(&address, &memory.namespace, write)?;
        if let Some((was, row, item)) = before {
            if was != address {
                self.stage_unlisting(&was, write);
            }
            self.stage_forgetting(&was, &item, write)?;
            self.stage_history(places, &was, item.version, row.to_vec(), write);
        }
        self.stage_row(&address, version, plain.expires_at_ms, row, write)?;
        if let Some(embedding) = &memory.embedding {
            write.size = Some(embedding.len());
            let id = RecordId::text(&address.embedding_id())?;
            // It takes the place of the one before, or of one that an expired memory left.
            write.embeddings.deletes.retain(|stale| *stale != id);
            write.embeddings.upserts.push(Chunk::new(id, "", embedding.clone()));
        }
        Ok(version)
    }

    /// Adds the removal of what an expired memory left behind, its embedding too, and returns the version it had; 0 when
    /// there is none.
    pub(super) fn stage_expired(&self, places: &Places, write: &mut Write<'_>) -> Result<u64> {
        let mut version = 0;
        for address in &places.0 {
            let Some(entry) = self.entry(address)? else { continue };
            self.stage_unlisting(address, write);
            write.embeddings.deletes.push(RecordId::text(&address.embedding_id())?);
            version = version.max(entry.version);
        }
        Ok(version)
    }

    /// Adds the removal of the embedding of `item`, if it has one.
    fn stage_forgetting(&self, address: &Address, item: &MemoryItem, write: &mut Write<'_>) -> Result<()> {
        if item.has_embedding {
            write.embeddings.deletes.push(RecordId::text(&address.embedding_id())?);
        }
        Ok(())
    }

    fn stage_unlisting(&self, address: &Address, write: &mut Write<'_>) {
        let key = self.addresses.current(address);
        write.batch.delete(Table::Memory, key.clone());
        write.batch.delete(Table::Registry, key);
        write.entries.push((address.clone(), None));
    }

    fn stage_row(
        &self,
        address: &Address,
        version: u64,
        expires_at_ms: u64,
        row: Vec<u8>,
        write: &mut Write<'_>,
    ) -> Result<()> {
        let key = self.addresses.current(address);
        let digest = self.digest(&row);
        let entry = Entry { expires_at_ms, epoch: address.epoch(), version, digest };
        write.batch.put(Table::Registry, key.clone(), entry.to_row(&self.context.keyring, &key)?);
        write.batch.put(Table::Memory, key, row);
        write.entries.push((address.clone(), Some(entry)));
        Ok(())
    }

    /// Adds a version that is over. It stays in the epoch that it is sealed in.
    fn stage_history(&self, places: &Places, was: &Address, version: u64, row: Vec<u8>, write: &mut Write<'_>) {
        write.batch.put(Table::Memory, self.addresses.history(was, Some(version)), row);
        if let Some(oldest) = version.checked_sub(limits::MEMORY_VERSIONS as u64) {
            for address in &places.0 {
                write.batch.delete(Table::Memory, self.addresses.history(address, Some(oldest)));
            }
        }
    }

    fn stage_delete(&self, places: &Places, purge: bool, write: &mut Write<'_>) -> Result<bool> {
        if purge {
            for address in &places.0 {
                write.batch.delete_prefix(Table::Memory, &self.addresses.history(address, None));
            }
        }
        write.batch.frees_space();
        let Some((was, row, item)) = self.current_of(places)? else {
            self.stage_expired(places, write)?;
            return Ok(false);
        };
        self.stage_unlisting(&was, write);
        self.stage_forgetting(&was, &item, write)?;
        if !purge {
            self.stage_history(places, &was, item.version, row.to_vec(), write);
            let address = self.addresses.of(write.writing.epoch(), &item.namespace, &item.key)?;
            self.stage_labels(&address, &item.namespace, write)?;
            let tombstone = self.tombstone(&address, &item)?;
            self.stage_history(places, &address, item.version + 1, tombstone, write);
        }
        Ok(true)
    }

    fn tombstone(&self, address: &Address, item: &MemoryItem) -> Result<Vec<u8>> {
        let plain = MemoryPlain {
            namespace: item.namespace.labels().iter().map(String::as_str).collect(),
            key: &item.key,
            value: "null",
            created_at_ms: item.created_at_ms,
            updated_at_ms: self.context.clock.now_ms(),
            expires_at_ms: item.expires_at_ms.unwrap_or(0),
            has_embedding: false,
            deleted: true,
        };
        self.sealer.seal(address, item.version + 1, &plain)
    }

    /// Adds the labels of `namespace` that are not there yet.
    pub(super) fn stage_labels(&self, address: &Address, namespace: &Namespace, write: &mut Write<'_>) -> Result<()> {
        for (depth, label) in (1..).zip(namespace.labels()) {
            let chain = address.chain().get(..depth * TAG_LEN).unwrap_or_default();
            let key = self.addresses.prefix(address.epoch(), RowKind::Label, chain);
            if self.context.kv.get(Table::Memory, &key)?.is_none() {
                // The head of every row of this table is its expiry: none.
                let row = [&[0; 8][..], &self.sealer.seal_label(address.epoch(), chain, label)?].concat();
                write.batch.put(Table::Memory, key, row);
            }
        }
        Ok(())
    }

    fn commit(&self, write: Write<'_>) -> Result<()> {
        let Write { writing, batch, embeddings, size, entries } = write;
        if batch.is_empty() {
            return Ok(());
        }
        // A write that fails half-way leaves nothing in the cache to be believed.
        entries.iter().for_each(|(address, _)| {
            self.uncache(address);
        });
        let collection = match size {
            Some(size) => Some(self.context.catalog.memories_or_create(writing, size)?),
            None => self.context.catalog.memories(),
        };
        let has_embeddings = !embeddings.upserts.is_empty() || !embeddings.deletes.is_empty();
        let written = match collection {
            Some(collection) if has_embeddings => collection.write(writing, embeddings, batch).map(|_| ()),
            _ => self.context.kv.write(batch).and_then(|()| self.context.kv.sync()),
        };
        // Also one that failed: a part of it may be there.
        self.writes.fetch_add(1, Ordering::SeqCst);
        written?;
        for (address, entry) in entries {
            match entry {
                Some(entry) => self.entries.insert(address, entry),
                // Again: a reader may have put it back meanwhile.
                None => {
                    self.uncache(&address);
                }
            }
        }
        Ok(())
    }
}
