//! Administration: effective at once, and in the audit log before anybody can tell.

use std::sync::Arc;

use strongroom::audit::log::{KeyKeeper, LOG_DIR, Log, LogOptions};
use strongroom::audit::{AuditSink, Event, Outcome, What};
use strongroom::clock::ManualClock;
use strongroom::crypto::default_provider;
use strongroom::keys::kms::{Caller, Decapsulation, DekRequest, KeyAdmin as _, Kms, LocalKms, Recipient, Role, Scope};
use strongroom::keys::{DataKeys as _, EpochState, Keystore, Label, Profile};
use strongroom::{Epoch, Error, ErrorKind, Result};

use super::world::{NOW_MS, World, agent, eventually, id, options, other_of, tenant_of, unlock};

fn dek(epoch: Epoch) -> DekRequest {
    DekRequest { label: Label::VectorStore, epoch, scope: vec![7; 16] }
}

/// An audit log on a full disk.
struct Full;

impl AuditSink for Full {
    fn record(&self, _event: &Event) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "the audit journal cannot be written"))
    }
}

#[test]
fn onboarding_ends_with_a_session_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW_MS);
    let keystore = Arc::new(Keystore::create(dir.path(), default_provider(), unlock(), &clock).unwrap());
    let (keeper, clock) = (KeyKeeper::Keystore(keystore.clone()), Arc::new(clock));
    let audit = Log::open(&dir.path().join(LOG_DIR), keeper, LogOptions::default(), clock.clone()).unwrap();
    let kms = LocalKms::new(keystore, options(), clock, Arc::new(audit)).unwrap();
    let admin = kms.caller(Caller::new("operator", Role::Admin, Scope::All));
    let agents = kms.caller(Caller::new("agents", Role::Agent, Scope::All));
    for profile in Profile::ALL {
        let tenant = tenant_of(profile);
        let made = admin.onboard(&tenant, profile, Some(&agent())).unwrap();
        let session = made.session.unwrap();
        let to = [Recipient::Credential(session.chain.clone())];
        let sent = agents.encapsulate(&tenant, &to).unwrap().pop().unwrap().unwrap();
        let item = Decapsulation { session: session.id, ciphertext: Some(sent.ciphertext) };
        assert!(agents.decapsulate(&tenant, &[item]).unwrap().pop().unwrap().unwrap() == sent.key);
        assert_eq!(admin.onboard(&tenant, profile, None).err().unwrap().kind(), ErrorKind::Conflict);
        let public = admin.public(&tenant).unwrap();
        assert_eq!(public.certificates[1], session.chain[0]);
        assert_eq!(public.signing_public_key.len(), profile.signature().public_key_len());
    }
    assert_eq!(kms.counts().pool.generated_on_request, 0);
    // The journal has it all, and nobody's name, key or message.
    let journal = crate::audit_log::lines(dir.path());
    let types: Vec<_> = journal
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .filter(|name| name != "log-begun")
        .collect();
    let (begun_and_done, begun_and_failed) = (["tenant-onboarded"; 2], ["tenant-onboarded"; 2]);
    let exported = ["certificates-exported"];
    assert_eq!(types, [&begun_and_done[..], &["session-opened"], &begun_and_failed, &exported].concat().repeat(4));
    for profile in Profile::ALL {
        assert!(!journal.contains(tenant_of(profile).as_str()));
        assert!(!journal.contains(agent().as_str()));
    }
}

