//! AES-256-GCM and AES-256-GCM-SIV by AWS-LC.

use std::mem;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use zeroize::Zeroizing;

use crate::crypto::{AeadKey, NONCE_LEN, TAG_LEN, open_failed};
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// An AEAD context, with the key schedule done.
pub(super) struct Cipher(pub LessSafeKey);

impl AeadKey for Cipher {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.resize(start + plaintext.len() + TAG_LEN, 0);
        // From buffer to buffer: `out` never holds plaintext, so neither a failure nor a later reallocation leaks any.
        let (ciphertext, tag) = out.split_at_mut(start).1.split_at_mut(plaintext.len());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self.0.seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag);
        sealed.map_err(|_| {
            out.truncate(start);
            Error::internal("sealing failed")
        })
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], ciphertext: &[u8]) -> Result<SecretBytes> {
        let (ciphertext, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or_else(open_failed)?;
        let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut plaintext);
        opened.map_err(|_| open_failed())?;
        Ok(SecretBytes::new(mem::take(&mut *plaintext)))
    }
}
