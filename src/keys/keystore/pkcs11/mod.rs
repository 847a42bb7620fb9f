//! Private keys in a PKCS#11 token: [`Pkcs11Custody`] works with them inside a token of version 3.2, [`WrappedCustody`]
//! lets an older one guard their seeds.
//!
//! Mechanisms and attributes are those of PKCS#11 3.2 (OASIS). The token is shared by every thread through a few
//! sessions that stay open; one that was away and came back is logged in to again, once, without being asked.

mod errors;
mod hkdf;
mod lease;
mod module;
mod objects;
mod pairs;
mod session;
mod signer;
mod token;
mod wrapped;
mod wrapping;

use std::path::PathBuf;

pub use token::Pkcs11Custody;
pub use wrapped::WrappedCustody;

/// Which token. The PIN comes apart from this, as a [`Passphrase`](crate::keys::Passphrase).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// The library of the token's vendor, as in `/usr/lib/softhsm/libsofthsm2.so`. Loading it runs its code in this
    /// process.
    pub module: PathBuf,
    /// The token's label. Not a slot number: those change when tokens come and go.
    pub label: String,
}
