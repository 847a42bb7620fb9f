//! Where peers connect.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::connection::Raw;
use super::services::Services;
use super::standing::Standing;
use super::tls::Own;
use crate::error::{Error, ErrorKind, Result};

/// Where a service listens: `unix:/path` or `tcp:host:port`.
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
    standing: Standing,
}

/// The socket itself.
pub(super) enum Kind {
    Unix { listener: UnixListener, _file: SocketFile },
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at `address` for peers of `services`. Over TCP, `own` is the server's certificate; a Unix socket has
    /// none. The socket's file is for its owner and group; one that nobody listens at any more is replaced.
    ///
    /// The files that `own` and `services` were read from are read again when they have changed: what is new in them
    /// holds for new connections, and who is not in them any more is cut off.
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
        let is_shown = own.is_some();
        let standing = Standing::new(services, own)?;
        let (address, kind) = match (address, is_shown) {
            (Address::Unix(path), false) => {
                let (listener, _file) = SocketFile::bind(path).await?;
                (address.clone(), Kind::Unix { listener, _file })
            }
            (Address::Tcp(place), true) => {
                let listener = TcpListener::bind(place).await.map_err(about)?;
                let bound = listener.local_addr().map_err(about)?;
                (Address::Tcp(bound.to_string()), Kind::Tcp(listener))
            }
            (Address::Unix(_), true) => {
                return Err(
                    Error::invalid("a Unix socket has no certificate").with_remedy("leave out certificate and key")
                );
            }
            (Address::Tcp(_), false) => {
                return Err(Error::invalid(format!("`{address}` needs a certificate and its key"))
                    .with_remedy("set `kms_tls_certificate` and `kms_tls_key`, or listen at `unix:/path`"));
            }
        };
        Ok(Self { address, kind, standing })
    }

    /// Where it listens; with the port that was chosen when it was 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The socket, and what holds for its peers at first.
    pub(super) fn into_parts(self) -> (Kind, Standing) {
        (self.kind, self.standing)
    }
}

impl Kind {
    pub(super) async fn accept(&self) -> io::Result<Raw> {
        match self {
            Kind::Unix { listener, .. } => Ok(Raw::Unix(listener.accept().await?.0)),
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Raw::Tcp(stream))
            }
        }
    }
}

/// The file of a Unix socket: removed when nobody listens at it any more.
pub(super) struct SocketFile {
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
                        .with_remedy("stop the other service first"));
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
