//! Reading memories: by key, by namespace, by meaning. Everything is opened against the registry before it is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crypto;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Epoch, Namespace, RecordId};
use crate::keys::Live;
use crate::kv::Table;
use crate::limits;
use crate::memory::address::{self, Address, RowKind, TAG_LEN};
use crate::memory::{Memory, MemoryItem, MemoryOp, MemoryVersion, RecallRequest, Recalled};
use crate::vectors::{Entry, SearchRequest, expired};

use super::{Memories, Places};

/// Where a memory is, its row, and the memory.
type Found = (Address, Arc<[u8]>, MemoryItem);

impl Memories {
    /// The memory under `key` in `namespace`.
    pub fn get(&self, namespace: &Namespace, key: &str) -> Result<Option<MemoryItem>> {
        Ok(self.get_tagged(namespace, key)?.map(|(_, item)| item))
    }

    /// The same, with what the database knows it by.
    pub(crate) fn get_tagged(&self, namespace: &Namespace, key: &str) -> Result<Option<([u8; TAG_LEN], MemoryItem)>> {
        self.context.keyring.looking(|live| {
            let places = self.places(live, namespace, key)?;
            let at = |address: &Address| Ok(self.at(address)?.map(|item| (*address.record(), item)));
            for address in &places.0 {
                if let Some(found) = at(address)? {
                    return Ok(Some(found));
                }
            }
            match places.0.as_slice() {
                // It may have moved while we looked, and then to where we looked first.
                [first, _, ..] => at(first),
                _ => Ok(None),
            }
        })
    }

    /// What the database knows the memory under `key` by in the epoch that seals, whether there is one or not.
    pub(crate) fn tag(&self, namespace: &Namespace, key: &str) -> Result<[u8; TAG_LEN]> {
        crate::memory::item::check_key(key)?;
        Ok(*self.addresses.of(self.context.keyring.active(), namespace, key)?.record())
    }

    /// The same of a memory that is to be written.
    pub(crate) fn tag_of(&self, memory: &Memory) -> Result<[u8; TAG_LEN]> {
        self.tag(&memory.namespace, &memory.key)
    }

    /// What the database knows a namespace by in the epoch that seals.
    pub(crate) fn namespace_tag(&self, namespace: &Namespace) -> Result<[u8; TAG_LEN]> {
        let chain = self.prefix_tags(namespace.labels())?;
        Ok(chain.last_chunk::<TAG_LEN>().copied().unwrap_or_default())
    }

    /// The same of what a batch is about, in its order.
    pub(crate) fn batch_tags(&self, ops: &[MemoryOp]) -> Result<Vec<[u8; TAG_LEN]>> {
        let tag = |op: &MemoryOp| match op {
            MemoryOp::Put(memory) => self.tag_of(memory),
            MemoryOp::Delete(namespace, key) => self.tag(namespace, key),
        };
        ops.iter().map(tag).collect()
    }

    /// What the database knows these labels by in the epoch that seals, one tag after the other.
    pub(crate) fn prefix_tags(&self, prefix: &[String]) -> Result<Vec<u8>> {
        self.addresses.chain(self.context.keyring.active(), prefix)
    }

    /// Every kept version of a memory, oldest first, also after it was deleted.
    pub fn history(&self, namespace: &Namespace, key: &str) -> Result<Vec<MemoryVersion>> {
        let writing = self.context.keyring.writing();
        let places = self.places(writing.live(), namespace, key)?;
        let _locked = self.lock(&places.0);
        let mut versions = Vec::new();
        for address in &places.0 {
            for row in self.context.kv.scan(Table::Memory, &self.addresses.history(address, None)) {
                let (key, value) = row?;
                let (_, version) = address::parse_history(&key).ok_or_else(crypto::open_failed)?;
                let opened = self.sealer.open(address, version, &value)?;
                if !self.has_expired(opened.item.expires_at_ms.unwrap_or(0)) {
                    versions.push(opened);
                }
            }
        }
        if let Some((_, _, item)) = self.current_of(&places)? {
            versions.push(MemoryVersion { item, deleted: false });
        }
        versions.sort_by_key(|version| version.item.version);
        Ok(versions)
    }

