//! Guards against a rotation that loses, doubles or hides a record, lets an old key live on, or is noticed by who reads
//! and writes meanwhile.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use strongroom::clock::ManualClock;
use strongroom::config::Config;
use strongroom::keys::EpochState;
use strongroom::rotation::{Phase, RotationStatus};
use strongroom::{
    Chunk, CollectionSpec, Epoch, ErrorKind, Memory, Metric, Mode, Namespace, RecallRequest, RecordId, RotateOptions,
    SearchRequest, Store, Tenant, TenantId,
};

use common::TestStore;

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn epoch(number: u32) -> Epoch {
    Epoch::try_from(number).unwrap()
}

fn compromised() -> RotateOptions {
    RotateOptions { compromised: true, ..RotateOptions::default() }
}

fn chunk(n: u64, text: &str) -> Chunk {
    let angle = n as f32 / 1000.0;
    Chunk::new(n, text, vec![angle.cos(), angle.sin(), 0.5])
}

fn notes(user: u64) -> Namespace {
    Namespace::new(["notes".to_owned(), format!("user {user}")]).unwrap()
}

/// Two collections, and memories in namespaces, with history, embeddings, a deleted one and one that expires.
async fn fill(tenant: &Tenant, records: u64) {
    for (name, mode) in [("sealed", Mode::Sealed), ("plain", Mode::Plain)] {
        let spec = CollectionSpec { mode, ..CollectionSpec::new(3, Metric::Dot) };
        let collection = tenant.create_collection(name, spec).await.unwrap();
        collection.ingest((0..records).map(|n| chunk(n, &format!("text {n}"))).collect()).await.unwrap();
    }
    for n in 0..records {
        let memory = |value: u64| Memory::new(notes(n % 7), format!("k{n}"), &json!(value)).unwrap();
        let versions = if n % 5 == 0 { 3 } else { 1 };
        for version in 1..versions {
            tenant.remember(memory(n * 10 + version)).await.unwrap();
        }
        let last = memory(n * 10);
        let last = if n % 3 == 0 { last.embedding(vec![1.0, n as f32, 0.0]) } else { last };
        tenant.remember(last).await.unwrap();
    }
    tenant.remember(Memory::new(notes(0), "gone", &json!("x")).unwrap()).await.unwrap();
    tenant.forget(&notes(0), "gone", false).await.unwrap();
}

/// That everything is there once, as [`fill`] wrote it.
async fn reads(tenant: &Tenant, records: u64) {
    for name in ["sealed", "plain"] {
        let collection = tenant.collection(name).unwrap();
        assert_eq!(collection.count().await.unwrap() as u64, records);
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let (page, more) = collection.scroll(after, 64).await.unwrap();
            seen.extend(page.iter().map(|chunk| (chunk.id.clone(), chunk.text.clone())));
            after = page.last().map(|chunk| chunk.id.clone());
            if !more {
                break;
            }
        }
        let all: Vec<_> = (0..records).map(|n| (RecordId::from(n), format!("text {n}"))).collect();
        assert_eq!(seen, all, "{name}");
        let hits = collection.search(SearchRequest::new(vec![1.0, 0.0, 0.0], 5)).await.unwrap();
        let ids: Vec<_> = hits.iter().map(|hit| hit.id.to_string()).collect();
        assert_eq!(ids, ["0", "1", "2", "3", "4"], "{name}");
    }
    for n in 0..records {
        let item = tenant.memory(&notes(n % 7), &format!("k{n}"));
        let item = item.unwrap().unwrap();
        assert_eq!(item.value::<u64>().unwrap(), n * 10);
        let versions = tenant.memory_history(&notes(n % 7), &format!("k{n}")).await.unwrap();
        assert_eq!(versions.len(), if n % 5 == 0 { 3 } else { 1 }, "k{n}");
    }
    assert_eq!(tenant.memory_history(&notes(0), "gone").await.unwrap().len(), 2);
    assert!(tenant.memory(&notes(0), "gone").unwrap().is_none());
    assert_eq!(tenant.namespaces(&[], None).await.unwrap().len() as u64, records.min(7));
    let request = RecallRequest { embedding: Some(vec![1.0, 3.0, 0.0]), limit: 1, ..RecallRequest::default() };
    assert_eq!(tenant.recall(request).await.unwrap()[0].item.key, "k3");
}

