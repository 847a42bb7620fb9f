//! Guards against an action in the log that its agent never took, one that is lost unnoticed, and an agent that waits for
//! the log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "actions/queue.rs"]
mod queue;
#[path = "actions/take.rs"]
mod take;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "kms/world.rs"]
mod world;
