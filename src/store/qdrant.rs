//! The Qdrant server of a store, if one is named.

use std::sync::Arc;

use super::StoreOptions;
use crate::error::{ErrorKind, Result};
use crate::kv::KvBackend;
use crate::vectors::Router;
use crate::vectors::server::{Server, ServerOptions};

/// Puts the server that `options` name beside the engine in this process. One that is away is looked for when it is used;
/// one that is too old is refused.
pub(super) fn beside(engine: Router, options: &StoreOptions, kv: &dyn KvBackend) -> Result<Router> {
    let Some(options) = options.qdrant()? else { return Ok(engine) };
    let options = ServerOptions { instance: crate::vectors::instance(kv)?, ..options };
    let at = options.url.to_string();
    let server = Server::new(options)?;
    match server.check() {
        Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Denied) => {
            tracing::warn!(error = %e, "Qdrant cannot be used at the moment");
        }
        Err(e) => return Err(e),
        Ok(()) => tracing::info!(at, "Qdrant is there"),
    }
    Ok(engine.with_server(server))
}

/// Removes what dropped collections have left in a server that was away.
pub(super) fn finish_drops(kv: Arc<dyn KvBackend>, engine: Router) -> impl Fn() + Send + 'static {
    move || {
        if let Err(e) = crate::vectors::finish_drops(&*kv, &engine) {
            tracing::warn!(error = %e, "what dropped collections left could not be removed and will be tried again");
        }
    }
}
