//! A point as the first format of journals and of buckets in backups has it: postcard names no fields, so what came later
//! needs another format.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::engine::Point;

/// A point without tag and tokens.
#[derive(Serialize, Deserialize)]
pub(crate) struct FirstPoint {
    id: Uuid,
    epoch: u32,
    version: u64,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
    #[serde(with = "serde_bytes")]
    vector: Vec<u8>,
    searchable: Vec<(u8, Vec<f32>)>,
}

impl From<FirstPoint> for Point {
    fn from(first: FirstPoint) -> Self {
        let FirstPoint { id, epoch, version, payload, vector, searchable } = first;
        Self { id, epoch, version, payload, vector, searchable, tag: None, tokens: Vec::new() }
    }
}
