//! Whom a webhook tells, and the secret that its signatures are made with.

use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::Uri;

use crate::crypto::{MacKey, Provider};
use crate::error::{Error, Result};
use crate::secret::{Secret, SecretBytes};

/// The environment variable with the secret, when no file has it.
pub const SECRET_VARIABLE: &str = "STRONGROOM_WEBHOOK_SECRET";
const SECRET_PREFIX: &str = "whsec_";
/// Largest file with a secret, in bytes.
const FILE_BYTES: u64 = 1024;

/// The secret of a webhook: 32 bytes, in base64, that its receiver has too. It cannot be printed.
pub struct WebhookSecret(Secret<32>);

impl WebhookSecret {
    /// Reads `whsec_` and 32 bytes in base64, as Standard Webhooks has it; the prefix may be missing.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else, without repeating it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let bad = || {
            Error::invalid("the secret of the webhook is not one")
                .with_remedy("give 32 random bytes in base64: `openssl rand -base64 32`")
        };
        let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX).unwrap_or(text)).map_err(|_| bad())?;
        let bytes = SecretBytes::new(bytes);
        Secret::copy_from(bytes.expose_secret()).map(Self).map_err(|_| bad())
    }

    /// The secret in `file`, or in the environment when that is empty.
    pub fn find(file: &Path) -> Result<Self> {
        if !file.as_os_str().is_empty() {
            if std::fs::metadata(file)?.len() > FILE_BYTES {
                return Self::parse("");
            }
            return Self::parse(&zeroize::Zeroizing::new(std::fs::read_to_string(file)?));
        }
        match std::env::var(SECRET_VARIABLE) {
            Ok(text) => Self::parse(&zeroize::Zeroizing::new(text)),
            Err(_) => Err(Error::invalid("the webhook has no secret")
                .with_remedy(format!("set `alert_webhook_secret_file`, or {SECRET_VARIABLE}"))),
        }
    }
}

/// Where alerts are posted to.
pub struct WebhookTarget {
    url: String,
    secret: WebhookSecret,
    loopback: bool,
    /// How long to wait before the second attempt, in milliseconds; longer before each further one.
    pub first_wait_ms: u64,
}

impl WebhookTarget {
    /// `url` with its secret.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is not `https`, unless it is on this machine.
    pub fn new(url: &str, secret: WebhookSecret) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("the address of the webhook {why}"))
                .with_remedy("use `https://host/path`, or `http://127.0.0.1:port/path` for one on this machine")
        };
        let uri: Uri = url.parse().map_err(|_| bad("is not one"))?;
        let host = uri.host().ok_or_else(|| bad("names no host"))?;
        // User information would be sent along, and logged.
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad("has a user in it"));
        }
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if loopback => {}
            _ => return Err(bad("is not `https`")),
        }
        Ok(Self { url: url.to_owned(), secret, loopback, first_wait_ms: 1_000 })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.loopback
    }

    pub(super) fn mac(&self, provider: &dyn Provider) -> Box<dyn MacKey> {
        provider.mac(&self.secret.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> WebhookSecret {
        WebhookSecret::parse(&STANDARD.encode([7; 32])).unwrap()
    }

    #[test]
    fn only_tls_leaves_the_machine() {
        for good in
            ["https://ops.example/hook?team=a", "http://127.0.0.1:8080/x", "http://[::1]:1/", "http://localhost/"]
        {
            assert!(WebhookTarget::new(good, secret()).is_ok(), "{good}");
        }
        let bad = [
            "http://ops.example/",
            "ftp://localhost/",
            "localhost",
            "/x",
            "https://user:pw@ops.example/",
            "http://10.0.0.1/",
        ];
        for bad in bad {
            assert!(WebhookTarget::new(bad, secret()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_32_bytes() {
        assert!(WebhookSecret::parse(&format!("whsec_{}\n", STANDARD.encode([7; 32]))).is_ok());
        for bad in ["", "whsec_", "hello", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33])] {
            let error = WebhookSecret::parse(bad).err().unwrap();
            assert!(bad.is_empty() || !error.to_string().contains(bad), "{error}");
        }
    }
}
