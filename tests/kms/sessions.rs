//! Sessions: one ciphertext each, also under load and across a restart; over in time.

use std::fs;
use std::sync::Arc;

use strongroom::audit::{InMemory, Outcome, Reason, What};
use strongroom::crypto::default_provider;
use strongroom::keys::kms::{
    Decapsulation, Encapsulated, Handle, KeyAdmin as _, Kms, LocalKms, Recipient, Role, Session,
};
use strongroom::keys::{Keystore, Profile};
use strongroom::secret::Secret;
use strongroom::{ErrorKind, Result, TenantId};

use super::world::{HOUR_MS, NOW_MS, World, agent, eventually, options, other_of, patiently, tenant_of, unlock};

const TENANT: Profile = Profile::Hybrid;

fn only<T>(results: Result<Vec<Result<T>>>) -> Result<T> {
    results?.pop().unwrap()
}

fn send(kms: &Handle, tenant: &TenantId, to: Recipient) -> Encapsulated {
    only(kms.encapsulate(tenant, &[to])).unwrap()
}

fn open(kms: &Handle, tenant: &TenantId, session: &Session, ciphertext: Option<&[u8]>) -> Result<Secret<32>> {
    let item = Decapsulation { session: session.id, ciphertext: ciphertext.map(<[u8]>::to_vec) };
    only(kms.decapsulate(tenant, &[item]))
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

fn files(world: &World) -> usize {
    fs::read_dir(world.dir.path().join("sessions")).unwrap().count()
}

#[test]
fn a_session_serves_one_ciphertext_also_after_a_restart() {
    let mut world = World::new();
    for profile in Profile::ALL {
        let tenant = tenant_of(profile);
        let session = world.session(&tenant);
        let to = || Recipient::Credential(session.chain.clone());
        let agents = world.of(Role::Agent, &tenant);
        let (first, second) = (send(&agents, &tenant, to()), send(&agents, &tenant, to()));
        assert!(open(&agents, &tenant, &session, Some(&first.ciphertext)).unwrap() == first.key);
        let refused = |world: &World| {
            let agents = world.of(Role::Agent, &tenant);
            // The same again is a retry; another is refused, and so is encapsulating anew.
            assert!(open(&agents, &tenant, &session, Some(&first.ciphertext)).unwrap() == first.key);
            assert_eq!(kind(open(&agents, &tenant, &session, Some(&second.ciphertext))), ErrorKind::Conflict);
            assert_eq!(kind(only(agents.encapsulate(&tenant, &[to()]))), ErrorKind::Conflict);
            assert_eq!(kind(only(agents.encapsulate(&tenant, &[Recipient::Session(session.id)]))), ErrorKind::Conflict);
            let reuse = What::Refused { reason: Reason::SingleUse };
            assert_eq!(world.audit.events().iter().filter(|e| e.what == reuse).count(), 3);
        };
        drop(agents);
        let fresh = world.restart();
        refused(&fresh);
        world = fresh.restart();
        refused(&world);
        world = world.restart();
    }
}

/// Fifty threads want two different ciphertexts of one key: one of the two is served, to all who want it.
#[test]
fn of_two_ciphertexts_at_once_exactly_one_is_served() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    let agents = world.of(Role::Agent, &tenant);
    for _ in 0..5 {
        let session = world.session(&tenant);
        let sent = [0, 1].map(|_| send(&agents, &tenant, Recipient::Credential(session.chain.clone())));
        let served: Vec<Option<usize>> = std::thread::scope(|scope| {
            let ask = |n: usize| {
                let (agents, sent, tenant, session) = (agents.clone(), &sent, &tenant, &session);
                scope.spawn(move || {
                    let which = n % 2;
                    match open(&agents, tenant, session, Some(&sent[which].ciphertext)) {
                        Ok(key) => {
                            assert!(key == sent[which].key);
                            Some(which)
                        }
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::Conflict);
                            None
                        }
                    }
                })
            };
            let threads: Vec<_> = (0..50).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<_> = served.into_iter().flatten().collect();
        assert_eq!(winners.len(), 25);
        assert!(winners.iter().all(|which| *which == winners[0]));
    }
}

