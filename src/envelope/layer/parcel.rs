//! What of a request and of an answer goes into an envelope, as deterministic CBOR: `schema/envelope.md` draws it.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use coset::cbor::{de, ser};
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use crate::envelope::codec::encoding;
use crate::error::{Error, Result};
use crate::limits;
use crate::secret::SecretBytes;

const PARCEL_VERSION: u8 = 1;

/// A request.
pub(super) struct RequestParcel {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderMap,
    /// Where to answer to: an encoded invitation; none when an earlier one brought it.
    pub(super) reply_to: Option<Vec<u8>>,
    /// The signer of answers whose certificate the client has, by thumbprint.
    pub(super) knows: Option<[u8; 32]>,
}

/// An answer.
pub(super) struct AnswerParcel {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderMap,
}

#[derive(Serialize, Deserialize)]
struct RequestWire(u8, String, String, Fields, ByteBuf, Fields, Option<ByteBuf>, Option<ByteBuf>);

#[derive(Serialize, Deserialize)]
struct AnswerWire(u8, u16, Fields, ByteBuf, Fields);

impl RequestParcel {
    /// Refuses what the other side would refuse: too many fields, or too much of everything.
    pub(super) fn encode(self) -> Result<SecretBytes> {
        check_fields([&self.headers, &self.trailers])?;
        let (headers, trailers) = (Fields(self.headers), Fields(self.trailers));
        let reply_to = self.reply_to.map(ByteBuf::from);
        let knows = self.knows.map(ByteBuf::from);
        let body = ByteBuf::from(self.body);
        encode(&RequestWire(PARCEL_VERSION, self.method, self.target, headers, body, trailers, reply_to, knows))
    }

    /// Refuses every encoding but the one that [`encode`](Self::encode) gives.
    pub(super) fn decode(payload: &[u8]) -> Result<Self> {
        let RequestWire(version, method, target, headers, body, trailers, reply_to, knows) = decode(payload)?;
        if version != PARCEL_VERSION {
            return Err(malformed());
        }
        let knows = knows.map(|thumbprint| <[u8; 32]>::try_from(thumbprint.as_ref())).transpose();
        Ok(Self {
            method,
            target,
            headers: headers.0,
            body: body.into_vec(),
            trailers: trailers.0,
            reply_to: reply_to.map(ByteBuf::into_vec),
            knows: knows.map_err(|_| malformed())?,
        })
    }
}

impl AnswerParcel {
    /// What a peer is told of an answer that it cannot have: what was done was done.
    pub(super) fn lost() -> Self {
        let (headers, trailers) = <(HeaderMap, HeaderMap)>::default();
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, headers, body: Vec::new(), trailers }
    }

    /// Refuses what the other side would refuse: too many fields, or too much of everything.
    pub(super) fn encode(self) -> Result<SecretBytes> {
        check_fields([&self.headers, &self.trailers])?;
        let (headers, trailers) = (Fields(self.headers), Fields(self.trailers));
        encode(&AnswerWire(PARCEL_VERSION, self.status.as_u16(), headers, ByteBuf::from(self.body), trailers))
    }

    /// Refuses every encoding but the one that [`encode`](Self::encode) gives.
    pub(super) fn decode(payload: &[u8]) -> Result<Self> {
        let AnswerWire(version, status, headers, body, trailers) = decode(payload)?;
        let status = StatusCode::from_u16(status).map_err(|_| malformed())?;
        if version != PARCEL_VERSION {
            return Err(malformed());
        }
        Ok(Self { status, headers: headers.0, body: body.into_vec(), trailers: trailers.0 })
    }
}

fn encode(parcel: &impl Serialize) -> Result<SecretBytes> {
    let mut bytes = Vec::new();
    ser::into_writer(parcel, &mut bytes).map_err(encoding)?;
    let bytes = SecretBytes::new(bytes);
    if bytes.len() <= limits::ENVELOPE_PAYLOAD_BYTES {
        return Ok(bytes);
    }
    Err(Error::invalid("headers and body are too long for an envelope")
        .with_remedy(format!("send at most {} bytes at once", limits::ENVELOPE_PAYLOAD_BYTES)))
}

fn check_fields(fields: [&HeaderMap; 2]) -> Result<()> {
    if fields.iter().all(|fields| fields.len() <= limits::ENVELOPE_FIELDS) {
        return Ok(());
    }
    Err(Error::invalid("too many headers for an envelope")
        .with_remedy(format!("use at most {}, and as many trailers", limits::ENVELOPE_FIELDS)))
}

