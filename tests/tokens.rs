//! Guards against a token that lets keys out, a PIN that is tried until the token locks, sessions that are lost with a
//! restart or mixed up between threads, and tokens that are taken for one another.

#[path = "common/token.rs"]
mod token;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use strongroom::crypto::aws_lc::AwsLc;
use strongroom::crypto::{self, Kdf, Kem, Provider as _, Signature};
use strongroom::keys::keystore::custody::{Custody, HeldKey, KeyAlgorithm, KeyPurpose, KeyRole};
use strongroom::keys::keystore::pkcs11::{Pkcs11Custody, TokenConfig, WrappedCustody};
use strongroom::{Error, ErrorKind, Passphrase, limits};
use token::{KRYOPTIC, KRYOPTIC_2, NO_HKDF, NO_KEM, ONLY_KEM, SOFTHSM, SOFTHSM_2, in_own_process, pin};

fn in_token(token: &TokenConfig) -> Pkcs11Custody {
    Pkcs11Custody::open(token.clone(), pin(), crypto::default_provider()).unwrap()
}

fn wrapped(token: &TokenConfig) -> WrappedCustody {
    WrappedCustody::open(token.clone(), pin(), crypto::default_provider()).unwrap()
}

fn with_pin(token: &TokenConfig, pin: &str) -> Result<WrappedCustody, Error> {
    let pin = Passphrase::new(pin.as_bytes().to_vec()).unwrap();
    WrappedCustody::open(token.clone(), pin, crypto::default_provider())
}

fn role(purpose: KeyPurpose) -> KeyRole {
    KeyRole::random("acme".parse().unwrap(), purpose).unwrap()
}

fn signing(custody: &dyn Custody, algorithm: Signature) -> (KeyRole, HeldKey) {
    let role = role(KeyPurpose::Signing);
    let key = custody.generate(&role, KeyAlgorithm::Signature(algorithm)).unwrap();
    (role, key)
}

/// A root key and an encapsulation to it, with what it has to derive.
struct Root {
    role: KeyRole,
    key: HeldKey,
    ciphertext: Vec<u8>,
    expected: [u8; 32],
}

impl Root {
    fn new(custody: &dyn Custody) -> Self {
        let role = role(KeyPurpose::Root);
        let key = custody.generate(&role, KeyAlgorithm::MlKem1024).unwrap();
        let (ciphertext, shared) = AwsLc.kem_encapsulate(Kem::MlKem1024, &key.public_key).unwrap();
        let prk = AwsLc.hkdf_extract(Kdf::HkdfSha3_512, b"salt", shared.expose_secret());
        let mut expected = [0; 32];
        AwsLc.hkdf_expand(Kdf::HkdfSha3_512, &prk, b"info", &mut expected).unwrap();
        Self { role, key, ciphertext, expected }
    }

    #[track_caller]
    fn check(&self, custody: &dyn Custody) {
        let secret = custody.epoch_secret(&self.role, &self.key, &self.ciphertext, Kdf::HkdfSha3_512, b"salt");
        assert_eq!(*secret.unwrap().derive(b"info").unwrap().expose_secret(), self.expected);
    }
}

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

#[test]
fn nothing_in_the_token_names_a_tenant_or_stays_behind() {
    in_own_process("nothing_in_the_token_names_a_tenant_or_stays_behind", || {
        let token = token::kryoptic(KRYOPTIC);
        let custody = in_token(&token);
        let root = Root::new(&custody);
        let (signing, signing_key) = signing(&custody, Signature::MlDsa65);
        root.check(&custody);
        let session = token::session(&token);
        let all = session.find_objects(&[]).unwrap();
        for object in &all {
            let names = session.get_attributes(*object, &[AttributeType::Label, AttributeType::Id]).unwrap();
            assert!(!format!("{names:?}").contains(&format!("{:?}", b"acme").trim_matches(['[', ']'])[..]));
        }
        custody.destroy(&root.role, &root.key).unwrap();
        custody.destroy(&signing, &signing_key).unwrap();
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY, ObjectClass::SECRET_KEY] {
            assert!(session.find_objects(&[Attribute::Class(class)]).unwrap().is_empty(), "{class}");
        }
    });
}

