//! Envelopes as bytes: the deterministic CBOR (RFC 8949, section 4.2.1) that `schema/envelope.cddl` describes.
//!
//! What is decoded is encoded anew and compared, so that an envelope has one encoding, and what was signed and sealed
//! over is a part of the very bytes that came.

use std::fmt;
use std::ops::Range;

use coset::cbor::{de, ser};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::header::{Algorithms, ENVELOPE_VERSION, Header, Kind, kem_number, kem_of, signature_number, signature_of};
use crate::crypto::SuiteId;
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::limits;

/// What is signed begins with this: a signer's other messages never do.
const SIGNED_PREFIX: &[u8] = b"strongroom envelope v1\0";
/// The head of an array of three: header, ciphertext, signature.
const ARRAY_OF_3: u8 = 0x83;

/// An envelope: decoded, but not verified. It says nothing that can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) header: Header,
    bytes: Vec<u8>,
    header_at: Range<usize>,
    ciphertext_at: Range<usize>,
    signature_at: Range<usize>,
}

impl Envelope {
    /// Decodes an envelope. Refuses every encoding but the one that [`assemble`] gives, and what is longer than
    /// [`limits::ENVELOPE_BYTES`].
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > limits::ENVELOPE_BYTES {
            return Err(malformed());
        }
        let mut rest = bytes;
        let Wire { header, ciphertext, signature } = de::from_reader(&mut rest).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        let again = assemble(header, |_| Ok(ciphertext.into_vec()), |_| Ok(signature.into_vec()))?;
        if again.bytes != bytes {
            return Err(malformed());
        }
        Ok(again)
    }

    /// The whole envelope, taken over.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The encoded header: the associated data of the ciphertext.
    pub(super) fn aad(&self) -> &[u8] {
        self.bytes.get(self.header_at.clone()).unwrap_or_default()
    }

    /// Ciphertext and tag.
    pub(super) fn ciphertext(&self) -> &[u8] {
        self.bytes.get(self.ciphertext_at.clone()).unwrap_or_default()
    }

    /// The sender's signature.
    pub(super) fn signature(&self) -> &[u8] {
        self.bytes.get(self.signature_at.clone()).unwrap_or_default()
    }

    /// What the signature is over: a prefix, the header, the ciphertext.
    pub(super) fn signed(&self) -> Vec<u8> {
        let signed = self.bytes.get(self.header_at.start..self.ciphertext_at.end).unwrap_or_default();
        [SIGNED_PREFIX, signed].concat()
    }
}

/// An envelope of its parts: `seal` makes the ciphertext, given the encoded header, and `sign` the signature.
pub(super) fn assemble(
    header: Header,
    seal: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<Envelope> {
    let mut bytes = vec![ARRAY_OF_3];
    ser::into_writer(&header, &mut bytes).map_err(encoding)?;
    let header_at = 1..bytes.len();
    let mut envelope = Envelope { header, bytes, header_at, ciphertext_at: 0..0, signature_at: 0..0 };
    let ciphertext = seal(envelope.aad())?;
    envelope.ciphertext_at = append(&mut envelope.bytes, &ciphertext)?;
    let signature = sign(&envelope.signed())?;
    envelope.signature_at = append(&mut envelope.bytes, &signature)?;
    Ok(envelope)
}

/// Appends a byte string. Returns where its content is.
fn append(bytes: &mut Vec<u8>, content: &[u8]) -> Result<Range<usize>> {
    ser::into_writer(Bytes::new(content), &mut *bytes).map_err(encoding)?;
    Ok(bytes.len() - content.len()..bytes.len())
}

struct Wire {
    header: Header,
    ciphertext: ByteBuf,
    signature: ByteBuf,
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Wire;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("header, ciphertext and signature")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Wire, A::Error> {
                let missing = || A::Error::custom("too short");
                let header = parts.next_element()?.ok_or_else(missing)?;
                let ciphertext = parts.next_element()?.ok_or_else(missing)?;
                let signature = parts.next_element()?.ok_or_else(missing)?;
                Ok(Wire { header, ciphertext, signature })
            }
        }
        deserializer.deserialize_tuple(3, Parts)
    }
}

