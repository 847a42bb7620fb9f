//! Records that never open again, in a data directory that is older than its keys: counted, removed, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::keys::StoreKeys;
use super::{Engines, names};
use crate::error::{ErrorKind, Result};
use crate::id::{Epoch, TenantId};
use crate::keys::{EpochRecord, EpochState, TenantRecord};
use crate::kv::{Batch, KvBackend};
use crate::memory;
use crate::vectors::{self, Collection, CollectionId, Router};

/// Records that cannot be opened, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Whose they are; `None` when nobody can tell.
    pub tenant: Option<String>,
    /// Chunks, memories, and embeddings of memories.
    pub records: u64,
    /// Why.
    #[serde(flatten)]
    pub why: Why,
}

/// Why records cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// Their epoch's secret was destroyed. They are removed.
    EpochDestroyed {
        /// The epoch.
        epoch: Epoch,
        /// When: Unix time in milliseconds.
        destroyed_at_ms: u64,
    },
    /// Their tenant's keys were destroyed. They are removed.
    TenantShredded,
    /// The keystore has never had their epoch: it is older than they are. They stay, and their tenant with them.
    EpochUnknown {
        /// The epoch.
        epoch: Epoch,
    },
    /// The keystore has never had their tenant: it is older than they are. They stay.
    TenantUnknown,
}

impl Why {
    /// Whether another keystore could open them.
    pub fn is_unknown(self) -> bool {
        matches!(self, Why::EpochUnknown { .. } | Why::TenantUnknown)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = match self.records {
            1 => "1 record".to_owned(),
            n => format!("{n} records"),
        };
        let tenant = self.tenant.as_ref().map_or_else(|| "a tenant".into(), |tenant| format!("tenant `{tenant}`"));
        match self.why {
            Why::EpochDestroyed { epoch, destroyed_at_ms } => {
                let when = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(destroyed_at_ms));
                write!(f, "epoch {epoch} of {tenant} was destroyed on {when}: {records} can never be opened")
            }
            Why::TenantShredded => write!(f, "{tenant} was shredded: {records} can never be opened"),
            Why::EpochUnknown { epoch } => {
                write!(f, "the keystore does not know epoch {epoch} of {tenant}: {records} cannot be opened with it")
            }
            Why::TenantUnknown => write!(f, "the keystore does not know {tenant}: {records} cannot be opened with it"),
        }
    }
}

/// What a tenant has, by epoch.
struct Census {
    described: Vec<(CollectionId, Epoch)>,
    chunks: BTreeMap<CollectionId, BTreeMap<Epoch, u64>>,
    memories: BTreeMap<Epoch, u64>,
}

impl Census {
    fn of(kv: &dyn KvBackend, tag: &[u8; 16]) -> Result<Self> {
        let described = vectors::described(kv, tag)?;
        let chunks = described.iter().map(|(id, _)| Ok((*id, vectors::records_by_epoch(kv, *id)?)));
        Ok(Self { chunks: chunks.collect::<Result<_>>()?, memories: memory::records_by_epoch(kv, tag)?, described })
    }

    /// Records by epoch; those of a collection whose description is in a destroyed one are as lost as that.
    fn records(&self, destroyed: &BTreeSet<Epoch>) -> BTreeMap<Epoch, u64> {
        let mut records = self.memories.clone();
        for (id, described_in) in &self.described {
            *records.entry(*described_in).or_default() += 0;
            for (epoch, count) in self.chunks.get(id).into_iter().flatten() {
                let lost_with_it = destroyed.contains(described_in) && !destroyed.contains(epoch);
                *records.entry(if lost_with_it { *described_in } else { *epoch }).or_default() += count;
            }
        }
        records
    }
}

/// Who is in a data directory and can be opened, and what cannot.
#[derive(Default)]
pub(super) struct Sorted {
    /// Tenants that can be opened, and the epochs whose records must be [discarded](discard) from their collections.
    pub(super) readable: Vec<([u8; 16], TenantId, BTreeSet<Epoch>)>,
    /// What cannot be opened.
    pub(super) unreadable: Vec<Unreadable>,
}

