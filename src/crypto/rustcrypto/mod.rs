//! The portable provider: every algorithm, in Rust, from the RustCrypto crates.
//!
//! It is the reference that the fast path is tested against, and what the fast path falls back on.

use std::mem;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit as _};
use aes_gcm_siv::Aes256GcmSiv;
use getrandom::SysRng;
use hkdf::hmac::{Hmac, Mac, SimpleHmac};
use hkdf::{GenericHkdf, HmacImpl};
use ml_dsa::{
    EncodedSignature, EncodedVerifyingKey, Keypair as _, MlDsa65, MlDsa87, MlDsaParams, SigningKey, VerifyingKey,
};
use ml_kem::kem::{Decapsulate as _, FromSeed as _, KeyExport as _, TryKeyInit as _};
#[expect(deprecated, reason = "see `expand_kem_seed`")]
use ml_kem::{ExpandedKeyEncoding as _, MlKem768, MlKem1024, ml_kem_768, ml_kem_1024};
use sha2::digest::Output;
use sha2::{Digest, Sha256, Sha384};
use sha3::Sha3_512;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    AEAD_KEY_LEN, Aead, AeadKey, KEM_SEED_LEN, Kdf, Kem, MacKey, NONCE_LEN, Provider, SHARED_SECRET_LEN,
    SIGNATURE_SEED_LEN, Signature, TAG_LEN, malformed, not_verified, open_failed,
};
use crate::error::{Error, Result};
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

    fn kem_public_key(&self, kem: Kem, seed: &Secret<KEM_SEED_LEN>) -> Result<Vec<u8>> {
        let seed = seed.expose_secret().into();
        Ok(match kem {
            Kem::MlKem768 => MlKem768::from_seed(seed).1.to_bytes().to_vec(),
            Kem::MlKem1024 => MlKem1024::from_seed(seed).1.to_bytes().to_vec(),
        })
    }

    fn kem_encapsulate(&self, kem: Kem, public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)> {
        // ML-KEM's own randomness, drawn here: the crate's drawing form panics when the operating system gives none.
        let m = Secret::<32>::random()?;
        let m = m.expose_secret().into();
        let bad_key = |_| malformed("encapsulation key");
        Ok(match kem {
            Kem::MlKem768 => {
                let key = ml_kem_768::EncapsulationKey::new_from_slice(public_key).map_err(bad_key)?;
                let (ciphertext, shared) = key.encapsulate_deterministic(m);
                (ciphertext.to_vec(), take_shared(shared))
            }
            Kem::MlKem1024 => {
                let key = ml_kem_1024::EncapsulationKey::new_from_slice(public_key).map_err(bad_key)?;
                let (ciphertext, shared) = key.encapsulate_deterministic(m);
                (ciphertext.to_vec(), take_shared(shared))
            }
        })
    }

    fn kem_decapsulate(
        &self,
        kem: Kem,
        seed: &Secret<KEM_SEED_LEN>,
        ciphertext: &[u8],
    ) -> Result<Secret<SHARED_SECRET_LEN>> {
        let seed = seed.expose_secret().into();
        let shared = match kem {
            Kem::MlKem768 => MlKem768::from_seed(seed).0.decapsulate_slice(ciphertext),
            Kem::MlKem1024 => MlKem1024::from_seed(seed).0.decapsulate_slice(ciphertext),
        };
        shared.map(take_shared).map_err(|_| malformed("ciphertext"))
    }

    fn signature_public_key(&self, algorithm: Signature, seed: &Secret<SIGNATURE_SEED_LEN>) -> Result<Vec<u8>> {
        Ok(match algorithm {
            Signature::MlDsa65 => verification_key::<MlDsa65>(seed),
            Signature::MlDsa87 => verification_key::<MlDsa87>(seed),
        })
    }

    fn sign(&self, algorithm: Signature, seed: &Secret<SIGNATURE_SEED_LEN>, message: &[u8]) -> Result<Vec<u8>> {
        match algorithm {
            Signature::MlDsa65 => sign_hedged::<MlDsa65>(seed, message),
            Signature::MlDsa87 => sign_hedged::<MlDsa87>(seed, message),
        }
    }

    fn verify(&self, algorithm: Signature, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
        match algorithm {
            Signature::MlDsa65 => verify::<MlDsa65>(public_key, message, signature),
            Signature::MlDsa87 => verify::<MlDsa87>(public_key, message, signature),
        }
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

/// An AEAD of the `aead` crate with its key.
struct Cipher<A>(A);

impl<A: AeadInOut<NonceSize = U12, TagSize = U16> + Send + Sync> AeadKey for Cipher<A> {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.reserve(plaintext.len() + TAG_LEN);
        out.resize(start + plaintext.len(), 0);
        // From buffer to buffer: `out` never holds plaintext, so neither a failure nor a later reallocation leaks any.
        let sealed = InOutBuf::new(plaintext, out.split_at_mut(start).1)
            .map_err(|_| aes_gcm::Error)
            .and_then(|buffer| self.0.encrypt_inout_detached(nonce.into(), aad, buffer));
        match sealed {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(_) => {
                out.truncate(start);
                return Err(Error::internal("sealing failed"));
            }
        }
        Ok(())
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], ciphertext: &[u8]) -> Result<SecretBytes> {
        let (ciphertext, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or_else(open_failed)?;
        let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
        let buffer = InOutBuf::new(ciphertext, &mut plaintext).map_err(|_| open_failed())?;
        self.0.decrypt_inout_detached(nonce.into(), aad, buffer, tag.into()).map_err(|_| open_failed())?;
        Ok(SecretBytes::new(mem::take(&mut *plaintext)))
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

/// The FIPS 203 expanded decapsulation key of `seed`, for implementations that cannot take a seed.
#[expect(deprecated, reason = "the expanded form is only ever made in memory, from the seed that is stored")]
pub(super) fn expand_kem_seed(kem: Kem, seed: &Secret<KEM_SEED_LEN>) -> SecretBytes {
    fn take(mut expanded: impl AsMut<[u8]>) -> SecretBytes {
        let secret = SecretBytes::new(expanded.as_mut().to_vec());
        expanded.as_mut().zeroize();
        secret
    }
    let seed = seed.expose_secret().into();
    match kem {
        Kem::MlKem768 => take(MlKem768::from_seed(seed).0.to_expanded_bytes()),
        Kem::MlKem1024 => take(MlKem1024::from_seed(seed).0.to_expanded_bytes()),
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

/// Moves a shared secret to the heap and erases what it leaves behind.
fn take_shared(mut shared: ml_kem::SharedKey) -> Secret<SHARED_SECRET_LEN> {
    let secret = Secret::from_bytes(shared.into());
    shared.as_mut_slice().zeroize();
    secret
}

fn verification_key<P: MlDsaParams>(seed: &Secret<SIGNATURE_SEED_LEN>) -> Vec<u8> {
    SigningKey::<P>::from_seed(seed.expose_secret().into()).verifying_key().encode().to_vec()
}

/// The hedged form (FIPS 204, section 3.4): a fault or a bad random source alone does not give the key away.
fn sign_hedged<P: MlDsaParams>(seed: &Secret<SIGNATURE_SEED_LEN>, message: &[u8]) -> Result<Vec<u8>> {
    let key = SigningKey::<P>::from_seed(seed.expose_secret().into());
    let signature = key.expanded_key().sign_randomized(message, &[], &mut SysRng);
    signature.map(|signature| signature.encode().to_vec()).map_err(|_| Error::internal("signing failed"))
}

fn verify<P: MlDsaParams>(public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    let key = EncodedVerifyingKey::<P>::try_from(public_key).map_err(|_| malformed("verification key"))?;
    let signature = EncodedSignature::<P>::try_from(signature).map_err(|_| malformed("signature"))?;
    let key = VerifyingKey::<P>::decode(&key);
    match ml_dsa::Signature::<P>::decode(&signature) {
        Some(signature) if key.verify_with_context(message, &[], &signature) => Ok(()),
        _ => Err(not_verified()),
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Output<D> {
    let mut hash = D::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize()
}
