//! ML-DSA-65 with ECDSA P-384: the draft's own test vector, and every way to take a composite apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use strongroom::ErrorKind;
use strongroom::crypto::{Provider, Signature, SigningKey, composite};
use strongroom::secret::SecretBytes;

use crate::{PROVIDERS, hex};

const SCHEME: Signature = Signature::MlDsa65EcdsaP384;
const LABEL: &[u8] = b"COMPSIG-MLDSA65-ECDSA-P384-SHA512";

/// Message, private key and signature.
fn vector() -> [Vec<u8>; 3] {
    let lines = include_str!("composite.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| BASE64.decode(line).unwrap()).collect::<Vec<_>>().try_into().unwrap()
}

/// The draft's private key is the seed of ML-DSA and an `ECPrivateKey`, whose scalar stands at a fixed place.
fn seed(private_key: &[u8]) -> SecretBytes {
    let (xi, ecdsa) = private_key.split_at(32);
    assert_eq!(ecdsa[..7], hex("303e0201010430"));
    SecretBytes::new([xi, &ecdsa[7..7 + 48]].concat())
}

fn denied(provider: &dyn Provider, key: &[u8], context: &[u8], message: &[u8], signature: &[u8]) {
    let refused = provider.verify(SCHEME, key, context, message, signature).err().unwrap();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::Denied, "the signature does not verify"));
}

fn malformed(provider: &dyn Provider, key: &[u8], signature: &[u8], what: &str) {
    let refused = provider.verify(SCHEME, key, b"", b"m", signature).err().unwrap();
    assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::InvalidInput, format!("malformed {what}")));
}

#[test]
fn the_drafts_vector() {
    let [message, private_key, signature] = vector();
    for provider in PROVIDERS {
        let key = provider.signing_key(SCHEME, &seed(&private_key)).unwrap();
        provider.verify(SCHEME, key.public_key(), b"", &message, &signature).unwrap();
        denied(provider, key.public_key(), b"x", &message, &signature);
        denied(provider, key.public_key(), b"", b"another", &signature);
        let own = key.sign(b"", &message).unwrap();
        for verifier in PROVIDERS {
            verifier.verify(SCHEME, key.public_key(), b"", &message, &own).unwrap();
        }
    }
}

/// The draft's example of M' (with another label of the same form), hashed by hand into ours.
#[test]
fn what_the_halves_sign() {
    use sha2::{Digest as _, Sha512};
    let context = hex("0813061205162623");
    let message = hex("00010203040506070809");
    let hash = Sha512::digest(&message);
    // The digest is the one that the draft prints.
    assert_eq!(hash[..8], hex("0f89ee1fcb7b0a4f"));
    let prefix = b"CompositeAlgorithmSignatures2025".as_slice();
    let representative = [prefix, LABEL, &[8], &context, &hash].concat();
    for provider in PROVIDERS {
        let key = provider.signing_key(SCHEME, &SecretBytes::new(vec![1; 80])).unwrap();
        let signature = key.sign(&context, &message).unwrap();
        let (mldsa, ecdsa) = signature.split_at(3309);
        let (mldsa_key, ecdsa_key) = key.public_key().split_at(1952);
        provider.verify(Signature::MlDsa65, mldsa_key, LABEL, &representative, mldsa).unwrap();
        provider.verify(Signature::EcdsaP384, ecdsa_key, b"", &representative, ecdsa).unwrap();
        // The ML-DSA half is no signature of its own, over anything in the usual empty context.
        for message in [&representative, &message] {
            assert!(provider.verify(Signature::MlDsa65, mldsa_key, b"", message, mldsa).is_err());
        }
    }
}

