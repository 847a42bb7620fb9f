//! Guards against two providers that disagree: what one seals, encapsulates, signs or derives, the other has to open,
//! decapsulate, verify or derive alike, and both have to refuse the same tampering.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use strongroom::ErrorKind;
use strongroom::crypto::aws_lc::AwsLc;
use strongroom::crypto::rustcrypto::RustCrypto;
use strongroom::crypto::{Aead, Kdf, Kem, Provider, Signature, open_failed};
use strongroom::secret::{Secret, SecretBytes};

/// Both directions: the first acts, the second answers.
const PAIRS: [(&dyn Provider, &dyn Provider); 2] = [(&RustCrypto, &AwsLc), (&AwsLc, &RustCrypto)];

fn aeads() -> impl Strategy<Value = Aead> {
    select(vec![Aead::Aes256GcmSiv, Aead::Aes256Gcm])
}

fn kdfs() -> impl Strategy<Value = Kdf> {
    select(vec![Kdf::HkdfSha3_512, Kdf::HkdfSha384])
}

fn kems() -> impl Strategy<Value = Kem> {
    select(Kem::ALL.to_vec())
}

fn signatures() -> impl Strategy<Value = Signature> {
    // SLH-DSA takes a fifth of a second: it has its own tests.
    select(vec![Signature::MlDsa65, Signature::MlDsa87, Signature::EcdsaP384, Signature::MlDsa65EcdsaP384])
}

fn any_signature() -> impl Strategy<Value = Signature> {
    select(Signature::ALL.to_vec())
}

/// The same bytes with one bit turned.
fn flipped(bytes: &[u8], at: Index, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at.index(bytes.len());
    bytes[at] ^= 1 << (bit % 8);
    bytes
}

