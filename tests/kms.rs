//! Guards against a key service that works for the wrong tenant, reveals a session's key twice, or stays silent.

#[path = "common/audit.rs"]
mod audit_log;

#[path = "kms/administration.rs"]
mod administration;
#[path = "kms/credentials.rs"]
mod credentials;
#[path = "kms/isolation.rs"]
mod isolation;
#[path = "kms/pool.rs"]
mod pool;
#[path = "kms/roots.rs"]
mod roots;
#[path = "kms/sessions.rs"]
mod sessions;
#[path = "kms/signers.rs"]
mod signers;
#[path = "kms/world.rs"]
mod world;
