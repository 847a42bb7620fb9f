//! What a certificate says, for people and machines. Showing is not verifying, and no key bytes are shown.

use std::fmt;

use serde::Serialize;
use x509_cert::time::Time;

use super::contents::{Contents, Kind};
use super::names::Who;
use super::{Certificate, oid};
use crate::crypto::{Kem, Provider};
use crate::keys::Fingerprint;

/// Longest text of a foreign certificate that is shown, in characters.
const SHOWN_CHARS: usize = 200;

/// What one certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateView {
    /// `authority`, `tenant`, `session` or `signer`; `foreign` when it does not have the form of ours.
    pub kind: &'static str,
    /// Why it is foreign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The distinguished name of the subject (RFC 4514).
    pub subject: String,
    /// The distinguished name of the issuer.
    pub issuer: String,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What a signer's key is for: `tokens`, `envelopes` or `actions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signs: Option<&'static str>,
    /// First second of its validity (RFC 3339).
    pub not_before: String,
    /// Last second of its validity (RFC 3339).
    pub not_after: String,
    /// What it is signed with.
    pub signature_algorithm: String,
    /// The key that it certifies.
    pub key: KeyView,
    /// The tenant's root key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_key: Option<KeyView>,
    /// SHA-256 of the whole certificate, in hexadecimal.
    pub sha256: String,
}

/// What is shown of a public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// Its algorithm, or the object identifier of one that we do not have.
    pub algorithm: String,
    /// Its fingerprint, as everywhere in Strongroom.
    pub fingerprint: Fingerprint,
}

impl CertificateView {
    /// What `certificate` says of itself, true or not.
    pub fn of(provider: &dyn Provider, certificate: &Certificate) -> Self {
        let tbs = certificate.parsed.tbs_certificate();
        let spki = tbs.subject_public_key_info();
        let mut view = Self {
            kind: "foreign",
            reason: None,
            subject: printable(tbs.subject()),
            issuer: printable(tbs.issuer()),
            serial: hex(tbs.serial_number().as_bytes()),
            tenant: None,
            agent: None,
            session: None,
            profile: None,
            signs: None,
            not_before: rfc3339(&tbs.validity().not_before),
            not_after: rfc3339(&tbs.validity().not_after),
            signature_algorithm: match oid::signature_of(tbs.signature()) {
                Ok(algorithm) => algorithm.as_str().to_owned(),
                Err(_) => tbs.signature().oid.to_string(),
            },
            key: KeyView {
                algorithm: match oid::PublicKey::from_spki(spki) {
                    Ok(key) => key.algorithm().to_owned(),
                    Err(_) => spki.algorithm.oid.to_string(),
                },
                fingerprint: Fingerprint::of(provider, spki.subject_public_key.raw_bytes()),
            },
            root_key: None,
            sha256: hex(&provider.sha256(&[certificate.as_der()])),
        };
        match Contents::read(certificate) {
            Ok(contents) => view.fill(provider, &contents.kind),
            Err(e) => view.reason = Some(e.to_string()),
        }
        view
    }

    fn fill(&mut self, provider: &dyn Provider, kind: &Kind) {
        self.kind = kind.as_str();
        let (who, profile) = match kind {
            Kind::Authority => return,
            Kind::Tenant { who, profile, root_key } => {
                let fingerprint = Fingerprint::of(provider, root_key);
                self.root_key = Some(KeyView { algorithm: Kem::MlKem1024.as_str().to_owned(), fingerprint });
                (who, profile)
            }
            Kind::Session { who, profile } => (who, profile),
            Kind::Signer { who, profile, purpose } => {
                self.signs = Some(purpose.as_str());
                (who, profile)
            }
        };
        self.profile = Some(profile.to_string());
        self.tenant = Some(who.tenant().as_str().to_owned());
        if let Who::Session(_, agent, session) = who {
            self.agent = Some(agent.as_str().to_owned());
            self.session = Some(session.to_string());
        }
    }
}

impl fmt::Display for CertificateView {
    /// Several lines, one per fact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificate", self.kind)?;
        let mut line = |name: &str, value: &str| write!(f, "\n  {name:<10} {value}");
        if let Some(reason) = &self.reason {
            line("because", reason)?;
        }
        line("subject", &self.subject)?;
        line("issuer", &self.issuer)?;
        line("serial", &self.serial)?;
        for (name, value) in [("agent", &self.agent), ("session", &self.session), ("profile", &self.profile)] {
            if let Some(value) = value {
                line(name, value)?;
            }
        }
        if let Some(signs) = self.signs {
            line("signs", signs)?;
        }
        line("valid", &format!("{} to {}", self.not_before, self.not_after))?;
        line("signed by", &self.signature_algorithm)?;
        line("key", &format!("{}: {}", self.key.algorithm, self.key.fingerprint))?;
        if let Some(root) = &self.root_key {
            line("root key", &format!("{}: {}", root.algorithm, root.fingerprint))?;
        }
        line("sha256", &self.sha256)
    }
}

fn rfc3339(time: &Time) -> String {
    time.to_date_time().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A foreign certificate must not be able to command a terminal, nor to fill it.
fn printable(text: &impl fmt::Display) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.to_string().chars().take(SHOWN_CHARS).map(shown).collect()
}
