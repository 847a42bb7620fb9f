//! Guards against something that is done without its event, an event that names what must stay blind, and an answer that is
//! given although its event could not be written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "audit_events/blind.rs"]
mod blind;
mod common;
#[path = "audit_events/every.rs"]
mod every;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "plaintext_hunt/prey.rs"]
mod prey;
#[path = "audit_events/refusing.rs"]
mod refusing;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "plaintext_hunt/secrets.rs"]
mod secrets;
#[path = "audit_events/world.rs"]
mod world;
