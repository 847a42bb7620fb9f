//! Chunks and their embeddings: sealed points in a vector engine, found by an index in trusted memory or by the engine.
//!
//! A write goes journal → disk → engine → resident index and is acknowledged then; the journal is trimmed once the
//! engine has its points on disk. `registry` knows what the engine must return.

pub mod blind;
mod catalog;
mod census;
mod chunk;
mod collection;
pub mod edge;
pub mod engine;
mod first_point;
mod fusion;
mod handed;
pub mod inverted;
mod journal;
mod metric;
mod notes;
mod payload;
mod pin;
mod point;
mod query;
mod registry;
pub mod resident;
mod router;
mod seat;
pub mod server;
mod shaping;
pub mod slots;
mod sparse;
mod spec;
mod vector_plain;
mod veil;
mod veiling;

pub use catalog::Catalog;
pub(crate) use chunk::json_bytes;
pub use chunk::{Chunk, Hit, SearchRequest, StoredChunk, Vectors};
pub use collection::{Collection, CollectionContext, CollectionReport, Migration, SealedChunk, SealedHit, Staged};
pub use fusion::{Fusion, RRF_K};
pub use handed::HandedOut;
pub use inverted::Language;
pub use metric::Metric;
pub use notes::{CollectionNotes, Notes};
pub use pin::{JournalPins, Pinned};
pub use query::{IdFilter, Query, QueryRequest, Recommend, RecommendStrategy, VectorInput};
pub use registry::Entry;
pub use resident::ResidentBudget;
pub use router::Router;
pub use sparse::{Modifier, SparseParams, SparseVector};
pub use spec::{CollectionId, CollectionKind, CollectionSpec, Engine, Mode, Placement, VectorParams};
pub use veil::Veil;

pub(crate) use catalog::{finish_drops, remove_collection, remove_tenant};
pub(crate) use census::{all_described, described, head, records_by_epoch};
pub(crate) use first_point::FirstPoint;
pub(crate) use notes::forget_lost_notes;
pub(crate) use registry::{digest, expired};
pub(crate) use router::{clear_leavings, forget_places, instance};
