//! Guards against a Qdrant server that loses a write by failing, being late or lying, shows one tenant another's points, or
//! takes the store down with it.

mod common;

#[path = "qdrant_server/away.rs"]
mod away;
#[path = "qdrant_server/lies.rs"]
mod lies;
#[path = "qdrant_server/peers.rs"]
mod peers;
#[path = "qdrant_server/shared.rs"]
mod shared;

use qdrant_client::Qdrant;
use strongroom::{Chunk, Collection, CollectionSpec, Engine, Metric, Mode, Placement, RecordId, SearchRequest, Tenant};

const SERVERS: [Engine; 2] = [Engine::Server(Placement::Dedicated), Engine::Server(Placement::Shared)];
const MODES: [Mode; 2] = [Mode::Sealed, Mode::Plain];

/// The same record always has the same text in one round.
fn chunk(id: u64, round: u64) -> Chunk {
    Chunk::new(id, format!("text {id} in round {round}"), vec![id as f32 + 1.0, round as f32 + 1.0, 2.0])
}

async fn docs(tenant: &Tenant, name: &str, engine: Engine, mode: Mode) -> Collection {
    let spec = CollectionSpec::new(3, Metric::Cosine).mode(mode).engine(engine);
    tenant.create_collection(name, spec).await.unwrap()
}

fn nearest(limit: usize) -> SearchRequest {
    SearchRequest::new(vec![1.0, 1.0, 1.0], limit)
}

async fn is_clean(tenant: &Tenant) {
    let report = tenant.verify(|_| ()).await.unwrap();
    assert!(report.is_clean(), "{}", serde_json::to_string(&report).unwrap());
}

/// The text of a record that has to be there.
async fn text(docs: &Collection, id: u64) -> String {
    let found = docs.get(vec![RecordId::from(id)]).await.unwrap();
    assert_eq!(found.len(), 1, "record {id}");
    found[0].text.clone()
}

/// The official client, beside Strongroom.
fn official(url: &str) -> Qdrant {
    Qdrant::from_url(url).skip_compatibility_check().build().unwrap()
}

/// The names of the server's collections.
async fn names(url: &str) -> Vec<String> {
    let listed = official(url).list_collections().await.unwrap();
    listed.collections.into_iter().map(|collection| collection.name).collect()
}
