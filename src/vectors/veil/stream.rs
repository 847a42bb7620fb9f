//! Bytes from a key: the ChaCha20 stream (RFC 8439) under a zero nonce, from block 0 on. A key is used for one thing.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroizing;

/// Bytes that are made at a time.
const BUFFER: usize = 1024;

/// The stream under one key. It outlasts any use: 256 GiB.
pub(super) struct Stream {
    /// On the heap, where freed memory is erased.
    cipher: Box<ChaCha20Rng>,
    buffer: Zeroizing<[u8; BUFFER]>,
    used: usize,
}

impl Stream {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let cipher = Box::new(ChaCha20Rng::from_seed(*key));
        Self { cipher, buffer: Zeroizing::new([0; BUFFER]), used: BUFFER }
    }

    pub(super) fn byte(&mut self) -> u8 {
        if self.used == BUFFER {
            self.cipher.fill_bytes(&mut self.buffer[..]);
            self.used = 0;
        }
        let byte = self.buffer.get(self.used).copied().unwrap_or_default();
        self.used += 1;
        byte
    }

    /// The next four bytes as a number, least significant first.
    pub(super) fn number(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `bound`, each as likely as any other.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let whole = (1_u64 << 32) / u64::from(bound) * u64::from(bound);
        loop {
            let number = self.number();
            if u64::from(number) < whole {
                return number % bound;
            }
        }
    }
}
