//! Guards against another root key that loses what was sealed before it, an earlier one that is destroyed too early or
//! never, and one that only seems to be gone: in a file, in a PKCS#11 3.2 token, and wrapped by an older one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/token.rs"]
mod token;

#[path = "root_rotation/commands.rs"]
mod commands;
#[path = "root_rotation/copies.rs"]
mod copies;
#[path = "root_rotation/older_files.rs"]
mod older_files;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cryptoki::object::Attribute;
use serde_json::json;
use strongroom::clock::ManualClock;
use strongroom::keys::keystore::custody::CustodyKind;
use strongroom::keys::keystore::pkcs11::TokenConfig;
use strongroom::keys::{EpochState, RootKeyState, TenantRecord};
use strongroom::rotation::RotationStatus;
use strongroom::{
    Chunk, CollectionSpec, Epoch, ErrorKind, Memory, Metric, Mode, Namespace, RecordId, RotateOptions, Store,
    StoreOptions, Tenant, TenantId,
};

use common::passphrase;
use token::{KRYOPTIC, SOFTHSM, in_own_process, pin};

const NOW_MS: u64 = 1_795_521_600_000;
const DAY_MS: u64 = 86_400_000;
const RECORDS: u64 = 120;

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn epoch(number: u32) -> Epoch {
    Epoch::try_from(number).unwrap()
}

fn root_key() -> RotateOptions {
    RotateOptions { root_key: true, ..RotateOptions::default() }
}

fn compromised() -> RotateOptions {
    RotateOptions { compromised: true, ..root_key() }
}

fn notes() -> Namespace {
    Namespace::new(["notes"]).unwrap()
}

/// A store, and where its keys are.
struct Test {
    store: Store,
    options: StoreOptions,
    token: Option<TokenConfig>,
    clock: ManualClock,
    dir: PathBuf,
    _dir: tempfile::TempDir,
}

impl Test {
    async fn new(token: Option<TokenConfig>) -> Self {
        let whole = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW_MS);
        let mut config = common::config();
        if let Some(token) = &token {
            config.keystore = if token.label == SOFTHSM { CustodyKind::Pkcs11Wrapped } else { CustodyKind::Pkcs11 };
            config.pkcs11_module = token.module.clone();
            config.pkcs11_token = token.label.clone();
        }
        let options = common::options(whole.path()).clock(clock.clone()).config(config);
        let secret = || if token.is_some() { pin() } else { passphrase() };
        Store::init(&options, secret()).await.unwrap();
        let store = Store::open(options.clone(), secret()).await.unwrap();
        Self { store, options, token, clock, dir: whole.path().to_owned(), _dir: whole }
    }

    async fn reopen(self) -> Self {
        self.store.close().await.unwrap();
        let secret = if self.token.is_some() { pin() } else { passphrase() };
        let store = Store::open(self.options.clone(), secret).await.unwrap();
        Self { store, ..self }
    }

    async fn keys(&self, tenant: &TenantId) -> TenantRecord {
        self.store.tenant_keys(tenant).await.unwrap()
    }

    async fn rotate(&self, options: RotateOptions) -> RotationStatus {
        self.store.rotate(&acme(), options, |_| ()).await.unwrap()
    }

    /// How many root keys there are in the token, if there is one: as anybody sees it who knows the PIN.
    fn roots_in_token(&self) -> Option<usize> {
        let token = self.token.as_ref()?;
        let session = token::session(token);
        let label = Attribute::Label(b"strongroom root".to_vec());
        let found = session.find_objects(&[Attribute::Token(true), label]).unwrap();
        let ids: std::collections::BTreeSet<Vec<u8>> = found
            .into_iter()
            .map(|object| {
                let id = session.get_attributes(object, &[cryptoki::object::AttributeType::Id]).unwrap();
                let [Attribute::Id(id)] = id.as_slice() else { panic!("an object without an id") };
                id.clone()
            })
            .collect();
        Some(ids.len())
    }
}

async fn fill(tenant: &Tenant, from: u64) {
    let collection = match tenant.collection("docs") {
        Ok(collection) => collection,
        Err(_) => {
            let spec = CollectionSpec { mode: Mode::Sealed, ..CollectionSpec::new(3, Metric::Dot) };
            tenant.create_collection("docs", spec).await.unwrap()
        }
    };
    let chunk = |n: u64| Chunk::new(n, format!("text {n}"), vec![n as f32, 1.0, 0.5]);
    collection.ingest((from..from + RECORDS).map(chunk).collect()).await.unwrap();
    for n in from..from + RECORDS {
        tenant.remember(Memory::new(notes(), format!("k{n}"), &json!(n)).unwrap()).await.unwrap();
    }
}

