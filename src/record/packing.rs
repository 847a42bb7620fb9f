//! What happens to a plaintext before it is sealed: optional compression, optional padding, both written inside it.
//!
//! Layout: flags (1 byte: bit 0 zstd, bit 1 padded), length of the content (u32, big-endian), content, zeros.

use crate::crypto;
use crate::error::{Error, Result};
use crate::limits;
use crate::secret::SecretBytes;
use serde::{Deserialize, Serialize};

const ZSTD: u8 = 1;
const PADDED: u8 = 2;
const HEAD: usize = 5;

/// How a collection's payloads are packed before sealing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packing {
    /// Compress with zstd. What a size reveals then depends on the content.
    pub compress: bool,
    /// Pad to the next Padmé size (Nikitin et al., PETS 2019): at most 12 % larger, and sizes fall into few classes.
    pub pad: bool,
}

/// Packs `content`.
pub fn pack(packing: Packing, content: &[u8]) -> Result<SecretBytes> {
    let compressed;
    let (mut flags, body) = if packing.compress {
        compressed = zstd::bulk::compress(content, 3)?;
        if compressed.len() < content.len() { (ZSTD, SecretBytes::new(compressed)) } else { (0, copy(content)) }
    } else {
        (0, copy(content))
    };
    let length = u32::try_from(body.len()).map_err(|_| Error::invalid("a payload is too large"))?;
    let mut packed_len = HEAD + body.len();
    if packing.pad {
        flags |= PADDED;
        packed_len = padme(packed_len);
    }
    let mut packed = Vec::with_capacity(packed_len);
    packed.push(flags);
    packed.extend_from_slice(&length.to_be_bytes());
    packed.extend_from_slice(body.expose_secret());
    packed.resize(packed_len, 0);
    Ok(SecretBytes::new(packed))
}

/// The inverse of [`pack`]; anything that `pack` does not produce is refused.
pub fn unpack(packed: &SecretBytes) -> Result<SecretBytes> {
    let (head, rest) = packed.expose_secret().split_first_chunk::<HEAD>().ok_or_else(crypto::open_failed)?;
    let [flags, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| crypto::open_failed())?;
    let (body, padding) = rest.split_at_checked(length).ok_or_else(crypto::open_failed)?;
    let padded_right = if flags & PADDED != 0 {
        padme(HEAD + length) == packed.len() && padding.iter().all(|b| *b == 0)
    } else {
        padding.is_empty()
    };
    if flags & !(ZSTD | PADDED) != 0 || !padded_right {
        return Err(crypto::open_failed());
    }
    if flags & ZSTD == 0 {
        return Ok(copy(body));
    }
    let content = zstd::bulk::decompress(body, limits::PAYLOAD_BYTES + 1024).map_err(|_| crypto::open_failed())?;
    Ok(SecretBytes::new(content))
}

/// The Padmé size for `len` bytes: only the top log₂(log₂ len)+1 bits of a size stay.
fn padme(len: usize) -> usize {
    let Some(exponent) = len.checked_ilog2().filter(|e| *e > 0) else { return len };
    let last_bits = exponent - (exponent.ilog2() + 1).min(exponent);
    let mask = (1_usize << last_bits) - 1;
    (len + mask) & !mask
}

fn copy(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padme_sizes_follow_the_paper() {
        for (len, padded) in [(1, 1), (2, 2), (9, 10), (100, 104), (1000, 1024), (1025, 1088), (10_000, 10_240)] {
            assert_eq!(padme(len), padded, "{len}");
        }
    }

    proptest! {
        #[test]
        fn packing_round_trips(content: Vec<u8>, repeat in 1_usize..50, compress: bool, pad: bool) {
            let content = content.repeat(repeat);
            let packed = pack(Packing { compress, pad }, &content).unwrap();
            let unpacked = unpack(&packed).unwrap();
            prop_assert_eq!(unpacked.expose_secret(), &content[..]);
            if pad {
                prop_assert_eq!(padme(packed.len()), packed.len());
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = unpack(&SecretBytes::new(bytes));
        }
    }
}
