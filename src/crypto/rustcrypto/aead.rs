//! AES-256-GCM and AES-256-GCM-SIV from the RustCrypto crates.

use std::mem;

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use zeroize::Zeroizing;

use crate::crypto::{AeadKey, NONCE_LEN, TAG_LEN, open_failed};
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// An AEAD of the `aead` crate with its key.
pub(super) struct Cipher<A>(pub A);

impl<A: AeadInOut<NonceSize = U12, TagSize = U16> + Send + Sync> AeadKey for Cipher<A> {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.reserve(plaintext.len() + TAG_LEN);
        out.resize(start + plaintext.len(), 0);
        // From buffer to buffer: `out` never holds plaintext, so neither a failure nor a later reallocation leaks any.
        let sealed = InOutBuf::new(plaintext, out.split_at_mut(start).1)
            .map_err(|_| aes_gcm::Error)
            .and_then(|buffer| self.0.encrypt_inout_detached(nonce.into(), aad, buffer));
        match sealed {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(_) => {
                out.truncate(start);
                return Err(Error::internal("sealing failed"));
            }
        }
        Ok(())
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], ciphertext: &[u8]) -> Result<SecretBytes> {
        let (ciphertext, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or_else(open_failed)?;
        let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
        let buffer = InOutBuf::new(ciphertext, &mut plaintext).map_err(|_| open_failed())?;
        self.0.decrypt_inout_detached(nonce.into(), aad, buffer, tag.into()).map_err(|_| open_failed())?;
        Ok(SecretBytes::new(mem::take(&mut *plaintext)))
    }
}
