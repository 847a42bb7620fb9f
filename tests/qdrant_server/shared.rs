//! Tenants in one physical collection, and what a server gets to see.

use std::collections::BTreeSet;

use qdrant_client::qdrant::{GetCollectionInfoResponse, ScrollPointsBuilder, value::Kind};
use strongroom::{Chunk, CollectionSpec, Engine, Metric, Mode, Placement, SearchRequest, Store};

use crate::common::upstream::Upstream;
use crate::common::{self};
use crate::{MODES, is_clean, names, official};

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_in_one_physical_collection_never_meet() {
    for mode in MODES {
        let upstream = Upstream::start(&[]);
        let test = common::store_at(&upstream.url()).await;
        let spec = CollectionSpec::new(2, Metric::Cosine).mode(mode).engine(Engine::Server(Placement::Shared));
        let mut all = Vec::new();
        for (tenant, name) in [("acme", "docs"), ("acme", "more"), ("evil", "docs")] {
            let id = tenant.parse().unwrap();
            let tenant = match test.store.tenant(&id).await {
                Ok(tenant) => tenant,
                Err(_) => test.tenant(tenant).await,
            };
            let docs = tenant.create_collection(name, spec.clone()).await.unwrap();
            let text = format!("of {} in {name}", id.as_str());
            docs.ingest((0..20).map(|n| Chunk::new(n, text.clone(), vec![1.0, n as f32])).collect()).await.unwrap();
            all.push((tenant, docs, text));
        }
        assert_eq!(names(&upstream.url()).await.len(), 1, "they share one physical collection");
        for (tenant, docs, text) in &all {
            assert_eq!(docs.count().await.unwrap(), 20);
            let hits = docs.search(SearchRequest::new(vec![1.0, 0.0], 100)).await.unwrap();
            assert!(hits.len() == 20 && hits.iter().all(|hit| hit.text == *text));
            let (page, more) = docs.scroll(None, 100).await.unwrap();
            assert!(page.len() == 20 && !more && page.iter().all(|chunk| chunk.text == *text));
            is_clean(tenant).await;
        }
        // Deleting, overwriting and dropping in one leaves the others alone.
        let (_, docs, _) = &all[2];
        docs.delete((0..10_u64).map(Into::into).collect()).await.unwrap();
        docs.ingest(vec![Chunk::new(15, "changed", vec![0.0, 1.0])]).await.unwrap();
        assert_eq!(docs.count().await.unwrap(), 10);
        let (evil, docs, _) = all.pop().unwrap();
        drop(docs);
        evil.drop_collection("docs").await.unwrap();
        for (tenant, docs, text) in &all {
            assert_eq!(docs.count().await.unwrap(), 20);
            assert_eq!(docs.get(vec![15.into()]).await.unwrap()[0].text, *text);
            is_clean(tenant).await;
        }
    }
}

/// The points of a restored store have the ids that those of the lost one have, which are still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_shares_with_itself_alone() {
    let upstream = Upstream::start(&[]);
    let test = common::store_at(&upstream.url()).await;
    let shared = Engine::Server(Placement::Shared);
    let tenant = test.tenant("acme").await;
    let spec = CollectionSpec::new(2, Metric::Cosine).engine(shared);
    let docs = tenant.create_collection("docs", spec).await.unwrap();
    docs.ingest((0..20).map(|n| Chunk::new(n, "kept", vec![1.0, n as f32])).collect()).await.unwrap();
    let backups = tempfile::tempdir().unwrap();
    test.store.backup(backups.path(), |_| ()).await.unwrap();
    drop((docs, tenant));
    let dir = test.close().await;
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let options = common::options(dir.path());
    Store::restore(options.clone(), Some(common::passphrase()), backups.path(), None, |_| ()).await.unwrap();
    let store = Store::open(options, common::passphrase()).await.unwrap();
    let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
    let moved = tenant.migrate_collection("docs", shared, |_| ()).await.unwrap();
    assert_eq!((moved.verified, names(&upstream.url()).await.len()), (20, 2));
    is_clean(&tenant).await;
    drop(tenant);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_sees_random_places_and_sealed_bytes() {
    for placement in [Placement::Dedicated, Placement::Shared] {
        for mode in MODES {
            let upstream = Upstream::start(&[]);
            let test = common::store_at(&upstream.url()).await;
            let tenant = test.tenant("tenantname").await;
            let spec = CollectionSpec::new(2, Metric::Dot).mode(mode).engine(Engine::Server(placement));
            let docs = tenant.create_collection("collectionname", spec).await.unwrap();
            docs.ingest((0..5).map(|n| Chunk::new(n, "the secret words", vec![0.25, n as f32])).collect())
                .await
                .unwrap();
            let names = names(&upstream.url()).await;
            let client = official(&upstream.url());
            let info = client.collection_info(&names[0]).await.unwrap();
            check_shape(&info, placement, mode);
            let scroll = ScrollPointsBuilder::new(names[0].as_str()).limit(100).with_payload(true).with_vectors(true);
            let found = client.scroll(scroll).await.unwrap().result;
            assert_eq!(found.len(), 5);
            let mut places = BTreeSet::new();
            for point in found {
                let keys: BTreeSet<&str> = point.payload.keys().map(String::as_str).collect();
                assert_eq!(keys, BTreeSet::from(["e", "p", "t", "v", "x"]));
                let text = |key: &str| match &point.payload[key].kind {
                    Some(Kind::StringValue(text)) => text.clone(),
                    other => panic!("{key}: {other:?}"),
                };
                places.insert(text("t"));
                assert!(text("p").len() > 40 && text("x").len() > 40);
                let shown = format!("{point:?} {names:?}");
                for word in ["secret", "tenantname", "collectionname"] {
                    assert!(!shown.contains(word), "{word}");
                }
                assert_eq!(shown.contains("0.25"), mode == Mode::Plain, "{mode}: {shown}");
            }
            let place = places.pop_first().unwrap();
            assert!(places.is_empty() && place.len() == 32 && place.bytes().all(|b| b.is_ascii_hexdigit()));
            match placement {
                Placement::Dedicated => assert_eq!(names, [format!("strongroom-{place}")]),
                Placement::Shared => assert!(names.len() == 1 && !names[0].contains(&place)),
            }
        }
    }
}

fn check_shape(info: &GetCollectionInfoResponse, placement: Placement, mode: Mode) {
    let info = info.result.as_ref().unwrap();
    let config = info.config.as_ref().unwrap();
    let indexed = info.payload_schema.get("t");
    let graph = config.hnsw_config.as_ref().map(|hnsw| (hnsw.m, hnsw.payload_m));
    match (placement, mode) {
        (Placement::Dedicated, _) => assert!(indexed.is_none() && graph.is_none()),
        (Placement::Shared, Mode::Veiled | Mode::Plain) => assert_eq!(graph, Some((Some(0), Some(16)))),
        (Placement::Shared, Mode::Sealed) => assert_eq!(graph, None),
    }
    if placement == Placement::Shared {
        let params = indexed.unwrap().params.as_ref().unwrap().index_params.as_ref().unwrap();
        let qdrant_client::qdrant::payload_index_params::IndexParams::KeywordIndexParams(keyword) = params else {
            panic!("not a keyword index")
        };
        assert_eq!(keyword.is_tenant, Some(true));
    }
}
