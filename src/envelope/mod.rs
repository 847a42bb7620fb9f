//! Envelopes: what one agent sends another, sealed to the other's session and signed, and the interceptor that makes and
//! opens them.
//!
//! ```text
//! receiver: invite ──invitation──→ sender: connect, send ──envelopes──→ receiver: receive
//! ```
//!
//! `schema/envelope.md` draws the bytes, [`crate::manual::envelopes`] says who can rely on what. No code of an agent
//! touches a key: [`Interceptor`] has the key service encapsulate, decapsulate and certify, and [`layer`] puts it before
//! a service of tower.

mod check;
mod codec;
mod header;
mod inbox;
mod interceptor;
mod invitation;
pub mod layer;
mod peer;
mod received;
mod refusal;
mod view;

pub use header::{ENVELOPE_VERSION, Kind};
pub use interceptor::{Interceptor, InterceptorOptions};
pub use invitation::Invitation;
pub use peer::{Message, Peer};
pub use received::{Origin, Received};
pub use refusal::Refusal;
pub use view::EnvelopeView;
