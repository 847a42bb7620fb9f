//! The ledger: no use is counted too little, whoever races, restarts, or sets the clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use strongroom::keys::Profile;
use strongroom::limits;
use strongroom::token::{Ledger, Refusal, Revocation, Stop};

use crate::scene::{Scene, refused};
use crate::world::NOW_MS;

#[test]
fn two_hundred_race_for_one_use() {
    let scene = Scene::new(Profile::Pure);
    for uses in [1, 7] {
        let token = scene.verify(scene.mint(uses).as_bytes(), NOW_MS).unwrap();
        let (won, start) = (AtomicUsize::new(0), Barrier::new(200));
        std::thread::scope(|threads| {
            for _ in 0..200 {
                threads.spawn(|| {
                    let authorized = scene.authorize(&token, &scene.asked()).unwrap();
                    start.wait();
                    match scene.ledger.spend(authorized) {
                        Ok(_) => drop(won.fetch_add(1, Ordering::SeqCst)),
                        Err(stop) => assert!(matches!(stop, Stop::Refused(Refusal::UsedUp)), "{stop:?}"),
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), uses as usize);
    }
}

#[test]
fn uses_and_revocations_outlive_the_process() {
    let scene = Scene::new(Profile::Pure);
    let (used, revoked, fresh) = (scene.mint(1), scene.mint(1), scene.mint(1));
    scene.spend(used.as_bytes()).unwrap();
    scene.ledger.revoke(&Revocation::Token(revoked.claims().id), NOW_MS).unwrap();
    let Scene { kv, ledger, .. } = &scene;
    assert_eq!(ledger.len(), 1);
    let ledger = Ledger::open(kv.clone(), "one", NOW_MS + 1_000).unwrap();
    let again = Scene { ledger, ..scene };
    refused(again.spend(used.as_bytes()), Refusal::UsedUp);
    refused(again.spend(revoked.as_bytes()), Refusal::Revoked);
    again.spend(fresh.as_bytes()).unwrap();
}

#[test]
fn after_a_restart_of_the_machine_older_tokens_are_refused() {
    let scene = Scene::new(Profile::Pure);
    let token = scene.mint(1);
    let ledger = Ledger::open(scene.kv.clone(), "two", NOW_MS + 1).unwrap();
    let scene = Scene { ledger, ..scene };
    refused(scene.spend(token.as_bytes()), Refusal::Reboot);
    // Also for who opens it later in the same run, and with a clock that was set back.
    let ledger = Ledger::open(scene.kv.clone(), "two", NOW_MS - 100_000).unwrap();
    let scene = Scene { ledger, ..scene };
    refused(scene.spend(token.as_bytes()), Refusal::Reboot);
    // Back in a run of before, which cannot be: refused as well.
    let ledger = Ledger::open(scene.kv.clone(), "one", NOW_MS - 100_000).unwrap();
    let scene = Scene { ledger, ..scene };
    refused(scene.spend(token.as_bytes()), Refusal::Reboot);
    // A ledger that was lost.
    let ledger = Ledger::open(Arc::new(crate::mem_kv::MemKv::default()), "one", NOW_MS).unwrap();
    let scene = Scene { ledger, ..scene };
    refused(scene.spend(token.as_bytes()), Refusal::Reboot);
}

/// Guards against uses that a loss of power undid, and a clock that was behind the tokens when the machine came back.
#[test]
fn a_restart_with_a_slow_clock_gives_no_use_back() {
    // The machine lost its time with its power: what was purged last says how late it was.
    let scene = Scene::new(Profile::Pure);
    let token = scene.mint(1);
    scene.ledger.purge(NOW_MS + 100).unwrap();
    let ledger = Ledger::open(scene.kv.clone(), "two", NOW_MS - 30_000).unwrap();
    let scene = Scene { ledger, ..scene };
    refused(scene.spend(token.as_bytes()), Refusal::Reboot);
    // The store's clock is ahead, as far as it may be: its tokens were used before the second that they begin in.
    let scene = Scene::new(Profile::Pure);
    let token = scene.mint(1);
    let ledger = Ledger::open(scene.kv.clone(), "two", NOW_MS - limits::TOKEN_SKEW_MS).unwrap();
    assert!(ledger.usable_from_ms() > NOW_MS);
    let scene = Scene { ledger, ..scene };
    refused(scene.spend(token.as_bytes()), Refusal::Reboot);
}

#[test]
fn a_clock_that_is_set_back_gives_no_use_back() {
    let scene = Scene::new(Profile::Pure);
    let (used, other) = (scene.mint(1), scene.mint(1));
    scene.spend(used.as_bytes()).unwrap();
    scene.ledger.purge(NOW_MS + 1_000).unwrap();
    assert_eq!(scene.ledger.len(), 1);
    scene.spend(other.as_bytes()).unwrap();
    // The clock jumps ahead, uses are forgotten, and it is set right again: the tokens look as if they were in time.
    scene.ledger.purge(NOW_MS + 300_000).unwrap();
    assert_eq!(scene.ledger.len(), 0);
    refused(scene.spend(used.as_bytes()), Refusal::Expired);
    let ledger = Ledger::open(scene.kv.clone(), "one", NOW_MS).unwrap();
    let scene = Scene { ledger, ..scene };
    refused(scene.spend(used.as_bytes()), Refusal::Expired);
    scene.ledger.purge(NOW_MS).unwrap();
    refused(scene.spend(used.as_bytes()), Refusal::Expired);
}

#[test]
fn tokens_holders_and_tenants_are_revoked_and_some_of_it_lifted() {
    let scene = Scene::new(Profile::Pure);
    let token = scene.mint(99);
    let spend = || scene.spend(token.as_bytes()).map(|_| ());
    for revocation in [
        Revocation::Token(token.claims().id),
        Revocation::Holder(token.claims().holder),
        Revocation::Tenant(scene.tenant.clone()),
    ] {
        spend().unwrap();
        scene.ledger.revoke(&revocation, NOW_MS).unwrap();
        refused(spend(), Refusal::Revoked);
        assert_eq!(scene.ledger.revocations(), [(revocation.clone(), NOW_MS)]);
        assert!(scene.ledger.lift(&revocation).unwrap() && !scene.ledger.lift(&revocation).unwrap());
    }
    spend().unwrap();
    // Only what was issued up to then goes with the tenant, by a clock that may be ahead.
    let tenant = Revocation::Tenant(scene.tenant.clone());
    scene.ledger.revoke(&tenant, NOW_MS - limits::TOKEN_SKEW_MS - 1).unwrap();
    spend().unwrap();
    scene.ledger.revoke(&tenant, NOW_MS - limits::TOKEN_SKEW_MS).unwrap();
    refused(spend(), Refusal::Revoked);
    assert!(scene.ledger.lift(&tenant).unwrap());
    // A clock that was set back does not spare what was issued before that.
    scene.ledger.purge(NOW_MS).unwrap();
    scene.ledger.revoke(&tenant, NOW_MS - 60_000).unwrap();
    refused(spend(), Refusal::Revoked);
    assert!(scene.ledger.lift(&tenant).unwrap());
    // And of all that, only a holder stays revoked for ever.
    scene.ledger.revoke(&Revocation::Token([1; 16].into()), NOW_MS).unwrap();
    scene.ledger.revoke(&Revocation::Holder([1; 32].into()), NOW_MS).unwrap();
    scene.ledger.purge(NOW_MS + 700_000).unwrap();
    assert_eq!(scene.ledger.revocations(), [(Revocation::Holder([1; 32].into()), NOW_MS)]);
    let reopened = Ledger::open(scene.kv.clone(), "one", NOW_MS).unwrap();
    assert_eq!(reopened.revocations(), scene.ledger.revocations());
}
