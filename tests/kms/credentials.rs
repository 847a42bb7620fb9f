//! Presented credentials: believed only up to this platform's authority, only while their session is open.

use std::sync::atomic::{AtomicBool, Ordering};

use strongroom::audit::{Reason, What};
use strongroom::keys::Profile;
use strongroom::keys::kms::{Decapsulation, Encapsulated, Handle, Kms, Recipient, Role};
use strongroom::{ErrorKind, Result, TenantId};

use super::world::{HOUR_MS, NOW_MS, World, other_of, tenant_of};

fn send(kms: &Handle, tenant: &TenantId, chain: &[Vec<u8>]) -> Result<Encapsulated> {
    kms.encapsulate(tenant, &[Recipient::Credential(chain.to_vec())])?.pop().unwrap()
}

/// All 16 ordered pairs: equal profiles reach each other, all others are refused, counted and audited.
#[test]
fn every_pair_of_profiles_agrees_or_is_refused() {
    let world = World::new();
    let sessions = Profile::ALL.map(|profile| world.session(&other_of(profile)));
    let mut refusals = 0;
    for ours in Profile::ALL {
        let tenant = tenant_of(ours);
        let agents = world.of(Role::Agent, &tenant);
        for (theirs, session) in Profile::ALL.into_iter().zip(&sessions) {
            let sent = send(&agents, &tenant, &session.chain);
            if ours != theirs {
                let refused = sent.err().unwrap();
                assert_eq!(refused.kind(), ErrorKind::Denied, "{ours} → {theirs}");
                assert!(refused.to_string().contains("no common profile"), "{refused}");
                refusals += 1;
                continue;
            }
            let sent = sent.unwrap();
            assert_eq!(sent.ciphertext.len(), theirs.kem().ciphertext_len());
            let receiver = other_of(theirs);
            let item = Decapsulation { session: session.id, ciphertext: Some(sent.ciphertext) };
            let opened = world.of(Role::Agent, &receiver).decapsulate(&receiver, &[item]).unwrap().pop().unwrap();
            assert!(opened.unwrap() == sent.key, "{ours}");
        }
    }
    assert_eq!((refusals, world.kms.counts().refused_other), (12, 12));
    let no_profile = What::Refused { reason: Reason::Profile };
    assert_eq!(world.audit.events().iter().filter(|e| e.what == no_profile).count(), 12);
}

/// Guards against a cache that is not one, and against one that outlives the credential.
#[test]
fn a_chain_is_verified_once_while_it_is_valid() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    let (agents, session) = (world.of(Role::Agent, &tenant), world.session(&other));
    for _ in 0..5 {
        send(&agents, &tenant, &session.chain).unwrap();
    }
    assert_eq!((world.kms.counts().chains_checked, world.kms.counts().chains_remembered), (1, 4));
    world.clock.set(NOW_MS + HOUR_MS);
    let refused = send(&agents, &tenant, &session.chain).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert_eq!(world.kms.counts().chains_remembered, 4);
}

#[test]
fn what_is_not_the_chain_is_refused() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    let (agents, session, ours) = (world.of(Role::Agent, &tenant), world.session(&other), world.session(&tenant));
    send(&agents, &tenant, &session.chain).unwrap();
    let mut flipped = session.chain.clone();
    *flipped[1].last_mut().unwrap() ^= 1;
    let mixed = vec![ours.chain[0].clone(), session.chain[1].clone()];
    let reversed = session.chain.iter().rev().cloned().collect();
    let long = vec![session.chain[0].clone(); 4];
    // A platform with another authority has a tenant of the same name.
    let elsewhere = {
        use strongroom::{clock::ManualClock, crypto::default_provider, keys::Keystore};
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW_MS);
        let keystore = Keystore::create(dir.path(), default_provider(), super::world::unlock(), &clock).unwrap();
        keystore.onboard(&other, Profile::Pure, NOW_MS).unwrap();
        vec![keystore.certificates(&other).unwrap()[1].clone(), session.chain[1].clone()]
    };
    for (what, chain) in [
        ("empty", vec![]),
        ("without the session", session.chain[..1].to_vec()),
        ("without the tenant", session.chain[1..].to_vec()),
        ("flipped", flipped),
        ("of two tenants", mixed),
        ("reversed", reversed),
        ("too long", long),
        ("of another platform", elsewhere),
        ("no certificates", vec![b"x".to_vec(), b"y".to_vec()]),
    ] {
        let refused = send(&agents, &tenant, &chain).err().unwrap();
        assert!(matches!(refused.kind(), ErrorKind::Denied | ErrorKind::InvalidInput), "{what}: {refused}");
    }
}

/// Revoking while chains are looked up and verified: once it has returned, nobody is served.
#[test]
fn revocation_beats_the_cache() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    let agents = world.of(Role::Agent, &tenant);
    for _ in 0..10 {
        let session = world.session(&other);
        let revoked = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (agents, chain, revoked, tenant) = (agents.clone(), &session.chain, &revoked, &tenant);
                scope.spawn(move || {
                    let mut after = 0;
                    while after < 5 {
                        let ended = revoked.load(Ordering::SeqCst);
                        let sent = send(&agents, tenant, chain);
                        if ended {
                            assert_eq!(sent.err().unwrap().kind(), ErrorKind::Denied);
                            after += 1;
                        }
                    }
                });
            }
            world.of(Role::Agent, &other).revoke_session(&other, session.id).unwrap();
            revoked.store(true, Ordering::SeqCst);
        });
    }
    drop(agents);
    let world = world.restart();
    assert_eq!(world.kms.counts().sessions, 10);
}

#[test]
fn a_revoked_session_stays_revoked_and_opens_nothing() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Hybrid), other_of(Profile::Hybrid));
    let session = world.session(&other);
    let sent = send(&world.of(Role::Agent, &tenant), &tenant, &session.chain).unwrap();
    let receiver = world.of(Role::Agent, &other);
    receiver.revoke_session(&other, session.id).unwrap();
    assert_eq!(receiver.revoke_session(&other, session.id).err().unwrap().kind(), ErrorKind::NotFound);
    drop(receiver);
    let world = world.restart();
    let receiver = world.of(Role::Agent, &other);
    let item = Decapsulation { session: session.id, ciphertext: Some(sent.ciphertext.clone()) };
    let refused = receiver.decapsulate(&other, &[item]).unwrap().pop().unwrap();
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::NotFound);
    let refused = send(&world.of(Role::Agent, &tenant), &tenant, &session.chain).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    let believed = What::Refused { reason: Reason::Credential };
    assert_eq!(world.audit.events().iter().filter(|e| e.what == believed).count(), 1);
}
