//! What may be shown of a tenant's rotation.

use serde::Serialize;

use super::job::{Finished, Phase, Retained};
use crate::keys::{EpochRecord, RootKeyRecord};

/// Where a tenant's rotation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotationStatus {
    /// What it is doing.
    pub phase: Phase,
    /// The epoch that seals.
    pub active: EpochRecord,
    /// Epochs that records are still moved from.
    pub from: Vec<EpochRecord>,
    /// Records that the job under way has moved, or the last one.
    pub records: u64,
    /// Their sealed bytes.
    pub bytes: u64,
    /// Records that were there to be moved when this run began.
    pub total: u64,
    /// Records that did not open.
    pub damaged: u64,
    /// When the job under way began: Unix time in milliseconds.
    pub started_at_ms: Option<u64>,
    /// How fast the job under way goes, in percent: less while those who use the store would have to wait for it.
    pub speed_percent: u8,
    /// Epochs that are kept for what was handed out in them, oldest first.
    pub retained: Vec<Retained>,
    /// The tenant's root keys, oldest first, with the epochs that each is kept for.
    pub root_keys: Vec<RootKeyRecord>,
    /// The last rotation that was done.
    pub last: Option<Finished>,
}
