//! What can be told of collections without a key: which there are, whose, and in which epochs they are sealed.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::kv::{KvBackend, Row, Table};
use crate::record;

use super::{CollectionId, journal, notes, registry};

/// Every collection of every tenant, by the tenant's tag.
pub(crate) fn all_described(kv: &dyn KvBackend) -> Result<Vec<([u8; 16], CollectionId)>> {
    let rows = kv.scan(Table::Catalog, b"").filter(is_description);
    rows.map(|row| split(&row?.0)).collect()
}

/// A tenant's collections, each with the epoch that its description is sealed in.
pub(crate) fn described(kv: &dyn KvBackend, tenant_tag: &[u8; 16]) -> Result<Vec<(CollectionId, Epoch)>> {
    let rows = kv.scan(Table::Catalog, tenant_tag).filter(is_description).map(|row| {
        let (key, sealed) = row?;
        Ok((split(&key)?.1, record::claimed_epoch(&sealed)?))
    });
    rows.collect()
}

/// How many records a collection has in each epoch.
pub(crate) fn records_by_epoch(kv: &dyn KvBackend, id: CollectionId) -> Result<BTreeMap<Epoch, u64>> {
    let mut epochs = BTreeMap::new();
    for row in kv.scan(Table::Registry, id.as_bytes()) {
        *epochs.entry(registry::claimed_epoch(&row?.1)?).or_default() += 1;
    }
    Ok(epochs)
}

/// The number of a collection's last write; 0 before the first.
pub(crate) fn head(kv: &dyn KvBackend, id: CollectionId) -> Result<u64> {
    journal::head(kv, id)
}

/// Whether a row of the catalog describes a collection.
fn is_description(row: &Result<Row>) -> bool {
    row.as_ref().map_or(true, |(key, _)| !notes::is_key(key))
}

fn split(key: &[u8]) -> Result<([u8; 16], CollectionId)> {
    let (tag, id) = key.split_first_chunk::<16>().ok_or_else(|| Error::integrity("the key of a description"))?;
    Ok((*tag, CollectionId::try_from(id)?))
}
