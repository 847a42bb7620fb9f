//! Private keys in memory from seeds, which the keystore keeps in its sealed files, under a passphrase.

use serde::{Deserialize, Serialize};

use super::EpochSecret;
use super::custody::{Custody, CustodyKind, HeldKey, KeyAlgorithm, KeyRole};
use super::records::{open, seal};
use crate::crypto::{Aead, AeadKey, Kdf, Kem, Provider, SigningKey};
use crate::error::{Error, Result};
use crate::keys::Passphrase;
use crate::secret::{Secret, SecretBytes};

/// The cost of opening the keystore: Argon2id (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for KdfCost {
    /// The second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl KdfCost {
    /// For tests only: opens in under a millisecond and resists nothing.
    pub const INSECURE_FAST: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
    /// The most that a header may ask for, so that a forged one cannot exhaust the machine.
    const MOST: KdfCost = KdfCost { memory_kib: 4 << 20, passes: 100, lanes: 64 };

    pub(super) fn check(self) -> Result<()> {
        let sane = self.memory_kib <= Self::MOST.memory_kib
            && self.passes <= Self::MOST.passes
            && self.lanes <= Self::MOST.lanes
            && self.params().is_ok();
        if sane { Ok(()) } else { Err(Error::invalid("the Argon2id parameters are out of range")) }
    }

    fn params(self) -> Result<argon2::Params, argon2::Error> {
        argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
    }
}

/// Private keys in this process's memory, from seeds in the keystore's sealed files.
pub struct FileCustody {
    provider: &'static dyn Provider,
    /// `None` once the master key is open.
    wrapping: Option<Box<dyn AeadKey>>,
}

impl FileCustody {
    /// Derives what wraps the master key from `passphrase`.
    pub fn open(provider: &'static dyn Provider, passphrase: &Passphrase, cost: KdfCost, salt: &[u8]) -> Result<Self> {
        let bad = |e: argon2::Error| Error::integrity("the keystore header").with_source(e.to_string());
        let params = cost.params().map_err(bad)?;
        let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let key =
            Secret::try_fill(|key| argon.hash_password_into(passphrase.expose_secret(), salt, key)).map_err(bad)?;
        Ok(Self { provider, wrapping: Some(provider.aead(Aead::Aes256GcmSiv, &key)?) })
    }
}

impl FileCustody {
    fn wrapping(&self) -> Result<&dyn AeadKey> {
        self.wrapping.as_deref().ok_or_else(|| Error::internal("the passphrase is forgotten already"))
    }
}

impl Custody for FileCustody {
    fn kind(&self) -> CustodyKind {
        CustodyKind::File
    }

    fn generate(&self, _role: &KeyRole, algorithm: KeyAlgorithm) -> Result<HeldKey> {
        let (private, public_key) = match algorithm {
            KeyAlgorithm::MlKem1024 => {
                let seed = random(Kem::MlKem1024.seed_len())?;
                let public_key = self.provider.kem_key(Kem::MlKem1024, &seed)?.public_key().to_vec();
                (seed, public_key)
            }
            KeyAlgorithm::Signature(signature) => {
                let seed = random(signature.seed_len())?;
                let public_key = self.provider.signing_key(signature, &seed)?.public_key().to_vec();
                (seed, public_key)
            }
        };
        Ok(HeldKey { algorithm, public_key, private })
    }

    fn epoch_secret(
        &self,
        _role: &KeyRole,
        key: &HeldKey,
        ciphertext: &[u8],
        kdf: Kdf,
        salt: &[u8],
    ) -> Result<Box<dyn EpochSecret>> {
        let shared = self.provider.kem_key(Kem::MlKem1024, &key.private)?.decapsulate(ciphertext)?;
        Ok(Box::new(ExtractedSecret::new(self.provider, kdf, salt, &shared)))
    }

    fn signer(&self, _role: &KeyRole, key: &HeldKey) -> Result<Box<dyn SigningKey>> {
        match key.algorithm {
            KeyAlgorithm::Signature(signature) => self.provider.signing_key(signature, &key.private),
            KeyAlgorithm::MlKem1024 => Err(Error::internal("a root key does not sign")),
        }
    }

    fn destroy(&self, _role: &KeyRole, _key: &HeldKey) -> Result<()> {
        // The seed is in the record that asks for this, and goes with it.
        Ok(())
    }

    fn end_wrapping(&mut self) {
        self.wrapping = None;
    }

    fn wrap(&self, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        let mut wrapped = Vec::new();
        seal(self.wrapping()?, aad, secret, &mut wrapped)?;
        Ok(wrapped)
    }

    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<SecretBytes> {
        open(self.wrapping()?, aad, wrapped)
    }
}

/// An epoch secret in this process's memory, already extracted (RFC 5869, section 2.2).
pub(super) struct ExtractedSecret {
    provider: &'static dyn Provider,
    kdf: Kdf,
    prk: SecretBytes,
}

impl ExtractedSecret {
    pub(super) fn new(provider: &'static dyn Provider, kdf: Kdf, salt: &[u8], shared: &Secret<32>) -> Self {
        Self { provider, kdf, prk: provider.hkdf_extract(kdf, salt, shared.expose_secret()) }
    }
}

impl EpochSecret for ExtractedSecret {
    fn derive(&self, info: &[u8]) -> Result<Secret<32>> {
        Secret::try_fill(|okm| self.provider.hkdf_expand(self.kdf, &self.prk, info, okm))
    }
}

/// A fresh seed.
pub(super) fn random(len: usize) -> Result<SecretBytes> {
    let mut seed = zeroize::Zeroizing::new(vec![0; len]);
    crate::entropy::fill(&mut seed)?;
    Ok(SecretBytes::new(std::mem::take(&mut *seed)))
}
