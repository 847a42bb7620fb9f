//! Tokens that a signer signed although it should not have: built here claim by claim, with nothing of ours but the key.

use coset::cbor::Value;
use coset::iana;
use coset::{CborSerializable as _, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _};
use strongroom::keys::Signer;
use strongroom::token::{Claims, Records};

pub struct Forge {
    pub protected: HeaderBuilder,
    pub unprotected: HeaderBuilder,
    /// In the order in which they are written.
    pub claims: Vec<(i64, Value)>,
    /// The version and the tenant.
    pub aad: Vec<u8>,
}

impl Forge {
    /// What an honest issuer would sign.
    pub fn new(signer: &Signer, claims: &Claims) -> Self {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let thumbprint = Value::Array(vec![Value::from(-16), bytes(signer.thumbprint())]);
        let records = match &claims.records {
            Records::List(list) => (-70_003, Value::Array(list.iter().map(|d| bytes(d.as_bytes())).collect())),
            Records::Tree { root, count } => (-70_004, Value::Array(vec![bytes(root), Value::from(*count)])),
        };
        let tenant = claims.tenant.as_str();
        Self {
            protected: HeaderBuilder::new().algorithm(iana::Algorithm::ML_DSA_65).value(34, thumbprint),
            unprotected: HeaderBuilder::new(),
            claims: vec![
                (1, Value::from(claims.issuer.as_str())),
                (3, Value::from(claims.audience.as_str())),
                (4, Value::from(claims.expires_at_s)),
                (5, Value::from(claims.not_before_s)),
                (6, Value::from(claims.issued_at_s)),
                (7, bytes(claims.id.as_bytes())),
                (8, Value::Map(vec![(Value::from(5), bytes(claims.holder.as_bytes()))])),
                (-70_001, Value::from(tenant)),
                (-70_002, Value::from("decrypt")),
                records,
                (-70_005, Value::from(claims.max_uses)),
            ],
            aad: [&[1], tenant.as_bytes()].concat(),
        }
    }

    /// With another value for a claim.
    pub fn set(mut self, claim: i64, value: Value) -> Self {
        self.claims.iter_mut().find(|(name, _)| *name == claim).unwrap().1 = value;
        self
    }

    pub fn without(mut self, claim: i64) -> Self {
        self.claims.retain(|(name, _)| *name != claim);
        self
    }

    pub fn with(mut self, claim: i64, value: Value) -> Self {
        self.claims.push((claim, value));
        self
    }

    pub fn payload(&self) -> Vec<u8> {
        let claims = self.claims.iter().map(|(name, value)| (Value::from(*name), value.clone())).collect();
        Value::Map(claims).to_vec().unwrap()
    }

    pub fn sign(self, signer: &Signer) -> Vec<u8> {
        let payload = self.payload();
        self.sign_payload(signer, payload)
    }

    pub fn sign_payload(self, signer: &Signer, payload: Vec<u8>) -> Vec<u8> {
        let token = CoseSign1Builder::new()
            .protected(self.protected.build())
            .unprotected(self.unprotected.build())
            .payload(payload)
            .try_create_signature(&self.aad, |message| signer.sign(message));
        token.unwrap().build().to_tagged_vec().unwrap()
    }
}
