//! A log that is closed, opened, and read along is the same log; what it signs never goes back.

use std::time::Duration;

use strongroom::ErrorKind;
use strongroom::audit::AuditSink as _;
use strongroom::audit::log::LogOptions;
use strongroom::audit::verify::Signed;
use strongroom::crypto::Signature;

use super::scene::{ALICE, NOW_MS, Scene, event, quick};

#[test]
fn entries_are_the_events_in_their_order() {
    let scene = Scene::with(LogOptions { service: Some("store-1".into()), ..quick() });
    let log = scene.open();
    for n in 0..1000 {
        assert_eq!(log.append(&event(ALICE, NOW_MS + n)).unwrap().index(), n + 2);
    }
    drop(log);
    let entries = scene.entries();
    let texts: Vec<_> = entries.iter().map(|entry| std::str::from_utf8(entry).unwrap()).collect();
    assert_eq!(texts.len(), 1003);
    assert!(texts[0].starts_with("{\"v\":1,\"at_ms\":1800000000000,\"service\":\"store-1\",\"type\":\"log-begun\""));
    assert!(texts[1].contains("\"type\":\"log-opened\",\"entries\":0,"), "{}", texts[1]);
    assert!(texts[2].contains("\"type\":\"refused\",\"reason\":\"scope\""), "{}", texts[2]);
    assert!(texts[1002].contains("\"type\":\"log-closed\""), "{}", texts[1002]);
    for text in texts {
        let event: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!((&event["v"], text.matches("\"v\":").count()), (&1.into(), 1));
    }
}

#[test]
fn a_log_goes_on_where_it_was() {
    let scene = Scene::with(LogOptions::default());
    let mut earlier: Vec<Signed> = Vec::new();
    for round in 1..=4 {
        scene.fill(300 * round);
        let export = scene.export(&format!("export-{round}"));
        assert_eq!(export.verify(&earlier).unwrap().size, 300 * round);
        earlier.push(export.signed());
    }
    assert_eq!(scene.options.algorithm, Signature::SlhDsaSha2_128s);
    // Nothing new, nothing signed.
    let note = scene.reader().checkpoint().unwrap().to_string();
    scene.fill(1200);
    assert_eq!(scene.reader().checkpoint().unwrap().to_string(), note);
    assert_eq!(std::fs::read_to_string(scene.log_dir().join("checkpoint")).unwrap(), note);
}

#[test]
fn who_reads_along_sees_what_is_written() {
    let scene = Scene::with(LogOptions { checkpoint_ms: 50, ..quick() });
    let log = scene.open();
    let reader = scene.reader();
    for n in 0..500 {
        log.record(&event(ALICE, NOW_MS + n)).unwrap();
        if n % 50 == 0 {
            reader.catch_up().unwrap();
            assert_eq!(reader.progress().unwrap().assigned, n + 2);
            assert_eq!(reader.entry(n + 1).unwrap(), scene.reader().entry(n + 1).unwrap());
        }
    }
    // Integrated and published without anybody asking.
    let published = (0..400).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        reader.catch_up().unwrap();
        reader.progress().unwrap().published == 501
    });
    assert!(published, "{:?}", log.progress());
    // Nobody else writes meanwhile.
    assert_eq!(scene.try_open().err().unwrap().kind(), ErrorKind::Busy);
    drop(log);
    drop(scene.open());
}

#[test]
fn many_writers_share_a_log() {
    let scene = Scene::new();
    let log = scene.open();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..200 {
                    log.record(&event(&format!("{writer:032}"), n)).unwrap();
                }
            });
        }
    });
    assert_eq!(log.publish().unwrap().published, 1601);
    drop(log);
    scene.export("export").verify(&[]).unwrap();
    let entries = scene.entries();
    for writer in 0..8 {
        let own = entries.iter().filter(|entry| String::from_utf8_lossy(entry).contains(&format!("{writer:032}")));
        let times: Vec<u64> = own
            .map(|entry| serde_json::from_slice::<serde_json::Value>(entry).unwrap()["at_ms"].as_u64().unwrap())
            .collect();
        assert_eq!(times, (0..200).collect::<Vec<_>>());
    }
}
