//! Where texts are sent, and the key that goes with them.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;

use ureq::http::{HeaderValue, Uri};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// What to do where a key is missing.
pub(super) const KEY_REMEDY: &str = "put the key into the environment variable `STRONGROOM_EMBED_API_KEY` \
    (`OPENAI_API_KEY` is used too, but only over https or on this machine)";

/// A checked address.
pub(super) struct Endpoint {
    url: String,
    /// Without query, which may hold a secret.
    shown: String,
    https: bool,
    loopback: bool,
}

impl Endpoint {
    /// Parses an http or https address without credentials, and completes its path.
    pub(super) fn parse(url: &str) -> Result<Self> {
        // The address is not repeated: what does not parse may hold anything, even a key.
        let bad = |why: &str| {
            Error::invalid(format!("`--embed-url` {why}")).with_remedy(
                "give an address like `https://api.openai.com/v1` or `http://localhost:8080/v1/embeddings`",
            )
        };
        let uri: Uri = url.trim().parse().map_err(|_| bad("is not an address"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("does not start with `http://` or `https://`")),
        };
        let authority = uri.authority().filter(|a| !a.host().is_empty()).ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(
                Error::invalid("`--embed-url` holds credentials, which other users could see").with_remedy(KEY_REMEDY)
            );
        }
        let host = authority.host().trim_matches(['[', ']']);
        let loopback =
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let path = match uri.path().trim_end_matches('/') {
            "" => "/v1/embeddings".to_owned(),
            path if path.ends_with("/v1") => format!("{path}/embeddings"),
            path => path.to_owned(),
        };
        let address = format!("{}://{authority}{path}", if https { "https" } else { "http" });
        let url = match uri.query() {
            Some(query) => format!("{address}?{query}"),
            None => address.clone(),
        };
        let shown = address.chars().take(200).collect();
        Ok(Self { url, shown, https, loopback })
    }

    /// The address to send to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The address for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether nobody on the way can read along.
    pub(super) fn is_private(&self) -> bool {
        self.https || self.loopback
    }
}

/// The bearer key of an endpoint. It cannot be printed.
pub struct ApiKey {
    key: SecretBytes,
    /// It was not given to us for this endpoint: only over https, or to this machine.
    borrowed: bool,
}

impl ApiKey {
    /// A key of visible ASCII; space around it is dropped.
    pub fn new(key: Vec<u8>) -> Result<Self> {
        let given = Zeroizing::new(key);
        let key = given.trim_ascii();
        if key.is_empty() || !key.iter().all(u8::is_ascii_graphic) {
            return Err(Error::invalid("the key of the embeddings endpoint is empty or holds unusual characters")
                .with_remedy("check `STRONGROOM_EMBED_API_KEY`: a key is one word of ASCII"));
        }
        Ok(Self { key: SecretBytes::new(key.to_vec()), borrowed: false })
    }

    /// The key in `STRONGROOM_EMBED_API_KEY`, else the one in `OPENAI_API_KEY`. The latter is sent only over https or
    /// to this machine, since it was not set for us.
    pub fn from_env() -> Result<Option<Self>> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    pub(super) fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>> {
        let get = |name| lookup(name).map(OsString::into_vec).filter(|key| !key.is_empty());
        if let Some(key) = get("STRONGROOM_EMBED_API_KEY") {
            return Self::new(key).map(Some);
        }
        match get("OPENAI_API_KEY") {
            Some(key) => Ok(Some(Self { borrowed: true, ..Self::new(key)? })),
            None => Ok(None),
        }
    }

    pub(super) fn needs_private_way(&self) -> bool {
        self.borrowed
    }

    /// The header that carries it.
    pub(super) fn header(&self) -> Result<HeaderValue> {
        let text = Zeroizing::new([b"Bearer ", self.key.expose_secret()].concat());
        let mut value = HeaderValue::from_bytes(&text)
            .map_err(|_| Error::invalid("the key of the embeddings endpoint cannot be sent"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
