//! Certificates as text: PEM (RFC 7468), several in one file, in the order in which they were issued.

use x509_cert::der::Document;
use x509_cert::der::pem::LineEnding;

use super::{Certificate, malformed};
use crate::error::{Error, Result};
use crate::limits;

const LABEL: &str = "CERTIFICATE";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates in `text`, in their order. Refuses anything but white space around them, none at all, more than
/// [`limits::CHAIN_CERTIFICATES`] and more than [`limits::CERTIFICATE_FILE_BYTES`].
pub fn from_pem(text: &str) -> Result<Vec<Certificate>> {
    if text.len() > limits::CERTIFICATE_FILE_BYTES {
        return Err(Error::invalid("the file is too long for certificates"));
    }
    let mut certificates = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if !rest.starts_with(BEGIN) {
            return Err(Error::invalid("there is something else than certificates in the text")
                .with_remedy(format!("give a file with nothing but blocks that begin with `{BEGIN}`")));
        }
        let end = rest.find(END).ok_or_else(|| malformed("certificate: its end is missing"))? + END.len();
        let (block, after) = rest.split_at(end);
        let (label, document) = Document::from_pem(block).map_err(|e| malformed("certificate").with_source(e))?;
        if label != LABEL {
            return Err(malformed("certificate"));
        }
        if certificates.len() == limits::CHAIN_CERTIFICATES {
            let most = limits::CHAIN_CERTIFICATES;
            return Err(Error::invalid(format!("there are more than {most} certificates in one file")));
        }
        certificates.push(Certificate::from_der(document.as_bytes())?);
        rest = after.trim_start();
    }
    if certificates.is_empty() {
        return Err(Error::invalid("there is no certificate in the text")
            .with_remedy(format!("give a file with blocks that begin with `{BEGIN}`")));
    }
    Ok(certificates)
}

/// `certificates` as text, one block after the other.
pub fn to_pem(certificates: &[Certificate]) -> Result<String> {
    let mut text = String::new();
    for certificate in certificates {
        let document = Document::try_from(certificate.as_der()).map_err(super::oid::encoding)?;
        text += &document.to_pem(LABEL, LineEnding::LF).map_err(super::oid::encoding)?;
    }
    Ok(text)
}
