//! The key management service: what identified callers may ask of a tenant's keys, without ever holding one.
//!
//! [`Kms`] is the joint: [`LocalKms`] answers from a keystore in this process, the client in [`crate::server`] asks
//! `strongroom kms`. Whoever calls holds a handle that is bound to one [`Caller`]; every operation first turns the
//! caller, the operation and the tenant into a [`Permit`], and cannot go on without.

mod admin;
mod caller;
mod credential;
mod envelope;
mod exchange;
mod handle;
mod local;
mod operations;
mod pool;
mod session;
mod session_files;
mod sessions;
mod signers;
mod tenants;
pub(crate) mod worker;

use serde::{Deserialize, Serialize};

use super::certificate::SignerUse;
use super::keystore::{Destroyed, DestroyedRootKey};
use super::{EpochRecord, Fingerprint, Label, Profile, TenantRecord, VerifiedSigner};
use crate::crypto::{Signature, SuiteId};
use crate::error::Result;
use crate::id::{AgentId, Epoch, SessionId, TenantId};
use crate::secret::Secret;

pub use caller::{Caller, Operation, Permit, Role, Scope};
pub use handle::Handle;
pub use local::{KmsCounts, KmsOptions, LocalKms};
pub use pool::{PoolCounts, PoolOptions};

/// What is signed before every message that a service has signed. A certificate's content begins with the tag of a
/// SEQUENCE: so nobody who may have messages signed can have a certificate signed.
///
/// A context (FIPS 204, section 5.2) would do the same, but takes aws-lc-rs off its fast path.
pub const MESSAGE_PREFIX: &[u8] = b"strongroom message v1\0";

/// What a caller may ask. Every operation on items is a bulk operation; each item fails or succeeds by itself.
///
/// Calls wait: for a token, a disk or the network. Asynchronous callers go through `spawn_blocking`.
///
/// # Errors
///
/// [`Denied`](crate::ErrorKind::Denied) for a tenant outside the caller's scope or an operation its role does not have:
/// the same answer whether the tenant exists or not. [`NotFound`](crate::ErrorKind::NotFound) for a session or an epoch
/// that is gone. [`Unavailable`](crate::ErrorKind::Unavailable) when the token, the service or the pool of session keys
/// cannot answer now: try again.
pub trait Kms: Send + Sync {
    /// What may be shown of a tenant.
    fn describe(&self, tenant: &TenantId) -> Result<TenantRecord>;

    /// Opens a session for an agent: a session key from the pool, and a credential signed by the tenant's key.
    fn open_session(&self, tenant: &TenantId, agent: &AgentId, lifetime_ms: u64) -> Result<Session>;

    /// Ends a session now: its key is erased and its credential is no longer believed.
    fn revoke_session(&self, tenant: &TenantId, session: SessionId) -> Result<()>;

    /// Encapsulates to session keys. The key that comes out is the envelope's, derived from the shared secret.
    fn encapsulate(&self, tenant: &TenantId, to: &[Recipient]) -> Result<Vec<Result<Encapsulated>>>;

    /// Decapsulates with session keys of the tenant. A session key serves one ciphertext, as often as that is repeated.
    fn decapsulate(&self, tenant: &TenantId, items: &[Decapsulation]) -> Result<Vec<Result<Secret<32>>>>;

    /// Signs with the tenant's signing key, in the profile's algorithm: [`MESSAGE_PREFIX`], then the message, in the
    /// empty context.
    fn sign(&self, tenant: &TenantId, messages: &[&[u8]]) -> Result<Vec<Result<Vec<u8>>>>;

    /// Verifies signatures over messages, made by [`sign`](Self::sign) with the tenant's key.
    fn verify(&self, tenant: &TenantId, items: &[Signed<'_>]) -> Result<Vec<Result<()>>>;

    /// Certifies a key that the caller made and keeps: what it signs is the tenant's, until the session that is opened
    /// for it ends. [`SignerUse::Tokens`] is for stores only.
    fn certify_signer(&self, tenant: &TenantId, request: &SignerRequest) -> Result<SignerCredential>;

    /// Whose key stands at the end of `chain` (DER: the tenant's certificate and the signer's), if it leads to this
    /// platform's authority, is for `purpose`, and its session is open. `tenant` is who wants to know; a signer of tokens
    /// or actions must be its own. [`Denied`](crate::ErrorKind::Denied) otherwise.
    fn believe_signer(&self, tenant: &TenantId, purpose: SignerUse, chain: &[Vec<u8>]) -> Result<VerifiedSigner>;

    /// Derives data keys. For stores and sidecars only.
    fn derive_deks(&self, tenant: &TenantId, items: &[DekRequest]) -> Result<Vec<Result<Secret<32>>>>;
}

/// An open session, as its agent sees it. The private half of its key stays in the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// The profile that its algorithms come from.
    pub profile: Profile,
    /// The session key's public half, in the profile's KEM.
    pub public_key: Vec<u8>,
    /// The tenant's certificate and the session's credential, DER.
    pub chain: Vec<Vec<u8>>,
    /// When it ends: Unix time in milliseconds.
    pub expires_at_ms: u64,
}

/// A key that is to be certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerRequest {
    /// The agent or service that holds it.
    pub agent: AgentId,
    /// What it is for.
    pub purpose: SignerUse,
    /// What it signs with.
    pub algorithm: Signature,
    /// Its verification key.
    pub public_key: Vec<u8>,
    /// Its signature over [`signer_proof`](crate::keys::signer_proof), in the empty context.
    pub proof: Vec<u8>,
    /// How long it is to be believed, in milliseconds; less when the policy allows less.
    pub lifetime_ms: u64,
}

