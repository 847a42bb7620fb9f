//! The file with what is usual, so that a restart does not forget it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rules::Known;
use crate::disk;
use crate::error::{Error, Result};
use crate::limits;

/// The file with what is usual.
pub const BASELINE_FILE: &str = "baseline.json";
const BASELINE_VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u8,
    known: Known,
}

/// What was learnt before. What cannot be read is learnt anew: that takes a day, and is said.
pub(super) fn read(path: &Path) -> Known {
    let stored = match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Known::default(),
        Ok(found) if found.len() <= limits::BASELINE_BYTES => {
            fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok())
        }
        _ => None,
    };
    match stored {
        Some(Stored { v: BASELINE_VERSION, known }) => known,
        _ => {
            tracing::warn!("what is usual cannot be read and is learnt anew: no volume raises an alert for a day");
            Known::default()
        }
    }
}

/// Replaces the file.
pub(super) fn write(path: &Path, known: &Known) -> Result<()> {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        v: u8,
        known: &'a Known,
    }
    let stored = Borrowed { v: BASELINE_VERSION, known };
    let json = serde_json::to_vec(&stored).map_err(|e| Error::internal("encoding").with_source(e))?;
    disk::replace(path, &json)
}