/// The keys of the header's map, in their order.
mod key {
    pub(super) const VERSION: u64 = 0;
    pub(super) const KIND: u64 = 1;
    pub(super) const SENDER: u64 = 2;
    pub(super) const AGENT: u64 = 3;
    pub(super) const THUMBPRINT: u64 = 4;
    pub(super) const RECIPIENT: u64 = 5;
    pub(super) const SESSION: u64 = 6;
    pub(super) const KEM: u64 = 7;
    pub(super) const KEM_CIPHERTEXT: u64 = 8;
    pub(super) const SIGNATURE: u64 = 9;
    pub(super) const SUITE: u64 = 10;
    pub(super) const ISSUED_AT: u64 = 11;
    pub(super) const EXPIRES_AT: u64 = 12;
    pub(super) const SEQUENCE: u64 = 13;
    pub(super) const NONCE: u64 = 14;
    pub(super) const CORRELATION: u64 = 15;
    pub(super) const CHAIN: u64 = 16;
}

/// How many keys are always there.
const REQUIRED: usize = 15;

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let optional = usize::from(!self.correlation.is_empty()) + usize::from(!self.chain.is_empty());
        let mut map = serializer.serialize_map(Some(REQUIRED + optional))?;
        map.serialize_entry(&key::VERSION, &ENVELOPE_VERSION)?;
        map.serialize_entry(&key::KIND, &self.kind.as_u8())?;
        map.serialize_entry(&key::SENDER, self.sender.as_str())?;
        map.serialize_entry(&key::AGENT, self.agent.as_str())?;
        map.serialize_entry(&key::THUMBPRINT, Bytes::new(&self.thumbprint))?;
        map.serialize_entry(&key::RECIPIENT, self.recipient.as_str())?;
        map.serialize_entry(&key::SESSION, Bytes::new(self.session.as_bytes()))?;
        map.serialize_entry(&key::KEM, &kem_number(self.algorithms.kem))?;
        map.serialize_entry(&key::KEM_CIPHERTEXT, Bytes::new(&self.kem_ciphertext))?;
        map.serialize_entry(&key::SIGNATURE, &signature_number(self.algorithms.signature))?;
        map.serialize_entry(&key::SUITE, &self.algorithms.suite.as_u16())?;
        map.serialize_entry(&key::ISSUED_AT, &self.issued_at_ms)?;
        map.serialize_entry(&key::EXPIRES_AT, &self.expires_at_ms)?;
        map.serialize_entry(&key::SEQUENCE, &self.sequence)?;
        map.serialize_entry(&key::NONCE, Bytes::new(&self.nonce))?;
        if !self.correlation.is_empty() {
            map.serialize_entry(&key::CORRELATION, Bytes::new(&self.correlation))?;
        }
        if !self.chain.is_empty() {
            map.serialize_entry(&key::CHAIN, &ByteStrings(&self.chain))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the header of an envelope")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                read_header(&mut map)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn read_header<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Header, A::Error> {
    let unknown = || A::Error::custom("unknown");
    if next::<u64, A>(map, key::VERSION)? != ENVELOPE_VERSION {
        return Err(unknown());
    }
    let kind = Kind::of(next(map, key::KIND)?).ok_or_else(unknown)?;
    let sender = next::<String, A>(map, key::SENDER)?.parse().map_err(A::Error::custom)?;
    let agent = next::<String, A>(map, key::AGENT)?.parse().map_err(A::Error::custom)?;
    let thumbprint = next_array(map, key::THUMBPRINT)?;
    let recipient = next::<String, A>(map, key::RECIPIENT)?.parse().map_err(A::Error::custom)?;
    let session = SessionId::from(next_array::<16, A>(map, key::SESSION)?);
    let kem = kem_of(next(map, key::KEM)?).ok_or_else(unknown)?;
    let kem_ciphertext = next::<ByteBuf, A>(map, key::KEM_CIPHERTEXT)?.into_vec();
    if kem_ciphertext.len() != kem.ciphertext_len() {
        return Err(unknown());
    }
    let signature = signature_of(next(map, key::SIGNATURE)?).ok_or_else(unknown)?;
    let suite = SuiteId::try_from(next::<u16, A>(map, key::SUITE)?).map_err(A::Error::custom)?;
    let (issued_at_ms, expires_at_ms) = (next(map, key::ISSUED_AT)?, next(map, key::EXPIRES_AT)?);
    let (sequence, nonce) = (next(map, key::SEQUENCE)?, next_array(map, key::NONCE)?);
    let Optional { correlation, chain } = read_optional(map)?;
    let algorithms = Algorithms { kem, suite, signature };
    Ok(Header {
        kind,
        sender,
        agent,
        thumbprint,
        recipient,
        session,
        algorithms,
        kem_ciphertext,
        issued_at_ms,
        expires_at_ms,
        sequence,
        nonce,
        correlation,
        chain,
    })
}

