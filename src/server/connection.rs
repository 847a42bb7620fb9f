//! Connections, and what is known of each before anything that it sends is looked at.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::rustls::{CertificateError, Error as TlsError, NamedGroup, PeerIncompatible};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::identity::Identity;
use super::services::{Service, Services};
use super::standing::Standing;
use super::tls::{self, NoException};
use crate::limits;

/// A connection before it is known who is on the other side.
pub(super) enum Raw {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// What is known of a peer, and what is left of what it may use.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) identity: Identity,
    /// `None` for a peer that nobody knows.
    pub(super) service: Option<Arc<Service>>,
    /// The certificates that it has shown, its own first; none on a Unix socket.
    chain: Vec<CertificateDer<'static>>,
    /// The key exchange; over TLS only.
    pub(super) group: Option<NamedGroup>,
}

/// A connection whose peer is known, as far as it can be.
pub(super) struct Connection {
    io: Box<dyn Duplex>,
    pub(super) peer: Peer,
    /// Ends when the peer is not any more what it was when it connected; `None` after that.
    cut_off: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// One of the server's places, and one of the service's.
    pub(super) places: Vec<OwnedSemaphorePermit>,
}

/// Why there is no connection.
pub(super) struct Refused {
    pub(super) error: io::Error,
    /// What is known of the peer.
    pub(super) peer: String,
    /// The key exchanges that it offered, when it was refused for them: all were classical.
    pub(super) classical: Option<String>,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Raw {
    /// Finds out who is there: asks the kernel, or shakes hands.
    pub(super) async fn identify(self, mut standing: watch::Receiver<Arc<Standing>>) -> Result<Connection, Refused> {
        let now = standing.borrow_and_update().clone();
        let (io, peer): (Box<dyn Duplex>, _) = match self {
            Raw::Unix(stream) => {
                let uid = stream.peer_cred()?.uid();
                let service = now.services.of_user(uid);
                let peer = Peer { identity: Identity::Uid(uid), service, chain: Vec::new(), group: None };
                (Box::new(stream), peer)
            }
            Raw::Tcp(stream) => {
                let (stream, peer) = shake_hands(stream, &now).await?;
                (Box::new(stream), peer)
            }
        };
        let cut_off: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(changed(standing, peer.clone()));
        let cut_off = Some(cut_off);
        Ok(Connection { io, peer, cut_off, places: Vec::new() })
    }
}

/// Shakes hands with whoever is at the other end of `stream`.
async fn shake_hands(stream: TcpStream, now: &Standing) -> Result<(TlsStream<TcpStream>, Peer), Refused> {
    let (shown, _) = now.shown.as_ref().ok_or(io::ErrorKind::Unsupported)?;
    let mut offered = Vec::new();
    let shaking = async {
        let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = match Pin::new(&mut acceptor).await {
            Ok(hello) => hello,
            Err(e) => return Err((e, acceptor.take_io())),
        };
        offered = hello.client_hello().named_groups().unwrap_or_default().to_vec();
        let config = shown.to(&offered);
        hello.into_stream(config).into_fallible().await.map_err(|(e, stream)| (e, Some(stream)))
    };
    let stream = match tokio::time::timeout(Duration::from_millis(limits::TLS_HANDSHAKE_MS), shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((e, stream))) => {
            if let Some(stream) = stream {
                let linger = Duration::from_millis(limits::TLS_LINGER_MS);
                let _ = tokio::time::timeout(linger, bid_farewell(stream)).await;
            }
            return Err(Refused::of(e, &offered));
        }
        Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    };
    let session = stream.get_ref().1;
    let chain: Vec<_> =
        session.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
    let group = session.negotiated_key_exchange_group().map(|group| group.name());
    let certificate = chain.first().ok_or(io::ErrorKind::PermissionDenied)?;
    let identity = Identity::Certificate(tls::digest(certificate));
    let service = recognise(&now.services, &chain);
    let peer = Peer { identity, service, chain, group };
    // The handshake sees to it; this is for the day on which it does not.
    let may = peer.is_post_quantum() || peer.service.as_ref().is_some_and(|service| service.classical_tls);
    if !may {
        return Err(Refused::of(io::ErrorKind::PermissionDenied.into(), &offered));
    }
    Ok((stream, peer))
}

fn recognise(services: &Services, chain: &[CertificateDer<'_>]) -> Option<Arc<Service>> {
    let (certificate, others) = chain.split_first()?;
    services.of_certificate(certificate, others, UnixTime::now()).ok()
}

/// Waits until `peer` is not any more what it is.
async fn changed(mut standing: watch::Receiver<Arc<Standing>>, peer: Peer) {
    while standing.changed().await.is_ok() {
        let services = standing.borrow_and_update().services.clone();
        let service = match peer.identity {
            Identity::Uid(uid) => services.of_user(uid),
            Identity::Certificate(_) => recognise(&services, &peer.chain),
        };
        let is_same = match (&service, &peer.service) {
            (Some(now), Some(before)) => now.is(before),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            return;
        }
    }
    // Nothing changes any more: the server is ending, and connections do in their own time.
    std::future::pending().await
}

impl Peer {
    /// Whether a quantum computer could not read the connection.
    pub(super) fn is_post_quantum(&self) -> bool {
        self.group == Some(NamedGroup::X25519MLKEM768)
    }
}

impl Refused {
    /// For the failure `error` of a handshake with a peer that offered these key exchanges.
    fn of(error: io::Error, offered: &[NamedGroup]) -> Self {
        let groups = || {
            let names = offered.iter().take(limits::TLS_GROUPS_SHOWN).map(|group| format!("{group:?}"));
            names.collect::<Vec<_>>().join(" ")
        };
        let nobody = "a peer without a certificate that is known".to_owned();
        let (peer, classical) = match error.get_ref().and_then(|e| e.downcast_ref::<TlsError>()) {
            Some(TlsError::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon)) => {
                ("a peer that has shown no certificate".to_owned(), Some(groups()))
            }
            Some(TlsError::InvalidCertificate(CertificateError::Other(other))) => {
                match other.0.downcast_ref::<NoException>() {
                    Some(refused) => (refused.identity.to_string(), Some(groups())),
                    None => (nobody, None),
                }
            }
            _ => (nobody, None),
        };
        Self { error, peer, classical }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::of(error, &[])
    }
}

impl From<io::ErrorKind> for Refused {
    fn from(kind: io::ErrorKind) -> Self {
        io::Error::from(kind).into()
    }
}

/// Lets a peer that was turned down read why: closing at once, with bytes of its unread, would reset the connection and
/// lose the alert.
async fn bid_farewell(mut stream: TcpStream) -> io::Result<()> {
    std::future::poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?;
    let mut rest = [0; 4096];
    for _ in 0..16 {
        stream.readable().await?;
        match stream.try_read(&mut rest) {
            Ok(0) => break,
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut_off.as_mut().is_none_or(|cut_off| cut_off.as_mut().poll(cx).is_ready()) {
            self.cut_off = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut *self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
