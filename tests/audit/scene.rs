//! A log in a temporary directory, its export, and everything that an attacker who has the disk can do to either.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom::audit::checkpoint::{Checkpoint, SignedCheckpoint};
use strongroom::audit::export::export;
use strongroom::audit::log::{KeyKeeper, Log, LogOptions, Reader};
use strongroom::audit::verify::{Attack, Failure, PublicKey, Report, Signed, directory};
use strongroom::audit::{AuditSink as _, Event, Outcome, Reason, What};
use strongroom::clock::ManualClock;
use strongroom::crypto::{Signature, SigningKey, default_provider};
use strongroom::secret::SecretBytes;

use super::naive;

pub const NOW_MS: u64 = 1_800_000_000_000;
pub const ALICE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub const BOB: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

pub fn event(tenant: &str, at_ms: u64) -> Event {
    Event::new(at_ms, "store-1", What::Refused { reason: Reason::Scope }, Outcome::Refused).tenant(tenant)
}

/// Options whose signatures cost little.
pub fn quick() -> LogOptions {
    LogOptions { algorithm: Signature::MlDsa87, ..LogOptions::default() }
}

pub struct Scene {
    pub dir: tempfile::TempDir,
    pub clock: ManualClock,
    pub options: LogOptions,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(quick())
    }

    pub fn with(options: LogOptions) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: ManualClock::at(NOW_MS), options }
    }

    /// A log with so many entries, all published, two in three of one tenant.
    pub fn filled(entries: u64) -> Self {
        let scene = Self::new();
        scene.fill(entries);
        scene
    }

    pub fn fill(&self, entries: u64) {
        let log = self.open();
        for n in log.progress().assigned..entries {
            log.record(&event(if n % 3 == 0 { BOB } else { ALICE }, NOW_MS + n)).unwrap();
        }
        assert_eq!(log.publish().unwrap().published, entries);
    }

    pub fn log_dir(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    pub fn try_open(&self) -> strongroom::Result<Log> {
        Log::open(&self.log_dir(), KeyKeeper::File, self.options.clone(), Arc::new(self.clock.clone()))
    }

    pub fn open(&self) -> Log {
        self.try_open().unwrap()
    }

    pub fn reader(&self) -> Reader {
        Reader::open(&self.log_dir()).unwrap()
    }

    pub fn key(&self) -> PublicKey {
        PublicKey::parse(&self.reader().key().text(default_provider())).unwrap()
    }

    /// The key as one who broke into the process has it.
    pub fn stolen(&self) -> Box<dyn SigningKey> {
        let kept = std::fs::read(self.log_dir().join("log.key")).unwrap();
        default_provider().signing_key(self.options.algorithm, &SecretBytes::new(kept[2..].to_vec())).unwrap()
    }

    /// A checkpoint of any entries, signed by `key`.
    pub fn forge(&self, entries: &[Vec<u8>], key: &dyn SigningKey) -> String {
        let leaves: Vec<_> = entries.iter().map(|entry| naive::leaf(entry)).collect();
        let origin = self.reader().key().name().to_owned();
        let checkpoint = Checkpoint { origin, size: leaves.len() as u64, root: naive::root(&leaves) };
        SignedCheckpoint::sign(checkpoint, key, default_provider()).unwrap().to_string()
    }

    pub fn entries(&self) -> Vec<Vec<u8>> {
        self.reader().entries(0, u64::MAX).unwrap().map(|row| row.unwrap().1.into_vec()).collect()
    }

    pub fn export(&self, name: &str) -> Export {
        let dir = self.dir.path().join(name);
        export(&self.reader(), &dir, |_| ()).unwrap();
        Export { dir, key: self.key() }
    }
}

/// An export, and what is verified of it.
pub struct Export {
    pub dir: PathBuf,
    pub key: PublicKey,
}

impl Export {
    pub fn verify(&self, earlier: &[Signed]) -> Result<Report, Failure> {
        directory(&self.dir, &self.key, earlier, |_| ())
    }

    /// What the verifier says: which attack, and in which words.
    #[track_caller]
    pub fn caught(&self, earlier: &[Signed]) -> (Attack, String) {
        match self.verify(earlier) {
            Err(Failure::Found(finding)) => (finding.attack, finding.message),
            other => panic!("not caught: {other:?}"),
        }
    }

    pub fn checkpoint(&self) -> String {
        std::fs::read_to_string(self.dir.join("checkpoint")).unwrap()
    }

    pub fn set_checkpoint(&self, note: &str) {
        std::fs::write(self.dir.join("checkpoint"), note).unwrap();
    }

    pub fn signed(&self) -> Signed {
        Signed::verify(&self.checkpoint(), &self.key).unwrap()
    }

    /// Puts other entries in place of those that are there, and leaves the tree.
    pub fn set_entries(&self, entries: &[Vec<u8>]) {
        std::fs::remove_dir_all(self.dir.join("tile/entries")).unwrap();
        naive::write_entries(&self.dir, entries);
    }

    /// Puts other entries and their tree in place of those that are there.
    pub fn rewrite(&self, entries: &[Vec<u8>]) {
        std::fs::remove_dir_all(self.dir.join("tile")).unwrap();
        naive::write_export(&self.dir, entries);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Changes one bit of a file.
pub fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
