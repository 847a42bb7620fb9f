//! The store on the wire: sealed searches, context windows, and sealed records for sidecars, nothing in clear; and
//! rotations, backups and verifications, for those who answer for it.

mod admin;
mod backup;
mod client;
mod convert;
mod grpc;
mod runs;
mod verify;

pub(crate) use admin::is_due;
pub use backup::BackupState;
pub use client::{RemoteHandoff, RemoteStore};
pub use convert::RotationState;
pub use grpc::routes;
pub use verify::VerifyState;

/// The types of `schema/store.proto`.
pub mod wire {
    #[allow(missing_docs, clippy::all, reason = "generated from the schema, which documents everything")]
    mod generated {
        tonic::include_proto!("strongroom.store.v1");
    }

    pub use generated::*;

    impl Drop for SealContextRequest {
        fn drop(&mut self) {
            zeroize::Zeroize::zeroize(&mut self.context);
        }
    }

    impl Drop for SearchSealedRequest {
        fn drop(&mut self) {
            zeroize::Zeroize::zeroize(&mut self.vector);
            zeroize::Zeroize::zeroize(&mut self.filter);
        }
    }

    impl std::fmt::Debug for SealContextRequest {
        /// Says what it is, never what is inside.
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("SealContextRequest(..)")
        }
    }

    impl std::fmt::Debug for SearchSealedRequest {
        /// Says what it is, never what is inside.
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("SearchSealedRequest(..)")
        }
    }
}
