//! What the payload field of a chunk holds: its text and its metadata, packed.

use serde::{Deserialize, Serialize};

use super::packing::{Packing, pack, unpack};
use crate::crypto;
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

#[derive(Serialize, Deserialize)]
struct PayloadPlain<'a> {
    text: &'a str,
    /// JSON.
    metadata: &'a str,
}

/// The plaintext of a payload field.
pub(crate) fn pack_payload(packing: Packing, text: &str, metadata: &str) -> Result<SecretBytes> {
    let plain = postcard::to_stdvec(&PayloadPlain { text, metadata });
    let plain = SecretBytes::new(plain.map_err(|e| Error::internal("encoding a payload").with_source(e))?);
    pack(packing, plain.expose_secret())
}

/// The inverse of [`pack_payload`]: calls `use_it` with text and metadata.
pub(crate) fn with_payload<T>(packed: &SecretBytes, use_it: impl FnOnce(&str, &str) -> Result<T>) -> Result<T> {
    let content = unpack(packed)?;
    let plain: PayloadPlain<'_> = postcard::from_bytes(content.expose_secret()).map_err(|_| crypto::open_failed())?;
    use_it(plain.text, plain.metadata)
}