fn decode<T: Serialize + DeserializeOwned>(payload: &[u8]) -> Result<T> {
    let parcel: T = de::from_reader(payload).map_err(|_| malformed())?;
    if encode(&parcel)?.expose_secret() == payload { Ok(parcel) } else { Err(malformed()) }
}

/// Headers or trailers: names and values, in order.
struct Fields(HeaderMap);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            list.serialize_element(&(name.as_str(), Bytes::new(value.as_bytes())))?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
                let mut fields = HeaderMap::new();
                while let Some((name, value)) = list.next_element::<(String, ByteBuf)>()? {
                    if fields.len() == limits::ENVELOPE_FIELDS {
                        return Err(A::Error::custom("too many"));
                    }
                    let name = HeaderName::from_bytes(name.as_bytes()).map_err(A::Error::custom)?;
                    let value = HeaderValue::from_bytes(&value).map_err(A::Error::custom)?;
                    fields.append(name, value);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

fn malformed() -> Error {
    Error::invalid("malformed request or answer in an envelope")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> impl Strategy<Value = HeaderMap> {
        let field = ("[a-z][a-z0-9-]{0,20}", prop::collection::vec(0x20..0x7f_u8, 0..40));
        prop::collection::vec(field, 0..6).prop_map(|fields| {
            let parse = |(name, value): (String, Vec<u8>)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(&value).unwrap())
            };
            fields.into_iter().map(parse).collect()
        })
    }

    proptest! {
        #[test]
        fn parcels_round_trip(
            headers in fields(), trailers in fields(), body: Vec<u8>, target in "/\\PC{0,20}",
            reply_to: Option<Vec<u8>>, knows: Option<[u8; 32]>, status in 100..1000_u16,
        ) {
            let again = |headers: &HeaderMap| headers.clone();
            let request = RequestParcel {
                method: "POST".into(), target: target.clone(), headers: again(&headers), body: body.clone(),
                trailers: again(&trailers), reply_to: reply_to.clone(), knows,
            };
            let request = RequestParcel::decode(request.encode().unwrap().expose_secret()).unwrap();
            prop_assert!(request.method == "POST" && request.target == target && request.headers == headers);
            prop_assert!(request.body == body && request.trailers == trailers && request.reply_to == reply_to && request.knows == knows);
            let status = StatusCode::from_u16(status).unwrap();
            let answer = AnswerParcel { status, headers: again(&headers), body: body.clone(), trailers: again(&trailers) };
            let answer = AnswerParcel::decode(answer.encode().unwrap().expose_secret()).unwrap();
            prop_assert!(answer.status == status && answer.headers == headers);
            prop_assert!(answer.body == body && answer.trailers == trailers);
        }

        #[test]
        fn hostile_parcels_never_panic(bytes: Vec<u8>, flip in 0..400_usize, mask in 1..=255_u8, headers in fields()) {
            let _ = (RequestParcel::decode(&bytes), AnswerParcel::decode(&bytes));
            let answer = AnswerParcel { status: StatusCode::OK, headers, body: bytes, trailers: HeaderMap::new() };
            let mut encoded = answer.encode().unwrap().expose_secret().to_vec();
            let at = flip % encoded.len();
            encoded[at] ^= mask;
            if let Ok(other) = AnswerParcel::decode(&encoded) {
                let again = other.encode().unwrap();
                prop_assert_eq!(again.expose_secret(), &encoded[..]);
            }
        }
    }

    #[test]
    fn a_parcel_has_only_so_many_fields() {
        let field = |n: usize| (format!("x-{n}").parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"));
        for (count, fits) in [(limits::ENVELOPE_FIELDS, true), (limits::ENVELOPE_FIELDS + 1, false)] {
            let headers: HeaderMap = (0..count).map(field).collect();
            let wire =
                AnswerWire(PARCEL_VERSION, 200, Fields(headers.clone()), ByteBuf::new(), Fields(HeaderMap::new()));
            assert_eq!(AnswerParcel::decode(encode(&wire).unwrap().expose_secret()).is_ok(), fits);
            let answer = AnswerParcel { headers, ..AnswerParcel::lost() };
            assert_eq!(answer.encode().is_ok(), fits);
        }
    }
}
