//! Guards against a custody of private keys that computes something else than software does, lets a key out, gives one
//! to the wrong role, or keeps one that was destroyed. One suite, run on every custody, with real tokens.

#[path = "common/token.rs"]
mod token;

use strongroom::crypto::aws_lc::AwsLc;
use strongroom::crypto::rustcrypto::RustCrypto;
use strongroom::crypto::{self, Kdf, Kem, Provider, Signature, composite};
use strongroom::keys::keystore::custody::{Custody, CustodyKind, HeldKey, KeyAlgorithm, KeyPurpose, KeyRole};
use strongroom::keys::keystore::file::{FileCustody, KdfCost};
use strongroom::keys::keystore::pkcs11::{Pkcs11Custody, TokenConfig, WrappedCustody};
use strongroom::secret::SecretBytes;
use strongroom::{ErrorKind, TenantId};
use token::{KRYOPTIC, KRYOPTIC_2, SOFTHSM, in_own_process, pin};

const PROVIDERS: [&dyn Provider; 2] = [&AwsLc, &RustCrypto];
const KDFS: [Kdf; 2] = [Kdf::HkdfSha3_512, Kdf::HkdfSha384];

fn in_token(token: TokenConfig) -> Box<dyn Custody> {
    Box::new(Pkcs11Custody::open(token, pin(), crypto::default_provider()).unwrap())
}

fn wrapped(token: TokenConfig) -> Box<dyn Custody> {
    Box::new(WrappedCustody::open(token, pin(), crypto::default_provider()).unwrap())
}

fn file() -> Box<dyn Custody> {
    Box::new(FileCustody::open(crypto::default_provider(), &pin(), KdfCost::INSECURE_FAST, &[7; 32]).unwrap())
}

/// Runs `test` on every custody.
fn on_each(name: &str, test: impl Fn(&dyn Custody)) {
    on_each_token(name, |custody| test(custody));
    if !token::is_own_process() {
        test(&*file());
    }
}