async fn reads(tenant: &Tenant, records: u64) {
    let found = tenant.collection("docs").unwrap().get((0..records).map(RecordId::from).collect()).await.unwrap();
    assert_eq!(found.len() as u64, records);
    assert!(found.iter().all(|chunk| chunk.text == format!("text {}", chunk.id)));
    for n in 0..records {
        let item = tenant.memory(&notes(), &format!("k{n}")).unwrap().unwrap();
        assert_eq!(item.value::<u64>().unwrap(), n);
    }
}

fn roots(record: &TenantRecord) -> Vec<(RootKeyState, Vec<u32>)> {
    record.root_keys.iter().map(|r| (r.state, r.epochs.iter().map(|e| e.as_u32()).collect())).collect()
}

async fn is_clean(store: &Store) {
    let report = store.tenant(&acme()).await.unwrap().verify(|_| ()).await.unwrap();
    assert!(report.is_clean(), "{}", serde_json::to_string(&report).unwrap());
}

/// The whole life of a root key, with a tenant beside it that nothing happens to.
async fn lives_and_goes(token: Option<TokenConfig>) {
    use RootKeyState::{Active, Deactivated, Destroyed};
    let test = Test::new(token).await;
    let tenant = test.store.create_tenant(&acme()).await.unwrap();
    let other: TenantId = "other".parse().unwrap();
    let others = test.store.create_tenant(&other).await.unwrap();
    fill(&tenant, 0).await;
    fill(&others, 0).await;
    let (before, theirs) = (test.keys(&acme()).await, test.keys(&other).await);
    // The store's own, and one of each tenant.
    let held = test.roots_in_token();
    assert!(held.is_none_or(|held| held == 3), "{held:?}");

    // Read while it happens.
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = {
        let (tenant, stop, rounds) = (tenant.clone(), stop.clone(), rounds.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                reads(&tenant, RECORDS).await;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let status = test.rotate(root_key()).await;
    let seen = rounds.load(Ordering::Relaxed);
    while rounds.load(Ordering::Relaxed) < seen + 2 && !reader.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    assert_eq!((status.active.epoch, status.records), (epoch(2), 2 * RECORDS));
    let record = test.keys(&acme()).await;
    assert_eq!(roots(&record), [(Deactivated, vec![1]), (Active, vec![2])]);
    assert_eq!(status.root_keys, record.root_keys);
    assert_ne!(record.root_fingerprint, before.root_fingerprint);
    assert_ne!(record.certificate_fingerprint, before.certificate_fingerprint);
    assert_eq!(record.signing_fingerprint, before.signing_fingerprint);
    assert!(test.roots_in_token().is_none_or(|held| held == 4));
    fill(&tenant, RECORDS).await;
    reads(&tenant, 2 * RECORDS).await;
    drop((tenant, others));

    // Not before its time, also after another rotation and a new start.
    test.clock.set(NOW_MS + 6 * DAY_MS);
    assert!(test.store.destroy_retained(&acme()).await.unwrap().is_empty());
    let test = test.reopen().await;
    let tenant = test.store.tenant(&acme()).await.unwrap();
    test.rotate(RotateOptions::default()).await;
    assert_eq!(roots(&test.keys(&acme()).await), [(Deactivated, vec![1]), (Active, vec![2, 3])]);
    reads(&tenant, 2 * RECORDS).await;

    // Its last epoch's time is over.
    test.clock.set(NOW_MS + 7 * DAY_MS);
    assert_eq!(test.store.destroy_retained(&acme()).await.unwrap().len(), 1);
    let record = test.keys(&acme()).await;
    assert_eq!(roots(&record), [(Destroyed, vec![]), (Active, vec![2, 3])]);
    assert_eq!(record.root_keys[0].fingerprint, before.root_fingerprint);
    assert!(test.roots_in_token().is_none_or(|held| held == 3), "it is in the token no more");
    reads(&tenant, 2 * RECORDS).await;
    is_clean(&test.store).await;
    drop(tenant);
    let test = test.reopen().await;
    reads(&test.store.tenant(&acme()).await.unwrap(), 2 * RECORDS).await;
    assert_eq!(test.keys(&other).await, theirs);
    reads(&test.store.tenant(&other).await.unwrap(), RECORDS).await;

    // All of them go with the tenant.
    test.rotate(root_key()).await;
    test.store.shred_tenant(&acme()).await.unwrap();
    assert!(test.roots_in_token().is_none_or(|held| held == 2), "{:?}", test.roots_in_token());
    reads(&test.store.tenant(&other).await.unwrap(), RECORDS).await;
    test.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_in_a_file_lives_and_goes() {
    lives_and_goes(None).await;
}

fn in_token(name: &str, test: impl Future<Output = ()>) {
    in_own_process(name, || {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
    });
}

#[test]
fn a_root_key_in_a_token_lives_and_goes() {
    in_token("a_root_key_in_a_token_lives_and_goes", async { lives_and_goes(Some(token::kryoptic(KRYOPTIC))).await });
}

#[test]
fn a_root_key_wrapped_by_a_token_lives_and_goes() {
    in_token("a_root_key_wrapped_by_a_token_lives_and_goes", async {
        lives_and_goes(Some(token::softhsm(SOFTHSM))).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_may_be_known_goes_at_once_with_all_its_epochs() {
    use RootKeyState::{Active, Destroyed};
    let test = Test::new(None).await;
    let tenant = test.store.create_tenant(&acme()).await.unwrap();
    fill(&tenant, 0).await;
    test.rotate(RotateOptions::default()).await;
    let status = test.rotate(compromised()).await;
    assert!(status.retained.is_empty(), "{status:?}");
    let record = test.keys(&acme()).await;
    let states: Vec<_> = record.epochs.iter().map(|epoch| epoch.state).collect();
    assert_eq!(states, [EpochState::Destroyed, EpochState::Destroyed, EpochState::Active]);
    assert_eq!(roots(&record), [(Destroyed, vec![]), (Active, vec![3])]);
    reads(&tenant, RECORDS).await;
    // An ordinary one is kept, and goes with a later one whose key may be known; but not with the epochs of others.
    test.rotate(root_key()).await;
    test.rotate(root_key()).await;
    test.rotate(compromised()).await;
    let record = test.keys(&acme()).await;
    assert_eq!(
        roots(&record)[1..],
        [
            (RootKeyState::Deactivated, vec![3]),
            (RootKeyState::Deactivated, vec![4]),
            (Destroyed, vec![]),
            (Active, vec![6])
        ]
    );
    reads(&tenant, RECORDS).await;
    is_clean(&test.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rotation_is_finished_and_then_the_root_key_is_another() {
    let test = Test::new(None).await;
    let tenant = test.store.create_tenant(&acme()).await.unwrap();
    for from in 0..8 {
        fill(&tenant, from * RECORDS).await;
    }
    let stopping = test.store.clone();
    let told = move |status: &RotationStatus| {
        if status.records > 0 {
            stopping.stop_rotations();
        }
    };
    let stopped = test.store.rotate(&acme(), RotateOptions::default(), told).await.err().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Partial);
    drop(tenant);
    let test = test.reopen().await;
    let status = test.rotate(root_key()).await;
    assert_eq!(status.active.epoch, epoch(3));
    let record = test.keys(&acme()).await;
    assert_eq!(roots(&record), [(RootKeyState::Deactivated, vec![1, 2]), (RootKeyState::Active, vec![3])]);
    reads(&test.store.tenant(&acme()).await.unwrap(), 8 * RECORDS).await;
    is_clean(&test.store).await;

    // One with another root key that is interrupted makes one.
    let stopping = test.store.clone();
    let told = move |_: &RotationStatus| stopping.stop_rotations();
    let stopped = test.store.rotate(&acme(), root_key(), told).await.err().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Partial);
    let test = test.reopen().await;
    test.rotate(root_key()).await;
    let record = test.keys(&acme()).await;
    assert_eq!((record.root_keys.len(), record.active().unwrap().epoch), (3, epoch(4)), "{record:?}");
    reads(&test.store.tenant(&acme()).await.unwrap(), 8 * RECORDS).await;
    is_clean(&test.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_names_both_keys() {
    let test = Test::new(None).await;
    fill(&test.store.create_tenant(&acme()).await.unwrap(), 0).await;
    let before = test.keys(&acme()).await;
    test.rotate(compromised()).await;
    let after = test.keys(&acme()).await;
    let log = common::audit::lines(&test.dir.join("keys"));
    let events: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let prints = |kind: &str| -> Vec<(String, serde_json::Value)> {
        let of_kind = events.iter().filter(|event| event["type"] == kind);
        of_kind.map(|event| (event["outcome"].as_str().unwrap().to_owned(), event["fingerprints"].clone())).collect()
    };
    let (old, new) = (before.root_fingerprint.to_string(), after.root_fingerprint.to_string());
    let certificate = after.certificate_fingerprint.to_string();
    assert_eq!(
        prints("root-key-rotated"),
        [("begun".into(), json!([old])), ("done".into(), json!([old, new, certificate]))]
    );
    assert_eq!(prints("root-key-destroyed"), [("begun".into(), json!([old])), ("done".into(), json!([old, new]))]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
