//! Guards against a sidecar that opens what nobody may have, twice or unrecorded, says too much when it refuses, or breaks
//! under load.

#[path = "sidecar/dependencies.rs"]
mod dependencies;
#[path = "sidecar/load.rs"]
mod load;
#[path = "common/mem_kv.rs"]
mod mem_kv;
#[path = "sidecar/redeems.rs"]
mod redeems;
#[path = "sidecar/scene.rs"]
mod scene;
#[path = "sidecar/serving.rs"]
mod serving;
#[path = "sidecar/transport.rs"]
mod transport;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "kms/world.rs"]
mod world;