#[test]
fn every_change_is_effective_and_audited() {
    use EpochState::{Active, Compromised, Deactivated, Destroyed, PreActive};
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let (admin, store) = (world.of(Role::Admin, &tenant), world.of(Role::Store, &tenant));
    let derive = |epoch| store.derive_deks(&tenant, &[dek(epoch)]).unwrap().pop().unwrap();
    let (one, two, three) = (Epoch::FIRST, Epoch::try_from(2).unwrap(), Epoch::try_from(3).unwrap());
    let first = derive(one).unwrap();
    assert_eq!(admin.create_epoch(&tenant, None).unwrap().epoch, two);
    assert_eq!(derive(two).err().unwrap().kind(), ErrorKind::NotFound);
    admin.activate_epoch(&tenant, two).unwrap();
    assert!(derive(two).unwrap() != first && derive(one).unwrap() == first);
    admin.create_epoch(&tenant, None).unwrap();
    admin.deactivate_epoch(&tenant, two).unwrap();
    admin.mark_epoch_compromised(&tenant, three).unwrap();
    let destroyed = admin.destroy_epoch(&tenant, one).unwrap();
    assert_eq!(derive(one).err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(admin.destroy_epoch(&tenant, one).err().unwrap().kind(), ErrorKind::Conflict);
    assert!(!admin.is_shredded(&tenant).unwrap());
    admin.shred(&tenant).unwrap();
    assert!(admin.is_shredded(&tenant).unwrap());
    assert_eq!(store.derive_deks(&tenant, &[dek(two)]).err().unwrap().kind(), ErrorKind::NotFound);

    let (begun, events): (Vec<_>, Vec<_>) =
        world.audit.events().into_iter().partition(|event| event.outcome == Outcome::Begun);
    assert_eq!(begun.len(), events.len());
    let states: Vec<_> = events
        .iter()
        .filter_map(|e| match &e.what {
            What::EpochMoved { state, epoch, .. } => Some((epoch.map(Epoch::as_u32), *state, e.outcome)),
            _ => None,
        })
        .collect();
    let done = |epoch, state| (Some(epoch), state, Outcome::Done);
    let expected = [
        done(2, PreActive),
        done(2, Active),
        done(3, PreActive),
        done(2, Deactivated),
        done(3, Compromised),
        done(1, Destroyed),
        (Some(1), Destroyed, Outcome::Failed),
    ];
    assert_eq!(states, expected);
    let of_one = events.iter().find_map(|e| match &e.what {
        What::EpochMoved { state: Destroyed, fingerprints, .. } => Some(fingerprints.clone()),
        _ => None,
    });
    assert_eq!(of_one.unwrap(), [destroyed.fingerprint]);
    let last = events.last().unwrap();
    assert!(matches!(&last.what, What::TenantShredded { fingerprints } if fingerprints.len() == 3));
    assert!(events.iter().all(|e| e.tenant == last.tenant && e.at_ms == NOW_MS && e.role == Some(Role::Admin)));
}

/// What cannot be recorded is not revealed.
#[test]
fn without_an_audit_log_nothing_is_revealed() {
    let world = World::new();
    let (tenant, other) = (tenant_of(Profile::Pure), other_of(Profile::Pure));
    let World { kms, clock, dir, .. } = world;
    drop(kms);
    let keystore = Arc::new(Keystore::open(dir.path(), default_provider(), unlock()).unwrap());
    let kms = LocalKms::new(keystore, options(), Arc::new(clock), Arc::new(Full)).unwrap();
    let own = Scope::Tenants([tenant.clone()].into());
    let admin = kms.caller(Caller::new("operator", Role::Admin, own.clone()));
    let agents = kms.caller(Caller::new("agents", Role::Agent, own));
    for answer in [
        admin.create_epoch(&tenant, None).map(|_| ()),
        admin.shred(&other).map(|_| ()),
        admin.sign(&tenant, &[b"m"]).map(|_| ()),
        {
            eventually("the filling", || kms.session_keys_ready(Profile::Pure.kem()) > 0);
            agents.open_session(&tenant, &agent(), 1_000).map(|_| ())
        },
        agents.sign(&other, &[b"m"]).map(|_| ()),
    ] {
        assert_eq!(answer.err().unwrap().to_string(), "the audit journal cannot be written");
    }
    // Nothing was changed that nobody could learn of.
    assert!(!admin.is_shredded(&tenant).unwrap());
    assert_eq!(admin.describe(&tenant).unwrap().epochs.len(), 1);
    assert_eq!(admin.shred(&tenant).err().unwrap().kind(), ErrorKind::Unavailable);
    assert!(!admin.is_shredded(&tenant).unwrap() && admin.describe(&tenant).is_ok());
    // Both refusals were counted all the same.
    assert_eq!((kms.counts().refused_cross_tenant, kms.counts().refused_role), (2, 1));
}

#[test]
fn no_event_has_a_name_or_key_bytes_in_it() {
    let world = World::new();
    let tenant = tenant_of(Profile::Hybrid);
    let session = world.session(&tenant);
    let (admin, agents) = (world.of(Role::Admin, &tenant), world.of(Role::Agent, &tenant));
    let sent = agents.encapsulate(&tenant, &[Recipient::Session(session.id)]).unwrap().pop().unwrap().unwrap();
    drop(agents.sign(&id("somebody-else"), &[b"a message"]));
    drop(admin.sign(&tenant, &[b"a message"]));
    admin.create_epoch(&tenant, None).unwrap();
    admin.revoke_session(&tenant, session.id).unwrap();
    let log = serde_json::to_string(&world.audit.events()).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for secret in [
        tenant.as_str().to_owned(),
        "somebody-else".into(),
        agent().as_str().to_owned(),
        "a message".into(),
        hex(&sent.key.expose_secret()[..8]),
        hex(&session.public_key[..8]),
        hex(&sent.ciphertext[..8]),
    ] {
        assert!(!log.contains(&secret), "{secret}");
    }
    assert_eq!(world.audit.events().len(), 7);
}

#[test]
fn keys_that_nobody_uses_are_let_go() {
    let world = World::new();
    let tenant = tenant_of(Profile::Pure);
    let store = world.of(Role::Store, &tenant);
    let key = |store: &strongroom::keys::kms::Handle| store.derive_deks(&tenant, &[dek(Epoch::FIRST)]);
    let before = key(&store).unwrap().pop().unwrap().unwrap();
    assert_eq!(world.kms.counts().tenants_ready, 1);
    world.clock.set(NOW_MS + options().idle_ms + 1);
    eventually("letting go", || world.kms.counts().tenants_ready == 0);
    assert!(key(&store).unwrap().pop().unwrap().unwrap() == before);
    store.forget(&tenant);
    assert_eq!(world.kms.counts().tenants_ready, 0);
}

/// A store derives the same through the service as it would from its own keystore.
#[test]
fn a_store_gets_the_keys_of_the_keystore() {
    let world = World::new();
    let tenant = tenant_of(Profile::Cnsa2);
    let store = world.of(Role::Store, &tenant);
    let request = dek(Epoch::FIRST);
    let bulk = store.derive_deks(&tenant, std::slice::from_ref(&request)).unwrap().pop().unwrap().unwrap();
    let keys = store.epoch_keys(&tenant, Epoch::FIRST).unwrap();
    assert!(keys.dek(request.label, &request.scope).unwrap() == bulk);
    drop((keys, store));
    let World { kms, dir, .. } = world;
    drop(kms);
    let keystore = Keystore::open(dir.path(), default_provider(), unlock()).unwrap();
    let keys = keystore.epoch_keys(&tenant, Epoch::FIRST).unwrap();
    assert!(keys.dek(request.label, &request.scope).unwrap() == bulk);
}
