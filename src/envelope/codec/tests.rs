use coset::cbor::value::Value;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::crypto::NONCE_LEN;
use crate::keys::Profile;

fn header(profile: Profile, correlation: &[u8], chain: &[Vec<u8>]) -> Header {
    let algorithms = Algorithms::of(profile);
    Header {
        kind: Kind::ToolArguments,
        sender: "acme".parse().unwrap(),
        agent: "planner".parse().unwrap(),
        thumbprint: [4; 32],
        recipient: "initech".parse().unwrap(),
        session: SessionId::from([6; 16]),
        algorithms,
        kem_ciphertext: vec![8; algorithms.kem.ciphertext_len()],
        issued_at_ms: 1_800_000_000_000,
        expires_at_ms: 1_800_000_060_000,
        sequence: 300,
        nonce: [14; NONCE_LEN],
        correlation: correlation.to_vec(),
        chain: chain.to_vec(),
    }
}

fn envelope(header: Header, ciphertext: &[u8], signature: &[u8]) -> Envelope {
    assemble(header, |_| Ok(ciphertext.to_vec()), |_| Ok(signature.to_vec())).unwrap()
}

/// Small and large ones, with and without what is optional.
fn corpus() -> Vec<Vec<u8>> {
    let chains = [Vec::new(), vec![vec![0x30; 300], vec![0x30; 70]]];
    let of = |profile, correlation, chain: &Vec<Vec<u8>>| {
        envelope(header(profile, correlation, chain), &[1; 24], &[2; 40]).into_bytes()
    };
    Profile::ALL
        .into_iter()
        .zip([&b""[..], b"c"].into_iter().cycle())
        .flat_map(|(profile, correlation)| chains.iter().map(move |chain| of(profile, correlation, chain)))
        .collect()
}

/// What one mutation makes of an envelope: a bit, a byte, a cut, a piece of another, or a piece twice.
fn mutate(rng: &mut SmallRng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut mutated = bytes.to_vec();
    let at = rng.random_range(0..bytes.len());
    let end = rng.random_range(at..=bytes.len());
    match rng.random_range(0..6_u8) {
        0 => mutated[at] ^= 1 << rng.random_range(0..8_u8),
        1 => mutated[at] = rng.random(),
        2 => mutated.truncate(at),
        3 => drop(mutated.drain(at..end)),
        4 => {
            let from = rng.random_range(0..other.len());
            let to = rng.random_range(from..=other.len());
            drop(mutated.splice(at..end, other[from..to].iter().copied()));
        }
        _ => mutated.splice(at..at, bytes[at..end].iter().copied()).for_each(drop),
    }
    mutated
}

/// Guards against a decoder that panics or takes two encodings for one envelope. Heads of items are mutated more often
/// than what is in them, since decoders err there.
#[test]
fn mutated_envelopes_are_refused_or_are_other_envelopes() {
    let corpus = corpus();
    let mut rng = SmallRng::seed_from_u64(4);
    let mut accepted = 0;
    for _ in 0..120_000 {
        let [one, other] = [0, 1].map(|_| &corpus[rng.random_range(0..corpus.len())]);
        let mut mutated = mutate(&mut rng, one, other);
        if rng.random_ratio(1, 4) && !mutated.is_empty() {
            mutated = mutate(&mut rng, &mutated, other);
        }
        if let Ok(envelope) = Envelope::decode(&mutated) {
            accepted += 1;
            assert_eq!(envelope.bytes, mutated);
            let again = self::envelope(envelope.header.clone(), envelope.ciphertext(), envelope.signature());
            assert_eq!(again, envelope);
        }
    }
    // Of those, what changed is in a value, where every value is a possible one.
    assert!(accepted > 1_000, "{accepted}");
}

/// The layout of `schema/envelope.cddl`, read by a decoder that knows nothing of ours.
#[test]
fn the_encoding_is_the_documented_one() {
    for profile in Profile::ALL {
        let chain = [b"tenant".to_vec(), b"signer".to_vec()];
        let envelope = envelope(header(profile, b"call-7", &chain), b"ciphertext", b"signature");
        let value: Value = de::from_reader(&envelope.bytes[..]).unwrap();
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let (kem, signature, suite) = match profile {
            Profile::Hybrid => (3, -49, 1),
            Profile::Pure => (1, -49, 1),
            Profile::Cnsa2 => (2, -50, 3),
            Profile::Fips => (1, -49, 2),
        };
        let values = [
            Value::from(1),
            Value::from(2),
            Value::from("acme"),
            Value::from("planner"),
            bytes(&[4; 32]),
            Value::from("initech"),
            bytes(&[6; 16]),
            Value::from(kem),
            bytes(&vec![8; profile.kem().ciphertext_len()]),
            Value::from(signature),
            Value::from(suite),
            Value::from(1_800_000_000_000_u64),
            Value::from(1_800_000_060_000_u64),
            Value::from(300),
            bytes(&[14; 12]),
            bytes(b"call-7"),
            Value::Array(chain.iter().map(|der| bytes(der)).collect()),
        ];
        let map = values.into_iter().enumerate().map(|(key, value)| (Value::from(key as u64), value));
        let header = Value::Map(map.collect());
        let mut encoded = Vec::new();
        ser::into_writer(&header, &mut encoded).unwrap();
        assert_eq!(envelope.aad(), encoded);
        assert_eq!(value, Value::Array(vec![header, bytes(b"ciphertext"), bytes(b"signature")]));
        let signed = [b"strongroom envelope v1\0", &encoded[..], b"\x4aciphertext"].concat();
        assert_eq!(envelope.signed(), signed);
    }
}

