//! The holder's side: a key pair that a token names, the contact that it makes with a sidecar, and its proofs.

use std::sync::atomic::{AtomicU64, Ordering};

use coset::cbor::Value;

use super::contact::{Agreed, Asked, CONTACT_ID_LEN, Form, HELLO_NONCE_LEN, Meeting, Proof, Welcome};
use super::ids::{Audience, HolderId};
use crate::crypto::{Kem, KemKey, Provider};
use crate::entropy;
use crate::error::{Error, Result};
use crate::keys::Profile;
use crate::secret::SecretBytes;

/// Who may have tokens redeemed: the holder of a KEM key of its tenant's profile. The private half is erased when this is
/// dropped.
pub struct Holder {
    provider: &'static dyn Provider,
    profile: Profile,
    key: Box<dyn KemKey>,
}

/// What a holder says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The profile that its key is of.
    pub profile: Profile,
    /// Its encapsulation key, in the profile's KEM.
    pub public_key: Vec<u8>,
    /// Random.
    pub nonce: [u8; HELLO_NONCE_LEN],
}

/// A contact as the holder sees it.
pub struct HolderContact {
    id: [u8; CONTACT_ID_LEN],
    audience: Audience,
    agreed: Agreed,
    counter: AtomicU64,
    expires_at_ms: u64,
}

impl HolderId {
    /// The COSE Key Thumbprint (RFC 9679, section 4) of an encapsulation key: SHA-256 of its COSE_Key with `kty` AKP
    /// (RFC 9964, section 3), `alg` and `pub`, in deterministic CBOR. Its KEM is named by text: none has a number yet.
    pub fn of(provider: &dyn Provider, kem: Kem, public_key: &[u8]) -> Result<Self> {
        const KTY: i64 = 1;
        const ALG: i64 = 3;
        const PUB: i64 = -1;
        const AKP: i64 = 7;
        let key = Value::Map(vec![
            (Value::from(KTY), Value::from(AKP)),
            (Value::from(ALG), Value::Text(kem.as_str().to_owned())),
            (Value::from(PUB), Value::Bytes(public_key.to_vec())),
        ]);
        let mut encoded = Vec::new();
        coset::cbor::ser::into_writer(&key, &mut encoded)
            .map_err(|_| Error::internal("a holder's key cannot be encoded"))?;
        Ok(Self::from(provider.sha256(&[&encoded])))
    }
}

impl Holder {
    /// A holder with a new key.
    pub fn generate(provider: &'static dyn Provider, profile: Profile) -> Result<Self> {
        Self::from_seed(provider, profile, &SecretBytes::random(profile.kem().seed_len())?)
    }

    /// The holder whose key this seed makes, in the profile's KEM.
    pub fn from_seed(provider: &'static dyn Provider, profile: Profile, seed: &SecretBytes) -> Result<Self> {
        Ok(Self { provider, profile, key: provider.kem_key(profile.kem(), seed)? })
    }

    /// What tokens call it.
    pub fn id(&self) -> Result<HolderId> {
        HolderId::of(self.provider, self.profile.kem(), self.key.public_key())
    }

    /// The profile of its key.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The first message of a contact.
    pub fn hello(&self) -> Result<Hello> {
        let mut nonce = [0; HELLO_NONCE_LEN];
        entropy::fill(&mut nonce)?;
        Ok(Hello { profile: self.profile, public_key: self.key.public_key().to_vec(), nonce })
    }

    /// Makes contact: `welcome` must be the answer of the sidecar `audience` to `hello`.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::ErrorKind::Denied) when it is not.
    pub fn meet(&self, audience: &Audience, hello: &Hello, welcome: &Welcome) -> Result<HolderContact> {
        let shared = self.key.decapsulate(&welcome.ciphertext)?;
        let meeting = Meeting { audience, hello, id: &welcome.id, ciphertext: &welcome.ciphertext };
        let agreed = meeting.agree(self.provider, &shared)?;
        agreed.check_confirmation(&welcome.confirmation)?;
        Ok(HolderContact {
            id: welcome.id,
            audience: audience.clone(),
            agreed,
            counter: AtomicU64::new(0),
            expires_at_ms: welcome.expires_at_ms,
        })
    }
}

impl HolderContact {
    /// Its name.
    pub fn id(&self) -> &[u8; CONTACT_ID_LEN] {
        &self.id
    }

    /// When it ends: Unix time in milliseconds, by the sidecar's clock.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// A proof, good once, that the holder of this contact asks for `records` by the token with this digest.
    pub fn prove(&self, token: &[u8; 32], records: &[Asked], form: Form) -> Proof {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        Proof { counter, mac: self.agreed.proof(&self.id, &self.audience, counter, token, records, form) }
    }

    /// Opens record number `index` of the answer to the request with `counter`, sealed for this holder.
    pub fn open_output(&self, counter: u64, index: u32, sealed: &[u8]) -> Result<SecretBytes> {
        self.agreed.open_output(&self.id, counter, index, sealed)
    }
}
