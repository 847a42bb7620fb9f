//! ML-DSA and ECDSA by AWS-LC.

use std::sync::OnceLock;

use aws_lc_rs::agreement::{self, ECDH_P384};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, ML_DSA_65, ML_DSA_65_SIGNING,
    ML_DSA_87, ML_DSA_87_SIGNING, ParsedPublicKey, PqdsaKeyPair, PqdsaSigningAlgorithm, PqdsaVerificationAlgorithm,
    UnparsedPublicKey,
};

use super::AwsLc;
use crate::crypto::rustcrypto::RustCrypto;
use crate::crypto::{
    Provider as _, Signature, SigningKey, check_context, check_signature_seed, check_verification, composite,
    malformed, not_verified,
};
use crate::entropy;
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// The tag of an uncompressed point (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

pub(super) fn key(algorithm: Signature, seed: &SecretBytes) -> Result<Box<dyn SigningKey>> {
    check_signature_seed(algorithm, seed)?;
    match algorithm {
        Signature::MlDsa65 => Ok(Box::new(MlDsaKey::new(algorithm, &ML_DSA_65_SIGNING, seed)?)),
        Signature::MlDsa87 => Ok(Box::new(MlDsaKey::new(algorithm, &ML_DSA_87_SIGNING, seed)?)),
        // aws-lc-rs has no SLH-DSA.
        Signature::SlhDsaSha2_128s | Signature::SlhDsaSha2_192s => RustCrypto.signing_key(algorithm, seed),
        Signature::EcdsaP384 => Ok(Box::new(EcdsaKey::new(seed)?)),
        Signature::MlDsa65EcdsaP384 => composite::from_seed(&AwsLc, seed),
    }
}

pub(super) fn verify(
    algorithm: Signature,
    public_key: &[u8],
    context: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<()> {
    check_verification(algorithm, public_key, context, signature)?;
    let ml_dsa: &PqdsaVerificationAlgorithm = match algorithm {
        // aws-lc-rs verifies ML-DSA with an empty context only.
        Signature::MlDsa65 if context.is_empty() => &ML_DSA_65,
        Signature::MlDsa87 if context.is_empty() => &ML_DSA_87,
        Signature::EcdsaP384 => return verify_ecdsa(public_key, message, signature),
        Signature::MlDsa65EcdsaP384 => {
            return composite::verify(&AwsLc, public_key, context, message, signature);
        }
        _ => return RustCrypto.verify(algorithm, public_key, context, message, signature),
    };
    UnparsedPublicKey::new(ml_dsa, public_key).verify(message, signature).map_err(|_| not_verified())
}

/// An ML-DSA key pair, expanded.
struct MlDsaKey {
    algorithm: Signature,
    key: PqdsaKeyPair,
    seed: SecretBytes,
    /// For contexts, which aws-lc-rs does not sign: made by the first one.
    portable: OnceLock<Box<dyn SigningKey>>,
}

impl MlDsaKey {
    fn new(algorithm: Signature, signing: &'static PqdsaSigningAlgorithm, seed: &SecretBytes) -> Result<Self> {
        let key = PqdsaKeyPair::from_seed(signing, seed.expose_secret());
        let key = key.map_err(|_| Error::internal("no signing key"))?;
        let seed = SecretBytes::new(seed.expose_secret().to_vec());
        Ok(Self { algorithm, key, seed, portable: OnceLock::new() })
    }

    fn sign_with_context(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        let portable = match self.portable.get() {
            Some(key) => key,
            None => {
                let key = RustCrypto.signing_key(self.algorithm, &self.seed)?;
                self.portable.get_or_init(|| key)
            }
        };
        portable.sign(context, message)
    }
}

impl SigningKey for MlDsaKey {
    fn algorithm(&self) -> Signature {
        self.algorithm
    }

    fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        check_context(self.algorithm, context)?;
        if !context.is_empty() {
            return self.sign_with_context(context, message);
        }
        // AWS-LC hedges with its own generator.
        entropy::check()?;
        let mut signature = vec![0; self.key.algorithm().signature_len()];
        self.key.sign(message, &mut signature).map_err(|_| Error::internal("signing failed"))?;
        Ok(signature)
    }
}

/// An ECDSA P-384 key pair.
struct EcdsaKey(EcdsaKeyPair);

impl EcdsaKey {
    fn new(seed: &SecretBytes) -> Result<Self> {
        // The public half by way of ECDH, since an ECDSA key is only made of both halves.
        let scalar = agreement::PrivateKey::from_private_key(&ECDH_P384, seed.expose_secret());
        let public = scalar.map_err(|_| malformed("seed"))?.compute_public_key().map_err(|_| malformed("seed"))?;
        let key = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P384_SHA384_ASN1_SIGNING,
            seed.expose_secret(),
            public.as_ref(),
        );
        Ok(Self(key.map_err(|_| malformed("seed"))?))
    }
}

impl SigningKey for EcdsaKey {
    fn algorithm(&self) -> Signature {
        Signature::EcdsaP384
    }

    fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        check_context(Signature::EcdsaP384, context)?;
        // AWS-LC draws the nonce from its own generator, with the key and the digest mixed in.
        entropy::check()?;
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| Error::internal("signing failed"))?;
        Ok(signature.as_ref().to_vec())
    }
}

fn verify_ecdsa(public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    // AWS-LC takes the hybrid form too (tags 6 and 7), which would be another encoding of the same key.
    if public_key.first() != Some(&UNCOMPRESSED) {
        return Err(malformed("verification key"));
    }
    let key = ParsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, public_key).map_err(|_| malformed("verification key"))?;
    key.verify_sig(message, signature).map_err(|_| not_verified())
}
