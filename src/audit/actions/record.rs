//! An action as bytes: deterministic CBOR (RFC 8949, section 4.2.1), drawn in `schema/audit-action.md`.
//!
//! ```text
//! record = [1, id, tenant, agent, session, name, body_sha256, body_len, parent / null, acted_at_ms]
//! signed = "strongroom action v1" NUL record
//! ```

use coset::cbor::value::Value;
use coset::cbor::{de, ser};

use super::{Action, ActionId, Refusal, is_name};
use crate::crypto::Provider;
use crate::error::{Error, Result};
use crate::id::{AgentId, SessionId, TenantId};
use crate::keys::Signer;
use crate::limits;

/// The version of the form of a record.
pub const ACTION_VERSION: u64 = 1;
/// What is signed begins with this: a signer's other messages never do.
const SIGNED_PREFIX: &[u8] = b"strongroom action v1\0";

/// An action as its agent says it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRecord {
    /// Its own name.
    pub id: ActionId,
    /// The agent's tenant.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The session that the signer's key ends with.
    pub session: SessionId,
    /// What was done.
    pub name: String,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// Its length, in bytes.
    pub body_len: u64,
    /// The action that it followed from.
    pub parent: Option<ActionId>,
    /// When: Unix time in milliseconds.
    pub acted_at_ms: u64,
}

/// A record and the signature over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAction {
    /// The encoded record.
    pub record: Vec<u8>,
    /// The signer's signature over [`action_message`].
    pub signature: Vec<u8>,
}

/// What is signed for an encoded record.
pub fn action_message(record: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, record].concat()
}

impl SignedAction {
    /// Signs `action` as the `signer`'s.
    pub(super) fn sign(
        provider: &dyn Provider,
        signer: &Signer,
        id: ActionId,
        action: &Action,
        acted_at_ms: u64,
    ) -> Result<Self> {
        let (body_sha256, body_len) = action.digest(provider);
        let record = ActionRecord {
            id,
            tenant: signer.tenant().clone(),
            agent: signer.agent().clone(),
            session: signer.session(),
            name: action.name.clone(),
            body_sha256,
            body_len,
            parent: action.parent,
            acted_at_ms,
        };
        let record = record.encode()?;
        Ok(Self { signature: signer.sign(&action_message(&record))?, record })
    }

    /// SHA-256 of the record, as it stands in the log.
    pub fn digest(&self, provider: &dyn Provider) -> [u8; 32] {
        provider.sha256(&[&self.record])
    }
}

impl ActionRecord {
    /// The one encoding.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let text = |text: &str| Value::Text(text.to_owned());
        let fields = Value::Array(vec![
            ACTION_VERSION.into(),
            Value::Bytes(self.id.as_bytes().to_vec()),
            text(self.tenant.as_str()),
            text(self.agent.as_str()),
            Value::Bytes(self.session.as_bytes().to_vec()),
            text(&self.name),
            Value::Bytes(self.body_sha256.to_vec()),
            self.body_len.into(),
            self.parent.map_or(Value::Null, |parent| Value::Bytes(parent.as_bytes().to_vec())),
            self.acted_at_ms.into(),
        ]);
        let mut bytes = Vec::new();
        ser::into_writer(&fields, &mut bytes)
            .map_err(|e| Error::internal("encoding an action").with_source(e.to_string()))?;
        Ok(bytes)
    }

    /// Reads a record: refuses every encoding but the one, and what no record may say.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > limits::ACTION_RECORD_BYTES {
            return Err(Refusal::Malformed);
        }
        let value: Value = de::from_reader(bytes).map_err(|_| Refusal::Malformed)?;
        let record = value.into_array().ok().and_then(Self::of).ok_or(Refusal::Malformed)?;
        match record.encode() {
            Ok(again) if again == bytes => Ok(record),
            _ => Err(Refusal::Malformed),
        }
    }

    fn of(fields: Vec<Value>) -> Option<Self> {
        let [version, id, tenant, agent, session, name, body_sha256, body_len, parent, acted_at_ms] =
            <[Value; 10]>::try_from(fields).ok()?;
        if number(&version)? != ACTION_VERSION {
            return None;
        }
        let name = name.into_text().ok().filter(|name| is_name(name))?;
        let parent = if parent.is_null() { None } else { Some(ActionId::from(fixed(parent)?)) };
        Some(Self {
            id: ActionId::from(fixed(id)?),
            tenant: tenant.into_text().ok()?.parse().ok()?,
            agent: agent.into_text().ok()?.parse().ok()?,
            session: SessionId::from(fixed(session)?),
            name,
            body_sha256: fixed(body_sha256)?,
            body_len: number(&body_len)?,
            parent,
            acted_at_ms: number(&acted_at_ms)?,
        })
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|n| u64::try_from(n).ok())
}

fn fixed<const N: usize>(value: Value) -> Option<[u8; N]> {
    value.into_bytes().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = ActionRecord> {
        let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<Option<[u8; 16]>>());
        let rest = ("[a-z0-9][a-z0-9._-]{0,20}", "\\PC{1,40}", any::<[u8; 32]>(), any::<u64>(), any::<u64>());
        (ids, rest).prop_map(|((id, session, parent), (plain, name, body_sha256, body_len, acted_at_ms))| {
            ActionRecord {
                id: id.into(),
                tenant: plain.parse().unwrap(),
                agent: plain.parse().unwrap(),
                session: session.into(),
                name,
                body_sha256,
                body_len,
                parent: parent.map(ActionId::from),
                acted_at_ms,
            }
        })
    }

    proptest! {
        #[test]
        fn records_round_trip(record in record()) {
            prop_assert_eq!(ActionRecord::decode(&record.encode().unwrap()).unwrap(), record);
        }

        /// Guards against a second encoding of a record: its digest stands in the log.
        #[test]
        fn what_is_read_is_the_one_encoding(record in record(), at in 0_usize..200, with: u8, cut in 0_usize..200) {
            let bytes = record.encode().unwrap();
            let mut changed = bytes.clone();
            let at = at % bytes.len();
            changed[at] = with;
            let mut cut_off = bytes.clone();
            cut_off.truncate(cut % bytes.len());
            for hostile in [changed, cut_off, [&bytes[..], &[0]].concat()] {
                if let Ok(read) = ActionRecord::decode(&hostile) {
                    prop_assert_eq!(read.encode().unwrap(), hostile);
                }
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(ActionRecord::decode(&bytes));
        }
    }
}
