//! The associated data of a sealed record: the canonical bytes of the place it belongs to.

use std::cell::RefCell;

use crate::crypto::SuiteId;
use crate::error::Result;
use crate::id::{Epoch, TenantId};

use super::FORMAT_VERSION;

/// Which store a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StoreKind {
    /// Chunks and their embeddings.
    Vectors = 1,
    /// Agent memories.
    Memory = 2,
    /// Descriptions of collections.
    Catalog = 3,
    /// Context windows.
    Context = 4,
    /// Where records belong that are handed on.
    Handoff = 5,
}

/// Which part of a record the ciphertext is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// Text and metadata of a chunk, or the value of a memory.
    Payload = 1,
    /// The exact embedding of a chunk and its id.
    Vector = 2,
    /// The label of a namespace.
    Name = 3,
    /// The description of a collection.
    Collection = 4,
    /// Where a record belongs that is handed on.
    Place = 5,
    /// How far a rotation came.
    Rotation = 6,
    /// A part of a search graph.
    Graph = 7,
}

/// Where a sealed record belongs, as the caller knows it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The store.
    pub store: StoreKind,
    /// The collection id, or the blinded chain of a namespace.
    pub scope: &'a [u8],
    /// The blinded record id.
    pub record: &'a [u8],
    /// The record's version.
    pub version: u64,
    /// The part of the record.
    pub field: Field,
    /// SHA-256 of the sealed embedding's plaintext, for the payload of a chunk.
    pub embedding: Option<&'a [u8; 32]>,
}

/// Calls `use_it` with the associated data: each component as its length (u32, big-endian) and its bytes, in the order
/// version, suite, epoch, tenant, store, scope, record, record version, field, embedding digest (empty if none).
pub(super) fn with_aad<T>(
    suite: SuiteId,
    epoch: Epoch,
    place: &Place<'_>,
    use_it: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    // One buffer per thread: this runs for every record on every read.
    thread_local!(static AAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    AAD.with_borrow_mut(|aad| {
        aad.clear();
        for component in [
            &[FORMAT_VERSION][..],
            &suite.as_u16().to_be_bytes(),
            &epoch.as_u32().to_be_bytes(),
            place.tenant.as_str().as_bytes(),
            &[place.store as u8],
            place.scope,
            place.record,
            &place.version.to_be_bytes(),
            &[place.field as u8],
            place.embedding.map_or(&[], |digest| &digest[..]),
        ] {
            let length = u32::try_from(component.len()).map_err(|_| crate::Error::invalid("an id is too long"))?;
            aad.extend_from_slice(&length.to_be_bytes());
            aad.extend_from_slice(component);
        }
        let result = use_it(aad);
        // It holds the tenant's name, and outlives the tenant's stay in memory.
        zeroize::Zeroize::zeroize(aad);
        result
    })
}
