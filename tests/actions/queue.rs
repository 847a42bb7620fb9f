//! The agent's side: nothing waits, nothing is lost unnoticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use strongroom::audit::actions::{Action, ActionLog, ActionRecord, Actions, ActionsOptions, SignedAction, Taker};
use strongroom::crypto::default_provider;
use strongroom::keys::Profile;
use strongroom::keys::certificate::SignerUse;
use strongroom::{Error, ErrorKind, Result, TenantId};

use crate::take::{Scene, log, signers};

const PATIENCE: Duration = Duration::from_secs(60);

/// A store that can be kept from answering.
struct Store {
    log: ActionLog,
    open: Mutex<bool>,
    opened: Condvar,
    failures: AtomicUsize,
    kind: ErrorKind,
    seen: Mutex<Vec<ActionRecord>>,
}

impl Store {
    fn new(scene: &Scene, open: bool, failures: usize, kind: ErrorKind) -> Arc<Self> {
        Arc::new(Self {
            log: log(&scene.world, &scene.tenant),
            open: Mutex::new(open),
            opened: Condvar::new(),
            failures: AtomicUsize::new(failures),
            kind,
            seen: Mutex::default(),
        })
    }

    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }
}

impl Taker for Store {
    fn append(&self, tenant: &TenantId, chain: &[Vec<u8>], actions: &[SignedAction]) -> Result<Vec<Result<()>>> {
        let mut open = self.open.lock();
        while !*open {
            self.opened.wait(&mut open);
        }
        drop(open);
        let answers = self.log.append(tenant, &"0".repeat(32), chain, actions)?;
        // The answer may be lost after everything is done.
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::new(self.kind, "the answer is lost"));
        }
        self.seen.lock().extend(actions.iter().map(|action| ActionRecord::decode(&action.record).unwrap()));
        Ok(answers)
    }
}

fn actions(scene: &Scene, store: &Arc<Store>, queued: usize) -> Actions {
    let signers = signers(&scene.world, &scene.tenant, SignerUse::Actions);
    let clock = Arc::new(scene.world.clock.clone());
    let options = ActionsOptions { queued, ..ActionsOptions::default() };
    Actions::start(scene.tenant.clone(), signers, default_provider(), clock, store.clone(), options).unwrap()
}

fn action(n: usize) -> Action {
    Action::new("tool.call", format!("body {n}")).unwrap()
}

#[test]
fn what_is_noted_is_handed_over_in_order() {
    let scene = Scene::new(Profile::Hybrid);
    let store = Store::new(&scene, true, 0, ErrorKind::Unavailable);
    let actions = actions(&scene, &store, 4096);
    let first = actions.note(action(0)).unwrap();
    let mut ids = vec![first];
    ids.extend((1..300).map(|n| actions.note(action(n).parent(first)).unwrap()));
    assert_eq!(actions.flush(PATIENCE).unwrap().taken, 300);
    let seen = store.seen.lock().clone();
    assert_eq!(seen.iter().map(|record| record.id).collect::<Vec<_>>(), ids);
    for (n, record) in seen.iter().enumerate() {
        assert_eq!(record.body_sha256, default_provider().sha256(&[format!("body {n}").as_bytes()]));
        assert_eq!(record.parent, (n > 0).then_some(first));
    }
    actions.note(Action::digested("tool.call", [7; 32], 1 << 40).unwrap()).unwrap();
    assert_eq!(actions.close().unwrap().taken, 301);
    assert_eq!(store.seen.lock().last().unwrap().body_len, 1 << 40);
}

/// Guards against an agent that stands still because the log does.
#[test]
fn nobody_waits_for_a_store_that_hangs() {
    let scene = Scene::new(Profile::Pure);
    let store = Store::new(&scene, false, 0, ErrorKind::Unavailable);
    let actions = actions(&scene, &store, 8);
    // As many as wait, and as many as are on their way at most.
    let noted = (0..2_000).map(|n| actions.note(action(n))).filter(Result::is_ok).count();
    assert!((8..=8 + strongroom::limits::ACTIONS).contains(&noted), "{noted}");
    assert_eq!(actions.note(action(0)).err().unwrap().kind(), ErrorKind::Busy);
    assert_eq!(actions.flush(Duration::from_millis(20)).err().unwrap().kind(), ErrorKind::Unavailable);
    store.open();
    assert_eq!(actions.close().unwrap().taken, noted as u64);
}

#[test]
fn a_store_that_is_away_is_asked_again_and_nothing_is_recorded_twice() {
    let scene = Scene::new(Profile::Pure);
    let store = Store::new(&scene, true, 3, ErrorKind::Unavailable);
    let actions = actions(&scene, &store, 100);
    (0..5).for_each(|n| _ = actions.note(action(n)).unwrap());
    assert_eq!(actions.close().unwrap().taken, 5);
    let recorded = scene.world.audit.events();
    let count =
        recorded.iter().filter(|event| matches!(event.what, strongroom::audit::What::AgentAction { .. })).count();
    assert_eq!(count, 5);
}

#[test]
fn what_fails_is_said() {
    let scene = Scene::new(Profile::Pure);
    let store = Store::new(&scene, true, 1, ErrorKind::InvalidInput);
    let actions = actions(&scene, &store, 100);
    actions.note(action(0)).unwrap();
    let error = actions.flush(PATIENCE).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Partial);
    actions.note(action(1)).unwrap();
    assert_eq!(actions.close().err().unwrap().kind(), ErrorKind::Partial, "also later");
    // Too old by the time it arrives: refused one by one.
    let store = Store::new(&scene, false, 0, ErrorKind::Unavailable);
    let actions = self::actions(&scene, &store, 100);
    actions.note(action(0)).unwrap();
    scene.world.clock.set(crate::world::NOW_MS + 300_001);
    store.open();
    let report = actions.flush(PATIENCE).err().unwrap();
    assert!(report.remedy().unwrap().contains("time"), "{report:?}");
}

#[test]
fn what_cannot_be_an_action_is_refused_before_it_is_noted() {
    for name in ["", "a\u{7}", &"x".repeat(129)] {
        assert!(Action::new(name, "x").is_err());
        assert!(Action::digested(name, [0; 32], 1).is_err());
    }
    assert!(Action::new("big", vec![0; strongroom::limits::ACTION_BODY_BYTES + 1]).is_err());
    let scene = Scene::new(Profile::Pure);
    let store = Store::new(&scene, true, 0, ErrorKind::Unavailable);
    for queued in [0, strongroom::limits::ACTIONS_QUEUED + 1] {
        let signers = signers(&scene.world, &scene.tenant, SignerUse::Actions);
        let (clock, options) = (Arc::new(scene.world.clock.clone()), ActionsOptions { queued, patience_ms: 1 });
        let started = Actions::start(scene.tenant.clone(), signers, default_provider(), clock, store.clone(), options);
        assert_eq!(started.err().unwrap().kind(), ErrorKind::InvalidInput);
    }
}
