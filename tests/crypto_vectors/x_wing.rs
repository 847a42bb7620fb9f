//! X-Wing: the vectors of draft-connolly-cfrg-xwing-kem (spec/test-vectors.json), its long values as digests.

use strongroom::ErrorKind;
use strongroom::crypto::Kem;
use strongroom::secret::SecretBytes;

use crate::{PROVIDERS, hex};

struct Vector {
    seed: &'static str,
    eseed: &'static str,
    pk_sha256: &'static str,
    ct_sha256: &'static str,
    ss: &'static str,
}

const VECTORS: [Vector; 3] = [
    Vector {
        seed: "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
        eseed: "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2\
                35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
        pk_sha256: "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
        ct_sha256: "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
        ss: "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
    },
    Vector {
        seed: "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
        eseed: "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdef\
                aee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
        pk_sha256: "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
        ct_sha256: "1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154",
        ss: "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
    },
    Vector {
        seed: "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
        eseed: "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619\
                f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
        pk_sha256: "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
        ct_sha256: "d3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6",
        ss: "953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f",
    },
];

/// Points of order 1, 2, 4, 8 and 8 on Curve25519 or its twist (RFC 7748, section 7), and zero with its top bit set,
/// which X25519 ignores.
const SMALL_ORDER: [&str; 6] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "0000000000000000000000000000000000000000000000000000000000000080",
];

fn seed(digits: &str) -> SecretBytes {
    SecretBytes::new(hex(digits))
}

/// Only the `x-wing` crate takes the randomness of a vector; both providers have to open what it gives.
#[test]
fn the_drafts_vectors() {
    for vector in &VECTORS {
        let mut made = Vec::new();
        for provider in PROVIDERS {
            let key = provider.kem_key(Kem::XWing, &seed(vector.seed)).unwrap();
            assert_eq!(provider.sha256(&[key.public_key()])[..], hex(vector.pk_sha256));
            let public = x_wing::EncapsulationKey::try_from(key.public_key()).unwrap();
            let eseed: [u8; 64] = hex(vector.eseed).try_into().unwrap();
            let (ciphertext, shared) = public.encapsulate_deterministic(&eseed.into());
            assert_eq!(provider.sha256(&[&ciphertext])[..], hex(vector.ct_sha256));
            assert_eq!(shared[..], hex(vector.ss));
            assert_eq!(key.decapsulate(&ciphertext).unwrap().expose_secret()[..], hex(vector.ss));
            made.push(ciphertext);
        }
        assert_eq!(made[0], made[1]);
    }
}

#[test]
fn a_point_of_small_order_is_refused_by_both_sides() {
    for provider in PROVIDERS {
        let key = provider.kem_key(Kem::XWing, &seed(VECTORS[0].seed)).unwrap();
        let (ciphertext, _) = provider.kem_encapsulate(Kem::XWing, key.public_key()).unwrap();
        for point in SMALL_ORDER {
            let with_point = |bytes: &[u8]| [&bytes[..bytes.len() - 32], &hex(point)].concat();
            let refused = key.decapsulate(&with_point(&ciphertext)).err().unwrap();
            assert_eq!(
                (refused.kind(), refused.to_string().as_str()),
                (ErrorKind::InvalidInput, "malformed ciphertext")
            );
            let refused = provider.kem_encapsulate(Kem::XWing, &with_point(key.public_key())).err().unwrap();
            assert_eq!(refused.to_string(), "malformed encapsulation key", "{} {point}", provider.name());
        }
    }
}

/// Either half alone changes the secret: neither can be replaced without the other side noticing.
#[test]
fn both_halves_reach_the_secret() {
    for provider in PROVIDERS {
        let key = provider.kem_key(Kem::XWing, &seed(VECTORS[0].seed)).unwrap();
        let (ciphertext, shared) = provider.kem_encapsulate(Kem::XWing, key.public_key()).unwrap();
        let (other, _) = provider.kem_encapsulate(Kem::XWing, key.public_key()).unwrap();
        let crossed = [[&ciphertext[..1088], &other[1088..]].concat(), [&other[..1088], &ciphertext[1088..]].concat()];
        assert!(crossed.iter().all(|crossed| key.decapsulate(crossed).unwrap() != shared));
    }
}
