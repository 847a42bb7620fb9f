//! The portable provider: every algorithm, in Rust, from the RustCrypto crates.
//!
//! It is the reference that the fast path is tested against, and what the fast path falls back on.

mod aead;
pub(super) mod kem;
mod signature;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::KeyInit as _;
use aes_gcm_siv::Aes256GcmSiv;
use hkdf::hmac::{Hmac, Mac, SimpleHmac};
use hkdf::{GenericHkdf, HmacImpl};
use sha2::digest::Output;
use sha2::{Digest, Sha256, Sha384};
use sha3::Sha3_512;
use zeroize::{Zeroize as _, Zeroizing};

use self::aead::Cipher;
use super::{
    AEAD_KEY_LEN, Aead, AeadKey, Kdf, Kem, KemKey, MacKey, Provider, SHARED_SECRET_LEN, Signature, SigningKey,
    malformed,
};
use crate::error::Result;
use crate::secret::{Secret, SecretBytes};

/// The portable provider: complete, and equal in every result to [`AwsLc`](super::aws_lc::AwsLc).
pub struct RustCrypto;

impl Provider for RustCrypto {
    fn name(&self) -> &'static str {
        "rustcrypto"
    }

    fn aead(&self, algorithm: Aead, key: &Secret<AEAD_KEY_LEN>) -> Result<Box<dyn AeadKey>> {
        let key = key.expose_secret().into();
        Ok(match algorithm {
            Aead::Aes256GcmSiv => Box::new(Cipher(Aes256GcmSiv::new(key))),
            Aead::Aes256Gcm => Box::new(Cipher(Aes256Gcm::new(key))),
        })
    }

    fn hkdf_extract(&self, kdf: Kdf, salt: &[u8], ikm: &[u8]) -> SecretBytes {
        match kdf {
            Kdf::HkdfSha3_512 => extract::<SimpleHmac<Sha3_512>>(salt, ikm),
            Kdf::HkdfSha384 => extract::<Hmac<Sha384>>(salt, ikm),
        }
    }

    fn hkdf_expand(&self, kdf: Kdf, prk: &SecretBytes, info: &[u8], okm: &mut [u8]) -> Result<()> {
        match kdf {
            Kdf::HkdfSha3_512 => expand::<SimpleHmac<Sha3_512>>(prk, info, okm),
            Kdf::HkdfSha384 => expand::<Hmac<Sha384>>(prk, info, okm),
        }
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
        digest::<Sha256>(parts).into()
    }

    fn sha3_512(&self, parts: &[&[u8]]) -> [u8; 64] {
        digest::<Sha3_512>(parts).into()
    }

    fn mac(&self, key: &Secret<32>) -> Box<dyn MacKey> {
        // HMAC pads a short key with zeros to one block (FIPS 198-1, section 4); doing it here cannot fail.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key.expose_secret());
        Box::new(HmacSha256(Hmac::new((&*block).into())))
    }
}

/// HMAC-SHA-256 with its key absorbed: each tag starts from a copy of this state.
struct HmacSha256(Hmac<Sha256>);

impl MacKey for HmacSha256 {
    fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| Mac::update(&mut mac, part));
        Mac::finalize(mac).into_bytes().into()
    }
}

fn extract<H: HmacImpl>(salt: &[u8], ikm: &[u8]) -> SecretBytes {
    let (mut prk, _) = GenericHkdf::<H>::extract(Some(salt), ikm);
    let secret = SecretBytes::new(prk.to_vec());
    prk.as_mut_slice().zeroize();
    secret
}

fn expand<H: HmacImpl>(prk: &SecretBytes, info: &[u8], okm: &mut [u8]) -> Result<()> {
    let hkdf = GenericHkdf::<H>::from_prk(prk.expose_secret()).map_err(|_| malformed("pseudorandom key"))?;
    hkdf.expand(info, okm).map_err(|_| malformed("length of a derived key"))
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Output<D> {
    let mut hash = D::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize()
}
