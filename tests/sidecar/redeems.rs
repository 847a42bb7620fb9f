//! What is opened, what is refused, and what is written down of both.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use strongroom::audit::What;
use strongroom::keys::kms::{Caller, KeyAdmin as _, Kms as _, Role, Scope};
use strongroom::keys::{DataKeys as _, Profile};
use strongroom::sidecar::{Output, RecordSource, RedeemRequest, SidecarOptions, Token};
use strongroom::token::{Form, Holder, OpenedPlace, Refusal, Revocation};
use strongroom::{Epoch, Error, ErrorKind, Result, TenantId};

use crate::scene::{Scene, TEXT, admin, meet, node, sidecar};
use crate::world::NOW_MS;

#[track_caller]
fn opened(outputs: Result<Vec<Output>>, count: usize) {
    let outputs = outputs.unwrap();
    assert_eq!(outputs.len(), count);
    assert!(outputs.iter().all(|output| output.content.expose_secret() == TEXT));
}

#[test]
fn a_holder_gets_its_records_in_every_profile_and_form() {
    for profile in Profile::ALL {
        let scene = Scene::new(profile);
        let records = scene.seal(3);
        let token = scene.mint(&records, 3);
        opened(scene.redeem(&token, &records), 3);
        opened(scene.redeem(&token, &records[1..2]), 1);
        let request = scene.request(&token, &records, Form::Sealed);
        let counter = request.proof.counter;
        let sealed = scene.sidecar.redeem(&node(), false, &request).unwrap();
        for (index, output) in (0..).zip(&sealed) {
            let content = output.content.expose_secret();
            assert!(!content.windows(8).any(|window| TEXT.windows(8).any(|text| text == window)));
            assert_eq!(scene.met.open_output(counter, index, content).unwrap().expose_secret(), TEXT, "{profile}");
        }
        let used_up = scene.redeem(&token, &records).err().unwrap();
        assert_eq!(used_up.kind(), ErrorKind::Denied);
        let redeemed = |what: &What| matches!(what, What::Redeemed { .. });
        assert_eq!(scene.audit.events().iter().filter(|event| redeemed(&event.what)).count(), 3);
    }
}

/// Every reason to refuse that a caller can bring about, one by one.
#[test]
fn refusals_look_alike_outside_and_not_in_the_audit_log() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(2);
    let token = scene.mint(&records, 9);
    let request = || scene.request(&token, &records, Form::Clear);
    let with_token = |bytes: Vec<u8>, issuer: Vec<Vec<u8>>| RedeemRequest {
        token: Token::Whole { bytes, issuer },
        ..scene.request(&token, &records, Form::Clear)
    };
    let chain = scene.signer.chain().to_vec();
    let mut answers = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut refused = |request: &RedeemRequest, why: Refusal| {
        let before = scene.audit.events().len();
        let error = scene.sidecar.redeem(&node(), true, request).err().unwrap();
        answers.insert((error.kind() as u8, error.to_string(), error.remedy().map(str::to_owned)));
        let events = scene.audit.events();
        let [event] = &events[before..] else { panic!("{} events for {why}", events.len() - before) };
        assert_eq!(event.what, What::RedeemRefused { reason: why });
        seen.insert(why);
    };
    refused(&with_token(vec![1, 2, 3], chain.clone()), Refusal::Malformed);
    refused(&with_token(token.clone(), Vec::new()), Refusal::Issuer);
    refused(&with_token(token.clone(), vec![chain[0].clone(), vec![0x30, 0]]), Refusal::Issuer);
    let mut changed = token.clone();
    *changed.last_mut().unwrap() ^= 1;
    refused(&with_token(changed, chain.clone()), Refusal::Signature);
    let stranger = RedeemRequest { contact: [9; 16], ..request() };
    refused(&stranger, Refusal::Contact);
    let mut forged = request();
    forged.proof.mac[0] ^= 1;
    refused(&forged, Refusal::Proof);
    let again = request();
    scene.sidecar.redeem(&node(), true, &again).unwrap();
    refused(&again, Refusal::Replay);
    // A thief in a contact of its own, with a proof of its own.
    let thief = Holder::generate(strongroom::crypto::default_provider(), Profile::Pure).unwrap();
    let stolen = Scene { met: meet(&scene.sidecar, &thief), ..Scene::new(Profile::Pure) };
    let mut request_of_thief = stolen.request(&token, &records, Form::Clear);
    request_of_thief.token = Token::Whole { bytes: token.clone(), issuer: chain.clone() };
    refused(&request_of_thief, Refusal::Holder);
    // Records that the token does not name, that are not what they are said to be, or do not open.
    let others = scene.seal(2);
    refused(&scene.request(&token, &others, Form::Clear), Refusal::Record);
    let mut swapped = request();
    swapped.records[0].sealed = swapped.records[1].sealed.clone();
    refused(&swapped, Refusal::Record);
    let mut unsealed = request();
    unsealed.records[0].place = vec![0; 40];
    refused(&unsealed, Refusal::Open);
    let mut named = request();
    named.records[0].sealed = None;
    refused(&named, Refusal::Record);
    // Gone with time, use and revocation.
    let once = scene.mint(&records, 1);
    opened(scene.redeem(&once, &records), 2);
    refused(&scene.request(&once, &records, Form::Clear), Refusal::UsedUp);
    let holder = Revocation::Holder(scene.holder.id().unwrap());
    scene.sidecar.revoke(&admin(), &holder).unwrap();
    refused(&request(), Refusal::Revoked);
    assert!(scene.sidecar.lift(&admin(), &holder).unwrap());
    scene.world.clock.set(NOW_MS - 10_000);
    refused(&request(), Refusal::NotYet);
    scene.world.clock.set(NOW_MS + 300_000);
    refused(&request(), Refusal::Expired);
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(seen.len(), 13);
    let metrics = scene.sidecar.metrics();
    assert!(metrics.contains("strongroom_sidecar_refusals_total{reason=\"record\"} 3"), "{metrics}");
}

