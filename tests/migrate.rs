//! Guards against a move between engines that loses a write, hides a record from who reads meanwhile, or leaves the
//! collection nowhere when it is interrupted.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::cli::Cli;
use common::upstream::{Upstream, shared_url};
use qdrant_client::Qdrant;
use serde_json::json;
use strongroom::vectors::blind::{FieldIndexSpec, IndexKind};
use strongroom::{
    Chunk, Collection, CollectionSpec, Engine, ErrorKind, Metric, Mode, Placement, RotateOptions, SearchRequest, Tenant,
};

const DEDICATED: Engine = Engine::Server(Placement::Dedicated);
const SHARED: Engine = Engine::Server(Placement::Shared);
const EDGE: Engine = Engine::Edge;

fn chunk(id: u64, round: u64) -> Chunk {
    Chunk::new(id, format!("{id} {round}"), vec![id as f32 + 1.0, round as f32 + 1.0, 2.0])
}

async fn docs(tenant: &Tenant, engine: Engine, mode: Mode) -> Collection {
    let spec = CollectionSpec::new(3, Metric::Cosine).mode(mode).engine(engine);
    tenant.create_collection("docs", spec).await.unwrap()
}

async fn is_clean(tenant: &Tenant) {
    let report = tenant.verify(|_| ()).await.unwrap();
    assert!(report.is_clean(), "{}", serde_json::to_string(&report).unwrap());
}

async fn names(url: &str) -> Vec<String> {
    let client = Qdrant::from_url(url).skip_compatibility_check().build().unwrap();
    client.list_collections().await.unwrap().collections.into_iter().map(|c| c.name).collect()
}

