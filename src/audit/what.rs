//! What an event says happened, and the words that it says it with.

use serde::{Deserialize, Serialize};

use crate::envelope;
use crate::id::Epoch;
use crate::keys::certificate::SignerUse;
use crate::keys::{EpochState, Fingerprint, Profile};
use crate::token::Refusal;
use crate::vectors::Mode;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum What {
    /// A request was refused.
    Refused {
        /// Why.
        reason: Reason,
    },
    /// A tenant was made.
    TenantOnboarded {
        /// Its profile.
        profile: Profile,
        /// Its root key, signing key and certificate, by fingerprint; empty when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// All keys of a tenant were destroyed.
    TenantShredded {
        /// Its root key, signing key and certificate, by fingerprint; empty when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// An epoch got a state.
    EpochMoved {
        /// Which; none when it was to be made and was not.
        epoch: Option<Epoch>,
        /// The state that it was to have.
        state: EpochState,
        /// Its encapsulated secret, by fingerprint; empty when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// A tenant got another root key.
    RootKeyRotated {
        /// The one before, the new one and its certificate, by fingerprint; only the one before when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// A root key was destroyed that was not active any more.
    RootKeyDestroyed {
        /// That one and the active one, by fingerprint; only that one when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// A session was opened.
    SessionOpened {
        /// Its name.
        session: String,
    },
    /// A key was certified that signs for the tenant.
    SignerCertified {
        /// The session that it ends with.
        session: String,
        /// What it is for.
        purpose: SignerUse,
        /// The key, by fingerprint.
        fingerprints: Vec<Fingerprint>,
    },
    /// Records were opened for the holder of a token.
    Redeemed {
        /// The token's id.
        token: String,
        /// The holder.
        holder: String,
        /// How many records.
        records: u32,
        /// SHA-256 over their digests.
        digest: String,
    },
    /// An agent refused an envelope.
    EnvelopeRefused {
        /// Why.
        reason: envelope::Refusal,
    },
    /// A redeem was refused.
    RedeemRefused {
        /// Why.
        reason: Refusal,
    },
    /// Tokens were revoked.
    TokensRevoked {
        /// `token`, `holder` or `tenant`.
        kind: &'static str,
        /// Which: a token's id, a holder, or a tenant's pseudonym.
        id: String,
    },
    /// A revocation was taken back.
    RevocationLifted {
        /// `token`, `holder` or `tenant`.
        kind: &'static str,
        /// Which: a token's id, a holder, or a tenant's pseudonym.
        id: String,
    },
    /// A session was revoked.
    SessionRevoked {
        /// Its name.
        session: String,
    },
    /// A service connected over TLS.
    PeerConnected {
        /// The key exchange.
        group: String,
        /// SHA-256 of its certificate.
        certificate: String,
    },
    /// A peer was refused because its key exchange is classical and it is no exception.
    ClassicalRefused {
        /// The key exchanges that it offered.
        groups: String,
    },
    /// A process began to work.
    Started {
        /// Its version.
        program: String,
        /// SHA-256 of its configuration.
        configuration: String,
        /// Whether that is another than at the start before; none when no start before is known.
        changed: Option<bool>,
    },
    /// A process ended in good order.
    Stopped,
    /// The keystore itself was changed or copied.
    KeystoreChanged {
        /// `passphrase` or `backup`.
        change: &'static str,
    },
    /// A tenant's public keys and certificates were given out.
    CertificatesExported {
        /// Its certificate, by fingerprint; empty when it failed.
        fingerprints: Vec<Fingerprint>,
    },
    /// A token was minted.
    TokenMinted {
        /// Its id.
        token: String,
        /// Who may have it redeemed.
        holder: String,
        /// How often.
        uses: u32,
        /// How many records it is for.
        records: u32,
        /// SHA-256 over their digests.
        digest: String,
    },
    /// Records were opened and given to the caller.
    Read {
        /// How they were asked for.
        access: Access,
        /// The collection's id; none for memories.
        place: Option<String>,
        /// How many.
        records: u64,
        /// Bytes that were opened.
        bytes: u64,
        /// SHA-256 over their blinded ids, in order.
        digest: String,
    },
    /// Records were written or deleted.
    Written {
        /// How.
        write: WriteKind,
        /// The collection's id; none for memories.
        place: Option<String>,
        /// How many.
        records: u64,
        /// SHA-256 over their blinded ids, in order.
        digest: String,
    },
    /// Memories of whole namespaces were deleted.
    NamespacesForgotten {
        /// SHA-256 over the blinded labels that the namespaces begin with.
        place: String,
        /// How many memories; none before it is done.
        records: Option<u64>,
    },
    /// A collection was made, dropped, moved to another engine or described anew.
    CollectionChanged {
        /// Which of these.
        change: CollectionChange,
        /// Its id; none before it is made.
        place: Option<String>,
        /// Its mode; none of one that is not made.
        mode: Option<Mode>,
    },
    /// An API key of the Qdrant-compatible endpoint is good from now on, no more, or for something else.
    ApiKeyChanged {
        /// Which of these.
        change: KeyChange,
        /// Its name: its calls stand under `apikey-` and this.
        key: String,
        /// What it may: `read`, `write`, `manage` or `metrics`.
        grants: &'static str,
        /// How many collections it is for; 0 is all.
        collections: u64,
        /// Until when it is good: Unix time in milliseconds; 0 is until it is revoked.
        expires_at_ms: u64,
    },
    /// Stored bytes did not open.
    OpenFailed {
        /// What they should have been.
        record: RecordType,
        /// The collection's id; none for memories.
        place: Option<String>,
        /// The record's blinded id; none when it is not known which of several it was.
        id: Option<String>,
    },
    /// Signatures were checked and found bad.
    SignaturesRefused {
        /// How many in one request.
        signatures: u32,
    },
    /// A rotation has come so far.
    Rotation {
        /// How far.
        step: RotationStep,
        /// The epochs that records are moved from, or that were destroyed, by fingerprint.
        from: Vec<Fingerprint>,
        /// The epoch that seals, by fingerprint.
        to: Vec<Fingerprint>,
        /// The suite that sealed before and the one that seals now; empty while they are the same.
        suites: Vec<String>,
        /// Records moved.
        records: u64,
    },
    /// A backup was made.
    BackupMade {
        /// Its number; none before it is made.
        number: Option<u32>,
        /// Points in it.
        records: u64,
    },
    /// A data directory was made of a backup.
    BackupRestored {
        /// The backup's number; none before that is known.
        number: Option<u32>,
        /// Points in it.
        records: u64,
    },
    /// What a shredded tenant had stored was removed.
    DataRemoved,
    /// A health test of the random source failed.
    HealthTestFailed {
        /// How many have failed in this process.
        failures: u64,
    },
    /// The log is still written: so a gap in it shows.
    Heartbeat {
        /// Events since the one before, those that were refused included.
        events: u64,
    },
    /// An agent's own account of what it did, signed by it.
    AgentAction {
        /// The action's id.
        action: String,
        /// The action that it followed from.
        parent: Option<String>,
        /// When, as the agent says: Unix time in milliseconds.
        acted_at_ms: u64,
        /// SHA-256 of the signer's credential.
        signer: String,
        /// SHA-256 of the record that was signed.
        digest: String,
        /// The signature, in base64.
        signature: String,
    },
    /// An action record was not taken in.
    ActionRefused {
        /// Why.
        reason: super::actions::Refusal,
    },
    /// A tenant's reads were paused.
    BreakerTripped {
        /// `operator`, or the rule that did it.
        cause: String,
    },
    /// A tenant's reads go on.
    BreakerReleased,
    /// The log was begun: its first entry.
    LogBegun {
        /// Its name, which its checkpoints have.
        origin: String,
    },
    /// A service began to write the log.
    LogOpened {
        /// How many entries it had.
        entries: u64,
    },
    /// A service that wrote the log ended in good order.
    LogClosed,
    /// Old entries are to be removed, or were.
    LogPruned {
        /// The first.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// A checkpoint could not be published. It is tried again; only the first attempt in a row is recorded.
    CheckpointFailed,
    /// Events could not be written, and what they were about went on.
    EventsLost {
        /// How many.
        count: u64,
    },
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The tenant is outside the service's scope.
    Scope,
    /// The service's role may not.
    Role,
    /// The session key has served another ciphertext.
    SingleUse,
    /// The presented credential is not believed.
    Credential,
    /// The two tenants have no profile in common.
    Profile,
    /// Nobody knows the peer.
    Peer,
}

/// How records were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// The nearest chunks.
    Search,
    /// Chunks by id.
    Get,
    /// Chunks page by page.
    Scroll,
    /// Memories that fit.
    Recall,
    /// Memories by namespace.
    List,
    /// The versions of a memory.
    History,
    /// Single memories by key, many together.
    Lookup,
    /// A sealed chunk, for a sidecar. It stays sealed.
    Fetch,
    /// The names of namespaces.
    Namespaces,
}

/// How records were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteKind {
    /// Chunks written.
    Ingest,
    /// Chunks deleted.
    Delete,
    /// A memory written.
    Remember,
    /// A memory written that was there.
    Update,
    /// A memory deleted.
    Forget,
    /// A memory deleted with its history.
    Purge,
    /// Memories written and deleted together.
    Batch,
}

/// What became of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollectionChange {
    /// It was made.
    Made,
    /// It was dropped, with everything in it.
    Dropped,
    /// A field was declared for filters, or is not any more.
    Indexed,
    /// It moved to another engine, or to another placement.
    Moved,
    /// Its embeddings are protected by another mode.
    ModeChanged,
    /// Aliases, declared fields or metadata of a tenant's collections were changed.
    Noted,
}

/// What became of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyChange {
    /// It is good from now on.
    Added,
    /// It is another: for something else, or until another time.
    Changed,
    /// It is good no more.
    Removed,
}

/// A kind of stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordType {
    /// A chunk, its vector or its payload.
    Chunk,
    /// A memory.
    Memory,
    /// Something else of a tenant: the description of a collection, the state of a rotation.
    Catalog,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationStep {
    /// It is written down that it is to happen.
    Planned,
    /// Another epoch seals, and records are moved to it.
    Reencrypting,
    /// Everything was looked at, and nothing is left in the old epochs.
    Verified,
    /// The old epochs are kept for what was handed out in them.
    Retained,
    /// An epoch was destroyed.
    Destroyed,
    /// It stopped with an error.
    Failed,
}

impl What {
    /// Whether it says that bytes that were opened leave the store.
    pub fn is_read(&self) -> bool {
        matches!(self, What::Read { .. } | What::Redeemed { .. })
    }
}
