//! The Qdrant-compatible endpoint: REST and gRPC as Qdrant's clients speak them, over the store of one process.
//!
//! [`serve`] listens for both. Who calls shows an API key ([`apikey`]), which says for which tenant; everything else is
//! decided in one service layer, from and to which both interfaces only translate. What is not offered says so.

pub mod apikey;
mod failure;
mod gate;
mod grpc;
mod listen;
mod metrics;
mod model;
mod rest;
mod service;
mod unoffered;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Result;
use crate::scrub::blocking;
use crate::server::files::Followed;
use crate::store::Store;
use apikey::ApiKeys;
use gate::{Api, Door, Gate};
use metrics::Metrics;
use service::Service;

pub use listen::{Socket, WireProtection};

/// What the endpoint calls itself: clients only look at the version.
const TITLE: &str = "strongroom - a Qdrant-compatible encrypted vector store";
/// The version of Qdrant whose interface this is: clients compare it with their own.
const VERSION: &str = "1.20.0";

/// The sockets of an endpoint: one of them at least.
pub struct Sockets {
    /// For REST.
    pub rest: Option<Socket>,
    /// For gRPC.
    pub grpc: Option<Socket>,
}

/// Serves `store` to whoever has a key of the file `keys`, until `stop` says so. The audit log knows of every key before it
/// is good.
pub async fn serve(sockets: Sockets, store: Store, keys: &Path, stop: watch::Receiver<bool>) -> Result<()> {
    if sockets.rest.is_none() && sockets.grpc.is_none() {
        // No key is good for anything.
        return Ok(());
    }
    let (service, keys) = (Arc::new(Service::new(store)), keys.to_owned());
    let own = service.clone();
    let (followed, noted) = blocking(move || {
        let (keys, mut noted) = (ApiKeys::load(&keys)?, own.noted_keys());
        own.note_keys(&mut noted, &keys)?;
        Ok((Followed::new(keys), noted))
    })
    .await?;
    let (sender, known) = watch::channel(followed.made().clone());
    tokio::spawn(gate::keep_up(sender, followed, noted, service.clone()));
    let metrics = Arc::new(Metrics::new());
    let gate = Arc::new(Gate::new(service, metrics.clone(), known));
    let door = |api| Door { gate: gate.clone(), api };
    let rest = async {
        match sockets.rest {
            Some(socket) => socket.serve(rest::routes(door(Api::Rest)), metrics.clone(), told(stop.clone())).await,
            None => Ok(()),
        }
    };
    let grpc = async {
        match sockets.grpc {
            Some(socket) => socket.serve(grpc::routes(door(Api::Grpc)), metrics.clone(), told(stop.clone())).await,
            None => Ok(()),
        }
    };
    let (rest, grpc) = tokio::join!(rest, grpc);
    rest.and(grpc)
}

async fn told(mut stop: watch::Receiver<bool>) {
    // An error means that nobody is there any more to say so.
    let _ = stop.wait_for(|stop| *stop).await;
}
