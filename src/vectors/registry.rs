//! The integrity registry: what version and content every record must have, whatever an engine says.
//!
//! A row is 52 bytes: expiry (u64, Unix milliseconds, 0 for never), epoch (u32), version (u64), digest (16 bytes), all
//! big-endian, and a MAC (16 bytes) over the row's key and those, under a key of the tenant: who has no key cannot make
//! one up. The expiry comes first in rows of memories too, so that it can be read without a key.

use crate::crypto::{self, Provider};
use crate::error::{Error, Result};
use crate::id::Epoch;
use crate::keys::Keyring;

/// Bytes of a row without its MAC.
const ENTRY_LEN: usize = 36;
const MAC_LEN: usize = 16;
/// The scope of the key that authenticates rows.
const SCOPE: &[u8] = b"registry";

/// What a record must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When it expires: Unix time in milliseconds, 0 for never.
    pub expires_at_ms: u64,
    /// The epoch it is sealed in.
    pub epoch: Epoch,
    /// Its version.
    pub version: u64,
    /// The first 16 bytes of SHA-256 over its sealed payload.
    pub digest: [u8; 16],
}

impl Entry {
    /// The row under `key`.
    pub fn to_row(&self, keyring: &Keyring, key: &[u8]) -> Result<Vec<u8>> {
        let entry = self.to_bytes();
        Ok([&entry[..], &mac(keyring, self.epoch, key, &entry)?].concat())
    }

    /// Reads the row under `key`; one that this tenant did not write there is refused.
    pub fn from_row(keyring: &Keyring, key: &[u8], row: &[u8]) -> Result<Self> {
        let (bytes, tag) = row.split_last_chunk::<MAC_LEN>().ok_or_else(|| Error::integrity("a registry row"))?;
        let entry = Self::from_bytes(bytes)?;
        let expected = mac(keyring, entry.epoch, key, bytes)?;
        if bool::from(subtle::ConstantTimeEq::ct_eq(&expected[..], &tag[..])) {
            Ok(entry)
        } else {
            Err(Error::integrity("a registry row"))
        }
    }

    fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut row = [0; ENTRY_LEN];
        let (expiry, rest) = row.split_at_mut(8);
        let (epoch, rest) = rest.split_at_mut(4);
        let (version, digest) = rest.split_at_mut(8);
        expiry.copy_from_slice(&self.expires_at_ms.to_be_bytes());
        epoch.copy_from_slice(&self.epoch.as_u32().to_be_bytes());
        version.copy_from_slice(&self.version.to_be_bytes());
        digest.copy_from_slice(&self.digest);
        row
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bad = || Error::integrity("a registry row");
        let (expiry, rest) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        let (epoch, rest) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let (version, digest) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
        Ok(Self {
            expires_at_ms: u64::from_be_bytes(*expiry),
            epoch: Epoch::try_from(u32::from_be_bytes(*epoch)).map_err(|_| bad())?,
            version: u64::from_be_bytes(*version),
            digest: digest.try_into().map_err(|_| bad())?,
        })
    }

    /// Refuses a sealed payload that is not the one this entry was made for.
    pub fn check(&self, provider: &dyn Provider, sealed: &[u8]) -> Result<()> {
        if digest(provider, sealed) == self.digest { Ok(()) } else { Err(crate::crypto::open_failed()) }
    }
}

/// The digest of a sealed payload.
pub(crate) fn digest(provider: &dyn Provider, sealed: &[u8]) -> [u8; 16] {
    crypto::first_16(provider.sha256(&[sealed]))
}

fn mac(keyring: &Keyring, epoch: Epoch, key: &[u8], entry: &[u8]) -> Result<[u8; MAC_LEN]> {
    // The entry has a fixed length, so key and entry cannot be confused.
    Ok(crypto::first_16(keyring.blinding(epoch, SCOPE)?.tag(&[entry, key])))
}

/// The epoch that a row says its record is sealed in, of a row that nobody can check any more.
pub(super) fn claimed_epoch(row: &[u8]) -> Result<Epoch> {
    let entry = row.get(..ENTRY_LEN).ok_or_else(|| Error::integrity("a registry row"))?;
    Entry::from_bytes(entry).map(|entry| entry.epoch)
}

/// Whether a row that begins with an expiry may be dropped at `now_ms`.
pub(crate) fn expired(row: &[u8], now_ms: u64) -> bool {
    let expires_at = row.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    expires_at != 0 && expires_at <= now_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(expires_at_ms: u64, epoch in 1_u32.., version: u64, digest: [u8; 16]) {
            let entry = Entry { expires_at_ms, epoch: Epoch::try_from(epoch).unwrap(), version, digest };
            prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()).unwrap(), entry);
        }

        #[test]
        fn hostile_rows_never_panic(bytes: Vec<u8>, now: u64) {
            if let Ok(entry) = Entry::from_bytes(&bytes) {
                prop_assert_eq!(&entry.to_bytes()[..], &bytes[..]);
            }
            let _ = expired(&bytes, now);
        }
    }

    #[test]
    fn expiry_is_read_from_the_head() {
        assert!(!expired(&[0; 36], u64::MAX));
        let row = 100_u64.to_be_bytes();
        assert!(!expired(&row, 99));
        assert!(expired(&row, 100));
    }
}