    /// Memories in namespaces that begin with `prefix`, the latest first: `limit` of them after the first `offset`.
    pub fn list(&self, prefix: &[String], limit: usize, offset: usize) -> Result<Vec<MemoryItem>> {
        if limit == 0 || limit > limits::PAGE_RECORDS {
            return Err(Error::invalid(format!("a page has 1 to {} memories", limits::PAGE_RECORDS)));
        }
        let mut items = self.all(prefix)?;
        items.sort_by(|a, b| {
            let by_time = b.updated_at_ms.cmp(&a.updated_at_ms);
            by_time.then_with(|| a.namespace.cmp(&b.namespace)).then_with(|| a.key.cmp(&b.key))
        });
        Ok(items.into_iter().skip(offset).take(limit).collect())
    }

    /// Namespaces below `prefix` that hold memories, cut to `max_depth` labels, in order.
    pub fn list_namespaces(&self, prefix: &[String], max_depth: Option<usize>) -> Result<Vec<Namespace>> {
        self.context.keyring.looking(|live| {
            let mut namespaces = BTreeSet::new();
            for epoch in live.oldest_first() {
                namespaces.append(&mut self.namespaces_in(epoch, prefix, max_depth)?);
            }
            Ok(namespaces.into_iter().collect())
        })
    }

    fn namespaces_in(&self, epoch: Epoch, prefix: &[String], max_depth: Option<usize>) -> Result<BTreeSet<Namespace>> {
        let now = self.context.clock.now_ms();
        let chain = self.addresses.chain(epoch, prefix)?;
        let mut chains = BTreeSet::new();
        let mut unregistered = self.addresses_in(Table::Memory, epoch, &chain)?;
        for row in self.context.kv.scan(Table::Registry, &self.addresses.prefix(epoch, RowKind::Current, &chain)) {
            let (key, value) = row?;
            let address = address::parse_current(&key).ok_or_else(crypto::open_failed)?;
            unregistered.remove(&address);
            let depth = max_depth.unwrap_or(usize::MAX).saturating_mul(TAG_LEN).min(address.chain().len());
            let is_there = !expired(&value, now) || self.at(&address)?.is_some();
            if is_there
                && address.chain().starts_with(&chain)
                && let Some(cut) = address.chain().get(..depth).filter(|cut| !cut.is_empty())
            {
                chains.insert(cut.to_vec());
            }
        }
        for address in &unregistered {
            self.at(address)?;
        }
        let mut labels = BTreeMap::new();
        chains.iter().map(|chain| self.namespace(epoch, chain, &mut labels)).collect()
    }

    /// The memories that fit `request` best.
    pub fn recall(&self, request: &RecallRequest) -> Result<Vec<Recalled>> {
        if request.limit == 0 || request.limit > limits::SEARCH_RESULTS {
            return Err(Error::invalid(format!("a recall has 1 to {} results", limits::SEARCH_RESULTS)));
        }
        let words: Vec<String> =
            request.text.iter().flat_map(|t| t.split_whitespace()).map(str::to_lowercase).collect();
        let fits = |item: &MemoryItem| {
            let value = if words.is_empty() { String::new() } else { item.json.to_lowercase() };
            words.iter().all(|word| value.contains(word))
        };
        match &request.embedding {
            Some(embedding) => self.recall_nearest(request, embedding, fits),
            None => {
                let mut items = self.all(&request.prefix)?;
                items.retain(fits);
                items.sort_by_key(|item| std::cmp::Reverse(item.updated_at_ms));
                items.truncate(request.limit);
                Ok(items.into_iter().map(|item| Recalled { item, score: None }).collect())
            }
        }
    }

