//! Random bytes for keys, nonces and signatures.

use crate::error::{Error, ErrorKind, Result};

/// Fills `bytes` from the operating system's random source.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|e| Error::new(ErrorKind::Unavailable, "the operating system gave no random bytes").with_source(e))
}

/// Whether random bytes can be had: for libraries that draw their own and cannot be given ours.
pub fn check() -> Result<()> {
    Ok(())
}
