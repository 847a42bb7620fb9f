//! Guards against wrong data: whatever an engine or a disk alters, swaps, replays or drops is refused as such, and never
//! returned as if it had been written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "tampering/chunks.rs"]
mod chunks;
mod common;
#[path = "tampering/keystore.rs"]
mod keystore;
#[path = "tampering/memories.rs"]
mod memories;
#[path = "tampering/vault.rs"]
mod vault;
#[path = "tampering/world.rs"]
mod world;
