//! Guards against a backup that does not bring back what was acknowledged, brings back something else, is believed after
//! it was changed, or undoes the destruction of keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

#[path = "backup/drill.rs"]
mod drill;
#[path = "backup/hostile.rs"]
mod hostile;
#[path = "backup/incremental.rs"]
mod incremental;
#[path = "backup/keys.rs"]
mod keys;
#[path = "backup/kill.rs"]
mod kill;
#[path = "backup/lost.rs"]
mod lost;
#[path = "backup/rotation.rs"]
mod rotation;
#[path = "backup/served.rs"]
mod served;
