//! Each check of a token: signed by the right key, and wrong in one thing.

use coset::cbor::Value;
use coset::{CoseSign1, TaggedCborSerializable as _};
use proptest::prelude::*;
use strongroom::crypto::Provider as _;
use strongroom::crypto::rustcrypto::RustCrypto;
use strongroom::keys::Profile;
use strongroom::keys::certificate::SignerUse;
use strongroom::keys::kms::{Kms as _, Role};
use strongroom::token::{MintRequest, Operation, Refusal, TokenView, Unverified, mint};

use crate::forge::Forge;
use crate::scene::{Scene, provider, refused, signer};
use crate::world::{NOW_MS, other_of};

const NOW_S: u64 = NOW_MS / 1000;

fn forge(scene: &Scene) -> Forge {
    Forge::new(&scene.signer, &scene.claims())
}

/// Guards against forgeries below that are refused for being built otherwise, and not for what is wrong with them.
#[test]
fn what_is_built_by_hand_is_what_is_minted() {
    let scene = Scene::new(Profile::Pure);
    let minted = scene.mint(1);
    let again = Forge::new(&scene.signer, minted.claims());
    assert_eq!(CoseSign1::from_tagged_slice(minted.as_bytes()).unwrap().payload.unwrap(), again.payload());
    let forged = again.sign(&scene.signer);
    assert_eq!(forged.len(), minted.as_bytes().len());
    assert_eq!(scene.verify(&forged, NOW_MS).unwrap().claims(), minted.claims());
}

/// Guards against a signature that nobody else could check: rebuilt from RFC 9052, section 4.4, and verified by the
/// other implementation of ML-DSA.
#[test]
fn the_signature_is_that_of_the_standard() {
    for (profile, algorithm) in
        [(Profile::Hybrid, -49), (Profile::Pure, -49), (Profile::Fips, -49), (Profile::Cnsa2, -50)]
    {
        let scene = Scene::new(profile);
        let token = scene.mint(1);
        let expected = if profile == Profile::Cnsa2 { 4_850..=4_950 } else { 3_500..=3_650 };
        assert!(expected.contains(&token.as_bytes().len()), "{} bytes", token.as_bytes().len());
        let Value::Tag(18, sign1) = coset::cbor::de::from_reader(token.as_bytes()).unwrap() else { panic!("no tag") };
        let [protected, unprotected, payload, signature] = <[Value; 4]>::try_from(sign1.into_array().unwrap()).unwrap();
        assert_eq!(unprotected, Value::Map(Vec::new()));
        let header: Value = coset::cbor::de::from_reader(&protected.as_bytes().unwrap()[..]).unwrap();
        assert_eq!(header.as_map().unwrap()[0], (Value::from(1), Value::from(algorithm)));
        let external = [&[1], scene.tenant.as_str().as_bytes()].concat();
        let structure = vec![Value::from("Signature1"), protected, Value::Bytes(external), payload];
        let mut signed = Vec::new();
        coset::cbor::ser::into_writer(&Value::Array(structure), &mut signed).unwrap();
        let key = scene.signer.public_key();
        RustCrypto.verify(scene.signer.algorithm(), key, b"", &signed, signature.as_bytes().unwrap()).unwrap();
    }
}

#[test]
fn times_are_kept_to() {
    let scene = Scene::new(Profile::Pure);
    let token = scene.mint(1);
    let at = |ms| scene.verify(token.as_bytes(), ms).map(|_| ());
    assert_eq!(at(NOW_MS), Ok(()));
    assert_eq!(at(NOW_MS + 299_999), Ok(()));
    assert_eq!(at(NOW_MS + 300_000), Err(Refusal::Expired));
    assert_eq!(at(u64::MAX), Err(Refusal::Expired));
    assert_eq!(at(NOW_MS - 5_000), Ok(()), "an issuer whose clock is a little ahead");
    assert_eq!(at(NOW_MS - 5_001), Err(Refusal::NotYet));
    for (claims, why) in [
        (vec![(4, NOW_S + 301)], Refusal::Lifetime),
        (vec![(4, NOW_S - 1)], Refusal::Lifetime),
        (vec![(6, NOW_S - 1)], Refusal::Lifetime),
        (vec![(6, NOW_S + 1)], Refusal::Lifetime),
        (vec![(5, NOW_S + 300)], Refusal::Lifetime),
        (vec![(5, NOW_S - 1)], Refusal::Lifetime),
        (vec![(4, u64::MAX >> 1)], Refusal::Lifetime),
        (vec![(5, NOW_S + 100)], Refusal::NotYet),
        (vec![(4, NOW_S - 10), (5, NOW_S - 300), (6, NOW_S - 300)], Refusal::Expired),
    ] {
        let forged = claims.iter().fold(forge(&scene), |f, (claim, s)| f.set(*claim, Value::from(*s)));
        refused(scene.verify(&forged.sign(&scene.signer), NOW_MS), why);
    }
}

