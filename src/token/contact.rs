//! Contacts: keys that a holder and a sidecar agree on once, so that a proof costs a MAC and not a signature.
//!
//! ```text
//! holder                                              sidecar
//!   Hello: profile, encapsulation key, nonce  ──────→   encapsulates to the key
//!   decapsulates                              ←──────   Welcome: contact id, ciphertext, end, confirmation
//!   Proof: counter, MAC over token, records   ──────→   each counter once
//! ```
//! Only who has the private half of the key that a token names gets at the keys. The id of the contact is random and the
//! sidecar's, and a counter is good once: that makes a proof fresh. The derivation stands in `schema/token.md`.

use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;

use super::holder::Hello;
use super::ids::{Audience, Digest, HolderId};
use super::records::Membership;
use super::refusal::Refusal;
use super::verify::VerifiedToken;
use crate::crypto::{AeadKey, MacKey, NONCE_LEN, Provider};
use crate::entropy;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::keys::Profile;
use crate::keys::label;
use crate::limits;
use crate::replay::ReplayWindow;
use crate::secret::{Secret, SecretBytes};

pub(super) const CONTACT_ID_LEN: usize = 16;
pub(super) const HELLO_NONCE_LEN: usize = 16;

const LABEL: &[u8] = b"strongroom contact v1";
const PROOF: &[u8] = b"strongroom proof v1";
const OUTPUT: &[u8] = b"strongroom output v1";

/// In which form a holder wants what was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Clear,
    /// Sealed for the holder, under a key of the contact.
    Sealed,
}

/// One record that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its digest.
    pub digest: Digest,
    /// Where it stands in the token's tree, when that has one.
    pub membership: Option<Membership>,
}

/// What a holder asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Some of the token's records, or all.
    pub records: &'a [Asked],
    /// In which form.
    pub form: Form,
}

/// The holder's proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Never used before in this contact.
    pub counter: u64,
    /// Over everything that is asked for.
    pub mac: [u8; 32],
}

/// The sidecar's answer to a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The name of the contact: random.
    pub id: [u8; CONTACT_ID_LEN],
    /// To the holder's key.
    pub ciphertext: Vec<u8>,
    /// When the contact ends: Unix time in milliseconds.
    pub expires_at_ms: u64,
    /// The proof that the sidecar has the same keys.
    pub confirmation: [u8; 32],
}

/// A contact as the sidecar keeps it. Its keys are erased when it is dropped.
pub struct Contact {
    id: [u8; CONTACT_ID_LEN],
    holder: HolderId,
    profile: Profile,
    audience: Audience,
    agreed: Agreed,
    used: Mutex<ReplayWindow>,
    expires_at_ms: u64,
}

/// The proof that a verified token was presented by its holder, just now, for these records of it. Only
/// [`Contact::check`] makes one.
pub struct Authorized {
    pub(super) tenant: TenantId,
    pub(super) records: Vec<Digest>,
    pub(super) token: std::sync::Arc<VerifiedToken>,
}

impl Contact {
    /// Answers a [`Hello`] that came to the sidecar `audience` at `now_ms` (Unix time in milliseconds).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a key that is none of the profile's KEM.
    pub fn accept(
        provider: &'static dyn Provider,
        audience: &Audience,
        hello: &Hello,
        now_ms: u64,
    ) -> Result<(Self, Welcome)> {
        let mut id = [0; CONTACT_ID_LEN];
        entropy::fill(&mut id)?;
        let kem = hello.profile.kem();
        let (ciphertext, shared) = provider.kem_encapsulate(kem, &hello.public_key)?;
        let agreed = Meeting { audience, hello, id: &id, ciphertext: &ciphertext }.agree(provider, &shared)?;
        let expires_at_ms = now_ms.saturating_add(limits::CONTACT_LIFE_MS);
        let welcome = Welcome { id, ciphertext, expires_at_ms, confirmation: agreed.confirmation };
        let contact = Self {
            id,
            holder: HolderId::of(provider, kem, &hello.public_key)?,
            profile: hello.profile,
            audience: audience.clone(),
            agreed,
            used: Mutex::default(),
            expires_at_ms,
        };
        Ok((contact, welcome))
    }

    /// Its name.
    pub fn id(&self) -> &[u8; CONTACT_ID_LEN] {
        &self.id
    }

    /// Whose it is.
    pub fn holder(&self) -> &HolderId {
        &self.holder
    }

    /// When it ends: Unix time in milliseconds.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// Checks that the token is this holder's, that it names what is asked for, and the proof. The proof's counter is
    /// used up by this.
    pub fn check(
        &self,
        provider: &dyn Provider,
        token: &std::sync::Arc<VerifiedToken>,
        ask: Ask<'_>,
        proof: &Proof,
        now_ms: u64,
    ) -> Result<Authorized, Refusal> {
        if now_ms >= self.expires_at_ms {
            return Err(Refusal::Contact);
        }
        let claims = token.claims();
        if claims.audience != self.audience {
            return Err(Refusal::Audience);
        }
        if claims.holder != self.holder || token.profile() != self.profile {
            return Err(Refusal::Holder);
        }
        let mac = self.agreed.proof(&self.id, &self.audience, proof.counter, token.digest(), ask.records, ask.form);
        if !bool::from(mac.ct_eq(&proof.mac)) {
            return Err(Refusal::Proof);
        }
        if !self.used.lock().take(proof.counter) {
            return Err(Refusal::Replay);
        }
        if ask.records.is_empty() || ask.records.len() > limits::REDEEM_RECORDS {
            return Err(Refusal::Record);
        }
        for asked in ask.records {
            claims.records.check(provider, &asked.digest, asked.membership.as_ref())?;
        }
        let records = ask.records.iter().map(|asked| asked.digest).collect();
        Ok(Authorized { tenant: claims.tenant.clone(), records, token: token.clone() })
    }

