//! A witness signs what continues what it saw, and its signature is published with the checkpoint.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use strongroom::audit::AuditSink as _;
use strongroom::audit::checkpoint::{SignatureLine, SignedCheckpoint};
use strongroom::audit::log::{LogOptions, Witness};
use strongroom::audit::tree::Hash;
use strongroom::audit::verify::{Attack, Signed, consistency};
use strongroom::{Error, Result};

use super::scene::{ALICE, NOW_MS, Scene, event, quick};

/// Remembers the last size and root, and signs what continues them.
#[derive(Default)]
struct Careful(Mutex<Option<(u64, Hash)>>);

fn line(name: &str) -> SignatureLine {
    SignatureLine::parse(&format!("\u{2014} {name} {}", BASE64_STANDARD.encode([1, 2, 3, 4, 5]))).unwrap()
}

impl Witness for Careful {
    fn cosign(
        &self,
        signed: &SignedCheckpoint,
        prove: &dyn Fn(u64) -> Result<Vec<Hash>>,
    ) -> Result<Vec<SignatureLine>> {
        let mut last = self.0.lock();
        let now = &signed.checkpoint;
        if let Some((size, root)) = *last {
            consistency(size, now.size, &root, &now.root, &prove(size)?)?;
        }
        *last = Some((now.size, now.root));
        Ok(vec![line("witness.example/w1")])
    }
}

/// One that cannot be reached.
struct Away;

impl Witness for Away {
    fn cosign(&self, _: &SignedCheckpoint, _: &dyn Fn(u64) -> Result<Vec<Hash>>) -> Result<Vec<SignatureLine>> {
        Err(Error::new(strongroom::ErrorKind::Unavailable, "the witness is away"))
    }
}

#[test]
fn witnesses_see_every_checkpoint_and_sign_it() {
    let careful = Arc::new(Careful::default());
    let witnesses: Vec<Arc<dyn Witness>> = vec![Arc::new(Away), careful.clone()];
    let scene = Scene::with(LogOptions { witnesses, ..quick() });
    let log = scene.open();
    for round in 1..=5 {
        (0..200).for_each(|n| log.record(&event(ALICE, NOW_MS + n)).unwrap());
        assert_eq!(log.publish().unwrap().published, 200 * round + 1);
        assert_eq!(careful.0.lock().unwrap().0, 200 * round + 1);
    }
    drop(log);
    assert_eq!(scene.export("export").verify(&[]).unwrap().witnesses, ["witness.example/w1"]);
}

/// One without a network signs a file that somebody carries.
#[test]
fn signatures_can_be_added_afterwards() {
    let scene = Scene::filled(300);
    let reader = scene.reader();
    let note = reader.checkpoint().unwrap().to_string();
    reader.add_cosignatures(&format!("{note}{}", line("witness.example/w2"))).unwrap();
    reader.add_cosignatures(&line("witness.example/w3").to_string()).unwrap();
    let export = scene.export("export");
    assert_eq!(export.verify(&[]).unwrap().witnesses, ["witness.example/w2", "witness.example/w3"]);
    // Not under another checkpoint than was signed.
    let other = note.replacen("\n300\n", "\n299\n", 1);
    assert!(scene.reader().add_cosignatures(&other).is_err());
    // With the next checkpoint they are history.
    scene.fill(400);
    assert!(scene.export("later").verify(&[]).unwrap().witnesses.is_empty());
    let later = Signed::verify(&scene.reader().checkpoint().unwrap().to_string(), &scene.key());
    assert_eq!(later.map_err(|finding| finding.attack), Ok::<_, Attack>(scene.export("again").signed()));
}
