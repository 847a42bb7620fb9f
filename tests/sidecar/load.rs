//! At too much load: "busy, retry after", which passes.

use std::time::{Duration, Instant};

use strongroom::ErrorKind;
use strongroom::crypto::default_provider;
use strongroom::keys::Profile;
use strongroom::sidecar::SidecarOptions;
use strongroom::token::Holder;

use crate::scene::{Scene, meet, node};

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