#[test]
fn either_half_alone_is_refused() {
    for provider in PROVIDERS {
        let key = |byte: u8| provider.signing_key(SCHEME, &SecretBytes::new(vec![byte; 80])).unwrap();
        let (key, other) = (key(1), key(2));
        let public = key.public_key();
        let sign = |key: &dyn SigningKey, message: &[u8]| key.sign(b"c", message).unwrap();
        let signature = sign(&*key, b"m");
        provider.verify(SCHEME, public, b"c", b"m", &signature).unwrap();
        let (mldsa, ecdsa) = signature.split_at(3309);

        // Forged: one bit of either half, and each half made by another key or over another message.
        for at in [0, 1700, 3308, 3309 + 8, signature.len() - 1] {
            let mut forged = signature.clone();
            forged[at] ^= 1;
            denied(provider, public, b"c", b"m", &forged);
        }
        for foreign in [sign(&*other, b"m"), sign(&*key, b"n")] {
            denied(provider, public, b"c", b"m", &[mldsa, &foreign[3309..]].concat());
            denied(provider, public, b"c", b"m", &[&foreign[..3309], ecdsa].concat());
        }
        // Halves of two valid signatures over the same message do fit: that is the draft's security notion too.
        let again = sign(&*key, b"m");
        provider.verify(SCHEME, public, b"c", b"m", &[mldsa, &again[3309..]].concat()).unwrap();

        // Stripped and swapped.
        malformed(provider, public, mldsa, "signature");
        malformed(provider, public, ecdsa, "signature");
        denied(provider, public, b"c", b"m", &[ecdsa, mldsa].concat());
        denied(provider, public, b"c", b"m", &[mldsa, &ecdsa[..ecdsa.len() - 1]].concat());
        malformed(provider, public, &[&signature[..], &[0; 9]].concat(), "signature");

        // A key with one half of another, and each half alone.
        let (mldsa_key, ecdsa_key) = public.split_at(1952);
        denied(provider, &[mldsa_key, &other.public_key()[1952..]].concat(), b"c", b"m", &signature);
        denied(provider, &[&other.public_key()[..1952], ecdsa_key].concat(), b"c", b"m", &signature);
        malformed(provider, mldsa_key, &signature, "verification key");
        malformed(provider, ecdsa_key, &signature, "verification key");

        // The same half in another context of ML-DSA: the empty one, and the caller's instead of the label.
        let xi = SecretBytes::new(vec![1; 32]);
        let half = provider.signing_key(Signature::MlDsa65, &xi).unwrap();
        let hash = <sha2::Sha512 as sha2::Digest>::digest(b"m");
        let representative = [b"CompositeAlgorithmSignatures2025".as_slice(), LABEL, &[1], b"c", &hash].concat();
        for context in [b"".as_slice(), b"c"] {
            let half = half.sign(context, &representative).unwrap();
            denied(provider, public, b"c", b"m", &[&half[..], ecdsa].concat());
        }
        // With the label it is the very same half: so it was the context that was refused.
        let half = half.sign(LABEL, &representative).unwrap();
        provider.verify(SCHEME, public, b"c", b"m", &[&half[..], ecdsa].concat()).unwrap();
    }
}

/// As with one half in a token: each half of another provider.
#[test]
fn halves_of_two_providers_join() {
    let [one, other] = PROVIDERS;
    let seed = |len| SecretBytes::new(vec![3; len]);
    let mldsa = one.signing_key(Signature::MlDsa65, &seed(32)).unwrap();
    let ecdsa = other.signing_key(Signature::EcdsaP384, &seed(48)).unwrap();
    let joined = composite::join(mldsa, ecdsa);
    assert_eq!(joined.algorithm(), SCHEME);
    assert_eq!(joined.public_key(), one.signing_key(SCHEME, &seed(80)).unwrap().public_key());
    let signature = joined.sign(b"c", b"m").unwrap();
    for provider in PROVIDERS {
        provider.verify(SCHEME, joined.public_key(), b"c", b"m", &signature).unwrap();
    }
    let halves = [Signature::MlDsa65, Signature::MlDsa65].map(|half| one.signing_key(half, &seed(32)).unwrap());
    let [half, same] = halves;
    assert_eq!(composite::join(half, same).sign(b"", b"m").err().unwrap().kind(), ErrorKind::Internal);
}
