//! What a thread leaves behind when it is done with plaintext: returned stack frames and registers.
//!
//! Heap memory is erased when it is freed; these two are not, and a core dump has both, also of threads that wait.
//! AWS-LC's assembly leaves the last blocks it deciphered in vector registers, where only other work replaces them.

use std::hint::black_box;
use std::sync::LazyLock;

use crate::crypto::{self, Aead, AeadKey, NONCE_LEN};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Stack that is overwritten, in bytes: deeper than any call that handles plaintext goes.
const STACK_BYTES: usize = 64 << 10;
/// As long as every path through a cipher takes, eight blocks at a time and one by one, with a rest.
const NOTHING: [u8; 343] = [0; 343];
const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// A key for sealing nothing, which overwrites the registers that sealing something used.
static KEY: LazyLock<Option<Box<dyn AeadKey>>> =
    LazyLock::new(|| crypto::default_provider().aead(Aead::Aes256GcmSiv, &Secret::from_bytes([0; 32])).ok());

/// Overwrites the unused stack and the vector registers of this thread, in about two microseconds.
pub fn scrub() {
    overwrite_stack();
    overwrite_registers();
}

/// As [`scrub`], and on every thread that opens or compares records for others.
pub fn scrub_workers() {
    rayon::broadcast(|_| scrub());
    scrub();
}

#[inline(never)]
fn overwrite_stack() {
    let mut unused = [0_u8; STACK_BYTES];
    black_box(&mut unused);
}

fn overwrite_registers() {
    let mut sealed = Vec::with_capacity(2 * NOTHING.len());
    if let Some(key) = KEY.as_ref()
        && key.seal(&NONCE, &[], &NOTHING, &mut sealed).is_ok()
    {
        black_box(key.open(&NONCE, &[], &sealed).is_ok());
    }
    black_box(crypto::default_provider().sha256(&[&NOTHING]));
    // Copies go through other registers, which depend on the length. Of zeros that are known to be some no copy is made.
    let nothing = black_box(&NOTHING[..]);
    for length in [24, 48, 96, 192, NOTHING.len()] {
        black_box(nothing.get(..black_box(length)).map(<[u8]>::to_vec));
    }
}

/// Runs what waits for disks on a thread that may wait, and leaves nothing of it there.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let work = || {
        let result = work();
        scrub();
        result
    };
    // A new thread starts with the registers of the one that makes it.
    scrub();
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::internal("a task ended unexpectedly").with_source(e)),
    }
}