/// The fields that need not be there.
#[derive(Default)]
struct Optional {
    correlation: Vec<u8>,
    chain: Vec<Vec<u8>>,
}

/// Reads what is left of a header. A field that is there twice, empty or out of order differs when encoded anew.
fn read_optional<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Optional, A::Error> {
    let mut read = Optional::default();
    while let Some(name) = map.next_key::<u64>()? {
        match name {
            key::CORRELATION => read.correlation = map.next_value::<ByteBuf>()?.into_vec(),
            key::CHAIN => read.chain = map.next_value::<Chain>()?.0,
            _ => return Err(A::Error::custom("unknown")),
        }
    }
    let long = read.correlation.len() > limits::ENVELOPE_CORRELATION_BYTES;
    if long { Err(A::Error::custom("too long")) } else { Ok(read) }
}

/// The value of the next entry, which has to be the one of `name`.
fn next<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: &mut A, name: u64) -> Result<T, A::Error> {
    match map.next_key::<u64>()? {
        Some(found) if found == name => map.next_value(),
        _ => Err(A::Error::custom("a field is missing")),
    }
}

fn next_array<'de, const N: usize, A: MapAccess<'de>>(map: &mut A, name: u64) -> Result<[u8; N], A::Error> {
    let bytes: ByteBuf = next(map, name)?;
    <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| A::Error::custom("wrong length"))
}

/// A list of byte strings, to be written.
pub(super) struct ByteStrings<'a>(pub(super) &'a [Vec<u8>]);

impl Serialize for ByteStrings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|bytes| list.serialize_element(Bytes::new(bytes)))?;
        list.end()
    }
}

/// A chain of certificates, with the bounds of one.
pub(super) struct Chain(pub(super) Vec<Vec<u8>>);

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Certificates;
        impl<'de> Visitor<'de> for Certificates {
            type Value = Chain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a chain of certificates")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Chain, A::Error> {
                let mut chain = Vec::new();
                while let Some(der) = list.next_element::<ByteBuf>()? {
                    if chain.len() == limits::CHAIN_CERTIFICATES || der.len() > limits::CERTIFICATE_BYTES {
                        return Err(A::Error::custom("too long"));
                    }
                    chain.push(der.into_vec());
                }
                Ok(Chain(chain))
            }
        }
        deserializer.deserialize_seq(Certificates)
    }
}

/// Bytes that are no envelope.
fn malformed() -> Error {
    Error::invalid("malformed envelope").with_remedy("ask whoever sent it for the bytes as they were made")
}

/// A value that our own types cannot encode: a defect.
pub(super) fn encoding(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("an envelope could not be encoded").with_source(e)
}

#[cfg(test)]
mod tests;
