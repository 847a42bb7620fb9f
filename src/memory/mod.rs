//! Agent memory: values under hierarchical namespaces, with expiry, history and recall by meaning.
//!
//! On disk a memory is a sealed value under a key of blinded tags, one per level of its namespace, so that a namespace
//! can be listed and removed by prefix without its name being there. The layout stands in `schema/record.md`.

mod address;
mod backend;
mod item;
mod memories;
pub mod rocks;
mod sealer;

pub use backend::{Batch, Change, MemoryBackend, Row, Table};
pub use item::{Memory, MemoryItem, MemoryOp, MemoryVersion, RecallRequest, Recalled};
pub use memories::{Memories, MemoryContext, MemoryReport};
