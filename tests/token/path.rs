//! From a token to the plaintext: the holder's proof, the records, and each way in which they do not fit.

use strongroom::keys::kms::{DekRequest, Kms as _, Role};
use strongroom::keys::{Keyring, Label, Profile};
use strongroom::token::{
    Ask, Asked, ChunkPlace, Contact, Form, HandoffRecord, Hello, Holder, Membership, MintRequest, Operation, Proof,
    RecordKind, Refusal, Welcome, mint, of_chunk, open_place, seal_context,
};
use strongroom::{Epoch, ErrorKind};

use crate::scene::{Scene, TEXT, meet, provider, refused};
use crate::world::{NOW_MS, other_of};

#[test]
fn a_holder_gets_what_the_token_names_in_every_profile() {
    for profile in Profile::ALL {
        let scene = Scene::new(profile);
        let spent = scene.spend(scene.mint(1).as_bytes()).unwrap();
        for (index, record) in scene.records.iter().enumerate() {
            let opened = scene.open(&spent, index, record).unwrap();
            assert_eq!((opened.kind, opened.content.expose_secret()), (RecordKind::Context, TEXT), "{profile}");
        }
    }
}

#[test]
fn a_holder_may_ask_for_less_and_for_nothing_else() {
    let scene = Scene::new(Profile::Pure);
    let token = scene.verify(scene.mint(9).as_bytes(), NOW_MS).unwrap();
    let asked = scene.asked();
    let one = scene.ledger.spend(scene.authorize(&token, &asked[1..2]).unwrap()).unwrap();
    assert_eq!(one.records(), &scene.digests()[1..2]);
    scene.open(&one, 0, &scene.records[1]).unwrap();
    // Another record of the same token, which was not asked for; and one too many.
    refused(scene.open(&one, 0, &scene.records[0]), Refusal::Record);
    refused(scene.open(&one, 1, &scene.records[1]), Refusal::Record);
    let stranger = Asked { digest: [7; 32].into(), membership: None };
    refused(scene.authorize(&token, &[stranger]), Refusal::Record);
    refused(scene.authorize(&token, &[]), Refusal::Record);
    let many: Vec<_> = std::iter::repeat_n(asked[0].clone(), 257).collect();
    refused(scene.authorize(&token, &many), Refusal::Record);
}

#[test]
fn a_proof_is_of_this_holder_contact_token_and_request() {
    let scene = Scene::new(Profile::Pure);
    let (token, other_token) = (scene.mint(9), scene.mint(9));
    let [token, other_token] = [&token, &other_token].map(|t| scene.verify(t.as_bytes(), NOW_MS).unwrap());
    let asked = scene.asked();
    let good = scene.prove(&token, &asked);
    let changed = |change: fn(&mut Proof)| {
        let mut proof = good.clone();
        change(&mut proof);
        proof
    };
    refused(scene.check(&token, &asked, &changed(|p| p.counter += 1)), Refusal::Proof);
    refused(scene.check(&token, &asked, &changed(|p| p.mac[31] ^= 1)), Refusal::Proof);
    refused(scene.check(&other_token, &asked, &good), Refusal::Proof);
    refused(scene.check(&token, &asked[..2], &good), Refusal::Proof);
    let turned: Vec<_> = asked.iter().rev().cloned().collect();
    refused(scene.check(&token, &turned, &good), Refusal::Proof);
    let sealed = Ask { records: &asked, form: Form::Sealed };
    refused(scene.contact.check(provider(), &token, sealed, &good, NOW_MS), Refusal::Proof);
    // The same holder in another contact.
    let (met, contact) = meet(&scene.holder, &scene.audience);
    let clear = Ask { records: &asked, form: Form::Clear };
    refused(contact.check(provider(), &token, clear, &good, NOW_MS), Refusal::Proof);
    let elsewhere = met.prove(token.digest(), &asked, Form::Clear);
    refused(scene.check(&token, &asked, &elsewhere), Refusal::Proof);
    // Nothing of all that has used up the proof; this does.
    scene.check(&token, &asked, &good).unwrap();
    refused(scene.check(&token, &asked, &good), Refusal::Replay);
    let late = scene.prove(&token, &asked);
    refused(scene.contact.check(provider(), &token, clear, &late, NOW_MS + 900_000), Refusal::Contact);
}

