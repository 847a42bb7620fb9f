//! Guards against a key service that answers a peer it should not, or answers otherwise than the keystore behind it.

#[path = "kms_service/calls.rs"]
mod calls;
#[path = "kms_service/directory.rs"]
mod directory;
#[path = "kms_service/lifetime.rs"]
mod lifetime;
#[path = "kms_service/peers.rs"]
mod peers;
#[path = "kms_service/server.rs"]
mod server;
#[allow(dead_code, reason = "shared with the tests of the service without a wire")]
#[path = "kms/world.rs"]
mod world;
