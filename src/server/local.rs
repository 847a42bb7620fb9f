//! What a server in the keystore's own process answers from.

use std::sync::Arc;

use super::{Backend, Keys};
use crate::audit::{AuditSink, Event, Outcome, Reason, What};
use crate::clock::Clock;
use crate::error::Result;
use crate::keys::Keystore;
use crate::keys::kms::{Caller, LocalKms};

/// The key service of this process, with its keystore and audit log.
pub struct Local {
    /// The service.
    pub kms: Arc<LocalKms>,
    /// Its keystore.
    pub keystore: Arc<Keystore>,
    /// Where refused peers are recorded.
    pub audit: Arc<dyn AuditSink>,
    /// The time of those records.
    pub clock: Arc<dyn Clock>,
}

impl Backend for Local {
    fn keys(&self, caller: &Caller) -> Arc<dyn Keys> {
        Arc::new(self.kms.caller(caller.clone()))
    }

    fn authorities(&self) -> Result<Vec<Vec<u8>>> {
        self.keystore.authorities()
    }

    fn peer_refused(&self, peer: &str) -> Result<()> {
        self.audit.record(&Event {
            at_ms: self.clock.now_ms(),
            service: peer.to_owned(),
            role: None,
            operation: None,
            tenant: None,
            what: What::Refused { reason: Reason::Peer },
            outcome: Outcome::Refused,
        })
    }
}
