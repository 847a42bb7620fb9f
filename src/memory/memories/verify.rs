//! Verifying: every memory, every earlier version and every label opens, and nothing is missing or too much.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::{ErrorKind, Result};
use crate::id::Epoch;
use crate::keys::Live;
use crate::kv::Table;
use crate::memory::MemoryItem;
use crate::memory::address::{self, Address, RowKind, TAG_LEN};
use crate::vectors::expired;

use super::Memories;

/// What [`Memories::verify`] found. Keys are not shown: they are blinded and name nothing.
#[derive(Debug, Default, Clone, Serialize)]
pub struct MemoryReport {
    /// Memories that opened and are what was written.
    pub sound: u64,
    /// Earlier versions that opened.
    pub history: u64,
    /// Memories and labels of namespaces that must be there and are not.
    pub dropped: u64,
    /// Memories that the registry does not have.
    pub unknown: u64,
    /// Rows that do not open or are of another version.
    pub damaged: u64,
}

impl MemoryReport {
    /// Whether everything is as it was written.
    pub fn is_clean(&self) -> bool {
        self.dropped == 0 && self.unknown == 0 && self.damaged == 0
    }
}

impl Memories {
    /// Opens every row. Writes of memories wait meanwhile.
    pub fn verify(&self) -> Result<MemoryReport> {
        let writing = self.context.keyring.writing();
        let _quiet: Vec<_> = self.stripes.iter().map(|stripe| stripe.lock()).collect();
        let mut report = MemoryReport::default();
        for epoch in writing.live().newest_first() {
            let chains = self.verify_current(writing.live(), epoch, &mut report)?;
            self.verify_history(epoch, &mut report)?;
            self.verify_labels(epoch, &chains, &mut report)?;
        }
        Ok(report)
    }

    /// Returns the namespaces that hold memories.
    fn verify_current(&self, live: &Live, epoch: Epoch, report: &mut MemoryReport) -> Result<BTreeSet<Vec<u8>>> {
        let mut chains = BTreeSet::new();
        let prefix = self.addresses.prefix(epoch, RowKind::Current, &[]);
        for row in self.context.kv.scan(Table::Registry, &prefix) {
            let (key, value) = row?;
            let address = address::parse_current(&key);
            let entry = match &address {
                Some(address) => self.parse_entry(address, &key, &value),
                None => Err(crate::crypto::open_failed()),
            };
            let memory = self.context.kv.get(Table::Memory, &key)?;
            match (address, entry, memory) {
                (_, Ok(entry), None) if self.has_expired(entry.expires_at_ms) => {}
                (_, Ok(_), None) => report.dropped += 1,
                (Some(address), Ok(entry), Some(row)) => match self.open_row(&address, &entry, &row) {
                    // Moved on and put back: only one of the two is the memory.
                    Ok(item) if self.is_doubled(live, &address, &item)? => report.unknown += 1,
                    Ok(_) => {
                        report.sound += u64::from(!self.has_expired(entry.expires_at_ms));
                        chains.insert(address.chain().to_vec());
                    }
                    Err(e) if matches!(e.kind(), ErrorKind::Integrity | ErrorKind::NotFound) => report.damaged += 1,
                    Err(e) => return Err(e),
                },
                _ => report.damaged += 1,
            }
        }
        for row in self.context.kv.scan(Table::Memory, &prefix) {
            let (key, value) = row?;
            if !expired(&value, self.context.clock.now_ms()) && self.context.kv.get(Table::Registry, &key)?.is_none() {
                report.unknown += 1;
            }
        }
        Ok(chains)
    }

    /// Whether a memory at `address` is in an epoch that comes before that one, too.
    fn is_doubled(&self, live: &Live, address: &Address, item: &MemoryItem) -> Result<bool> {
        let places = self.places(live, &item.namespace, &item.key)?;
        let before = places.0.iter().take_while(|place| *place != address);
        before.map(|place| self.entry(place)).try_fold(false, |found, entry| Ok(found || entry?.is_some()))
    }

    fn verify_history(&self, epoch: Epoch, report: &mut MemoryReport) -> Result<()> {
        for row in self.context.kv.scan(Table::Memory, &self.addresses.prefix(epoch, RowKind::History, &[])) {
            let (key, value) = row?;
            let opened = address::parse_history(&key)
                .and_then(|(address, version)| self.sealer.open(&address, version, &value).ok());
            match opened {
                Some(_) => report.history += 1,
                None => report.damaged += 1,
            }
        }
        Ok(())
    }

    /// Every label opens, and every level of `chains` has one.
    fn verify_labels(&self, epoch: Epoch, chains: &BTreeSet<Vec<u8>>, report: &mut MemoryReport) -> Result<()> {
        let level = |chain: &[u8], end| chain.get(..end).map(<[u8]>::to_vec);
        let mut missing: BTreeSet<Vec<u8>> = chains
            .iter()
            .flat_map(|chain| (TAG_LEN..=chain.len()).step_by(TAG_LEN).filter_map(move |end| level(chain, end)))
            .collect();
        let prefix = self.addresses.prefix(epoch, RowKind::Label, &[]);
        for row in self.context.kv.scan(Table::Memory, &prefix) {
            let (key, value) = row?;
            let chain = key.get(prefix.len()..).unwrap_or_default();
            missing.remove(chain);
            let label = Self::sealed_label(&value).and_then(|sealed| self.sealer.open_label(epoch, chain, sealed));
            if label.is_err() {
                report.damaged += 1;
            }
        }
        report.dropped += missing.len() as u64;
        Ok(())
    }
}
