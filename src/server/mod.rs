//! Services on the wire: who may connect, how much of it, and until when; and the key service: gRPC for stores, sidecars
//! and agents, and the key directory over REST, on one socket.
//!
//! [`serve`] serves any routes until it is told to stop, [`run`] those of the key service over a [`Backend`];
//! [`RemoteKms`] is the other side. All only translate: what may be asked, and what comes of it, is decided behind
//! [`Keys`]. Who calls is known by the connection ([`Services`]) before a byte of a request is looked at.

mod client;
pub(crate) mod connect;
mod convert;
mod convert_signers;
mod directory;
pub(crate) mod error;
mod grpc;
mod identity;
mod listen;
mod local;
mod tls;
pub mod wire;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::kms::{Caller, Keys};
use crate::limits;
use listen::{Connection, Peer, Raw};

pub use client::{RemoteKms, RemoteOptions};
pub use error::ERROR_METADATA;
pub(crate) use identity::parse_sha256;
pub use identity::{Identity, Services};
pub use listen::{Address, Listener};
pub use tls::Own;

/// What a server answers from.
pub trait Backend: Send + Sync + 'static {
    /// The keys as `caller` may use them.
    fn keys(&self, caller: &Caller) -> Arc<dyn Keys>;

    /// The certificates of the authorities that issue tenants' certificates, DER.
    fn authorities(&self) -> Result<Vec<Vec<u8>>>;

    /// Takes notice of a peer that nobody knows.
    fn peer_refused(&self, peer: &str) -> Result<()>;
}

/// Who takes notice of peers that nobody knows.
pub type Notice = Arc<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// What a server has seen since it was started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections of known peers.
    pub connections: AtomicU64,
    /// Those whose key exchange was X25519MLKEM768. Over TLS there are no others.
    pub post_quantum: AtomicU64,
    /// Connections of peers that nobody knows.
    pub unknown_peers: AtomicU64,
    /// Connections that never got through the TLS handshake.
    pub handshakes_failed: AtomicU64,
    /// Connections and requests beyond what a service may have at once.
    pub over_limit: AtomicU64,
}

/// What requests go through.
struct Gate {
    notice: Notice,
    counts: Arc<Counts>,
    /// Shared by all peers that nobody knows, so that they take nobody else's places.
    unknown: Arc<Semaphore>,
}

/// Who has sent a request that was let through: an extension of it. As long as this lives, it counts as one request of
/// the caller.
#[derive(Clone)]
pub struct Known {
    service: Arc<identity::Service>,
    is_local: bool,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Known {
    /// The service.
    pub fn caller(&self) -> &Caller {
        &self.service.caller
    }

    /// Whether it is a process on this machine, on a Unix socket.
    pub fn is_local(&self) -> bool {
        self.is_local
    }
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
        Arc::new(move |peer: &str| backend.peer_refused(peer))
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
    tokio::spawn(accept(listener, gate.clone(), sender, stopped.clone()));
    let routes = Routes::from(routes.layer(middleware::from_fn_with_state(gate, gatekeeper)));
    let ms = Duration::from_millis;
    let serving = Server::builder()
        .accept_http1(true)
        .timeout(ms(limits::RPC_REQUEST_MS))
        .max_concurrent_streams(limits::RPC_STREAMS)
        .http2_max_header_list_size(limits::RPC_HEADER_BYTES)
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

/// Takes connections, finds out who is there, and hands over those that may speak.
async fn accept(
    listener: Listener,
    gate: Arc<Gate>,
    sender: mpsc::Sender<std::io::Result<Connection>>,
    stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits::RPC_CONNECTIONS));
    let mut stopped = std::pin::pin!(until(stopped));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((place, listener.accept().await?))
        };
        let next = tokio::select! {
            next = next => next,
            () = &mut stopped => return,
            () = sender.closed() => return,
        };
        match next {
            Ok((place, raw)) => {
                let (gate, sender, services) = (gate.clone(), sender.clone(), listener.services().clone());
                tokio::spawn(async move {
                    if let Some(mut connection) = gate.admit(raw, &services).await {
                        connection.places.push(place);
                        // Nobody takes it only when the server ends.
                        let _ = sender.send(Ok(connection)).await;
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Gate {
    /// The connection, unless its peer failed the handshake or has too many.
    async fn admit(&self, raw: Raw, services: &Services) -> Option<Connection> {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let mut connection = match raw.identify(services).await {
            Ok(connection) => connection,
            Err(e) => {
                count(&self.counts.handshakes_failed);
                tracing::warn!(error = %e, "a peer was refused in its handshake");
                self.notice("a peer without a certificate that is known".to_owned()).await;
                return None;
            }
        };
        let places = match &connection.peer.service {
            Some(service) => &service.connections,
            None => &self.unknown,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            count(&self.counts.over_limit);
            return None;
        };
        connection.places.push(place);
        if let Some(group) = &connection.group {
            if group == "X25519MLKEM768" {
                count(&self.counts.post_quantum);
            }
            tracing::info!(peer = %connection.peer.identity, group, "a peer connected");
        }
        if connection.peer.service.is_some() {
            count(&self.counts.connections);
        } else {
            count(&self.counts.unknown_peers);
            self.notice(connection.peer.identity.to_string()).await;
        }
        Some(connection)
    }

    async fn notice(&self, peer: String) {
        let notice = self.notice.clone();
        let noticed = tokio::task::spawn_blocking(move || notice(&peer)).await;
        if !matches!(noticed, Ok(Ok(()))) {
            tracing::error!("a refused peer could not be written into the audit log");
        }
    }
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

/// Lets through who is known and has not too much to do already; nothing of the request but its path was looked at.
async fn gatekeeper(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let peer = request.extensions().get::<Peer>().map(|peer| (peer.service.clone(), peer.identity));
    let Some((Some(service), identity)) = peer else {
        return if grpc {
            error::unauthenticated().into_http()
        } else {
            error::answer(StatusCode::UNAUTHORIZED, &error::unknown_peer())
        };
    };
    let Ok(place) = service.requests.clone().try_acquire_owned() else {
        gate.counts.over_limit.fetch_add(1, Ordering::Relaxed);
        let busy = Error::new(ErrorKind::Busy, format!("service `{}` asks too much at once", service.caller.service()))
            .with_remedy(format!("have at most {} requests under way", limits::RPC_REQUESTS_PER_SERVICE));
        return if grpc { error::to_status(&busy).into_http() } else { error::to_response(&busy) };
    };
    let is_local = matches!(identity, Identity::Uid(_));
    request.extensions_mut().insert(Known { service, is_local, _place: Arc::new(place) });
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
