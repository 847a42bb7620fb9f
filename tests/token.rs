//! Guards against a capability token that opens anything for the wrong holder, twice, too late, or at the wrong place.

#[path = "token/checks.rs"]
mod checks;
#[path = "token/forge.rs"]
mod forge;
#[path = "token/ledger.rs"]
mod ledger;
#[path = "common/mem_kv.rs"]
mod mem_kv;
#[path = "token/path.rs"]
mod path;
#[path = "token/scene.rs"]
mod scene;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "kms/world.rs"]
mod world;