/// Looks at every tenant with a name in `names`, and removes what the keys say never opens again.
pub(super) fn sort(engines: &Engines, keys: &StoreKeys, names: Vec<([u8; 16], TenantId)>) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    let kv = &*engines.kv;
    let mut strangers: BTreeSet<[u8; 16]> = vectors::all_described(kv)?.into_iter().map(|(tag, _)| tag).collect();
    strangers.extend(memory::tenants(kv)?);
    for (tag, id) in names {
        strangers.remove(&tag);
        let census = Census::of(kv, &tag)?;
        match keys.data.tenant(&id) {
            Ok(record) => sort_live(engines, &mut sorted, tag, id, &census, &record)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let records = census.records(&BTreeSet::new()).values().sum();
                // Who may not ask cannot tell, and removes nothing.
                let shredded = match keys.admin.is_shredded(&id) {
                    Err(e) if e.kind() == ErrorKind::Denied => false,
                    other => other?,
                };
                if shredded {
                    remove_tenant(kv, &engines.engine, &tag)?;
                }
                let why = if shredded { Why::TenantShredded } else { Why::TenantUnknown };
                let empty = census.described.is_empty() && census.memories.is_empty();
                let lost = Unreadable { tenant: Some(id.as_str().to_owned()), records, why };
                sorted.unreadable.extend((!empty).then_some(lost));
            }
            Err(e) => return Err(e),
        }
    }
    for tag in strangers {
        let records = Census::of(kv, &tag)?.records(&BTreeSet::new()).values().sum();
        sorted.unreadable.push(Unreadable { tenant: None, records, why: Why::TenantUnknown });
    }
    Ok(sorted)
}

fn sort_live(
    engines: &Engines,
    sorted: &mut Sorted,
    tag: [u8; 16],
    id: TenantId,
    census: &Census,
    record: &TenantRecord,
) -> Result<()> {
    let epochs: BTreeMap<Epoch, &EpochRecord> = record.epochs.iter().map(|epoch| (epoch.epoch, epoch)).collect();
    let destroyed = epochs.values().filter(|epoch| epoch.state == EpochState::Destroyed).map(|epoch| epoch.epoch);
    let destroyed: BTreeSet<Epoch> = destroyed.collect();
    let mut whole = true;
    for (epoch, records) in census.records(&destroyed) {
        let why = match epochs.get(&epoch) {
            None => Why::EpochUnknown { epoch },
            Some(gone) if gone.state == EpochState::Destroyed => {
                Why::EpochDestroyed { epoch, destroyed_at_ms: gone.since_ms }
            }
            Some(_) => continue,
        };
        whole &= !why.is_unknown();
        // Labels of namespaces outlive what was in them, and are no loss.
        let lost = records > 0 || why.is_unknown() || census.described.iter().any(|(_, sealed_in)| *sealed_in == epoch);
        let unreadable = Unreadable { tenant: Some(id.as_str().to_owned()), records, why };
        sorted.unreadable.extend(lost.then_some(unreadable));
    }
    if !whole {
        return Ok(());
    }
    for (collection, _) in census.described.iter().filter(|(_, epoch)| destroyed.contains(epoch)) {
        vectors::remove_collection(&*engines.kv, &engines.engine, &tag, *collection)?;
    }
    vectors::forget_lost_notes(&*engines.kv, &tag, &destroyed)?;
    for epoch in census.memories.keys().filter(|epoch| destroyed.contains(epoch)) {
        memory::remove_epoch(&*engines.kv, &tag, *epoch)?;
    }
    let of_chunks: BTreeSet<Epoch> = census.chunks.values().flat_map(BTreeMap::keys).copied().collect();
    sorted.readable.push((tag, id, &destroyed & &of_chunks));
    Ok(())
}

/// Removes the records of `epochs` from a collection that has its points.
pub(super) fn discard(collection: &Collection, epochs: &BTreeSet<Epoch>) -> Result<()> {
    if epochs.is_empty() { Ok(()) } else { collection.discard(epochs) }
}

/// Removes everything of a tenant whose keys are gone. Nothing of it may be open.
pub(super) fn remove_tenant(kv: &dyn KvBackend, engine: &Router, tag: &[u8; 16]) -> Result<()> {
    vectors::remove_tenant(kv, engine, tag)?;
    memory::remove_tenant(kv, tag)?;
    let mut batch = Batch::default();
    names::forget(&mut batch, tag);
    kv.write(batch)
}
