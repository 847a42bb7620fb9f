//! A server that answers with what was, drops what it took, or is written to by others.

use strongroom::vectors::CollectionId;
use strongroom::vectors::engine::{Fields, Point, Shape, VectorBackend as _};
use strongroom::vectors::server::{Server, ServerOptions};
use strongroom::{ErrorKind, Mode, Placement};
use uuid::Uuid;

use crate::common;
use crate::common::upstream::{Upstream, shared_url};
use crate::{MODES, SERVERS, chunk, docs, is_clean, nearest, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_of_a_point_is_refused_wherever_it_comes_from() {
    let mut upstream = Upstream::start(&[]);
    let test = common::store_at(&upstream.url()).await;
    let tenant = test.tenant("acme").await;
    for engine in SERVERS {
        for mode in MODES {
            let docs = docs(&tenant, &format!("{engine}, {mode}"), engine, mode).await;
            docs.ingest((0..8).map(|id| chunk(id, 0)).collect()).await.unwrap();
            upstream.order("remember");
            docs.ingest(vec![chunk(3, 1)]).await.unwrap();
            assert_eq!(text(&docs, 3).await, chunk(3, 1).text);
            upstream.order("old");
            let e = docs.get(vec![3.into()]).await.err().unwrap();
            assert_eq!(e.kind(), ErrorKind::Integrity, "{engine}, {mode}: {e}");
            assert_eq!(docs.search(nearest(8)).await.err().unwrap().kind(), ErrorKind::Integrity, "{engine}, {mode}");
            // Others are as they were.
            assert_eq!(text(&docs, 4).await, chunk(4, 0).text);
            let report = tenant.verify(|_| ()).await.unwrap();
            assert_eq!(report.collections[docs.name()].damaged.len(), 1, "{engine}, {mode}");
            upstream.order("ok");
            assert_eq!(text(&docs, 3).await, chunk(3, 1).text);
            assert_eq!(docs.search(nearest(8)).await.unwrap().len(), 8);
        }
    }
    is_clean(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_took_and_dropped_is_missed() {
    let mut upstream = Upstream::start(&[]);
    let test = common::store_at(&upstream.url()).await;
    let tenant = test.tenant("acme").await;
    for engine in SERVERS {
        let docs = docs(&tenant, &engine.to_string(), engine, Mode::Sealed).await;
        docs.ingest((0..5).map(|id| chunk(id, 0)).collect()).await.unwrap();
        upstream.order("drop");
        docs.ingest(vec![chunk(5, 0)]).await.unwrap();
        upstream.order("ok");
        assert_eq!(docs.get(vec![5.into()]).await.err().unwrap().kind(), ErrorKind::Integrity);
        let report = tenant.verify(|_| ()).await.unwrap();
        assert_eq!(report.collections[docs.name()].dropped.len(), 1);
        docs.ingest(vec![chunk(5, 1)]).await.unwrap();
        assert_eq!(text(&docs, 5).await, chunk(5, 1).text);
    }
    is_clean(&tenant).await;
}

fn point(id: u128, version: u64) -> Point {
    let bytes = version.to_be_bytes().to_vec();
    let id = Uuid::from_u128(id);
    let (searchable, tag, tokens) = (Vec::new(), None, Vec::new());
    Point { id, epoch: 1, version, payload: bytes.clone(), vector: bytes, searchable, tag, tokens }
}

/// Guards against a network that delivers a write after a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_arrives_late_changes_nothing() {
    let run = tokio::task::spawn_blocking(|| {
        for placement in [Placement::Dedicated, Placement::Shared] {
            let server = Server::new(ServerOptions::new(shared_url().parse().unwrap())).unwrap();
            let place = CollectionId::random().unwrap();
            let open = || server.placed(placement).open(place, &Shape::default()).unwrap();
            let (writer, late) = (open(), open());
            let version = |id: u128| {
                let found = writer.retrieve(&[Uuid::from_u128(id)], Fields::Both).unwrap();
                found.first().map(|point| (point.version, point.payload.clone()))
            };
            let is = |version: u64| Some((version, version.to_be_bytes().to_vec()));
            writer.upsert(vec![point(1, 5), point(2, 5)]).unwrap();
            writer.upsert(vec![point(1, 9)]).unwrap();
            late.upsert(vec![point(1, 5), point(2, 5), point(3, 5)]).unwrap();
            assert_eq!((version(1), version(2), version(3)), (is(9), is(5), is(5)));
            late.delete(&[Uuid::from_u128(1), Uuid::from_u128(3)], 6).unwrap();
            assert_eq!((version(1), version(3)), (is(9), None), "deleting is of what was there then");
            // The same once more, as after an answer that got lost.
            writer.upsert(vec![point(1, 9)]).unwrap();
            assert_eq!(version(1), is(9));
            // What is deleted may be newer than all that was written here since: a rotation writes old versions.
            late.upsert(vec![point(4, 7)]).unwrap();
            late.delete(&[Uuid::from_u128(1), Uuid::from_u128(4), Uuid::from_u128(7)], 10).unwrap();
            assert_eq!((version(1), version(2), version(4)), (None, is(5), None));
            assert_eq!(writer.status().unwrap().points, 1);
            server.placed(placement).drop_collection(place).unwrap();
        }
    });
    run.await.unwrap();
}
