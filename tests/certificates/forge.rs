//! Makes the certificates that the library would not: any field changed, then signed like a good one.

use std::time::Duration;

use ml_dsa::signature::Keypair;
use strongroom::crypto::SigningKey;
use strongroom::keys::certificate::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::der::asn1::{BitString, ObjectIdentifier, OctetString};
use x509_cert::der::{DateTime, Decode as _, Document, Encode};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{DynSignatureAlgorithmIdentifier, EncodePublicKey, SubjectPublicKeyInfoRef};
use x509_cert::time::Validity;
use x509_cert::{AlgorithmIdentifier, SubjectPublicKeyInfo, TbsCertificate};

/// A certificate taken apart.
#[derive(Clone)]
pub struct Forge {
    pub subject: Name,
    pub issuer: Name,
    pub serial: Vec<u8>,
    pub not_before_s: u64,
    pub not_after_s: u64,
    pub spki: SubjectPublicKeyInfo,
    pub extensions: Vec<Extension>,
    pub algorithm: AlgorithmIdentifier,
}

impl Forge {
    pub fn of(certificate: &Certificate) -> Self {
        let parsed = x509_cert::Certificate::from_der(certificate.as_der()).unwrap();
        let tbs = parsed.tbs_certificate();
        Self {
            subject: tbs.subject().clone(),
            issuer: tbs.issuer().clone(),
            serial: tbs.serial_number().as_bytes().to_vec(),
            not_before_s: tbs.validity().not_before.to_unix_duration().as_secs(),
            not_after_s: tbs.validity().not_after.to_unix_duration().as_secs(),
            spki: tbs.subject_public_key_info().clone(),
            extensions: tbs.extensions().unwrap().clone(),
            algorithm: tbs.signature().clone(),
        }
    }

    /// The extension `oid`, which must be there.
    pub fn extension(&mut self, oid: ObjectIdentifier) -> &mut Extension {
        self.extensions.iter_mut().find(|e| e.extn_id == oid).unwrap()
    }

    /// Gives the extension `oid` another value.
    pub fn set(&mut self, oid: ObjectIdentifier, value: &impl Encode) {
        self.extension(oid).extn_value = OctetString::new(value.to_der().unwrap()).unwrap();
    }

    pub fn remove(&mut self, oid: ObjectIdentifier) {
        self.extensions.retain(|e| e.extn_id != oid);
    }

    pub fn add(&mut self, oid: ObjectIdentifier, critical: bool, value: &impl Encode) {
        let extn_value = OctetString::new(value.to_der().unwrap()).unwrap();
        self.extensions.push(Extension { extn_id: oid, critical, extn_value });
    }

    pub fn sign(self, key: &dyn SigningKey) -> Certificate {
        let date = |s| DateTime::from_unix_duration(Duration::from_secs(s)).unwrap();
        let validity = Validity::new(date(self.not_before_s).into(), date(self.not_after_s).into());
        let (serial, spki) = (SerialNumber::new(&self.serial).unwrap(), self.spki.clone());
        let signer = Signer(self.algorithm.clone(), self.spki.clone());
        let mut builder = CertificateBuilder::new(self, serial, validity, spki).unwrap();
        let tbs = builder.finalize(&signer).unwrap();
        let signature = BitString::from_bytes(&key.sign(b"", &tbs).unwrap()).unwrap();
        let made = builder.assemble(signature, &signer).unwrap();
        Certificate::from_der(&made.to_der().unwrap()).unwrap()
    }
}

impl BuilderProfile for Forge {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

struct Signer(AlgorithmIdentifier, SubjectPublicKeyInfo);

#[derive(Clone)]
struct Public(SubjectPublicKeyInfo);

impl Keypair for Signer {
    type VerifyingKey = Public;

    fn verifying_key(&self) -> Public {
        Public(self.1.clone())
    }
}

impl DynSignatureAlgorithmIdentifier for Signer {
    fn signature_algorithm_identifier(&self) -> x509_cert::spki::Result<AlgorithmIdentifier> {
        Ok(self.0.clone())
    }
}

impl EncodePublicKey for Public {
    fn to_public_key_der(&self) -> x509_cert::spki::Result<Document> {
        Ok(Document::try_from(self.0.to_der()?)?)
    }
}
