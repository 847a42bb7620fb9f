//! What a connection says of who calls: a user id on a Unix socket, a certificate over TLS.

use std::fmt;

use crate::error::{Error, Result};
use crate::id::shown;

/// What the connection says of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The user id of a process on this machine, from the kernel.
    Uid(u32),
    /// SHA-256 of a client certificate (DER), whose key was proved in the handshake.
    Certificate([u8; 32]),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Uid(uid) => write!(f, "user id {uid}"),
            Identity::Certificate(digest) => {
                f.write_str("certificate ")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// 32 bytes from 64 hexadecimal digits, with or without colons between them.
pub(crate) fn parse_sha256(text: &str) -> Result<[u8; 32]> {
    let bad = || {
        Error::invalid(format!("`{}` is not a certificate's SHA-256", shown(text)))
            .with_remedy("`openssl x509 -noout -fingerprint -sha256 -in FILE` prints it")
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return Err(bad());
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = pair.iter().try_fold(0, |n, digit| Some(n * 16 + char::from(*digit).to_digit(16)?));
        *byte = pair.and_then(|n| u8::try_from(n).ok()).ok_or_else(bad)?;
    }
    Ok(digest)
}
