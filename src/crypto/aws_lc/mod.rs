//! The fast provider: AWS-LC through `aws-lc-rs` where its safe interface has the algorithm, [`RustCrypto`] elsewhere.

use std::mem;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, KeyType};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, SharedSecret};
use aws_lc_rs::signature::{self, KeyPair as _, PqdsaKeyPair, PqdsaSigningAlgorithm, PqdsaVerificationAlgorithm};
use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use super::rustcrypto::{self, RustCrypto};
use super::{
    AEAD_KEY_LEN, Aead, AeadKey, KEM_SEED_LEN, Kdf, Kem, MacKey, NONCE_LEN, Provider, SHARED_SECRET_LEN,
    SIGNATURE_SEED_LEN, Signature, TAG_LEN, malformed, not_verified, open_failed,
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
            Aead::Aes256GcmSiv => &aead::AES_256_GCM_SIV,
            Aead::Aes256Gcm => &aead::AES_256_GCM,
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

    fn kem_public_key(&self, kem: Kem, seed: &Secret<KEM_SEED_LEN>) -> Result<Vec<u8>> {
        // aws-lc-rs makes ML-KEM key pairs from its own randomness only, not from a seed.
        RustCrypto.kem_public_key(kem, seed)
    }

    fn kem_encapsulate(&self, kem: Kem, public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)> {
        // The length is checked by the first step, the modulus of every coefficient by the second.
        let key = EncapsulationKey::new(kem_algorithm(kem), public_key);
        let key = key.map_err(|_| malformed("encapsulation key"))?;
        let (ciphertext, shared) = key.encapsulate().map_err(|_| malformed("encapsulation key"))?;
        Ok((ciphertext.as_ref().to_vec(), take_shared(&shared)?))
    }

    fn kem_decapsulate(
        &self,
        kem: Kem,
        seed: &Secret<KEM_SEED_LEN>,
        ciphertext: &[u8],
    ) -> Result<Secret<SHARED_SECRET_LEN>> {
        if ciphertext.len() != kem.ciphertext_len() {
            return Err(malformed("ciphertext"));
        }
        // aws-lc-rs imports the expanded decapsulation key only, so the seed is expanded by the portable code.
        let expanded = rustcrypto::expand_kem_seed(kem, seed);
        let key = DecapsulationKey::new(kem_algorithm(kem), expanded.expose_secret());
        let key = key.map_err(|_| Error::internal("no decapsulation key"))?;
        let shared = key.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| malformed("ciphertext"))?;
        take_shared(&shared)
    }

    fn signature_public_key(&self, algorithm: Signature, seed: &Secret<SIGNATURE_SEED_LEN>) -> Result<Vec<u8>> {
        Ok(key_pair(algorithm, seed)?.public_key().as_ref().to_vec())
    }

    fn sign(&self, algorithm: Signature, seed: &Secret<SIGNATURE_SEED_LEN>, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; algorithm.signature_len()];
        let signed = key_pair(algorithm, seed)?.sign(message, &mut signature);
        signed.map_err(|_| Error::internal("signing failed"))?;
        Ok(signature)
    }

    fn verify(&self, algorithm: Signature, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
        if public_key.len() != algorithm.public_key_len() {
            return Err(malformed("verification key"));
        }
        if signature.len() != algorithm.signature_len() {
            return Err(malformed("signature"));
        }
        let key = signature::UnparsedPublicKey::new(signature_algorithm(algorithm).1, public_key);
        key.verify(message, signature).map_err(|_| not_verified())
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

/// An AEAD context, with the key schedule done.
struct Cipher(LessSafeKey);

impl AeadKey for Cipher {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.resize(start + plaintext.len() + TAG_LEN, 0);
        // From buffer to buffer: `out` never holds plaintext, so neither a failure nor a later reallocation leaks any.
        let (ciphertext, tag) = out.split_at_mut(start).1.split_at_mut(plaintext.len());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self.0.seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag);
        sealed.map_err(|_| {
            out.truncate(start);
            Error::internal("sealing failed")
        })
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], ciphertext: &[u8]) -> Result<SecretBytes> {
        let (ciphertext, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or_else(open_failed)?;
        let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut plaintext);
        opened.map_err(|_| open_failed())?;
        Ok(SecretBytes::new(mem::take(&mut *plaintext)))
    }
}

/// The length of an output keying material, as `hkdf::Prk::expand` wants it.
struct OkmLen(usize);

impl KeyType for OkmLen {
    fn len(&self) -> usize {
        self.0
    }
}

fn kem_algorithm(kem: Kem) -> &'static aws_lc_rs::kem::Algorithm {
    match kem {
        Kem::MlKem768 => &aws_lc_rs::kem::ML_KEM_768,
        Kem::MlKem1024 => &aws_lc_rs::kem::ML_KEM_1024,
    }
}

fn signature_algorithm(algorithm: Signature) -> (&'static PqdsaSigningAlgorithm, &'static PqdsaVerificationAlgorithm) {
    match algorithm {
        Signature::MlDsa65 => (&signature::ML_DSA_65_SIGNING, &signature::ML_DSA_65),
        Signature::MlDsa87 => (&signature::ML_DSA_87_SIGNING, &signature::ML_DSA_87),
    }
}

fn key_pair(algorithm: Signature, seed: &Secret<SIGNATURE_SEED_LEN>) -> Result<PqdsaKeyPair> {
    PqdsaKeyPair::from_seed(signature_algorithm(algorithm).0, seed.expose_secret())
        .map_err(|_| Error::internal("no signing key"))
}

fn take_shared(shared: &SharedSecret) -> Result<Secret<SHARED_SECRET_LEN>> {
    Secret::try_fill(|bytes| {
        let shared = shared.as_ref().first_chunk().ok_or_else(|| Error::internal("no shared secret"))?;
        *bytes = *shared;
        Ok(())
    })
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
