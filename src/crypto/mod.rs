//! Algorithms, suites and the joint behind which two implementations of each stand. Values in, values out: no I/O,
//! no clock, no configuration.

pub mod aws_lc;
pub mod rustcrypto;
pub mod suite;

use crate::error::{Error, ErrorKind, Result};
use crate::secret::{Secret, SecretBytes};

pub use suite::{Aead, Kdf, Kem, Signature, SuiteId};

/// Length of an AEAD nonce in bytes, for every AEAD here.
pub const NONCE_LEN: usize = 12;
/// Length of an AEAD tag in bytes, for every AEAD here.
pub const TAG_LEN: usize = 16;
/// Length of an AEAD key in bytes, for every AEAD here.
pub const AEAD_KEY_LEN: usize = 32;
/// Length of an ML-KEM seed `d ‖ z` in bytes (FIPS 203, section 7.1).
pub const KEM_SEED_LEN: usize = 64;
/// Length of an ML-KEM shared secret in bytes (FIPS 203, section 8).
pub const SHARED_SECRET_LEN: usize = 32;
/// Length of an ML-DSA seed `ξ` in bytes (FIPS 204, section 5.1).
pub const SIGNATURE_SEED_LEN: usize = 32;

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

    /// The encapsulation key of the pair that `seed` (`d ‖ z`) determines (FIPS 203, algorithm 16).
    fn kem_public_key(&self, kem: Kem, seed: &Secret<KEM_SEED_LEN>) -> Result<Vec<u8>>;

    /// Encapsulates to `public_key` with fresh randomness: `(ciphertext, shared secret)`. A key that fails the checks
    /// of FIPS 203, section 7.2 is refused.
    fn kem_encapsulate(&self, kem: Kem, public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)>;

    /// Decapsulates `ciphertext` under the key that `seed` determines. A ciphertext of the wrong length is refused; a
    /// forged one gives an unrelated secret (implicit rejection, FIPS 203, section 6.3).
    fn kem_decapsulate(
        &self,
        kem: Kem,
        seed: &Secret<KEM_SEED_LEN>,
        ciphertext: &[u8],
    ) -> Result<Secret<SHARED_SECRET_LEN>>;

    /// The verification key of the pair that `seed` (`ξ`) determines (FIPS 204, algorithm 6).
    fn signature_public_key(&self, algorithm: Signature, seed: &Secret<SIGNATURE_SEED_LEN>) -> Result<Vec<u8>>;

    /// Signs `message` with an empty context (FIPS 204, algorithm 2).
    fn sign(&self, algorithm: Signature, seed: &Secret<SIGNATURE_SEED_LEN>, message: &[u8]) -> Result<Vec<u8>>;

    /// Verifies `signature` over `message` with an empty context (FIPS 204, algorithm 3). A key or a signature of the
    /// wrong length is malformed; everything else that is wrong is the same [`Denied`](ErrorKind::Denied).
    fn verify(&self, algorithm: Signature, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<()>;

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

/// The one way in which a signature of the right length fails, whatever the reason was.
pub(crate) fn not_verified() -> Error {
    Error::new(ErrorKind::Denied, "the signature does not verify")
}

/// Key material, a ciphertext or a signature of the wrong form.
pub(crate) fn malformed(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed {what}"))
}
