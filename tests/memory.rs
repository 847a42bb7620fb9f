//! Guards against a memory that is lost, found by the wrong agent, remembered too long, or mixed up with another.

mod common;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use strongroom::clock::ManualClock;
use strongroom::{ErrorKind, Memory, MemoryOp, Namespace, RecallRequest, Store, Tenant};

fn ns(text: &str) -> Namespace {
    text.parse().unwrap()
}

fn labels(text: &str) -> Vec<String> {
    ns(text).labels().to_vec()
}

fn memory(namespace: &str, key: &str, value: &str) -> Memory {
    Memory::new(ns(namespace), key, &value).unwrap()
}

async fn keys(tenant: &Tenant, prefix: &[String]) -> Vec<String> {
    let items = tenant.memories(prefix, 100, 0).await.unwrap();
    let mut keys: Vec<_> = items.iter().map(|i| format!("{}:{}", i.namespace, i.key)).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn putting_getting_updating_deleting_with_history() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    let value = json!({ "drink": "tea", "f": 909_347_342.749_498_7, "list": [1, null] });
    assert_eq!(acme.remember(Memory::new(ns("users/ada"), "k", &value).unwrap()).await.unwrap(), 1);
    let item = acme.memory(&ns("users/ada"), "k").unwrap().unwrap();
    assert_eq!(item.value::<Value>().unwrap(), value, "every digit comes back");
    assert_eq!((item.version, item.key.as_str(), item.expires_at_ms), (1, "k", None));

    assert_eq!(acme.remember(memory("users/ada", "k", "two")).await.unwrap(), 2);
    assert_eq!(acme.update_memory(memory("users/ada", "k", "three")).await.unwrap(), 3);
    let missing = acme.update_memory(memory("users/ada", "other", "x")).await.err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(acme.forget(&ns("users/ada"), "k", false).await.unwrap());
    assert!(!acme.forget(&ns("users/ada"), "k", false).await.unwrap());
    assert!(acme.memory(&ns("users/ada"), "k").unwrap().is_none());

    assert_eq!(acme.remember(memory("users/ada", "k", "five")).await.unwrap(), 5, "versions go on after a deletion");
    let history = acme.memory_history(&ns("users/ada"), "k").await.unwrap();
    let seen: Vec<_> = history.iter().map(|v| (v.item.version, v.deleted)).collect();
    assert_eq!(seen, [(1, false), (2, false), (3, false), (4, true), (5, false)]);
    assert_eq!(history[1].item.value::<String>().unwrap(), "two");

    assert!(acme.forget(&ns("users/ada"), "k", true).await.unwrap());
    assert!(acme.memory_history(&ns("users/ada"), "k").await.unwrap().is_empty(), "purged");
    assert!(acme.verify(|_| ()).await.unwrap().is_clean());
}

#[tokio::test]
async fn history_is_bounded() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    for n in 0..100 {
        acme.remember(memory("a", "k", &n.to_string())).await.unwrap();
    }
    let history = acme.memory_history(&ns("a"), "k").await.unwrap();
    assert_eq!(history.len(), strongroom::limits::MEMORY_VERSIONS + 1);
    assert_eq!(history.last().unwrap().item.version, 100);
}

#[tokio::test]
async fn namespaces_are_listed_and_emptied_by_prefix() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    for namespace in ["users/ada", "users/ada/notes", "users/adam", "teams/x"] {
        for key in ["1", "2"] {
            acme.remember(memory(namespace, key, namespace)).await.unwrap();
        }
    }
    let listed = |prefix: Vec<String>, depth| async move {
        let acme = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
        let found = acme.namespaces(&prefix, depth).await.unwrap();
        (found.iter().map(ToString::to_string).collect::<Vec<_>>(), test)
    };
    let (all, test) = listed(vec![], None).await;
    assert_eq!(all, ["teams/x", "users/ada", "users/ada/notes", "users/adam"]);
    let at_one: Vec<_> = acme.namespaces(&[], Some(1)).await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(at_one, ["teams", "users"]);
    assert_eq!(acme.namespaces(&labels("users/ada"), None).await.unwrap().len(), 2);
    assert_eq!(acme.namespaces(&labels("nobody"), None).await.unwrap().len(), 0);

    assert_eq!(keys(&acme, &labels("users/ada")).await.len(), 4, "adam is not below ada");
    assert_eq!(keys(&acme, &labels("users")).await.len(), 6);
    assert_eq!(acme.forget_all(&labels("users/ada"), true).await.unwrap(), 4);
    assert_eq!(keys(&acme, &[]).await.len(), 4);
    assert_eq!(acme.namespaces(&labels("users"), None).await.unwrap().len(), 1);
    assert!(acme.verify(|_| ()).await.unwrap().is_clean());
    drop(acme);
    let test = test.reopen().await;
    let acme = test.store.tenant(&"acme".parse().unwrap()).await.unwrap();
    assert_eq!(keys(&acme, &[]).await, ["teams/x:1", "teams/x:2", "users/adam:1", "users/adam:2"]);
}

