//! Old entries go, their hashes stay: every proof and every checkpoint holds as before, and the log says what went.

use strongroom::ErrorKind;
use strongroom::audit::AuditSink as _;
use strongroom::audit::log::LogOptions;
use strongroom::audit::verify::{Attack, inclusion};

use super::scene::{ALICE, NOW_MS, Scene, event, quick};

#[test]
fn proofs_stay_when_entries_go() {
    let scene = Scene::filled(1000);
    let before = scene.export("before");
    let (proof, leaf) = (scene.reader().inclusion(100, 1000).unwrap(), scene.reader().entry(600).unwrap());
    let log = scene.open();
    // Entry n was written at NOW_MS + n: the first three bundles are old enough, the third just so.
    scene.clock.set(NOW_MS + 10_000);
    let pruned = log.prune(10_000 - 768).unwrap();
    assert_eq!((pruned.from, pruned.to), (0, 768));
    let again = log.prune(10_000 - 768).unwrap();
    assert_eq!(again.from, again.to);
    log.record(&event(ALICE, NOW_MS + 10_000)).unwrap();
    drop(log);
    let reader = scene.reader();
    assert_eq!(reader.entry(600).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(reader.inclusion(100, 1000).unwrap(), proof);
    let of_600 = reader.inclusion(600, 1000).unwrap();
    let leaf = super::naive::leaf(&leaf);
    inclusion(600, 1000, &of_600.root, &leaf, &of_600.proof).unwrap();
    let after = scene.export("after");
    let report = after.verify(&[before.signed()]).unwrap();
    assert_eq!((report.size, report.pruned, report.entries), (1003, 768, 235));
    // And it opens, grows, and is pruned again.
    scene.fill(3000);
    let log = scene.open();
    assert_eq!(log.prune(0).unwrap().to, 2816);
    drop(log);
    let report = scene.export("again").verify(&[before.signed(), after.signed()]).unwrap();
    assert_eq!((report.size, report.pruned), (3002, 2816));
}

/// Guards against passing more off as pruned than was.
#[test]
fn no_more_is_missing_than_the_log_says() {
    let scene = Scene::filled(1000);
    let log = scene.open();
    scene.clock.set(NOW_MS + 10_000);
    assert_eq!(log.prune(10_000 - 256).unwrap().to, 256);
    drop(log);
    let export = scene.export("export");
    export.verify(&[]).unwrap();
    std::fs::remove_file(export.path("tile/entries/001")).unwrap();
    let (attack, message) = export.caught(&[]);
    assert_eq!(attack, Attack::DroppedEntry);
    assert!(message.contains("entries 256 to 511 are missing, and no event says"), "{message}");
}

/// What a log is told to keep for a time goes by itself.
#[test]
fn a_service_prunes_by_itself() {
    let scene = Scene::filled(600);
    scene.clock.set(NOW_MS + 86_400_000);
    let scene = Scene { options: LogOptions { retention_ms: Some(3_600_000), ..quick() }, ..scene };
    let log = scene.open();
    let reader = scene.reader();
    let gone = (0..400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        reader.catch_up().unwrap();
        reader.pruned().unwrap() == 512
    });
    assert!(gone);
    drop(log);
    scene.export("export").verify(&[]).unwrap();
}
