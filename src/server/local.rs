//! What a server in the keystore's own process answers from.

use std::sync::Arc;

use super::Backend;
use crate::audit::Arrival;
use crate::error::Result;
use crate::keys::kms::{Caller, Keys, LocalKms};

impl Backend for Arc<LocalKms> {
    fn keys(&self, caller: &Caller) -> Arc<dyn Keys> {
        Arc::new(self.caller(caller.clone()))
    }

    fn authorities(&self) -> Result<Vec<Vec<u8>>> {
        self.keystore().authorities()
    }

    fn peer_arrived(&self, arrival: &Arrival) -> Result<()> {
        LocalKms::peer_arrived(self, arrival)
    }
}
