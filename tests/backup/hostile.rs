//! A backup that is not what was written is refused, and nothing is made of it.

use std::fs;
use std::path::{Path, PathBuf};

use strongroom::backup::{Archive, Hash};
use strongroom::{Chunk, CollectionSpec, ErrorKind, Metric, Mode, Store};

use crate::common::cli::walk;
use crate::common::{options, passphrase, store, vector};

const SIZE: usize = 8;

struct World {
    dir: tempfile::TempDir,
    backups: tempfile::TempDir,
}

impl World {
    /// Two backups, and no data.
    async fn new() -> Self {
        let backups = tempfile::tempdir().unwrap();
        let world = store().await;
        let tenant = world.tenant("acme").await;
        for (name, mode) in [("one", Mode::Sealed), ("two", Mode::Plain)] {
            let spec = CollectionSpec::new(SIZE, Metric::Cosine).mode(mode);
            let collection = tenant.create_collection(name, spec).await.unwrap();
            collection.ingest((0..50).map(|i| Chunk::new(i, "text", vector(i, SIZE))).collect()).await.unwrap();
        }
        world.store.backup(backups.path(), |_| ()).await.unwrap();
        tenant.collection("one").unwrap().ingest(vec![Chunk::new(99, "more", vector(99, SIZE))]).await.unwrap();
        drop(tenant);
        world.store.backup(backups.path(), |_| ()).await.unwrap();
        let dir = world.close().await;
        fs::remove_dir_all(dir.path().join("data")).unwrap();
        Self { dir, backups }
    }

    fn path(&self) -> &Path {
        self.backups.path()
    }

    fn manifest(&self, number: u32) -> PathBuf {
        self.path().join(format!("manifests/{number:06}.json"))
    }

    /// The files of the parts of backup 2.
    fn parts(&self) -> Vec<PathBuf> {
        let manifest = Archive::open(self.path()).unwrap().manifest(2).unwrap();
        let names = manifest.claimed().parts().map(|part| part.sha256.to_string());
        names.map(|name| self.path().join("parts").join(&name[..2]).join(name)).collect()
    }

    async fn restore(&self) -> strongroom::Result<strongroom::store::RestoreReport> {
        Store::restore(options(self.dir.path()), Some(passphrase()), self.path(), Some(2), |_| ()).await
    }

    /// Refused, with nothing that looks like a store or remains of one.
    async fn refused(&self, what: &str) {
        let refused = self.restore().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Integrity, "{what}: {refused}");
        assert!(refused.remedy().is_some());
        let left: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["keys"], "{what}");
    }
}

#[tokio::test]
async fn a_changed_byte_in_any_file() {
    let world = World::new().await;
    let archive = Archive::open(world.path()).unwrap();
    let mut files = world.parts();
    assert!(files.len() > 5);
    files.push(world.manifest(2));
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&file, &changed).unwrap();
            world.refused(&format!("{} byte {at}", file.display())).await;
            assert_eq!(archive.verify(None, |_| ()).unwrap_err().kind(), ErrorKind::Integrity);
        }
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        world.refused("shortened").await;
        fs::write(&file, [&bytes[..], &[0]].concat()).unwrap();
        world.refused("lengthened").await;
        fs::write(&file, &bytes).unwrap();
    }
    archive.verify(None, |_| ()).unwrap();
    assert!(world.restore().await.unwrap().is_clean());
}

#[tokio::test]
async fn dropped_and_swapped_files() {
    let world = World::new().await;
    let parts = world.parts();
    for part in &parts {
        let away = world.dir.path().with_extension("away");
        fs::rename(part, &away).unwrap();
        world.refused("dropped").await;
        fs::rename(&away, part).unwrap();
    }
    let [first, second] = [&parts[0], &parts[1]].map(|part| fs::read(part).unwrap());
    fs::write(&parts[0], &second).unwrap();
    fs::write(&parts[1], &first).unwrap();
    world.refused("swapped").await;
    fs::write(&parts[0], &first).unwrap();
    fs::write(&parts[1], &second).unwrap();
    let [one, two] = [1, 2].map(|number| fs::read(world.manifest(number)).unwrap());
    fs::write(world.manifest(2), &one).unwrap();
    world.refused("the manifest of another backup").await;
    fs::write(world.manifest(2), &two).unwrap();
    assert!(world.restore().await.unwrap().is_clean());
}

/// Who knows the format can make the hashes fit, but not the MAC.
#[tokio::test]
async fn a_forged_manifest() {
    let world = World::new().await;
    let [one, two] = [1, 2].map(|number| fs::read_to_string(world.manifest(number)).unwrap());
    let line = |text: &str, n: usize| text.lines().nth(n).unwrap().to_owned();
    let mac = |text: &str| serde_json::from_str::<serde_json::Value>(&line(text, 1)).unwrap()["mac"].clone();
    let forged = |body: String, mac: &serde_json::Value| {
        let hash = Hash::of(body.as_bytes());
        fs::write(world.manifest(2), format!("{body}\n{{\"sha256\":\"{hash}\",\"mac\":{mac}}}\n")).unwrap();
    };
    // The first backup as the second one.
    forged(line(&one, 0).replace("\"number\":1", "\"number\":2"), &mac(&one));
    Archive::open(world.path()).unwrap().verify(Some(2), |_| ()).unwrap();
    world.refused("renumbered").await;
    forged(line(&two, 0).replace("\"head\":2", "\"head\":3"), &mac(&two));
    world.refused("another head").await;
    fs::write(world.manifest(2), &two).unwrap();
    assert!(world.restore().await.unwrap().is_clean());
}

/// Nothing in it says anything: see also `plaintext_hunt`.
#[tokio::test]
async fn no_name_and_no_text_is_in_it() {
    let world = World::new().await;
    for file in walk(world.path()).iter().filter(|path| path.is_file()) {
        let bytes = fs::read(file).unwrap();
        for word in ["acme", "more", "tenants/"] {
            assert!(!bytes.windows(word.len()).any(|w| w == word.as_bytes()), "{word} in {}", file.display());
        }
    }
}
