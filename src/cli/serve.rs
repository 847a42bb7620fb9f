//! `serve`: the store in a process of its own, for orchestrators and sidecars.

use std::sync::Arc;

use super::Global;
use super::output::Output;
use super::serving::{ServeArgs, told_to_stop};
use crate::audit::Arrival;
use crate::clock::{Clock as _, SystemClock};
use crate::error::Result;
use crate::server::{self, Listener, Services};
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
    let audit = store.audit();
    let notice = Arc::new(move |arrival: &Arrival| audit.record(&arrival.event(SystemClock.now_ms())));
    let routes = service::routes(store.clone()).await;
    // Rotations end with the service, whatever ends that.
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let end = async { _ = end.await };
    let serving = async {
        let served = server::serve(listener, routes, notice, store.connections(), stop).await;
        drop(ended);
        served
    };
    let (served, rotated) = tokio::join!(serving, store.keep_rotating(end));
    let closed = store.close().await;
    served.and(rotated).and(closed)?;
    output.remark("stopped");
    Ok(())
}