    /// Seals record number `index` of the answer to the request with `counter` for the holder.
    pub fn seal_output(&self, counter: u64, index: u32, plaintext: &[u8]) -> Result<Vec<u8>> {
        self.agreed.seal_output(&self.id, counter, index, plaintext)
    }
}

/// Everything that the keys of a contact depend on besides the shared secret.
pub(super) struct Meeting<'a> {
    pub(super) audience: &'a Audience,
    pub(super) hello: &'a Hello,
    pub(super) id: &'a [u8; CONTACT_ID_LEN],
    pub(super) ciphertext: &'a [u8],
}

impl Meeting<'_> {
    /// HKDF (RFC 5869) in the hash of the profile's suite.
    pub(super) fn agree(&self, provider: &dyn Provider, shared: &Secret<32>) -> Result<Agreed> {
        let suite = self.hello.profile.suite();
        let transcript = label::parts(&[
            LABEL,
            &[self.hello.profile.as_u8()],
            self.audience.as_str().as_bytes(),
            &self.hello.public_key,
            &self.hello.nonce,
            self.id,
            self.ciphertext,
        ]);
        // HMAC under a public label is a hash of the suite's own kind: CNSA 2.0 has no SHA-3.
        let digest = provider.hkdf_extract(suite.kdf(), LABEL, &transcript);
        let prk = provider.hkdf_extract(suite.kdf(), LABEL, shared.expose_secret());
        let key = |what: &[u8]| {
            let info = label::parts(&[LABEL, what, digest.expose_secret()]);
            Secret::<32>::try_fill(|key| provider.hkdf_expand(suite.kdf(), &prk, &info, key))
        };
        let confirmation = provider.mac(&key(b"confirmation")?).tag(&[LABEL]);
        let (proof, output) = (provider.mac(&key(b"proof")?), provider.aead(suite.aead(), &key(b"output")?)?);
        Ok(Agreed { proof, output, confirmation })
    }
}

/// The keys of a contact.
pub(super) struct Agreed {
    proof: Box<dyn MacKey>,
    output: Box<dyn AeadKey>,
    confirmation: [u8; 32],
}

impl Agreed {
    pub(super) fn check_confirmation(&self, confirmation: &[u8; 32]) -> Result<()> {
        if bool::from(self.confirmation.ct_eq(confirmation)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Denied, "the sidecar has not shown that it is the one that was meant")
            .with_remedy("check the sidecar's name, and make contact again"))
    }

    pub(super) fn proof(
        &self,
        contact: &[u8; CONTACT_ID_LEN],
        audience: &Audience,
        counter: u64,
        token: &[u8; 32],
        records: &[Asked],
        form: Form,
    ) -> [u8; 32] {
        let name = audience.as_str().as_bytes();
        // Everything has a fixed length but the name and the digests, whose lengths stand before them.
        let head = [
            PROOF,
            contact,
            &counter.to_be_bytes(),
            token,
            &[match form {
                Form::Clear => 1,
                Form::Sealed => 2,
            }],
            &(name.len() as u64).to_be_bytes(),
            name,
            &(records.len() as u64).to_be_bytes(),
        ];
        let head_len = head.len();
        let mut parts = Vec::with_capacity(head_len + records.len());
        parts.extend_from_slice(&head);
        parts.extend(records.iter().map(|asked| &asked.digest.as_bytes()[..]));
        self.proof.tag(&parts)
    }

    fn seal_output(&self, id: &[u8; CONTACT_ID_LEN], counter: u64, index: u32, plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(plaintext.len() + crate::crypto::TAG_LEN);
        self.output.seal(&nonce(counter, index), &output_aad(id), plaintext, &mut sealed)?;
        Ok(sealed)
    }

    pub(super) fn open_output(
        &self,
        id: &[u8; CONTACT_ID_LEN],
        counter: u64,
        index: u32,
        sealed: &[u8],
    ) -> Result<SecretBytes> {
        self.output.open(&nonce(counter, index), &output_aad(id), sealed)
    }
}

/// Counter and index: a contact answers each counter once, and each index once in an answer.
fn nonce(counter: u64, index: u32) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    let (head, tail) = nonce.split_at_mut(8);
    head.copy_from_slice(&counter.to_be_bytes());
    tail.copy_from_slice(&index.to_be_bytes());
    nonce
}

fn output_aad(id: &[u8; CONTACT_ID_LEN]) -> Vec<u8> {
    [OUTPUT, id].concat()
}
