//! The durable count of what AES-GCM keys have sealed, beside the data they sealed.

use std::sync::Arc;

use parking_lot::Mutex;

use super::address::TAG_LEN;
use crate::error::{Error, Result};
use crate::kv::{Batch, KvBackend, Table};
use crate::record::SealLedger;

const PREFIX: &[u8] = b"seals/";

/// The counts of one tenant's keys.
pub struct Ledger {
    kv: Arc<dyn KvBackend>,
    tenant_tag: [u8; TAG_LEN],
    /// Held from reading a count until its sum is durable.
    counting: Mutex<()>,
}

impl Ledger {
    /// The counts of the tenant with `tenant_tag`.
    pub fn new(kv: Arc<dyn KvBackend>, tenant_tag: [u8; TAG_LEN]) -> Self {
        Self { kv, tenant_tag, counting: Mutex::new(()) }
    }

    /// Adds the removal of the counts of a tenant to `batch`.
    pub(super) fn remove(batch: &mut Batch, tenant_tag: &[u8; TAG_LEN]) {
        batch.delete_prefix(Table::Meta, &[PREFIX, tenant_tag].concat());
    }
}

impl SealLedger for Ledger {
    fn reserve(&self, key: &[u8; 16], count: u64) -> Result<u64> {
        let row = [PREFIX, &self.tenant_tag, key].concat();
        let _counting = self.counting.lock();
        let before = match self.kv.get(Table::Meta, &row)? {
            Some(bytes) => {
                u64::from_be_bytes(bytes.try_into().map_err(|_| Error::integrity("the count of a key's seals"))?)
            }
            None => 0,
        };
        let sum = before.saturating_add(count);
        let mut batch = Batch::default();
        batch.put(Table::Meta, row, sum.to_be_bytes());
        self.kv.write(batch)?;
        self.kv.sync()?;
        Ok(sum)
    }
}
