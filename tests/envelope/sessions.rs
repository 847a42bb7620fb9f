//! Sessions end: by time, by their owner, by the key service; and so does what a signer is believed for.

use strongroom::ErrorKind;
use strongroom::envelope::{InterceptorOptions, Invitation, Refusal};
use strongroom::keys::Profile;
use strongroom::keys::kms::{KeyAdmin as _, Kms as _, Role};
use strongroom::limits;

use super::agents::{Agent, pair, payload};
use super::forge::Forge;
use super::world::{HOUR_MS, NOW_MS, World, tenant_of};

#[test]
fn an_envelope_expires() {
    let world = World::new();
    let (sender, receiver) = pair(&world, Profile::Pure);
    let peer = sender.connect(&receiver);
    let sent = [0, 1, 2].map(|n| sender.send(&peer, &[n]));
    world.clock.set(NOW_MS + 59_999);
    assert_eq!(payload(receiver.receive(&sent[0])), [0]);
    world.clock.set(NOW_MS + 60_000);
    receiver.refuses(&sent[1], Refusal::Time, "an expired envelope");
    // A receiver whose clock is 5 seconds slow still takes it; one that is slower does not.
    world.clock.set(NOW_MS - limits::ENVELOPE_SKEW_MS);
    assert_eq!(payload(receiver.receive(&sent[1])), [1]);
    world.clock.set(NOW_MS - limits::ENVELOPE_SKEW_MS - 1);
    receiver.refuses(&sent[2], Refusal::Time, "an envelope from the future");
}

#[test]
fn a_session_ends_with_its_time() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let (sender, receiver) = pair(&world, Profile::Pure);
    let invitation = receiver.invite();
    assert_eq!(invitation.expires_at_ms(), NOW_MS + HOUR_MS);
    let forge = Forge::new(&world, &tenant, "planner", &tenant, &invitation);
    let peer = sender.connect(&receiver);
    let sent = sender.send(&peer, b"x");
    assert_eq!(payload(receiver.receive(&sent)), b"x");
    world.clock.set(NOW_MS + HOUR_MS);
    assert_eq!(sender.interceptor.connect(&invitation).err().unwrap().kind(), ErrorKind::Denied);
    let late = sender.interceptor.send(&peer, super::peers::message(b"late"));
    assert_eq!(late.err().unwrap().kind(), ErrorKind::NotFound);
    receiver.refuses(&forge.make(&forge.fields(0), b"x"), Refusal::Session, "an envelope for a session that has ended");
    assert_eq!(receiver.interceptor.sessions(), 0, "keys of sessions that have ended are still there");
}

#[test]
fn a_session_ends_when_its_owner_says_so() {
    let world = World::new();
    let (sender, receiver) = pair(&world, Profile::Pure);
    let invitation = receiver.invite();
    let peer = sender.interceptor.connect(&invitation).unwrap();
    let sent = [0, 1].map(|n| sender.send(&peer, &[n]));
    assert_eq!(payload(receiver.receive(&sent[0])), [0]);
    receiver.interceptor.end(invitation.session()).unwrap();
    assert_eq!(receiver.interceptor.sessions(), 0);
    receiver.refuses(&sent[1], Refusal::Session, "an envelope for an ended session");
    assert_eq!(sender.interceptor.connect(&invitation).err().unwrap().kind(), ErrorKind::Denied);
    assert_eq!(receiver.interceptor.end(invitation.session()).err().unwrap().kind(), ErrorKind::NotFound);
}

/// Guards against a key that outlives its session's revocation in the memory of the interceptor.
#[test]
fn a_session_that_was_revoked_is_served_for_ten_seconds_at_most() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let (sender, receiver) = pair(&world, Profile::Pure);
    let invitation = receiver.invite();
    let peer = sender.interceptor.connect(&invitation).unwrap();
    assert_eq!(payload(receiver.receive(&sender.send(&peer, b"0"))), b"0");
    world.of(Role::Agent, &tenant).revoke_session(&tenant, invitation.session()).unwrap();
    world.clock.set(NOW_MS + limits::ENVELOPE_SESSION_RECHECK_MS - 1);
    assert_eq!(payload(receiver.receive(&sender.send(&peer, b"1"))), b"1");
    world.clock.set(NOW_MS + limits::ENVELOPE_SESSION_RECHECK_MS);
    let sent = sender.send(&peer, b"2");
    receiver.refuses(&sent, Refusal::Session, "an envelope for a revoked session");
    assert_eq!(receiver.interceptor.sessions(), 0);
    world.clock.set(NOW_MS);
    receiver.refuses(&sent, Refusal::Session, "the same with the clock put back");
}

