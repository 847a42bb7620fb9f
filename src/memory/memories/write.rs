//! Writing memories: the new version, its registry row, the version before and its embedding in one batch.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::id::{Namespace, RecordId};
use crate::kv::{Batch, Table};
use crate::limits;
use crate::memory::address::{self, Address, RowKind, TAG_LEN};
use crate::memory::sealer::MemoryPlain;
use crate::memory::{Memory, MemoryItem, MemoryOp};
use crate::vectors::{Chunk, Entry, Metric, Staged};

use super::Memories;

/// Memories that one batch of [`Memories::delete_all`] deletes.
const DELETE_AT_A_TIME: usize = 512;

/// A batch in the making, and what has to be done once it is written.
#[derive(Default)]
struct Write {
    batch: Batch,
    embeddings: Staged,
    size: Option<usize>,
    entries: Vec<(Address, Option<Entry>)>,
}

impl Memories {
    /// Writes a memory and returns its version, once it would survive a power loss.
    pub fn put(&self, memory: Memory) -> Result<u64> {
        let address = self.address(&memory.namespace, &memory.key)?;
        let _locked = self.lock([&address]);
        let mut write = Write::default();
        let version = self.stage_put(&address, &memory, &mut write)?;
        self.commit(write)?;
        Ok(version)
    }

    /// Writes a memory that must exist; without an expiry of its own it keeps the one it has.
    pub fn update(&self, mut memory: Memory) -> Result<u64> {
        let address = self.address(&memory.namespace, &memory.key)?;
        let _locked = self.lock([&address]);
        let Some((_, item)) = self.current_row(&address)? else {
            return Err(Error::not_found("there is no such memory").with_remedy("use `put` or `remember` to make one"));
        };
        if let (None, Some(expires_at_ms)) = (memory.ttl_ms, item.expires_at_ms) {
            memory.ttl_ms = Some(expires_at_ms.saturating_sub(self.context.clock.now_ms()));
        }
        let mut write = Write::default();
        let version = self.stage_put(&address, &memory, &mut write)?;
        self.commit(write)?;
        Ok(version)
    }

    /// Deletes a memory and returns whether it was there. Its history stays, with the deletion as its last version,
    /// unless `purge` removes that too.
    pub fn delete(&self, namespace: &Namespace, key: &str, purge: bool) -> Result<bool> {
        let address = self.address(namespace, key)?;
        let _locked = self.lock([&address]);
        let mut write = Write::default();
        let was_there = self.stage_delete(&address, purge, &mut write)?;
        self.commit(write)?;
        Ok(was_there)
    }

    /// Deletes every memory in namespaces that begin with `prefix` and returns how many there were. What is written
    /// meanwhile may stay. A crash may leave a part; run it again.
    pub fn delete_all(&self, prefix: &[String], purge: bool) -> Result<usize> {
        let chain = self.addresses.chain(prefix)?;
        let addresses: Vec<_> = self.addresses_in(Table::Registry, &chain)?.into_iter().collect();
        let mut deleted = 0;
        for some in addresses.chunks(DELETE_AT_A_TIME) {
            let _locked = self.lock(some);
            let mut write = Write::default();
            for address in some {
                deleted += usize::from(self.stage_delete(address, purge, &mut write)?);
            }
            self.commit(write)?;
        }
        if purge {
            let mut write = Write::default();
            write.batch.delete_prefix(Table::Memory, &self.addresses.prefix(RowKind::History, &chain));
            self.commit(write)?;
        }
        Ok(deleted)
    }