fn shards(test: &common::TestStore) -> usize {
    std::fs::read_dir(test.dir.path().join("data/shards")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_while_everybody_reads_and_writes() {
    const RECORDS: u64 = 600;
    for mode in [Mode::Sealed, Mode::Plain] {
        let upstream = Upstream::start(&[]);
        let test = common::store_at(&upstream.url()).await;
        let tenant = test.tenant("acme").await;
        let docs = docs(&tenant, EDGE, mode).await;
        docs.ingest((0..RECORDS).map(|id| chunk(id, 0)).collect()).await.unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let writer = {
            let (docs, stopping) = (docs.clone(), stopping.clone());
            tokio::spawn(async move {
                let mut last = vec![0; RECORDS as usize];
                for round in 1.. {
                    if stopping.load(Ordering::Relaxed) {
                        return last;
                    }
                    let id = round * 131 % RECORDS;
                    docs.ingest(vec![chunk(id, round)]).await.unwrap();
                    last[id as usize] = round;
                    // One that comes and goes.
                    docs.ingest(vec![chunk(RECORDS, round)]).await.unwrap();
                    assert_eq!(docs.delete(vec![RECORDS.into()]).await.unwrap(), 1);
                }
                last
            })
        };
        let reader = {
            let (docs, stopping) = (docs.clone(), stopping.clone());
            tokio::spawn(async move {
                while !stopping.load(Ordering::Relaxed) {
                    let found = docs.get((0..40_u64).map(Into::into).collect()).await.unwrap();
                    assert_eq!(found.len(), 40);
                    let hits = docs.search(SearchRequest::new(vec![1.0, 1.0, 1.0], 5)).await.unwrap();
                    assert_eq!(hits.len(), 5);
                }
            })
        };
        let copied = Arc::new(AtomicU64::new(0));
        for engine in [DEDICATED, SHARED, EDGE, SHARED, DEDICATED, EDGE] {
            let seen = copied.clone();
            let moved = tenant
                .migrate_collection("docs", engine, move |at| {
                    seen.fetch_max(at.copied, Ordering::Relaxed);
                })
                .await
                .unwrap();
            assert!((RECORDS..=RECORDS + 1).contains(&moved.verified), "{moved:?}");
            assert_eq!(docs.engine(), engine);
        }
        assert!(copied.load(Ordering::Relaxed) >= RECORDS);
        stopping.store(true, Ordering::Relaxed);
        reader.await.unwrap();
        let last = writer.await.unwrap();
        for (id, round) in (0..).zip(last) {
            assert_eq!(docs.get(vec![id.into()]).await.unwrap()[0].text, chunk(id, round).text);
        }
        assert_eq!(docs.count().await.unwrap() as u64, RECORDS);
        is_clean(&tenant).await;
        // Nothing is left of where it was, and it is there after a restart.
        assert!(names(&upstream.url()).await.iter().all(|name| name.contains("-shared-")));
        assert_eq!(shards(&test), 1);
        drop((docs, tenant));
        let test = test.reopen().await;
        let tenant = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
        let docs = tenant.collection("docs").unwrap();
        assert_eq!((docs.engine(), docs.count().await.unwrap() as u64), (EDGE, RECORDS));
        tenant.migrate_collection("docs", DEDICATED, |_| ()).await.unwrap();
        assert_eq!(shards(&test), 0);
        is_clean(&tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_moved_rotates_and_stays_after_a_restart() {
    let test = common::store_at(shared_url()).await;
    let id = "acme".parse().unwrap();
    let tenant = test.tenant("acme").await;
    let docs = docs(&tenant, EDGE, Mode::Plain).await;
    docs.ingest((0..200).map(|id| chunk(id, 0)).collect()).await.unwrap();
    tenant.migrate_collection("docs", SHARED, |_| ()).await.unwrap();
    test.store.rotate(&id, RotateOptions::default(), |_| ()).await.unwrap();
    is_clean(&tenant).await;
    drop((docs, tenant));
    let test = test.reopen().await;
    let tenant = test.store.tenant(&id).await.unwrap();
    assert_eq!(tenant.collection("docs").unwrap().engine(), SHARED);
    tenant.migrate_collection("docs", EDGE, |_| ()).await.unwrap();
    is_clean(&tenant).await;
    tenant.drop_collection("docs").await.unwrap();
    assert_eq!(shards(&test), 0);
}

/// Guards against a move that ends and a field that is declared waiting for each other: this would never end.
#[tokio::test(flavor = "multi_thread")]
async fn fields_are_declared_while_collections_move() {
    let test = common::store_at(shared_url()).await;
    let tenant = test.tenant("acme").await;
    let docs = docs(&tenant, EDGE, Mode::Sealed).await;
    docs.ingest((0..3).map(|id| chunk(id, 0)).collect()).await.unwrap();
    let moved = Arc::new(AtomicBool::new(false));
    let declaring = {
        let (docs, moved) = (docs.clone(), moved.clone());
        tokio::spawn(async move {
            while !moved.load(Ordering::Relaxed) {
                docs.create_index("field", FieldIndexSpec::new(IndexKind::Keyword)).await.unwrap();
                assert!(docs.drop_index("field").await.unwrap());
            }
        })
    };
    for engine in [DEDICATED, EDGE].into_iter().cycle().take(12) {
        tenant.migrate_collection("docs", engine, |_| ()).await.unwrap();
        assert_eq!(docs.engine(), engine);
    }
    moved.store(true, Ordering::Relaxed);
    declaring.await.unwrap();
    is_clean(&tenant).await;
    tenant.drop_collection("docs").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_it_stays_and_goes_on_later() {
    let mut upstream = Upstream::start(&[]);
    let test = common::store_at(&upstream.url()).await;
    let tenant = test.tenant("acme").await;
    let docs = docs(&tenant, EDGE, Mode::Sealed).await;
    docs.ingest((0..700).map(|id| chunk(id, 0)).collect()).await.unwrap();
    // At every stage: opening, copying, looking for strangers, opening what was copied.
    for after in [0, 2, 5, 9, 13, 16] {
        upstream.order(&format!("fail invalid {after}"));
        let e = tenant.migrate_collection("docs", DEDICATED, |_| ()).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Internal, "{after}: {e}");
        assert_eq!(docs.engine(), EDGE);
        // Who writes does not notice.
        docs.ingest(vec![chunk(after, 1)]).await.unwrap();
        assert_eq!(docs.get(vec![after.into()]).await.unwrap()[0].text, chunk(after, 1).text);
        upstream.order("ok");
        is_clean(&tenant).await;
    }
    docs.delete(vec![600.into()]).await.unwrap();
    let moved = tenant.migrate_collection("docs", DEDICATED, |_| ()).await.unwrap();
    assert_eq!((moved.verified, docs.engine(), docs.count().await.unwrap()), (699, DEDICATED, 699));
    assert_eq!(names(&upstream.url()).await.len(), 1, "one place, taken up again each time");
    is_clean(&tenant).await;
    // A move elsewhere removes what another had made.
    upstream.order("fail invalid 9");
    assert!(tenant.migrate_collection("docs", SHARED, |_| ()).await.is_err());
    upstream.order("ok");
    let stayed = tenant.migrate_collection("docs", DEDICATED, |_| ()).await.unwrap();
    assert_eq!(stayed.verified, 0);
    let client = Qdrant::from_url(&upstream.url()).skip_compatibility_check().build().unwrap();
    for name in names(&upstream.url()).await.iter().filter(|name| name.contains("-shared-")) {
        let count = client.count(qdrant_client::qdrant::CountPointsBuilder::new(name.as_str()).exact(true));
        assert_eq!(count.await.unwrap().result.unwrap().count, 0);
    }
    is_clean(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_does_not_move() {
    let mut upstream = Upstream::start(&[]);
    let test = common::store_at(&upstream.url()).await;
    let tenant = test.tenant("acme").await;
    let docs = docs(&tenant, DEDICATED, Mode::Sealed).await;
    docs.ingest((0..20).map(|id| chunk(id, 0)).collect()).await.unwrap();
    upstream.order("drop");
    docs.ingest(vec![chunk(20, 0)]).await.unwrap();
    upstream.order("ok");
    let e = tenant.migrate_collection("docs", EDGE, |_| ()).await.err().unwrap();
    assert_eq!((e.kind(), docs.engine()), (ErrorKind::Integrity, DEDICATED), "{e}");
    docs.ingest(vec![chunk(20, 1)]).await.unwrap();
    tenant.migrate_collection("docs", EDGE, |_| ()).await.unwrap();
    is_clean(&tenant).await;
    let e = tenant.migrate_collection("none", EDGE, |_| ()).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    self::docs(&tenant, EDGE, Mode::Sealed).await;
    let e = tenant.migrate_collection("docs", DEDICATED, |_| ()).await.err().unwrap();
    assert!(e.kind() == ErrorKind::Unavailable && e.remedy().unwrap().contains("qdrant_url"), "{e}");
}

/// Guards against a kill at a moment that leaves the collection in neither engine.
#[test]
fn killed_at_any_moment_it_goes_on_where_it_was() {
    const RECORDS: usize = 500;
    let upstream = Upstream::start(&[]);
    let cli = Cli::new();
    std::fs::write(cli.dir.join("strongroom.toml"), format!("qdrant_url = \"{}\"\n", upstream.url())).unwrap();
    cli.ok(&["tenant", "create", "acme"]);
    cli.ok(&["collection", "create", "-t", "acme", "docs", "--size", "3"]);
    let lines: Vec<String> = (0..RECORDS)
        .map(|id| json!({ "id": id, "text": format!("text {id}"), "vector": [id as f32 + 1.0, 1.0, 2.0] }).to_string())
        .collect();
    let file = cli.file("chunks.jsonl", lines.join("\n"));
    cli.ok(&["ingest", "-t", "acme", "docs", &file]);
    let check = || {
        let shown = cli.json(&["collection", "show", "-t", "acme", "docs"]);
        assert_eq!(shown["status"]["chunks"], RECORDS, "{shown}");
        let verified = cli.json(&["verify"]);
        assert_eq!(verified["acme"]["collections"]["docs"]["sound"], RECORDS, "{verified}");
        shown["engine"].clone()
    };
    let targets =
        [&["--engine", "server"][..], &["--engine", "server", "--placement", "shared"], &["--engine", "edge"]];
    for (round, target) in targets.into_iter().enumerate() {
        let args = [&["collection", "migrate", "-t", "acme", "docs"][..], target].concat();
        // Later each time, until one has gone through.
        for tries in 0.. {
            let mut child = cli.command(&args).stdout(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(60 + 45 * tries + round as u64 * 11));
            let ended = child.try_wait().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            check();
            if ended.is_some_and(|status| status.success()) {
                break;
            }
        }
        cli.ok(&args);
        let engine = check();
        let expected = [json!({ "server": "dedicated" }), json!({ "server": "shared" }), json!("edge")];
        assert_eq!(engine, expected[round]);
    }
}
