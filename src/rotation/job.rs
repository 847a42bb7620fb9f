//! What is stored of a tenant's rotation: the job under way and how far it came, and the epochs that are kept for what
//! was handed out. One sealed row, replaced whole.

use serde::{Deserialize, Serialize};

use crate::clock::Uptime;
use crate::crypto;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Epoch;
use crate::keys::{Fingerprint, Keyring, Label, Writing};
use crate::kv::{Batch, KvBackend, Table};
use crate::record::{self, Field, Place, StoreKind};
use crate::secret::SecretBytes;

/// The row is replaced, never versioned: it is bound to its tenant.
const ROW_VERSION: u64 = 1;

/// A tenant's rotation, as it is stored.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) job: Option<Job>,
    /// Epochs that nothing stored is sealed in any more, oldest first.
    pub(super) retained: Vec<Kept>,
    pub(super) last: Option<Finished>,
}

/// A rotation that is under way.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) phase: Phase,
    /// The epoch that was active when it was planned.
    pub(super) before: Epoch,
    /// The number of the suite that is to seal; `None` keeps what does.
    pub(super) suite: Option<u16>,
    pub(super) compromised: bool,
    pub(super) discard_damaged: bool,
    pub(super) started_at_ms: u64,
    /// How far it came: everything up to the key of the stage is done.
    pub(super) at: Option<(Stage, Vec<u8>)>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) damaged: u64,
    /// The root key that was active when it was planned, if another is to take its place.
    pub(super) root: Option<Fingerprint>,
}

/// Where a rotation stands. `src/manual/lifecycle.md` draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing is rotated.
    Idle,
    /// It is decided; the new epoch may not be active yet.
    Planned,
    /// The new epoch seals, and records are moved to it.
    Reencrypting,
    /// It is looked for records that are left.
    Verifying,
}

/// What is moved at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Memories of an epoch.
    Memories(Epoch),
    /// Earlier versions of an epoch.
    History(Epoch),
    /// Points of a collection.
    Points([u8; 16]),
}

/// An epoch that is kept for what was handed out in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// The epoch.
    pub epoch: Epoch,
    /// The fingerprint of its encapsulated secret.
    pub fingerprint: Fingerprint,
    /// Since when nothing stored is sealed in it: Unix time in milliseconds.
    pub since_ms: u64,
    /// When it is due to be destroyed, as far as can be told: Unix time in milliseconds.
    pub destroy_at_ms: u64,
    /// Milliseconds until then that nobody has seen pass yet.
    pub left_ms: u64,
}

/// A retained epoch, and when it was looked at how much is left.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) retained: Retained,
    pub(super) seen: Uptime,
}

impl Kept {
    /// Counts the time that has passed. Not by the clock on the wall: whoever sets that ends no retention early, and
    /// keeps no epoch for years. Returns whether it is over.
    pub(super) fn look(&mut self, now_ms: u64, uptime: &Uptime) -> bool {
        let retained = &mut self.retained;
        retained.left_ms = retained.left_ms.saturating_sub(uptime.since(&self.seen));
        retained.destroy_at_ms = now_ms.saturating_add(retained.left_ms);
        self.seen = uptime.clone();
        retained.left_ms == 0
    }
}

/// A rotation that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The epoch that everything was moved to.
    pub epoch: Epoch,
    /// The fingerprint of its encapsulated secret.
    pub fingerprint: Fingerprint,
    /// When it began and when it was done: Unix times in milliseconds.
    pub started_at_ms: u64,
    /// When it was done: Unix time in milliseconds.
    pub finished_at_ms: u64,
    /// Records that were moved.
    pub records: u64,
    /// Their sealed bytes.
    pub bytes: u64,
    /// Records that did not open and were discarded.
    pub damaged: u64,
}

impl Stored {
    /// The row of the tenant with `tag`; an empty one when it was never rotated.
    pub(super) fn read(kv: &dyn KvBackend, keyring: &Keyring, tag: &[u8; 16]) -> Result<Self> {
        let Some(row) = kv.get(Table::Rotation, tag)? else { return Ok(Self::default()) };
        let key = match keyring.sealing(Label::Catalog, record::claimed_epoch(&row)?, b"") {
            // An old backup of it: what was moved then is seen by where it is.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        let plain = key.open(&place(keyring, tag), &row)?;
        postcard::from_bytes(plain.expose_secret()).map_err(|_| crypto::open_failed())
    }

    /// Adds the row to `batch`, sealed in the active epoch.
    pub(super) fn stage(
        &self,
        batch: &mut Batch,
        keyring: &Keyring,
        writing: &Writing<'_>,
        tag: &[u8; 16],
    ) -> Result<()> {
        let plain = postcard::to_stdvec(self).map_err(|e| Error::internal("encoding a rotation").with_source(e))?;
        let key = keyring.sealing(Label::Catalog, writing.epoch(), b"")?;
        let row = key.seal(&place(keyring, tag), SecretBytes::new(plain).expose_secret())?;
        batch.put(Table::Rotation, tag.to_vec(), row);
        Ok(())
    }

    /// Whether the row is sealed in `epoch`.
    pub(super) fn is_sealed_in(kv: &dyn KvBackend, tag: &[u8; 16], epoch: Epoch) -> Result<bool> {
        let row = kv.get(Table::Rotation, tag)?;
        row.map_or(Ok(false), |row| Ok(record::claimed_epoch(&row)? == epoch))
    }
}

fn place<'a>(keyring: &'a Keyring, tag: &'a [u8; 16]) -> Place<'a> {
    Place {
        tenant: keyring.tenant(),
        store: StoreKind::Catalog,
        scope: b"rotation",
        record: tag,
        version: ROW_VERSION,
        field: Field::Rotation,
        embedding: None,
    }
}