/// A certified key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerCredential {
    /// The session that it ends with.
    pub session: SessionId,
    /// The tenant's certificate and the signer's, DER.
    pub chain: Vec<Vec<u8>>,
    /// When it ends: Unix time in milliseconds.
    pub expires_at_ms: u64,
}

/// Whom to encapsulate to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// A session of the same tenant. The service keeps the ciphertext for it until it expires.
    Session(SessionId),
    /// Whoever presents this chain, DER: the tenant's certificate and the session's credential. It must lead to this
    /// platform's authority.
    Credential(Vec<Vec<u8>>),
}

/// What encapsulating gives.
pub struct Encapsulated {
    /// The session it is for.
    pub session: SessionId,
    /// In the KEM of the session's profile.
    pub ciphertext: Vec<u8>,
    /// The envelope's key.
    pub key: Secret<32>,
}

/// A ciphertext to decapsulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decapsulation {
    /// The session whose key it is for.
    pub session: SessionId,
    /// The ciphertext; `None` for the one that the service keeps for the session.
    pub ciphertext: Option<Vec<u8>>,
}

/// A message and its signature.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The message.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

/// A data key to derive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DekRequest {
    /// What for.
    pub label: Label,
    /// In which epoch.
    pub epoch: Epoch,
    /// Within what: see `schema/keys.md`.
    pub scope: Vec<u8>,
}

/// What an administrator may ask: the life of tenants and of their epochs. That a change is begun is in the audit log
/// before it is made, and how it ended before that is revealed.
///
/// # Errors
///
/// As for [`Kms`]; [`Conflict`](crate::ErrorKind::Conflict) where a state does not allow the next;
/// [`Unavailable`](crate::ErrorKind::Unavailable) when the audit log cannot be written: then nothing was changed, unless
/// the log failed in the midst of it.
pub trait KeyAdmin: Send + Sync {
    /// The tenants within the caller's scope, in order.
    fn tenants(&self) -> Result<Vec<TenantId>>;

    /// Makes a tenant with all its keys and its certificate, and opens a first session for `agent` if one is named.
    /// [`Partial`](crate::ErrorKind::Partial) when the tenant was made, but not the session.
    fn onboard(&self, tenant: &TenantId, profile: Profile, agent: Option<&AgentId>) -> Result<Onboarded>;

    /// Makes the next epoch, pre-active. `suite` is what will seal in it; `None` keeps that of the active epoch.
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for one that the tenant's profile does not allow.
    fn create_epoch(&self, tenant: &TenantId, suite: Option<SuiteId>) -> Result<EpochRecord>;

    /// Makes a pre-active epoch the one that seals.
    fn activate_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord>;

    /// Deactivates the active epoch in favour of the latest pre-active one.
    fn deactivate_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord>;

    /// Marks an epoch as compromised; if it is the active one, another takes over.
    fn mark_epoch_compromised(&self, tenant: &TenantId, epoch: Epoch) -> Result<EpochRecord>;

    /// Destroys an epoch: what is still sealed in it never opens again.
    fn destroy_epoch(&self, tenant: &TenantId, epoch: Epoch) -> Result<Destroyed>;

    /// Puts a new root key in the place of the active one, whose fingerprint is `replaces`, with a new certificate. Epochs
    /// stay with the root key that they have. [`Conflict`](crate::ErrorKind::Conflict) when another is active.
    fn rotate_root_key(&self, tenant: &TenantId, replaces: &Fingerprint) -> Result<TenantRecord>;

    /// Destroys a root key, which must have no epoch left: [`Conflict`](crate::ErrorKind::Conflict) otherwise, and for
    /// the active one.
    fn destroy_root_key(&self, tenant: &TenantId, root_key: &Fingerprint) -> Result<DestroyedRootKey>;

    /// Destroys a tenant's keys, all of them, for ever. Returns what they were, by fingerprint. Finishes an interrupted
    /// shredding; of a tenant that is shredded already it is [`NotFound`](crate::ErrorKind::NotFound).
    fn shred(&self, tenant: &TenantId) -> Result<TenantRecord>;

    /// Whether there was a tenant of this id, whose keys are gone.
    fn is_shredded(&self, tenant: &TenantId) -> Result<bool>;

    /// Public keys and certificates of a tenant.
    fn public(&self, tenant: &TenantId) -> Result<PublicTenant>;
}

/// Everything that a caller may ask.
pub trait Keys: Kms + KeyAdmin {}
impl<T: Kms + KeyAdmin> Keys for T {}

/// A tenant that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onboarded {
    /// Its keys, by fingerprint.
    pub record: TenantRecord,
    /// Its first agent's session.
    pub session: Option<Session>,
}

/// What anybody may know of a tenant: the content of the key directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicTenant {
    /// Its keys, by fingerprint.
    pub record: TenantRecord,
    /// The root key's public half: ML-KEM-1024, 1568 bytes.
    pub root_public_key: Vec<u8>,
    /// The verification key, in the profile's algorithm.
    pub signing_public_key: Vec<u8>,
    /// The authority's certificate and the tenant's, DER.
    pub certificates: [Vec<u8>; 2],
}
