//! Who gets in: takes connections, finds out who is there, and lets requests through of who is known.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::connection::{Connection, Peer, Raw, Refused};
use super::counts::{Counts, add};
use super::error;
use super::identity::Identity;
use super::listen::Kind;
use super::services::Service;
use super::standing::Standing;
use crate::audit::{Arrival, Reason, What};
use crate::error::{Error, ErrorKind, Result};
use crate::keys::kms::Caller;
use crate::limits;

/// Who takes notice of peers that connect over TLS, and of those that are refused.
pub type Notice = Arc<dyn Fn(&Arrival) -> Result<()> + Send + Sync>;

/// What requests go through.
pub(super) struct Gate {
    pub(super) notice: Notice,
    pub(super) counts: Arc<Counts>,
    /// Shared by all peers that nobody knows, so that they take nobody else's places.
    pub(super) unknown: Arc<Semaphore>,
}

/// Who has sent a request that was let through: an extension of it. As long as this lives, it counts as one request of
/// the caller.
#[derive(Clone)]
pub struct Known {
    service: Arc<Service>,
    identity: Identity,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Known {
    /// The service.
    pub fn caller(&self) -> &Caller {
        &self.service.caller
    }

    /// Whether it is a process on this machine, on a Unix socket.
    pub fn is_local(&self) -> bool {
        matches!(self.identity, Identity::Uid(_))
    }

    /// Whether it is a process of the user that this one runs as, on a Unix socket: what it asks for, it could do itself.
    pub fn is_same_user(&self) -> bool {
        self.identity == Identity::Uid(rustix::process::geteuid().as_raw())
    }
}

/// Takes connections, finds out who is there, and hands over those that may speak, until `stopped`.
pub(super) async fn accept(
    socket: Kind,
    gate: Arc<Gate>,
    standing: watch::Receiver<Arc<Standing>>,
    sender: mpsc::Sender<std::io::Result<Connection>>,
    stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits::RPC_CONNECTIONS));
    let mut stopped = std::pin::pin!(super::until(stopped));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((place, socket.accept().await?))
        };
        let next = tokio::select! {
            next = next => next,
            () = &mut stopped => return,
            () = sender.closed() => return,
        };
        match next {
            Ok((place, raw)) => {
                let (gate, sender, standing) = (gate.clone(), sender.clone(), standing.clone());
                tokio::spawn(async move {
                    if let Some(mut connection) = gate.admit(raw, standing).await {
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
    async fn admit(&self, raw: Raw, standing: watch::Receiver<Arc<Standing>>) -> Option<Connection> {
        let mut connection = match raw.identify(standing).await {
            Ok(connection) => connection,
            Err(refused) => {
                self.refuse(refused).await;
                return None;
            }
        };
        let places = match &connection.peer.service {
            Some(service) => &service.connections,
            None => &self.unknown,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            add(&self.counts.over_limit);
            return None;
        };
        connection.places.push(place);
        match connection.peer.service {
            Some(_) => self.counts.connected(connection.peer.group),
            None => add(&self.counts.unknown_peers),
        }
        if let Some(arrival) = arrival(&connection.peer) {
            self.notice(arrival).await;
        }
        Some(connection)
    }

    async fn refuse(&self, refused: Refused) {
        add(&self.counts.handshakes_failed);
        let Refused { error, peer, classical } = refused;
        tracing::warn!(%error, peer, classical, "a peer was refused in its handshake");
        let what = match classical {
            Some(groups) => {
                add(&self.counts.classical_refused);
                What::ClassicalRefused { groups }
            }
            None => What::Refused { reason: Reason::Peer },
        };
        self.notice(Arrival { service: peer, role: None, what }).await;
    }

    async fn notice(&self, arrival: Arrival) {
        let notice = self.notice.clone();
        let noticed = tokio::task::spawn_blocking(move || notice(&arrival)).await;
        if !matches!(noticed, Ok(Ok(()))) {
            tracing::error!("a peer's arrival could not be written into the audit log");
        }
    }
}

/// What there is to notice of a peer whose connection was taken. On a Unix socket, a known one is nothing special.
fn arrival(peer: &Peer) -> Option<Arrival> {
    let Peer { identity, service, group, .. } = peer;
    match (service, identity, group) {
        (None, ..) => {
            let what = What::Refused { reason: Reason::Peer };
            Some(Arrival { service: identity.to_string(), role: None, what })
        }
        (Some(service), Identity::Certificate(digest), Some(group)) => {
            let certificate = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let what = What::PeerConnected { group: format!("{group:?}"), certificate };
            Some(Arrival { service: service.caller.service().to_owned(), role: Some(service.caller.role()), what })
        }
        _ => None,
    }
}

/// Lets through who is known and has not too much to do already; nothing of the request but its path was looked at.
pub(super) async fn gatekeeper(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
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
        add(&gate.counts.over_limit);
        let busy = Error::new(ErrorKind::Busy, format!("service `{}` asks too much at once", service.caller.service()))
            .with_remedy(format!("have at most {} requests under way", limits::RPC_REQUESTS_PER_SERVICE));
        return if grpc { error::to_status(&busy).into_http() } else { error::to_response(&busy) };
    };
    let known = Known { service, identity, _place: Arc::new(place) };
    request.extensions_mut().insert(known.clone());
    let response = next.run(request).await;
    // Not every handler holds on to who called until it is done.
    drop(known);
    response
}