async fn is_clean(test: &TestStore) {
    let report = test.store.tenant(&acme()).await.unwrap().verify(|_| ()).await.unwrap();
    assert!(report.is_clean(), "{}", serde_json::to_string(&report).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_to_the_new_epoch_and_reads_as_before() {
    const RECORDS: u64 = 700;
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    fill(&tenant, RECORDS).await;
    reads(&tenant, RECORDS).await;
    let seen = Arc::new(AtomicU64::new(0));
    let told = seen.clone();
    let options = RotateOptions::default();
    let status = test
        .store
        .rotate(&acme(), options, move |status| {
            told.fetch_max(status.records, Ordering::Relaxed);
        })
        .await
        .unwrap();
    assert_eq!((status.phase, status.active.epoch, status.from.len()), (Phase::Idle, epoch(2), 0));
    // Chunks of two collections, memories, and their earlier versions with the two of what is gone.
    let moved = 2 * RECORDS + RECORDS + 2 * RECORDS.div_ceil(5) + 2;
    assert_eq!((status.records, seen.load(Ordering::Relaxed), status.damaged), (moved, moved, 0));
    assert_eq!(status.retained.iter().map(|r| r.epoch).collect::<Vec<_>>(), [epoch(1)]);
    reads(&tenant, RECORDS).await;
    is_clean(&test).await;
    drop(tenant);
    let test = test.reopen().await;
    reads(&test.store.tenant(&acme()).await.unwrap(), RECORDS).await;

    // What was handed out in the old epoch opens until that is destroyed.
    assert!(test.store.destroy_retained(&acme()).await.unwrap().is_empty());
    let keys = test.store.tenant_keys(&acme()).await.unwrap();
    assert_eq!(keys.epochs[0].state, EpochState::Deactivated);
    let destroyed = test.store.destroy_epoch(&acme(), epoch(1)).await.unwrap();
    assert_eq!(destroyed.fingerprint, keys.epochs[0].fingerprint);
    reads(&test.store.tenant(&acme()).await.unwrap(), RECORDS).await;
    is_clean(&test).await;
    let test = test.reopen().await;
    reads(&test.store.tenant(&acme()).await.unwrap(), RECORDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_records_are_sealed_in_is_not_destroyed() {
    let test = common::store().await;
    fill(&test.tenant("acme").await, 20).await;
    test.store.create_epoch(&acme(), None).await.unwrap();
    test.store.activate_epoch(&acme(), epoch(2)).await.unwrap();
    let tenant = test.store.tenant(&acme()).await.unwrap();
    reads(&tenant, 20).await;
    let refused = test.store.destroy_epoch(&acme(), epoch(1)).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    // Records of several epochs move together.
    tenant.remember(Memory::new(notes(0), "k0", &json!(1)).unwrap()).await.unwrap();
    tenant.remember(Memory::new(notes(0), "k0", &json!(0)).unwrap()).await.unwrap();
    let status = test.store.rotate(&acme(), compromised(), |_| ()).await.unwrap();
    assert_eq!(status.active.epoch, epoch(3));
    let states: Vec<_> =
        test.store.tenant_keys(&acme()).await.unwrap().epochs.iter().map(|epoch| epoch.state).collect();
    assert_eq!(states, [EpochState::Destroyed, EpochState::Destroyed, EpochState::Active]);
    assert_eq!(tenant.memory_history(&notes(0), "k0").await.unwrap().len(), 5);
    is_clean(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_changes_and_changes_back() {
    let test = common::store().await;
    fill(&test.tenant("acme").await, 50).await;
    let (gcm, siv) = ("aes-256-gcm+hkdf-sha3-512", "aes-256-gcm-siv+hkdf-sha3-512");
    for (name, full, compromised) in [("gcm", gcm, false), ("gcm-siv", siv, false), (gcm, gcm, true)] {
        let suite = test.store.suite_of(&acme(), Some(name)).await.unwrap();
        let options = RotateOptions { suite, compromised, ..RotateOptions::default() };
        let status = test.store.rotate(&acme(), options, |_| ()).await.unwrap();
        assert_eq!(status.active.suite, full);
        reads(&test.store.tenant(&acme()).await.unwrap(), 50).await;
        is_clean(&test).await;
    }
    let refused = test.store.suite_of(&acme(), Some("rot13")).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

/// Readers and writers beside rotations that follow each other: nobody sees an error, and nothing is missing, stale or
/// there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_notices() {
    const RECORDS: u64 = 400;
    const ROTATIONS: u32 = 6;
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    fill(&tenant, RECORDS).await;
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new([const { AtomicU64::new(0) }; 4]);
    let mut tasks = Vec::new();
    for (nth, collection) in ["sealed", "plain"].into_iter().enumerate() {
        let (collection, stop, rounds) = (tenant.collection(collection).unwrap(), stop.clone(), rounds.clone());
        tasks.push(tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                // A record that is written again and again, one that comes and goes, and all the others.
                round += 1;
                let text = format!("round {round}");
                collection.ingest(vec![chunk(RECORDS, &text), chunk(RECORDS + 1, &text)]).await.unwrap();
                let found = collection.get(vec![RECORDS.into(), 7.into()]).await.unwrap();
                assert_eq!(found.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), [text.as_str(), "text 7"]);
                assert_eq!(collection.delete(vec![(RECORDS + 1).into()]).await.unwrap(), 1);
                assert!(collection.get(vec![(RECORDS + 1).into()]).await.unwrap().is_empty());
                let hits = collection.search(SearchRequest::new(vec![1.0, 0.0, 0.0], 5)).await.unwrap();
                let ids: Vec<_> = hits.iter().map(|hit| hit.id.to_string()).collect();
                assert_eq!(ids, ["0", "1", "2", "3", "4"]);
                let (page, _) = collection.scroll(None, 1000).await.unwrap();
                let ids: BTreeSet<_> = page.iter().map(|chunk| chunk.id.clone()).collect();
                assert_eq!((page.len() as u64, ids.len() as u64), (RECORDS + 1, RECORDS + 1));
                rounds[nth].store(round, Ordering::Relaxed);
            }
        }));
    }
    let (writer, stopped, written) = (tenant.clone(), stop.clone(), rounds.clone());
    tasks.push(tokio::spawn(async move {
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            round += 1;
            let put = |key: &str| Memory::new(notes(0), key, &json!(round)).unwrap().embedding(vec![-1.0, 0.1, 0.0]);
            let version = writer.remember(put("written")).await.unwrap();
            assert_eq!(version, round);
            let item = writer.memory(&notes(0), "written").unwrap().unwrap();
            assert_eq!((item.value::<u64>().unwrap(), item.version), (round, round));
            let nearest = RecallRequest { embedding: Some(vec![-1.0, 0.1, 0.0]), limit: 1, ..RecallRequest::default() };
            assert_eq!(writer.recall(nearest).await.unwrap()[0].item.value::<u64>().unwrap(), round);
            writer.remember(put("deleted")).await.unwrap();
            assert!(writer.forget(&notes(0), "deleted", true).await.unwrap());
            assert!(writer.memory(&notes(0), "deleted").unwrap().is_none());
            written[2].store(round, Ordering::Relaxed);
        }
    }));
    let (reader, stopped, read) = (tenant.clone(), stop.clone(), rounds.clone());
    tasks.push(tokio::spawn(async move {
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            for n in 0..RECORDS {
                let item = reader.memory(&notes(n % 7), &format!("k{n}")).unwrap();
                assert_eq!(item.expect("missing").value::<u64>().unwrap(), n * 10);
            }
            let mine = reader.memories(&["notes".into(), "user 3".into()], 1000, 0).await.unwrap();
            assert_eq!(mine.len() as u64, (0..RECORDS).filter(|n| n % 7 == 3).count() as u64);
            assert_eq!(reader.namespaces(&[], None).await.unwrap().len(), 7);
            assert_eq!(reader.memory_history(&notes(5), "k5").await.unwrap().len(), 3);
            let request = RecallRequest { embedding: Some(vec![1.0, 3.0, 0.0]), limit: 1, ..RecallRequest::default() };
            assert_eq!(reader.recall(request).await.unwrap()[0].item.key, "k3");
            round += 1;
            read[3].store(round, Ordering::Relaxed);
        }
    }));
    for n in 0..ROTATIONS {
        let before: Vec<u64> = rounds.iter().map(|round| round.load(Ordering::Relaxed)).collect();
        let options = RotateOptions { compromised: n % 2 == 1, ..RotateOptions::default() };
        test.store.rotate(&acme(), options, |_| ()).await.unwrap();
        // Everybody has been through between two rotations.
        while rounds.iter().zip(&before).any(|(round, before)| round.load(Ordering::Relaxed) == *before)
            && tasks.iter().all(|task| !task.is_finished())
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    is_clean(&test).await;
    let keys = test.store.tenant_keys(&acme()).await.unwrap();
    assert_eq!(keys.active().unwrap().epoch, epoch(1 + ROTATIONS));
}

#[test]
fn the_command_rotates_what_is_due_and_only_once() {
    let cli = common::cli::Cli::new();
    cli.ok(&["tenant", "create", "acme"]);
    cli.ok(&["tenant", "create", "globex"]);
    cli.ok(&["remember", "-t", "acme", "notes", "k", "v"]);
    assert_eq!(cli.json(&["rotate", "--all-due"]).as_array().unwrap().len(), 0);
    let rotated = cli.json(&["rotate", "--tenant", "acme", "--suite", "gcm"]);
    assert_eq!((&rotated[0]["tenant"], &rotated[0]["records"]), (&"acme".into(), &1.into()));
    assert_eq!(rotated[0]["active"]["suite"], "aes-256-gcm+hkdf-sha3-512");
    let status = cli.json(&["rotate", "status"]);
    assert_eq!(status.as_array().unwrap().len(), 2);
    assert_eq!(status[0]["retained"][0]["epoch"], 1);
    assert!(cli.json(&["verify"]).is_object() || cli.json(&["verify"]).is_array());
    common::cli::refused(&cli.run(&["rotate", "--tenant", "nobody"]), ErrorKind::NotFound);
    common::cli::refused(&cli.run(&["rotate", "--tenant", "acme", "--suite", "rot13"]), ErrorKind::InvalidInput);
    common::cli::refused(&cli.run(&["rotate"]), ErrorKind::InvalidInput);
}

/// A store whose time is `clock`'s, run by `config`.
async fn store_at(clock: &ManualClock, config: Config) -> TestStore {
    let dir = tempfile::tempdir().unwrap();
    let options = common::options(dir.path()).clock(clock.clone()).config(config);
    Store::init(&options, common::passphrase()).await.unwrap();
    let store = Store::open(options, common::passphrase()).await.unwrap();
    TestStore { store, dir }
}

/// Polls until `done`, for a minute.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if done().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not in a minute: {what}");
}

