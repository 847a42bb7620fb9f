//! A server that is away, silent or broken in the middle of it: what was acknowledged stays, and it goes on by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use strongroom::{Chunk, CollectionSpec, Config, Engine, ErrorKind, Metric, Mode, RotateOptions, Store};

use crate::common::upstream::Upstream;
use crate::common::{self, passphrase};
use crate::{MODES, SERVERS, chunk, docs, is_clean, names, nearest, text};

/// A call may take so long in these tests, in milliseconds.
const TIMEOUT_MS: u32 = 700;

/// A store that does not wait long for the server.
async fn impatient(upstream: &Upstream) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { qdrant_url: upstream.url(), qdrant_timeout_ms: TIMEOUT_MS, ..common::config() };
    let options = common::options(dir.path()).config(config);
    Store::init(&options, passphrase()).await.unwrap();
    (Store::open(options, passphrase()).await.unwrap(), dir)
}

/// Until it goes well; every failure on the way has to be a typed one that says what to do.
macro_rules! until_well {
    ($call:expr) => {
        loop {
            match $call.await {
                Ok(done) => break done,
                Err(e) => {
                    assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy), "{e}");
                    assert!(e.remedy().is_some(), "{e}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_writing_and_searching_nothing_acknowledged_is_lost() {
    const RECORDS: u64 = 24;
    const KILLS: usize = 3;
    for (engine, mode) in SERVERS.into_iter().zip(MODES) {
        let mut upstream = Upstream::start(&[]);
        let (store, _dir) = impatient(&upstream).await;
        let tenant = store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
        let docs = docs(&tenant, "docs", engine, mode).await;
        let stopping = Arc::new(AtomicBool::new(false));
        let searched = Arc::new(AtomicU64::new(0));
        // Each writer has records of its own, so that the last acknowledged round of each is known.
        let writers: Vec<_> = (0..3_u64)
            .map(|writer| {
                let (docs, stopping) = (docs.clone(), stopping.clone());
                tokio::spawn(async move {
                    let mut acknowledged = BTreeMap::new();
                    for round in 1.. {
                        if stopping.load(Ordering::Relaxed) {
                            return acknowledged;
                        }
                        for id in (0..RECORDS).filter(|id| id % 3 == writer) {
                            match docs.ingest(vec![chunk(id, round)]).await {
                                Ok(_) => _ = acknowledged.insert(id, round),
                                Err(e) => {
                                    assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy), "{e}");
                                    assert!(e.remedy().is_some(), "{e}");
                                    tokio::time::sleep(Duration::from_millis(10)).await;
                                }
                            }
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        let reader = {
            let (docs, stopping, searched) = (docs.clone(), stopping.clone(), searched.clone());
            tokio::spawn(async move {
                while !stopping.load(Ordering::Relaxed) {
                    match docs.search(nearest(5)).await {
                        Ok(_) => _ = searched.fetch_add(1, Ordering::Relaxed),
                        Err(e) => assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy), "{e}"),
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = searched.load(Ordering::Relaxed);
            upstream.kill();
            tokio::time::sleep(Duration::from_millis(150)).await;
            upstream.restart();
            // It goes on by itself.
            while searched.load(Ordering::Relaxed) <= before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        stopping.store(true, Ordering::Relaxed);
        reader.await.unwrap();
        for writer in writers {
            for (id, round) in writer.await.unwrap() {
                let found = until_well!(docs.get(vec![id.into()]));
                // A write that was not acknowledged may have taken effect.
                let found: u64 = found[0].text.rsplit(' ').next().unwrap().parse().unwrap();
                assert!(found >= round, "{engine}, {mode}: record {id} is of round {found}, acknowledged was {round}");
            }
        }
        assert_eq!(docs.count().await.unwrap() as u64, RECORDS);
        is_clean(&tenant).await;
        drop((docs, tenant));
        store.close().await.unwrap();
        upstream.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_every_error_are_typed_and_pass() {
    let mut upstream = Upstream::start(&[]);
    let (store, _dir) = impatient(&upstream).await;
    let tenant = store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    for (engine, mode) in SERVERS.into_iter().zip(MODES) {
        let docs = docs(&tenant, &format!("{mode}"), engine, mode).await;
        docs.ingest((0..50).map(|id| chunk(id, 0)).collect()).await.unwrap();
        docs.search(nearest(3)).await.unwrap();
        let faults = [
            ("stall", ErrorKind::Unavailable),
            ("fail unavailable", ErrorKind::Unavailable),
            ("fail internal", ErrorKind::Unavailable),
            ("fail exhausted", ErrorKind::Unavailable),
            ("fail deadline", ErrorKind::Unavailable),
            ("fail denied", ErrorKind::Denied),
            ("fail invalid", ErrorKind::Internal),
        ];
        for (round, (fault, kind)) in (1..).zip(faults) {
            upstream.order(fault);
            let failed = [
                docs.search(nearest(3)).await.err(),
                docs.get(vec![1.into()]).await.err(),
                docs.ingest(vec![chunk(1, round)]).await.err(),
                docs.count().await.err(),
                docs.delete(vec![2.into()]).await.err(),
            ];
            for (call, e) in failed.into_iter().enumerate() {
                let e = e.unwrap_or_else(|| panic!("{fault}: call {call} went well"));
                assert_eq!(e.kind(), kind, "{fault}, call {call}: {e}");
                assert!(e.remedy().is_some() && !e.to_string().contains("text"), "{e}");
            }
            upstream.order("ok");
            // What was written meanwhile may take effect, and is whole.
            let found = until_well!(docs.get(vec![1.into()]));
            assert!([chunk(1, round).text, chunk(1, round - 1).text].contains(&found[0].text), "{}", found[0].text);
            docs.ingest(vec![chunk(1, round), chunk(2, round)]).await.unwrap();
            assert_eq!(text(&docs, 1).await, chunk(1, round).text);
            assert_eq!(docs.count().await.unwrap(), 50);
            assert_eq!(docs.search(nearest(3)).await.unwrap().len(), 3);
        }
    }
    is_clean(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_goes_unnoticed() {
    let mut upstream = Upstream::start(&[]);
    let test = common::store_at(&upstream.url()).await;
    let tenant = test.tenant("acme").await;
    for engine in SERVERS {
        let docs = docs(&tenant, &engine.to_string(), engine, Mode::Sealed).await;
        for round in 0..20 {
            upstream.order("close");
            docs.ingest((0..30).map(|id| chunk(id, round)).collect()).await.unwrap();
            upstream.order("close");
            assert_eq!(text(&docs, 7).await, chunk(7, round).text);
        }
        assert_eq!(docs.count().await.unwrap(), 30);
    }
    is_clean(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_at_the_start_is_found_when_it_comes() {
    let mut upstream = Upstream::start(&[]);
    let test = common::store_at(&upstream.url()).await;
    let tenant = test.tenant("acme").await;
    let there = docs(&tenant, "there", SERVERS[0], Mode::Sealed).await;
    there.ingest(vec![chunk(1, 0)]).await.unwrap();
    drop((there, tenant));
    upstream.kill();
    let test = test.reopen().await;
    let tenant = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
    let there = tenant.collection("there").unwrap();
    assert_eq!(there.get(vec![1.into()]).await.err().unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(there.ingest(vec![chunk(2, 0)]).await.err().unwrap().kind(), ErrorKind::Unavailable);
    // What is in this process goes on.
    let here = docs(&tenant, "here", Engine::Edge, Mode::Sealed).await;
    here.ingest(vec![chunk(1, 0)]).await.unwrap();
    upstream.restart();
    assert_eq!(text(&there, 1).await, chunk(1, 0).text);
    assert_eq!(there.count().await.unwrap(), 1, "a write that was refused took effect");
    is_clean(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_dropped_while_the_server_is_away_goes_when_it_is_back() {
    let mut upstream = Upstream::start(&[]);
    let url = upstream.url();
    let (store, dir) = impatient(&upstream).await;
    let tenant = store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    for engine in SERVERS {
        docs(&tenant, &engine.to_string(), engine, Mode::Sealed).await.ingest(vec![chunk(1, 0)]).await.unwrap();
    }
    assert_eq!(names(&url).await.len(), 2);
    upstream.order("fail unavailable");
    for engine in SERVERS {
        tenant.drop_collection(&engine.to_string()).await.unwrap();
    }
    assert!(tenant.collections().is_empty());
    drop(tenant);
    store.close().await.unwrap();
    upstream.order("ok");
    assert_eq!(names(&url).await.len(), 2);
    let config = Config { qdrant_url: url.clone(), ..common::config() };
    let options = common::options(dir.path()).config(config);
    // A server that refuses to remove it does not keep the store from being opened.
    upstream.order("fail invalid 1");
    Store::open(options.clone(), passphrase()).await.unwrap().close().await.unwrap();
    upstream.order("ok");
    assert_eq!(names(&url).await.len(), 2);
    let store = Store::open(options, passphrase()).await.unwrap();
    let left = names(&url).await;
    assert!(left.len() == 1 && left[0].starts_with("strongroom-shared-") && left[0].ends_with("-none"), "{left:?}");
    let client = crate::official(&url);
    let count = client.count(qdrant_client::qdrant::CountPointsBuilder::new(left[0].as_str()).exact(true));
    assert_eq!(count.await.unwrap().result.unwrap().count, 0);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives_kills_and_loses_no_write() {
    const RECORDS: u64 = 400;
    for (engine, mode) in SERVERS.into_iter().rev().zip(MODES) {
        let mut upstream = Upstream::start(&[]);
        let (store, _dir) = impatient(&upstream).await;
        let id = "acme".parse().unwrap();
        let tenant = store.create_tenant(&id).await.unwrap();
        let docs = docs(&tenant, "docs", engine, mode).await;
        docs.ingest((0..RECORDS).map(|id| chunk(id, 0)).collect()).await.unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (docs, done) = (docs.clone(), done.clone());
            tokio::spawn(async move {
                let mut acknowledged = BTreeMap::new();
                for round in 1.. {
                    if done.load(Ordering::Relaxed) && !acknowledged.is_empty() {
                        return acknowledged;
                    }
                    let id = round * 7 % RECORDS;
                    match docs.ingest(vec![chunk(id, round)]).await {
                        Ok(_) => _ = acknowledged.insert(id, round),
                        Err(e) => assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy), "{e}"),
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                acknowledged
            })
        };
        let told = done.clone();
        let faults = tokio::task::spawn_blocking(move || {
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(120));
                upstream.restart();
            }
            upstream.order("fail unavailable");
            std::thread::sleep(Duration::from_millis(50));
            upstream.order("ok");
            told.store(true, Ordering::Relaxed);
            upstream
        });
        let status = until_well!(store.rotate(&id, RotateOptions::default(), |_| ()));
        assert_eq!(status.active.epoch.as_u32(), 2);
        let upstream = faults.await.unwrap();
        let acknowledged = writer.await.unwrap();
        for id in 0..RECORDS {
            let found = until_well!(docs.get(vec![id.into()]));
            let found: u64 = found[0].text.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(found >= acknowledged.get(&id).copied().unwrap_or_default(), "record {id}: round {found}");
        }
        assert_eq!(docs.count().await.unwrap() as u64, RECORDS);
        is_clean(&tenant).await;
        let keys = store.tenant_keys(&id).await.unwrap();
        assert!(keys.epochs.len() >= 2);
        drop((docs, tenant));
        store.close().await.unwrap();
        upstream.stop();
    }
}

/// Guards against a batch, or an answer, that is too large for a message.
#[tokio::test(flavor = "multi_thread")]
async fn large_records_come_in_several_messages() {
    const MIB: usize = 1 << 20;
    let test = common::store_for(SERVERS[0]).await;
    let tenant = test.tenant("acme").await;
    for (engine, mode) in SERVERS.into_iter().zip(MODES) {
        let spec = CollectionSpec::new(2, Metric::Dot).mode(mode).engine(engine);
        let docs = tenant.create_collection(&engine.to_string(), spec).await.unwrap();
        let long = |id: u64| Chunk::new(id, "x".repeat(3 * MIB), vec![id as f32, 1.0]);
        // More in one answer than a message may have.
        docs.ingest((0..30).map(long).collect()).await.unwrap();
        let found = docs.get((0..30_u64).map(Into::into).collect()).await.unwrap();
        assert!(found.len() == 30 && found.iter().all(|chunk| chunk.text.len() == 3 * MIB));
        let hits = docs.search(crate::SearchRequest::new(vec![1.0, 0.0], 30)).await.unwrap();
        assert!(hits.len() == 30 && hits.iter().all(|hit| hit.text.len() == 3 * MIB));
        drop(docs);
        tenant.drop_collection(&engine.to_string()).await.unwrap();
    }
}
