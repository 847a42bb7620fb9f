//! Every attack on a log is caught, and called by its name.

use std::io::Write as _;

use strongroom::audit::export::export_view;
use strongroom::audit::verify::{Attack, Failure, Signed, view};
use strongroom::crypto::{Signature, default_provider};
use strongroom::secret::SecretBytes;

use super::naive;
use super::scene::{ALICE, BOB, Export, Scene, flip};

/// More than two bundles, and one that is not whole.
const ENTRIES: u64 = 700;

fn scene() -> (Scene, Export, Vec<Vec<u8>>) {
    let scene = Scene::filled(ENTRIES);
    let (export, entries) = (scene.export("export"), scene.entries());
    (scene, export, entries)
}

#[test]
fn an_untouched_export_is_sound() {
    let (_scene, export, _) = scene();
    let report = export.verify(&[export.signed()]).unwrap();
    assert_eq!((report.size, report.entries, report.pruned), (ENTRIES, ENTRIES, 0));
    assert_eq!(report.continues, [ENTRIES]);
}

#[test]
fn a_changed_entry() {
    for index in [0, 255, 256, 699] {
        let (_scene, export, mut entries) = scene();
        let last = entries[index].len() - 3;
        entries[index][last] ^= 1;
        export.set_entries(&entries);
        let (attack, message) = export.caught(&[]);
        assert_eq!(attack, Attack::ChangedEntry, "{message}");
        assert!(message.contains(&format!("entry {index} ")), "{message}");
    }
}

#[test]
fn a_dropped_entry() {
    for index in [0, 255, 300, 698, 699] {
        let (_scene, export, mut entries) = scene();
        entries.remove(index);
        // The last bundle keeps its name, or its lack would be noticed first.
        export.set_entries(&entries);
        let (short, whole) = (export.path("tile/entries/002.p/187"), export.path("tile/entries/002.p/188"));
        std::fs::rename(short, whole).unwrap();
        let (attack, message) = export.caught(&[]);
        assert_eq!((attack, message), (Attack::DroppedEntry, format!("entry {index} is missing")));
    }
}

#[test]
fn a_dropped_bundle() {
    let (_scene, export, _) = scene();
    std::fs::remove_file(export.path("tile/entries/001")).unwrap();
    let (attack, message) = export.caught(&[]);
    assert_eq!((attack, &message[..]), (Attack::DroppedEntry, "entries 256 to 511 are missing"));
}

/// Whoever removes the beginning may not pass it off as pruned.
#[test]
fn a_dropped_beginning() {
    let (_scene, export, _) = scene();
    std::fs::remove_file(export.path("tile/entries/000")).unwrap();
    let (attack, message) = export.caught(&[]);
    assert_eq!(attack, Attack::DroppedEntry);
    assert!(message.contains("entries 0 to 255 are missing, and no event says that they were pruned"), "{message}");
}

#[test]
fn an_inserted_entry() {
    let (_scene, export, mut entries) = scene();
    entries.insert(300, b"{\"v\":1,\"at_ms\":1,\"type\":\"refused\"}".to_vec());
    export.set_entries(&entries);
    std::fs::rename(export.path("tile/entries/002.p/189"), export.path("tile/entries/002.p/188")).unwrap();
    let (attack, message) = export.caught(&[]);
    assert_eq!((attack, &message[..]), (Attack::InsertedEntry, "entry 300 was not logged there"));
}

#[test]
fn reordered_entries() {
    for (one, other) in [(10, 11), (10, 200), (100, 600)] {
        let (_scene, export, mut entries) = scene();
        entries.swap(one, other);
        export.set_entries(&entries);
        let (attack, message) = export.caught(&[]);
        assert_eq!(attack, Attack::Reordered, "{message}");
        assert!(message.starts_with(&format!("entry {one} is what was logged as entry {other}")), "{message}");
    }
}

#[test]
fn a_truncated_tail() {
    for (left, tree) in [(600, true), (512, true), (256, false), (0, true)] {
        let (_scene, export, entries) = scene();
        export.rewrite(&entries[..left]);
        if !tree {
            std::fs::remove_dir_all(export.path("tile/1")).unwrap();
        }
        let (attack, message) = export.caught(&[]);
        assert_eq!(attack, Attack::Truncated, "{message}");
        assert!(message.contains("of 700 entries") && message.contains(&format!("after {left}")), "{message}");
    }
}