#[test]
fn it_is_for_one_sidecar_and_one_tenant() {
    let scene = Scene::new(Profile::Pure);
    let token = scene.mint(1);
    let elsewhere = "sidecar-2".parse().unwrap();
    refused(
        Unverified::read(token.as_bytes()).unwrap().verify(provider(), &scene.believed, &elsewhere, NOW_MS),
        Refusal::Audience,
    );
    let other = other_of(Profile::Pure);
    // With the other tenant signed along, and without.
    let theirs = forge(&scene).set(-70_001, Value::from(other.as_str()));
    refused(scene.verify(&theirs.sign(&scene.signer), NOW_MS), Refusal::Tenant);
    let mut theirs = forge(&scene).set(-70_001, Value::from(other.as_str()));
    theirs.aad = [&[1], other.as_str().as_bytes()].concat();
    refused(scene.verify(&theirs.sign(&scene.signer), NOW_MS), Refusal::Tenant);
    let mut bound_elsewhere = forge(&scene);
    bound_elsewhere.aad = [&[1], other.as_str().as_bytes()].concat();
    refused(scene.verify(&bound_elsewhere.sign(&scene.signer), NOW_MS), Refusal::Signature);
    let mut of_another_version = forge(&scene);
    of_another_version.aad[0] = 2;
    refused(scene.verify(&of_another_version.sign(&scene.signer), NOW_MS), Refusal::Signature);
}

#[test]
fn it_is_signed_by_who_it_says_and_for_this_use() {
    let scene = Scene::new(Profile::Pure);
    let store = scene.world.of(Role::Store, &scene.tenant);
    let second = signer(&scene.world, &store, &scene.tenant, SignerUse::Tokens);
    // Another signer of the same tenant, under its own name and under that of the first.
    let claims = scene.claims();
    refused(scene.verify(&Forge::new(&second, &claims).sign(&second), NOW_MS), Refusal::Issuer);
    refused(scene.verify(&forge(&scene).sign(&second), NOW_MS), Refusal::Signature);
    let misnamed = forge(&scene).set(1, Value::from("somebody"));
    refused(scene.verify(&misnamed.sign(&scene.signer), NOW_MS), Refusal::Issuer);
    // One that is certified for envelopes.
    let envelopes = signer(&scene.world, &store, &scene.tenant, SignerUse::Envelopes);
    let believed = store.believe_signer(&scene.tenant, SignerUse::Envelopes, envelopes.chain()).unwrap();
    let token = Forge::new(&envelopes, &claims).sign(&envelopes);
    refused(Unverified::read(&token).unwrap().verify(provider(), &believed, &scene.audience, NOW_MS), Refusal::Issuer);
    assert_eq!(Unverified::read(&token).unwrap().signer(), envelopes.thumbprint());
    let holder = scene.holder.id().unwrap();
    let (audience, records) = (&scene.audience, &scene.digests()[..]);
    let request =
        MintRequest { audience, holder: &holder, operation: Operation::Decrypt, records, max_uses: 1, life_ms: 1000 };
    assert!(mint(provider(), &envelopes, &request, NOW_MS).is_err());
}