#[test]
fn what_is_malformed_does_not_use_up_a_session() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    let (agents, session) = (world.of(Role::Agent, &tenant), world.session(&tenant));
    let sent = send(&agents, &tenant, Recipient::Credential(session.chain.clone()));
    for malformed in [&b""[..], &sent.ciphertext[1..], &[0; 4096]] {
        assert_eq!(kind(open(&agents, &tenant, &session, Some(malformed))), ErrorKind::InvalidInput);
    }
    assert!(open(&agents, &tenant, &session, Some(&sent.ciphertext)).unwrap() == sent.key);
}

#[test]
fn sessions_survive_a_restart_and_end_on_the_millisecond() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    let session = world.session(&tenant);
    assert_eq!(session.expires_at_ms, NOW_MS + HOUR_MS);
    let world = world.restart();
    world.clock.set(NOW_MS + HOUR_MS - 1);
    let agents = world.of(Role::Agent, &tenant);
    let sent = send(&agents, &tenant, Recipient::Session(session.id));
    assert!(open(&agents, &tenant, &session, None).unwrap() == sent.key);
    world.clock.set(NOW_MS + HOUR_MS);
    assert_eq!(kind(open(&agents, &tenant, &session, Some(&sent.ciphertext))), ErrorKind::NotFound);
    assert_eq!(kind(only(agents.encapsulate(&tenant, &[Recipient::Credential(session.chain)]))), ErrorKind::Denied);
    assert_eq!((files(&world), world.kms.counts().sessions, world.kms.counts().sessions_expired), (0, 0, 1));
}

#[test]
fn expired_sessions_are_purged_without_being_asked_for() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    for _ in 0..3 {
        world.session(&tenant);
    }
    assert_eq!(files(&world), 3);
    world.clock.set(NOW_MS + HOUR_MS);
    eventually("the purge", || world.kms.counts().sessions == 0);
    assert_eq!((files(&world), world.kms.counts().sessions_expired), (0, 3));
}

#[test]
fn sessions_that_expired_while_nobody_was_there_are_gone() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    world.session(&tenant);
    // Also what a write left that was interrupted.
    fs::write(world.dir.path().join("sessions/.tmpabc"), b"half").unwrap();
    world.clock.set(NOW_MS + HOUR_MS);
    let world = world.restart();
    assert_eq!((files(&world), world.kms.counts().sessions), (0, 0));
}

#[test]
fn a_kept_ciphertext_expires_before_its_session() {
    let mut options = options();
    options.ciphertext_ttl_ms = 1_000;
    let world = World::with(options);
    let tenant = tenant_of(TENANT);
    let (session, agents) = (world.session(&tenant), world.of(Role::Agent, &tenant));
    let sent = send(&agents, &tenant, Recipient::Session(session.id));
    world.clock.set(NOW_MS + 999);
    assert!(open(&agents, &tenant, &session, None).unwrap() == sent.key);
    let bytes = || {
        let file = fs::read_dir(world.dir.path().join("sessions")).unwrap().next().unwrap().unwrap();
        file.metadata().unwrap().len()
    };
    let before = bytes();
    world.clock.set(NOW_MS + 1_000);
    assert_eq!(kind(open(&agents, &tenant, &session, None)), ErrorKind::NotFound);
    assert_eq!(world.kms.counts().ciphertexts_expired, 1);
    assert!(bytes() + 1_000 < before, "the ciphertext is still in the file");
    // The session lives on, and the key still serves only that ciphertext.
    assert!(open(&agents, &tenant, &session, Some(&sent.ciphertext)).unwrap() == sent.key);
    assert_eq!(kind(only(agents.encapsulate(&tenant, &[Recipient::Session(session.id)]))), ErrorKind::Conflict);
}

#[test]
fn kept_ciphertexts_are_purged_without_being_asked_for() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    let (session, agents) = (world.session(&tenant), world.of(Role::Agent, &tenant));
    send(&agents, &tenant, Recipient::Session(session.id));
    world.clock.set(NOW_MS + options().ciphertext_ttl_ms);
    eventually("the purge", || world.kms.counts().ciphertexts_expired == 1);
    assert_eq!(world.kms.counts().sessions, 1);
}

