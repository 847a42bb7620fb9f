//! The key hierarchy: tenant root key → epoch secret → data encryption keys, and the keystores that hold its root.
//!
//! Labels and encodings stand in `schema/keys.md`, the states of an epoch in [`crate::manual::lifecycle`].

pub mod certificate;
mod epoch;
mod keyring;
pub mod keystore;
pub mod kms;
pub(crate) mod label;
mod passphrase;
pub mod policy;
pub mod profile;
mod root;
mod signer;
mod tenant;

pub use epoch::{EpochRecord, EpochState, Fingerprint};
pub use keyring::{Keyring, Live, Writing};
pub use keystore::{DataKeys, EpochKeys, EpochSecret, Keystore};
pub use label::Label;
pub use passphrase::Passphrase;
pub use profile::Profile;
pub use root::{RootKeyRecord, RootKeyState};
pub(crate) use signer::Believed;
pub use signer::{Signer, Signers, VerifiedSigner, VerifiedSigners, signer_algorithm, signer_proof};
pub use tenant::TenantRecord;
