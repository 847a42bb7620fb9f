//! Seeds guarded by a token: each sealed under an AES key of its own that cannot leave the token, and used in this
//! process's memory. For tokens without post-quantum mechanisms.

use std::sync::Arc;

use cryptoki::mechanism::MechanismType;
use cryptoki::object::ObjectClass;

use super::session::Sessions;
use super::{TokenConfig, errors, objects, wrapping};
use crate::crypto::{Kdf, Kem, Provider, Signature, SigningKey};
use crate::entropy;
use crate::error::{Error, Result};
use crate::keys::Passphrase;
use crate::keys::keystore::EpochSecret;
use crate::keys::keystore::custody::{Custody, CustodyKind, HeldKey, KeyAlgorithm, KeyRole};
use crate::keys::keystore::file::ExtractedSecret;
use crate::secret::SecretBytes;

const SEED_AAD: &[u8] = b"strongroom wrapped seed v1";
const SECRET_AAD: &[u8] = b"strongroom wrapped secret v1";
/// What the CKA_ID of the key for [`Custody::wrap`] is the digest of.
const WRAPPING_KEY: &[u8] = b"strongroom wrapping key v1";
const WRAPPING_LABEL: &[u8] = b"strongroom wrapping";

/// Seeds wrapped by keys in a token.
///
/// A seed is in this process's memory while it is used: for as long as a [`SigningKey`] lives, and while an epoch
/// secret is decapsulated. Destroying a key destroys the AES key that wrapped its seed, so that no copy of the wrapped
/// seed opens again.
pub struct WrappedCustody {
    sessions: Arc<Sessions>,
    provider: &'static dyn Provider,
}

impl WrappedCustody {
    /// Opens the token and logs in. A token without AES-GCM is refused.
    pub fn open(config: TokenConfig, pin: Passphrase, provider: &'static dyn Provider) -> Result<Self> {
        Self::over(Arc::new(Sessions::open(config, pin)?), provider)
    }

    pub(super) fn over(sessions: Arc<Sessions>, provider: &'static dyn Provider) -> Result<Self> {
        let (module, slot) = sessions.token();
        for mechanism in [MechanismType::AES_KEY_GEN, MechanismType::AES_GCM] {
            if module.get_mechanism_info(slot, mechanism).is_err() {
                return Err(errors::cannot("AES-GCM").with_remedy("use a token with CKM_AES_KEY_GEN and CKM_AES_GCM"));
            }
        }
        Ok(Self { sessions, provider })
    }

    fn wrapping_key_id(&self) -> [u8; 16] {
        crate::crypto::first_16(self.provider.sha256(&[WRAPPING_KEY]))
    }

    fn seed(&self, role: &KeyRole, key: &HeldKey) -> Result<SecretBytes> {
        let id = objects::id_of(self.provider, role);
        let aad = seed_aad(role);
        self.sessions.run("unwrapping", |lease| {
            let wrapping = objects::find_key(lease, ObjectClass::SECRET_KEY, id)?;
            wrapping::open(lease.session()?, wrapping, &aad, key.private.expose_secret())
        })
    }

    fn public_key(&self, algorithm: KeyAlgorithm, seed: &SecretBytes) -> Result<Vec<u8>> {
        Ok(match algorithm {
            KeyAlgorithm::MlKem1024 => self.provider.kem_key(Kem::MlKem1024, seed)?.public_key().to_vec(),
            KeyAlgorithm::Signature(signature) => self.provider.signing_key(signature, seed)?.public_key().to_vec(),
        })
    }
}

impl Custody for WrappedCustody {
    fn kind(&self) -> CustodyKind {
        CustodyKind::Pkcs11Wrapped
    }

