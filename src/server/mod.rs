//! Services on the wire: who may connect, how much of it, and until when; and the key service: gRPC for stores, sidecars
//! and agents, and the key directory over REST, on one socket.
//!
//! [`serve`] serves any routes until it is told to stop, [`run`] those of the key service over a [`Backend`];
//! [`RemoteKms`] is the other side. All only translate: what may be asked, and what comes of it, is decided behind
//! [`Keys`]. Who calls is known by the connection ([`Services`]) before a byte of a request is looked at.

mod authorities;
mod client;
pub(crate) mod connect;
mod connection;
mod convert;
mod convert_roots;
mod convert_signers;
mod counts;
mod directory;
pub(crate) mod error;
mod files;
mod gate;
mod grpc;
mod identity;
mod listen;
mod local;
pub mod qdrant;
mod services;
mod standing;
mod tls;
mod trust;
pub mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::audit::Arrival;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::kms::{Caller, Keys};
use crate::limits;
use files::Followed;
use gate::Gate;

pub(crate) use authorities::parse_name;
pub use client::{RemoteKms, RemoteOptions};
pub use counts::Counts;
pub use error::ERROR_METADATA;
pub use gate::{Known, Notice};
pub use identity::Identity;
pub(crate) use identity::parse_sha256;
pub use listen::{Address, Listener};
pub use services::Services;
pub use tls::Own;
pub use trust::ServerTrust;

/// What a server answers from.
pub trait Backend: Send + Sync + 'static {
    /// The keys as `caller` may use them.
    fn keys(&self, caller: &Caller) -> Arc<dyn Keys>;

    /// The certificates of the authorities that issue tenants' certificates, DER.
    fn authorities(&self) -> Result<Vec<Vec<u8>>>;

    /// Takes notice of a peer that connects over TLS, or that is refused.
    fn peer_arrived(&self, arrival: &Arrival) -> Result<()>;
}

/// What the caller of one request to the key service may use.
#[derive(Clone)]
struct Admitted {
    keys: Arc<dyn Keys>,
    backend: Arc<dyn Backend>,
    _known: Known,
}

/// Serves the key service over `backend`: see [`serve`].
pub async fn run(
    listener: Listener,
    backend: Arc<dyn Backend>,
    counts: Arc<Counts>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let notice = {
        let backend = backend.clone();
        Arc::new(move |arrival: &Arrival| backend.peer_arrived(arrival))
    };
    serve(listener, kms_routes(backend), notice, counts, shutdown).await
}

/// Serves `routes` to the peers of `listener` until `shutdown`, then finishes what was begun, for at most
/// [`limits::RPC_DRAIN_MS`]. What still runs after that is cut off when the runtime ends. Every request that gets to
/// them has the extension [`Known`].
pub async fn serve(
    listener: Listener,
    routes: axum::Router,
    notice: Notice,
    counts: Arc<Counts>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let unknown = Arc::new(Semaphore::new(limits::RPC_CONNECTIONS_PER_SERVICE));
    let gate = Arc::new(Gate { notice, counts, unknown });
    let (stop, stopped) = watch::channel(false);
    let (sender, connections) = mpsc::channel(1);
    let (socket, standing) = listener.into_parts();
    let followed = Followed::new(standing);
    let (standing, stands) = watch::channel(followed.made().clone());
    tokio::spawn(standing::keep_up(standing, followed));
    tokio::spawn(gate::accept(socket, gate.clone(), stands, sender, stopped.clone()));
    let routes = Routes::from(routes.layer(middleware::from_fn_with_state(gate, gate::gatekeeper)));
    let ms = Duration::from_millis;
    let serving = Server::builder()
        .accept_http1(true)
        .timeout(ms(limits::RPC_REQUEST_MS))
        .max_concurrent_streams(limits::RPC_STREAMS)
        .http2_max_header_list_size(limits::RPC_HEADER_BYTES)
        .max_connection_age(ms(limits::RPC_CONNECTION_MS))
        .http2_keepalive_interval(Some(ms(limits::RPC_PING_MS)))
        .http2_keepalive_timeout(Some(ms(limits::RPC_PING_ANSWER_MS)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), until(stopped));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        () = shutdown => None,
    };
    // Nobody hears it only when the server has ended by itself.
    let _ = stop.send(true);
    let ended = match ended {
        Some(ended) => ended,
        None => match tokio::time::timeout(ms(limits::RPC_DRAIN_MS), serving).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!("calls that were still running are cut off");
                Ok(())
            }
        },
    };
    ended.map_err(|e| Error::new(ErrorKind::Unavailable, "the server stopped listening").with_source(e))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the server is gone, which is an end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn kms_routes(backend: Arc<dyn Backend>) -> axum::Router {
    grpc::routes()
        .into_axum_router()
        .merge(directory::routes())
        .fallback(directory::nothing_here)
        .layer(middleware::from_fn_with_state(backend, hand_keys))
}

/// Gives a request the keys that its caller may use.
async fn hand_keys(State(backend): State<Arc<dyn Backend>>, mut request: Request, next: Next) -> Response {
    // Every request has come through the gate.
    if let Some(known) = request.extensions().get::<Known>().cloned() {
        let admitted = Admitted { keys: backend.keys(known.caller()), backend, _known: known };
        request.extensions_mut().insert(admitted);
    }
    next.run(request).await
}

/// Does what waits on a thread that may. The caller's place stays taken until it is done, even if nobody waits any
/// more.
async fn blocking<T: Send + 'static>(
    admitted: Admitted,
    work: impl FnOnce(&Admitted) -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(move || work(&admitted)).await;
    done.unwrap_or_else(|e| Err(Error::internal("the key service failed").with_source(e)))
}
