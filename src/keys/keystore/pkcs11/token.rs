//! Private keys inside a PKCS#11 3.2 token, which decapsulates, derives and signs with them itself.

use std::sync::Arc;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use zeroize::Zeroize as _;

use super::errors::{Failure, cannot};
use super::lease::Lease;
use super::objects::{Scratch, find_key};
use super::session::Sessions;
use super::signer::TokenSigner;
use super::wrapped::WrappedCustody;
use super::{TokenConfig, hkdf, objects, pairs};
use crate::crypto::{Kdf, Kem, Provider, SHARED_SECRET_LEN, SigningKey};
use crate::error::{Error, Result};
use crate::keys::Passphrase;
use crate::keys::keystore::EpochSecret;
use crate::keys::keystore::custody::{Custody, CustodyKind, HeldKey, KeyAlgorithm, KeyRole};
use crate::secret::{Secret, SecretBytes};

/// What a new pair is tried out with.
const TRIAL: &[u8] = b"strongroom trial of a new key";

/// Keys in a token.
///
/// Root keys are always in it: neither they nor the secrets they decapsulate ever leave; what comes out are the data
/// keys that the token derives from them. A signing key is in it when the token has the algorithm, and otherwise
/// guarded by it as by [`WrappedCustody`].
pub struct Pkcs11Custody {
    sessions: Arc<Sessions>,
    seeds: WrappedCustody,
    kdfs: Vec<Kdf>,
    provider: &'static dyn Provider,
}

impl Pkcs11Custody {
    /// Opens the token and logs in. A token without ML-KEM or HKDF is refused.
    pub fn open(config: TokenConfig, pin: Passphrase, provider: &'static dyn Provider) -> Result<Self> {
        let sessions = Arc::new(Sessions::open(config, pin)?);
        let (module, slot) = sessions.token();
        if !pairs::supports(module, slot, KeyAlgorithm::MlKem1024) {
            return Err(cannot("ML-KEM"));
        }
        let seeds = WrappedCustody::over(Arc::clone(&sessions), provider)?;
        let mut kdfs = vec![Kdf::HkdfSha3_512, Kdf::HkdfSha384];
        kdfs.retain(|kdf| sessions.run("a trial of HKDF", |lease| try_hkdf(lease.session()?, *kdf)).is_ok());
        if kdfs.is_empty() {
            return Err(cannot("HKDF over SHA3-512 or SHA-384"));
        }
        Ok(Self { sessions, seeds, kdfs, provider })
    }

    /// The KDFs that the token has. A suite with another one cannot be used with it.
    pub fn kdfs(&self) -> &[Kdf] {
        &self.kdfs
    }

    /// Whether the private half is in the token, rather than a seed that it wraps.
    fn holds(&self, algorithm: KeyAlgorithm) -> bool {
        let (module, slot) = self.sessions.token();
        algorithm == KeyAlgorithm::MlKem1024 || pairs::supports(module, slot, algorithm)
    }

    fn token_signer(&self, role: &KeyRole, key: &HeldKey) -> Result<TokenSigner> {
        let KeyAlgorithm::Signature(algorithm) = key.algorithm else {
            return Err(Error::invalid("a root key does not sign"));
        };
        let id = objects::id_of(self.provider, role);
        Ok(TokenSigner { sessions: Arc::clone(&self.sessions), id, algorithm, public_key: key.public_key.clone() })
    }

    /// Uses a new pair once, against software: a token that computes something else would lose data.
    fn try_out(&self, role: &KeyRole, key: &HeldKey) -> Result<()> {
        match key.algorithm {
            KeyAlgorithm::MlKem1024 => {
                let (ciphertext, shared) = self.provider.kem_encapsulate(Kem::MlKem1024, &key.public_key)?;
                for kdf in &self.kdfs {
                    let derived = self.epoch_secret(role, key, &ciphertext, *kdf, TRIAL)?.derive(TRIAL)?;
                    let prk = self.provider.hkdf_extract(*kdf, TRIAL, shared.expose_secret());
                    let expected = Secret::try_fill(|okm| self.provider.hkdf_expand(*kdf, &prk, TRIAL, okm))?;
                    if derived != expected {
                        return Err(Error::integrity("what the token derives"));
                    }
                }
                Ok(())
            }
            KeyAlgorithm::Signature(algorithm) => {
                let signature = self.token_signer(role, key)?.sign(&[], TRIAL)?;
                self.provider.verify(algorithm, &key.public_key, &[], TRIAL, &signature)
            }
        }
    }
}

impl Custody for Pkcs11Custody {
    fn kind(&self) -> CustodyKind {
        CustodyKind::Pkcs11
    }

