//! Guards against a token that lets keys out, names tenants, or is taken to do what it cannot.

#[path = "common/held.rs"]
mod held;
#[path = "common/token.rs"]
mod token;

use std::path::PathBuf;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use held::{Root, in_token, signing, wrapped};
use strongroom::ErrorKind;
use strongroom::crypto::aws_lc::AwsLc;
use strongroom::crypto::{self, Provider as _, Signature};
use strongroom::keys::keystore::custody::Custody;
use strongroom::keys::keystore::pkcs11::{Pkcs11Custody, TokenConfig};
use token::{KRYOPTIC, NO_HKDF, NO_KEM, ONLY_KEM, SOFTHSM, in_own_process, pin};

/// Tries everything that would get `key` out of the token, or would allow that later.
fn cannot_leave(session: &Session, key: ObjectHandle) {
    for name in [AttributeType::Value, AttributeType::Seed] {
        let shown = session.get_attributes(key, &[name]).unwrap_or_default();
        assert!(
            !shown.iter().any(|a| matches!(a, Attribute::Value(v) | Attribute::Seed(v) if !v.is_empty())),
            "{name}"
        );
    }
    for looser in [Attribute::Extractable(true), Attribute::Sensitive(false)] {
        assert!(session.update_attributes(key, std::slice::from_ref(&looser)).is_err(), "{looser:?}");
        let copied = session.copy_object(key, &[Attribute::Token(false), looser.clone()]);
        assert!(copied.is_err(), "copied with {looser:?}");
    }
    assert!(session.copy_object(key, &[Attribute::Token(false), Attribute::Private(false)]).is_err());
    assert!(session.update_attributes(key, &[Attribute::Wrap(true)]).is_err());
    let wrapping = session.generate_key(
        &Mechanism::AesKeyGen,
        &[Attribute::ValueLen(32.into()), Attribute::Wrap(true), Attribute::Unwrap(true), Attribute::Token(false)],
    );
    for mechanism in [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad] {
        assert!(session.wrap_key(&mechanism, *wrapping.as_ref().unwrap(), key).is_err(), "{mechanism:?}");
    }
}

fn keys(session: &Session, class: ObjectClass) -> Vec<ObjectHandle> {
    session.find_objects(&[Attribute::Class(class), Attribute::Token(true)]).unwrap()
}

#[test]
fn keys_cannot_leave_the_token() {
    in_own_process("keys_cannot_leave_the_token", || {
        let token = token::kryoptic(KRYOPTIC);
        let custody = in_token(&token);
        Root::new(&custody);
        for algorithm in [Signature::MlDsa65, Signature::MlDsa87, Signature::EcdsaP384, Signature::SlhDsaSha2_192s] {
            signing(&custody, algorithm);
        }
        custody.wrap(b"", &[7; 32]).unwrap();
        let session = token::session(&token);
        let private = keys(&session, ObjectClass::PRIVATE_KEY);
        assert_eq!(private.len(), 5);
        private.iter().for_each(|key| cannot_leave(&session, *key));
        let secret = keys(&session, ObjectClass::SECRET_KEY);
        assert_eq!(secret.len(), 1);
        cannot_leave(&session, secret[0]);
    });
}

#[test]
fn wrapping_keys_cannot_leave_the_token() {
    in_own_process("wrapping_keys_cannot_leave_the_token", || {
        for token in [token::softhsm(SOFTHSM), token::kryoptic(KRYOPTIC)] {
            let custody = wrapped(&token);
            Root::new(&custody);
            custody.wrap(b"", &[7; 32]).unwrap();
            let session = token::session(&token);
            let secret = keys(&session, ObjectClass::SECRET_KEY);
            assert_eq!(secret.len(), 2);
            secret.iter().for_each(|key| cannot_leave(&session, *key));
        }
    });
}

