//! Algorithms, suites and the joint behind which two implementations of each stand. Values in, values out: no I/O,
//! no clock, no configuration.

pub mod algorithm;
pub mod aws_lc;
pub mod composite;
pub mod rustcrypto;
pub mod suite;

use crate::error::{Error, ErrorKind, Result};
use crate::secret::{Secret, SecretBytes};

pub use algorithm::{Kem, Signature};
pub use suite::{Aead, Kdf, SuiteId};

/// Length of an AEAD nonce in bytes, for every AEAD here.
pub const NONCE_LEN: usize = 12;
/// Length of an AEAD tag in bytes, for every AEAD here.
pub const TAG_LEN: usize = 16;
/// Length of an AEAD key in bytes, for every AEAD here.
pub const AEAD_KEY_LEN: usize = 32;
/// Length of a KEM's shared secret in bytes, for every KEM here.
pub const SHARED_SECRET_LEN: usize = 32;
/// Longest context of a signature in bytes (FIPS 204, section 5.2; FIPS 205, section 10.2).
pub const CONTEXT_LEN: usize = 255;

/// One implementation of every algorithm that Strongroom uses.
///
/// Two exist: [`rustcrypto::RustCrypto`], portable and complete, and [`aws_lc::AwsLc`], which takes the fast path where
/// AWS-LC has the algorithm and the portable one elsewhere. They give equal results for equal inputs.
pub trait Provider: Send + Sync {
    /// The name shown in `status` and in bench output.
    fn name(&self) -> &'static str;

    /// A keyed AEAD context: the key schedule is done once, here.
    fn aead(&self, algorithm: Aead, key: &Secret<AEAD_KEY_LEN>) -> Result<Box<dyn AeadKey>>;

    /// HKDF extract (RFC 5869, section 2.2): the pseudorandom key, as long as the hash.
    fn hkdf_extract(&self, kdf: Kdf, salt: &[u8], ikm: &[u8]) -> SecretBytes;

    /// HKDF expand (RFC 5869, section 2.3) into `okm`. Fails when `okm` is longer than 255 hash lengths or `prk` is
    /// shorter than the hash.
    fn hkdf_expand(&self, kdf: Kdf, prk: &SecretBytes, info: &[u8], okm: &mut [u8]) -> Result<()>;

    /// The key pair that `seed` determines, expanded once, here. Its form and length: [`Kem::seed_len`].
    fn kem_key(&self, kem: Kem, seed: &SecretBytes) -> Result<Box<dyn KemKey>>;

    /// Encapsulates to `public_key` with fresh randomness: `(ciphertext, shared secret)`. A key that fails the checks
    /// of FIPS 203, section 7.2, or whose X25519 half is of small order, is refused.
    fn kem_encapsulate(&self, kem: Kem, public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)>;

    /// The key pair that `seed` determines, expanded once, here. Its form and length: [`Signature::seed_len`].
    fn signing_key(&self, algorithm: Signature, seed: &SecretBytes) -> Result<Box<dyn SigningKey>>;

    /// Verifies `signature` over `message` in `context` (see [`SigningKey::sign`]). What cannot be a key or a signature
    /// is malformed; everything else that is wrong is the same [`Denied`](ErrorKind::Denied).
    fn verify(
        &self,
        algorithm: Signature,
        public_key: &[u8],
        context: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<()>;

    /// SHA-256 (FIPS 180-4): digests of embeddings and sealed records.
    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32];

    /// SHA3-512 (FIPS 202).
    fn sha3_512(&self, parts: &[&[u8]]) -> [u8; 64];

    /// A keyed HMAC-SHA-256 context (RFC 2104, FIPS 198-1): blinded names.
    fn mac(&self, key: &Secret<32>) -> Box<dyn MacKey>;
}

/// An AEAD with its key.
pub trait AeadKey: Send + Sync {
    /// Appends `ciphertext ‖ tag` for `plaintext` to `out`. The caller never uses a nonce twice for one key.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<()>;

    /// Opens `ciphertext ‖ tag`. Every failure is the same [`open_failed`].
    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], ciphertext: &[u8]) -> Result<SecretBytes>;
}

/// A key pair of a KEM, ready to decapsulate.
pub trait KemKey: Send + Sync {
    /// The encapsulation key.
    fn public_key(&self) -> &[u8];

    /// Decapsulates `ciphertext`. One of the wrong length, or whose X25519 half is of small order, is refused; a forged
    /// one gives an unrelated secret (implicit rejection, FIPS 203, section 6.3).
    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<SHARED_SECRET_LEN>>;
}

/// Signs: with a key in memory or in a token.
pub trait SigningKey: Send + Sync {
    /// The scheme.
    fn algorithm(&self) -> Signature;

    /// The verification key.
    fn public_key(&self) -> &[u8];

    /// Signs `message`, hedged (FIPS 204, algorithm 2; FIPS 205, algorithm 22; FIPS 186-5, section 6.4). `context` is at
    /// most [`CONTEXT_LEN`] bytes; ECDSA refuses any but the empty one.
    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>>;
}

/// A MAC with its key.
pub trait MacKey: Send + Sync {
    /// The 32-byte tag over the concatenation of `parts`.
    fn tag(&self, parts: &[&[u8]]) -> [u8; 32];
}

/// The provider for production: the fast path where there is one.
pub fn default_provider() -> &'static dyn Provider {
    &aws_lc::AwsLc
}

/// The first half of a MAC tag or digest: what names and registry rows keep of it.
pub(crate) fn first_16(tag: [u8; 32]) -> [u8; 16] {
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = tag;
    first
}

/// The one way in which opening fails, whatever the reason was.
pub fn open_failed() -> Error {
    Error::integrity("a sealed record")
}

/// Refuses a seed that cannot be one of `kem`.
fn check_kem_seed(kem: Kem, seed: &SecretBytes) -> Result<()> {
    if seed.len() == kem.seed_len() { Ok(()) } else { Err(malformed("seed")) }
}

/// Refuses a seed that cannot be one of `algorithm`.
fn check_signature_seed(algorithm: Signature, seed: &SecretBytes) -> Result<()> {
    if seed.len() == algorithm.seed_len() { Ok(()) } else { Err(malformed("seed")) }
}

/// Refuses a context that `algorithm` cannot sign.
pub(crate) fn check_context(algorithm: Signature, context: &[u8]) -> Result<()> {
    let fits = if algorithm.takes_context() { context.len() <= CONTEXT_LEN } else { context.is_empty() };
    if fits { Ok(()) } else { Err(malformed("signature context")) }
}

/// Refuses, before any arithmetic, what cannot be a key, a context or a signature.
fn check_verification(algorithm: Signature, public_key: &[u8], context: &[u8], signature: &[u8]) -> Result<()> {
    check_context(algorithm, context)?;
    if public_key.len() != algorithm.public_key_len() {
        return Err(malformed("verification key"));
    }
    if !algorithm.signature_len().contains(&signature.len()) {
        return Err(malformed("signature"));
    }
    Ok(())
}

/// The one way in which a signature of the right length fails, whatever the reason was.
pub(crate) fn not_verified() -> Error {
    Error::new(ErrorKind::Denied, "the signature does not verify")
}

/// Key material, a ciphertext or a signature of the wrong form.
pub(crate) fn malformed(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed {what}"))
}
