//! Keys that a custody over a real token holds, with what they have to compute.
#![allow(dead_code, reason = "each test uses a part of it")]

use strongroom::crypto::aws_lc::AwsLc;
use strongroom::crypto::{self, Kdf, Kem, Provider as _, Signature};
use strongroom::keys::keystore::custody::{Custody, HeldKey, KeyAlgorithm, KeyPurpose, KeyRole};
use strongroom::keys::keystore::pkcs11::{Pkcs11Custody, TokenConfig, WrappedCustody};

use super::token::pin;

pub fn in_token(token: &TokenConfig) -> Pkcs11Custody {
    Pkcs11Custody::open(token.clone(), pin(), crypto::default_provider()).unwrap()
}

pub fn wrapped(token: &TokenConfig) -> WrappedCustody {
    WrappedCustody::open(token.clone(), pin(), crypto::default_provider()).unwrap()
}

pub fn role(purpose: KeyPurpose) -> KeyRole {
    KeyRole::random("acme".parse().unwrap(), purpose).unwrap()
}

pub fn signing(custody: &dyn Custody, algorithm: Signature) -> (KeyRole, HeldKey) {
    let role = role(KeyPurpose::Signing);
    let key = custody.generate(&role, KeyAlgorithm::Signature(algorithm)).unwrap();
    (role, key)
}

/// A root key and an encapsulation to it, with what it has to derive.
pub struct Root {
    pub role: KeyRole,
    pub key: HeldKey,
    pub ciphertext: Vec<u8>,
    pub expected: [u8; 32],
}

impl Root {
    pub fn new(custody: &dyn Custody) -> Self {
        let role = role(KeyPurpose::Root);
        let key = custody.generate(&role, KeyAlgorithm::MlKem1024).unwrap();
        let (ciphertext, shared) = AwsLc.kem_encapsulate(Kem::MlKem1024, &key.public_key).unwrap();
        let prk = AwsLc.hkdf_extract(Kdf::HkdfSha3_512, b"salt", shared.expose_secret());
        let mut expected = [0; 32];
        AwsLc.hkdf_expand(Kdf::HkdfSha3_512, &prk, b"info", &mut expected).unwrap();
        Self { role, key, ciphertext, expected }
    }

    #[track_caller]
    pub fn check(&self, custody: &dyn Custody) {
        let secret = custody.epoch_secret(&self.role, &self.key, &self.ciphertext, Kdf::HkdfSha3_512, b"salt");
        assert_eq!(*secret.unwrap().derive(b"info").unwrap().expose_secret(), self.expected);
    }
}