#[tokio::test]
async fn expiry_is_seen_at_once_and_survives_an_update() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let options = common::options(dir.path()).clock(clock.clone());
    Store::init(&options, common::passphrase()).await.unwrap();
    let store = Store::open(options, common::passphrase()).await.unwrap();
    let acme = store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    let embedded = |key: &str| memory("a", key, key).embedding(vec![1.0, 0.1]);
    acme.remember(embedded("short").ttl_ms(1000)).await.unwrap();
    acme.remember(embedded("long").ttl_ms(9000)).await.unwrap();
    acme.remember(embedded("ever")).await.unwrap();
    assert_eq!(keys(&acme, &[]).await.len(), 3);

    clock.set(1_000_999);
    acme.update_memory(embedded("short")).await.unwrap();
    assert!(acme.memory(&ns("a"), "short").unwrap().is_some());
    clock.set(1_001_000);
    assert!(acme.memory(&ns("a"), "short").unwrap().is_none(), "an update kept the expiry");
    assert_eq!(keys(&acme, &[]).await, ["a:ever", "a:long"]);
    let nearest = RecallRequest { embedding: Some(vec![1.0, 0.0]), limit: 1, ..Default::default() };
    assert_eq!(acme.recall(nearest.clone()).await.unwrap().len(), 1, "an expired memory takes nobody's place");
    assert!(!acme.forget(&ns("a"), "short", false).await.unwrap());
    assert_eq!(acme.update_memory(embedded("short")).await.err().unwrap().kind(), ErrorKind::NotFound);

    clock.set(2_000_000);
    assert_eq!(keys(&acme, &[]).await, ["a:ever"]);
    acme.remember(embedded("short")).await.unwrap();
    assert_eq!(keys(&acme, &[]).await, ["a:ever", "a:short"]);
    assert!(acme.verify(|_| ()).await.unwrap().is_clean());
    store.close().await.unwrap();
}

#[tokio::test]
async fn recall_by_meaning_words_and_time() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    for (namespace, key, value, embedding) in [
        ("users/ada", "tea", "likes green TEA", Some(vec![1.0, 0.0, 0.0])),
        ("users/ada/old", "milk", "likes milk in tea", Some(vec![0.9, 0.1, 0.0])),
        ("users/bob", "beer", "likes beer", Some(vec![1.0, 0.0, 0.1])),
        ("users/ada", "bare", "no embedding", None),
    ] {
        let mut memory = memory(namespace, key, value);
        if let Some(embedding) = embedding {
            memory = memory.embedding(embedding);
        }
        acme.remember(memory).await.unwrap();
    }
    let recall = |prefix: &str, text: Option<&str>, embedding: Option<Vec<f32>>, limit| {
        let prefix = if prefix.is_empty() { Vec::new() } else { labels(prefix) };
        acme.recall(RecallRequest { prefix, text: text.map(str::to_owned), embedding, limit })
    };
    let names = |r: Vec<strongroom::memory::Recalled>| r.into_iter().map(|r| r.item.key).collect::<Vec<_>>();
    assert_eq!(names(recall("users/ada", None, Some(vec![1.0, 0.0, 0.0]), 9).await.unwrap()), ["tea", "milk"]);
    assert_eq!(names(recall("", None, Some(vec![1.0, 0.0, 0.05]), 2).await.unwrap()).len(), 2);
    assert_eq!(names(recall("", Some("TEA likes"), None, 9).await.unwrap()).len(), 2);
    assert_eq!(names(recall("", Some("milk"), Some(vec![1.0, 0.0, 0.0]), 1).await.unwrap()), ["milk"]);
    assert_eq!(names(recall("users/bob", None, None, 9).await.unwrap()), ["beer"]);
    let wrong = recall("", None, Some(vec![1.0]), 1).await.err().unwrap();
    assert_eq!(wrong.kind(), ErrorKind::InvalidInput);
    let wrong = acme.remember(memory("a", "b", "c").embedding(vec![1.0])).await.err().unwrap();
    assert_eq!(wrong.kind(), ErrorKind::InvalidInput);
    assert!(acme.memory(&ns("a"), "b").unwrap().is_none(), "nothing of a refused write is there");

    // An embedding belongs to one value.
    acme.remember(memory("users/ada", "tea", "not any more")).await.unwrap();
    assert_eq!(names(recall("users/ada", None, Some(vec![1.0, 0.0, 0.0]), 9).await.unwrap()), ["milk"]);
    acme.forget(&ns("users/ada/old"), "milk", false).await.unwrap();
    assert!(recall("users/ada", None, Some(vec![1.0, 0.0, 0.0]), 9).await.unwrap().is_empty());
    let report = acme.verify(|_| ()).await.unwrap();
    assert!(report.is_clean() && report.memory_embeddings.unwrap().sound == 1);
}