/// Runs `test` on every custody over a token, each a token of its own.
fn on_each_token(name: &str, test: impl Fn(&dyn Custody)) {
    in_own_process(name, || {
        test(&*in_token(token::kryoptic(KRYOPTIC)));
        test(&*wrapped(token::kryoptic(KRYOPTIC_2)));
        test(&*wrapped(token::softhsm(SOFTHSM)));
    });
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn role(purpose: KeyPurpose) -> KeyRole {
    KeyRole::random(tenant(), purpose).unwrap()
}

fn root(custody: &dyn Custody) -> (KeyRole, HeldKey) {
    let role = role(KeyPurpose::Root);
    let key = custody.generate(&role, KeyAlgorithm::MlKem1024).unwrap();
    (role, key)
}

fn held(key: &HeldKey) -> HeldKey {
    HeldKey {
        algorithm: key.algorithm,
        public_key: key.public_key.clone(),
        private: SecretBytes::new(key.private.expose_secret().to_vec()),
    }
}

/// What `ciphertext` gives for one salt and info, or why not.
fn derive(custody: &dyn Custody, role: &KeyRole, key: &HeldKey, ciphertext: &[u8]) -> strongroom::Result<[u8; 32]> {
    let secret = custody.epoch_secret(role, key, ciphertext, Kdf::HkdfSha3_512, b"salt")?;
    Ok(*secret.derive(b"info")?.expose_secret())
}

#[test]
fn every_custody_derives_what_software_does() {
    on_each("every_custody_derives_what_software_does", |custody| {
        let (role, key) = root(custody);
        for provider in PROVIDERS {
            let (ciphertext, shared) = provider.kem_encapsulate(Kem::MlKem1024, &key.public_key).unwrap();
            for (kdf, salt, info) in KDFS.iter().flat_map(|kdf| {
                [
                    (*kdf, &b"acme"[..], &b"label"[..]),
                    (*kdf, b"", b"i"),
                    (*kdf, b"s", b""),
                    (*kdf, &[7; 300], &[8; 900]),
                ]
            }) {
                let derived = custody.epoch_secret(&role, &key, &ciphertext, kdf, salt).unwrap().derive(info).unwrap();
                let prk = provider.hkdf_extract(kdf, salt, shared.expose_secret());
                let mut expected = [0; 32];
                provider.hkdf_expand(kdf, &prk, info, &mut expected).unwrap();
                assert_eq!(*derived.expose_secret(), expected, "{} {kdf:?}", custody.kind());
            }
        }
    });
}

#[test]
fn a_forged_ciphertext_gives_another_secret_and_a_short_one_none() {
    on_each("a_forged_ciphertext_gives_another_secret_and_a_short_one_none", |custody| {
        let (role, key) = root(custody);
        let (mut ciphertext, _) = AwsLc.kem_encapsulate(Kem::MlKem1024, &key.public_key).unwrap();
        let right = derive(custody, &role, &key, &ciphertext).unwrap();
        ciphertext[700] ^= 1;
        let wrong = derive(custody, &role, &key, &ciphertext).unwrap();
        assert_ne!(wrong, right);
        assert_eq!(wrong, derive(custody, &role, &key, &ciphertext).unwrap(), "implicit rejection is a function");
        for length in [0, 1088, 1567] {
            let refused = derive(custody, &role, &key, &ciphertext[..length]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        }
        ciphertext.push(0);
        assert_eq!(derive(custody, &role, &key, &ciphertext).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// A file keystore binds a seed to its tenant by the record that it is sealed in, and destroys it with that.
#[test]
fn another_role_does_not_get_the_key() {
    on_each_token("another_role_does_not_get_the_key", |custody| {
        let (role, key) = root(custody);
        let (ciphertext, _) = AwsLc.kem_encapsulate(Kem::MlKem1024, &key.public_key).unwrap();
        let mut serial = *role.serial();
        serial[15] ^= 1;
        let others = [
            KeyRole::new("acme2".parse().unwrap(), KeyPurpose::Root, *role.serial()),
            KeyRole::new(tenant(), KeyPurpose::Signing, *role.serial()),
            KeyRole::new(tenant(), KeyPurpose::Root, serial),
        ];
        for other in others {
            assert!(derive(custody, &other, &key, &ciphertext).is_err(), "{other:?}");
        }
        // A role with a key of its own does not open another's.
        let right = derive(custody, &role, &key, &ciphertext).unwrap();
        let (second, _) = root(custody);
        assert!(derive(custody, &second, &key, &ciphertext).map_or(true, |secret| secret != right));
        // A root key does not sign, and a signing key does not decapsulate.
        assert!(custody.signer(&role, &key).is_err());
        let signing = self::role(KeyPurpose::Signing);
        let signer = custody.generate(&signing, KeyAlgorithm::Signature(Signature::MlDsa65)).unwrap();
        assert!(derive(custody, &signing, &signer, &ciphertext).is_err());
    });
}

#[test]
fn signatures_verify_with_both_providers() {
    on_each("signatures_verify_with_both_providers", |custody| {
        let algorithms = [
            (Signature::MlDsa65, KeyPurpose::Signing),
            (Signature::MlDsa87, KeyPurpose::Signing),
            (Signature::EcdsaP384, KeyPurpose::SigningClassical),
            (Signature::SlhDsaSha2_192s, KeyPurpose::Authority),
        ];
        for (algorithm, purpose) in algorithms {
            let role = role(purpose);
            let key = custody.generate(&role, KeyAlgorithm::Signature(algorithm)).unwrap();
            let in_token = custody.kind() == CustodyKind::Pkcs11;
            assert_eq!(key.private.is_empty(), in_token, "{algorithm:?}");
            let signer = custody.signer(&role, &key).unwrap();
            assert_eq!((signer.algorithm(), signer.public_key()), (algorithm, &key.public_key[..]));
            let contexts: &[&[u8]] = if algorithm.takes_context() { &[b"", b"context", &[3; 255]] } else { &[b""] };
            for context in contexts {
                let signature = signer.sign(context, b"message").unwrap();
                for provider in PROVIDERS {
                    let verify = |context: &[u8], message: &[u8]| {
                        provider.verify(algorithm, &key.public_key, context, message, &signature)
                    };
                    verify(context, b"message").unwrap();
                    assert!(verify(context, b"massage").is_err());
                    assert!(verify(b"other", b"message").is_err());
                }
            }
            let too_long = if algorithm.takes_context() { vec![3; 256] } else { vec![3] };
            assert_eq!(signer.sign(&too_long, b"message").unwrap_err().kind(), ErrorKind::InvalidInput);
            signer.sign(b"", b"").unwrap();
        }
    });
}

#[test]
fn a_composite_of_two_held_halves_verifies() {
    on_each("a_composite_of_two_held_halves_verifies", |custody| {
        let halves = [(Signature::MlDsa65, KeyPurpose::Signing), (Signature::EcdsaP384, KeyPurpose::SigningClassical)]
            .map(|(algorithm, purpose)| {
                let role = role(purpose);
                let key = custody.generate(&role, KeyAlgorithm::Signature(algorithm)).unwrap();
                custody.signer(&role, &key).unwrap()
            });
        let [mldsa, ecdsa] = halves;
        let joined = composite::join(mldsa, ecdsa);
        let signature = joined.sign(b"context", b"message").unwrap();
        for provider in PROVIDERS {
            let verify = |message: &[u8]| {
                provider.verify(Signature::MlDsa65EcdsaP384, joined.public_key(), b"context", message, &signature)
            };
            verify(b"message").unwrap();
            assert!(verify(b"massage").is_err());
        }
        let role = role(KeyPurpose::Signing);
        let composite = KeyAlgorithm::Signature(Signature::MlDsa65EcdsaP384);
        if custody.kind() == CustodyKind::File {
            return;
        }
        assert_eq!(custody.generate(&role, composite).err().unwrap().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_destroyed_key_does_nothing_any_more() {
    on_each_token("a_destroyed_key_does_nothing_any_more", |custody| {
        let (role, key) = root(custody);
        let (ciphertext, _) = AwsLc.kem_encapsulate(Kem::MlKem1024, &key.public_key).unwrap();
        let before = custody.epoch_secret(&role, &key, &ciphertext, Kdf::HkdfSha3_512, b"salt").unwrap();
        let right = *before.derive(b"info").unwrap().expose_secret();
        let signing = self::role(KeyPurpose::Signing);
        let signing_key = custody.generate(&signing, KeyAlgorithm::Signature(Signature::MlDsa65)).unwrap();
        custody.signer(&signing, &signing_key).unwrap().sign(b"", b"message").unwrap();

        custody.destroy(&role, &key).unwrap();
        custody.destroy(&signing, &signing_key).unwrap();
        assert_eq!(derive(custody, &role, &key, &ciphertext).unwrap_err().kind(), ErrorKind::NotFound);
        if custody.kind() == CustodyKind::Pkcs11 {
            assert_eq!(before.derive(b"info").err().unwrap().kind(), ErrorKind::NotFound, "opened before, too");
        }
        let signed = custody.signer(&signing, &signing_key).and_then(|signer| signer.sign(b"", b"message"));
        assert_eq!(signed.unwrap_err().kind(), ErrorKind::NotFound);

        custody.destroy(&role, &key).unwrap();
        // A new key for the same role does not bring the old one back.
        custody.generate(&role, KeyAlgorithm::MlKem1024).unwrap();
        assert!(derive(custody, &role, &key, &ciphertext).map_or(true, |secret| secret != right));
    });
}

#[test]
fn what_an_interrupted_call_left_is_replaced() {
    on_each_token("what_an_interrupted_call_left_is_replaced", |custody| {
        let role = role(KeyPurpose::Root);
        let first = custody.generate(&role, KeyAlgorithm::MlKem1024).unwrap();
        let second = custody.generate(&role, KeyAlgorithm::MlKem1024).unwrap();
        assert_ne!(first.public_key, second.public_key);
        let (ciphertext, shared) = AwsLc.kem_encapsulate(Kem::MlKem1024, &second.public_key).unwrap();
        let prk = AwsLc.hkdf_extract(Kdf::HkdfSha3_512, b"salt", shared.expose_secret());
        let mut expected = [0; 32];
        AwsLc.hkdf_expand(Kdf::HkdfSha3_512, &prk, b"info", &mut expected).unwrap();
        assert_eq!(derive(custody, &role, &second, &ciphertext).unwrap(), expected);
        // Also when it had been for another algorithm.
        let signing = custody.generate(&role, KeyAlgorithm::Signature(Signature::EcdsaP384)).unwrap();
        custody.signer(&role, &signing).unwrap().sign(b"", b"message").unwrap();
        assert!(derive(custody, &role, &second, &ciphertext).is_err());
    });
}

#[test]
fn what_is_wrapped_opens_only_unchanged_and_with_its_own_data() {
    on_each("what_is_wrapped_opens_only_unchanged_and_with_its_own_data", |custody| {
        let wrapped = custody.wrap(b"aad", &[7; 32]).unwrap();
        assert_eq!(custody.unwrap(b"aad", &wrapped).unwrap().expose_secret(), [7; 32]);
        assert_eq!(custody.unwrap(b"", &custody.wrap(b"", &[1]).unwrap()).unwrap().expose_secret(), [1]);
        assert_ne!(wrapped, custody.wrap(b"aad", &[7; 32]).unwrap(), "a nonce is never used twice");
        let refused = |aad: &[u8], wrapped: &[u8]| {
            let error = custody.unwrap(aad, wrapped).err().unwrap();
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Integrity, crypto::open_failed().to_string()));
        };
        refused(b"", &wrapped);
        refused(b"aae", &wrapped);
        for length in 0..wrapped.len() {
            refused(b"aad", &wrapped[..length]);
        }
        for position in 0..wrapped.len() {
            let mut forged = wrapped.clone();
            forged[position] ^= 1;
            refused(b"aad", &forged);
        }
        // A wrapped seed is no wrapped secret.
        let (role, key) = root(custody);
        if custody.kind() == CustodyKind::Pkcs11Wrapped {
            refused(&role.bytes(), key.private.expose_secret());
            let mut forged = held(&key);
            forged.public_key[0] ^= 1;
            assert!(derive(custody, &role, &forged, &[0; 1568]).is_err());
        }
    });
}
