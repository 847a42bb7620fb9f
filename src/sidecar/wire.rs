//! The types of `schema/sidecar.proto`. What is opened is erased, and cannot be printed.

use std::fmt;

use zeroize::Zeroize as _;

#[allow(missing_docs, clippy::all, reason = "generated from the schema, which documents everything")]
mod generated {
    tonic::include_proto!("strongroom.sidecar.v1");
}

pub use generated::*;

impl Drop for OpenedRecord {
    fn drop(&mut self) {
        self.content.zeroize();
        self.metadata.zeroize();
    }
}

impl fmt::Debug for OpenedRecord {
    /// Says what it is, never what is inside.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenedRecord(..)")
    }
}
