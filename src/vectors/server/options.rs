//! Which server, and how it is talked to.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};

use crate::error::{Error, Result};
use crate::limits;
use crate::secret::SecretBytes;
use crate::server::ServerTrust;

/// The environment variable with the API key, when no file has it.
const KEY_VARIABLE: &str = "STRONGROOM_QDRANT_API_KEY";
/// Qdrant's port for gRPC.
const PORT: u16 = 6334;
/// Longest prefix of names: a name has 255 bytes at most.
const PREFIX_BYTES: usize = 64;
/// Longest id of a store.
const INSTANCE_BYTES: usize = 32;

/// A Qdrant server and how it is used.
pub struct ServerOptions {
    /// Where it is.
    pub url: QdrantUrl,
    /// What it wants to see.
    pub api_key: Option<ApiKey>,
    /// Over `https`: which servers are believed to be it.
    pub trust: ServerTrust,
    /// What the names of its collections begin with.
    pub prefix: String,
    /// What the names of shared ones have next: no two stores the same, as their points may have the same ids.
    pub instance: String,
    /// How long a call may take, attempts and pauses included, in milliseconds.
    pub timeout_ms: u64,
    /// Connections that calls are spread over.
    pub connections: usize,
}

impl ServerOptions {
    /// The server at `url`, by the defaults.
    pub fn new(url: QdrantUrl) -> Self {
        Self {
            url,
            api_key: None,
            trust: ServerTrust::default(),
            prefix: "strongroom".into(),
            instance: String::new(),
            timeout_ms: 10_000,
            connections: 4,
        }
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.prefix.is_empty() || self.prefix.len() > PREFIX_BYTES || !self.prefix.chars().all(plain) {
            return Err(Error::invalid("the prefix of Qdrant's collections cannot be used")
                .with_remedy(format!("set `qdrant_prefix` to 1 to {PREFIX_BYTES} letters, digits, `-` and `_`")));
        }
        if self.instance.len() > INSTANCE_BYTES || !self.instance.chars().all(plain) {
            return Err(Error::integrity("the id of the store"));
        }
        if self.timeout_ms == 0 || !(1..=limits::QDRANT_CONNECTIONS).contains(&self.connections) {
            return Err(Error::invalid("calls to Qdrant need time and connections").with_remedy(format!(
                "set `qdrant_timeout_ms` above 0 and `qdrant_connections` to 1 to {}",
                limits::QDRANT_CONNECTIONS
            )));
        }
        Ok(())
    }
}

/// The address of a Qdrant server's gRPC: `https://host:port`, or `http` on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QdrantUrl {
    host: String,
    port: u16,
    tls: bool,
}

impl QdrantUrl {
    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// `host:port`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is talked to over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for QdrantUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}:{}", if self.tls { "s" } else { "" }, self.host, self.port)
    }
}

impl FromStr for QdrantUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("the address of Qdrant {why}")).with_remedy(
                "set `qdrant_url` to `https://host:6334`, the port of its gRPC, or to `http://127.0.0.1:6334` on this \
                 machine",
            )
        };
        let uri: Uri = text.parse().map_err(|_| bad("is not one"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("names no host"))?;
        // User information would be sent along, and shown.
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad("has a user in it"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("has a path in it"));
        }
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if loopback => false,
            Some("http") => return Err(bad("is not `https`, and not on this machine")),
            _ => return Err(bad("is neither `https` nor `http`")),
        };
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(PORT), tls })
    }
}

/// An API key of Qdrant. It cannot be printed.
pub struct ApiKey(SecretBytes);

impl ApiKey {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what cannot be sent, without repeating it.
    pub fn parse(text: &str) -> Result<Self> {
        let key = text.trim();
        let sendable = key.len() <= limits::QDRANT_API_KEY_BYTES && key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || !sendable {
            return Err(Error::invalid("the API key of Qdrant is not one")
                .with_remedy("give the key alone, as Qdrant's configuration has it"));
        }
        Ok(Self(SecretBytes::new(key.as_bytes().to_vec())))
    }

    /// The key in `file`, or in the environment when that is empty; there may be none.
    pub fn find(file: &Path) -> Result<Option<Self>> {
        if !file.as_os_str().is_empty() {
            if std::fs::metadata(file)?.len() > 2 * limits::QDRANT_API_KEY_BYTES as u64 {
                return Self::parse("").map(Some);
            }
            return Self::parse(&zeroize::Zeroizing::new(std::fs::read_to_string(file)?)).map(Some);
        }
        std::env::var(KEY_VARIABLE).ok().map(|key| Self::parse(&zeroize::Zeroizing::new(key))).transpose()
    }

    /// As it is sent.
    pub(super) fn header(&self) -> Result<MetadataValue<Ascii>> {
        let value = MetadataValue::try_from(self.0.expose_secret());
        let mut value = value.map_err(|_| Error::internal("an API key that cannot be sent"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_leaves_the_machine() {
        let good = [
            ("https://qdrant.example:6334", "https://qdrant.example:6334"),
            ("https://qdrant.example", "https://qdrant.example:6334"),
            ("http://127.0.0.1:7000/", "http://127.0.0.1:7000"),
            ("http://localhost", "http://localhost:6334"),
            ("http://[::1]:6334", "http://[::1]:6334"),
        ];
        for (text, shown) in good {
            assert_eq!(text.parse::<QdrantUrl>().unwrap().to_string(), shown);
        }
        let bad = [
            "",
            "qdrant.example:6334",
            "http://qdrant.example:6334",
            "http://10.0.0.1:6334",
            "ftp://localhost",
            "https://key@qdrant.example",
            "https://qdrant.example/a",
            "https://qdrant.example?a",
        ];
        for text in bad {
            assert!(text.parse::<QdrantUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_one_word_and_never_shown() {
        assert!(ApiKey::parse(" s3cret\n").is_ok());
        for bad in ["", " ", "two words", "umlaut-ä", "line\nfeed", &"k".repeat(10_000)] {
            let error = ApiKey::parse(bad).err().unwrap();
            assert!(bad.trim().is_empty() || !error.to_string().contains(bad.trim()), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let options = |prefix: &str, timeout_ms, connections| {
            let url = "http://localhost".parse().unwrap();
            ServerOptions { prefix: prefix.into(), timeout_ms, connections, ..ServerOptions::new(url) }.validate()
        };
        assert!(options("strongroom", 10_000, 4).is_ok());
        assert!(options("", 1, 1).is_err() && options("a/b", 1, 1).is_err() && options(&"p".repeat(65), 1, 1).is_err());
        assert!(options("p", 0, 1).is_err() && options("p", 1, 0).is_err() && options("p", 1, 1000).is_err());
    }
}