    fn generate(&self, role: &KeyRole, algorithm: KeyAlgorithm) -> Result<HeldKey> {
        let seed = random(seed_len(algorithm)?)?;
        let public_key = self.public_key(algorithm, &seed)?;
        let (id, label, aad) = (objects::id_of(self.provider, role), objects::label_of(role), seed_aad(role));
        let private = self.sessions.run("wrapping", |lease| {
            let session = lease.session()?;
            objects::destroy(lease, id)?;
            let sealed = wrapping::make_key(session, id, &label)
                .and_then(|wrapping| wrapping::seal(session, wrapping, &aad, seed.expose_secret()));
            if sealed.is_err() {
                // The first failure is the one to tell of; the next attempt cleans up again.
                let _ = objects::destroy(lease, id);
            }
            sealed
        })?;
        Ok(HeldKey { algorithm, public_key, private: SecretBytes::new(private) })
    }

    fn epoch_secret(
        &self,
        role: &KeyRole,
        key: &HeldKey,
        ciphertext: &[u8],
        kdf: Kdf,
        salt: &[u8],
    ) -> Result<Box<dyn EpochSecret>> {
        let KeyAlgorithm::MlKem1024 = key.algorithm else {
            return Err(Error::invalid("only a root key decapsulates"));
        };
        let root = self.provider.kem_key(Kem::MlKem1024, &self.seed(role, key)?)?;
        check_pair(root.public_key(), key)?;
        let shared = root.decapsulate(ciphertext)?;
        Ok(Box::new(ExtractedSecret::new(self.provider, kdf, salt, &shared)))
    }

    fn signer(&self, role: &KeyRole, key: &HeldKey) -> Result<Box<dyn SigningKey>> {
        let KeyAlgorithm::Signature(algorithm) = key.algorithm else {
            return Err(Error::invalid("a root key does not sign"));
        };
        let signer = self.provider.signing_key(algorithm, &self.seed(role, key)?)?;
        check_pair(signer.public_key(), key)?;
        Ok(signer)
    }

    fn destroy(&self, role: &KeyRole, _key: &HeldKey) -> Result<()> {
        let id = objects::id_of(self.provider, role);
        self.sessions.run("destruction", |lease| objects::destroy(lease, id))
    }

    fn wrap(&self, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        let (id, aad) = (self.wrapping_key_id(), [SECRET_AAD, aad].concat());
        self.sessions.run("wrapping", |lease| {
            let session = lease.session()?;
            let key = match objects::find_guarded(session, ObjectClass::SECRET_KEY, id)?.first() {
                Some(key) => objects::check_locked_in(session, *key).map(|()| *key)?,
                None => wrapping::make_key(session, id, WRAPPING_LABEL)?,
            };
            wrapping::seal(session, key, &aad, secret)
        })
    }

    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<SecretBytes> {
        let (id, aad) = (self.wrapping_key_id(), [SECRET_AAD, aad].concat());
        self.sessions.run("unwrapping", |lease| {
            let session = lease.session()?;
            let mut outcome = Err(errors::no_key().into());
            // Two processes that made the first key at the same time left two: the tag tells which one it was.
            for key in objects::find_guarded(session, ObjectClass::SECRET_KEY, id)? {
                outcome = wrapping::open(session, key, &aad, wrapped);
                if outcome.is_ok() {
                    break;
                }
            }
            outcome
        })
    }
}

fn seed_aad(role: &KeyRole) -> Vec<u8> {
    [SEED_AAD, &role.bytes()].concat()
}

fn seed_len(algorithm: KeyAlgorithm) -> Result<usize> {
    match algorithm {
        KeyAlgorithm::MlKem1024 => Ok(Kem::MlKem1024.seed_len()),
        KeyAlgorithm::Signature(Signature::MlDsa65EcdsaP384) => Err(errors::composite()),
        KeyAlgorithm::Signature(signature) => Ok(signature.seed_len()),
    }
}

fn random(len: usize) -> Result<SecretBytes> {
    let mut seed = vec![0; len];
    entropy::fill(&mut seed)?;
    Ok(SecretBytes::new(seed))
}

/// Refuses a seed that is not of the public key it is kept with.
fn check_pair(public_key: &[u8], key: &HeldKey) -> Result<()> {
    if public_key == key.public_key { Ok(()) } else { Err(Error::integrity("a wrapped key")) }
}
