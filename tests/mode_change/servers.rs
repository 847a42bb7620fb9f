//! Changes of mode at a Qdrant server, and moves between.

use strongroom::{Chunk, CollectionSpec, Engine, ErrorKind, Metric, Mode, Placement, RecordId, SearchRequest};

use crate::common::{self, upstream::shared_url, vector};
use crate::{WALK, is_clean, shards};

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_changes_at_a_server_too() {
    for placement in [Placement::Dedicated, Placement::Shared] {
        let test = common::store_at(shared_url()).await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::new(16, Metric::Cosine).engine(Engine::Server(placement));
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        docs.ingest((0..200).map(|id| Chunk::new(id, "text", vector(id, 16))).collect()).await.unwrap();
        for mode in WALK {
            let changed = tenant.change_mode("docs", mode, |_| ()).await.unwrap();
            assert_eq!((changed.points, docs.mode(), docs.engine()), (200, mode, Engine::Server(placement)));
            let hits = docs.search(SearchRequest::new(vector(7, 16), 3)).await.unwrap();
            assert_eq!(hits[0].id, RecordId::from(7));
            is_clean(&tenant).await;
        }
        // There and back in another mode than it came with.
        tenant.change_mode("docs", Mode::Veiled, |_| ()).await.unwrap();
        for engine in [Engine::Edge, Engine::Server(placement), Engine::Edge] {
            tenant.migrate_collection("docs", engine, |_| ()).await.unwrap();
            assert_eq!((docs.mode(), docs.engine()), (Mode::Veiled, engine));
            is_clean(&tenant).await;
        }
        tenant.change_mode("docs", Mode::Sealed, |_| ()).await.unwrap();
        assert_eq!(shards(test.dir.path()), 1);
        tenant.migrate_collection("docs", Engine::Server(placement), |_| ()).await.unwrap();
        assert_eq!(shards(test.dir.path()), 0);
        is_clean(&tenant).await;
    }
}

/// Guards against points of two homes in one physical collection: they have the same ids.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_share_a_physical_collection_with_itself_is_refused() {
    let test = common::store_at(shared_url()).await;
    let tenant = test.tenant("acme").await;
    let shared = Engine::Server(Placement::Shared);
    let docs = tenant.create_collection("docs", CollectionSpec::without_vectors().engine(shared)).await.unwrap();
    docs.ingest(vec![Chunk::new(7, "text", strongroom::vectors::Vectors::default())]).await.unwrap();
    let e = tenant.change_mode("docs", Mode::Plain, |_| ()).await.err().unwrap();
    assert!(e.kind() == ErrorKind::InvalidInput && e.remedy().unwrap().contains("dedicated"), "{e}");
    tenant.migrate_collection("docs", Engine::Server(Placement::Dedicated), |_| ()).await.unwrap();
    tenant.change_mode("docs", Mode::Plain, |_| ()).await.unwrap();
    is_clean(&tenant).await;
}
