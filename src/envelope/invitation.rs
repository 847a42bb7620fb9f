//! Invitations: what a receiver hands to the one sender that may send to it in a session.

use coset::cbor::{de, ser};
use serde::ser::SerializeTuple as _;
use serde::{Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::codec::{ByteStrings, Chain, encoding};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::limits;

const INVITATION_VERSION: u64 = 1;

/// An invitation: nothing secret, and believed only as far as its certificates lead to the platform's authority. Whoever
/// has it first can use it up, so it is for one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    session: SessionId,
    /// DER: the receiver's tenant's certificate and its session's credential.
    chain: Vec<Vec<u8>>,
    expires_at_ms: u64,
}

impl Invitation {
    pub(super) fn new(session: SessionId, chain: Vec<Vec<u8>>, expires_at_ms: u64) -> Self {
        Self { session, chain, expires_at_ms }
    }

    /// The session that it invites into.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The tenant's certificate and the session's credential, DER.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// When it is no longer of use, as it says itself: Unix time in milliseconds.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// The canonical bytes: see `schema/envelope.md`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        ser::into_writer(self, &mut bytes).map_err(encoding)?;
        Ok(bytes)
    }

    /// The inverse of [`encode`](Self::encode); anything else is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed =
            || Error::invalid("malformed invitation").with_remedy("ask the receiver for the bytes as they were made");
        if bytes.len() > limits::INVITATION_BYTES {
            return Err(malformed());
        }
        let mut rest = bytes;
        let wire: Result<(u64, ByteBuf, Chain, u64), _> = de::from_reader(&mut rest);
        let (version, session, chain, expires_at_ms) = wire.map_err(|_| malformed())?;
        let session: [u8; 16] = session.as_ref().try_into().map_err(|_| malformed())?;
        let invitation = Self { session: session.into(), chain: chain.0, expires_at_ms };
        let canonical = rest.is_empty() && version == INVITATION_VERSION && invitation.encode()? == bytes;
        if canonical { Ok(invitation) } else { Err(malformed()) }
    }
}

impl Serialize for Invitation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_tuple(4)?;
        parts.serialize_element(&INVITATION_VERSION)?;
        parts.serialize_element(Bytes::new(self.session.as_bytes()))?;
        parts.serialize_element(&ByteStrings(&self.chain))?;
        parts.serialize_element(&self.expires_at_ms)?;
        parts.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn invitations_round_trip(
            session: [u8; 16],
            chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..=limits::CHAIN_CERTIFICATES),
            expires_at_ms: u64,
        ) {
            let invitation = Invitation::new(session.into(), chain, expires_at_ms);
            let bytes = invitation.encode().unwrap();
            prop_assert_eq!(Invitation::decode(&bytes).unwrap(), invitation);
        }

        #[test]
        fn hostile_invitations_never_panic(bytes: Vec<u8>, at: prop::sample::Index, mask: u8) {
            let mut changed = Invitation::new([1; 16].into(), vec![bytes.clone(); 2], 24).encode().unwrap();
            let at = at.index(changed.len());
            changed[at] ^= mask;
            for bytes in [bytes, changed] {
                if let Ok(invitation) = Invitation::decode(&bytes) {
                    prop_assert_eq!(invitation.encode().unwrap(), bytes);
                }
            }
        }
    }
}
