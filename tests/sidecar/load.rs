//! At full load: no error, no growth, and "busy, retry after" that passes. `STRONGROOM_SOAK_S` says how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom::ErrorKind;
use strongroom::audit::Discard;
use strongroom::crypto::default_provider;
use strongroom::keys::Profile;
use strongroom::sidecar::SidecarOptions;
use strongroom::token::{Form, Holder};

use crate::scene::{Scene, TEXT, meet, node, sidecar};
use crate::transport::{Running, client};

fn soak() -> Duration {
    let seconds = std::env::var("STRONGROOM_SOAK_S").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    Duration::from_secs(seconds)
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn full_load_is_answered_without_an_error_and_without_growth() {
    let scene = Scene::new(Profile::Pure);
    // An audit log in memory would grow with every redeem.
    let with = (SidecarOptions::default(), None);
    let sidecar = sidecar(&scene.world, &scene.kv, Arc::new(Discard), &scene.audience, with);
    let scene = Arc::new(Scene { sidecar, ..scene });
    let running = Running::start(&scene, "node").await;
    let (until, done) = (Instant::now() + soak(), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (scene, done) = (scene.clone(), done.clone());
            let client = client(&running.socket(), Profile::Pure, Form::Sealed);
            tokio::spawn(async move {
                let records = scene.seal(4);
                let holder = client.holder().id().unwrap();
                let mut uses = 0;
                let mut token = Vec::new();
                while Instant::now() < until {
                    if uses % 1000 == 0 {
                        token = scene.mint_for(&holder, &records, 1000);
                    }
                    uses += 1;
                    let redeemed = client.redeem(&token, scene.signer.chain(), &scene.wanted(&records)).await.unwrap();
                    assert!(redeemed.iter().all(|record| record.content.expose_secret() == TEXT));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // Until everything has its size: a quarter of the time.
    tokio::time::sleep(soak() / 4).await;
    let warm = resident_kib();
    for worker in workers {
        worker.await.unwrap();
    }
    let (end, done) = (resident_kib(), done.load(Ordering::Relaxed));
    println!("{done} redeems of 4 records in {:?}, {warm} KiB warm, {end} KiB at the end", soak());
    assert!(done > 100, "{done}");
    assert!(end < warm + warm / 10, "{warm} KiB, then {end} KiB");
    running.end().await;
}

#[test]
fn too_much_is_busy_and_passes() {
    let options = SidecarOptions { tenant_rate: 50, ..SidecarOptions::default() };
    let scene = Scene::with(Profile::Pure, options, None);
    let records = scene.seal(1);
    let token = scene.mint(&records, 100_000);
    let (mut busy, mut answered, mut waited) = (0, 0, 0);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        match scene.redeem(&token, &records) {
            Ok(_) => answered += 1,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
                busy += 1;
                let remedy = e.remedy().unwrap();
                let ms = remedy.strip_prefix("retry after ").and_then(|r| r.strip_suffix(" ms")).unwrap();
                if busy % 10 == 0 {
                    std::thread::sleep(Duration::from_millis(ms.parse().unwrap()));
                    waited += 1;
                    scene.redeem(&token, &records).unwrap();
                }
            }
        }
    }
    assert!(busy > 10 && answered >= 50 && waited > 1, "{busy} {answered} {waited}");
    // Nobody else pays for it.
    let other = Scene::new(Profile::Pure);
    let theirs = other.seal(1);
    other.redeem(&other.mint(&theirs, 1), &theirs).unwrap();
    let thief = Holder::generate(default_provider(), Profile::Pure).unwrap();
    drop((meet(&scene.sidecar, &thief), node()));
}