/// Guards against a master key wrapped by what somebody without the PIN had put into the token before.
#[test]
fn a_planted_wrapping_key_is_not_used() {
    in_own_process("a_planted_wrapping_key_is_not_used", || {
        for token in [token::softhsm(SOFTHSM), token::kryoptic(KRYOPTIC)] {
            let (context, slot) = token::slot(&token);
            let stranger = context.open_rw_session(slot).unwrap();
            let id = AwsLc.sha256(&[b"strongroom wrapping key v1"])[..16].to_vec();
            let planted = stranger.create_object(&[
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::AES),
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::Sensitive(false),
                Attribute::Extractable(true),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Id(id),
                Attribute::Value(vec![7; 32]),
            ]);
            // A token that lets nobody make objects without the PIN has nothing to guard against.
            let Ok(planted) = planted else { continue };
            let custody = wrapped(&token);
            let sealed = custody.wrap(b"", &[9; 32]).unwrap();
            token::session(&token).destroy_object(planted).unwrap();
            assert_eq!(custody.unwrap(b"", &sealed).unwrap().expose_secret(), [9; 32]);
        }
    });
}

#[test]
fn nothing_in_the_token_names_a_tenant_or_stays_behind() {
    in_own_process("nothing_in_the_token_names_a_tenant_or_stays_behind", || {
        let token = token::kryoptic(KRYOPTIC);
        let custody = in_token(&token);
        let root = Root::new(&custody);
        let (signing, signing_key) = signing(&custody, Signature::MlDsa65);
        root.check(&custody);
        let session = token::session(&token);
        for object in session.find_objects(&[]).unwrap() {
            for name in [AttributeType::Label, AttributeType::Id] {
                let shown = session.get_attributes(object, &[name]).unwrap();
                // Some of a token's own objects have neither.
                let Some(Attribute::Label(bytes) | Attribute::Id(bytes)) = shown.first() else { continue };
                assert!(!bytes.windows(4).any(|part| part == b"acme"), "{shown:?}");
            }
        }
        custody.destroy(&root.role, &root.key).unwrap();
        custody.destroy(&signing, &signing_key).unwrap();
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY, ObjectClass::SECRET_KEY] {
            assert!(session.find_objects(&[Attribute::Class(class)]).unwrap().is_empty(), "{class}");
        }
    });
}

#[test]
fn a_token_that_cannot_do_it_is_refused_with_a_remedy() {
    in_own_process("a_token_that_cannot_do_it_is_refused_with_a_remedy", || {
        let refused = |token: TokenConfig, kind| {
            let error = Pkcs11Custody::open(token, pin(), crypto::default_provider()).err().unwrap();
            assert_eq!(error.kind(), kind, "{error}");
            error.remedy().unwrap().to_owned()
        };
        assert!(refused(token::kryoptic(NO_KEM), ErrorKind::InvalidInput).contains("`pkcs11-wrapped`"));
        assert!(refused(token::softhsm(SOFTHSM), ErrorKind::InvalidInput).contains("`pkcs11-wrapped`"));
        refused(token::kryoptic(NO_HKDF), ErrorKind::InvalidInput);
        let token = token::kryoptic(KRYOPTIC);
        refused(TokenConfig { label: "no such token".into(), ..token.clone() }, ErrorKind::Unavailable);
        refused(TokenConfig { module: PathBuf::from("/no/such/module.so"), ..token.clone() }, ErrorKind::InvalidInput);
        let module = std::env::current_exe().unwrap();
        refused(TokenConfig { module, ..token }, ErrorKind::Unavailable);
    });
}

#[test]
fn a_signing_key_that_the_token_cannot_have_is_wrapped_by_it() {
    in_own_process("a_signing_key_that_the_token_cannot_have_is_wrapped_by_it", || {
        let custody = in_token(&token::kryoptic(ONLY_KEM));
        Root::new(&custody).check(&custody);
        for algorithm in [Signature::MlDsa65, Signature::EcdsaP384, Signature::SlhDsaSha2_192s] {
            let (role, key) = signing(&custody, algorithm);
            assert!(!key.private.is_empty());
            let signature = custody.signer(&role, &key).unwrap().sign(b"", b"message").unwrap();
            AwsLc.verify(algorithm, &key.public_key, b"", b"message", &signature).unwrap();
            custody.destroy(&role, &key).unwrap();
            assert!(custody.signer(&role, &key).is_err());
        }
    });
}