    fn recall_nearest(
        &self,
        request: &RecallRequest,
        embedding: &[f32],
        fits: impl Fn(&MemoryItem) -> bool,
    ) -> Result<Vec<Recalled>> {
        let Some(collection) = self.context.catalog.memories() else { return Ok(Vec::new()) };
        self.context.keyring.looking(|live| {
            let prefixes = live
                .newest_first()
                .map(|epoch| Ok(address::hex(&self.addresses.chain(epoch, &request.prefix)?)))
                .collect::<Result<Vec<String>>>()?;
            // An id is as long as its namespace is deep, and its last tag is the record's: a prefix must end before that.
            let below = |id: &RecordId| match id {
                RecordId::Text(id) => {
                    prefixes.iter().any(|prefix| id.len() >= prefix.len() + 2 * TAG_LEN && id.starts_with(prefix))
                }
                RecordId::Number(_) | RecordId::Uuid(_) => false,
            };
            let mut ask = request.limit.min(limits::SEARCH_RESULTS);
            loop {
                // Some of the nearest may have expired or may not fit: ask for more until there are enough or no more.
                let nearest = collection.nearest(&SearchRequest::new(embedding.to_vec(), ask), Some(&below))?;
                let exhausted = nearest.len() < ask || ask == limits::SEARCH_RESULTS;
                let mut recalled = Vec::with_capacity(request.limit);
                for (id, score) in nearest {
                    let item = self.embedded(live, &id)?;
                    if let Some(item) = item.filter(|item| item.has_embedding && fits(item)) {
                        recalled.push(Recalled { item, score: Some(score) });
                    }
                }
                if recalled.len() >= request.limit || exhausted {
                    recalled.truncate(request.limit);
                    return Ok(recalled);
                }
                ask = (ask * 4).min(limits::SEARCH_RESULTS);
            }
        })
    }