const DAY_MS: u64 = 86_400_000;
/// Noon of Tuesday, 24 November 2026.
const NOON_MS: u64 = 1_795_521_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ends_no_retention_early_and_keeps_nothing_for_years() {
    let clock = ManualClock::at(NOON_MS);
    let test = store_at(&clock, common::config()).await;
    let tenant = test.tenant("acme").await;
    tenant.remember(Memory::new(notes(0), "k", &json!(1)).unwrap()).await.unwrap();
    let status = test.store.rotate(&acme(), RotateOptions::default(), |_| ()).await.unwrap();
    assert_eq!((status.retained[0].left_ms, status.retained[0].destroy_at_ms), (7 * DAY_MS, NOON_MS + 7 * DAY_MS));
    let destroys = async || test.store.destroy_retained(&acme()).await.unwrap().len();
    // Ten years on, and back by one.
    clock.jump(NOON_MS + 3650 * DAY_MS);
    assert_eq!(destroys().await, 0);
    let status = test.store.rotation(&acme()).await.unwrap();
    assert_eq!(status.retained[0].destroy_at_ms, NOON_MS + 3657 * DAY_MS);
    clock.jump(NOON_MS - 365 * DAY_MS);
    assert_eq!(destroys().await, 0);
    // Three days, a new start of the machine with the clock in the future, and all but a moment of four days.
    clock.set(NOON_MS - 362 * DAY_MS);
    assert_eq!(destroys().await, 0);
    clock.reboot();
    clock.jump(NOON_MS + 3650 * DAY_MS);
    clock.set(NOON_MS + 3654 * DAY_MS - 1);
    assert_eq!(destroys().await, 0);
    let keys = test.store.tenant_keys(&acme()).await.unwrap();
    assert_eq!(keys.epochs[0].state, EpochState::Deactivated);
    clock.set(NOON_MS + 3654 * DAY_MS);
    assert_eq!(destroys().await, 1);
    assert_eq!(test.store.tenant_keys(&acme()).await.unwrap().epochs[0].state, EpochState::Destroyed);
    assert_eq!(tenant.memory(&notes(0), "k").unwrap().unwrap().value::<u64>().unwrap(), 1);
}

