//! Retention: old entries go, their hashes stay, and the log itself says which entries went.

use serde::{Deserialize, Serialize};

use super::Shared;
use crate::audit::path::TILE_WIDTH;
use crate::audit::{Outcome, What};
use crate::error::{Error, Result};

/// The entries that were removed: from the first (inclusive) to the second (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The first.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
}

/// Removes whole bundles from the beginning, as long as the last entry of each is older than that, and published.
pub(super) fn prune(shared: &Shared, older_than_ms: u64) -> Result<Pruned> {
    let before_ms = shared.clock.now_ms().saturating_sub(older_than_ms);
    let from = shared.db.pruned()?;
    let published = shared.published.load(std::sync::atomic::Ordering::Acquire);
    let mut to = from;
    while to + TILE_WIDTH <= published && at_ms(shared, to + TILE_WIDTH - 1)? < before_ms {
        to += TILE_WIDTH;
    }
    if from == to {
        return Ok(Pruned { from, to });
    }
    // First of all it is said: an interruption leaves more than the log says, never less.
    let what = What::LogPruned { from, to };
    shared.append_event(&shared.own(what.clone(), Outcome::Begun))?;
    shared.db.prune(to)?;
    shared.note(what, Outcome::Done);
    Ok(Pruned { from, to })
}

/// When an entry was written, as it says itself.
fn at_ms(shared: &Shared, index: u64) -> Result<u64> {
    #[derive(Deserialize)]
    struct At {
        at_ms: u64,
    }
    let bad = || Error::integrity("an entry of the audit log");
    let entry = shared.db.entry(index)?.ok_or_else(bad)?;
    serde_json::from_slice::<At>(&entry).map(|at| at.at_ms).map_err(|_| bad())
}
