//! RFC 6962 hashes, as the verifier makes them: straight from `sha2`.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(super) type Sum = [u8; 32];

/// Of an entry.
pub(super) fn entry(bytes: &[u8]) -> Sum {
    let mut sha = Sha256::new();
    sha.update([0x00]);
    sha.update(bytes);
    sha.finalize().into()
}

/// Of two children.
pub(super) fn pair(left: &[u8], right: &[u8]) -> Sum {
    let mut sha = Sha256::new();
    sha.update([0x01]);
    sha.update(left);
    sha.update(right);
    sha.finalize().into()
}

/// Of anything, not in a tree.
pub(super) fn plain(bytes: &[u8]) -> Sum {
    Sha256::digest(bytes).into()
}