/// The operator puts everything back to an earlier state, checkpoint and all: only who kept a later one notices.
#[test]
fn a_log_that_is_put_back() {
    let (scene, before, _) = scene();
    scene.fill(900);
    let kept = scene.export("later").signed();
    let (attack, message) = before.caught(&[kept]);
    assert_eq!(attack, Attack::Truncated);
    assert!(message.contains("an earlier checkpoint is of 900 entries, this one of 700"), "{message}");
}

#[test]
fn a_forked_log() {
    let (scene, export, mut entries) = scene();
    let shown_to_one = export.signed();
    entries[350] = entries[349].clone();
    // The operator signs both histories with the right key.
    export.rewrite(&entries);
    export.set_checkpoint(&scene.forge(&entries, &*scene.stolen()));
    export.verify(&[]).unwrap();
    let (attack, message) = export.caught(std::slice::from_ref(&shown_to_one));
    assert_eq!(attack, Attack::Forked, "{message}");
    // The same when the other history has grown since.
    entries.extend_from_slice(&entries.clone()[..100]);
    export.rewrite(&entries);
    export.set_checkpoint(&scene.forge(&entries, &*scene.stolen()));
    export.verify(&[]).unwrap();
    let (attack, message) = export.caught(&[shown_to_one]);
    assert_eq!((attack, message.contains("first 700 entries")), (Attack::Forked, true), "{message}");
}

#[test]
fn a_rewritten_log_with_the_old_checkpoint() {
    let (_scene, export, mut entries) = scene();
    entries[350] = entries[349].clone();
    export.rewrite(&entries);
    let (attack, message) = export.caught(&[]);
    assert_eq!(attack, Attack::Rewritten);
    assert!(message.contains("fit together, and not the checkpoint"), "{message}");
}

#[test]
fn a_checkpoint_by_the_wrong_key() {
    for algorithm in [Signature::MlDsa87, Signature::SlhDsaSha2_128s] {
        let (scene, export, mut entries) = scene();
        let seed = SecretBytes::random(algorithm.seed_len()).unwrap();
        let other = default_provider().signing_key(algorithm, &seed).unwrap();
        entries[350] = entries[349].clone();
        export.rewrite(&entries);
        export.set_checkpoint(&scene.forge(&entries, &*other));
        let (attack, message) = export.caught(&[]);
        assert_eq!(attack, Attack::WrongKey);
        assert!(message.contains("not signed by the key of"), "{message}");
    }
}

/// The signature is there, under another text.
#[test]
fn a_changed_checkpoint() {
    let (_scene, export, _) = scene();
    let note = export.checkpoint();
    for changed in [note.replacen("\n700\n", "\n699\n", 1), note.replacen("\n\n", "\nmore\n\n", 1)] {
        export.set_checkpoint(&changed);
        let (attack, message) = export.caught(&[]);
        assert_eq!(attack, Attack::WrongKey);
        assert!(message.contains("does not verify"), "{message}");
    }
    // Signatures by others, before or after, change nothing.
    let (text, own) = note.split_once("\n\n").unwrap();
    export.set_checkpoint(&format!("{text}\n\n\u{2014} witness.example/w AAAAAQID\n{own}"));
    assert_eq!(export.verify(&[]).unwrap().witnesses, ["witness.example/w"]);
}

#[test]
fn a_changed_tree() {
    let (_scene, export, _) = scene();
    flip(&export.path("tile/1/000.p/2"), 40);
    let (attack, message) = export.caught(&[]);
    assert_eq!((attack, message.contains("tile/1/000.p/2")), (Attack::ChangedTree, true), "{message}");
    flip(&export.path("tile/1/000.p/2"), 40);
    flip(&export.path("tile/0/001"), 7);
    let (attack, message) = export.caught(&[]);
    assert_eq!(attack, Attack::ChangedTree, "{message}");
}

#[test]
fn files_of_another_form() {
    let (_scene, export, _) = scene();
    for name in ["tile/0/000", "tile/entries/000", "tile/1/000.p/2", "checkpoint"] {
        let path = export.path(name);
        let right = std::fs::read(&path).unwrap();
        for wrong in [&right[..right.len() - 1], b"", b"\xff\xff", &right.repeat(2)] {
            std::fs::write(&path, wrong).unwrap();
            let (attack, message) = export.caught(&[]);
            let expected = [Attack::Malformed, Attack::DroppedEntry, Attack::InsertedEntry, Attack::WrongKey];
            assert!(expected.contains(&attack), "{name}: {attack:?}: {message}");
        }
        std::fs::write(&path, right).unwrap();
    }
    export.verify(&[]).unwrap();
}

/// A view of one tenant, as a file that can be changed line by line.
struct View {
    lines: Vec<String>,
}

