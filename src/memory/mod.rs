//! Agent memory: values under hierarchical namespaces, with expiry, history and recall by meaning.
//!
//! On disk a memory is a sealed value under a key of blinded tags, one per level of its namespace, so that a namespace
//! can be listed and removed by prefix without its name being there. The layout stands in `schema/record.md`.

mod address;
mod census;
mod item;
mod ledger;
mod memories;
mod sealer;

pub use item::{Memory, MemoryItem, MemoryOp, MemoryVersion, RecallRequest, Recalled};
pub use ledger::Ledger;
pub use memories::{Memories, MemoryContext, MemoryReport};

pub(crate) use census::{records_by_epoch, remove_epoch, tenants};

use crate::error::Result;
use crate::kv::{Batch, KvBackend, Table};

/// Removes every memory of a tenant whose keys are gone, and what was counted of its keys.
pub(crate) fn remove_tenant(kv: &dyn KvBackend, tenant_tag: &[u8; 16]) -> Result<()> {
    let mut batch = Batch::default();
    batch.frees_space();
    batch.delete_prefix(Table::Memory, tenant_tag);
    batch.delete_prefix(Table::Registry, tenant_tag);
    batch.delete(Table::Rotation, tenant_tag.to_vec());
    Ledger::remove(&mut batch, tenant_tag);
    kv.write(batch)?;
    kv.sync()
}
