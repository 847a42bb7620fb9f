//! A corpus of marks, and events in which none of them stands.

use serde_json::{Map, json};
use strongroom::keys::Profile;
use strongroom::store::Terms;
use strongroom::token::Holder;
use strongroom::{
    Chunk, CollectionSpec, Memory, Metric, Namespace, RecallRequest, RecordId, RotateOptions, SearchRequest, TenantId,
};

use crate::prey::{Found, Prey};
use crate::secrets;
use crate::world::World;

const TENANT: &str = "quartzsparrow-tenant";
const COLLECTION: &str = "quartzsparrow collection";
const RECORD: &str = "quartzsparrow record";
const TEXT: &str = "quartzsparrow text of a chunk";
const METADATA: &str = "quartzsparrow metadata";
const NAMESPACE: &str = "quartzsparrow namespace";
const KEY: &str = "quartzsparrow key";
const VALUE: &str = "quartzsparrow value";
const CONTEXT: &str = "quartzsparrow context window";

/// Guards against a log that tells what it is about to whom has no keys.
#[tokio::test(flavor = "multi_thread")]
async fn no_name_text_or_key_stands_in_any_event() {
    let world = World::new().await;
    let id: TenantId = TENANT.parse().unwrap();
    world.store.onboard_tenant(&id, Profile::Pure, None).await.unwrap();
    let tenant = world.store.tenant(&id).await.unwrap();
    let docs = tenant.create_collection(COLLECTION, CollectionSpec::new(8, Metric::Cosine)).await.unwrap();
    let vector: Vec<f32> = (0_u8..8).map(|n| 0.3 + f32::from(n) * 0.171_234).collect();
    let metadata: Map<_, _> = [("about".to_owned(), json!(METADATA))].into_iter().collect();
    let record: RecordId = RECORD.parse().unwrap();
    docs.ingest(vec![Chunk::new(record.clone(), TEXT, vector.clone()).metadata(metadata)]).await.unwrap();
    docs.search(SearchRequest::new(vector.clone(), 1)).await.unwrap();
    docs.get(vec![record.clone()]).await.unwrap();
    docs.scroll(None, 3).await.unwrap();
    let namespace = Namespace::new([NAMESPACE]).unwrap();
    let memory = || Memory::new(namespace.clone(), KEY, &VALUE).unwrap();
    tenant.remember(memory()).await.unwrap();
    tenant.update_memory(memory()).await.unwrap();
    tenant.memory(&namespace, KEY).unwrap().unwrap();
    tenant.recall(RecallRequest { text: Some(VALUE.into()), limit: 1, ..RecallRequest::default() }).await.unwrap();
    tenant.memories(&[NAMESPACE.into()], 1, 0).await.unwrap();
    tenant.namespaces(&[], None).await.unwrap();
    tenant.memory_history(&namespace, KEY).await.unwrap();
    let holder = Holder::generate(strongroom::crypto::default_provider(), Profile::Pure).unwrap().id().unwrap();
    let terms = || Terms::once("sidecar".parse().unwrap(), holder);
    docs.search_sealed(SearchRequest::new(vector.clone(), 1), terms()).await.unwrap();
    tenant.seal_context(CONTEXT.into(), terms()).await.unwrap();
    world.store.open_session(&id, &"planner".parse().unwrap(), 60_000).await.ok();
    world.store.trip_breaker(&id).await.unwrap();
    docs.get(vec![record.clone()]).await.err().unwrap();
    world.store.release_breaker(&id).await.unwrap();
    tenant.create_collection(COLLECTION, CollectionSpec::new(8, Metric::Cosine)).await.err().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    world.store.backup(elsewhere.path().join("backup"), |_| ()).await.unwrap();
    let mut secrets = Prey::default();
    {
        // Their keys are hunted as they were before the rotation.
        let keys = elsewhere.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        for entry in std::fs::read_dir(world.dir.path().join("keys")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), keys.join(entry.file_name())).unwrap();
            }
        }
        let data = world.dir.path().join("data");
        let passphrase = "a passphrase for tests";
        secrets::of_tenant(&keys, &data, passphrase, TENANT, &mut secrets);
    }
    world.store.rotate(&id, RotateOptions::default(), |_| ()).await.unwrap();
    docs.delete(vec![record]).await.unwrap();
    tenant.forget(&namespace, KEY, true).await.unwrap();
    tenant.forget_all(&[NAMESPACE.into()], true).await.unwrap();
    tenant.drop_collection(COLLECTION).await.unwrap();
    drop((docs, tenant));
    world.store.shred_tenant(&id).await.unwrap();
    let log = world.log.clone();
    world.store.close().await.unwrap();

    let events = log.kept.events();
    let json: String = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    assert!(events.len() > 40, "{json}");
    let mut marks = Prey::default();
    for mark in [TENANT, COLLECTION, RECORD, TEXT, METADATA, NAMESPACE, KEY, VALUE, CONTEXT] {
        marks.text(mark, mark);
    }
    assert_eq!(marks.hunter().hunt(json.as_bytes()), Found::new(), "marks");
    assert_eq!(secrets.hunter().hunt(json.as_bytes()), Found::new(), "keys");
    assert!(!json.contains("quartzsparrow"));
}