#[test]
fn bulk_results_are_in_order_and_fail_one_by_one() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let agents = world.of(Role::Agent, &tenant);
    let sessions: Vec<_> = (0..16).map(|_| world.session(&tenant)).collect();
    let foreign = world.session(&other_of(Profile::Pure));
    let mut to: Vec<_> = sessions.iter().map(|session| Recipient::Session(session.id)).collect();
    to.insert(7, Recipient::Session(foreign.id));
    let sent = agents.encapsulate(&tenant, &to).unwrap();
    assert_eq!(sent.iter().map(Result::is_ok).collect::<Vec<_>>(), (0..17).map(|n| n != 7).collect::<Vec<_>>());
    let sent: Vec<_> = sent.into_iter().flatten().collect();
    assert!(sent.iter().zip(&sessions).all(|(sent, session)| sent.session == session.id));
    let mut items: Vec<_> =
        sent.iter().map(|s| Decapsulation { session: s.session, ciphertext: Some(s.ciphertext.clone()) }).collect();
    items[3].ciphertext = items[4].ciphertext.clone();
    let keys = agents.decapsulate(&tenant, &items).unwrap();
    for (n, key) in keys.into_iter().enumerate() {
        match key {
            Ok(key) => assert!(n != 3 && key == sent[n].key),
            Err(e) => assert_eq!((n, e.kind()), (3, ErrorKind::Conflict)),
        }
    }
    let messages: Vec<_> = (0_u8..20).map(|n| vec![n; 3]).collect();
    let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
    for (message, signature) in messages.iter().zip(agents.sign(&tenant, &messages).unwrap()) {
        let signature = signature.unwrap();
        let signed = strongroom::keys::kms::Signed { message, signature: &signature };
        only(agents.verify(&tenant, &[signed])).unwrap();
    }
    let counts = world.kms.counts();
    assert_eq!((counts.encapsulated, counts.decapsulated, counts.signed, counts.verified), (16, 15, 20, 20));
}

#[test]
fn lifetimes_and_sizes_are_bounded() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    let agents = world.of(Role::Agent, &tenant);
    let longest = options().policy.session_max_ms;
    for lifetime_ms in [0, longest + 1, u64::MAX] {
        assert_eq!(kind(agents.open_session(&tenant, &agent(), lifetime_ms)), ErrorKind::InvalidInput);
    }
    patiently(|| agents.open_session(&tenant, &agent(), longest)).unwrap();
    let many = vec![&b""[..]; strongroom::limits::KMS_ITEMS + 1];
    assert_eq!(kind(agents.sign(&tenant, &many)), ErrorKind::InvalidInput);
    let long = vec![0; strongroom::limits::KMS_BYTES + 1];
    assert_eq!(kind(agents.sign(&tenant, &[&long])), ErrorKind::InvalidInput);
}

#[test]
fn a_damaged_session_is_reported_when_the_service_starts() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    let session = world.session(&tenant);
    let path = world.dir.path().join(format!("sessions/{}.session", session.id));
    let bytes = fs::read(&path).unwrap();
    let World { kms, clock, dir, audit } = world;
    drop(kms);
    let start = || {
        let keystore = strongroom::keys::Keystore::open(
            dir.path(),
            strongroom::crypto::default_provider(),
            super::world::unlock(),
        );
        let clock = std::sync::Arc::new(clock.clone());
        strongroom::keys::kms::LocalKms::new(std::sync::Arc::new(keystore.unwrap()), options(), clock, audit.clone())
    };
    for at in [0, 1, 20, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let refused = start().err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Integrity);
        assert!(refused.to_string().contains(&session.id.to_string()));
    }
    // One session's file does not pass for another's.
    fs::rename(&path, path.with_file_name(format!("{}.session", "0".repeat(32)))).unwrap();
    fs::write(path.with_file_name(format!("{}.session", "0".repeat(32))), &bytes).unwrap();
    assert_eq!(start().err().unwrap().kind(), ErrorKind::Integrity);
    fs::remove_file(path.with_file_name(format!("{}.session", "0".repeat(32)))).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(start().unwrap().counts().sessions, 1);
}

