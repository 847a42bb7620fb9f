//! ML-DSA-65 with ECDSA P-384: `id-MLDSA65-ECDSA-P384-SHA512` of draft-ietf-lamps-pq-composite-sigs, byte for byte.
//!
//! ```text
//! M' = "CompositeAlgorithmSignatures2025" ‖ label ‖ len(ctx): u8 ‖ ctx ‖ SHA-512(M)
//! signature  = ML-DSA-65.Sign(M', ctx = label): 3309 bytes ‖ ECDSA-P384-SHA384.Sign(M'): DER
//! public key = ML-DSA-65: 1952 bytes ‖ uncompressed point: 97 bytes
//! seed       = ξ: 32 bytes ‖ scalar: 48 bytes
//! ```
//! The label in ML-DSA's own context is what keeps a half that was cut out from passing as a signature of its own.

use sha2::{Digest as _, Sha512};

use super::{Provider, Signature, SigningKey, check_context, check_signature_seed, check_verification, malformed};
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// The object identifier of the scheme, in X.509 and CMS.
pub const OID: &str = "1.3.6.1.5.5.7.6.46";
/// The prefix of every composite scheme of the draft.
const PREFIX: &[u8] = b"CompositeAlgorithmSignatures2025";
/// The label of this one.
const LABEL: &[u8] = b"COMPSIG-MLDSA65-ECDSA-P384-SHA512";
const ML_DSA_SIGNATURE_LEN: usize = 3309;

/// Joins an ML-DSA-65 key and an ECDSA P-384 key, each in memory or in a token, to one. Keys of other schemes make one
/// that refuses to sign.
pub fn join(mldsa: Box<dyn SigningKey>, ecdsa: Box<dyn SigningKey>) -> Box<dyn SigningKey> {
    let public_key = [mldsa.public_key(), ecdsa.public_key()].concat();
    Box::new(CompositeKey { public_key, mldsa, ecdsa })
}

/// Both halves from one seed.
pub(super) fn from_seed(provider: &dyn Provider, seed: &SecretBytes) -> Result<Box<dyn SigningKey>> {
    check_signature_seed(Signature::MlDsa65EcdsaP384, seed)?;
    let (xi, scalar) = seed.expose_secret().split_at(Signature::MlDsa65.seed_len());
    let mldsa = provider.signing_key(Signature::MlDsa65, &SecretBytes::new(xi.to_vec()))?;
    let ecdsa = provider.signing_key(Signature::EcdsaP384, &SecretBytes::new(scalar.to_vec()))?;
    Ok(join(mldsa, ecdsa))
}

/// Verifies both halves; it is refused when either is.
pub(super) fn verify(
    provider: &dyn Provider,
    public_key: &[u8],
    context: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<()> {
    check_verification(Signature::MlDsa65EcdsaP384, public_key, context, signature)?;
    let (mldsa_key, ecdsa_key) = public_key.split_at(Signature::MlDsa65.public_key_len());
    let (mldsa, ecdsa) = signature.split_at(ML_DSA_SIGNATURE_LEN);
    let message = representative(context, message)?;
    let mldsa = provider.verify(Signature::MlDsa65, mldsa_key, LABEL, &message, mldsa);
    let ecdsa = provider.verify(Signature::EcdsaP384, ecdsa_key, &[], &message, ecdsa);
    mldsa.and(ecdsa)
}

/// `mldsa.public_key() ‖ ecdsa.public_key()`, and the keys.
struct CompositeKey {
    public_key: Vec<u8>,
    mldsa: Box<dyn SigningKey>,
    ecdsa: Box<dyn SigningKey>,
}

impl SigningKey for CompositeKey {
    fn algorithm(&self) -> Signature {
        Signature::MlDsa65EcdsaP384
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        let halves = (self.mldsa.algorithm(), self.ecdsa.algorithm());
        if halves != (Signature::MlDsa65, Signature::EcdsaP384) {
            return Err(Error::internal(format!("no composite of {} and {}", halves.0, halves.1)));
        }
        let message = representative(context, message)?;
        let mut signature = self.mldsa.sign(LABEL, &message)?;
        if signature.len() != ML_DSA_SIGNATURE_LEN {
            return Err(Error::internal("an ML-DSA signature of the wrong length"));
        }
        signature.extend_from_slice(&self.ecdsa.sign(&[], &message)?);
        Ok(signature)
    }
}

/// `M'`: what both halves sign.
fn representative(context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
    check_context(Signature::MlDsa65EcdsaP384, context)?;
    let len = u8::try_from(context.len()).map_err(|_| malformed("signature context"))?;
    Ok([PREFIX, LABEL, &[len], context, &Sha512::digest(message)].concat())
}
