//! Verifying: every memory, every earlier version and every label opens, and nothing is missing or too much.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::{ErrorKind, Result};
use crate::kv::Table;
use crate::memory::address::{self, RowKind, TAG_LEN};
use crate::vectors::{Entry, expired};

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
        let _quiet: Vec<_> = self.stripes.iter().map(|stripe| stripe.lock()).collect();
        let mut report = MemoryReport::default();
        let chains = self.verify_current(&mut report)?;
        self.verify_history(&mut report)?;
        self.verify_labels(&chains, &mut report)?;
        Ok(report)
    }

    /// Returns the namespaces that hold memories.
    fn verify_current(&self, report: &mut MemoryReport) -> Result<BTreeSet<Vec<u8>>> {
        let mut chains = BTreeSet::new();
        let prefix = self.addresses.prefix(RowKind::Current, &[]);
        for row in self.context.kv.scan(Table::Registry, &prefix) {
            let (key, value) = row?;
            let entry = Entry::from_row(&self.context.keyring, &key, &value);
            let memory = self.context.kv.get(Table::Memory, &key)?;
            match (address::parse_current(&key), entry, memory) {
                (_, Ok(entry), None) if self.has_expired(entry.expires_at_ms) => {}
                (_, Ok(_), None) => report.dropped += 1,
                (Some(address), Ok(entry), Some(row)) => match self.open_row(&address, &entry, &row) {
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

    fn verify_history(&self, report: &mut MemoryReport) -> Result<()> {
        for row in self.context.kv.scan(Table::Memory, &self.addresses.prefix(RowKind::History, &[])) {
            let (key, value) = row?;
            let opened = key.split_last_chunk::<8>().and_then(|(rest, version)| {
                let address = address::parse_current(rest)?;
                let version = u64::from_be_bytes(*version);
                self.sealer.open(&address, self.addresses.epoch(), version, &value).ok()
            });
            match opened {
                Some(_) => report.history += 1,
                None => report.damaged += 1,
            }
        }
        Ok(())
    }

    /// Every label opens, and every level of `chains` has one.
    fn verify_labels(&self, chains: &BTreeSet<Vec<u8>>, report: &mut MemoryReport) -> Result<()> {
        let level = |chain: &[u8], end| chain.get(..end).map(<[u8]>::to_vec);
        let mut missing: BTreeSet<Vec<u8>> = chains
            .iter()
            .flat_map(|chain| (TAG_LEN..=chain.len()).step_by(TAG_LEN).filter_map(move |end| level(chain, end)))
            .collect();
        let prefix = self.addresses.prefix(RowKind::Label, &[]);
        for row in self.context.kv.scan(Table::Memory, &prefix) {
            let (key, value) = row?;
            let chain = key.get(prefix.len()..).unwrap_or_default();
            missing.remove(chain);
            let label = Self::sealed_label(&value).and_then(|sealed| self.sealer.open_label(chain, sealed));
            if label.is_err() {
                report.damaged += 1;
            }
        }
        report.dropped += missing.len() as u64;
        Ok(())
    }
}
