//! A log that cannot be written refuses what it is about, or says later how much it has lost.

use std::sync::Arc;

use strongroom::audit::AuditSink as _;
use strongroom::audit::log::{KeyKeeper, Log, LogOptions, OnFailure};
use strongroom::{ErrorKind, Result};

use super::scene::{ALICE, NOW_MS, Scene, event, quick};

/// The log of `scene` when less is free than it wants to leave.
fn without_room(scene: &Scene, on_failure: OnFailure) -> Result<Log> {
    let options = LogOptions { min_free_bytes: u64::MAX, on_failure, ..quick() };
    Log::open(&scene.log_dir(), KeyKeeper::File, options, Arc::new(scene.clock.clone()))
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let scene = Scene::filled(300);
    let log = without_room(&scene, OnFailure::Refuse).unwrap();
    let refused = log.record(&event(ALICE, NOW_MS)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.remedy().unwrap().contains("audit_min_free_mib"), "{refused}");
    drop(log);
    // With room again it goes on, and nothing is missing.
    scene.fill(301);
    assert_eq!(scene.export("export").verify(&[]).unwrap().size, 301);
}

#[test]
fn what_was_lost_is_said() {
    let options = LogOptions { on_failure: OnFailure::Continue, ..quick() };
    let scene = Scene::with(options);
    let log = scene.open();
    log.record(&event(ALICE, NOW_MS)).unwrap();
    // A directory that is away: how much is free there nobody can say. A look at it is believed for 200 ms.
    let away = scene.dir.path().join("away");
    std::fs::rename(scene.log_dir(), &away).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    (0..7).for_each(|n| log.record(&event(ALICE, NOW_MS + n)).unwrap());
    assert_eq!(log.progress().assigned, 2);
    std::fs::rename(&away, scene.log_dir()).unwrap();
    log.record(&event(ALICE, NOW_MS)).unwrap();
    drop(log);
    let entries = scene.entries();
    assert_eq!(entries.len(), 4);
    let lost: serde_json::Value = serde_json::from_slice(&entries[2]).unwrap();
    assert_eq!((&lost["type"], &lost["count"]), (&"events-lost".into(), &7.into()));
    scene.export("export").verify(&[]).unwrap();
}

/// A new log on a full disk is not begun by halves.
#[test]
fn a_log_is_not_begun_without_room() {
    let scene = Scene::new();
    assert_eq!(without_room(&scene, OnFailure::Continue).err().unwrap().kind(), ErrorKind::Unavailable);
    drop(scene.open());
    assert_eq!(scene.entries().len(), 1);
}
