//! Envelopes made by hand, from `schema/envelope.md` alone, by somebody who has a certified signer and the key.

use std::sync::Arc;

use coset::cbor::value::Value;
use strongroom::TenantId;
use strongroom::clock::Clock as _;
use strongroom::crypto::default_provider;
use strongroom::envelope::{Invitation, Kind};
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{Encapsulated, Handle, Kms as _, Recipient, Role};
use strongroom::keys::{Profile, Signer, Signers};

use super::world::World;

/// A sender that makes envelopes as it likes.
pub struct Forge {
    pub signer: Arc<Signer>,
    profile: Profile,
    recipient: TenantId,
    to: Encapsulated,
    now_ms: u64,
}

/// The fields of a header, in the order of their keys.
pub type Fields = Vec<(u64, Value)>;

impl Forge {
    pub fn new(world: &World, tenant: &TenantId, agent: &str, recipient: &TenantId, invitation: &Invitation) -> Self {
        let kms = world.of(Role::Agent, tenant);
        let signer = signer(world, &kms, tenant, agent, SignerUse::Envelopes);
        let to = encapsulated(world, tenant, invitation);
        let profile = kms.describe(tenant).unwrap().profile;
        Self { signer, profile, recipient: recipient.clone(), to, now_ms: world.clock.now_ms() }
    }

    /// The same with a signer for tokens, such as stores have.
    pub fn with_token_signer(self, world: &World) -> Self {
        let (tenant, agent) = (self.signer.tenant(), self.signer.agent().as_str());
        let signer = signer(world, &world.of(Role::Store, tenant), tenant, agent, SignerUse::Tokens);
        Self { signer, ..self }
    }

    /// The same sender with a key for another session of the same tenant.
    pub fn readdressed(self, world: &World, invitation: &Invitation) -> Self {
        let to = encapsulated(world, self.signer.tenant(), invitation);
        Self { to, ..self }
    }

    /// What is right, with the sender's chain.
    pub fn fields(&self, sequence: u64) -> Fields {
        let (kem, signature, suite) = match self.profile {
            Profile::Hybrid => (3, -49, 1),
            Profile::Pure => (1, -49, 1),
            Profile::Cnsa2 => (2, -50, 3),
            Profile::Fips => (1, -49, 2),
        };
        let chain = self.signer.chain().iter().map(|der| Value::Bytes(der.clone())).collect();
        let values = [
            Value::from(1),
            Value::from(Kind::ToolArguments.as_u8()),
            Value::from(self.signer.tenant().as_str()),
            Value::from(self.signer.agent().as_str()),
            Value::Bytes(self.signer.thumbprint().to_vec()),
            Value::from(self.recipient.as_str()),
            Value::Bytes(self.to.session.as_bytes().to_vec()),
            Value::from(kem),
            Value::Bytes(self.to.ciphertext.clone()),
            Value::from(signature),
            Value::from(suite),
            Value::from(self.now_ms),
            Value::from(self.now_ms + 60_000),
            Value::from(sequence),
            Value::Bytes(sequence.to_be_bytes().into_iter().cycle().take(12).collect()),
            Value::Bytes(b"call-7".to_vec()),
            Value::Array(chain),
        ];
        values.into_iter().enumerate().map(|(key, value)| (key as u64, value)).collect()
    }

    /// Sealed with the envelope's key and signed by our signer, whatever the fields say.
    pub fn make(&self, fields: &Fields, payload: &[u8]) -> Vec<u8> {
        self.sign(fields, &self.seal(fields, payload))
    }

    pub fn seal(&self, fields: &Fields, payload: &[u8]) -> Vec<u8> {
        let nonce = find(fields, 14).as_bytes().unwrap().as_slice().try_into().unwrap();
        let aead = default_provider().aead(self.profile.suite().aead(), &self.to.key).unwrap();
        let mut ciphertext = Vec::new();
        aead.seal(&nonce, &header(fields), payload, &mut ciphertext).unwrap();
        ciphertext
    }

    pub fn sign(&self, fields: &Fields, ciphertext: &[u8]) -> Vec<u8> {
        let prefix = b"strongroom envelope v1\0".to_vec();
        let signed = [prefix, header(fields), encoded(&Value::Bytes(ciphertext.to_vec()))].concat();
        envelope(fields, ciphertext, &self.signer.sign(&signed).unwrap())
    }
}

fn signer(world: &World, kms: &Handle, tenant: &TenantId, agent: &str, purpose: SignerUse) -> Arc<Signer> {
    let (kms, clock) = (Arc::new(kms.clone()), Arc::new(world.clock.clone()));
    Signers::new(kms, default_provider(), clock, agent.parse().unwrap(), purpose).of(tenant).unwrap()
}

fn encapsulated(world: &World, tenant: &TenantId, invitation: &Invitation) -> Encapsulated {
    let to = [Recipient::Credential(invitation.chain().to_vec())];
    world.of(Role::Agent, tenant).encapsulate(tenant, &to).unwrap().pop().unwrap().unwrap()
}

/// An envelope of its parts.
pub fn envelope(fields: &Fields, ciphertext: &[u8], signature: &[u8]) -> Vec<u8> {
    let bytes = |bytes: &[u8]| encoded(&Value::Bytes(bytes.to_vec()));
    [vec![0x83], header(fields), bytes(ciphertext), bytes(signature)].concat()
}

/// The parts of an envelope: fields, ciphertext, signature.
pub fn parts(envelope: &[u8]) -> (Fields, Vec<u8>, Vec<u8>) {
    let value: Value = coset::cbor::de::from_reader(envelope).unwrap();
    let Ok([header, ciphertext, signature]) = <[Value; 3]>::try_from(value.into_array().unwrap()) else {
        panic!("not three parts");
    };
    let field = |(key, value): (Value, Value)| (key.into_integer().unwrap().try_into().unwrap(), value);
    let fields = header.into_map().unwrap().into_iter().map(field).collect();
    (fields, ciphertext.into_bytes().unwrap(), signature.into_bytes().unwrap())
}

/// The fields with another value for `key`; without it when that is null.
pub fn with(fields: &Fields, key: u64, value: &Value) -> Fields {
    let change = |(k, old): &(u64, Value)| (*k, if *k == key { value.clone() } else { old.clone() });
    fields.iter().map(change).filter(|(_, value)| !value.is_null()).collect()
}

fn find(fields: &Fields, key: u64) -> &Value {
    &fields.iter().find(|(k, _)| *k == key).unwrap().1
}

fn header(fields: &Fields) -> Vec<u8> {
    encoded(&Value::Map(fields.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect()))
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    coset::cbor::ser::into_writer(value, &mut bytes).unwrap();
    bytes
}
