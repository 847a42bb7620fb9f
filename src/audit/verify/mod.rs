//! The verifier: works on an export alone, with the log's public key, and says which attack it sees.
//!
//! It shares no code with the log: hashes, proofs, paths and notes are written here once more, in another way, so that a
//! mistake there is no mistake here. Everything that it reads is hostile.

mod compact;
mod directory;
mod finding;
mod hash;
mod note;
mod proofs;
mod view;

pub use directory::{Report, directory};
pub use finding::{Attack, Failure, Finding};
pub use note::{PublicKey, Signed};
pub use proofs::{consistency, inclusion};
pub use view::{ViewReport, view};
