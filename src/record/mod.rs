//! The sealed record: what it looks like, where it belongs, and the only two operations on it.
//!
//! The byte layout stands in `schema/record.md`. A [`SealingKey`] is one DEK of one epoch; a [`Place`] is everything
//! else that the ciphertext is bound to. The place always comes from the caller's own context, never from the bytes.

mod aad;
mod budget;
mod packing;
mod payload;

pub use aad::{Field, Place, StoreKind};
pub use budget::{MOST_SEALS, ROTATE_AT_SEALS, SealLedger};
pub use packing::{Packing, pack, unpack};
pub(crate) use payload::{pack_payload, with_payload};

use budget::Budget;

use std::sync::Arc;

use crate::crypto::{self, AEAD_KEY_LEN, Aead, AeadKey, NONCE_LEN, Provider, SuiteId, TAG_LEN};
use crate::entropy;
use crate::error::Result;
use crate::id::Epoch;
use crate::secret::{Secret, SecretBytes};

/// The version of the layout, the first byte of every sealed record.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes before the ciphertext: version, suite, epoch, nonce.
pub const HEADER_LEN: usize = 1 + 2 + 4 + NONCE_LEN;
/// Bytes that sealing adds to a plaintext.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// A data encryption key of one tenant, purpose, scope, suite and epoch, ready for use.
pub struct SealingKey {
    suite: SuiteId,
    epoch: Epoch,
    aead: Box<dyn AeadKey>,
    /// `None` for an AEAD that needs no count.
    budget: Option<Budget>,
}

impl SealingKey {
    /// Takes `dek` into use. What AES-GCM seals is counted from zero: for keys that begin and end with this process.
    pub fn new(provider: &dyn Provider, suite: SuiteId, epoch: Epoch, dek: &Secret<AEAD_KEY_LEN>) -> Result<Self> {
        let budget = needs_count(suite).then(|| Budget::new([0; 16], None));
        Ok(Self { suite, epoch, aead: provider.aead(suite.aead(), dek)?, budget })
    }

    /// The same key with what AES-GCM seals counted in `ledger` as the key called `key`.
    #[must_use]
    pub fn counted(mut self, key: [u8; 16], ledger: Arc<dyn SealLedger>) -> Self {
        self.budget = needs_count(self.suite).then(|| Budget::new(key, Some(ledger)));
        self
    }

    /// The epoch whose records this key seals and opens.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Seals `plaintext` into `place`: [`OVERHEAD`] bytes longer than the plaintext.
    pub fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
        self.seal_into(place, plaintext, &mut sealed)?;
        Ok(sealed)
    }

    /// Appends the sealed form of `plaintext` to `out`. [`Conflict`](crate::ErrorKind::Conflict) when the key may seal
    /// no more.
    pub fn seal_into(&self, place: &Place<'_>, plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.budget.as_ref().map_or(Ok(()), Budget::take)?;
        let mut nonce = [0; NONCE_LEN];
        entropy::fill(&mut nonce)?;
        out.extend_from_slice(&self.prefix());
        out.extend_from_slice(&nonce);
        aad::with_aad(self.suite, self.epoch, place, |aad| self.aead.seal(&nonce, aad, plaintext, out))
    }

    /// Opens `sealed`, which must have been sealed with this key into exactly this `place`.
    ///
    /// Every failure, from a short buffer to a wrong tag, is the same error of kind
    /// [`Integrity`](crate::ErrorKind::Integrity).
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<SecretBytes> {
        let (prefix, rest) = sealed.split_first_chunk::<7>().ok_or_else(crypto::open_failed)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(crypto::open_failed)?;
        if *prefix != self.prefix() {
            return Err(crypto::open_failed());
        }
        aad::with_aad(self.suite, self.epoch, place, |aad| self.aead.open(nonce, aad, ciphertext))
    }

    fn prefix(&self) -> [u8; 7] {
        let [s0, s1] = self.suite.as_u16().to_be_bytes();
        let [e0, e1, e2, e3] = self.epoch.as_u32().to_be_bytes();
        [FORMAT_VERSION, s0, s1, e0, e1, e2, e3]
    }
}

fn needs_count(suite: SuiteId) -> bool {
    suite.aead() == Aead::Aes256Gcm
}

/// The epoch that `sealed` says it belongs to: which key to try where nothing else knows it. Opening proves it.
pub fn claimed_epoch(sealed: &[u8]) -> Result<Epoch> {
    let epoch = sealed.get(3..7).and_then(|bytes| bytes.try_into().ok()).ok_or_else(crypto::open_failed)?;
    Epoch::try_from(u32::from_be_bytes(epoch)).map_err(|_| crypto::open_failed())
}

#[cfg(test)]
mod tests;
