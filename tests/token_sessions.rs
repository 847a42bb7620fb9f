//! Guards against a PIN that is tried until the token locks, sessions that are lost with a restart or mixed up between
//! threads, and tokens that are taken for one another.

#[path = "common/held.rs"]
mod held;
#[path = "common/token.rs"]
mod token;

use std::sync::atomic::{AtomicUsize, Ordering};

use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use held::{Root, in_token, signing, wrapped};
use strongroom::crypto::aws_lc::AwsLc;
use strongroom::crypto::{self, Kdf, Provider as _, Signature};
use strongroom::keys::keystore::custody::Custody;
use strongroom::keys::keystore::pkcs11::{Pkcs11Custody, TokenConfig, WrappedCustody};
use strongroom::{Error, ErrorKind, Passphrase, limits};
use token::{KRYOPTIC, KRYOPTIC_2, SOFTHSM, SOFTHSM_2, in_own_process, pin};

fn with_pin(token: &TokenConfig, pin: &str) -> Result<WrappedCustody, Error> {
    let pin = Passphrase::new(pin.as_bytes().to_vec()).unwrap();
    WrappedCustody::open(token.clone(), pin, crypto::default_provider())
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
