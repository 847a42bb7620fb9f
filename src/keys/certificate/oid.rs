//! Object identifiers: which algorithm a name in a certificate means, and the extensions of our own.

use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::malformed;
use crate::crypto::{Kem, Signature};
use crate::error::{Error, Result};

/// The tenant's root public key: a SubjectPublicKeyInfo.
///
/// The arc above it is 9792cf83-e049-4014-84b5-9a8d358b48ac, split into the numbers that Microsoft's rule for private
/// identifiers gives: a UUID as one number (ITU-T X.667, `2.25.…`) is more than many decoders take.
pub const ROOT_KEY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113556.1.8000.2554.38802.53123.57417.16404.33973.10128693.9128108.1");
/// The tenant's profile: a UTF8String.
pub const PROFILE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113556.1.8000.2554.38802.53123.57417.16404.33973.10128693.9128108.2");

/// What a signer's key is for: a UTF8String.
pub const SIGNER_USE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113556.1.8000.2554.38802.53123.57417.16404.33973.10128693.9128108.3");

/// What signs certificates: RFC 9881 (ML-DSA), RFC 9909 (SLH-DSA), draft-ietf-lamps-pq-composite-sigs.
const SIGNATURES: [(Signature, ObjectIdentifier); 4] = [
    (Signature::MlDsa65, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18")),
    (Signature::MlDsa87, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19")),
    (Signature::SlhDsaSha2_192s, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.22")),
    (Signature::MlDsa65EcdsaP384, ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.6.46")),
];

/// What session keys are: RFC 9935 (ML-KEM), draft-connolly-cfrg-xwing-kem (X-Wing).
const KEMS: [(Kem, ObjectIdentifier); 3] = [
    (Kem::MlKem768, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.2")),
    (Kem::MlKem1024, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.3")),
    (Kem::XWing, ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62253.25722")),
];

/// A public key in a certificate, of the length that its algorithm has.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    Signature(Signature, Vec<u8>),
    Kem(Kem, Vec<u8>),
}

impl PublicKey {
    /// Refuses a key of the wrong length.
    pub(super) fn signature(algorithm: Signature, key: &[u8]) -> Result<Self> {
        let key = Self::Signature(algorithm, key.to_vec());
        key.has_its_length().then_some(key).ok_or_else(|| malformed("public key"))
    }

    /// Refuses a key of the wrong length.
    pub(super) fn kem(algorithm: Kem, key: &[u8]) -> Result<Self> {
        let key = Self::Kem(algorithm, key.to_vec());
        key.has_its_length().then_some(key).ok_or_else(|| malformed("public key"))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            PublicKey::Signature(_, key) | PublicKey::Kem(_, key) => key,
        }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            PublicKey::Signature(algorithm, _) => algorithm.as_str(),
            PublicKey::Kem(algorithm, _) => algorithm.as_str(),
        }
    }

    fn has_its_length(&self) -> bool {
        match self {
            PublicKey::Signature(algorithm, key) => key.len() == algorithm.public_key_len(),
            PublicKey::Kem(algorithm, key) => key.len() == algorithm.public_key_len(),
        }
    }

    /// The key as it stands in a certificate.
    pub(super) fn to_spki(&self) -> Result<SubjectPublicKeyInfo> {
        let algorithm = match self {
            PublicKey::Signature(algorithm, _) => signature_id(*algorithm)?,
            PublicKey::Kem(algorithm, _) => bare(oid_of(&KEMS, *algorithm)?),
        };
        let subject_public_key = BitString::from_bytes(self.bytes()).map_err(encoding)?;
        Ok(SubjectPublicKeyInfo { algorithm, subject_public_key })
    }

    /// The inverse of [`PublicKey::to_spki`]: an algorithm that we do not have, a parameter, or a wrong length is refused.
    pub(super) fn from_spki(spki: &SubjectPublicKeyInfo) -> Result<Self> {
        let key = spki.subject_public_key.as_bytes().ok_or_else(|| malformed("public key"))?;
        if spki.algorithm.parameters.is_some() {
            return Err(malformed("algorithm of a public key: parameters must be absent"));
        }
        if let Some(algorithm) = by_oid(&SIGNATURES, spki.algorithm.oid) {
            return Self::signature(algorithm, key);
        }
        match by_oid(&KEMS, spki.algorithm.oid) {
            Some(algorithm) => Self::kem(algorithm, key),
            None => Err(Error::invalid(format!("a public key has the unknown algorithm `{}`", spki.algorithm.oid))),
        }
    }
}

/// The identifier of a signature algorithm, without parameters. Refuses the algorithms that sign no certificates.
pub(super) fn signature_id(algorithm: Signature) -> Result<AlgorithmIdentifier> {
    oid_of(&SIGNATURES, algorithm).map(bare)
}

/// The inverse of [`signature_id`].
pub(super) fn signature_of(id: &AlgorithmIdentifier) -> Result<Signature> {
    match by_oid(&SIGNATURES, id.oid) {
        Some(algorithm) if id.parameters.is_none() => Ok(algorithm),
        Some(_) => Err(malformed("signature algorithm: parameters must be absent")),
        None => Err(Error::invalid(format!("a certificate is signed with the unknown algorithm `{}`", id.oid))),
    }
}

/// A value that our own types cannot encode: a defect.
pub(super) fn encoding(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("a certificate could not be encoded").with_source(e)
}

fn bare(oid: ObjectIdentifier) -> AlgorithmIdentifier {
    AlgorithmIdentifier { oid, parameters: None }
}

fn oid_of<A: Copy + PartialEq>(table: &[(A, ObjectIdentifier)], algorithm: A) -> Result<ObjectIdentifier> {
    let row = table.iter().find(|(a, _)| *a == algorithm);
    row.map(|(_, oid)| *oid).ok_or_else(|| Error::invalid("this algorithm has no place in a certificate"))
}

fn by_oid<A: Copy>(table: &[(A, ObjectIdentifier)], oid: ObjectIdentifier) -> Option<A> {
    table.iter().find(|(_, o)| *o == oid).map(|(a, _)| *a)
}