/// Guards against a signer that is believed for ever because it was believed once.
#[test]
fn a_revoked_sender_is_believed_for_ten_seconds_at_most() {
    let world = World::new();
    for profile in Profile::ALL {
        world.clock.set(NOW_MS);
        let tenant = tenant_of(profile);
        let receiver = Agent::new(&world, &tenant, "searcher");
        let forge = Forge::new(&world, &tenant, "planner", &tenant, &receiver.invite());
        let make = |n| forge.make(&forge.fields(n), &[n as u8]);
        assert_eq!(payload(receiver.receive(&make(0))), [0]);
        world.of(Role::Agent, &tenant).revoke_session(&tenant, forge.signer.session()).unwrap();
        assert_eq!(payload(receiver.receive(&make(1))), [1]);
        world.clock.set(NOW_MS + 10_000);
        receiver.refuses(&make(2), Refusal::Signer, "an envelope of a revoked signer");
        // Nor does it help to show the certificates to somebody else.
        let other = Agent::new(&world, &tenant, "other");
        let forge = forge.readdressed(&world, &other.invite());
        other.refuses(&forge.make(&forge.fields(0), b"x"), Refusal::Signer, "the same at another receiver");
    }
}

#[test]
fn a_shredded_tenants_envelopes_are_refused() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let (sender, receiver) = pair(&world, Profile::Pure);
    let peer = sender.connect(&receiver);
    assert_eq!(payload(receiver.receive(&sender.send(&peer, b"0"))), b"0");
    world.of(Role::Admin, &tenant).shred(&tenant).unwrap();
    world.clock.set(NOW_MS + 10_000);
    let sent = sender.send(&peer, b"1");
    assert!(receiver.receive(&sent).is_err());
    assert!(receiver.interceptor.invite().is_err());
}

/// Guards against a sender that uses up sessions of others, and an agent that does not bound its own.
#[test]
fn sessions_are_bounded_and_invitations_are_what_they_say() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let short = InterceptorOptions { session_ms: 1_000, ..InterceptorOptions::default() };
    let receiver = Agent::with(&world, &tenant, "searcher", short);
    let sender = Agent::new(&world, &tenant, "planner");
    let invitations = [0, 1, 2].map(|_| receiver.invite());
    assert_eq!(receiver.interceptor.sessions(), 3);
    world.clock.set(NOW_MS + 1_000);
    receiver.interceptor.purge();
    assert_eq!(receiver.interceptor.sessions(), 0);
    world.clock.set(NOW_MS);

    let bytes = invitations[0].encode().unwrap();
    assert_eq!(Invitation::decode(&bytes).unwrap(), invitations[0]);
    for cut in [0, 1, 10, bytes.len() - 1] {
        assert!(Invitation::decode(&bytes[..cut]).is_err());
    }
    assert!(Invitation::decode(&[&bytes[..], b"\0"].concat()).is_err());
    // With another session's name on it, and with another's credential below the same tenant.
    let mut renamed = bytes.clone();
    let at = bytes.windows(16).position(|w| w == invitations[0].session().as_bytes()).unwrap();
    renamed[at..at + 16].copy_from_slice(invitations[1].session().as_bytes());
    let refused = sender.interceptor.connect(&Invitation::decode(&renamed).unwrap());
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Denied);
    // Nobody's credential.
    let at = bytes.len() - 200;
    let mut changed = bytes.clone();
    changed[at] ^= 1;
    assert!(sender.interceptor.connect(&Invitation::decode(&changed).unwrap()).is_err());
    assert!(sender.interceptor.connect(&invitations[0]).is_ok());
}
