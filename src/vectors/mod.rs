//! Chunks and their embeddings: sealed points in a vector engine, found by an index in trusted memory or by the engine.
//!
//! A write goes journal → disk → engine → resident index and is acknowledged then; the journal is trimmed once the
//! engine has its points on disk. `registry` knows what the engine must return.

mod catalog;
mod census;
mod chunk;
mod collection;
pub mod edge;
pub mod engine;
mod first_point;
mod handed;
mod journal;
mod metric;
mod pin;
mod point;
mod registry;
pub mod resident;
mod spec;
mod veil;
mod veiling;

pub use catalog::Catalog;
pub use chunk::{Chunk, Hit, SearchRequest, StoredChunk, Vectors};
pub use collection::{Collection, CollectionContext, CollectionReport, SealedChunk, SealedHit, Staged};
pub use handed::HandedOut;
pub use metric::Metric;
pub use pin::{JournalPins, Pinned};
pub use registry::Entry;
pub use resident::ResidentBudget;
pub use spec::{CollectionId, CollectionKind, CollectionSpec, Mode, VectorParams};
pub use veil::Veil;

pub(crate) use catalog::{finish_drops, remove_collection, remove_tenant};
pub(crate) use census::{all_described, described, head, records_by_epoch};
pub(crate) use first_point::FirstPoint;
pub(crate) use registry::{digest, expired};