fn open(
    provider: &dyn Provider,
    algorithm: Aead,
    key: [u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, (ErrorKind, String)> {
    let key = provider.aead(algorithm, &Secret::from_bytes(key)).unwrap();
    let opened = key.open(nonce, aad, sealed);
    opened.map(|plaintext| plaintext.expose_secret().to_vec()).map_err(|e| (e.kind(), e.to_string()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sealing_agrees(
        algorithm in aeads(), key: [u8; 32], nonce: [u8; 12],
        aad in vec(any::<u8>(), 0..100), plaintext in vec(any::<u8>(), 0..3000), prefix in vec(any::<u8>(), 0..40),
    ) {
        for (sealer, opener) in PAIRS {
            let mut out = prefix.clone();
            let sealing = sealer.aead(algorithm, &Secret::from_bytes(key)).unwrap();
            sealing.seal(&nonce, &aad, &plaintext, &mut out).unwrap();
            let (kept, sealed) = out.split_at(prefix.len());
            prop_assert_eq!(kept, &prefix);
            prop_assert_eq!(sealed.len(), plaintext.len() + 16);
            let mut again = Vec::new();
            let opening = opener.aead(algorithm, &Secret::from_bytes(key)).unwrap();
            opening.seal(&nonce, &aad, &plaintext, &mut again).unwrap();
            prop_assert_eq!(sealed, &again);
            prop_assert_eq!(open(opener, algorithm, key, &nonce, &aad, sealed), Ok(plaintext.clone()));
        }
    }

    #[test]
    fn every_tampering_fails_alike(
        algorithm in aeads(), key: [u8; 32], nonce: [u8; 12],
        aad in vec(any::<u8>(), 1..100), plaintext in vec(any::<u8>(), 0..300), at: Index, bit: u8, cut: Index,
    ) {
        let mut sealed = Vec::new();
        AwsLc.aead(algorithm, &Secret::from_bytes(key)).unwrap().seal(&nonce, &aad, &plaintext, &mut sealed).unwrap();
        let other_key = flipped(&key, at, bit).try_into().unwrap();
        let other_nonce = flipped(&nonce, at, bit).try_into().unwrap();
        let refused = Err((open_failed().kind(), open_failed().to_string()));
        for (provider, _) in PAIRS {
            let attempts = [
                open(provider, algorithm, other_key, &nonce, &aad, &sealed),
                open(provider, algorithm, key, &other_nonce, &aad, &sealed),
                open(provider, algorithm, key, &nonce, &flipped(&aad, at, bit), &sealed),
                open(provider, algorithm, key, &nonce, &[], &sealed),
                open(provider, algorithm, key, &nonce, &aad, &flipped(&sealed, at, bit)),
                open(provider, algorithm, key, &nonce, &aad, &sealed[..cut.index(sealed.len())]),
                open(provider, algorithm, key, &nonce, &aad, &[&sealed[..], &[0]].concat()),
            ];
            for attempt in attempts {
                prop_assert_eq!(&attempt, &refused);
            }
        }
    }

    #[test]
    fn derivation_agrees(
        kdf in kdfs(), salt in vec(any::<u8>(), 0..200), ikm in vec(any::<u8>(), 0..200),
        info in vec(any::<u8>(), 0..200), len in 0..1000usize, key in vec(any::<u8>(), 0..200),
    ) {
        let [(one, other), _] = PAIRS;
        let prk = one.hkdf_extract(kdf, &salt, &ikm);
        let same = other.hkdf_extract(kdf, &salt, &ikm);
        prop_assert_eq!(prk.expose_secret(), same.expose_secret());
        // A pseudorandom key of any length too: both take or refuse it, with the same bytes.
        for prk in [prk, SecretBytes::new(key)] {
            let expand = |provider: &dyn Provider| {
                let mut okm = vec![0; len];
                provider.hkdf_expand(kdf, &prk, &info, &mut okm).map(|()| okm).map_err(|e| (e.kind(), e.to_string()))
            };
            let okm = expand(one);
            prop_assert_eq!(okm.is_ok(), prk.len() >= kdf.hash_len());
            prop_assert_eq!(okm, expand(other));
        }
    }

    #[test]
    fn hashes_and_macs_agree(key: [u8; 32], parts in vec(vec(any::<u8>(), 0..300), 0..5)) {
        let [(one, other), _] = PAIRS;
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (whole, key) = (parts.concat(), Secret::from_bytes(key));
        for provider in [one, other] {
            prop_assert_eq!(provider.sha256(&parts), one.sha256(&[&whole]));
            prop_assert_eq!(provider.sha3_512(&parts), one.sha3_512(&[&whole]));
            prop_assert_eq!(provider.mac(&key).tag(&parts), one.mac(&key).tag(&[&whole]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn encapsulation_agrees(
        kem in kems(), seed: [[u8; 32]; 2], at: Index, bit: u8, cut: Index,
    ) {
        let seed = SecretBytes::new(seed.concat()[..kem.seed_len()].to_vec());
        for (one, other) in PAIRS {
            let (key, same) = (one.kem_key(kem, &seed).unwrap(), other.kem_key(kem, &seed).unwrap());
            let public_key = key.public_key();
            prop_assert_eq!(public_key, same.public_key());
            prop_assert_eq!(public_key.len(), kem.public_key_len());
            let (ciphertext, shared) = one.kem_encapsulate(kem, public_key).unwrap();
            prop_assert_eq!(ciphertext.len(), kem.ciphertext_len());
            prop_assert!(same.decapsulate(&ciphertext).unwrap() == shared);
            // Implicit rejection: another secret, and the same one from both.
            let forged = flipped(&ciphertext, at, bit);
            let rejected = same.decapsulate(&forged).unwrap();
            prop_assert!(rejected != shared);
            prop_assert!(rejected == key.decapsulate(&forged).unwrap());
            // Fresh randomness every time.
            prop_assert_ne!(&one.kem_encapsulate(kem, public_key).unwrap().0, &ciphertext);
            for wrong in [&ciphertext[..cut.index(ciphertext.len())], &[&ciphertext[..], &[0]].concat()] {
                let refused = key.decapsulate(wrong).err().unwrap();
                prop_assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                prop_assert_eq!(refused.to_string(), "malformed ciphertext");
            }
            for wrong in [&public_key[..cut.index(public_key.len())], &vec![0xff; public_key.len()]] {
                let refused = one.kem_encapsulate(kem, wrong).err().unwrap();
                prop_assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                prop_assert_eq!(refused.to_string(), "malformed encapsulation key");
            }
            let short = SecretBytes::new(seed.expose_secret()[..cut.index(seed.len())].to_vec());
            prop_assert_eq!(one.kem_key(kem, &short).err().unwrap().to_string(), "malformed seed");
        }
    }

    #[test]
    fn signatures_agree(
        algorithm in signatures(), seed: [[u8; 40]; 2], message in vec(any::<u8>(), 0..500),
        context in vec(any::<u8>(), 0..=255), at: Index, bit: u8, cut: Index,
    ) {
        let mut seed = seed.concat();
        // Below the order of P-384 wherever a scalar begins.
        (seed[0], seed[32]) = (1, 1);
        seed.truncate(algorithm.seed_len());
        let seed = SecretBytes::new(seed);
        let context = if algorithm.takes_context() { &context[..] } else { &[] };
        for (signer, verifier) in PAIRS {
            let key = signer.signing_key(algorithm, &seed).unwrap();
            let same = verifier.signing_key(algorithm, &seed).unwrap();
            let public_key = key.public_key();
            prop_assert_eq!(public_key, same.public_key());
            let signature = key.sign(context, &message).unwrap();
            prop_assert!(algorithm.signature_len().contains(&signature.len()));
            prop_assert_ne!(&key.sign(context, &message).unwrap(), &signature, "signing is hedged");
            let verify = |key: &[u8], context: &[u8], message: &[u8], signature: &[u8]| {
                verifier.verify(algorithm, key, context, message, signature).map_err(|e| (e.kind(), e.to_string()))
            };
            let denied = Err((ErrorKind::Denied, "the signature does not verify".to_owned()));
            let malformed = |what| Err((ErrorKind::InvalidInput, format!("malformed {what}")));
            prop_assert_eq!(verify(public_key, context, &message, &signature), Ok(()));
            prop_assert_eq!(verify(public_key, context, &[&message[..], &[0]].concat(), &signature), denied.clone());
            prop_assert_eq!(verify(public_key, context, &message, &flipped(&signature, at, bit)), denied.clone());
            // A point that is not on the curve is malformed.
            let other_key = verify(&flipped(public_key, at, bit), context, &message, &signature);
            prop_assert!(other_key == denied || other_key == malformed("verification key"), "{other_key:?}");
            let other_context = if context.is_empty() { vec![0] } else { flipped(context, at, bit) };
            let expected = if algorithm.takes_context() { denied } else { malformed("signature context") };
            prop_assert_eq!(verify(public_key, &other_context, &message, &signature), expected);
            prop_assert_eq!(verify(public_key, &[0; 256], &message, &signature), malformed("signature context"));
            prop_assert_eq!(key.sign(&[0; 256], &message).err().unwrap().to_string(), "malformed signature context");
            let short_key = &public_key[..cut.index(public_key.len())];
            prop_assert_eq!(verify(short_key, context, &message, &signature), malformed("verification key"));
            let short_signature = &signature[..cut.index(*algorithm.signature_len().start())];
            prop_assert_eq!(verify(public_key, context, &message, short_signature), malformed("signature"));
        }
    }

    /// Keys, ciphertexts and signatures of the right length that nobody made: the same answer from both, never a panic.
    #[test]
    fn any_bytes_are_answered_alike(
        kem in kems(), algorithm in any_signature(), bytes in vec(any::<u8>(), 17_000), zeros: bool, size: Index,
    ) {
        // Small values pass more of the decoders' checks.
        let bytes = if zeros { vec![0; bytes.len()] } else { bytes };
        let take = |len: usize| &bytes[..len];
        let outcome = |e: strongroom::Error| (e.kind(), e.to_string());
        let [(one, other), _] = PAIRS;
        let encapsulate = |provider: &dyn Provider| {
            provider.kem_encapsulate(kem, take(kem.public_key_len())).map(|_| ()).map_err(outcome)
        };
        prop_assert_eq!(encapsulate(one), encapsulate(other));
        let decapsulate = |provider: &dyn Provider| {
            let key = provider.kem_key(kem, &SecretBytes::new(take(kem.seed_len()).to_vec())).unwrap();
            let shared = key.decapsulate(take(kem.ciphertext_len()));
            shared.map(|shared| *shared.expose_secret()).map_err(outcome)
        };
        prop_assert_eq!(decapsulate(one), decapsulate(other));
        let lengths: Vec<usize> = algorithm.signature_len().collect();
        let signature = take(lengths[size.index(lengths.len())]);
        let verify = |provider: &dyn Provider, key: &[u8]| {
            provider.verify(algorithm, key, b"", b"m", signature).map_err(outcome)
        };
        let sound = match algorithm {
            Signature::SlhDsaSha2_128s | Signature::SlhDsaSha2_192s => take(algorithm.public_key_len()).to_vec(),
            _ => one.signing_key(algorithm, &SecretBytes::new(vec![1; algorithm.seed_len()])).unwrap().public_key().to_vec(),
        };
        for key in [take(algorithm.public_key_len()), &sound] {
            prop_assert!(verify(one, key).is_err());
            prop_assert_eq!(verify(one, key), verify(other, key));
        }
    }
}