/// Guards against a change of the layout: the vectors are from `schema/vectors/envelope_layout.py`.
#[test]
fn envelopes_are_those_of_an_independent_implementation() {
    for line in include_str!("../../../schema/vectors/envelope_layout.txt").lines() {
        let (profile, expected) = line.split_once(' ').unwrap();
        let header = header(profile.parse().unwrap(), b"call-7", &[b"tenant".to_vec(), b"signer".to_vec()]);
        let signature_len = *header.algorithms.signature.signature_len().start();
        let envelope = envelope(header, &[1; 40], &vec![2; signature_len]);
        let hex: String = envelope.bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected, "{profile}");
    }
}

/// One entry per way in which a header can be wrong while its CBOR is canonical.
#[test]
fn values_that_cannot_be_are_refused() {
    let good = envelope(header(Profile::Pure, b"c", &[]), b"c", b"s");
    let value: Value = de::from_reader(&good.bytes[..]).unwrap();
    type Fields = Vec<(Value, Value)>;
    let decode = |change: &dyn Fn(&mut Fields)| {
        let mut parts = value.clone().into_array().unwrap();
        change(parts[0].as_map_mut().unwrap());
        let mut bytes = Vec::new();
        ser::into_writer(&Value::Array(parts), &mut bytes).unwrap();
        Envelope::decode(&bytes)
    };
    assert!(decode(&|_| ()).is_ok());
    let long = limits::ENVELOPE_CORRELATION_BYTES + 1;
    let wrong = [
        (0, Value::from(0)),
        (0, Value::from(2)),
        (1, Value::from(0)),
        (1, Value::from(6)),
        (2, Value::from("Acme")),
        (2, Value::Bytes(b"acme".to_vec())),
        (3, Value::from("")),
        (4, Value::Bytes(vec![4; 31])),
        (5, Value::from("_system")),
        (6, Value::Bytes(vec![6; 17])),
        (7, Value::from(0)),
        (7, Value::from(2)),
        (8, Value::Bytes(vec![8; 1087])),
        (9, Value::from(-8)),
        (10, Value::from(4)),
        (11, Value::from(-1)),
        (12, Value::Null),
        (13, Value::from(1.0)),
        (14, Value::Bytes(vec![1; 13])),
        (15, Value::Bytes(vec![1; long])),
        (15, Value::Bytes(Vec::new())),
    ];
    for (key, value) in wrong {
        assert!(decode(&|header| header[key].1 = value.clone()).is_err(), "{key} {value:?}");
    }
    for key in 0..REQUIRED {
        assert!(decode(&|header| drop(header.remove(key))).is_err(), "without {key}");
        assert!(decode(&|header| header.insert(key, header[key].clone())).is_err(), "{key} twice");
        assert!(decode(&|header| header.swap(key, key + 1)).is_err(), "{key} out of order");
    }
    for (key, value) in [(17, Value::from(0)), (16, Value::Array(Vec::new()))] {
        assert!(decode(&|header| header.push((Value::from(key), value.clone()))).is_err(), "{key}");
    }
    let many = Value::Array(vec![Value::Bytes(vec![1]); limits::CHAIN_CERTIFICATES + 1]);
    assert!(decode(&|header| header.push((Value::from(16), many.clone()))).is_err());
}

/// Guards against encodings that say the same in other bytes.
#[test]
fn other_encodings_are_refused() {
    let good = envelope(header(Profile::Pure, b"", &[]), b"c", b"s").into_bytes();
    let body = &good[1..];
    let wrong = [
        [&[0x98, 3], body].concat(),
        [&[0x9f], body, &[0xff]].concat(),
        [&[0xd8, 0x18, 0x83], body].concat(),
        [&[0x84], body, &[0x00]].concat(),
        [&good[..], &[0x00]].concat(),
        [&good[..good.len() - 2], &[0x58, 1, b's']].concat(),
        [&good[..good.len() - 2], &[0x5f, 0x41, b's', 0xff]].concat(),
        // Version 1 in two bytes.
        [&good[..3], &[0x18, 1], &good[4..]].concat(),
    ];
    assert!(Envelope::decode(&good).is_ok() && good[..4] == [0x83, 0xaf, 0, 1]);
    for bytes in wrong {
        assert!(Envelope::decode(&bytes).is_err(), "{:x?}", &bytes[..8]);
    }
}

proptest! {
    #[test]
    fn envelopes_round_trip(
        profile in prop::sample::select(&Profile::ALL[..]),
        kind in prop::sample::select(&Kind::ALL[..]),
        (issued_at_ms, expires_at_ms, sequence) in any::<(u64, u64, u64)>(),
        (thumbprint, session, nonce) in any::<([u8; 32], [u8; 16], [u8; 12])>(),
        correlation in prop::collection::vec(any::<u8>(), 0..=limits::ENVELOPE_CORRELATION_BYTES),
        chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..=3),
        (ciphertext, signature) in any::<(Vec<u8>, Vec<u8>)>(),
    ) {
        let header = Header {
            kind, issued_at_ms, expires_at_ms, sequence, thumbprint, nonce,
            session: SessionId::from(session),
            ..header(profile, &correlation, &chain)
        };
        let envelope = envelope(header.clone(), &ciphertext, &signature);
        let decoded = Envelope::decode(&envelope.bytes[..]).unwrap();
        prop_assert_eq!(&decoded, &envelope);
        prop_assert_eq!(&decoded.header, &header);
        prop_assert_eq!((decoded.ciphertext(), decoded.signature()), (&ciphertext[..], &signature[..]));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert_eq!(&envelope.bytes[..], &bytes[..]);
        }
    }
}
