//! What one certificate says by itself: the narrow form of ours, read strictly. Nothing here is verified.

use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::{SubjectPublicKeyInfo, TbsCertificate};

use super::names::Who;
use super::oid::{PROFILE, PublicKey, ROOT_KEY, SIGNER_USE, encoding, signature_of};
use super::{Certificate, SignerUse, malformed};
use crate::crypto::{Kem, Signature};
use crate::error::{Error, Result};
use crate::keys::Profile;

/// The extensions that have a meaning here; any other is ignored, unless it is critical.
const KNOWN: [ObjectIdentifier; 8] = [
    BasicConstraints::OID,
    KeyUsage::OID,
    SubjectKeyIdentifier::OID,
    AuthorityKeyIdentifier::OID,
    SubjectAltName::OID,
    PROFILE,
    ROOT_KEY,
    SIGNER_USE,
];

/// Which of the four it is, with what only that one has.
pub(super) enum Kind {
    Authority,
    Tenant { who: Who, profile: Profile, root_key: Vec<u8> },
    Session { who: Who, profile: Profile },
    Signer { who: Who, profile: Profile, purpose: SignerUse },
}

impl Kind {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Kind::Authority => "authority",
            Kind::Tenant { .. } => "tenant",
            Kind::Session { .. } => "session",
            Kind::Signer { .. } => "signer",
        }
    }
}

/// One certificate of ours.
pub(super) struct Contents<'a> {
    pub(super) tbs: &'a TbsCertificate,
    pub(super) kind: Kind,
    pub(super) key: PublicKey,
    pub(super) key_id: Vec<u8>,
    pub(super) issuer_key_id: Vec<u8>,
    /// What it is signed with.
    pub(super) algorithm: Signature,
    pub(super) signature: &'a [u8],
    /// First and last second of its validity, Unix time.
    pub(super) not_before_s: u64,
    pub(super) not_after_s: u64,
}

impl<'a> Contents<'a> {
    /// Reads `certificate`; whatever is not as the schema says is refused.
    pub(super) fn read(certificate: &'a Certificate) -> Result<Self> {
        let tbs = certificate.parsed.tbs_certificate();
        check_frame(certificate)?;
        let mut extensions = Extensions::of(tbs)?;
        let key_id: SubjectKeyIdentifier = extensions.take(SubjectKeyIdentifier::OID, false)?;
        let issuer_key_id: AuthorityKeyIdentifier = extensions.take(AuthorityKeyIdentifier::OID, false)?;
        if issuer_key_id.authority_cert_issuer.is_some() || issuer_key_id.authority_cert_serial_number.is_some() {
            return Err(malformed("authority key identifier"));
        }
        let issuer_key_id = issuer_key_id.key_identifier.ok_or_else(|| malformed("authority key identifier"))?;
        let key = PublicKey::from_spki(tbs.subject_public_key_info())?;
        let kind = read_kind(&mut extensions, tbs, &key)?;
        extensions.finish()?;
        Ok(Self {
            tbs,
            kind,
            key,
            key_id: key_id.0.as_bytes().to_vec(),
            issuer_key_id: issuer_key_id.as_bytes().to_vec(),
            algorithm: signature_of(certificate.parsed.signature_algorithm())?,
            signature: certificate.parsed.signature().as_bytes().ok_or_else(|| malformed("signature"))?,
            not_before_s: tbs.validity().not_before.to_unix_duration().as_secs(),
            not_after_s: tbs.validity().not_after.to_unix_duration().as_secs(),
        })
    }

    /// The bytes that the signature is over.
    pub(super) fn signed(&self) -> Result<Vec<u8>> {
        self.tbs.to_der().map_err(encoding)
    }
}

/// Version, serial number and the two places of the signature algorithm.
fn check_frame(certificate: &Certificate) -> Result<()> {
    let tbs = certificate.parsed.tbs_certificate();
    if tbs.version() != Version::V3 || tbs.issuer_unique_id().is_some() || tbs.subject_unique_id().is_some() {
        return Err(malformed("certificate: it must be of version 3, without unique identifiers"));
    }
    let serial = tbs.serial_number().as_bytes();
    let positive = serial.first().is_some_and(|first| *first < 0x80) && serial.iter().any(|b| *b != 0);
    if !positive || serial.len() > 20 {
        return Err(malformed("serial number"));
    }
    if tbs.signature() != certificate.parsed.signature_algorithm() {
        return Err(malformed("certificate: it names two signature algorithms"));
    }
    Ok(())
}

