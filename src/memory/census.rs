//! What can be told of memories without a key: whose there are, and in which epochs they are sealed.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::kv::{Batch, KvBackend, Table, prefix_end};

use super::address::TAG_LEN;

/// Bytes of an epoch in a key, after the tenant's tag.
const EPOCH_LEN: usize = 4;

/// How many memories a tenant has in each epoch; 0 where there are only earlier versions or labels.
pub(crate) fn records_by_epoch(kv: &dyn KvBackend, tenant_tag: &[u8; TAG_LEN]) -> Result<BTreeMap<Epoch, u64>> {
    let mut epochs = BTreeMap::new();
    for key in heads(kv, tenant_tag, TAG_LEN + EPOCH_LEN)? {
        let epoch = key.last_chunk::<EPOCH_LEN>().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default();
        epochs.insert(Epoch::try_from(epoch).map_err(|_| Error::integrity("the key of a memory"))?, 0);
    }
    for (epoch, records) in &mut epochs {
        for row in kv.scan(Table::Registry, &of_epoch(tenant_tag, *epoch)) {
            row?;
            *records += 1;
        }
    }
    Ok(epochs)
}

/// The tags of all tenants that have memories.
pub(crate) fn tenants(kv: &dyn KvBackend) -> Result<BTreeSet<[u8; TAG_LEN]>> {
    Ok(heads(kv, b"", TAG_LEN)?.into_iter().filter_map(|head| head.try_into().ok()).collect())
}

/// Removes what a tenant has in an epoch whose keys are gone.
pub(crate) fn remove_epoch(kv: &dyn KvBackend, tenant_tag: &[u8; TAG_LEN], epoch: Epoch) -> Result<()> {
    let mut batch = Batch::default();
    batch.frees_space();
    for table in [Table::Memory, Table::Registry] {
        batch.delete_prefix(table, &of_epoch(tenant_tag, epoch));
    }
    kv.write(batch)
}

/// What the keys below `prefix` begin with, each once, with one look at the table for each.
fn heads(kv: &dyn KvBackend, prefix: &[u8], length: usize) -> Result<Vec<Vec<u8>>> {
    let mut heads = Vec::new();
    let mut from = prefix.to_vec();
    while let Some(row) = kv.scan_from(Table::Memory, prefix, from).next() {
        let (key, _) = row?;
        let head = key.get(..length).ok_or_else(|| Error::integrity("the key of a memory"))?.to_vec();
        let next = prefix_end(&head);
        heads.push(head);
        let Some(next) = next else { break };
        from = next;
    }
    Ok(heads)
}

fn of_epoch(tenant_tag: &[u8; TAG_LEN], epoch: Epoch) -> Vec<u8> {
    [&tenant_tag[..], &epoch.as_u32().to_be_bytes()].concat()
}
