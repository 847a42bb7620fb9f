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
    Ledger::remove(&mut batch, tenant_tag);
    kv.write(batch)?;
    kv.sync()
}

/// Whether a tenant has memories, or a history of some. Labels of namespaces outlive what was in them.
pub(crate) fn has_memories(kv: &dyn KvBackend, tenant_tag: &[u8; 16]) -> Result<bool> {
    for row in kv.scan(Table::Memory, tenant_tag) {
        if !address::is_label(&row?.0) {
            return Ok(true);
        }
    }
    Ok(false)
}
