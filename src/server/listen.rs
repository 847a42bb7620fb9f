//! Where peers connect, and what is known of each connection before anything that it sends is looked at.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tonic::transport::server::Connected;

use super::identity::{Identity, Service, Services};
use super::tls::{self, Own};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Where the key service listens: `unix:/path` or `tcp:host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and a port, over TLS.
    Tcp(String),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", place)) if place.contains(':') => Ok(Self::Tcp(place.to_owned())),
            _ => Err(Error::invalid(format!("`{}` is not an address", crate::id::shown(text)))
                .with_remedy("write `unix:/path/of/socket` or `tcp:host:port`")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(place) => write!(f, "tcp:{place}"),
        }
    }
}

/// An open socket that waits for peers.
pub struct Listener {
    address: Address,
    kind: Kind,
    services: Arc<Services>,
}

enum Kind {
    Unix { listener: UnixListener, _file: SocketFile },
    Tcp(TcpListener, Arc<ServerConfig>),
}

/// A connection before it is known who is on the other side.
pub(super) enum Raw {
    Unix(UnixStream),
    Tcp(TcpStream, Arc<ServerConfig>),
}

impl Listener {
    /// Listens at `address` for peers of `services`. Over TCP, `own` is the server's certificate; a Unix socket has
    /// none. The socket's file is for its owner and group; one that nobody listens at any more is replaced.
    ///
    /// # Errors
    ///
    /// [`Busy`](ErrorKind::Busy) when somebody listens there.
    pub async fn bind(address: &Address, own: Option<Own>, services: Arc<Services>) -> Result<Self> {
        let about = |e: io::Error| {
            let kind = if e.kind() == io::ErrorKind::AddrInUse { ErrorKind::Busy } else { Error::from(e).kind() };
            Error::new(kind, format!("cannot listen at `{address}`"))
                .with_remedy("see whether the address is this machine's, and free, and may be used")
        };
        let (address, kind) = match (address, own) {
            (Address::Unix(path), None) => {
                let (listener, _file) = SocketFile::bind(path).await?;
                (address.clone(), Kind::Unix { listener, _file })
            }
            (Address::Tcp(place), Some(own)) => {
                let listener = TcpListener::bind(place).await.map_err(about)?;
                let bound = listener.local_addr().map_err(about)?;
                (Address::Tcp(bound.to_string()), Kind::Tcp(listener, tls::server(own, services.clone())?))
            }
            (Address::Unix(_), Some(_)) => {
                return Err(
                    Error::invalid("a Unix socket has no certificate").with_remedy("leave out certificate and key")
                );
            }
            (Address::Tcp(_), None) => {
                return Err(Error::invalid(format!("`{address}` needs a certificate and its key"))
                    .with_remedy("set `kms_tls_certificate` and `kms_tls_key`, or listen at `unix:/path`"));
            }
        };
        Ok(Self { address, kind, services })
    }

    /// Where it listens; with the port that was chosen when it was 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(super) async fn accept(&self) -> io::Result<Raw> {
        match &self.kind {
            Kind::Unix { listener, .. } => Ok(Raw::Unix(listener.accept().await?.0)),
            Kind::Tcp(listener, config) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Raw::Tcp(stream, config.clone()))
            }
        }
    }
}

/// What is known of a peer, and what is left of what it may use.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) identity: Identity,
    /// `None` for a peer that nobody knows.
    pub(super) service: Option<Arc<Service>>,
}

/// A connection whose peer is known, as far as it can be.
pub(super) struct Connection {
    io: Box<dyn Duplex>,
    pub(super) peer: Peer,
    /// The key exchange; over TLS only.
    pub(super) group: Option<String>,
    /// One of the server's places, and one of the service's.
    pub(super) places: Vec<OwnedSemaphorePermit>,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Raw {
    /// Finds out who is there: asks the kernel, or shakes hands.
    pub(super) async fn identify(self, services: &Services) -> io::Result<Connection> {
        match self {
            Raw::Unix(stream) => {
                let identity = Identity::Uid(stream.peer_cred()?.uid());
                let peer = Peer { identity, service: services.find(&identity) };
                Ok(Connection { io: Box::new(stream), peer, group: None, places: Vec::new() })
            }
            Raw::Tcp(stream, config) => {
                let shaking = TlsAcceptor::from(config).accept(stream).into_fallible();
                let patience = Duration::from_millis(limits::TLS_HANDSHAKE_MS);
                let stream = match tokio::time::timeout(patience, shaking).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err((e, stream))) => {
                        let _ =
                            tokio::time::timeout(Duration::from_millis(limits::TLS_LINGER_MS), bid_farewell(stream))
                                .await;
                        return Err(e);
                    }
                    Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                };
                let session = stream.get_ref().1;
                let certificate = session.peer_certificates().and_then(<[_]>::first);
                let certificate = certificate.ok_or(io::ErrorKind::PermissionDenied)?;
                let identity = Identity::Certificate(tls::digest(certificate));
                let group = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
                let peer = Peer { identity, service: services.find(&identity) };
                Ok(Connection { io: Box::new(stream), peer, group, places: Vec::new() })
            }
        }
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

/// The file of a Unix socket: removed when nobody listens at it any more.
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    async fn bind(path: &Path) -> Result<(UnixListener, Self)> {
        let about = |e: io::Error| {
            let e = Error::from(e);
            Error::new(e.kind(), format!("cannot listen at `{}`: {e}", path.display()))
                .with_remedy("name a directory that exists and may be written, and a path of at most 100 bytes")
        };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(Error::new(ErrorKind::Conflict, format!("`{}` is not a socket", path.display()))
                    .with_remedy("name another path: what is there is left alone"));
            }
            Ok(_) => match UnixStream::connect(path).await {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(about)?,
                Err(e) => return Err(about(e)),
                Ok(_) => {
                    return Err(Error::new(ErrorKind::Busy, format!("somebody listens at `{}`", path.display()))
                        .with_remedy("stop the other key service first"));
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(about(e)),
        }
        let listener = UnixListener::bind(path).map_err(about)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(about)?;
        let inode = fs::symlink_metadata(path).map_err(about)?.ino();
        Ok((listener, Self { path: path.to_owned(), inode }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // At worst it stays behind, and is replaced by whoever listens next.
            drop(fs::remove_file(&self.path));
        }
    }
}
