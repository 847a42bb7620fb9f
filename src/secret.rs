//! The types that hold secrets: zeroized on drop, and without any way to print, copy or serialize them.
//!
//! ```compile_fail
//! # use strongroom::secret::Secret;
//! println!("{:?}", Secret::<32>::from_bytes([0; 32])); // no Debug
//! ```
//! ```compile_fail
//! # use strongroom::secret::Secret;
//! println!("{}", Secret::<32>::from_bytes([0; 32])); // no Display
//! ```
//! ```compile_fail
//! # use strongroom::secret::Secret;
//! let _ = Secret::<32>::from_bytes([0; 32]).clone(); // no Clone
//! ```
//! ```compile_fail
//! # use strongroom::secret::Secret;
//! serde_json::to_string(&Secret::<32>::from_bytes([0; 32])); // no Serialize
//! ```
//! ```compile_fail
//! # use strongroom::secret::SecretBytes;
//! println!("{:?}", SecretBytes::new(vec![0; 32])); // no Debug
//! ```

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::entropy;
use crate::error::{Error, Result};

/// A secret of exactly `N` bytes, kept on the heap so that moving it leaves no copy behind.
pub struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Takes over `bytes`. The caller's own copy is the caller's to erase.
    pub fn from_bytes(bytes: [u8; N]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// A secret filled in place by `fill`, so that no other copy is ever made.
    pub fn try_fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new(Zeroizing::new([0; N])));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// A copy of `bytes`, which are the caller's to erase. A length other than `N` is refused.
    pub fn copy_from(bytes: &[u8]) -> Result<Self> {
        Self::try_fill(|secret| {
            if bytes.len() != N {
                return Err(Error::invalid(format!("a secret has {} bytes instead of {N}", bytes.len())));
            }
            secret.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// `N` bytes from the [random source](entropy::fill).
    pub fn random() -> Result<Self> {
        Self::try_fill(|bytes| entropy::fill(bytes))
    }

    /// The bytes, for the one call that needs them.
    pub fn expose_secret(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0[..]).into()
    }
}

/// A secret of any length: a passphrase, an opened payload.
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes over `bytes` without copying them.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// `len` bytes from the [random source](entropy::fill).
    pub fn random(len: usize) -> Result<Self> {
        let mut secret = Self(vec![0; len]);
        entropy::fill(&mut secret.0)?;
        Ok(secret)
    }

    /// The bytes, for the one call that needs them.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for SecretBytes {
    /// Erases the whole allocation. `Zeroize` would write byte by byte, which costs more than opening a record.
    fn drop(&mut self) {
        self.0.resize(self.0.capacity(), 0);
        self.0.fill(0);
        zeroize::optimization_barrier(&self.0[..]);
    }
}