fn read_kind(extensions: &mut Extensions<'_>, tbs: &TbsCertificate, key: &PublicKey) -> Result<Kind> {
    let usage: KeyUsage = extensions.take(KeyUsage::OID, true)?;
    let who = match extensions.take_optional::<SubjectAltName>(SubjectAltName::OID, false)? {
        Some(name) => Who::from_alternative(&name)?,
        None => {
            check_ca(extensions, usage, KeyUsages::KeyCertSign.into(), 1)?;
            return Ok(Kind::Authority);
        }
    };
    if *tbs.subject() != who.subject()? {
        return Err(malformed("subject: it is not the one that the alternative name gives"));
    }
    let profile: String = extensions.take(PROFILE, false)?;
    let profile: Profile = profile.parse().map_err(|e: Error| malformed("profile").with_source(e))?;
    match who {
        Who::Tenant(_) => {
            check_ca(extensions, usage, KeyUsages::KeyCertSign | KeyUsages::DigitalSignature, 0)?;
            let root_key: SubjectPublicKeyInfo = extensions.take(ROOT_KEY, false)?;
            match PublicKey::from_spki(&root_key)? {
                PublicKey::Kem(Kem::MlKem1024, root_key) => Ok(Kind::Tenant { who, profile, root_key }),
                _ => Err(malformed("root key: it must be an ML-KEM-1024 key")),
            }
        }
        Who::Session(..) => {
            if let Some(purpose) = extensions.take_optional::<String>(SIGNER_USE, true)? {
                return read_signer(who, profile, usage, key, &purpose);
            }
            if usage.0 != KeyUsages::KeyEncipherment {
                return Err(malformed("key usage of a session credential: it must be key encipherment alone"));
            }
            match key {
                PublicKey::Kem(..) => Ok(Kind::Session { who, profile }),
                PublicKey::Signature(..) => Err(malformed("session credential: its key must be a KEM key")),
            }
        }
    }
}

/// A session that signs: it has a use, and a key for nothing else.
fn read_signer(who: Who, profile: Profile, usage: KeyUsage, key: &PublicKey, purpose: &str) -> Result<Kind> {
    let purpose = purpose.parse().map_err(|e: Error| malformed("use of a signer").with_source(e))?;
    if usage.0 != KeyUsages::DigitalSignature {
        return Err(malformed("key usage of a signer: it must be digital signature alone"));
    }
    match key {
        PublicKey::Signature(..) => Ok(Kind::Signer { who, profile, purpose }),
        PublicKey::Kem(..) => Err(malformed("signer: its key must be one that signs")),
    }
}

/// Whether it may sign certificates, `path_len` levels of issuers below it, and nothing that it should not.
fn check_ca(
    extensions: &mut Extensions<'_>,
    usage: KeyUsage,
    usages: x509_cert::der::flagset::FlagSet<KeyUsages>,
    path_len: u8,
) -> Result<()> {
    let constraints: BasicConstraints = extensions.take(BasicConstraints::OID, true)?;
    if !constraints.ca {
        return Err(malformed("basic constraints: an issuer must be marked as one"));
    }
    if constraints.path_len_constraint != Some(path_len) {
        return Err(malformed("basic constraints: the path length is not the one for this kind of certificate"));
    }
    if usage.0 != usages {
        return Err(malformed("key usage: it is not the one for this kind of certificate"));
    }
    Ok(())
}

/// The extensions that nobody has read yet.
struct Extensions<'a>(Vec<&'a Extension>);

impl<'a> Extensions<'a> {
    fn of(tbs: &'a TbsCertificate) -> Result<Self> {
        let all: Vec<&Extension> = tbs.extensions().map(|all| all.iter().collect()).unwrap_or_default();
        let twice = |(i, e): (usize, &&Extension)| all.iter().skip(i + 1).any(|other| other.extn_id == e.extn_id);
        if all.iter().enumerate().any(twice) {
            return Err(malformed("certificate: it has an extension twice"));
        }
        Ok(Self(all))
    }

    /// Takes out the extension `oid`, if it is there, in its canonical encoding and as `critical` as it must be.
    fn take_optional<T>(&mut self, oid: ObjectIdentifier, critical: bool) -> Result<Option<T>>
    where
        T: for<'b> Decode<'b, Error = x509_cert::der::Error> + Encode,
    {
        let Some(at) = self.0.iter().position(|e| e.extn_id == oid) else { return Ok(None) };
        let extension = self.0.swap_remove(at);
        let bad = || Error::invalid(format!("malformed extension `{oid}`"));
        let bytes = extension.extn_value.as_bytes();
        let value = T::from_der(bytes).map_err(|e| bad().with_source(e))?;
        if extension.critical != critical || value.to_der().ok().as_deref() != Some(bytes) {
            return Err(bad());
        }
        Ok(Some(value))
    }

    /// As [`Extensions::take_optional`], but it must be there.
    fn take<T>(&mut self, oid: ObjectIdentifier, critical: bool) -> Result<T>
    where
        T: for<'b> Decode<'b, Error = x509_cert::der::Error> + Encode,
    {
        self.take_optional(oid, critical)?
            .ok_or_else(|| Error::invalid(format!("a certificate has no extension `{oid}`, which its kind must have")))
    }

    /// Refuses what is left, if it is critical (RFC 5280, section 4.2) or belongs to another kind of certificate.
    fn finish(self) -> Result<()> {
        match self.0.iter().find(|e| e.critical || KNOWN.contains(&e.extn_id)) {
            None => Ok(()),
            Some(e) if e.critical => {
                Err(Error::invalid(format!("a certificate has the unknown critical extension `{}`", e.extn_id)))
            }
            Some(e) => {
                Err(Error::invalid(format!("a certificate has the extension `{}`, which its kind has not", e.extn_id)))
            }
        }
    }
}
