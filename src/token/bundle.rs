//! Sealed records and the token for them as JSON: what an orchestrator passes on.

use serde::{Deserialize, Serialize};

use super::record::HandoffRecord;
use crate::error::{Error, Result};
use crate::id::TenantId;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes in JSON: base64 (RFC 4648, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Sealed records and the token for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The tenant.
    pub tenant: String,
    /// The token; empty when nothing was found.
    pub token: Base64,
    /// Who issued it: the tenant's certificate and the signer's, DER.
    pub issuer: Vec<Base64>,
    /// Best first.
    pub records: Vec<BundledRecord>,
}

/// One record of a [`Bundle`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledRecord {
    /// Where it belongs, sealed.
    pub place: Base64,
    /// The record, sealed.
    pub sealed: Base64,
    /// The exact score of a search.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<f32>,
}

impl Bundle {
    /// What was handed on. `scores` may be fewer than there are records.
    pub fn new(
        tenant: &TenantId,
        token: Vec<u8>,
        issuer: Vec<Vec<u8>>,
        records: Vec<HandoffRecord>,
        scores: Vec<f32>,
    ) -> Self {
        let scores = scores.into_iter().map(Some).chain(std::iter::repeat(None));
        let record = |(record, score): (HandoffRecord, Option<f32>)| BundledRecord {
            place: Base64(record.place),
            sealed: Base64(record.sealed),
            score,
        };
        Self {
            tenant: tenant.as_str().to_owned(),
            token: Base64(token),
            issuer: issuer.into_iter().map(Base64).collect(),
            records: records.into_iter().zip(scores).map(record).collect(),
        }
    }

    /// The tenant.
    pub fn tenant(&self) -> Result<TenantId> {
        self.tenant.parse()
    }

    /// Who issued the token.
    pub fn issuer(&self) -> Vec<Vec<u8>> {
        self.issuer.iter().map(|der| der.0.clone()).collect()
    }

    /// The records.
    pub fn records(&self) -> Vec<HandoffRecord> {
        let record = |r: &BundledRecord| HandoffRecord { place: r.place.0.clone(), sealed: r.sealed.0.clone() };
        self.records.iter().map(record).collect()
    }

    /// Reads what [`serde_json`] has written.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|e| {
            Error::invalid(format!("this is not what a sealed search prints: {e}"))
                .with_remedy("give the output of `strongroom search --seal-for … --json`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bundles_round_trip(token: Vec<u8>, place: Vec<u8>, sealed: Vec<u8>, score in proptest::option::of(-1.0_f32..1.0)) {
            let (record, tenant) = (HandoffRecord { place, sealed }, "acme".parse().unwrap());
            let scores = score.into_iter().collect();
            let bundle = Bundle::new(&tenant, token, vec![vec![1]], vec![record.clone()], scores);
            let json = serde_json::to_vec(&bundle).unwrap();
            let back = Bundle::from_json(&json).unwrap();
            prop_assert_eq!(&back, &bundle);
            prop_assert_eq!(back.records(), [record]);
        }

        #[test]
        fn hostile_bundles_never_panic(json in "\\PC{0,200}") {
            let _ = Bundle::from_json(json.as_bytes());
        }
    }
}
