//! Every operation and the events that it leaves.

use std::time::Duration;

use serde_json::json;
use strongroom::audit::{Access, Event, Outcome, RotationStep, What, WriteKind};
use strongroom::keys::Profile;
use strongroom::keys::kms::{Kms as _, Role};
use strongroom::store::Terms;
use strongroom::token::Holder;
use strongroom::{CollectionSpec, Memory, MemoryOp, Metric, RecallRequest, RecordId, RotateOptions, SearchRequest};

use crate::world::{NOW_MS, World, chunk, fill, notes, short};
use Outcome::{Begun, Done};

fn ids(ids: &[u64]) -> Vec<RecordId> {
    ids.iter().map(|id| RecordId::from(*id)).collect()
}

/// Asserts that these are the events, in short, and that each names the tenant by one and the same pseudonym.
fn left(events: &[Event], expected: &[(&str, Outcome)]) {
    let expected: Vec<_> = expected.iter().map(|(kind, outcome)| ((*kind).to_owned(), *outcome)).collect();
    assert_eq!(short(events), expected, "{events:#?}");
    assert!(events.iter().all(|event| event.v == 1 && event.at_ms >= NOW_MS));
    let mut tenants: Vec<_> = events.iter().filter_map(|event| event.tenant.as_deref()).collect();
    tenants.dedup();
    assert!(tenants.len() <= 1, "{tenants:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_leave_theirs() {
    let world = World::new().await;
    let acme = world.store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    let spec = CollectionSpec::new(2, Metric::Dot);
    let (docs, events) = world.events(async || acme.create_collection("docs", spec).await.unwrap()).await;
    left(&events, &[("collection-changed", Begun), ("collection-changed", Done)]);

    let (_, events) = world.events(async || docs.ingest(vec![chunk(1, "one"), chunk(2, "two")]).await.unwrap()).await;
    left(&events, &[("written", Begun)]);
    let What::Written { write: WriteKind::Ingest, records: 2, place: Some(place), .. } = &events[0].what else {
        panic!("{events:?}")
    };
    let search = || SearchRequest::new(vec![1.0, 0.0], 5);
    let (hits, events) = world.events(async || docs.search(search()).await.unwrap()).await;
    left(&events, &[("read", Done)]);
    let What::Read { access: Access::Search, place: Some(read), records: 2, bytes: 6, digest } = &events[0].what else {
        panic!("{events:?}")
    };
    assert_eq!((read, hits.len()), (place, 2));
    // The same records in the same order have the same digest, whatever asks for them.
    let in_order: Vec<_> = hits.iter().map(|hit| hit.id.clone()).collect();
    let (_, events) = world.events(async || docs.get(in_order).await.unwrap()).await;
    left(&events, &[("read", Done)]);
    assert!(matches!(&events[0].what, What::Read { access: Access::Get, digest: same, .. } if same == digest));
    let (_, events) = world.events(async || docs.get(ids(&[7])).await.unwrap()).await;
    assert!(matches!(&events[0].what, What::Read { records: 0, bytes: 0, .. }), "what was not found is said too");
    let (_, events) = world.events(async || docs.scroll(None, 10).await.unwrap()).await;
    left(&events, &[("read", Done)]);
    let (_, events) = world.events(async || docs.delete(ids(&[1])).await.unwrap()).await;
    left(&events, &[("written", Begun)]);
    let (refused, events) = world.events(async || docs.ingest(vec![chunk(1, "x"), chunk(1, "y")]).await).await;
    refused.err().unwrap();
    left(&events, &[("written", Begun), ("written", Outcome::Failed)]);
    let (_, events) = world.events(async || acme.drop_collection("docs").await.unwrap()).await;
    left(&events, &[("collection-changed", Begun), ("collection-changed", Done)]);
    world.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memories_leave_theirs() {
    let world = World::new().await;
    let acme = world.store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    let memory = |n: u64| Memory::new(notes(), format!("k{n}"), &json!(n)).unwrap();
    let (_, events) = world.events(async || acme.remember(memory(1)).await.unwrap()).await;
    left(&events, &[("written", Begun)]);
    let (_, events) = world.events(async || acme.update_memory(memory(1)).await.unwrap()).await;
    assert!(matches!(&events[..], [Event { what: What::Written { write: WriteKind::Update, .. }, .. }]), "{events:?}");
    let ops = vec![MemoryOp::Put(memory(2)), MemoryOp::Put(memory(3)), MemoryOp::Delete(notes(), "k9".into())];
    let (_, events) = world.events(async || acme.memory_batch(ops).await.unwrap()).await;
    assert!(matches!(&events[..], [Event { what: What::Written { records: 3, .. }, .. }]), "{events:?}");
    let recall = RecallRequest { text: Some("2".into()), limit: 5, ..RecallRequest::default() };
    let (_, events) = world.events(async || acme.recall(recall).await.unwrap()).await;
    left(&events, &[("read", Done)]);
    let (_, events) = world.events(async || acme.memories(&[], 10, 0).await.unwrap()).await;
    assert!(matches!(&events[..], [Event { what: What::Read { access: Access::List, records: 3, .. }, .. }]));
    let (_, events) = world.events(async || acme.memory_history(&notes(), "k1").await.unwrap()).await;
    assert!(matches!(&events[..], [Event { what: What::Read { access: Access::History, records: 2, .. }, .. }]));
    let (_, events) = world.events(async || acme.namespaces(&[], None).await.unwrap()).await;
    assert!(matches!(&events[..], [Event { what: What::Read { access: Access::Namespaces, records: 1, .. }, .. }]));
    let (_, events) = world.events(async || acme.forget(&notes(), "k1", true).await.unwrap()).await;
    assert!(matches!(&events[..], [Event { what: What::Written { write: WriteKind::Purge, .. }, .. }]));
    let (_, events) = world.events(async || acme.forget_all(&["notes".into()], false).await.unwrap()).await;
    left(&events, &[("namespaces-forgotten", Begun), ("namespaces-forgotten", Done)]);
    assert!(matches!(&events[1].what, What::NamespacesForgotten { records: Some(2), .. }), "{events:?}");
    world.store.close().await.unwrap();
}

/// Guards against lookups that nobody counts, before a crash or after.
#[tokio::test(flavor = "multi_thread")]
async fn lookups_are_begun_before_and_counted_after() {
    let world = World::new().await;
    let acme = world.store.create_tenant(&"acme".parse().unwrap()).await.unwrap();
    acme.remember(Memory::new(notes(), "k", &json!("12345")).unwrap()).await.unwrap();
    let from = world.log.len();
    assert!(acme.memory(&notes(), "k").unwrap().is_some());
    let events = world.log.since(from);
    left(&events[..1], &[("read", Begun)]);
    for _ in 1..2_500 {
        acme.memory(&notes(), "k").unwrap().unwrap();
    }
    assert!(acme.memory(&notes(), "none").unwrap().is_none(), "nothing was opened");
    drop(acme);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let done: Vec<_> = world.log.since(from).into_iter().filter(|event| event.outcome == Done).collect();
    let counted = done.iter().map(|event| match &event.what {
        What::Read { access: Access::Lookup, records, bytes, .. } => {
            assert!(*records <= 1_000 && *bytes == records * 7, "{event:?}");
            *records
        }
        What::Heartbeat { .. } => 0,
        other => panic!("{other:?}"),
    });
    assert_eq!(counted.sum::<u64>(), 2_500);
    world.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_tokens_and_the_whole_leave_theirs() {
    let world = World::new().await;
    let (store, acme) = (&world.store, "acme".parse().unwrap());
    let (_, events) = world.events(async || store.onboard_tenant(&acme, Profile::Pure, None).await.unwrap()).await;
    left(&events, &[("tenant-onboarded", Begun), ("tenant-onboarded", Done)]);
    let tenant = store.tenant(&acme).await.unwrap();
    let docs = fill(&tenant).await;

    let holder = Holder::generate(strongroom::crypto::default_provider(), Profile::Pure).unwrap().id().unwrap();
    let terms = || Terms::once("sidecar".parse().unwrap(), holder);
    let search = SearchRequest::new(vec![1.0, 0.0], 2);
    let (handoff, events) = world.events(async || docs.search_sealed(search, terms()).await.unwrap()).await;
    left(&events, &[("signer-certified", Done), ("token-minted", Done)]);
    let minted = handoff.token.unwrap();
    let What::TokenMinted { token, holder: named, records: 2, uses: 1, .. } = &events[1].what else { panic!() };
    assert_eq!((token, named), (&minted.claims().id.to_string(), &holder.to_string()));
    let (_, events) = world.events(async || tenant.seal_context(b"context".to_vec(), terms()).await.unwrap()).await;
    left(&events, &[("token-minted", Done)]);

    let (_, events) = world.events(async || store.tenant_public(&acme).await.unwrap()).await;
    left(&events, &[("certificates-exported", Done)]);
    let options = RotateOptions { compromised: true, ..RotateOptions::default() };
    let (_, events) = world.events(async || store.rotate(&acme, options, |_| ()).await.unwrap()).await;
    let steps = events.iter().filter_map(|event| match &event.what {
        What::Rotation { step, from, to, .. } => Some((*step, from.clone(), to.clone())),
        _ => None,
    });
    let steps: Vec<_> = steps.collect();
    let order: Vec<_> = steps.iter().map(|(step, ..)| *step).collect();
    use RotationStep::{Destroyed, Planned, Reencrypting, Retained, Verified};
    assert_eq!(order, [Planned, Reencrypting, Verified, Retained, Destroyed]);
    let (old, new) = (&steps[0].1, &steps[1].2);
    assert!(old != new && old.len() == 1 && new.len() == 1);
    assert!(steps[1..].iter().all(|(_, from, to)| from == old && to == new), "{steps:?}");

    let to = tempfile::tempdir().unwrap();
    let backup = async || store.backup(to.path().join("backup"), |_| ()).await.unwrap();
    let (report, events) = world.events(backup).await;
    left(&events, &[("backup-made", Begun), ("backup-made", Done)]);
    assert!(matches!(&events[1].what, What::BackupMade { number, records: 2 } if *number == Some(report.number)));
    drop((tenant, docs));
    let (_, events) = world.events(async || store.shred_tenant(&acme).await.unwrap()).await;
    left(
        &events,
        &[("tenant-shredded", Begun), ("tenant-shredded", Done), ("data-removed", Begun), ("data-removed", Done)],
    );

    let from = world.log.len();
    let world = world.reopen().await;
    let events = world.log.since(from);
    left(&events, &[("stopped", Done), ("started", Done)]);
    assert!(matches!(&events[1].what, What::Started { changed: Some(false), .. }), "{events:?}");
    assert!(matches!(&world.log.kept.events()[0].what, What::Started { changed: None, .. }));
    world.store.close().await.unwrap();
}

/// Guards against signatures and strangers that are refused without a trace at the key service.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_key_service_refuses_leaves_its_event() {
    use std::sync::Arc;
    use strongroom::clock::ManualClock;
    use strongroom::crypto::default_provider;
    use strongroom::keys::Keystore;
    use strongroom::keys::kms::{Caller, KmsOptions, LocalKms, Scope, Signed};

    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::<crate::world::Log>::default());
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let options = crate::common::options(dir.path());
    let unlock = || options.unlock(crate::common::passphrase());
    let keystore = Keystore::create(dir.path(), default_provider(), unlock(), &*clock).unwrap();
    let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
    keystore.onboard(&acme, Profile::Pure, NOW_MS).unwrap();
    let kms = LocalKms::new(Arc::new(keystore), KmsOptions::default(), clock, log.clone()).unwrap();
    let agent = kms.caller(Caller::new("agent", Role::Agent, Scope::Tenants([acme.clone()].into())));
    let bad = Signed { message: b"m", signature: &[0; 3309] };
    assert!(agent.verify(&acme, &[bad, bad]).unwrap().iter().all(Result::is_err));
    agent.describe(&other).err().unwrap();
    left(&log.since(0)[..1], &[("signatures-refused", Outcome::Refused)]);
    left(&log.since(1), &[("refused", Outcome::Refused)]);
    assert!(matches!(log.since(0)[0].what, What::SignaturesRefused { signatures: 2 }));
}