/// Each claim missing, of the wrong type, out of its bounds, twice, or unknown; each header changed.
#[test]
fn a_token_has_one_form() {
    let scene = Scene::new(Profile::Pure);
    let sign = |forge: Forge| forge.sign(&scene.signer);
    let malformed = |token: Vec<u8>| refused(scene.verify(&token, NOW_MS), Refusal::Malformed);
    let all = forge(&scene).claims;
    for (claim, value) in &all {
        malformed(sign(forge(&scene).without(*claim)));
        malformed(sign(forge(&scene).with(*claim, value.clone())));
        malformed(sign(forge(&scene).set(*claim, Value::Null)));
        malformed(sign(forge(&scene).set(*claim, Value::Tag(0, Box::new(value.clone())))));
    }
    let digest = |n: u8| Value::Bytes(vec![n; 32]);
    let of = |digests: Vec<Value>| Value::Array(digests);
    for (claim, value) in [
        (1, Value::from("")),
        (1, Value::from("x".repeat(strongroom::limits::SERVICE_NAME_BYTES + 1))),
        (3, Value::from("Sidecar 1")),
        (4, Value::from(-1)),
        (4, Value::from(NOW_S as f64)),
        (7, Value::Bytes(vec![0; 15])),
        (8, Value::Map(Vec::new())),
        (8, Value::Map(vec![(Value::from(1), digest(1))])),
        (8, Value::Map(vec![(Value::from(5), digest(1)), (Value::from(6), digest(1))])),
        (8, Value::Map(vec![(Value::from(5), Value::Bytes(vec![0; 31]))])),
        (-70_001, Value::from("No Tenant")),
        (-70_002, Value::from("encrypt")),
        (-70_003, of(Vec::new())),
        (-70_003, of(vec![digest(1), digest(1)])),
        (-70_003, of((0..33).map(digest).collect())),
        (-70_003, of(vec![Value::Bytes(vec![0; 31])])),
        (-70_005, Value::from(0)),
        (-70_005, Value::from(1_000_001)),
        (-70_005, Value::from(1_u64 << 40)),
    ] {
        malformed(sign(forge(&scene).set(claim, value.clone())));
    }
    let tree = |count: u32| of(vec![digest(1), Value::from(count)]);
    malformed(sign(forge(&scene).with(-70_004, tree(100))));
    for count in [0, 32, 4097] {
        let mut forged = forge(&scene);
        *forged.claims.iter_mut().find(|(claim, _)| *claim == -70_003).unwrap() = (-70_004, tree(count));
        malformed(sign(forged));
    }
    for unknown in [2, 9, 10, -70_006, -65_537, 70_000] {
        malformed(sign(forge(&scene).with(unknown, Value::from(1))));
    }
    let mut swapped = forge(&scene);
    swapped.claims.swap(0, 1);
    malformed(sign(swapped));
    let mut kid = forge(&scene);
    kid.protected = kid.protected.key_id(vec![1]);
    malformed(sign(kid));
    let mut unprotected = forge(&scene);
    unprotected.unprotected = unprotected.unprotected.key_id(vec![1]);
    malformed(sign(unprotected));
    let mut algorithm = forge(&scene);
    algorithm.protected = algorithm.protected.algorithm(coset::iana::Algorithm::ML_DSA_87);
    malformed(sign(algorithm));
}

/// The same content in encodings that a lenient decoder takes for the same.
#[test]
fn other_encodings_of_the_same_are_refused() {
    let scene = Scene::new(Profile::Pure);
    let good = forge(&scene).payload();
    // The map with an indefinite length, and its first key as a wider number.
    let indefinite = [&[0xbf], &good[1..], &[0xff]].concat();
    let wide = [&good[..1], &[0x18, 0x01], &good[2..]].concat();
    let trailing = [&good[..], &[0]].concat();
    for payload in [indefinite, wide, trailing] {
        refused(scene.verify(&forge(&scene).sign_payload(&scene.signer, payload), NOW_MS), Refusal::Malformed);
    }
    let token = scene.mint(1).as_bytes().to_vec();
    assert_eq!(token[..2], [0xd2, 0x84]);
    for wrong in [
        token[1..].to_vec(),
        [&token[..], &[0]].concat(),
        [&[0xd2], &token[..]].concat(),
        [&[0xd8, 18], &token[1..]].concat(),
        [&[0xd1], &token[1..]].concat(),
        [&[0xd2, 0x9f], &token[2..], &[0xff]].concat(),
        vec![0; 9000],
        Vec::new(),
    ] {
        refused(scene.verify(&wrong, NOW_MS), Refusal::Malformed);
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let scene = Scene::new(Profile::Pure);
    let token = scene.mint(1).as_bytes().to_vec();
    let signature = token.len() - 3309;
    // Every bit before the signature, and some of that.
    for bit in (0..signature * 8).chain((signature * 8..token.len() * 8).step_by(97)) {
        let mut changed = token.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(scene.verify(&changed, NOW_MS).is_err(), "bit {bit}");
    }
    for length in (0..token.len()).step_by(13) {
        refused(scene.verify(&token[..length], NOW_MS), Refusal::Malformed);
    }
}

#[test]
fn people_can_read_it() {
    let scene = Scene::new(Profile::Cnsa2);
    let token = scene.mint(7);
    let view = TokenView::of(token.as_bytes()).unwrap();
    assert_eq!((view.algorithm, view.max_uses, view.record_count), ("ML-DSA-87", 7, 3));
    assert_eq!(view.holder, scene.holder.id().unwrap().to_string());
    assert!(view.to_string().contains("not verified"));
    assert_eq!(TokenView::of(b"x"), Err(Refusal::Malformed));
}

proptest! {
    #[test]
    fn hostile_tokens_never_panic(mut bytes: Vec<u8>, head: bool) {
        if head {
            bytes.splice(0..0, [0xd2, 0x84]);
        }
        let _ = (Unverified::read(&bytes).map(drop), TokenView::of(&bytes));
    }
}