/// What a store counts, by the name of the metric.
fn metric(store: &Store, name: &str) -> f64 {
    let metrics = store.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_rotates_what_is_due_within_its_windows_and_destroys_what_was_kept_long_enough() {
    let clock = ManualClock::at(NOON_MS);
    let config = Config {
        rotation_interval_s: 1,
        rotation_windows: "22:00-06:00".into(),
        epoch_retention_min: 0,
        ..common::config()
    };
    let test = store_at(&clock, config).await;
    let names: Vec<TenantId> = (0..5).map(|n| format!("tenant-{n}").parse().unwrap()).collect();
    for name in &names {
        let tenant = test.store.create_tenant(name).await.unwrap();
        fill(&tenant, 30).await;
    }
    let states = async || {
        let mut all = Vec::new();
        for name in &names {
            let keys = test.store.tenant_keys(name).await.unwrap();
            all.push(keys.epochs.iter().map(|epoch| epoch.state).collect::<Vec<_>>());
        }
        all
    };
    clock.set(NOON_MS + 30 * DAY_MS);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let store = test.store.clone();
    let rotating = tokio::spawn(async move { store.keep_rotating(async { _ = stopped.await }).await });
    // At noon it is seen that all are due, and nothing is done.
    until("tenants are due", async || metric(&test.store, "strongroom_store_tenants_overdue") == 5.0).await;
    assert!(metric(&test.store, "strongroom_store_oldest_epoch_age_seconds") >= 30.0 * 86_400.0);
    assert_eq!(states().await, vec![vec![EpochState::Active]; 5]);
    clock.set(NOON_MS + 30 * DAY_MS + DAY_MS / 2);
    let done = vec![vec![EpochState::Destroyed, EpochState::Active]; 5];
    until("all are rotated", async || states().await == done).await;
    let counted = "strongroom_store_rotations_total{outcome=\"done\"}";
    until("all are counted", async || metric(&test.store, counted) == 5.0).await;
    assert_eq!(metric(&test.store, "strongroom_store_rotations_running"), 0.0);
    assert!(metric(&test.store, "strongroom_store_rotated_records_total") >= 5.0 * 100.0);
    stop.send(()).unwrap();
    rotating.await.unwrap().unwrap();
    for name in &names {
        let tenant = test.store.tenant(name).await.unwrap();
        reads(&tenant, 30).await;
    }
    let refused = test.store.rotate(&names[0], RotateOptions::default(), |_| ()).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Partial, "it was told to stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_told_to_stop_is_gone_on_with() {
    const RECORDS: u64 = 2000;
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    fill(&tenant, RECORDS).await;
    let stopping = test.store.clone();
    let told = move |status: &RotationStatus| {
        // How many there are is written down with the next.
        if status.records > 600 {
            stopping.stop_rotations();
        }
    };
    let stopped = test.store.rotate(&acme(), RotateOptions::default(), told).await.err().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Partial);
    let status = test.store.rotation(&acme()).await.unwrap();
    assert_eq!((status.phase, status.active.epoch), (Phase::Reencrypting, epoch(2)));
    assert!(status.records > 0 && status.records < RECORDS, "{}", status.records);
    reads(&tenant, RECORDS).await;
    drop(tenant);
    let test = test.reopen().await;
    let status = test.store.rotate(&acme(), RotateOptions::default(), |_| ()).await.unwrap();
    assert_eq!((status.phase, status.active.epoch, status.from.len()), (Phase::Idle, epoch(2), 0));
    reads(&test.store.tenant(&acme()).await.unwrap(), RECORDS).await;
    is_clean(&test).await;
}
