//! The types of `schema/strongroom.proto`, with keys that are erased and cannot be printed.

use std::fmt;

use zeroize::Zeroize as _;

use crate::secret::Secret;

#[allow(missing_docs, clippy::all, reason = "generated from the schema, which documents everything")]
mod generated {
    tonic::include_proto!("strongroom.v1");
}

pub use generated::*;

impl SecretKey {
    pub(super) fn new(key: &Secret<32>) -> Self {
        Self { value: key.expose_secret().to_vec() }
    }

    pub(super) fn secret(&self) -> crate::Result<Secret<32>> {
        let bad = || crate::Error::internal("the key service answered with a key that has not 32 bytes");
        let value = <&[u8; 32]>::try_from(self.value.as_slice()).map_err(|_| bad())?;
        Secret::try_fill(|bytes| {
            bytes.copy_from_slice(value);
            Ok(())
        })
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

macro_rules! redacted_debug {
    ($($name:ty),*) => {$(
        impl fmt::Debug for $name {
            /// Says what it is, never what is inside.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

// Clients and servers of generated code want to print their messages.
redacted_debug!(SecretKey, KeyResult, KeysResponse, Encapsulated, EncapsulateResult);
redacted_debug!(key_result::Result, encapsulate_result::Result);
