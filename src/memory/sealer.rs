//! Sealing memories and labels, and opening them again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::{Epoch, Namespace};
use crate::keys::{Keyring, Label};
use crate::record::{self, Field, Place, StoreKind};
use crate::secret::SecretBytes;

use super::address::{Address, TAG_LEN};
use super::item::{MemoryItem, MemoryVersion};

/// The DEK of memories covers all namespaces of a tenant: a namespace is not a scope of its own.
const SCOPE: &[u8] = b"";
/// Labels are written once and never changed.
const LABEL_VERSION: u64 = 1;

/// The plaintext of a memory.
#[derive(Serialize, Deserialize)]
pub(super) struct MemoryPlain<'a> {
    #[serde(borrow)]
    pub(super) namespace: Vec<&'a str>,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
    pub(super) created_at_ms: u64,
    pub(super) updated_at_ms: u64,
    /// 0 for never.
    pub(super) expires_at_ms: u64,
    pub(super) has_embedding: bool,
    pub(super) deleted: bool,
}

pub(super) struct MemorySealer {
    pub(super) keyring: Arc<Keyring>,
}

impl MemorySealer {
    /// A row's value: expiry (u64, big-endian, in clear for compaction) and the sealed memory.
    pub(super) fn seal(&self, address: &Address, version: u64, plain: &MemoryPlain<'_>) -> Result<Vec<u8>> {
        let encoded = postcard::to_stdvec(plain).map_err(|e| Error::internal("encoding a memory").with_source(e))?;
        self.seal_encoded(address, version, plain.expires_at_ms, &SecretBytes::new(encoded))
    }

    /// The same of a plaintext as it came out of another place.
    pub(super) fn seal_encoded(
        &self,
        address: &Address,
        version: u64,
        expires_at_ms: u64,
        encoded: &SecretBytes,
    ) -> Result<Vec<u8>> {
        let key = self.keyring.sealing(Label::MemoryStore, address.epoch(), SCOPE)?;
        let mut row = Vec::with_capacity(8 + encoded.len() + record::OVERHEAD);
        row.extend_from_slice(&expires_at_ms.to_be_bytes());
        key.seal_into(&self.place(address, version), encoded.expose_secret(), &mut row)?;
        Ok(row)
    }

    /// Opens a row's value as `version` of what lives at `address`.
    pub(super) fn open(&self, address: &Address, version: u64, row: &[u8]) -> Result<MemoryVersion> {
        let encoded = self.open_encoded(address, version, row)?;
        let plain = plain(&encoded, row)?;
        let item = MemoryItem {
            namespace: Namespace::new(&plain.namespace).map_err(|_| crypto::open_failed())?,
            key: plain.key.to_owned(),
            json: plain.value.to_owned(),
            version,
            created_at_ms: plain.created_at_ms,
            updated_at_ms: plain.updated_at_ms,
            expires_at_ms: (plain.expires_at_ms != 0).then_some(plain.expires_at_ms),
            has_embedding: plain.has_embedding,
        };
        Ok(MemoryVersion { item, deleted: plain.deleted })
    }

    /// The plaintext of a row's value: [`plain`] reads it.
    pub(super) fn open_encoded(&self, address: &Address, version: u64, row: &[u8]) -> Result<SecretBytes> {
        let sealed = row.get(8..).ok_or_else(crypto::open_failed)?;
        let key = self.keyring.sealing(Label::MemoryStore, address.epoch(), SCOPE)?;
        key.open(&self.place(address, version), sealed)
    }

    /// The sealed label of the namespace at `chain` of `epoch`.
    pub(super) fn seal_label(&self, epoch: Epoch, chain: &[u8], label: &str) -> Result<Vec<u8>> {
        let key = self.keyring.sealing(Label::Catalog, epoch, SCOPE)?;
        key.seal(&self.label_place(chain)?, label.as_bytes())
    }

    /// Opens the label of the namespace at `chain` of `epoch`.
    pub(super) fn open_label(&self, epoch: Epoch, chain: &[u8], sealed: &[u8]) -> Result<String> {
        let key = self.keyring.sealing(Label::Catalog, epoch, SCOPE)?;
        let label = key.open(&self.label_place(chain)?, sealed)?;
        String::from_utf8(label.expose_secret().to_vec()).map_err(|_| crypto::open_failed())
    }

    fn place<'a>(&'a self, address: &'a Address, version: u64) -> Place<'a> {
        Place {
            tenant: self.keyring.tenant(),
            store: StoreKind::Memory,
            scope: address.chain(),
            record: address.record(),
            version,
            field: Field::Payload,
            embedding: None,
        }
    }

    fn label_place<'a>(&'a self, chain: &'a [u8]) -> Result<Place<'a>> {
        let (above, own) = chain.split_last_chunk::<TAG_LEN>().ok_or_else(crypto::open_failed)?;
        Ok(Place {
            tenant: self.keyring.tenant(),
            store: StoreKind::Memory,
            scope: above,
            record: own,
            version: LABEL_VERSION,
            field: Field::Name,
            embedding: None,
        })
    }
}

/// Reads the plaintext of `row`, whose expiry must be the sealed one.
pub(super) fn plain<'a>(encoded: &'a SecretBytes, row: &[u8]) -> Result<MemoryPlain<'a>> {
    let plain: MemoryPlain<'_> = postcard::from_bytes(encoded.expose_secret()).map_err(|_| crypto::open_failed())?;
    let expiry = row.first_chunk::<8>().map(|expiry| u64::from_be_bytes(*expiry));
    if expiry == Some(plain.expires_at_ms) { Ok(plain) } else { Err(crypto::open_failed()) }
}
