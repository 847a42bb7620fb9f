//! SLH-DSA-SHA2-128s and -192s: NIST's key generation vectors, and signatures of an implementation in another language.

use slh_dsa::{ParameterSet, Sha2_128s, Sha2_192s, SigningKey};
use strongroom::ErrorKind;
use strongroom::crypto::Signature;
use strongroom::secret::SecretBytes;

use crate::{PROVIDERS, hex};

/// usnistgov/ACVP-Server, SLH-DSA-keyGen-FIPS205: `SK.seed ‖ SK.prf ‖ PK.seed` and the root.
const KEYS: [(Signature, &str, &str); 4] = [
    (
        Signature::SlhDsaSha2_128s,
        "AA9CC7DCA491FC86BCB15A709A15E9B3905C800B6E2FB9B54B6B050EE5E4DE9AFA5464D1C661FED38B2A51CA3EAE71BA",
        "CAE3D1865215E3D3850E8C1B8292BF42",
    ),
    (
        Signature::SlhDsaSha2_128s,
        "6DA324B47C1D24DA378B55FCEA263FFDA361BFCBB9D323F810B0FFF854F22B89A2F150C9E9FE2DF741887FD9DE9C69B5",
        "AE2C1522FB1A5C903A719B01CAD2D67F",
    ),
    (
        Signature::SlhDsaSha2_192s,
        "C784401EAC7325193457665F6B91E584395C56A414CA2B674D775C46F7D30A89625A60F9CC3CBBFC92E78AC1F3CAE6FA\
         B83B8B2AA36EFFFDFA77688BBD1A03A72625CE2CB798301C",
        "70B69F53BE115478F56CA8D8047965791503FC38876AB680",
    ),
    (
        Signature::SlhDsaSha2_192s,
        "56191AA218713F50850F2998606AC68E945519E902F5ECA1202830FF8A0B8C96F516F819403036E29C56966EA72BE5F1\
         586BCFF9617DCD70F726AEEE04119ED386984745866BAC09",
        "323D662340FB94427628CE5B0D4300C165DC5830A45AE866",
    ),
];

/// The deterministic signature (FIPS 205, section 9.2, with `opt_rand` = `PK.seed`) over `a message` with the seed bytes
/// 0, 1, 2, …, in an empty context and in `a context`: SHA-256 of what `@noble/post-quantum` 0.7.1 gives.
const SIGNATURES: [(Signature, &str, [&str; 2]); 2] = [
    (
        Signature::SlhDsaSha2_128s,
        "990ce6298792b128846a8e4a3a68954c",
        [
            "322459c489aa4a4bb1c798609f4629d0d01c9e881cb3f47871990a097d6d57df",
            "cf9b3482ba133bb01fc9706c938c60e9a9bd16061c3efe2a2c9478c2490ae7a7",
        ],
    ),
    (
        Signature::SlhDsaSha2_192s,
        "b6f282ce116ff59bce2d9fc4a67c6031dabdce326c34f541",
        [
            "9027610faebd5a43f65f1b968f41889bf9592bd1e0dc1ba622bbbeab09c47b27",
            "6fe5f72804890afbd2ba35d7b2631137a0f8d6b7292d3cf7d36d8bd90faac106",
        ],
    ),
];

#[test]
fn nists_key_pairs() {
    for (algorithm, seed, root) in KEYS {
        let seed = hex(seed);
        let public_key = [&seed[seed.len() * 2 / 3..], &hex(root)].concat();
        for provider in PROVIDERS {
            let key = provider.signing_key(algorithm, &SecretBytes::new(seed.clone())).unwrap();
            assert_eq!(key.public_key(), public_key);
        }
    }
}

/// Our signing is hedged, so the crate below it has to give the known bytes; both providers have to accept them.
#[test]
fn signatures_of_another_implementation() {
    for (algorithm, root, signatures) in SIGNATURES {
        let seed: Vec<u8> = (0..algorithm.seed_len() as u8).collect();
        let public_key = [&seed[seed.len() * 2 / 3..], &hex(root)].concat();
        for (context, known) in [b"".as_slice(), b"a context"].into_iter().zip(signatures) {
            let signature = match algorithm {
                Signature::SlhDsaSha2_128s => sign::<Sha2_128s>(&seed, context),
                _ => sign::<Sha2_192s>(&seed, context),
            };
            for provider in PROVIDERS {
                assert_eq!(provider.sha256(&[&signature])[..], hex(known));
                provider.verify(algorithm, &public_key, context, b"a message", &signature).unwrap();
                let denied = |context: &[u8], message: &[u8], signature: &[u8]| {
                    let refused = provider.verify(algorithm, &public_key, context, message, signature).err().unwrap();
                    assert_eq!(refused.kind(), ErrorKind::Denied);
                };
                denied(b"another", b"a message", &signature);
                denied(context, b"another message", &signature);
                for at in [0, signature.len() / 2, signature.len() - 1] {
                    let mut forged = signature.clone();
                    forged[at] ^= 1;
                    denied(context, b"a message", &forged);
                }
            }
        }
    }
}

fn sign<P: ParameterSet>(seed: &[u8], context: &[u8]) -> Vec<u8> {
    let n = seed.len() / 3;
    let key = SigningKey::<P>::slh_keygen_internal(&seed[..n], &seed[n..2 * n], &seed[2 * n..]);
    key.try_sign_with_context(b"a message", context, None).unwrap().to_vec()
}

/// One scheme is enough: the code is generic over the other.
#[test]
fn own_signatures_verify_and_are_hedged() {
    let algorithm = Signature::SlhDsaSha2_128s;
    for provider in PROVIDERS {
        let key = provider.signing_key(algorithm, &SecretBytes::new(vec![7; 48])).unwrap();
        let signatures = [key.sign(b"c", b"m").unwrap(), key.sign(b"c", b"m").unwrap()];
        assert_ne!(signatures[0], signatures[1]);
        for signature in &signatures {
            provider.verify(algorithm, key.public_key(), b"c", b"m", signature).unwrap();
            let wrong = [&signature[1..], &[&signature[..], &[0]].concat()];
            for wrong in wrong {
                let refused = provider.verify(algorithm, key.public_key(), b"c", b"m", wrong).err().unwrap();
                assert_eq!(refused.to_string(), "malformed signature");
            }
        }
        for len in [47, 49] {
            let refused = provider.signing_key(algorithm, &SecretBytes::new(vec![7; len])).err().unwrap();
            assert_eq!(refused.to_string(), "malformed seed");
        }
    }
}
