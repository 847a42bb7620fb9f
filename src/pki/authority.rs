//! An authority: its certificate (RFC 5280) and key, and what it issues.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use serde::Serialize;

use super::issued::{Facts, Request, damaged};
use crate::disk;
use crate::entropy;
use crate::error::{Error, Result};
use crate::limits;
use crate::secret::SecretBytes;

/// What is known of an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthorityView {
    /// Its place in the order: the highest issues.
    pub number: u32,
    /// Its name, as it stands in what it issues.
    pub subject: String,
    /// SHA-256 of its certificate.
    pub sha256: String,
    /// When it ends: Unix time in milliseconds.
    pub not_after_ms: u64,
}

/// An authority with its key.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after_ms: u64,
}

impl AuthorityView {
    pub(super) fn load(dir: &Path, number: u32) -> Result<Self> {
        let facts = Facts::load(&dir.join(format!("{number}.pem")))?;
        Ok(Self { number, subject: facts.subject, sha256: facts.sha256, not_after_ms: facts.not_after_ms })
    }
}

impl Authority {
    /// Makes one. It may issue certificates, and no further authorities.
    pub(super) fn make(dir: &Path, number: u32, now_ms: u64) -> Result<AuthorityView> {
        let mut id = [0; 8];
        entropy::fill(&mut id)?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut params = named(format!("strongroom authority {number} {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lasting(&mut params, now_ms, now_ms.saturating_add(limits::AUTHORITY_CERTIFICATE_MS))?;
        let key = generate()?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        disk::replace(&dir.join(format!("{number}.key")), private_pem(&key).expose_secret())?;
        disk::create(&dir.join(format!("{number}.pem")), certificate.pem().as_bytes())?;
        AuthorityView::load(dir, number)
    }

    pub(super) fn load(dir: &Path, number: u32) -> Result<Self> {
        let facts = Facts::load(&dir.join(format!("{number}.pem")))?;
        let path = dir.join(format!("{number}.key"));
        let pem = SecretBytes::new(fs::read(&path)?);
        let bad = || damaged(&path);
        let key = std::str::from_utf8(pem.expose_secret()).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        let (key, name) = (key.ok_or_else(bad)?, facts.subject.strip_prefix("CN=").ok_or_else(bad)?);
        Ok(Self { issuer: Issuer::new(named(name.to_owned()), key), not_after_ms: facts.not_after_ms })
    }

    /// A certificate, PEM, and its key, PEM.
    pub(super) fn issue(&self, request: &Request, now_ms: u64) -> Result<(String, SecretBytes)> {
        let mut params = named(request.name.clone());
        params.subject_alt_names = request.alternative_names()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let uses = [
            (request.server, ExtendedKeyUsagePurpose::ServerAuth),
            (request.client, ExtendedKeyUsagePurpose::ClientAuth),
        ];
        params.extended_key_usages = uses.into_iter().filter(|(wanted, _)| *wanted).map(|(_, usage)| usage).collect();
        params.use_authority_key_identifier_extension = true;
        let end_ms = now_ms.saturating_add(u64::from(request.days) * 86_400_000).min(self.not_after_ms);
        if end_ms <= now_ms {
            return Err(Error::invalid("the authority has come to its end")
                .with_remedy("`strongroom pki rotate-ca` makes a new one"));
        }
        lasting(&mut params, now_ms, end_ms)?;
        let key = generate()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), private_pem(&key)))
    }
}

fn named(name: String) -> CertificateParams {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name;
    params
}

/// Sets dates and a random serial number.
fn lasting(params: &mut CertificateParams, now_ms: u64, end_ms: u64) -> Result<()> {
    let at = |ms: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(ms / 1000);
    params.not_before = at(now_ms.saturating_sub(limits::CERTIFICATE_SKEW_MS));
    params.not_after = at(end_ms);
    let mut serial = [0; 16];
    entropy::fill(&mut serial)?;
    // Positive, and of one length (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    Ok(())
}

fn generate() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).map_err(failed)
}

fn private_pem(key: &KeyPair) -> SecretBytes {
    SecretBytes::new(key.serialize_pem().into_bytes())
}

fn failed(e: rcgen::Error) -> Error {
    Error::internal("making a certificate").with_source(e)
}
