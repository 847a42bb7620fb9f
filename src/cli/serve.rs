//! `serve`: the store in a process of its own, for orchestrators and sidecars.

use std::sync::Arc;

use super::Global;
use super::output::Output;
use super::serving::{ServeArgs, told_to_stop};
use crate::error::Result;
use crate::server::{self, Counts, Listener, Services};
use crate::store::service;

pub(super) async fn run(global: &Global, args: ServeArgs, output: &Output) -> Result<()> {
    let options = global.options_with(&args.settings("store")?)?;
    let services = Arc::new(Services::load(&options.store_services())?);
    let address = options.store_address()?;
    let own = options.certificate_at(&address)?;
    let store = global.open_with(options).await?;
    let stop = told_to_stop()?;
    let listener = Listener::bind(&address, own, services).await?;
    output.remark(&format!("listening on {}", listener.address()));
    let notice = Arc::new(|peer: &str| {
        tracing::warn!(peer, "a peer was refused");
        Ok(())
    });
    let routes = service::routes(store.clone()).await;
    let served = server::serve(listener, routes, notice, Arc::new(Counts::default()), stop).await;
    let closed = store.close().await;
    served.and(closed)?;
    output.remark("stopped");
    Ok(())
}
