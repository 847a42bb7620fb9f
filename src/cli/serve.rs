//! `serve`: the store in a process of its own, for orchestrators, sidecars, and whoever speaks to Qdrant.

use std::sync::Arc;

use tokio::sync::watch;

use super::Global;
use super::output::Output;
use super::serving::{ServeArgs, told_to_stop};
use crate::audit::Arrival;
use crate::clock::{Clock as _, SystemClock};
use crate::error::Result;
use crate::server::qdrant::{self, Socket, Sockets, WireProtection};
use crate::server::{self, Listener, Services};
use crate::store::{StoreOptions, service};

pub(super) async fn run(global: &Global, args: ServeArgs, output: &Output) -> Result<()> {
    let options = global.options_with(&args.settings("store")?)?;
    let services = Arc::new(services(&options, output)?);
    let address = options.store_address()?;
    let own = options.certificate_at(&address)?;
    let keys = options.api_keys();
    let sockets = sockets(&options).await?;
    let store = global.open_with(options).await?;
    let told = told_to_stop()?;
    let listener = Listener::bind(&address, own, services).await?;
    output.remark(&format!("listening on {}", listener.address()));
    for (kind, socket) in [("REST", &sockets.rest), ("gRPC", &sockets.grpc)] {
        if let Some(socket) = socket {
            output.remark(&format!("Qdrant's {kind} on {}", socket.address()));
        }
    }
    let audit = store.audit();
    let notice = Arc::new(move |arrival: &Arrival| audit.record(&arrival.event(SystemClock.now_ms())));
    let routes = service::routes(store.clone()).await;
    // Everything ends when the first does, whatever ends that.
    let (stop, stopped) = watch::channel(false);
    let serving = async {
        let served = server::serve(listener, routes, notice, store.connections(), ended(stopped.clone())).await;
        stop.send_replace(true);
        served
    };
    let compatible = async {
        let served = qdrant::serve(sockets, store.clone(), &keys, stopped.clone()).await;
        if served.is_err() {
            stop.send_replace(true);
        }
        served
    };
    let telling = async {
        tokio::select! {
            () = told => {}
            () = ended(stopped.clone()) => {}
        }
        stop.send_replace(true);
    };
    let rotating = store.keep_rotating(ended(stopped.clone()));
    let (served, compatible, rotated, ()) = tokio::join!(serving, compatible, rotating, telling);
    let closed = store.close().await;
    served.and(compatible).and(rotated).and(closed)?;
    output.remark("stopped");
    Ok(())
}

/// The services that may call the native API. Where only the Qdrant-compatible endpoint is used, nobody needs any.
fn services(options: &StoreOptions, output: &Output) -> Result<Services> {
    let (path, settings) = (options.store_services(), options.settings());
    let endpoint = !(settings.qdrant_rest_listen.is_empty() && settings.qdrant_grpc_listen.is_empty());
    if endpoint && !path.try_exists()? {
        output.remark(&format!("only holders of API keys are let in: there is no `{}` with services", path.display()));
        return Ok(Services::none());
    }
    Services::load(&path)
}

/// The sockets for whoever speaks to Qdrant, as the settings say.
async fn sockets(options: &StoreOptions) -> Result<Sockets> {
    let settings = options.settings();
    let bind = async |place: &str| {
        if place.is_empty() {
            return Ok(None);
        }
        let own = if settings.qdrant_tls == WireProtection::None { None } else { options.kms_certificate()? };
        Socket::bind(place, settings.qdrant_tls, own).await.map(Some)
    };
    Ok(Sockets { rest: bind(&settings.qdrant_rest_listen).await?, grpc: bind(&settings.qdrant_grpc_listen).await? })
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that nobody is there any more to say so.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
