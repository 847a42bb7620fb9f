//! Guards against an audit log that can be changed without anybody noticing, and against one that loses what it has
//! acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

mod common;

#[path = "audit/attacks.rs"]
mod attacks;
#[path = "audit/cli.rs"]
mod cli;
#[path = "audit/full.rs"]
mod full;
#[path = "audit/kill.rs"]
mod kill;
#[path = "audit/log.rs"]
mod log;
#[path = "audit/naive.rs"]
mod naive;
#[path = "audit/proofs.rs"]
mod proofs;
#[path = "audit/prune.rs"]
mod prune;
#[path = "audit/scene.rs"]
mod scene;
#[path = "audit/witness.rs"]
mod witness;