    fn generate(&self, role: &KeyRole, algorithm: KeyAlgorithm) -> Result<HeldKey> {
        if !self.holds(algorithm) {
            return self.seeds.generate(role, algorithm);
        }
        let (id, label) = (objects::id_of(self.provider, role), objects::label_of(role));
        let public_key = self.sessions.run("key generation", |lease| {
            objects::destroy(lease, id)?;
            let made = pairs::generate(lease.session()?, algorithm, id, &label);
            if made.is_err() {
                // The first failure is the one to tell of; the next attempt cleans up again.
                let _ = objects::destroy(lease, id);
            }
            made
        })?;
        let key = HeldKey { algorithm, public_key, private: SecretBytes::new(Vec::new()) };
        if let Err(e) = self.try_out(role, &key) {
            self.destroy(role, &key)?;
            return Err(e);
        }
        Ok(key)
    }

    fn epoch_secret(
        &self,
        role: &KeyRole,
        key: &HeldKey,
        ciphertext: &[u8],
        kdf: Kdf,
        salt: &[u8],
    ) -> Result<Box<dyn EpochSecret>> {
        if key.algorithm != KeyAlgorithm::MlKem1024 {
            return Err(Error::invalid("only a root key decapsulates"));
        }
        // Tokens tell a ciphertext of the wrong length from a broken device badly.
        if ciphertext.len() != Kem::MlKem1024.ciphertext_len() {
            return Err(crate::crypto::malformed("ML-KEM ciphertext"));
        }
        if !self.kdfs.contains(&kdf) {
            return Err(cannot("HKDF over the hash of this suite").with_remedy("choose another suite or token"));
        }
        let id = objects::id_of(self.provider, role);
        self.sessions.run("decapsulation", |lease| find_key(lease, ObjectClass::PRIVATE_KEY, id))?;
        let (sessions, ciphertext, salt) = (Arc::clone(&self.sessions), ciphertext.to_vec(), salt.to_vec());
        Ok(Box::new(InToken { sessions, id, ciphertext, kdf, salt }))
    }

    fn signer(&self, role: &KeyRole, key: &HeldKey) -> Result<Box<dyn SigningKey>> {
        if !key.private.is_empty() {
            return self.seeds.signer(role, key);
        }
        let signer = self.token_signer(role, key)?;
        self.sessions.run("signing", |lease| find_key(lease, ObjectClass::PRIVATE_KEY, signer.id))?;
        Ok(Box::new(signer))
    }

    fn destroy(&self, role: &KeyRole, key: &HeldKey) -> Result<()> {
        self.seeds.destroy(role, key)
    }

    fn wrap(&self, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        self.seeds.wrap(aad, secret)
    }

    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<SecretBytes> {
        self.seeds.unwrap(aad, wrapped)
    }
}

/// An epoch secret that the token makes anew for each derivation, so that a restart of the token costs nothing.
struct InToken {
    sessions: Arc<Sessions>,
    id: [u8; 16],
    ciphertext: Vec<u8>,
    kdf: Kdf,
    salt: Vec<u8>,
}

impl InToken {
    fn derive_in(&self, lease: &Lease<'_>, info: &[u8]) -> Result<Secret<32>, Failure> {
        let session = lease.session()?;
        let root = find_key(lease, ObjectClass::PRIVATE_KEY, self.id)?;
        let shared = session.decapsulate_key(&Mechanism::MlKem, root, &inner_secret(), &self.ciphertext)?;
        let shared = Scratch::new(session, shared);
        derive_out(session, shared.handle(), self.kdf, &self.salt, info)
    }
}

impl EpochSecret for InToken {
    fn derive(&self, info: &[u8]) -> Result<Secret<32>> {
        self.sessions.run("key derivation", |lease| self.derive_in(lease, info))
    }
}

/// A shared secret: of this session only, and only to derive from.
fn inner_secret() -> [Attribute; 8] {
    [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Derive(true),
        Attribute::ValueLen(Ulong::new(SHARED_SECRET_LEN as u64)),
    ]
}

/// Derives 32 bytes from `base` and takes them out of the token.
fn derive_out(
    session: &Session,
    base: ObjectHandle,
    kdf: Kdf,
    salt: &[u8],
    info: &[u8],
) -> Result<Secret<32>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::ValueLen(Ulong::new(32)),
    ];
    let derived = Scratch::new(session, hkdf::derive(session, base, kdf, salt, info, &template)?);
    let mut bytes = objects::value(session, derived.handle(), AttributeType::Value)?;
    let secret = Secret::try_fill(|secret| {
        if bytes.len() != secret.len() {
            return Err(Error::integrity("a key that the token derived"));
        }
        secret.copy_from_slice(&bytes);
        Ok(())
    });
    bytes.zeroize();
    Ok(secret?)
}

/// Whether the token has HKDF over the hash of `kdf`: it cannot be asked, only tried.
fn try_hkdf(session: &Session, kdf: Kdf) -> Result<(), Failure> {
    let mut template = inner_secret().to_vec();
    template.retain(|a| !matches!(a, Attribute::Class(_) | Attribute::KeyType(_)));
    let base = session.generate_key(&Mechanism::GenericSecretKeyGen, &template)?;
    let base = Scratch::new(session, base);
    derive_out(session, base.handle(), kdf, TRIAL, TRIAL).map(drop)
}
