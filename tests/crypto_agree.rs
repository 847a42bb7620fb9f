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
    select(vec![Kem::MlKem768, Kem::MlKem1024])
}

fn signatures() -> impl Strategy<Value = Signature> {
    select(vec![Signature::MlDsa65, Signature::MlDsa87])
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
        kem in kems(), d: [u8; 32], z: [u8; 32], at: Index, bit: u8, cut: Index,
    ) {
        let seed = Secret::from_bytes([d, z].concat().try_into().unwrap());
        for (one, other) in PAIRS {
            let public_key = one.kem_public_key(kem, &seed).unwrap();
            prop_assert_eq!(&public_key, &other.kem_public_key(kem, &seed).unwrap());
            let (ciphertext, shared) = one.kem_encapsulate(kem, &public_key).unwrap();
            prop_assert!(other.kem_decapsulate(kem, &seed, &ciphertext).unwrap() == shared);
            // Implicit rejection: another secret, and the same one from both.
            let forged = flipped(&ciphertext, at, bit);
            let rejected = other.kem_decapsulate(kem, &seed, &forged).unwrap();
            prop_assert!(rejected != shared);
            prop_assert!(rejected == one.kem_decapsulate(kem, &seed, &forged).unwrap());
            // Fresh randomness every time.
            prop_assert_ne!(one.kem_encapsulate(kem, &public_key).unwrap().0, ciphertext.clone());
            for wrong in [&ciphertext[..cut.index(ciphertext.len())], &[&ciphertext[..], &[0]].concat()] {
                let refused = one.kem_decapsulate(kem, &seed, wrong).err().unwrap();
                prop_assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                prop_assert_eq!(refused.to_string(), "malformed ciphertext");
            }
            for wrong in [&public_key[..cut.index(public_key.len())], &vec![0xff; public_key.len()]] {
                let refused = one.kem_encapsulate(kem, wrong).err().unwrap();
                prop_assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                prop_assert_eq!(refused.to_string(), "malformed encapsulation key");
            }
        }
    }

    #[test]
    fn signatures_agree(
        algorithm in signatures(), seed: [u8; 32], message in vec(any::<u8>(), 0..500), at: Index, bit: u8, cut: Index,
    ) {
        let seed = Secret::from_bytes(seed);
        for (signer, verifier) in PAIRS {
            let public_key = signer.signature_public_key(algorithm, &seed).unwrap();
            prop_assert_eq!(&public_key, &verifier.signature_public_key(algorithm, &seed).unwrap());
            let signature = signer.sign(algorithm, &seed, &message).unwrap();
            prop_assert_eq!(signature.len(), algorithm.signature_len());
            prop_assert_ne!(&signer.sign(algorithm, &seed, &message).unwrap(), &signature, "signing is hedged");
            let verify = |key: &[u8], message: &[u8], signature: &[u8]| {
                verifier.verify(algorithm, key, message, signature).map_err(|e| (e.kind(), e.to_string()))
            };
            let denied = Err((ErrorKind::Denied, "the signature does not verify".to_owned()));
            let malformed = |what| Err((ErrorKind::InvalidInput, format!("malformed {what}")));
            prop_assert_eq!(verify(&public_key, &message, &signature), Ok(()));
            prop_assert_eq!(verify(&flipped(&public_key, at, bit), &message, &signature), denied.clone());
            prop_assert_eq!(verify(&public_key, &[&message[..], &[0]].concat(), &signature), denied.clone());
            prop_assert_eq!(verify(&public_key, &message, &flipped(&signature, at, bit)), denied);
            let short_key = &public_key[..cut.index(public_key.len())];
            prop_assert_eq!(verify(short_key, &message, &signature), malformed("verification key"));
            let short_signature = &signature[..cut.index(signature.len())];
            prop_assert_eq!(verify(&public_key, &message, short_signature), malformed("signature"));
        }
    }
}
