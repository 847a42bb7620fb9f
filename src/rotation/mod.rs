//! Rotation: a tenant gets a new epoch, everything stored moves to it while it is used, and the old epoch is destroyed
//! when what was handed out in it has expired. [`crate::manual::lifecycle`] draws the states.

mod job;
mod pipeline;
mod roots;
mod status;
mod tenant;
mod throttle;
mod window;

pub use job::{Finished, Phase, Retained};
pub(crate) use pipeline::{Load, Mover, Tally};
pub use status::RotationStatus;
pub(crate) use tenant::{Rotating, Tenant};
pub(crate) use throttle::Throttle;
pub use window::Windows;

use crate::crypto::SuiteId;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Epoch;
use crate::keys::Writing;

/// How to rotate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotateOptions {
    /// The suite that seals from now on; `None` keeps it.
    pub suite: Option<SuiteId>,
    /// The tenant gets another root key and certificate first, and the new epoch is that key's. The one before is destroyed
    /// after the last of its epochs.
    pub root_key: bool,
    /// The active epoch's keys may be known to somebody: it is marked as compromised and destroyed as soon as nothing
    /// stored is sealed in it, whatever was handed out.
    pub compromised: bool,
    /// Runs only while a window of the setting `rotation_windows` is open, and waits in between.
    pub in_windows: bool,
    /// Records that do not open are removed. Without this they stay, and the old epoch with them.
    pub discard_damaged: bool,
}

/// Refuses to write what was sealed for an epoch that is not the active one any more.
pub(crate) fn check_epoch(writing: &Writing<'_>, to: Epoch) -> Result<()> {
    if writing.epoch() == to {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "another epoch has become active during the rotation")
        .with_remedy("run `strongroom rotate` again: it moves on to the epoch that is active now"))
}