#[test]
fn a_token_of_another_sidecar_or_before_the_machine_started_is_refused() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let elsewhere = Scene { audience: "sidecar-2".parse().unwrap(), ..scene };
    let token = elsewhere.mint(&records, 1);
    assert_eq!(elsewhere.redeem(&token, &records).err().unwrap().kind(), ErrorKind::Denied);
    let last = elsewhere.audit.events().pop().unwrap().what;
    assert_eq!(last, What::RedeemRefused { reason: Refusal::Audience });
    assert!(elsewhere.sidecar.is_ready());
    elsewhere.world.clock.set(NOW_MS - 59_500);
    assert!(!elsewhere.sidecar.is_ready());
}

#[test]
fn revoking_a_signer_or_shredding_a_tenant_ends_its_tokens() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 99);
    opened(scene.redeem(&token, &records), 1);
    let operator = scene.world.of(Role::Admin, &scene.tenant);
    operator.revoke_session(&scene.tenant, scene.signer.session()).unwrap();
    scene.world.clock.set(NOW_MS + 10_000);
    assert_eq!(scene.redeem(&token, &records).err().unwrap().kind(), ErrorKind::Denied);
    let last = scene.audit.events().pop().unwrap().what;
    assert_eq!(last, What::RedeemRefused { reason: Refusal::Issuer });

    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 99);
    opened(scene.redeem(&token, &records), 1);
    scene.world.of(Role::Admin, &scene.tenant).shred(&scene.tenant).unwrap();
    scene.world.clock.set(NOW_MS + 60_000);
    assert_eq!(scene.redeem(&token, &records).err().unwrap().kind(), ErrorKind::Denied);
}

#[test]
fn records_of_a_new_epoch_open_without_a_restart_and_of_a_destroyed_one_never() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 99);
    opened(scene.redeem(&token, &records), 1);
    let operator = scene.world.of(Role::Admin, &scene.tenant);
    operator.create_epoch(&scene.tenant, None).unwrap();
    operator.activate_epoch(&scene.tenant, Epoch::try_from(2).unwrap()).unwrap();
    let store = scene.world.of(Role::Store, &scene.tenant);
    store.forget(&scene.tenant);
    let provider = strongroom::crypto::default_provider();
    let keyring = strongroom::keys::Keyring::open(&store, provider, &scene.tenant).unwrap();
    let scene = Scene { keyring, ..scene };
    let newer = scene.seal(1);
    let newer_token = scene.mint(&newer, 99);
    scene.world.clock.set(NOW_MS + 1_000);
    opened(scene.redeem(&newer_token, &newer), 1);
    opened(scene.redeem(&token, &records), 1);
    operator.destroy_epoch(&scene.tenant, Epoch::FIRST).unwrap();
    scene.world.clock.set(NOW_MS + 61_000);
    assert_eq!(scene.redeem(&token, &records).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(scene.audit.events().pop().unwrap().what, What::RedeemRefused { reason: Refusal::Key });
    opened(scene.redeem(&newer_token, &newer), 1);
}