#[test]
fn a_wrong_pin_is_denied_and_tried_once() {
    in_own_process("a_wrong_pin_is_denied_and_tried_once", || {
        // Kryoptic locks after ten wrong ones: nine may be wrong only if each is tried once.
        let token = token::kryoptic(KRYOPTIC);
        for _ in 0..9 {
            let denied = with_pin(&token, "wrong").err().unwrap();
            assert_eq!(denied.kind(), ErrorKind::Denied);
            assert!(denied.remedy().unwrap().contains("PIN"));
        }
        drop(with_pin(&token, token::PIN).unwrap());
        for _ in 0..10 {
            assert_eq!(with_pin(&token, "wrong").err().unwrap().kind(), ErrorKind::Denied);
        }
        let locked = with_pin(&token, token::PIN).err().unwrap();
        assert_eq!(locked.kind(), ErrorKind::Denied);
        let softhsm = token::softhsm(SOFTHSM);
        assert_eq!(with_pin(&softhsm, "wrong").err().unwrap().kind(), ErrorKind::Denied);
        with_pin(&softhsm, token::PIN).unwrap();
    });
}

#[test]
fn a_pin_that_was_changed_meanwhile_is_tried_once() {
    in_own_process("a_pin_that_was_changed_meanwhile_is_tried_once", || {
        let token = token::kryoptic(KRYOPTIC);
        let custody = in_token(&token);
        let root = Root::new(&custody);
        let session = token::session(&token);
        session.set_pin(&AuthPin::new(token::PIN.into()), &AuthPin::new("another pin".into())).unwrap();
        token::restart(&token);
        for _ in 0..20 {
            let denied = custody.wrap(b"", b"x").err().unwrap();
            assert_eq!(denied.kind(), ErrorKind::Denied);
        }
        let custody = Pkcs11Custody::open(
            token.clone(),
            Passphrase::new(b"another pin".to_vec()).unwrap(),
            crypto::default_provider(),
        );
        root.check(&custody.unwrap());
    });
}

#[test]
fn many_threads_share_few_sessions() {
    in_own_process("many_threads_share_few_sessions", || {
        let kryoptic = token::kryoptic(KRYOPTIC);
        let softhsm = token::softhsm(SOFTHSM);
        let custodies: [Box<dyn Custody>; 2] = [Box::new(in_token(&kryoptic)), Box::new(wrapped(&softhsm))];
        for custody in &custodies {
            let roots: Vec<Root> = (0..4).map(|_| Root::new(&**custody)).collect();
            let (role, key) = signing(&**custody, Signature::MlDsa65);
            let signer = custody.signer(&role, &key).unwrap();
            let done = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for n in 0..3 * limits::TOKEN_SESSIONS {
                    let (roots, signer, done, public_key) = (&roots, &signer, &done, &key.public_key);
                    scope.spawn(move || {
                        for round in 0..20 {
                            roots[(n + round) % roots.len()].check(&**custody);
                            let message = [n as u8, round as u8];
                            let signature = signer.sign(b"", &message).unwrap();
                            AwsLc.verify(Signature::MlDsa65, public_key, b"", &message, &signature).unwrap();
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(done.into_inner(), 3 * limits::TOKEN_SESSIONS * 20);
        }
        let (context, slot) = token::slot(&kryoptic);
        let sessions = context.get_token_info(slot).unwrap().session_count();
        assert!(sessions.is_none_or(|count| count <= limits::TOKEN_SESSIONS as u64), "{sessions:?}");
    });
}

#[test]
fn a_token_that_comes_back_is_used_again() {
    in_own_process("a_token_that_comes_back_is_used_again", || {
        for token in [token::kryoptic(KRYOPTIC), token::softhsm(SOFTHSM)] {
            let custody: Box<dyn Custody> = match token.label.as_str() {
                KRYOPTIC => Box::new(in_token(&token)),
                _ => Box::new(wrapped(&token)),
            };
            let root = Root::new(&*custody);
            let (role, key) = signing(&*custody, Signature::MlDsa65);
            let signer = custody.signer(&role, &key).unwrap();
            let again = |what: &str| {
                root.check(&*custody);
                let signature = signer.sign(b"", what.as_bytes()).unwrap();
                AwsLc.verify(Signature::MlDsa65, &key.public_key, b"", what.as_bytes(), &signature).unwrap();
                custody.unwrap(b"", &custody.wrap(b"", b"x").unwrap()).unwrap();
            };
            again("at first");
            token::restart(&token);
            again("after a restart");
            token::session(&token).logout().unwrap();
            again("after a logout by somebody else");
            token::session(&token).logout().unwrap();
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| (0..10).for_each(|_| again("with many threads, after a logout")));
                }
            });
            token::restart(&token);
            Root::new(&*custody);
            token::restart(&token);
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| (0..10).for_each(|_| again("with many threads, after a restart")));
                }
            });
            token::restart(&token);
            custody.destroy(&role, &key).unwrap();
            assert!(custody.signer(&role, &key).is_err());
        }
    });
}