#[test]
fn shredding_a_tenant_ends_its_sessions() {
    let world = World::new();
    let (tenant, other) = (tenant_of(TENANT), other_of(TENANT));
    let (session, theirs) = (world.session(&tenant), world.session(&other));
    let (agents, sender) = (world.of(Role::Agent, &tenant), world.of(Role::Agent, &other));
    let sent = send(&sender, &other, Recipient::Credential(session.chain.clone()));
    world.of(Role::Admin, &tenant).shred(&tenant).unwrap();
    assert_eq!(kind(agents.sign(&tenant, &[b"m"])), ErrorKind::NotFound);
    assert_eq!(kind(open(&agents, &tenant, &session, Some(&sent.ciphertext))), ErrorKind::NotFound);
    let refused = only(sender.encapsulate(&other, &[Recipient::Credential(session.chain)]));
    assert_eq!(kind(refused), ErrorKind::Denied);
    assert_eq!(files(&world), 1);
    send(&sender, &other, Recipient::Credential(theirs.chain));
}

/// Guards against a key that is revealed though its binding is not on disk, and a revocation that was only announced.
#[test]
fn without_its_disk_the_service_reveals_and_revokes_nothing() {
    let world = World::new();
    let tenant = tenant_of(TENANT);
    let (agents, session) = (world.of(Role::Agent, &tenant), world.session(&tenant));
    let to = Recipient::Credential(session.chain.clone());
    let (first, second) = (send(&agents, &tenant, to.clone()), send(&agents, &tenant, to.clone()));
    let (here, away) = (world.dir.path().join("sessions"), world.dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    assert_eq!(kind(open(&agents, &tenant, &session, Some(&first.ciphertext))), ErrorKind::Integrity);
    assert_eq!(kind(only(agents.encapsulate(&tenant, &[Recipient::Session(session.id)]))), ErrorKind::Integrity);
    fs::rename(&away, &here).unwrap();
    // Nothing was revealed, so the other one may still be served.
    assert!(open(&agents, &tenant, &session, Some(&second.ciphertext)).unwrap() == second.key);

    fs::rename(&here, &away).unwrap();
    assert_eq!(kind(agents.revoke_session(&tenant, session.id)), ErrorKind::Integrity);
    // Whether that lasts is uncertain, but nobody is served meanwhile.
    assert_eq!(kind(open(&agents, &tenant, &session, Some(&second.ciphertext))), ErrorKind::NotFound);
    assert_eq!(kind(only(agents.encapsulate(&tenant, &[to]))), ErrorKind::Denied);
    fs::rename(&away, &here).unwrap();
    agents.revoke_session(&tenant, session.id).unwrap();
    assert_eq!(kind(agents.revoke_session(&tenant, session.id)), ErrorKind::NotFound);
    let outcomes: Vec<_> = world
        .audit
        .events()
        .iter()
        .filter(|e| matches!(e.what, What::SessionRevoked { .. }))
        .map(|e| e.outcome)
        .collect();
    let each = [Outcome::Failed, Outcome::Done, Outcome::Failed].map(|ended| [Outcome::Begun, ended]);
    assert_eq!(outcomes, each.concat());
    drop(agents);
    let world = world.restart();
    let agents = world.of(Role::Agent, &tenant);
    assert_eq!(kind(open(&agents, &tenant, &session, Some(&second.ciphertext))), ErrorKind::NotFound);
}

/// Guards against a second service over the same keystore, which would not know what the first has bound or revoked.
#[test]
fn a_keystore_has_one_service_at_a_time() {
    let World { kms, clock, dir, .. } = World::new();
    drop(kms);
    let keystore = Arc::new(Keystore::open(dir.path(), default_provider(), unlock()).unwrap());
    let serve = || LocalKms::new(keystore.clone(), options(), Arc::new(clock.clone()), Arc::new(InMemory::default()));
    let first = serve().unwrap();
    assert_eq!(kind(serve()), ErrorKind::Busy);
    drop(first);
    serve().unwrap();
}
