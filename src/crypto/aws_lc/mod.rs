//! The fast provider: AWS-LC through `aws-lc-rs` where its safe interface has the algorithm, [`RustCrypto`] elsewhere.

mod aead;
mod kem;
mod signature;
mod x_wing;

use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{self, KeyType};
use aws_lc_rs::{digest, hmac};

use self::aead::Cipher;
use super::rustcrypto::RustCrypto;
use super::{
    AEAD_KEY_LEN, Aead, AeadKey, Kdf, Kem, KemKey, MacKey, Provider, SHARED_SECRET_LEN, Signature, SigningKey,
    malformed,
};
use crate::error::{Error, Result};
use crate::secret::{Secret, SecretBytes};

/// The fast provider, equal in every result to [`RustCrypto`].
pub struct AwsLc;

impl Provider for AwsLc {
    fn name(&self) -> &'static str {
        "aws-lc"
    }

    fn aead(&self, algorithm: Aead, key: &Secret<AEAD_KEY_LEN>) -> Result<Box<dyn AeadKey>> {
        let algorithm = match algorithm {
            Aead::Aes256GcmSiv => &AES_256_GCM_SIV,
            Aead::Aes256Gcm => &AES_256_GCM,
        };
        let key = UnboundKey::new(algorithm, key.expose_secret()).map_err(|_| Error::internal("no AEAD context"))?;
        Ok(Box::new(Cipher(LessSafeKey::new(key))))
    }

    fn hkdf_extract(&self, kdf: Kdf, salt: &[u8], ikm: &[u8]) -> SecretBytes {
        match kdf {
            // aws-lc-rs has neither HKDF nor HMAC over SHA-3.
            Kdf::HkdfSha3_512 => RustCrypto.hkdf_extract(kdf, salt, ikm),
            // `hkdf::Salt::extract` keeps its result to itself; extract *is* this HMAC (RFC 5869, section 2.2).
            Kdf::HkdfSha384 => {
                let mut prk = vec![0; kdf.hash_len()];
                let key = hmac::Key::new(hmac::HMAC_SHA384, salt);
                match hmac::sign_to_buffer(&key, ikm, &mut prk) {
                    Ok(_) => SecretBytes::new(prk),
                    // AWS-LC fails here only when it is out of memory.
                    Err(_) => RustCrypto.hkdf_extract(kdf, salt, ikm),
                }
            }
        }
    }

    fn hkdf_expand(&self, kdf: Kdf, prk: &SecretBytes, info: &[u8], okm: &mut [u8]) -> Result<()> {
        // aws-lc-rs has no HKDF over SHA-3, and panics on a pseudorandom key that is longer than its longest hash.
        if kdf == Kdf::HkdfSha3_512 || prk.len() > digest::MAX_OUTPUT_LEN {
            return RustCrypto.hkdf_expand(kdf, prk, info, okm);
        }
        if prk.len() < kdf.hash_len() {
            return Err(malformed("pseudorandom key"));
        }
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA384, prk.expose_secret());
        let derived = prk.expand(&[info], OkmLen(okm.len())).and_then(|derived| derived.fill(okm));
        derived.map_err(|_| malformed("length of a derived key"))
    }

    fn kem_key(&self, kem: Kem, seed: &SecretBytes) -> Result<Box<dyn KemKey>> {
        kem::key(kem, seed)
    }

    fn kem_encapsulate(&self, kem: Kem, public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)> {
        kem::encapsulate(kem, public_key)
    }

    fn signing_key(&self, algorithm: Signature, seed: &SecretBytes) -> Result<Box<dyn SigningKey>> {
        signature::key(algorithm, seed)
    }

    fn verify(
        &self,
        algorithm: Signature,
        public_key: &[u8],
        context: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        signature::verify(algorithm, public_key, context, message, signature)
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        hash(&digest::SHA256, parts)
    }

    fn sha3_512(&self, parts: &[&[u8]]) -> [u8; 64] {
        hash(&digest::SHA3_512, parts)
    }

    fn mac(&self, key: &Secret<32>) -> Box<dyn MacKey> {
        // Names are short: there the portable one takes two thirds of the time.
        RustCrypto.mac(key)
    }
}

/// The length of an output keying material, as `hkdf::Prk::expand` wants it.
struct OkmLen(usize);

impl KeyType for OkmLen {
    fn len(&self) -> usize {
        self.0
    }
}

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    fixed(context.finish().as_ref())
}

/// A digest as an array. Its length is a constant of the algorithm, named beside every call.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