#[test]
fn interruptions_in_the_midst_of_work_end_in_right_answers_or_errors() {
    in_own_process("interruptions_in_the_midst_of_work_end_in_right_answers_or_errors", || {
        let kryoptic = token::kryoptic(KRYOPTIC);
        // Kryoptic 1.5.4 locks up by itself when somebody logs out while it works, but not when it is restarted.
        interrupt(&in_token(&kryoptic), || token::restart(&kryoptic));
        let softhsm = token::softhsm(SOFTHSM);
        interrupt(&wrapped(&softhsm), || token::session(&softhsm).logout().unwrap());
    });
}

fn interrupt(custody: &dyn Custody, interruption: impl Fn()) {
    let root = Root::new(custody);
    let right: usize = std::thread::scope(|scope| {
        let work = || (0..200).filter(|_| derived_rightly_or_not_at_all(custody, &root)).count();
        let workers: Vec<_> = (0..12).map(|_| scope.spawn(work)).collect();
        for _ in 0..8 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            interruption();
        }
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(right > 0);
    root.check(custody);
}

fn derived_rightly_or_not_at_all(custody: &dyn Custody, root: &Root) -> bool {
    let derived = custody
        .epoch_secret(&root.role, &root.key, &root.ciphertext, Kdf::HkdfSha3_512, b"salt")
        .and_then(|secret| secret.derive(b"info"));
    match derived {
        Ok(secret) => {
            assert_eq!(*secret.expose_secret(), root.expected);
            true
        }
        Err(_) => false,
    }
}

#[test]
fn two_tokens_are_not_taken_for_one_another() {
    in_own_process("two_tokens_are_not_taken_for_one_another", || {
        let tokens = [
            token::kryoptic(KRYOPTIC),
            token::kryoptic(KRYOPTIC_2),
            token::softhsm(SOFTHSM),
            token::softhsm(SOFTHSM_2),
        ];
        let custodies: Vec<Box<dyn Custody>> = tokens
            .iter()
            .map(|token| match token.label.as_str() {
                KRYOPTIC | KRYOPTIC_2 => Box::new(in_token(token)) as Box<dyn Custody>,
                _ => Box::new(wrapped(token)),
            })
            .collect();
        let roots: Vec<Root> = custodies.iter().map(|custody| Root::new(&**custody)).collect();
        let wrapped: Vec<Vec<u8>> = custodies.iter().map(|custody| custody.wrap(b"", b"x").unwrap()).collect();
        for (i, custody) in custodies.iter().enumerate() {
            for (j, root) in roots.iter().enumerate() {
                assert_eq!(derived_rightly_or_not_at_all(&**custody, root), i == j);
                assert_eq!(custody.unwrap(b"", &wrapped[j]).is_ok(), i == j);
            }
        }
        // One that is closed does not log the others out.
        let more = in_token(&tokens[0]);
        roots[0].check(&more);
        drop(more);
        roots[0].check(&*custodies[0]);
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

#[test]
fn two_tokens_of_one_label_are_not_chosen_between() {
    in_own_process("two_tokens_of_one_label_are_not_chosen_between", || {
        let token = token::softhsm(SOFTHSM);
        token::softhsm(SOFTHSM);
        let error = WrappedCustody::open(token, pin(), crypto::default_provider()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

/// A login by the security officer is token-wide too, and keeps users out.
#[test]
fn an_officers_login_is_told_apart_from_a_wrong_pin() {
    in_own_process("an_officers_login_is_told_apart_from_a_wrong_pin", || {
        let token = token::softhsm(SOFTHSM);
        let (context, slot) = token::slot(&token);
        let officer = context.open_rw_session(slot).unwrap();
        officer.login(UserType::So, Some(&AuthPin::new("an officer's pin".into()))).unwrap();
        let error = with_pin(&token, token::PIN).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(!error.to_string().contains("PIN"), "{error}");
        drop(officer);
        with_pin(&token, token::PIN).unwrap();
    });
}
