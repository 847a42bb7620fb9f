//! Key pairs that a token makes: its mechanisms by their algorithm, and the public halves in our encoding.

use cryptoki::context::{Function, Pkcs11};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{
    Attribute, AttributeType, MlDsaParameterSetType, MlKemParameterSetType, ObjectHandle, ParameterSetType,
    SlhDsaParameterSetType,
};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::errors::{Failure, composite};
use super::objects::{check_locked_in, locked_in, value};
use crate::crypto::{Kem, Signature};
use crate::error::{Error, Result};
use crate::keys::keystore::custody::KeyAlgorithm;

/// The object identifier secp384r1 in DER (RFC 5480, section 2.1.1.1).
const SECP384R1: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// DER of an OCTET STRING of 97 bytes: what CKA_EC_POINT has before an uncompressed point of P-384.
const POINT_PREFIX: [u8; 2] = [0x04, 97];

/// Whether the token can make and use pairs of `algorithm`.
pub fn supports(module: &Pkcs11, slot: Slot, algorithm: KeyAlgorithm) -> bool {
    let needed = match algorithm {
        KeyAlgorithm::MlKem1024 => [MechanismType::ML_KEM_KEY_PAIR_GEN, MechanismType::ML_KEM],
        KeyAlgorithm::Signature(Signature::MlDsa65 | Signature::MlDsa87) => {
            [MechanismType::ML_DSA_KEY_PAIR_GEN, MechanismType::ML_DSA]
        }
        KeyAlgorithm::Signature(Signature::SlhDsaSha2_128s | Signature::SlhDsaSha2_192s) => {
            [MechanismType::SLH_DSA_KEY_PAIR_GEN, MechanismType::SLH_DSA]
        }
        KeyAlgorithm::Signature(Signature::EcdsaP384) => [MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA],
        KeyAlgorithm::Signature(Signature::MlDsa65EcdsaP384) => return false,
    };
    let callable = algorithm != KeyAlgorithm::MlKem1024 || module.is_fn_supported(Function::DecapsulateKey);
    callable && needed.into_iter().all(|mechanism| module.get_mechanism_info(slot, mechanism).is_ok())
}

/// Makes a pair that stays in the token, and returns its public half. The caller destroys what a failure leaves behind.
pub fn generate(session: &Session, algorithm: KeyAlgorithm, id: [u8; 16], label: &[u8]) -> Result<Vec<u8>, Failure> {
    let (mechanism, parameters) = generation(algorithm)?;
    let (public_use, private_use) = match algorithm {
        KeyAlgorithm::MlKem1024 => (Attribute::Encapsulate(true), Attribute::Decapsulate(true)),
        KeyAlgorithm::Signature(_) => (Attribute::Verify(true), Attribute::Sign(true)),
    };
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Id(id.to_vec()),
        Attribute::Label(label.to_vec()),
        public_use,
        parameters,
    ];
    let mut private = locked_in(id, label);
    private.push(private_use);
    let (public, private) = session.generate_key_pair(&mechanism, &public, &private)?;
    check_locked_in(session, private)?;
    public_key(session, algorithm, public)
}

fn generation(algorithm: KeyAlgorithm) -> Result<(Mechanism<'static>, Attribute)> {
    let set = |set: ParameterSetType| Attribute::ParameterSet(set);
    Ok(match algorithm {
        KeyAlgorithm::MlKem1024 => (Mechanism::MlKemKeyPairGen, set(MlKemParameterSetType::ML_KEM_1024.into())),
        KeyAlgorithm::Signature(Signature::MlDsa65) => {
            (Mechanism::MlDsaKeyPairGen, set(MlDsaParameterSetType::ML_DSA_65.into()))
        }
        KeyAlgorithm::Signature(Signature::MlDsa87) => {
            (Mechanism::MlDsaKeyPairGen, set(MlDsaParameterSetType::ML_DSA_87.into()))
        }
        KeyAlgorithm::Signature(Signature::SlhDsaSha2_128s) => {
            (Mechanism::SlhDsaKeyPairGen, set(SlhDsaParameterSetType::SHA2_128S.into()))
        }
        KeyAlgorithm::Signature(Signature::SlhDsaSha2_192s) => {
            (Mechanism::SlhDsaKeyPairGen, set(SlhDsaParameterSetType::SHA2_192S.into()))
        }
        KeyAlgorithm::Signature(Signature::EcdsaP384) => {
            (Mechanism::EccKeyPairGen, Attribute::EcParams(SECP384R1.to_vec()))
        }
        KeyAlgorithm::Signature(Signature::MlDsa65EcdsaP384) => {
            return Err(composite());
        }
    })
}

fn public_key(session: &Session, algorithm: KeyAlgorithm, public: ObjectHandle) -> Result<Vec<u8>, Failure> {
    let (name, expected) = match algorithm {
        KeyAlgorithm::MlKem1024 => (AttributeType::Value, Kem::MlKem1024.public_key_len()),
        KeyAlgorithm::Signature(Signature::EcdsaP384) => {
            (AttributeType::EcPoint, Signature::EcdsaP384.public_key_len())
        }
        KeyAlgorithm::Signature(signature) => (AttributeType::Value, signature.public_key_len()),
    };
    let bytes = value(session, public, name)?;
    let bytes = match bytes.strip_prefix(&POINT_PREFIX) {
        Some(point) if name == AttributeType::EcPoint && point.len() == expected => point.to_vec(),
        // Some tokens leave out the OCTET STRING around a point.
        _ => bytes,
    };
    if bytes.len() != expected {
        return Err(Error::integrity("a public key in the token").into());
    }
    Ok(bytes)
}
