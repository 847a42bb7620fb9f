//! What Strongroom protects from whom, why its defaults are what they are, which algorithms there are to choose from, the
//! states that things go through, and how private keys are kept in a token.

#[doc = include_str!("threat_model.md")]
pub mod threat_model {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("lifecycle.md")]
pub mod lifecycle {}

#[doc = include_str!("profiles.md")]
pub mod profiles {}

#[doc = include_str!("kms.md")]
pub mod kms {}

#[doc = include_str!("hsm.md")]
pub mod hsm {}

#[doc = include_str!("keyword_search.md")]
pub mod keyword_search {}

#[doc = include_str!("kms_service.md")]
pub mod kms_service {}

#[doc = include_str!("tls.md")]
pub mod tls {}

#[doc = include_str!("qdrant_endpoint.md")]
pub mod qdrant_endpoint {}

#[doc = include_str!("handoff.md")]
pub mod handoff {}

#[doc = include_str!("envelopes.md")]
pub mod envelopes {}

#[doc = include_str!("sidecar.md")]
pub mod sidecar {}

#[doc = include_str!("rotation.md")]
pub mod rotation {}

#[doc = include_str!("audit.md")]
pub mod audit {}

#[doc = include_str!("backup.md")]
pub mod backup {}

#[doc = include_str!("audit_events.md")]
pub mod audit_events {}

#[doc = include_str!("alerts.md")]
pub mod alerts {}

#[doc = include_str!("qdrant_server.md")]
pub mod qdrant_server {}

#[doc = include_str!("search.md")]
pub mod search {}
