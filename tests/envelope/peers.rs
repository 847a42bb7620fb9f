//! Who deals with whom: profiles, tenants, kinds; and what comes out is what went in.

use strongroom::envelope::{Kind, Message, Refusal};
use strongroom::keys::Profile;
use strongroom::{ErrorKind, limits};

use super::agents::{Agent, dealing_with, pair, payload};
use super::forge::{Forge, parts};
use super::world::{World, other_of, patiently, tenant_of};

pub fn message(payload: &[u8]) -> Message<'_> {
    Message { kind: Kind::Message, correlation: b"", payload }
}

#[test]
fn what_is_sent_is_what_is_received() {
    let world = World::new();
    for profile in Profile::ALL {
        let (sender, receiver) = pair(&world, profile);
        let peer = sender.connect(&receiver);
        assert_eq!((peer.tenant(), peer.agent().as_str()), (&tenant_of(profile), "searcher"));
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            let content = vec![n as u8; n * 4_000];
            let message = Message { kind, correlation: b"call-7", payload: &content };
            let sent = patiently(|| sender.interceptor.send(&peer, message)).unwrap();
            let received = receiver.receive(&sent).unwrap();
            let origin = received.origin();
            assert_eq!((origin.tenant(), origin.agent().as_str()), (&tenant_of(profile), "planner"));
            assert_eq!((origin.kind(), origin.sequence(), origin.session()), (kind, n as u64, peer.session()));
            assert_eq!((received.correlation(), received.payload().expose_secret()), (&b"call-7"[..], &content[..]));
        }
    }
}

/// Guards against a plaintext, or a key, in what travels.
#[test]
fn the_payload_is_not_in_the_envelope() {
    let world = World::new();
    let (sender, receiver) = pair(&world, Profile::Hybrid);
    let peer = sender.connect(&receiver);
    let secret = b"the quick brown fox jumps over";
    let (one, two) = (sender.send(&peer, secret), sender.send(&peer, secret));
    assert!([&one, &two].iter().all(|sent| !sent.windows(8).any(|w| w == &secret[..8])));
    let ciphertexts = [one, two].map(|sent| parts(&sent).1);
    let common = ciphertexts[0].iter().zip(&ciphertexts[1]).filter(|(a, b)| a == b).count();
    assert!(common < 12, "two ciphertexts of {} bytes have {common} in common", ciphertexts[0].len());
}

#[test]
fn tenants_deal_with_each_other_only_when_both_say_so() {
    let world = World::new();
    for profile in Profile::ALL {
        let (here, there) = (tenant_of(profile), other_of(profile));
        let receiver = Agent::with(&world, &here, "searcher", dealing_with(&there));
        let closed = Agent::new(&world, &here, "closed");
        let sender = Agent::with(&world, &there, "planner", dealing_with(&here));
        let peer = sender.connect(&receiver);
        assert_eq!(payload(receiver.receive(&sender.send(&peer, b"x"))), b"x");
        let unasked = Agent::new(&world, &there, "planner");
        let refused = unasked.interceptor.connect(&receiver.invite()).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Denied);
        let peer = sender.connect(&closed);
        closed.refuses(
            &sender.send(&peer, b"x"),
            Refusal::Tenant,
            "an envelope of a tenant that one does not deal with",
        );
    }
}

#[test]
fn tenants_without_a_common_profile_cannot_connect() {
    let world = World::new();
    for (one, other) in
        [(Profile::Hybrid, Profile::Pure), (Profile::Pure, Profile::Fips), (Profile::Cnsa2, Profile::Hybrid)]
    {
        let (here, there) = (tenant_of(one), other_of(other));
        let receiver = Agent::with(&world, &here, "searcher", dealing_with(&there));
        let sender = Agent::with(&world, &there, "planner", dealing_with(&here));
        let refused = sender.interceptor.connect(&receiver.invite()).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Denied);
    }
}

/// Guards against an envelope for one tenant that is taken by another who has a session of the same name.
#[test]
fn an_envelope_for_another_is_not_received() {
    let world = World::new();
    let (here, there) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    let receiver = Agent::new(&world, &here, "searcher");
    let wrong = Agent::with(&world, &there, "searcher", dealing_with(&here));
    let same = Agent::new(&world, &here, "another");
    let forge = Forge::new(&world, &here, "planner", &here, &receiver.invite());
    let sent = forge.make(&forge.fields(0), b"x");
    wrong.refuses(&sent, Refusal::Recipient, "another tenant's envelope");
    same.refuses(&sent, Refusal::Session, "another agent's envelope");
    assert_eq!(payload(receiver.receive(&sent)), b"x");
}

#[test]
fn what_is_too_long_is_not_sent() {
    let world = World::new();
    let (sender, receiver) = pair(&world, Profile::Pure);
    let peer = sender.connect(&receiver);
    let long = vec![1; limits::ENVELOPE_PAYLOAD_BYTES + 1];
    let send = |correlation, payload| {
        patiently(|| sender.interceptor.send(&peer, Message { kind: Kind::Context, correlation, payload }))
    };
    assert_eq!(send(b"", &long).err().unwrap().kind(), ErrorKind::InvalidInput);
    let correlation = &long[..limits::ENVELOPE_CORRELATION_BYTES + 1];
    assert_eq!(send(correlation, b"").err().unwrap().kind(), ErrorKind::InvalidInput);
    let longest = send(&correlation[1..], &long[1..]).unwrap();
    assert_eq!(payload(receiver.receive(&longest)), &long[1..]);
    let bytes = vec![0; limits::ENVELOPE_BYTES + 1];
    receiver.refuses(&bytes, Refusal::Malformed, "more than an envelope can be");
}

#[test]
fn a_receiver_that_lost_the_certificates_is_shown_them_again() {
    let world = World::new();
    let (sender, receiver) = pair(&world, Profile::Hybrid);
    let peer = sender.connect(&receiver);
    let lost = sender.send(&peer, b"lost");
    let next = sender.send(&peer, b"next");
    assert!(next.len() + 10_000 < lost.len(), "the certificates are in every envelope");
    receiver.refuses(&next, Refusal::Signer, "an envelope of somebody who was not introduced");
    peer.introduce();
    assert_eq!(payload(receiver.receive(&sender.send(&peer, b"again"))), b"again");
    assert_eq!(payload(receiver.receive(&next)), b"next");
}
