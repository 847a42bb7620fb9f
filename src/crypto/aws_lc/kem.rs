//! ML-KEM by AWS-LC.

use aws_lc_rs::kem::{
    Algorithm, Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768, ML_KEM_1024, SharedSecret,
};

use super::x_wing;
use crate::crypto::rustcrypto;
use crate::crypto::{Kem, KemKey, SHARED_SECRET_LEN, check_kem_seed, malformed};
use crate::entropy;
use crate::error::{Error, Result};
use crate::secret::{Secret, SecretBytes};

pub(super) fn key(kem: Kem, seed: &SecretBytes) -> Result<Box<dyn KemKey>> {
    check_kem_seed(kem, seed)?;
    match kem {
        Kem::MlKem768 => Ok(Box::new(MlKemKey::new(kem, &ML_KEM_768, seed)?)),
        Kem::MlKem1024 => Ok(Box::new(MlKemKey::new(kem, &ML_KEM_1024, seed)?)),
        Kem::XWing => Ok(Box::new(x_wing::XWingKey::new(seed)?)),
    }
}

pub(super) fn encapsulate(kem: Kem, public_key: &[u8]) -> Result<(Vec<u8>, Secret<SHARED_SECRET_LEN>)> {
    let algorithm = match kem {
        Kem::MlKem768 => &ML_KEM_768,
        Kem::MlKem1024 => &ML_KEM_1024,
        Kem::XWing => return x_wing::encapsulate(public_key),
    };
    // AWS-LC draws the message from its own generator.
    entropy::check()?;
    // The length is checked by the first step, the modulus of every coefficient by the second.
    let key = EncapsulationKey::new(algorithm, public_key).map_err(|_| malformed("encapsulation key"))?;
    let (ciphertext, shared) = key.encapsulate().map_err(|_| malformed("encapsulation key"))?;
    Ok((ciphertext.as_ref().to_vec(), take_shared(&shared)?))
}

/// An ML-KEM key pair, imported into AWS-LC.
pub(super) struct MlKemKey {
    kem: Kem,
    public_key: Vec<u8>,
    key: DecapsulationKey,
}

impl MlKemKey {
    pub(super) fn new(kem: Kem, algorithm: &'static Algorithm, seed: &SecretBytes) -> Result<Self> {
        // aws-lc-rs takes expanded keys only, so the portable code expands the seed.
        let expanded = rustcrypto::kem::expand_seed(kem, seed)?;
        let no_key = || Error::internal("no decapsulation key");
        let key = DecapsulationKey::new(algorithm, expanded.expose_secret()).map_err(|_| no_key())?;
        // An expanded key ends in `ek ‖ H(ek) ‖ z` (FIPS 203, algorithm 16), which aws-lc-rs does not take out again.
        let (rest, _) = expanded.expose_secret().split_last_chunk::<64>().ok_or_else(no_key)?;
        let public_key = rest.rchunks_exact(kem.public_key_len()).next().ok_or_else(no_key)?.to_vec();
        Ok(Self { kem, public_key, key })
    }
}

impl KemKey for MlKemKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<SHARED_SECRET_LEN>> {
        if ciphertext.len() != self.kem.ciphertext_len() {
            return Err(malformed("ciphertext"));
        }
        let shared = self.key.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| malformed("ciphertext"))?;
        take_shared(&shared)
    }
}

fn take_shared(shared: &SharedSecret) -> Result<Secret<SHARED_SECRET_LEN>> {
    Secret::copy_from(shared.as_ref())
}
