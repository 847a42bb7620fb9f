//! ML-DSA, SLH-DSA and ECDSA from the RustCrypto crates. Every signature is hedged: a fault or a bad random source alone
//! does not give the key away (FIPS 204, section 3.4; FIPS 205, section 9.2; RFC 6979, section 3.6).

use ml_dsa::{EncodedSignature, EncodedVerifyingKey, Keypair as _, MlDsa65, MlDsa87, MlDsaParams};
use p384::ecdsa::signature::rand_core::{TryCryptoRng, TryRng};
use p384::ecdsa::signature::{RandomizedSigner as _, Verifier as _};
use slh_dsa::{ParameterSet, Sha2_128s, Sha2_192s};

use super::RustCrypto;
use crate::crypto::{
    Signature, SigningKey, check_context, check_signature_seed, check_verification, composite, malformed, not_verified,
};
use crate::entropy;
use crate::error::{Error, Result};
use crate::secret::{Secret, SecretBytes};

pub(super) fn key(algorithm: Signature, seed: &SecretBytes) -> Result<Box<dyn SigningKey>> {
    check_signature_seed(algorithm, seed)?;
    match algorithm {
        Signature::MlDsa65 => ml_dsa_key::<MlDsa65>(algorithm, seed),
        Signature::MlDsa87 => ml_dsa_key::<MlDsa87>(algorithm, seed),
        Signature::SlhDsaSha2_128s => slh_dsa_key::<Sha2_128s>(algorithm, seed),
        Signature::SlhDsaSha2_192s => slh_dsa_key::<Sha2_192s>(algorithm, seed),
        Signature::EcdsaP384 => {
            let key = p384::ecdsa::SigningKey::from_slice(seed.expose_secret()).map_err(|_| malformed("seed"))?;
            let public_key = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
            Ok(Box::new(EcdsaKey { public_key, key }))
        }
        Signature::MlDsa65EcdsaP384 => composite::from_seed(&RustCrypto, seed),
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
    match algorithm {
        Signature::MlDsa65 => verify_ml_dsa::<MlDsa65>(public_key, context, message, signature),
        Signature::MlDsa87 => verify_ml_dsa::<MlDsa87>(public_key, context, message, signature),
        Signature::SlhDsaSha2_128s => verify_slh_dsa::<Sha2_128s>(public_key, context, message, signature),
        Signature::SlhDsaSha2_192s => verify_slh_dsa::<Sha2_192s>(public_key, context, message, signature),
        Signature::EcdsaP384 => verify_ecdsa(public_key, message, signature),
        Signature::MlDsa65EcdsaP384 => composite::verify(&RustCrypto, public_key, context, message, signature),
    }
}

/// An ML-DSA key pair, expanded.
struct MlDsaKey<P: MlDsaParams> {
    algorithm: Signature,
    public_key: Vec<u8>,
    key: ml_dsa::SigningKey<P>,
}

fn ml_dsa_key<P: MlDsaParams + Send + Sync + 'static>(
    algorithm: Signature,
    seed: &SecretBytes,
) -> Result<Box<dyn SigningKey>> {
    let seed = seed.expose_secret().try_into().map_err(|_| malformed("seed"))?;
    let key = ml_dsa::SigningKey::<P>::from_seed(seed);
    Ok(Box::new(MlDsaKey { algorithm, public_key: key.verifying_key().encode().to_vec(), key }))
}

impl<P: MlDsaParams + Send + Sync> SigningKey for MlDsaKey<P> {
    fn algorithm(&self) -> Signature {
        self.algorithm
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        check_context(self.algorithm, context)?;
        let signature = self.key.expanded_key().sign_randomized(message, context, &mut Random);
        signature.map(|signature| signature.encode().to_vec()).map_err(|_| signing_failed())
    }
}

fn verify_ml_dsa<P: MlDsaParams>(public_key: &[u8], context: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    let key = EncodedVerifyingKey::<P>::try_from(public_key).map_err(|_| malformed("verification key"))?;
    let signature = EncodedSignature::<P>::try_from(signature).map_err(|_| malformed("signature"))?;
    let key = ml_dsa::VerifyingKey::<P>::decode(&key);
    match ml_dsa::Signature::<P>::decode(&signature) {
        Some(signature) if key.verify_with_context(message, context, &signature) => Ok(()),
        _ => Err(not_verified()),
    }
}

/// An SLH-DSA key pair with its root computed.
struct SlhDsaKey<P: ParameterSet> {
    algorithm: Signature,
    public_key: Vec<u8>,
    key: slh_dsa::SigningKey<P>,
}

fn slh_dsa_key<P: ParameterSet + Send + Sync + 'static>(
    algorithm: Signature,
    seed: &SecretBytes,
) -> Result<Box<dyn SigningKey>> {
    let n = algorithm.seed_len() / 3;
    let (sk_seed, rest) = seed.expose_secret().split_at(n);
    let (sk_prf, pk_seed) = rest.split_at(n);
    let key = slh_dsa::SigningKey::<P>::slh_keygen_internal(sk_seed, sk_prf, pk_seed);
    Ok(Box::new(SlhDsaKey { algorithm, public_key: key.as_ref().to_bytes().to_vec(), key }))
}

impl<P: ParameterSet + Send + Sync> SigningKey for SlhDsaKey<P> {
    fn algorithm(&self) -> Signature {
        self.algorithm
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        check_context(self.algorithm, context)?;
        let opt_rand = Secret::<24>::random()?;
        let (opt_rand, _) = opt_rand.expose_secret().split_at(self.algorithm.seed_len() / 3);
        let signature = self.key.try_sign_with_context(message, context, Some(opt_rand));
        signature.map(|signature| signature.to_vec()).map_err(|_| signing_failed())
    }
}

fn verify_slh_dsa<P: ParameterSet>(public_key: &[u8], context: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    let key = slh_dsa::VerifyingKey::<P>::try_from(public_key).map_err(|_| malformed("verification key"))?;
    let signature = slh_dsa::Signature::<P>::try_from(signature).map_err(|_| malformed("signature"))?;
    key.try_verify_with_context(message, context, &signature).map_err(|_| not_verified())
}

/// An ECDSA P-384 key pair.
struct EcdsaKey {
    public_key: Vec<u8>,
    key: p384::ecdsa::SigningKey,
}

impl SigningKey for EcdsaKey {
    fn algorithm(&self) -> Signature {
        Signature::EcdsaP384
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        check_context(Signature::EcdsaP384, context)?;
        let signature = self.key.try_sign_with_rng(&mut Random, message);
        let signature: p384::ecdsa::DerSignature = signature.map_err(|_| signing_failed())?;
        Ok(signature.as_bytes().to_vec())
    }
}

fn verify_ecdsa(public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(public_key).map_err(|_| malformed("verification key"))?;
    let signature = p384::ecdsa::DerSignature::try_from(signature).map_err(|_| not_verified())?;
    key.verify(message, &signature).map_err(|_| not_verified())
}

/// Our own random source in the form that the crates want.
struct Random;

impl TryRng for Random {
    type Error = Error;

    fn try_next_u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<()> {
        entropy::fill(bytes)
    }
}

impl TryCryptoRng for Random {}

/// The crates say only that they failed: the usual reason, no random bytes, is asked for here.
fn signing_failed() -> Error {
    entropy::check().err().unwrap_or_else(|| Error::internal("signing failed"))
}