#[tokio::test]
async fn a_batch_happens_whole_or_not_at_all() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    acme.remember(memory("a", "old", "x")).await.unwrap();
    let put = |key: &str| MemoryOp::Put(memory("a", key, "v"));
    acme.memory_batch(vec![put("1"), put("2"), MemoryOp::Delete(ns("a"), "old".into())]).await.unwrap();
    assert_eq!(keys(&acme, &[]).await, ["a:1", "a:2"]);
    let twice = acme.memory_batch(vec![put("3"), put("3")]).await.err().unwrap();
    assert_eq!(twice.kind(), ErrorKind::InvalidInput);
    let nan = MemoryOp::Put(memory("a", "5", "v").embedding(vec![f32::NAN]));
    assert_eq!(acme.memory_batch(vec![put("4"), nan]).await.err().unwrap().kind(), ErrorKind::InvalidInput);
    assert_eq!(keys(&acme, &[]).await, ["a:1", "a:2"]);
}

#[tokio::test]
async fn tenants_do_not_share_memories() {
    let test = common::store().await;
    let (a, b) = (test.tenant("a").await, test.tenant("b").await);
    a.remember(memory("users/x", "k", "of a").embedding(vec![1.0])).await.unwrap();
    assert!(b.memory(&ns("users/x"), "k").unwrap().is_none());
    assert!(keys(&b, &[]).await.is_empty() && b.namespaces(&[], None).await.unwrap().is_empty());
    let near = RecallRequest { embedding: Some(vec![1.0]), limit: 9, ..Default::default() };
    assert!(b.recall(near).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_key_take_turns() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let acme = acme.clone();
        tasks.spawn(async move {
            let mut versions = Vec::new();
            for n in 0..20 {
                versions.push(acme.remember(memory("a", "k", &format!("{writer} {n}"))).await.unwrap());
                assert!(acme.memory(&ns("a"), "k").unwrap().is_some());
            }
            versions
        });
    }
    let mut versions = Vec::new();
    while let Some(some) = tasks.join_next().await {
        versions.extend(some.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=160).collect::<Vec<u64>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_sequence_of_operations_equals_a_map(
        ops in prop::collection::vec((0_u8..4, 0_usize..4, 0_usize..4, any::<u16>()), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let namespaces = ["a", "a/b", "a/b/c", "d"];
            let test = common::store().await;
            let acme = test.tenant("acme").await;
            let mut model: BTreeMap<(String, String), String> = BTreeMap::new();
            for (op, namespace, key, value) in ops {
                let (name, key) = (namespaces[namespace], key.to_string());
                match op {
                    0 | 1 => {
                        acme.remember(memory(name, &key, &value.to_string())).await.unwrap();
                        model.insert((name.into(), key), value.to_string());
                    }
                    2 => {
                        let there = model.remove(&(name.to_owned(), key.clone())).is_some();
                        assert_eq!(acme.forget(&ns(name), &key, value % 2 == 0).await.unwrap(), there);
                    }
                    _ => {
                        let before = model.len();
                        model.retain(|(n, _), _| n != name && !n.starts_with(&format!("{name}/")));
                        let gone = acme.forget_all(&labels(name), value % 2 == 0).await.unwrap();
                        assert_eq!(gone, before - model.len());
                    }
                }
                let found: BTreeMap<_, _> = acme.memories(&[], 100, 0).await.unwrap().into_iter()
                    .map(|i| ((i.namespace.to_string(), i.key.clone()), i.value::<String>().unwrap())).collect();
                assert_eq!(found, model);
            }
            assert!(acme.verify(|_| ()).await.unwrap().is_clean());
        });
    }
}
