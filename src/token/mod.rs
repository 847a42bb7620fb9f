//! Capability tokens: what a store mints for a named holder, and what has to be proven before a sidecar opens anything.
//!
//! ```text
//! Unverified ──verify──→ VerifiedToken ──Contact::check──→ Authorized ──Ledger::spend──→ Spent ──open──→ Opened
//!               signature                holder's proof                 revocation, uses          digest, AEAD
//!               time, audience           records, freshness             on disk
//! ```
//! Each step consumes what only the step before can make, so that none can be left out. Every reason to stop is a
//! [`Refusal`]; outside, all of them are one and the same error. The formats stand in `schema/token.md`.

mod bundle;
mod claims;
mod contact;
mod holder;
mod ids;
mod inspect;
mod ledger;
mod mint;
mod record;
mod records;
mod refusal;
mod verify;

pub use bundle::{Base64, Bundle, BundledRecord};
pub use claims::{Claims, Operation};
pub use contact::{Ask, Asked, Authorized, Contact, Form, Proof, Welcome};
pub use holder::{Hello, Holder, HolderContact};
pub use ids::{Audience, Digest, HolderId, TokenId};
pub use inspect::TokenView;
pub use ledger::{Ledger, Revocation, Spent};
pub use mint::{MintRequest, Token, mint};
pub use record::{
    ChunkPlace, HandoffRecord, Opened, OpenedPlace, RecordKind, of_chunk, open, open_place, seal_context,
};
pub use records::{Membership, Records};
pub use refusal::{Refusal, Stop};
pub use verify::{Unverified, VerifiedToken, VerifiedTokens};
