//! Guards against a sidecar that fails or grows under full load. `STRONGROOM_SOAK_S` says how long that is looked at.
//!
//! Apart from other tests of the sidecar: what is looked at is the memory of the whole process.

#[allow(dead_code, reason = "the tests of the sidecar use the rest")]
#[path = "common/mem_kv.rs"]
mod mem_kv;
#[allow(dead_code, reason = "the tests of the sidecar use the rest")]
#[path = "sidecar/scene.rs"]
mod scene;
#[allow(dead_code, reason = "the tests of the sidecar use the rest")]
#[path = "sidecar/serving.rs"]
mod serving;
#[allow(dead_code, reason = "the tests of the key service use the rest")]
#[path = "kms/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom::audit::Discard;
use strongroom::keys::Profile;
use strongroom::sidecar::SidecarOptions;
use strongroom::token::Form;

use crate::scene::{Scene, TEXT, sidecar};
use crate::serving::{Running, client};

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
    // The process is small: what the allocator keeps in hand would weigh much otherwise.
    assert!(end < warm + warm / 10 + (4 << 10), "{warm} KiB, then {end} KiB");
    running.end().await;
}