#[test]
fn a_token_is_for_the_holder_that_it_names() {
    let scene = Scene::new(Profile::Pure);
    let token = scene.verify(scene.mint(9).as_bytes(), NOW_MS).unwrap();
    let asked = scene.asked();
    let clear = Ask { records: &asked, form: Form::Clear };
    // A thief with the token and a key of its own; and the same key bytes in another profile.
    let thief = Holder::generate(provider(), Profile::Pure).unwrap();
    let (met, contact) = meet(&thief, &scene.audience);
    let proof = met.prove(token.digest(), &asked, Form::Clear);
    refused(contact.check(provider(), &token, clear, &proof, NOW_MS), Refusal::Holder);
    let fips = Scene::new(Profile::Fips);
    let mut hello = scene.holder.hello().unwrap();
    hello.profile = Profile::Fips;
    let (contact, welcome) = Contact::accept(provider(), &scene.audience, &hello, NOW_MS).unwrap();
    drop((fips, welcome));
    refused(contact.check(provider(), &token, clear, &proof, NOW_MS), Refusal::Holder);
    // A token for another sidecar, in a contact with this one.
    let (_, other) = meet(&scene.holder, &"sidecar-2".parse().unwrap());
    refused(other.check(provider(), &token, clear, &proof, NOW_MS), Refusal::Audience);
}

#[test]
fn a_contact_is_with_the_one_that_was_meant() {
    let scene = Scene::new(Profile::Hybrid);
    let hello = scene.holder.hello().unwrap();
    let (_, welcome) = Contact::accept(provider(), &scene.audience, &hello, NOW_MS).unwrap();
    let meet = |audience: &str, hello: &Hello, welcome: &Welcome| {
        scene.holder.meet(&audience.parse().unwrap(), hello, welcome).map(|_| ())
    };
    meet("sidecar-1", &hello, &welcome).unwrap();
    let denied = |result: strongroom::Result<()>| assert_eq!(result.err().unwrap().kind(), ErrorKind::Denied);
    denied(meet("sidecar-2", &hello, &welcome));
    denied(meet("sidecar-1", &scene.holder.hello().unwrap(), &welcome));
    for part in 0..3 {
        let mut changed = welcome.clone();
        match part {
            0 => changed.id[0] ^= 1,
            1 => changed.confirmation[0] ^= 1,
            _ => changed.ciphertext[0] ^= 1,
        }
        denied(meet("sidecar-1", &hello, &changed));
    }
    let mut short = hello.clone();
    short.public_key.pop();
    assert!(Contact::accept(provider(), &scene.audience, &short, NOW_MS).is_err());
}

#[test]
fn nothing_opens_in_another_place() {
    let scene = Scene::new(Profile::Pure);
    // What a malicious orchestrator can make of two records, each with a token that names it.
    let [a, b] = [&scene.records[0], &scene.records[1]];
    let spent_for = |record: &HandoffRecord| scene.spend_for(record);
    let crossed = HandoffRecord { place: a.place.clone(), sealed: b.sealed.clone() };
    refused(scene.open(&spent_for(&crossed), 0, &crossed), Refusal::Open);
    for (place, at) in [(true, 0), (true, 5), (true, 40), (false, 0), (false, 2), (false, 6), (false, 25), (false, 50)]
    {
        let mut changed = a.clone();
        let part = if place { &mut changed.place } else { &mut changed.sealed };
        part[at] ^= 1;
        let spent = spent_for(&changed);
        match scene.open(&spent, 0, &changed) {
            // An epoch that never was has no key.
            Err(strongroom::token::Stop::Refused(Refusal::Open | Refusal::Key)) => {}
            _ => panic!("opened, place {place}, byte {at}"),
        }
    }
    let empty = HandoffRecord { place: Vec::new(), sealed: Vec::new() };
    refused(scene.open(&spent_for(&empty), 0, &empty), Refusal::Open);
    // Another tenant's keyring.
    let other = other_of(Profile::Pure);
    let keyring = Keyring::open(&scene.world.of(Role::Store, &other), provider(), &other).unwrap();
    let spent = spent_for(a);
    refused(open_place(&spent, &keyring, &a.place), Refusal::Open);
    let place = open_place(&spent, &scene.keyring, &a.place).unwrap();
    refused(strongroom::token::open(&spent, 0, &keyring, &place, a), Refusal::Tenant);
}

