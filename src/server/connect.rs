//! The client's connections: over a Unix socket, or TLS to a server that is believed.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use super::files::Followed;
use super::listen::Address;
use super::tls::{self, Own};
use super::trust::ServerTrust;
use crate::error::{Error, Result};
use crate::limits;

/// How to reach a service.
#[derive(Clone)]
pub(crate) struct Connector {
    address: Address,
    tls: Option<Arc<Tls>>,
    /// Over TCP: without TLS.
    clear: bool,
    /// Whether the server has turned down the latest connection, after a handshake that looked fine from here.
    refused: Arc<AtomicBool>,
}

/// What a client shows and believes, kept as its files are.
struct Tls {
    trust: ServerTrust,
    followed: Mutex<Followed<Shown>>,
}

/// For the next connection.
struct Shown {
    config: Arc<ClientConfig>,
    /// The name that is asked for.
    name: ServerName<'static>,
    /// Its own certificate and key, if it shows one.
    files: Option<[PathBuf; 2]>,
}

/// The name that is asked for where servers are pinned: none is looked up by it.
const NAME: &str = "strongroom.invalid";

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Tls {
    fn new(own: Option<Own>, trust: ServerTrust) -> Result<Self> {
        let followed = Mutex::new(Followed::new(Shown::new(own, &trust)?));
        Ok(Self { trust, followed })
    }

    /// What holds for a connection that is made now. Files that are no good change nothing.
    fn now(&self) -> Arc<Shown> {
        let mut followed = self.followed.lock();
        let files = followed.made().files.iter().flatten().cloned();
        let files: Vec<PathBuf> = files.chain(self.trust.file().map(Path::to_owned)).collect();
        let looked = followed.look(&files, |shown| {
            let own = shown.files.as_ref().map(|[certificate, key]| Own::read(certificate, key)).transpose()?;
            Shown::new(own, &self.trust)
        });
        if let Err(e) = looked {
            tracing::warn!(error = %e, "certificates have changed and are no good: what was read before goes on");
        }
        followed.made().clone()
    }
}

impl Shown {
    fn new(own: Option<Own>, trust: &ServerTrust) -> Result<Self> {
        let (files, believed) = (own.as_ref().map(|own| own.files().clone()), trust.load()?);
        let unpinned = believed.name().cloned();
        let name = unpinned.map_or_else(|| ServerName::try_from(NAME), Ok);
        let name = name.map_err(|e| Error::internal("a name for a server").with_source(e))?;
        Ok(Self { config: Arc::new(tls::client(own, believed)?), name, files })
    }
}

impl Connector {
    /// To `address`, over TCP with the certificate `own` and to servers that `trust` believes.
    pub(crate) fn new(address: Address, own: Option<Own>, trust: ServerTrust) -> Result<Self> {
        let tls = match (&address, own) {
            (Address::Unix(_), None) => None,
            (Address::Tcp(_), Some(own)) if !trust.is_empty() => Some(Arc::new(Tls::new(Some(own), trust)?)),
            (Address::Tcp(_), _) => {
                return Err(Error::invalid(format!("a connection to `{address}` needs certificates of both sides"))
                    .with_remedy(
                        "name the own certificate and key, and the SHA-256 of the server's certificate or its name",
                    ));
            }
            (Address::Unix(_), Some(_)) => return Err(Error::invalid("a Unix socket has no certificate")),
        };
        Ok(Self { address, tls, clear: false, refused: Arc::default() })
    }

    /// To a server at `place` that knows its callers by something else than certificates: over TLS if it is believed by
    /// `trust`, in clear without.
    pub(crate) fn outward(place: String, trust: Option<ServerTrust>) -> Result<Self> {
        let clear = trust.is_none();
        let tls = match trust {
            Some(trust) if trust.is_empty() => {
                return Err(Error::invalid(format!("nobody vouches for the server at `{place}`"))
                    .with_remedy("name the SHA-256 of its certificate, or the authorities that vouch for its name"));
            }
            Some(trust) => Some(Arc::new(Tls::new(None, trust)?)),
            None => None,
        };
        Ok(Self { address: Address::Tcp(place), tls, clear, refused: Arc::default() })
    }

    /// Whether the latest connection was turned down; changes as connections come and go.
    pub(crate) fn refused(&self) -> Arc<AtomicBool> {
        self.refused.clone()
    }

    /// A channel that connects when it is used, and again when the connection is lost. Needs a runtime.
    pub(crate) fn channel(self) -> Channel {
        let ms = Duration::from_millis;
        Endpoint::from_static("http://strongroom.invalid")
            .connect_timeout(ms(limits::TLS_HANDSHAKE_MS))
            .http2_keep_alive_interval(ms(limits::RPC_PING_MS))
            .keep_alive_timeout(ms(limits::RPC_PING_ANSWER_MS))
            .http2_max_header_list_size(limits::RPC_HEADER_BYTES)
            .connect_with_connector_lazy(self)
    }

    async fn connect(self) -> io::Result<TokioIo<Box<dyn Duplex>>> {
        self.refused.store(false, Ordering::SeqCst);
        let stream: Box<dyn Duplex> = match (&self.address, self.tls) {
            (Address::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
            (Address::Tcp(place), Some(tls)) => {
                let stream = TcpStream::connect(place).await?;
                stream.set_nodelay(true)?;
                // A few small files, once a connection.
                let shown = tls.now();
                let io = TlsConnector::from(shown.config.clone()).connect(shown.name.clone(), stream).await?;
                let group = io.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
                tracing::info!(address = %self.address, ?group, "connected to a server");
                Box::new(Watched { io, refused: self.refused })
            }
            (Address::Tcp(place), None) if self.clear => {
                let stream = TcpStream::connect(place).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            (Address::Tcp(_), None) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(TokioIo::new(stream))
    }
}

/// A connection that notices when the server turns it down: in TLS 1.3 (RFC 8446, section 4.4.2.4) a client has
/// finished its handshake before the server has looked at its certificate.
struct Watched {
    io: TlsStream<TcpStream>,
    refused: Arc<AtomicBool>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Err(e)) = &read
            && let Some(rustls::Error::AlertReceived(_)) = e.get_ref().and_then(|e| e.downcast_ref())
        {
            self.refused.store(true, Ordering::SeqCst);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Duplex>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
