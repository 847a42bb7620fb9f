//! What an envelope says, for people and machines. Showing is not verifying, and no payload is shown.

use std::fmt;

use serde::Serialize;

use super::codec::Envelope;
use super::header::{ENVELOPE_VERSION, Kind};
use crate::crypto::{Provider, TAG_LEN};
use crate::error::Result;

/// What an envelope says of itself, true or not: `schema/envelope.schema.json` describes the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvelopeView {
    /// The version of the layout.
    pub version: u64,
    /// What it holds.
    pub kind: Kind,
    /// Who sent it.
    pub sender: SenderView,
    /// Whom it is for.
    pub recipient: RecipientView,
    /// What the session's key was encapsulated with.
    pub kem: &'static str,
    /// The KEM's ciphertext.
    pub kem_ciphertext: BytesView,
    /// What it is signed with.
    pub signature_algorithm: &'static str,
    /// The AEAD that it is sealed with, and the KDF of the key.
    pub suite: &'static str,
    /// When it was sent: Unix time in milliseconds.
    pub issued_at_ms: u64,
    /// When it stops being received: Unix time in milliseconds.
    pub expires_at_ms: u64,
    /// Its number in the session.
    pub sequence: u64,
    /// The AEAD's nonce, in hexadecimal.
    pub nonce: String,
    /// What the application set, in hexadecimal; left out when it set nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub correlation: String,
    /// The certificates that it carries; left out when it carries none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<BytesView>,
    /// Length of the payload in bytes.
    pub payload_bytes: usize,
    /// The sealed payload, tag included.
    pub ciphertext: BytesView,
    /// The sender's signature.
    pub signature: BytesView,
}

/// Who sent an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SenderView {
    /// The tenant.
    pub tenant: String,
    /// The agent.
    pub agent: String,
    /// SHA-256 of the signer's certificate, in hexadecimal.
    pub signer_sha256: String,
}

/// Whom an envelope is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipientView {
    /// The tenant.
    pub tenant: String,
    /// The session.
    pub session: String,
}

/// Bytes that are not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BytesView {
    /// How many.
    pub bytes: usize,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

impl EnvelopeView {
    /// What the envelope in `bytes` says. Nothing is verified.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is no envelope, or not in its canonical encoding.
    pub fn of(provider: &dyn Provider, bytes: &[u8]) -> Result<Self> {
        let envelope = Envelope::decode(bytes)?;
        let digest = |bytes: &[u8]| BytesView { bytes: bytes.len(), sha256: hex(&provider.sha256(&[bytes])) };
        let header = &envelope.header;
        Ok(Self {
            version: ENVELOPE_VERSION,
            kind: header.kind,
            sender: SenderView {
                tenant: header.sender.as_str().to_owned(),
                agent: header.agent.as_str().to_owned(),
                signer_sha256: hex(&header.thumbprint),
            },
            recipient: RecipientView {
                tenant: header.recipient.as_str().to_owned(),
                session: header.session.to_string(),
            },
            kem: header.algorithms.kem.as_str(),
            kem_ciphertext: digest(&header.kem_ciphertext),
            signature_algorithm: header.algorithms.signature.as_str(),
            suite: header.algorithms.suite.as_str(),
            issued_at_ms: header.issued_at_ms,
            expires_at_ms: header.expires_at_ms,
            sequence: header.sequence,
            nonce: hex(&header.nonce),
            correlation: hex(&header.correlation),
            chain: header.chain.iter().map(|der| digest(der)).collect(),
            payload_bytes: envelope.ciphertext().len().saturating_sub(TAG_LEN),
            ciphertext: digest(envelope.ciphertext()),
            signature: digest(envelope.signature()),
        })
    }
}

impl fmt::Display for EnvelopeView {
    /// Several lines, one per fact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, sender, recipient, .. } = self;
        write!(f, "envelope with a payload of kind {kind}, {} bytes", self.payload_bytes)?;
        let mut line = |name: &str, value: &dyn fmt::Display| write!(f, "\n  {name:<12} {value}");
        line("from", &format_args!("agent {} of tenant {}", sender.agent, sender.tenant))?;
        line("signer", &sender.signer_sha256)?;
        line("to", &format_args!("session {} of tenant {}", recipient.session, recipient.tenant))?;
        line("sequence", &self.sequence)?;
        line("issued", &format_args!("{} ms", self.issued_at_ms))?;
        line("expires", &format_args!("{} ms", self.expires_at_ms))?;
        line("kem", &format_args!("{}: {}", self.kem, self.kem_ciphertext))?;
        line("signed with", &format_args!("{}: {}", self.signature_algorithm, self.signature))?;
        line("sealed with", &format_args!("{}: {}", self.suite, self.ciphertext))?;
        line("nonce", &self.nonce)?;
        if !self.correlation.is_empty() {
            line("correlation", &self.correlation)?;
        }
        self.chain.iter().try_for_each(|der| line("certificate", der))
    }
}

impl fmt::Display for BytesView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, sha256 {}", self.bytes, self.sha256)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
