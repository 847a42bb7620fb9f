//! Guards against a record that opens where it does not belong.

use super::*;
use crate::ErrorKind;
use crate::crypto::{aws_lc::AwsLc, rustcrypto::RustCrypto};
use crate::id::TenantId;
use proptest::prelude::*;

const DIGEST: [u8; 32] = [7; 32];

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn key(suite: SuiteId, epoch: u32, byte: u8) -> SealingKey {
    let epoch = Epoch::try_from(epoch).unwrap();
    SealingKey::new(&AwsLc, suite, epoch, &Secret::from_bytes([byte; 32])).unwrap()
}

fn place(tenant: &TenantId) -> Place<'_> {
    Place {
        tenant,
        store: StoreKind::Vectors,
        scope: b"collection",
        record: b"record",
        version: 3,
        field: Field::Payload,
        embedding: Some(&DIGEST),
    }
}

fn refused(key: &SealingKey, place: &Place<'_>, sealed: &[u8]) -> bool {
    key.open(place, sealed).err().is_some_and(|e| e.kind() == ErrorKind::Integrity)
}

#[test]
fn the_layout_is_the_documented_one() {
    let acme = tenant("acme");
    let sealed = key(SuiteId::Aes256GcmSivSha3_512, 0x0102_0304, 1).seal(&place(&acme), b"hello").unwrap();
    assert_eq!(sealed.len(), 5 + 35);
    assert_eq!(sealed[..7], [1, 0, 1, 1, 2, 3, 4]);
}

/// A sealed record made by hand, so that a change of layout or associated data shows: the key is 32 bytes of 1, the
/// nonce 12 bytes of 2.
#[test]
fn a_stored_record_of_format_1_still_opens() {
    let acme = tenant("acme");
    let aad = [
        &[0, 0, 0, 1, 1][..],
        &[0, 0, 0, 2, 0, 1],
        &[0, 0, 0, 4, 0, 0, 0, 9],
        b"\0\0\0\x04acme",
        &[0, 0, 0, 1, 1],
        b"\0\0\0\x0acollection",
        b"\0\0\0\x06record",
        &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 3],
        &[0, 0, 0, 1, 1],
        &[&[0, 0, 0, 32][..], &DIGEST].concat(),
    ]
    .concat();
    let aead = RustCrypto.aead(crypto::Aead::Aes256GcmSiv, &Secret::from_bytes([1; 32])).unwrap();
    let mut sealed = [&[1, 0, 1, 0, 0, 0, 9][..], &[2; 12]].concat();
    aead.seal(&[2; 12], &aad, b"hello", &mut sealed).unwrap();
    let opened = key(SuiteId::Aes256GcmSivSha3_512, 9, 1).open(&place(&acme), &sealed).unwrap();
    assert_eq!(opened.expose_secret(), b"hello");
}

#[test]
fn every_component_of_the_place_is_bound() {
    let (acme, other) = (tenant("acme"), tenant("other"));
    for suite in SuiteId::ALL {
        let key = key(suite, 9, 1);
        let right = place(&acme);
        let sealed = key.seal(&right, b"hello").unwrap();
        assert_eq!(key.open(&right, &sealed).unwrap().expose_secret(), b"hello");
        let wrong: [(&str, Place<'_>); 9] = [
            ("tenant", Place { tenant: &other, ..right }),
            ("store", Place { store: StoreKind::Memory, ..right }),
            ("scope", Place { scope: b"collectioN", ..right }),
            ("record", Place { record: b"recorD", ..right }),
            ("version", Place { version: 2, ..right }),
            ("field", Place { field: Field::Vector, ..right }),
            ("embedding", Place { embedding: Some(&[8; 32]), ..right }),
            ("no embedding", Place { embedding: None, ..right }),
            // The same bytes in all, cut elsewhere: what the length prefixes are for.
            ("boundaries", Place { scope: b"collectionr", record: b"ecord", ..right }),
        ];
        for (component, place) in wrong {
            assert!(refused(&key, &place, &sealed), "{component} is not bound by {}", suite.as_str());
        }
    }
}

#[test]
fn epoch_suite_and_format_version_are_bound() {
    let acme = tenant("acme");
    let right = key(SuiteId::Aes256GcmSha3_512, 9, 1);
    let sealed = right.seal(&place(&acme), b"hello").unwrap();
    // The same key bytes under another epoch or suite, with the header rewritten to match.
    for (wrong, at, byte) in
        [(key(SuiteId::Aes256GcmSha3_512, 8, 1), 6, 8), (key(SuiteId::Aes256GcmSha384, 9, 1), 2, 3)]
    {
        assert!(refused(&wrong, &place(&acme), &sealed));
        let mut rewritten = sealed.clone();
        rewritten[at] = byte;
        assert!(refused(&wrong, &place(&acme), &rewritten));
    }
    let mut version = sealed.clone();
    version[0] = 2;
    assert!(refused(&right, &place(&acme), &version));
    assert!(refused(&key(SuiteId::Aes256GcmSha3_512, 9, 2), &place(&acme), &sealed), "another key");
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let acme = tenant("acme");
    for suite in SuiteId::ALL {
        let key = key(suite, 1, 1);
        let sealed = key.seal(&place(&acme), b"some plaintext").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&key, &place(&acme), &flipped), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(refused(&key, &place(&acme), &sealed[..len]), "cut to {len}");
        }
        assert!(refused(&key, &place(&acme), &[&sealed[..], &[0]].concat()), "one byte more");
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(plaintext: Vec<u8>, scope: Vec<u8>, record: Vec<u8>, version: u64, suite in 0_usize..3) {
        let acme = tenant("acme");
        let key = key(SuiteId::ALL[suite], 1, 1);
        let place = Place { scope: &scope, record: &record, version, ..place(&acme) };
        let sealed = key.seal(&place, &plaintext).unwrap();
        prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
        let opened = key.open(&place, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), &plaintext[..]);
    }

    #[test]
    fn hostile_bytes_never_open(bytes: Vec<u8>) {
        prop_assert!(refused(&key(SuiteId::Aes256GcmSivSha3_512, 1, 1), &place(&tenant("acme")), &bytes));
    }
}
