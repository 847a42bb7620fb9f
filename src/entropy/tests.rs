//! Sources that are stuck, biased, alternating or failing, each on a gate of its own.

use std::process::Command;

use super::*;
use crate::secret::Secret;

/// A generator for tests: SplitMix64, the same bytes in every run.
fn sound(seed: u64) -> impl FnMut(&mut [u8]) -> Result<()> {
    let mut state = seed;
    move |bytes| {
        for byte in bytes {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)) as u8;
        }
        Ok(())
    }
}

/// Sound for `after` bytes, then whatever `broken` makes of a sound byte and its number.
fn breaking(after: usize, broken: impl Fn(u8, usize) -> u8) -> impl FnMut(&mut [u8]) -> Result<()> {
    let (mut sound, mut at) = (sound(1), 0);
    move |bytes| {
        sound(bytes)?;
        for byte in bytes {
            if at >= after {
                *byte = broken(*byte, at);
            }
            at += 1;
        }
        Ok(())
    }
}

/// Asks for keys and nonces by turns, until one is refused or `most` bytes of keys were given: how many.
fn given(gate: &Gate, source: Source<'_>, most: usize) -> usize {
    let (mut local, mut given) = (Local::new(), 0);
    while given < most {
        for len in [12, 32] {
            let mut bytes = [1; 32];
            if let Err(e) = local.fill(gate, source, &mut bytes[..len]) {
                assert_eq!(e.kind(), ErrorKind::Unavailable);
                assert_eq!(e.to_string(), "the entropy source failed its health test");
                assert!(e.remedy().is_some());
                assert_eq!(bytes[..len], [0; 32][..len], "nothing is given with a refusal");
                return given;
            }
        }
        given += 32;
    }
    given
}

fn refused(what: &str, after: usize, within: usize, broken: impl Fn(u8, usize) -> u8) {
    let gate = Gate::new();
    let mut source = breaking(after, broken);
    let given = given(&gate, &mut source, after + 10 * within + 4096);
    assert!(given <= after + within, "{what}: {given} bytes given, broken after {after}");
    assert_eq!((gate.health().healthy, gate.health().failures), (false, 1), "{what}");
    // For good, and whatever the source does now.
    let before = gate.health().samples;
    assert!(gate.ready(&mut sound(2)).is_err(), "{what}");
    assert!(Local::new().fill(&gate, &mut sound(2), &mut [0; 12]).is_err(), "{what}");
    assert_eq!(gate.health().samples, before, "{what}: nothing is drawn any more");
}

#[test]
fn a_sound_source_passes() {
    let gate = Gate::new();
    assert!(!gate.health().healthy, "not before the start-up tests");
    assert!(given(&gate, &mut sound(3), 4 << 20) >= 4 << 20);
    let health = gate.health();
    assert_eq!((health.healthy, health.failures), (true, 0));
    assert!(health.samples as usize >= START_UP + (4 << 20));
}

#[test]
fn a_broken_source_never_gives_a_byte() {
    refused("stuck", 0, 0, |_, _| 0x5a);
    refused("alternating", 0, 0, |_, at| [0, 0xff][at % 2]);
    refused("seven values", 0, 0, |_, at| (at % 7) as u8);
    refused("two bits of entropy", 0, 0, |byte, _| byte & 3);
    refused("every fourth byte the same", 0, 0, |byte, at| if at.is_multiple_of(4) { 7 } else { byte });
}

#[test]
fn a_source_that_breaks_later_is_noticed() {
    for after in [START_UP, 5000, 100_000] {
        refused("stuck", after, 64, |_, _| 0);
        refused("alternating", after, 2 * WINDOW as usize, |_, at| [0, 0xff][at % 2]);
        refused("two bits of entropy", after, 2 * WINDOW as usize, |byte, _| byte & 3);
    }
}

/// A run that is as long as the cutoff is found wherever it lies; a shorter one never is.
#[test]
fn the_repetition_cutoff_is_exact() {
    for start in 0..40 {
        let run = |len: usize| -> Vec<u8> {
            let mut bytes: Vec<u8> = (0..60).collect();
            bytes[start..start + len].fill(200);
            bytes
        };
        let cutoff = REPETITION_CUTOFF as usize;
        assert!(HealthTests::new().pass(&run(cutoff - 1)));
        assert!(!HealthTests::new().pass(&run(cutoff)));
        // In pieces too.
        let mut tests = HealthTests::new();
        assert!(!run(cutoff).chunks(4).all(|piece| tests.pass(piece)));
    }
}

#[test]
fn the_proportion_cutoff_is_exact() {
    let window = |count: usize| -> Vec<u8> {
        let mut other = (0..=255u8).filter(|&b| b != 9).cycle();
        let mut left = count;
        let byte = |at: usize| {
            let due = at.is_multiple_of(7) && left > 0;
            left -= usize::from(due);
            if due { 9 } else { other.next().unwrap() }
        };
        (0..WINDOW as usize).map(byte).collect()
    };
    let cutoff = PROPORTION_CUTOFF as usize;
    assert!(HealthTests::new().pass(&window(cutoff - 1)));
    assert!(!HealthTests::new().pass(&window(cutoff)));
    // Each window counts for itself.
    assert!(HealthTests::new().pass(&[window(cutoff - 1), window(cutoff - 1)].concat()));
    assert!(!HealthTests::new().pass(&[window(cutoff - 1), window(cutoff)].concat()));
}