/// Chunks, as a store hands them on: sealed here by hand, as `schema/record.md` says.
#[test]
fn a_chunk_opens_only_with_its_place() {
    let scene = Scene::new(Profile::Pure);
    let place = ChunkPlace { scope: [1; 16], record: [2; 16], version: 3, embedding: [4; 32] };
    let store = scene.world.of(Role::Store, &scene.tenant);
    let request = DekRequest { label: Label::VectorStore, epoch: Epoch::FIRST, scope: place.scope.to_vec() };
    let dek = store.derive_deks(&scene.tenant, &[request]).unwrap().pop().unwrap().unwrap();
    let suite = Profile::Pure.suite();
    let key = strongroom::record::SealingKey::new(provider(), suite, Epoch::FIRST, &dek).unwrap();
    let sealed_place = strongroom::record::Place {
        tenant: &scene.tenant,
        store: strongroom::record::StoreKind::Vectors,
        scope: &place.scope,
        record: &place.record,
        version: 3,
        field: strongroom::record::Field::Payload,
        embedding: Some(&place.embedding),
    };
    // Flags, length, then postcard: "tea" and "{}".
    let plain = [&[0, 0, 0, 0, 7, 3][..], b"tea", &[2], b"{}"].concat();
    let sealed = key.seal(&sealed_place, &plain).unwrap();
    let check = |place: &ChunkPlace| {
        let record = of_chunk(&scene.keyring, place, sealed.clone()).unwrap();
        let spent = scene.spend_for(&record);
        let opened = open_place(&spent, &scene.keyring, &record.place).unwrap();
        assert_eq!((opened.scope(), opened.record(), opened.version()), (&place.scope, &place.record, place.version));
        strongroom::token::open(&spent, 0, &scene.keyring, &opened, &record)
    };
    let opened = check(&place).unwrap();
    assert_eq!((opened.kind, opened.content.expose_secret()), (RecordKind::Chunk, &b"tea"[..]));
    assert_eq!(opened.metadata.unwrap().expose_secret(), b"{}");
    for wrong in [
        ChunkPlace { scope: [9; 16], ..place },
        ChunkPlace { record: [9; 16], ..place },
        ChunkPlace { version: 4, ..place },
        ChunkPlace { embedding: [9; 32], ..place },
    ] {
        refused(check(&wrong), Refusal::Open);
    }
}

#[test]
fn a_tree_stands_for_many_records() {
    let scene = Scene::new(Profile::Pure);
    let records: Vec<_> = (0..40).map(|_| seal_context(&scene.keyring, TEXT).unwrap()).collect();
    let digests: Vec<_> = records.iter().map(|record| record.digest(provider(), &scene.tenant)).collect();
    let holder = scene.holder.id().unwrap();
    let (audience, operation) = (&scene.audience, Operation::Decrypt);
    let request = MintRequest { audience, holder: &holder, operation, records: &digests, max_uses: 9, life_ms: 1000 };
    let token = mint(provider(), &scene.signer, &request, NOW_MS).unwrap();
    let token = scene.verify(token.as_bytes(), NOW_MS).unwrap();
    let asked = |index: usize, place: usize| {
        [Asked { digest: digests[index], membership: Membership::of(provider(), &digests, place) }]
    };
    let spent = scene.ledger.spend(scene.authorize(&token, &asked(33, 33)).unwrap()).unwrap();
    assert_eq!(scene.open(&spent, 0, &records[33]).unwrap().content.expose_secret(), TEXT);
    refused(scene.authorize(&token, &asked(33, 32)), Refusal::Record);
    refused(scene.authorize(&token, &[Asked { digest: digests[33], membership: None }]), Refusal::Record);
    let twice = [digests[0], digests[0]];
    let request = MintRequest { records: &twice, ..request };
    assert_eq!(mint(provider(), &scene.signer, &request, NOW_MS).err().unwrap().kind(), ErrorKind::InvalidInput);
    for (max_uses, life_ms) in [(0, 1000), (1_000_001, 1000), (1, 999), (1, 300_001)] {
        let request = MintRequest { records: &digests, max_uses, life_ms, ..request };
        assert!(mint(provider(), &scene.signer, &request, NOW_MS).is_err());
    }
}

#[test]
fn outputs_are_for_one_holder_request_and_position() {
    let scene = Scene::new(Profile::Hybrid);
    let sealed = scene.contact.seal_output(5, 0, TEXT).unwrap();
    assert_eq!(scene.met.open_output(5, 0, &sealed).unwrap().expose_secret(), TEXT);
    let (other, _) = meet(&scene.holder, &scene.audience);
    assert!(scene.met.open_output(5, 1, &sealed).is_err());
    assert!(scene.met.open_output(6, 0, &sealed).is_err());
    assert!(other.open_output(5, 0, &sealed).is_err());
}
