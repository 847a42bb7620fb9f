//! The blinded keys of memories: what is written where names would be.
//!
//! A key is tenant tag (16 bytes) ‖ epoch (u32) ‖ kind (1) ‖ one tag (16) per level of the namespace ‖ record tag (16)
//! ‖ for history, version (u64). The tags of another epoch are others: rotation moves a memory from one key to another.

use std::sync::Arc;

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use crate::crypto;
use crate::error::Result;
use crate::id::{Epoch, Namespace};
use crate::keys::Keyring;

pub(super) const TAG_LEN: usize = 16;
const HEAD_LEN: usize = TAG_LEN + 4 + 1;
/// The scope of the key that blinds memories.
const SCOPE: &[u8] = b"memory";
/// Namespaces whose tags are kept ready.
const CACHED_NAMESPACES: usize = 4096;

/// What a row of the memory table is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RowKind {
    Current = 1,
    History = 2,
    Label = 3,
}

/// The place of one memory in one epoch: its namespace's tags and its own.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    epoch: Epoch,
    chain: Arc<[u8]>,
    record: [u8; TAG_LEN],
}

impl Address {
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn chain(&self) -> &[u8] {
        &self.chain
    }

    pub(super) fn record(&self) -> &[u8; TAG_LEN] {
        &self.record
    }

    /// The id of its embedding: the tags in hexadecimal, so that ids of a namespace share a prefix.
    pub(super) fn embedding_id(&self) -> String {
        hex(&self.chain) + &hex(&self.record)
    }
}

/// Makes keys of one tenant.
pub(super) struct Addresses {
    keyring: Arc<Keyring>,
    tenant_tag: [u8; TAG_LEN],
    chains: Cache<(Epoch, Namespace), Arc<[u8]>>,
}

/// What the tags of a namespace are looked up by, without a copy of its labels.
#[derive(Hash)]
struct Named<'a>(Epoch, &'a Namespace);

impl Equivalent<(Epoch, Namespace)> for Named<'_> {
    fn equivalent(&self, (epoch, namespace): &(Epoch, Namespace)) -> bool {
        self.0 == *epoch && self.1 == namespace
    }
}

impl Addresses {
    pub(super) fn new(keyring: Arc<Keyring>, tenant_tag: [u8; TAG_LEN]) -> Self {
        Self { keyring, tenant_tag, chains: Cache::new(CACHED_NAMESPACES) }
    }

    /// Where the memory `key` of `namespace` is in `epoch`, if it is there.
    pub(super) fn of(&self, epoch: Epoch, namespace: &Namespace, key: &str) -> Result<Address> {
        let chain = match self.chains.get(&Named(epoch, namespace)) {
            Some(chain) => chain,
            None => {
                let chain: Arc<[u8]> = self.chain(epoch, namespace.labels())?.into();
                self.chains.insert((epoch, namespace.clone()), chain.clone());
                chain
            }
        };
        // The namespace's last tag stands for all its labels.
        let last = chain.last_chunk::<TAG_LEN>().map_or(&[][..], |tag| tag);
        let record = self.tag(epoch, &[b"record", last, key.as_bytes()])?;
        Ok(Address { epoch, chain, record })
    }

    /// The tags of a namespace or of a prefix of one, level by level.
    pub(super) fn chain(&self, epoch: Epoch, labels: &[String]) -> Result<Vec<u8>> {
        let mut chain = Vec::with_capacity(labels.len() * TAG_LEN);
        for label in labels {
            let above = chain.last_chunk::<TAG_LEN>().copied().unwrap_or([0; TAG_LEN]);
            chain.extend(self.tag(epoch, &[b"namespace", &above, label.as_bytes()])?);
        }
        Ok(chain)
    }

    /// Everything of an epoch.
    pub(super) fn everything(&self, epoch: Epoch) -> Vec<u8> {
        [&self.tenant_tag[..], &epoch.as_u32().to_be_bytes()].concat()
    }

    /// Everything of a kind, or of a kind below a chain.
    pub(super) fn prefix(&self, epoch: Epoch, kind: RowKind, chain: &[u8]) -> Vec<u8> {
        let epoch = epoch.as_u32().to_be_bytes();
        [&self.tenant_tag[..], &epoch, &[kind as u8], chain].concat()
    }

    pub(super) fn current(&self, address: &Address) -> Vec<u8> {
        self.prefix(address.epoch, RowKind::Current, &[&address.chain[..], &address.record].concat())
    }

    pub(super) fn history(&self, address: &Address, version: Option<u64>) -> Vec<u8> {
        let mut key = self.prefix(address.epoch, RowKind::History, &[&address.chain[..], &address.record].concat());
        key.extend(version.into_iter().flat_map(u64::to_be_bytes));
        key
    }

    fn tag(&self, epoch: Epoch, parts: &[&[u8]]) -> Result<[u8; TAG_LEN]> {
        let tag = self.keyring.blinding(epoch, SCOPE)?.tag(parts);
        Ok(crypto::first_16(tag))
    }
}

/// Whether `key` is of the label of a namespace.
pub(super) fn is_label(key: &[u8]) -> bool {
    key.get(HEAD_LEN - 1) == Some(&(RowKind::Label as u8))
}

/// The epoch, the chain and the record tag in a current row's key.
pub(super) fn parse_current(key: &[u8]) -> Option<Address> {
    let epoch = key.get(TAG_LEN..)?.first_chunk::<4>()?;
    let epoch = Epoch::try_from(u32::from_be_bytes(*epoch)).ok()?;
    let (chain, record) = key.get(HEAD_LEN..)?.split_last_chunk::<TAG_LEN>()?;
    (!chain.is_empty() && chain.len().is_multiple_of(TAG_LEN)).then(|| Address {
        epoch,
        chain: chain.into(),
        record: *record,
    })
}

/// The address and the version in a history row's key.
pub(super) fn parse_history(key: &[u8]) -> Option<(Address, u64)> {
    let (rest, version) = key.split_last_chunk::<8>()?;
    Some((parse_current(rest)?, u64::from_be_bytes(*version)))
}

/// The address in the id of an embedding, which is in `epoch`.
pub(super) fn parse_embedding_id(id: &str, epoch: Epoch) -> Option<Address> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = id.as_bytes().as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[h, l]| Some(digit(*h)? << 4 | digit(*l)?)).collect::<Option<_>>()?;
    let (chain, record) = bytes.split_last_chunk::<TAG_LEN>()?;
    (rest.is_empty() && !chain.is_empty() && chain.len().is_multiple_of(TAG_LEN)).then(|| Address {
        epoch,
        chain: chain.into(),
        record: *record,
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
