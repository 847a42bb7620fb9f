//! Guards against an attack that nobody hears of, an ordinary day that wakes somebody up, and a breaker that lets through
//! or forgets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "alerts/breaker.rs"]
mod breaker;
mod common;
#[path = "common/mem_kv.rs"]
mod mem_kv;
#[path = "alerts/rules.rs"]
mod rules;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "sidecar/scene.rs"]
mod scene;
#[path = "alerts/watch.rs"]
mod watch;
#[path = "alerts/webhook.rs"]
mod webhook;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "kms/world.rs"]
mod world;
