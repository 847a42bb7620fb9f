//! How often a key may seal. With AES-GCM and random nonces a key stops after 2^32 seals (NIST SP 800-38D, section 8.3);
//! AES-GCM-SIV needs no such count here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// A key seals no more than this often.
pub const MOST_SEALS: u64 = 1 << 32;
/// A key that has sealed this often is due for rotation.
pub const ROTATE_AT_SEALS: u64 = 1 << 31;
/// Seals that are reserved at a time: one durable write for as many. What a crash leaves unused is lost.
const BLOCK: u64 = 1 << 16;

/// Keeps count of the seals of each key, durably.
pub trait SealLedger: Send + Sync {
    /// Adds `count` to what the key called `key` has reserved, and returns the sum once it is durable.
    fn reserve(&self, key: &[u8; 16], count: u64) -> Result<u64>;
}

/// What one key may still seal.
pub(super) struct Budget {
    key: [u8; 16],
    ledger: Option<Arc<dyn SealLedger>>,
    /// Reserved and not used yet.
    left: AtomicU64,
    /// Reserved since ever. Held while more is.
    reserved: Mutex<u64>,
}

impl Budget {
    /// The budget of the key called `key`; without a ledger, the count begins with this process.
    pub(super) fn new(key: [u8; 16], ledger: Option<Arc<dyn SealLedger>>) -> Self {
        Self { key, ledger, left: AtomicU64::new(0), reserved: Mutex::new(0) }
    }

    /// Takes one seal from the budget.
    pub(super) fn take(&self) -> Result<()> {
        let one_less = |left: u64| left.checked_sub(1);
        while self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            let mut reserved = self.reserved.lock();
            // Somebody else may have been faster.
            if self.left.load(Ordering::Relaxed) == 0 {
                *reserved = self.reserve(*reserved)?;
                self.left.store(BLOCK, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn reserve(&self, before: u64) -> Result<u64> {
        // A key that has stopped costs no durable write for each seal that is refused.
        let sum = match &self.ledger {
            _ if before >= MOST_SEALS => before.saturating_add(BLOCK),
            Some(ledger) => ledger.reserve(&self.key, BLOCK)?,
            None => before + BLOCK,
        };
        if sum > MOST_SEALS {
            return Err(Error::new(ErrorKind::Conflict, "a data key has sealed 2^32 records and stops")
                .with_remedy("start a new epoch: AES-GCM allows a key no more (NIST SP 800-38D, section 8.3)"));
        }
        if sum > ROTATE_AT_SEALS && sum - BLOCK <= ROTATE_AT_SEALS {
            tracing::warn!("a data key has sealed 2^31 records: start a new epoch before it stops at 2^32");
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(Mutex<u64>);

    impl SealLedger for At {
        fn reserve(&self, _key: &[u8; 16], count: u64) -> Result<u64> {
            let mut sum = self.0.lock();
            *sum += count;
            Ok(*sum)
        }
    }

    #[test]
    fn a_key_stops_hard_and_says_what_to_do() {
        let ledger = Arc::new(At(Mutex::new(MOST_SEALS - BLOCK)));
        let budget = Budget::new([0; 16], Some(ledger.clone()));
        for _ in 0..BLOCK {
            budget.take().unwrap();
        }
        assert!(budget.take().is_err());
        let error = budget.take().unwrap_err();
        assert_eq!(*ledger.0.lock(), MOST_SEALS);
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.remedy().unwrap().contains("new epoch"));
    }

    #[test]
    fn what_is_used_never_exceeds_what_was_reserved() {
        let ledger = Arc::new(At(Mutex::new(0)));
        let budget = Budget::new([0; 16], Some(ledger.clone()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..BLOCK).for_each(|_| budget.take().unwrap()));
            }
        });
        assert_eq!(*ledger.0.lock(), 4 * BLOCK);
        budget.take().unwrap();
        assert_eq!(*ledger.0.lock(), 5 * BLOCK);
    }
}
