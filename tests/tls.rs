//! Guards against a peer that gets in over a connection that a quantum computer could read, with a certificate that
//! proves nothing, or on rights that were taken from it.

#[path = "tls/bounds.rs"]
mod bounds;
#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/client.rs"]
mod client;
#[path = "tls/groups.rs"]
mod groups;
#[path = "tls/reload.rs"]
mod reload;
#[path = "tls/scene.rs"]
mod scene;
