//! Certificates: who a public key belongs to, signed by the platform's authority and below it by the tenant.
//!
//! ```text
//! authority (pinned) → tenant: signing key + root key → session: the key that one agent's session is sealed to
//!                                                      └→ signer: a key that one process signs tokens, envelopes or actions with
//! ```
//!
//! X.509 version 3 (RFC 5280) in a narrow form that `schema/certificate.md` draws. Values in and out; the time is passed
//! in; private keys stay behind [`SigningKey`](crate::crypto::SigningKey).

mod contents;
mod issue;
mod names;
mod oid;
mod pem;
mod purpose;
mod show;
mod verify;

use std::fmt;

use x509_cert::der::{Decode as _, Encode as _};

pub use issue::{
    SessionSubject, SignerSubject, TenantSubject, issue_authority, issue_session, issue_signer, issue_tenant,
};
pub use oid::{PROFILE as PROFILE_OID, ROOT_KEY as ROOT_KEY_OID, SIGNER_USE as SIGNER_USE_OID};
pub use pem::{from_pem, to_pem};
pub use purpose::SignerUse;
pub use show::{CertificateView, KeyView};
pub use verify::{Expect, VerifiedChain, VerifiedSession, VerifiedSignerKey, verify_chain};

use crate::error::{Error, Result};
use crate::limits;

/// An X.509 certificate: decoded, but not verified. It says nothing that can be relied on until [`verify_chain`] has
/// made a [`VerifiedChain`] of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    /// Decodes one certificate. Refuses trailing bytes and every encoding but the canonical one (DER, ITU-T X.690), and
    /// more than [`limits::CERTIFICATE_BYTES`].
    pub fn from_der(der: &[u8]) -> Result<Self> {
        if der.len() > limits::CERTIFICATE_BYTES {
            return Err(malformed("certificate: too long"));
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(|e| malformed("certificate").with_source(e))?;
        // The signature is checked over the part encoded anew, so that nobody can write one certificate in two ways.
        let again = parsed.to_der().map_err(|e| malformed("certificate").with_source(e))?;
        if again != der {
            return Err(malformed("certificate: not in its canonical encoding"));
        }
        Ok(Self { der: again, parsed })
    }

    /// The encoded certificate.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    pub(super) fn from_parsed(parsed: x509_cert::Certificate) -> Result<Self> {
        Ok(Self { der: parsed.to_der().map_err(oid::encoding)?, parsed })
    }
}

impl fmt::Debug for Certificate {
    /// It names a tenant and perhaps an agent: shown in answers, never in logs or panics.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(..)")
    }
}

/// Bytes that are not the certificate, or not the part of one, that they should be.
fn malformed(what: &str) -> Error {
    Error::invalid(format!("malformed {what}")).with_remedy("ask whoever sent it for the file as it was issued")
}