    /// The memory whose embedding has `id`.
    fn embedded(&self, live: &Live, id: &RecordId) -> Result<Option<MemoryItem>> {
        let id = id.to_string();
        for epoch in live.newest_first() {
            let address = address::parse_embedding_id(&id, epoch).ok_or_else(crypto::open_failed)?;
            if let Some(item) = self.at(&address)? {
                return Ok(Some(item));
            }
            // The index learns of a move after the memory has moved.
            if let Some(moved) = self.moved.get(&address)
                && let Some(item) = self.at(&moved)?
            {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    fn at(&self, address: &Address) -> Result<Option<MemoryItem>> {
        match self.try_current_row(address) {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A write may have been under way between the two rows. Without one, they have to fit.
                let _locked = self.lock([address]);
                Ok(self.current_row(address)?.map(|(_, item)| item))
            }
            other => Ok(other?.map(|(_, item)| item)),
        }
    }

    /// Where a memory is, its row, and the memory; the caller has locked its places.
    pub(super) fn current_of(&self, places: &Places) -> Result<Option<Found>> {
        for address in &places.0 {
            if let Some((row, item)) = self.current_row(address)? {
                return Ok(Some((address.clone(), row, item)));
            }
        }
        Ok(None)
    }

    /// The row and the opened memory at `address`, which the caller has locked.
    pub(super) fn current_row(&self, address: &Address) -> Result<Option<(Arc<[u8]>, MemoryItem)>> {
        match self.try_current_row(address) {
            Err(e) if e.kind() == ErrorKind::Integrity => {
                // A reader may have put an older registry row back into the cache.
                self.uncache(address);
                self.try_current_row(address)
            }
            other => other,
        }
    }

    fn try_current_row(&self, address: &Address) -> Result<Option<(Arc<[u8]>, MemoryItem)>> {
        let entry = self.entry(address)?;
        let row = self.row(address)?;
        match (entry, row) {
            (None, None) => Ok(None),
            // Compaction drops the rows of expired memories, their registry rows stay until they are reaped.
            (Some(entry), None) if self.has_expired(entry.expires_at_ms) => Ok(None),
            (None, Some(_)) => Err(Error::integrity("a memory that the database made up").about(address.record())),
            (Some(_), None) => Err(Error::integrity("a memory that the database dropped").about(address.record())),
            (Some(entry), Some(row)) => {
                // Opened even when it has expired: only the sealed expiry is to be believed.
                let item = self.open_row(address, &entry, &row)?;
                Ok((!self.has_expired(entry.expires_at_ms)).then_some((row, item)))
            }
        }
    }

    pub(super) fn open_row(&self, address: &Address, entry: &Entry, row: &[u8]) -> Result<MemoryItem> {
        let failed = |e: Error| e.about(address.record());
        if self.digest(row) != entry.digest {
            return Err(failed(crypto::open_failed()));
        }
        let opened = self.sealer.open(address, entry.version, row).map_err(failed)?;
        if opened.deleted || opened.item.expires_at_ms.unwrap_or(0) != entry.expires_at_ms {
            return Err(failed(crypto::open_failed()));
        }
        Ok(opened.item)
    }

    pub(super) fn digest(&self, row: &[u8]) -> [u8; 16] {
        crate::vectors::digest(self.context.keyring.provider(), row)
    }

    /// The last version that history knows of a memory that is not there now; 0 if there never was one.
    pub(super) fn last_version(&self, places: &Places) -> Result<u64> {
        let mut last = 0;
        for address in &places.0 {
            for row in self.context.kv.scan(Table::Memory, &self.addresses.history(address, None)) {
                let (_, version) = address::parse_history(&row?.0).ok_or_else(crypto::open_failed)?;
                last = last.max(version);
            }
        }
        Ok(last)
    }

    /// Where `table` has memories of `epoch` in the namespace at `chain` and below.
    pub(super) fn addresses_in(&self, table: Table, epoch: Epoch, chain: &[u8]) -> Result<BTreeSet<Address>> {
        let rows = self.context.kv.scan(table, &self.addresses.prefix(epoch, RowKind::Current, chain));
        rows.map(|row| address::parse_current(&row?.0).ok_or_else(crypto::open_failed))
            .filter(|address| address.as_ref().map_or(true, |a| a.chain().starts_with(chain)))
            .collect()
    }

    /// Every memory below `prefix`: the registry says which there must be, and what it does not know must not be there.
    fn all(&self, prefix: &[String]) -> Result<Vec<MemoryItem>> {
        self.context.keyring.looking(|live| {
            let mut items = Vec::new();
            // What moves while we look is seen again where it has moved to.
            for epoch in live.oldest_first() {
                let chain = self.addresses.chain(epoch, prefix)?;
                let mut addresses = self.addresses_in(Table::Registry, epoch, &chain)?;
                addresses.append(&mut self.addresses_in(Table::Memory, epoch, &chain)?);
                for address in &addresses {
                    items.extend(self.at(address)?);
                }
            }
            if !live.older().is_empty() {
                let latest: BTreeMap<_, _> =
                    items.into_iter().map(|item| ((item.namespace.clone(), item.key.clone()), item)).collect();
                items = latest.into_values().collect();
            }
            Ok(items)
        })
    }

    /// The label in a row. Labels do not expire.
    pub(super) fn sealed_label(row: &[u8]) -> Result<&[u8]> {
        row.strip_prefix(&[0; 8]).ok_or_else(crypto::open_failed)
    }

    fn namespace(&self, epoch: Epoch, chain: &[u8], known: &mut BTreeMap<Vec<u8>, String>) -> Result<Namespace> {
        let mut labels = Vec::new();
        for depth in 1..=chain.len() / TAG_LEN {
            let level = chain.get(..depth * TAG_LEN).unwrap_or_default();
            let label = match known.get(level) {
                Some(label) => label.clone(),
                None => {
                    let row =
                        self.context.kv.get(Table::Memory, &self.addresses.prefix(epoch, RowKind::Label, level))?;
                    let row = row.ok_or_else(|| Error::integrity("the label of a namespace"))?;
                    let label = self.sealer.open_label(epoch, level, Self::sealed_label(&row)?)?;
                    known.insert(level.to_vec(), label.clone());
                    label
                }
            };
            labels.push(label);
        }
        Namespace::new(labels).map_err(|_| crypto::open_failed())
    }
}
