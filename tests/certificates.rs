//! Guards against a key being believed to belong to somebody it does not belong to.

#[path = "certificates/chains.rs"]
mod chains;
#[path = "certificates/codec.rs"]
mod codec;
#[path = "certificates/forge.rs"]
mod forge;
#[path = "certificates/forged.rs"]
mod forged;
#[path = "certificates/independent.rs"]
mod independent;
#[path = "certificates/show.rs"]
mod show;
#[path = "certificates/world.rs"]
mod world;
