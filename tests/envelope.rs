//! Guards against an envelope that is opened though something about it is wrong, opened twice, or refused in words that
//! say why.

#[path = "envelope/agents.rs"]
mod agents;
#[path = "envelope/fields.rs"]
mod fields;
#[path = "envelope/forge.rs"]
mod forge;
#[path = "envelope/layers.rs"]
mod layers;
#[path = "envelope/peers.rs"]
mod peers;
#[path = "envelope/replay.rs"]
mod replay;
#[path = "envelope/sessions.rs"]
mod sessions;
#[path = "envelope/show.rs"]
mod show;
#[path = "kms/world.rs"]
#[expect(dead_code, reason = "the tests of the key service use the rest")]
mod world;
