//! The pool: session keys are never made while somebody waits for one, and none is used twice or too old.

use std::collections::BTreeSet;

use strongroom::crypto::Kem;
use strongroom::keys::Profile;
use strongroom::keys::kms::{Kms, PoolOptions, Role};
use strongroom::{ErrorKind, TenantId};

use super::world::{HOUR_MS, NOW_MS, World, agent, eventually, options, patiently, tenant_of};

fn open_many(world: &World, tenant: &TenantId, count: usize) -> BTreeSet<Vec<u8>> {
    let agents = world.of(Role::Agent, tenant);
    (0..count).map(|_| patiently(|| agents.open_session(tenant, &agent(), HOUR_MS)).unwrap().public_key).collect()
}

#[test]
fn keys_are_made_in_the_background_under_load_too() {
    let mut options = options();
    options.pool = PoolOptions { target: 8, low_water: 4, max_age_ms: HOUR_MS };
    let world = World::with(options);
    let (tenant, each) = (tenant_of(Profile::Hybrid), 50);
    let keys: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| open_many(&world, &tenant, each))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let different: BTreeSet<_> = keys.into_iter().flatten().collect();
    assert_eq!(different.len(), 4 * each);
    let counts = world.kms.counts().pool;
    assert_eq!((counts.generated_on_request, counts.taken, counts.expired), (0, 4 * each as u64, 0));
    assert!(counts.generated_in_background >= counts.taken);
    eventually("the refill", || world.kms.session_keys_ready(Kem::XWing) >= 4);
}

/// An empty pool says so; it never makes the caller wait for a key.
#[test]
fn an_empty_pool_says_so() {
    let mut options = options();
    // Nothing is refilled before the pool is empty, and then one key at a time.
    options.pool = PoolOptions { target: 1, low_water: 0, max_age_ms: HOUR_MS };
    let world = World::with(options);
    let tenant = tenant_of(Profile::Cnsa2);
    let agents = world.of(Role::Agent, &tenant);
    let mut empty = 0;
    while empty < 10 {
        if let Err(e) = agents.open_session(&tenant, &agent(), HOUR_MS) {
            assert_eq!(
                (e.kind(), e.to_string()),
                (ErrorKind::Unavailable, "no session key is ready: try again".into())
            );
            empty += 1;
        }
    }
    let counts = world.kms.counts().pool;
    assert_eq!((counts.generated_on_request, counts.empty), (0, empty));
    patiently(|| agents.open_session(&tenant, &agent(), HOUR_MS)).unwrap();
}

#[test]
fn keys_that_nobody_took_are_replaced() {
    let mut options = options();
    options.pool = PoolOptions { target: 4, low_water: 4, max_age_ms: 1_000 };
    let world = World::with(options);
    let full = |world: &World| Profile::ALL.iter().all(|p| world.kms.session_keys_ready(p.kem()) == 4);
    eventually("the filling", || full(&world));
    world.clock.set(NOW_MS + 999);
    assert!(full(&world) && world.kms.counts().pool.expired == 0);
    world.clock.set(NOW_MS + 1_000);
    // Three kinds: two profiles share ML-KEM-768.
    eventually("the replacement", || world.kms.counts().pool.expired == 12 && full(&world));
    assert_eq!(world.kms.counts().pool.generated_on_request, 0);
}

#[test]
fn options_that_cannot_be_kept_are_refused() {
    let world = World::new();
    let good = options();
    let pool = good.pool;
    for pool in [
        PoolOptions { target: 0, ..pool },
        PoolOptions { low_water: pool.target + 1, ..pool },
        PoolOptions { max_age_ms: 0, ..pool },
        PoolOptions { target: usize::MAX, ..pool },
    ] {
        let copy = tempfile::tempdir().unwrap();
        let keystore = strongroom::keys::Keystore::create(
            copy.path(),
            strongroom::crypto::default_provider(),
            super::world::unlock(),
            &world.clock,
        );
        let mut options = good;
        options.pool = pool;
        let refused = strongroom::keys::kms::LocalKms::new(
            std::sync::Arc::new(keystore.unwrap()),
            options,
            std::sync::Arc::new(world.clock.clone()),
            world.audit.clone(),
        );
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::InvalidInput);
    }
}
