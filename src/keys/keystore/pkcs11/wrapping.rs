//! AES-256 keys that cannot leave the token, and what they seal: AES-GCM (NIST SP 800-38D) of a few bytes.
//!
//! ```text
//! 0      version = 1
//! 1..13  nonce, random
//! 13..   ciphertext ‖ 16-byte tag
//! ```

use cryptoki::error::Error as TokenError;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;

use super::errors::Failure;
use super::objects::{check_locked_in, locked_in};
use crate::crypto::{AEAD_KEY_LEN, NONCE_LEN, TAG_LEN, open_failed};
use crate::error::{Error, Result};
use crate::limits;
use crate::secret::{Secret, SecretBytes};

const VERSION: u8 = 1;

/// Makes a key that only seals and opens.
pub fn make_key(session: &Session, id: [u8; 16], label: &[u8]) -> Result<ObjectHandle, Failure> {
    let mut template = locked_in(id, label);
    template.extend([
        Attribute::ValueLen(Ulong::new(AEAD_KEY_LEN as u64)),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        // With these it would carry other keys out of the token.
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
    ]);
    let key = session.generate_key(&Mechanism::AesKeyGen, &template)?;
    check_locked_in(session, key)?;
    Ok(key)
}

/// Seals `secret` under `key`, bound to `aad`.
pub fn seal(session: &Session, key: ObjectHandle, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>, Failure> {
    if secret.len() > limits::TOKEN_WRAP_BYTES {
        return Err(Error::internal("a secret too long to wrap").into());
    }
    let nonce = Secret::<NONCE_LEN>::random()?;
    let mut iv = *nonce.expose_secret();
    let mechanism = gcm(&mut iv, aad)?;
    let ciphertext = session.encrypt(&mechanism, key, secret)?;
    // Tokens of a FIPS 140 mode may put in a nonce of their own.
    let mut sealed = vec![VERSION];
    sealed.extend_from_slice(&iv);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens what [`seal`] made. Whatever is wrong with it is the same [`open_failed`].
pub fn open(session: &Session, key: ObjectHandle, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, Failure> {
    let longest = 1 + NONCE_LEN + limits::TOKEN_WRAP_BYTES + TAG_LEN;
    let ([VERSION], rest) = sealed.split_first_chunk::<1>().ok_or_else(open_failed)? else {
        return Err(open_failed().into());
    };
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(open_failed)?;
    if ciphertext.len() < TAG_LEN || sealed.len() > longest {
        return Err(open_failed().into());
    }
    let mut iv = *nonce;
    let opened = session.decrypt(&gcm(&mut iv, aad)?, key, ciphertext).map_err(Failure::from);
    match opened {
        Ok(secret) => Ok(SecretBytes::new(secret)),
        Err(failure) if failure.is_refused_ciphertext() => Err(open_failed().into()),
        Err(failure) => Err(failure),
    }
}

fn gcm<'a>(iv: &'a mut [u8; NONCE_LEN], aad: &'a [u8]) -> Result<Mechanism<'a>, TokenError> {
    Ok(Mechanism::AesGcm(GcmParams::new(iv, aad, Ulong::new(8 * TAG_LEN as u64))?))
}