    /// Removes up to `limit` expired memories with their embeddings; returns how many. Reading never shows them; this
    /// gives back their space.
    pub fn reap(&self, limit: usize) -> Result<usize> {
        let now = self.context.clock.now_ms();
        let mut expired = Vec::new();
        for row in self.context.kv.scan(Table::Registry, &self.addresses.prefix(RowKind::Current, &[])) {
            let (key, value) = row?;
            if crate::vectors::expired(&value, now) {
                expired.extend(address::parse_current(&key));
            }
            if expired.len() == limit {
                break;
            }
        }
        let _locked = self.lock(&expired);
        let mut write = Write::default();
        write.batch.frees_space();
        for address in &expired {
            // It may have been written anew since; and a row that is not ours is left for `verify` to report.
            let Ok(Some(entry)) = self.entry(address) else { continue };
            if self.has_expired(entry.expires_at_ms) {
                self.stage_expired(address, &mut write)?;
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
        let addressed: Vec<(Address, MemoryOp)> = ops
            .into_iter()
            .map(|op| {
                let address = match &op {
                    MemoryOp::Put(memory) => self.address(&memory.namespace, &memory.key)?,
                    MemoryOp::Delete(namespace, key) => self.address(namespace, key)?,
                };
                Ok((address, op))
            })
            .collect::<Result<_>>()?;
        let mut seen = HashSet::new();
        if !addressed.iter().all(|(address, _)| seen.insert(address)) {
            return Err(
                Error::invalid("a batch has two operations on the same memory").with_remedy("keep the last of them")
            );
        }
        let _locked = self.lock(addressed.iter().map(|(address, _)| address));
        let mut write = Write::default();
        for (address, op) in &addressed {
            match op {
                MemoryOp::Put(memory) => self.stage_put(address, memory, &mut write).map(|_| ())?,
                MemoryOp::Delete(..) => self.stage_delete(address, false, &mut write).map(|_| ())?,
            }
        }
        self.commit(write)
    }

    fn stage_put(&self, address: &Address, memory: &Memory, write: &mut Write) -> Result<u64> {
        if let Some(embedding) = &memory.embedding {
            Metric::Cosine.validate(embedding, embedding.len())?;
        }
        let now = self.context.clock.now_ms();
        let before = self.current_row(address)?;
        let last = match &before {
            Some((_, item)) => item.version,
            None => self.stage_expired(address, write)?.max(self.last_version(address)?),
        };
        let version = last.saturating_add(1);
        let plain = MemoryPlain {
            namespace: memory.namespace.labels().iter().map(String::as_str).collect(),
            key: &memory.key,
            value: &memory.value,
            created_at_ms: before.as_ref().map_or(now, |(_, item)| item.created_at_ms),
            updated_at_ms: now,
            expires_at_ms: memory.ttl_ms.map_or(0, |ttl| now.saturating_add(ttl).max(1)),
            has_embedding: memory.embedding.is_some(),
            deleted: false,
        };
        let row = self.sealer.seal(address, version, &plain)?;
        self.stage_labels(address, &memory.namespace, write)?;
        self.stage_row(address, version, plain.expires_at_ms, row, write)?;
        let had_embedding = before.as_ref().is_some_and(|(_, item)| item.has_embedding);
        if let Some((row, item)) = before {
            self.stage_history(address, item.version, row.to_vec(), write);
        }
        match &memory.embedding {
            Some(embedding) => {
                write.size = Some(embedding.len());
                let id = RecordId::text(&address.embedding_id())?;
                // It takes the place of one that an expired memory left.
                write.embeddings.deletes.retain(|stale| *stale != id);
                write.embeddings.upserts.push(Chunk::new(id, "", embedding.clone()));
            }
            None if had_embedding => {
                write.embeddings.deletes.push(RecordId::text(&address.embedding_id())?);
            }
            None => {}
        }
        Ok(version)
    }

    /// Adds the removal of what an expired memory left behind, its embedding too, and returns the version it had; 0 when
    /// there is none.
    fn stage_expired(&self, address: &Address, write: &mut Write) -> Result<u64> {
        let Some(entry) = self.entry(address)? else { return Ok(0) };
        let key = self.addresses.current(address);
        write.batch.delete(Table::Memory, key.clone());
        write.batch.delete(Table::Registry, key);
        write.entries.push((address.clone(), None));
        write.embeddings.deletes.push(RecordId::text(&address.embedding_id())?);
        Ok(entry.version)
    }

    fn stage_row(
        &self,
        address: &Address,
        version: u64,
        expires_at_ms: u64,
        row: Vec<u8>,
        write: &mut Write,
    ) -> Result<()> {
        let key = self.addresses.current(address);
        let digest = self.digest(&row);
        let entry = Entry { expires_at_ms, epoch: self.addresses.epoch(), version, digest };
        write.batch.put(Table::Registry, key.clone(), entry.to_row(&self.context.keyring, &key)?);
        write.batch.put(Table::Memory, key, row);
        write.entries.push((address.clone(), Some(entry)));
        Ok(())
    }

    fn stage_history(&self, address: &Address, version: u64, row: Vec<u8>, write: &mut Write) {
        write.batch.put(Table::Memory, self.addresses.history(address, Some(version)), row);
        if let Some(oldest) = version.checked_sub(limits::MEMORY_VERSIONS as u64) {
            write.batch.delete(Table::Memory, self.addresses.history(address, Some(oldest)));
        }
    }

    fn stage_delete(&self, address: &Address, purge: bool, write: &mut Write) -> Result<bool> {
        if purge {
            write.batch.delete_prefix(Table::Memory, &self.addresses.history(address, None));
        }
        write.batch.frees_space();
        let Some((row, item)) = self.current_row(address)? else {
            self.stage_expired(address, write)?;
            return Ok(false);
        };
        let key = self.addresses.current(address);
        write.batch.delete(Table::Memory, key.clone());
        write.batch.delete(Table::Registry, key);
        write.entries.push((address.clone(), None));
        if item.has_embedding {
            write.embeddings.deletes.push(RecordId::text(&address.embedding_id())?);
        }
        if !purge {
            self.stage_history(address, item.version, row.to_vec(), write);
            let tombstone = self.tombstone(address, &item)?;
            self.stage_history(address, item.version + 1, tombstone, write);
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
    fn stage_labels(&self, address: &Address, namespace: &Namespace, write: &mut Write) -> Result<()> {
        for (depth, label) in (1..).zip(namespace.labels()) {
            let chain = address.chain().get(..depth * TAG_LEN).unwrap_or_default();
            let key = self.addresses.prefix(RowKind::Label, chain);
            if self.context.kv.get(Table::Memory, &key)?.is_none() {
                // The head of every row of this table is its expiry: none.
                let row = [&[0; 8][..], &self.sealer.seal_label(chain, label)?].concat();
                write.batch.put(Table::Memory, key, row);
            }
        }
        Ok(())
    }

    fn commit(&self, write: Write) -> Result<()> {
        let Write { batch, embeddings, size, entries } = write;
        if batch.is_empty() {
            return Ok(());
        }
        // A write that fails half-way leaves nothing in the cache to be believed.
        entries.iter().for_each(|(address, _)| {
            self.uncache(address);
        });
        let collection = match size {
            Some(size) => Some(self.context.catalog.memories_or_create(size)?),
            None => self.context.catalog.memories(),
        };
        let has_embeddings = !embeddings.upserts.is_empty() || !embeddings.deletes.is_empty();
        match collection {
            Some(collection) if has_embeddings => collection.write(embeddings, batch).map(|_| ())?,
            _ => {
                self.context.kv.write(batch)?;
                self.context.kv.sync()?;
            }
        }
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