impl View {
    fn of(scene: &Scene, tenant: &str) -> Self {
        let path = scene.dir.path().join(format!("{tenant}.view"));
        export_view(&scene.reader(), tenant, &path, |_| ()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    #[track_caller]
    fn caught(&self, scene: &Scene, tenant: Option<&str>) -> (Attack, String) {
        let mut bytes = Vec::new();
        self.lines.iter().for_each(|line| writeln!(bytes, "{line}").unwrap());
        match view(&bytes[..], &scene.key(), tenant) {
            Err(Failure::Found(finding)) => (finding.attack, finding.message),
            other => panic!("not caught: {other:?}"),
        }
    }
}

#[test]
fn an_entry_of_another_tenant_in_a_view() {
    let scene = Scene::filled(ENTRIES);
    let (mut alice, bob) = (View::of(&scene, ALICE), View::of(&scene, BOB));
    let bytes: Vec<u8> = alice.lines.join("\n").into_bytes();
    let report = view(&bytes[..], &scene.key(), Some(ALICE)).unwrap();
    let own = scene.entries().iter().filter(|entry| String::from_utf8_lossy(entry).contains(ALICE)).count();
    assert_eq!((report.entries, report.size), (own as u64, ENTRIES));
    // With a proof that is right: it is in the log, and it is Bob's.
    let foreign = bob.lines[5].clone();
    let index: u64 = serde_json::from_str::<serde_json::Value>(&foreign).unwrap()["index"].as_u64().unwrap();
    let at =
        alice.lines.iter().skip(1).position(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["index"].as_u64().unwrap() > index
        });
    alice.lines.insert(at.unwrap() + 1, foreign);
    let (attack, message) = alice.caught(&scene, None);
    assert_eq!(
        (attack, message),
        (Attack::ForeignEntry, format!("entry {index} belongs to another tenant, or to none"))
    );
    // A whole view of somebody else.
    assert_eq!(bob.caught(&scene, Some(ALICE)).0, Attack::ForeignEntry);
}

#[test]
fn a_changed_view() {
    let scene = Scene::filled(ENTRIES);
    let mut changed = View::of(&scene, ALICE);
    changed.lines[3] = changed.lines[3].replace("store-1", "store-2");
    assert_eq!(changed.caught(&scene, None).0, Attack::ChangedEntry);
    let mut swapped = View::of(&scene, ALICE);
    swapped.lines.swap(3, 4);
    assert_eq!(swapped.caught(&scene, None).0, Attack::Reordered);
    let mut cut = View::of(&scene, ALICE);
    cut.lines[3].truncate(40);
    assert_eq!(cut.caught(&scene, None).0, Attack::Malformed);
    let mut unsigned = View::of(&scene, ALICE);
    unsigned.lines[0] = unsigned.lines[0].replace("\\n700\\n", "\\n701\\n");
    assert_eq!(unsigned.caught(&scene, None).0, Attack::WrongKey);
}

/// A log on disk whose rows are changed does not open.
#[test]
fn a_log_that_was_tampered_with_does_not_open() {
    let scene = Scene::filled(ENTRIES);
    // Another key in place of its own.
    let key = scene.log_dir().join("log.pub");
    let (right, other) = (std::fs::read(&key).unwrap(), Scene::filled(3));
    std::fs::copy(other.log_dir().join("log.pub"), &key).unwrap();
    let refused = |scene: &Scene| scene.try_open().err().unwrap();
    assert_eq!(refused(&scene).kind(), strongroom::ErrorKind::Integrity);
    // None at all: a new one is not made for a log that has entries.
    std::fs::remove_file(&key).unwrap();
    assert!(refused(&scene).remedy().is_some());
    std::fs::write(&key, right).unwrap();
    drop(scene.open());
    // A checkpoint of another log of the same size in the database's place.
    let bigger = Scene::filled(ENTRIES + 300);
    std::fs::remove_dir_all(scene.log_dir().join("db")).unwrap();
    copy(&bigger.log_dir().join("db"), &scene.log_dir().join("db"));
    assert_eq!(refused(&scene).kind(), strongroom::ErrorKind::Integrity);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn trees_are_written_as_the_log_writes_them() {
    let (scene, export, entries) = scene();
    let ours = scene.dir.path().join("naive");
    naive::write_export(&ours, &entries);
    for path in crate::common::cli::walk(&ours).into_iter().filter(|path| path.is_file()) {
        let name = path.strip_prefix(&ours).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(export.dir.join(name)).unwrap(), "{}", name.display());
    }
    let signed: Signed = export.signed();
    assert_eq!(*signed.root(), naive::root(&entries.iter().map(|e| naive::leaf(e)).collect::<Vec<_>>()));
}