/// The cutoffs are what SP 800-90B computes from the claim and α = 2^-30.
#[test]
fn the_cutoffs_follow_from_the_claim() {
    assert_eq!(REPETITION_CUTOFF, 1 + 30u32.div_ceil(CLAIM_BITS));
    let (n, p) = (f64::from(WINDOW), 0.5f64.powi(CLAIM_BITS as i32));
    // The chance of exactly k among n, from k to k + 1.
    let mut chance = (1.0 - p).powf(n);
    let mut chances = Vec::new();
    for k in 0..WINDOW {
        chances.push(chance);
        chance *= (n - f64::from(k)) / (f64::from(k) + 1.0) * p / (1.0 - p);
    }
    let above = |k: u32| chances[k as usize + 1..].iter().rev().sum::<f64>();
    let quantile = (0..WINDOW).find(|&k| above(k) <= 0.5f64.powi(30)).unwrap();
    assert_eq!(PROPORTION_CUTOFF, 1 + quantile);
}

/// No random bytes is not bad random bytes: the next attempt may work.
#[test]
fn a_source_that_fails_is_asked_again() {
    let gate = Gate::new();
    let mut local = Local::new();
    let mut failing = |_: &mut [u8]| Err(Error::new(ErrorKind::Unavailable, "away"));
    let mut bytes = [1; 12];
    for _ in 0..3 {
        assert_eq!(local.fill(&gate, &mut failing, &mut bytes).err().unwrap().to_string(), "away");
        assert_eq!(bytes, [0; 12]);
    }
    local.fill(&gate, &mut sound(4), &mut bytes).unwrap();
    assert_ne!(bytes, [0; 12]);
    // The same when it is time for a new seed: the old one gives nothing more.
    local.left = 11;
    for _ in 0..3 {
        assert!(local.fill(&gate, &mut failing, &mut bytes).is_err());
        assert!(local.fill(&gate, &mut failing, &mut [0; 4]).is_err());
    }
    local.fill(&gate, &mut sound(5), &mut bytes).unwrap();
    assert_eq!(gate.health().failures, 0);
}

#[test]
fn no_nonce_comes_twice() {
    let gate = Gate::new();
    let mut source = sound(6);
    let mut nonces = std::collections::HashSet::new();
    // Two threads' worth, across many seeds.
    for mut local in [Local::new(), Local::new()] {
        for _ in 0..5 * RESEED / 12 {
            let mut nonce = [0; 12];
            local.fill(&gate, &mut source, &mut nonce).unwrap();
            assert!(nonces.insert(nonce));
        }
    }
    assert_eq!(gate.health().samples as usize, START_UP + 2 * 6 * 32, "a new seed after {RESEED} bytes");
}

/// A key is never made by the generator of nonces: it would be worth no more than that generator's seed.
#[test]
fn keys_are_the_sources_own_bytes() {
    let gate = Gate::new();
    gate.ready(&mut sound(7)).unwrap();
    for len in [24, 32, 48, 64, 72] {
        let (mut key, mut expected) = (vec![0; len], vec![0; len]);
        Local::new().fill(&gate, &mut sound(8), &mut key).unwrap();
        sound(8)(&mut expected).unwrap();
        assert_eq!(key, expected);
    }
}

#[test]
fn threads_draw_different_bytes() {
    let draw = || *Secret::<12>::random().unwrap().expose_secret();
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(draw)).collect();
    let drawn: std::collections::HashSet<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(drawn.len(), 8);
    assert!(health().healthy && health().samples >= START_UP as u64);
}

const CHILD: &str = "STRONGROOM_TEST_BROKEN_ENTROPY";

/// In a process of its own, since the gate of a process never opens again.
#[test]
fn after_a_failure_no_key_is_made_and_nothing_is_sealed_or_signed() {
    let test = "entropy::tests::a_process_with_a_broken_source";
    let child =
        Command::new(std::env::current_exe().unwrap()).args([test, "--exact"]).env(CHILD, "1").output().unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
fn a_process_with_a_broken_source() {
    use crate::crypto::{Kem, Provider, Signature, SuiteId, aws_lc::AwsLc, rustcrypto::RustCrypto};
    use crate::record::{Field, Place, SealingKey, StoreKind};
    use crate::secret::SecretBytes;
    use crate::{Epoch, TenantId};

    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let seed = |len| SecretBytes::new(vec![1; len]);
    let key = AwsLc.kem_key(Kem::XWing, &seed(32)).unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    let (suite, dek) = (SuiteId::Aes256GcmSivSha3_512, Secret::from_bytes([0; 32]));
    let sealing = SealingKey::new(&AwsLc, suite, Epoch::FIRST, &dek).unwrap();
    let place = Place {
        tenant: &tenant,
        store: StoreKind::Memory,
        scope: b"",
        record: b"record",
        version: 1,
        field: Field::Payload,
        embedding: None,
    };
    let sealed = sealing.seal(&place, b"x").unwrap();

    let mut stuck = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    assert!(Local::new().fill(&GATE, &mut stuck, &mut [0; 32]).is_err());

    let refused = |result: Option<Error>| {
        assert_eq!(result.unwrap().to_string(), "the entropy source failed its health test");
    };
    refused(Secret::<32>::random().err());
    refused(SecretBytes::random(64).err());
    refused(sealing.seal(&place, b"x").err());
    for provider in [&AwsLc as &dyn Provider, &RustCrypto] {
        for kem in Kem::ALL {
            let public_key = provider.kem_key(kem, &seed(kem.seed_len())).unwrap().public_key().to_vec();
            refused(provider.kem_encapsulate(kem, &public_key).err());
        }
        for algorithm in Signature::ALL {
            refused(provider.signing_key(algorithm, &seed(algorithm.seed_len())).unwrap().sign(b"", b"m").err());
        }
    }
    // What needs no random bytes goes on: nobody is locked out of what is stored.
    sealing.open(&place, &sealed).unwrap();
    key.decapsulate(&[&[0; 1088], &key.public_key()[1184..]].concat()).unwrap();
}
