//! The sockets of the compatible endpoint: TLS 1.3, or in clear on this machine alone. Who calls says so by an API key.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::metrics::Metrics;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::server::files::Followed;
use crate::server::{Own, tls};

/// How the endpoint is protected on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WireProtection {
    /// TLS 1.3 with X25519MLKEM768: clients that have only classical key exchanges are refused.
    #[default]
    PostQuantum,
    /// TLS 1.3, also with X25519 and ECDHE over P-384: recordings of it can be read by a quantum computer.
    Classical,
    /// None: on addresses of this machine alone.
    None,
}

impl FromStr for WireProtection {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "post-quantum" => Ok(Self::PostQuantum),
            "classical" => Ok(Self::Classical),
            "none" => Ok(Self::None),
            _ => Err(Error::invalid(format!("`{}` is no protection", crate::id::shown(s)))
                .with_remedy("use `post-quantum`, `classical` or `none`")),
        }
    }
}

/// A bound socket.
pub struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Standing>,
}

/// What is shown to whoever connects now, and what it was made of.
struct Standing {
    config: Arc<ServerConfig>,
    files: [std::path::PathBuf; 2],
    protection: WireProtection,
}

impl Socket {
    /// Listens at `place`, as in `0.0.0.0:6333`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) in clear at an address that others reach, and without a certificate
    /// otherwise; [`Busy`](ErrorKind::Busy) when somebody listens there.
    pub async fn bind(place: &str, protection: WireProtection, own: Option<Own>) -> Result<Self> {
        let about = |e: io::Error| {
            let kind = if e.kind() == io::ErrorKind::AddrInUse { ErrorKind::Busy } else { Error::from(e).kind() };
            Error::new(kind, format!("cannot listen at `{}`", crate::id::shown(place)))
                .with_remedy("write `host:port`, and see whether the address is this machine's, and free")
        };
        let tls = match (protection, own) {
            (WireProtection::None, _) => None,
            (_, Some(own)) => Some(Standing::new(own, protection)?),
            (_, None) => {
                return Err(Error::invalid("the Qdrant-compatible endpoint has no certificate").with_remedy(
                    "set `kms_tls_certificate` and `kms_tls_key`, or `qdrant_tls = \"none\"` on a loopback address",
                ));
            }
        };
        let listener = TcpListener::bind(place).await.map_err(about)?;
        let address = listener.local_addr().map_err(about)?;
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(Error::invalid(format!("`{address}` is reached from other machines: not without TLS"))
                .with_remedy("listen at 127.0.0.1, or set `qdrant_tls` to `post-quantum` or `classical`"));
        }
        Ok(Self { listener, address, tls })
    }

    /// Where it listens; with the port that was chosen when it was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` until `shutdown`, then finishes what was begun, for at most [`limits::RPC_DRAIN_MS`].
    pub(super) async fn serve(
        self,
        routes: axum::Router,
        metrics: Arc<Metrics>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let (sender, connections) = mpsc::channel(1);
        let standing = self.tls.map(|standing| {
            let followed = Followed::new(standing);
            let (standing, stands) = watch::channel(followed.made().clone());
            tokio::spawn(keep_up(standing, followed));
            stands
        });
        tokio::spawn(accept(self.listener, standing, metrics, sender, stopped.clone()));
        let ms = Duration::from_millis;
        let serving = Server::builder()
            .accept_http1(true)
            .timeout(ms(limits::RPC_REQUEST_MS))
            .max_concurrent_streams(limits::RPC_STREAMS)
            .http2_max_header_list_size(limits::RPC_HEADER_BYTES)
            .max_connection_age(ms(limits::RPC_CONNECTION_MS))
            .http2_keepalive_interval(Some(ms(limits::RPC_PING_MS)))
            .http2_keepalive_timeout(Some(ms(limits::RPC_PING_ANSWER_MS)))
            .add_routes(Routes::from(routes))
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
}

impl Standing {
    fn new(own: Own, protection: WireProtection) -> Result<Self> {
        let provider = match protection {
            WireProtection::Classical => tls::any_exchange(),
            WireProtection::PostQuantum | WireProtection::None => tls::hybrid(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| Error::internal("preparing TLS").with_source(e))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified().clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), files: own.files().clone(), protection })
    }

    fn reload(&self) -> Result<Self> {
        let [certificate, key] = &self.files;
        Self::new(Own::read(certificate, key)?, self.protection)
    }
}

/// Keeps `standing` as its files are, until nobody listens any more. Files that are no good change nothing.
async fn keep_up(standing: watch::Sender<Arc<Standing>>, mut followed: Followed<Standing>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::RELOAD_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = standing.closed() => return,
        }
        let looked = tokio::task::spawn_blocking(move || {
            let files = followed.made().files.to_vec();
            let looked = followed.look(&files, Standing::reload);
            (looked, followed)
        });
        // An error means that the runtime ends.
        let Ok((looked, back)) = looked.await else { return };
        followed = back;
        match looked {
            Ok(true) => _ = standing.send_replace(followed.made().clone()),
            Ok(false) => {}
            Err(e) => tracing::warn!(error = %e, "the certificate has changed and is no good: the one before goes on"),
        }
    }
}

async fn accept(
    listener: TcpListener,
    standing: Option<watch::Receiver<Arc<Standing>>>,
    metrics: Arc<Metrics>,
    sender: mpsc::Sender<io::Result<Connection>>,
    stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits::RPC_CONNECTIONS));
    let mut stopped = std::pin::pin!(until(stopped));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((place, listener.accept().await?.0))
        };
        let next = tokio::select! {
            next = next => next,
            () = &mut stopped => return,
            () = sender.closed() => return,
        };
        match next {
            Ok((place, stream)) => {
                let (sender, metrics) = (sender.clone(), metrics.clone());
                let config = standing.as_ref().map(|standing| standing.borrow().config.clone());
                tokio::spawn(async move {
                    match admit(stream, config, place).await {
                        Ok(connection) => {
                            metrics.connected(connection.group());
                            // Nobody takes it only when the server ends.
                            let _ = sender.send(Ok(connection)).await;
                        }
                        Err(error) => {
                            metrics.handshake_failed();
                            tracing::debug!(%error, "a peer was refused in its handshake");
                        }
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

async fn admit(
    stream: TcpStream,
    config: Option<Arc<ServerConfig>>,
    place: OwnedSemaphorePermit,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let io = match config {
        None => Io::Clear(stream),
        Some(config) => {
            let shaking = TlsAcceptor::from(config).accept(stream);
            let shaken = tokio::time::timeout(Duration::from_millis(limits::TLS_HANDSHAKE_MS), shaking).await;
            Io::Tls(Box::new(shaken.map_err(|_| io::ErrorKind::TimedOut)??))
        }
    };
    Ok(Connection { io, _place: place })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the server is gone, which is an end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// A connection, and one of the server's places.
struct Connection {
    io: Io,
    _place: OwnedSemaphorePermit,
}

enum Io {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// The key exchange, if there was one.
    fn group(&self) -> &'static str {
        let Io::Tls(stream) = &self.io else { return "none" };
        match stream.get_ref().1.negotiated_key_exchange_group().map(|group| group.name()) {
            Some(rustls::NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
            Some(rustls::NamedGroup::X25519) => "X25519",
            Some(rustls::NamedGroup::secp384r1) => "secp384r1",
            _ => "other",
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
