//! Strongroom: an encrypted vector and memory store for multi-tenant LLM platforms.
//!
//! [`Store`] is where to begin. [`manual`] says what is protected from whom, and why things are as they are.

// Tests may; the library must not.
#![warn(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

pub mod audit;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod disk;
pub mod entropy;
pub mod envelope;
mod error;
pub mod filter;
pub mod harden;
mod id;
pub mod keys;
pub mod kv;
pub mod limits;
pub mod locked;
pub mod manual;
pub mod memory;
pub mod pki;
pub mod record;
pub mod replay;
pub mod rotation;
mod scrub;
pub mod secret;
pub mod server;
pub mod sidecar;
pub mod store;
pub mod token;
pub mod vectors;

pub use config::Config;
pub use error::{Error, ErrorKind, Result};
pub use filter::Filter;
pub use id::{AgentId, Epoch, Name, Namespace, RecordId, SessionId, TenantId};
pub use keys::Passphrase;
pub use memory::{Memory, MemoryItem, MemoryOp, RecallRequest};
pub use rotation::{RotateOptions, RotationStatus};
pub use store::{Collection, Store, StoreOptions, Tenant};
pub use vectors::{
    Chunk, CollectionSpec, Engine, Fusion, Hit, Metric, Mode, Placement, Query, QueryRequest, Recommend, SearchRequest,
    SparseParams, SparseVector, StoredChunk, Vectors,
};

/// The README's example is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
