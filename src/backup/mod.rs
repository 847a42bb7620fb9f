//! Backups of the data directory: a directory of sealed parts, each named by its hash, and a manifest per backup.
//!
//! Nothing here has a key or opens a record. [`Store::backup`](crate::Store::backup) makes a backup,
//! [`Store::restore`](crate::Store::restore) makes a data directory of one; [`Archive`] lists, verifies and prunes. The
//! layout stands in `schema/backup.md`, what it is good for in [`crate::manual::backup`].

mod archive;
mod bucket;
mod manifest;
mod writer;

pub use archive::{Archive, Listed, Verified};
pub use bucket::{cut, decode as decode_bucket, encode as encode_bucket};
pub use manifest::{Bucket, CopiedCollection, CopiedFile, Hash, Manifest, Part, Signed};
pub use writer::Writer;

/// How far a backup, a restore or a verification is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps that are done: collections, then the database.
    pub done: u64,
    /// All steps.
    pub of: u64,
    /// Bytes that were read so far.
    pub bytes: u64,
}