/// A source of sealed records, as a store is.
#[derive(Default)]
struct Shelf {
    sealed: Mutex<Option<Vec<u8>>>,
    asked: AtomicUsize,
}

impl RecordSource for Shelf {
    fn fetch(&self, _: &TenantId, _: &OpenedPlace) -> Result<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.sealed.lock().clone().ok_or_else(|| Error::not_found("gone"))
    }
}

#[test]
fn a_context_window_is_not_fetched_for_there_is_nobody_to_have_it() {
    let shelf = Arc::new(Shelf::default());
    let scene = Scene::with(Profile::Pure, SidecarOptions::default(), Some(shelf.clone()));
    let records = scene.seal(1);
    let token = scene.mint(&records, 9);
    let mut named = scene.request(&token, &records, Form::Clear);
    named.records[0].sealed = None;
    assert_eq!(scene.sidecar.redeem(&node(), true, &named).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(shelf.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn plaintext_does_not_leave_for_another_machine_nor_for_another_role() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 9);
    let clear = scene.request(&token, &records, Form::Clear);
    assert_eq!(scene.sidecar.redeem(&node(), false, &clear).err().unwrap().kind(), ErrorKind::InvalidInput);
    for role in [Role::Admin, Role::Agent, Role::Store, Role::Sidecar, Role::Reader] {
        let caller = Caller::new("x", role, Scope::All);
        assert_eq!(scene.sidecar.redeem(&caller, true, &clear).err().unwrap().kind(), ErrorKind::Denied);
        let hello = scene.holder.hello().unwrap();
        assert_eq!(scene.sidecar.contact(&caller, &hello).err().unwrap().kind(), ErrorKind::Denied);
    }
    let elsewhere = |role| Caller::new("x", role, Scope::Tenants(["initech".parse().unwrap()].into()));
    let hello = scene.holder.hello().unwrap();
    let welcome = scene.sidecar.contact(&elsewhere(Role::Node), &hello).unwrap();
    let met = scene.holder.meet(&scene.audience, &hello, &welcome).unwrap();
    let scene = Scene { met, ..scene };
    let request = scene.request(&token, &records, Form::Clear);
    assert_eq!(scene.sidecar.redeem(&elsewhere(Role::Node), true, &request).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(scene.audit.events().pop().unwrap().what, What::RedeemRefused { reason: Refusal::Tenant });
    // Nor is the key service asked on behalf of a tenant that the node does not work for.
    let asked = scene.world.audit.events().len();
    let issuer = vec![vec![0x30, 0], vec![0x30, 0]];
    let other = Scene::new(Profile::Pure);
    let made_up = Token::Whole { bytes: other.mint(&records, 9), issuer };
    let request = RedeemRequest { token: made_up, ..request };
    assert_eq!(scene.sidecar.redeem(&elsewhere(Role::Node), true, &request).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(scene.audit.events().pop().unwrap().what, What::RedeemRefused { reason: Refusal::Tenant });
    assert_eq!(scene.world.audit.events().len(), asked);
    let scene = Scene { met: meet(&scene.sidecar, &scene.holder), ..scene };
    let clear = scene.request(&token, &records, Form::Clear);
    let revocation = Revocation::Tenant(scene.tenant.clone());
    let revoked = scene.sidecar.revoke(&elsewhere(Role::Admin), &revocation);
    assert_eq!(revoked.err().unwrap().kind(), ErrorKind::Denied);
    // A holder may get tokens of every tenant: who does not work for all may not decide.
    let some = Caller::new("x", Role::Admin, Scope::Tenants([scene.tenant.clone()].into()));
    let holder = Revocation::Holder(scene.holder.id().unwrap());
    assert_eq!(scene.sidecar.revoke(&some, &holder).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(scene.sidecar.lift(&some, &holder).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(scene.sidecar.revoke(&node(), &revocation).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(scene.sidecar.lift(&node(), &revocation).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(scene.sidecar.revocations(&node()).err().unwrap().kind(), ErrorKind::Denied);
    opened(scene.sidecar.redeem(&node(), true, &clear), 1);
    let options = SidecarOptions { clear_over_tls: true, ..SidecarOptions::default() };
    let scene = Scene::with(Profile::Pure, options, None);
    let records = scene.seal(1);
    let clear = scene.request(&scene.mint(&records, 1), &records, Form::Clear);
    opened(scene.sidecar.redeem(&node(), false, &clear), 1);
}

#[test]
fn a_token_is_sent_whole_once() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 9);
    let known = || RedeemRequest {
        token: Token::Known(strongroom::crypto::default_provider().sha256(&[&token])),
        ..scene.request(&token, &records, Form::Clear)
    };
    assert_eq!(scene.sidecar.redeem(&node(), true, &known()).err().unwrap().kind(), ErrorKind::NotFound);
    opened(scene.redeem(&token, &records), 1);
    opened(scene.sidecar.redeem(&node(), true, &known()), 1);
    assert!(scene.sidecar.metrics().contains("tokens_verified_total 1"));
    scene.world.clock.set(NOW_MS + 300_000);
    assert_eq!(scene.sidecar.redeem(&node(), true, &known()).err().unwrap().kind(), ErrorKind::Denied);
}

#[test]
fn requests_are_bounded_and_contacts_too() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 9);
    let mut many = scene.request(&token, &records, Form::Clear);
    many.records = std::iter::repeat_n(many.records[0].clone(), 257).collect();
    assert_eq!(scene.sidecar.redeem(&node(), true, &many).err().unwrap().kind(), ErrorKind::InvalidInput);
    let mut large = scene.request(&token, &records, Form::Clear);
    large.records[0].sealed = Some(vec![0; (12 << 20) + 1]);
    assert_eq!(scene.sidecar.redeem(&node(), true, &large).err().unwrap().kind(), ErrorKind::InvalidInput);
    // The first of too many contacts of one holder gives way, but only to the same service.
    scene.world.clock.set(NOW_MS + 1);
    let other = Caller::new("node-2", Role::Node, Scope::All);
    for _ in 0..100 {
        scene.sidecar.contact(&other, &scene.holder.hello().unwrap()).unwrap();
    }
    opened(scene.redeem(&token, &records), 1);
    let theirs = scene.request(&token, &records, Form::Clear);
    assert_eq!(scene.sidecar.redeem(&other, true, &theirs).err().unwrap().kind(), ErrorKind::Denied);
    let others: Vec<_> = (0..64).map(|_| meet(&scene.sidecar, &scene.holder)).collect();
    assert_eq!(scene.redeem(&token, &records).err().unwrap().kind(), ErrorKind::Denied);
    let scene = Scene { met: others.into_iter().next_back().unwrap(), ..scene };
    opened(scene.redeem(&token, &records), 1);
}

#[test]
fn keys_that_nobody_uses_are_let_go_of() {
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 9);
    opened(scene.redeem(&token, &records), 1);
    let held = |n: usize| assert!(scene.sidecar.metrics().contains(&format!("tenants_held {n}")));
    held(1);
    scene.world.clock.set(NOW_MS + 59_999);
    scene.sidecar.sweep().unwrap();
    held(1);
    scene.world.clock.set(NOW_MS + 60_000);
    scene.sidecar.sweep().unwrap();
    held(0);
    opened(scene.redeem(&token, &records), 1);
    scene.world.clock.set(NOW_MS + 900_000);
    scene.sidecar.sweep().unwrap();
    assert!(scene.sidecar.metrics().contains("contacts_open 0"));
    assert!(scene.sidecar.metrics().contains("tokens_counted 0"));
}

/// Guards against plaintext that leaves although nobody could write down that it did.
#[test]
fn nothing_is_released_that_is_not_recorded() {
    struct Full;
    impl strongroom::audit::AuditSink for Full {
        fn record(&self, _: &strongroom::audit::Event) -> Result<()> {
            Err(Error::new(ErrorKind::Unavailable, "the audit journal cannot be written"))
        }
    }
    let scene = Scene::new(Profile::Pure);
    let records = scene.seal(1);
    let token = scene.mint(&records, 1);
    let with = (SidecarOptions::default(), None);
    let sidecar = sidecar(&scene.world, &scene.kv, Arc::new(Full), &scene.audience, with);
    let scene = Scene { met: meet(&sidecar, &scene.holder), sidecar, ..scene };
    assert_eq!(scene.redeem(&token, &records).err().unwrap().kind(), ErrorKind::Unavailable);
}
