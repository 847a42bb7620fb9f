//! The breaker: what it stops, for whom, and until when.

use std::sync::Arc;

use serde_json::json;
use strongroom::audit::alert::{AlertOptions, Alerts, Breaker, Rule, WatchParts, Watched};
use strongroom::audit::{AuditSink as _, InMemory, Outcome, Reason, What};
use strongroom::crypto::default_provider;
use strongroom::keys::Profile;
use strongroom::keys::kms::{Caller, Role, Scope};
use strongroom::store::Terms;
use strongroom::token::{Holder, Refusal};
use strongroom::{
    Chunk, Collection, CollectionSpec, ErrorKind, Memory, Metric, Namespace, RecallRequest, Result, SearchRequest,
    Store, StoreOptions, Tenant,
};

use crate::common::cli::Cli;
use crate::common::{options, passphrase};
use crate::scene::{Scene, admin, node};
use crate::watch::Watch;

fn notes() -> Namespace {
    Namespace::new(["notes"]).unwrap()
}

async fn fill(tenant: &Tenant) -> Collection {
    let docs = tenant.create_collection("docs", CollectionSpec::new(2, Metric::Dot)).await.unwrap();
    docs.ingest(vec![Chunk::new(1, "one", vec![1.0, 0.0])]).await.unwrap();
    tenant.remember(Memory::new(notes(), "k", &json!(1)).unwrap()).await.unwrap();
    docs
}

/// Every way to get at what is stored.
async fn reads(tenant: &Tenant) -> Vec<(&'static str, Option<ErrorKind>)> {
    fn ended<T>(answer: Result<T>) -> Option<ErrorKind> {
        answer.err().map(|e| {
            assert!(e.remedy().is_some(), "{e}");
            e.kind()
        })
    }
    let docs = tenant.collection("docs").unwrap();
    let holder = Holder::generate(default_provider(), Profile::Hybrid).unwrap().id().unwrap();
    let terms = || Terms::once("sidecar".parse().unwrap(), holder);
    let search = || SearchRequest::new(vec![1.0, 0.0], 1);
    vec![
        ("search", ended(docs.search(search()).await)),
        ("get", ended(docs.get(vec![1_u64.into()]).await)),
        ("scroll", ended(docs.scroll(None, 1).await)),
        ("search sealed", ended(docs.search_sealed(search(), terms()).await)),
        ("seal context", ended(tenant.seal_context(b"x".to_vec(), terms()).await)),
        ("memory", ended(tenant.memory(&notes(), "k"))),
        ("recall", ended(tenant.recall(RecallRequest { limit: 1, ..RecallRequest::default() }).await)),
        ("memories", ended(tenant.memories(&[], 1, 0).await)),
        ("namespaces", ended(tenant.namespaces(&[], None).await)),
        ("history", ended(tenant.memory_history(&notes(), "k").await)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tripped_tenant_reads_nothing_until_it_is_released() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::<InMemory>::default());
    let with: StoreOptions = options(dir.path()).audit(log.clone());
    Store::init(&with, passphrase()).await.unwrap();
    let store = Store::open(with.clone(), passphrase()).await.unwrap();
    let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
    let tenants = [store.create_tenant(&acme).await.unwrap(), store.create_tenant(&other).await.unwrap()];
    for tenant in &tenants {
        fill(tenant).await;
    }
    assert!(store.trip_breaker(&acme).await.unwrap());
    assert!(!store.trip_breaker(&acme).await.unwrap());
    assert_eq!(store.trip_breaker(&"nobody".parse().unwrap()).await.err().unwrap().kind(), ErrorKind::NotFound);
    for (what, ended) in reads(&tenants[0]).await {
        assert_eq!(ended, Some(ErrorKind::Denied), "{what}");
    }
    assert!(reads(&tenants[1]).await.iter().all(|(_, ended)| ended.is_none()), "others go on");
    // What comes in is taken: nothing of it leaves.
    tenants[0].remember(Memory::new(notes(), "more", &json!(2)).unwrap()).await.unwrap();
    drop(tenants);
    store.close().await.unwrap();

    let store = Store::open(with, passphrase()).await.unwrap();
    let tenant = store.tenant(&acme).await.unwrap();
    assert!(reads(&tenant).await.iter().all(|(_, ended)| *ended == Some(ErrorKind::Denied)), "after a restart");
    let listed = store.breakers().await.unwrap();
    assert_eq!((listed.len(), listed[0].tenant.as_deref(), listed[0].cause.as_str()), (1, Some("acme"), "operator"));
    assert!(store.release_breaker(&acme).await.unwrap() && !store.release_breaker(&acme).await.unwrap());
    assert!(reads(&tenant).await.iter().all(|(_, ended)| ended.is_none()), "{:?}", reads(&tenant).await);
    let breaker = log.events().into_iter().filter_map(|event| match event.what {
        What::BreakerTripped { cause } => Some((cause, event.outcome)),
        What::BreakerReleased => Some(("released".to_owned(), event.outcome)),
        _ => None,
    });
    let (tripped, released) = ("operator".to_owned(), "released".to_owned());
    let expected = [
        (tripped.clone(), Outcome::Begun),
        (tripped, Outcome::Done),
        (released.clone(), Outcome::Begun),
        (released, Outcome::Done),
    ];
    assert_eq!(breaker.collect::<Vec<_>>(), expected);
    drop(tenant);
    store.close().await.unwrap();
}

#[test]
fn a_rule_trips_only_when_it_is_told_to() {
    let trips = |trips: &[Rule]| AlertOptions { trips: trips.iter().copied().collect(), ..AlertOptions::default() };
    let attack = |watch: &Watch| {
        (0..3).for_each(|_| watch.event("a", What::Refused { reason: Reason::Scope }));
        watch.found()
    };
    let watch = Watch::new(trips(&[]));
    assert!(!attack(&watch)[0].tripped && watch.alerts.breaker().list().is_empty());
    let watch = Watch::new(trips(&[Rule::CrossTenant, Rule::ReadingVolume]));
    let gate = watch.alerts.breaker().gate("a");
    assert!(attack(&watch)[0].tripped && gate.is_tripped());
    assert_eq!(watch.alerts.breaker().list()["a"].cause, "cross-tenant");
    let watch = watch.restart(trips(&[]));
    assert!(watch.alerts.breaker().gate("a").is_tripped());
    watch.hours("b", (0..30).map(|_| 100));
    assert!(!watch.alerts.breaker().gate("b").is_tripped());
}

/// Guards against a sidecar that goes on opening what a breaker was tripped for.
#[test]
fn a_sidecar_opens_nothing_for_a_paused_tenant() {
    let scene = Scene::new(Profile::Pure);
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(scene.world.clock.clone());
    let breaker = Breaker::open(dir.path(), clock.clone(), scene.audit.clone()).unwrap();
    let parts = WatchParts {
        options: AlertOptions { trips: [Rule::TokenReplays].into(), ..AlertOptions::default() },
        dir: dir.path().to_owned(),
        audit: scene.audit.clone(),
        breaker,
        provider: default_provider(),
        clock,
    };
    let alerts = Alerts::start(parts).unwrap();
    let watched = Arc::new(Watched::new(scene.audit.clone(), alerts.clone()));
    let with = (strongroom::sidecar::SidecarOptions::default(), None);
    let sidecar = crate::scene::sidecar(&scene.world, &scene.kv, watched, &scene.audience, with);
    let sidecar = Arc::new(Arc::into_inner(sidecar).unwrap().watched_by(&alerts));
    let met = crate::scene::meet(&sidecar, &scene.holder);
    let scene = Scene { sidecar, met, ..scene };
    let records = scene.seal(1);
    let token = scene.mint(&records, 10);
    assert!(scene.redeem(&token, &records).is_ok());
    // The same proof again and again.
    let request = scene.request(&token, &records, strongroom::token::Form::Clear);
    scene.sidecar.redeem(&node(), true, &request).map(|_| ()).unwrap();
    (0..3).for_each(|_| assert!(scene.sidecar.redeem(&node(), true, &request).is_err()));
    alerts.settle();
    assert_eq!(alerts.recent().iter().map(|alert| alert.tripped).collect::<Vec<_>>(), [true]);
    assert_eq!(scene.redeem(&token, &records).err().unwrap().kind(), ErrorKind::Denied);
    let last = scene.audit.events().pop().unwrap();
    assert_eq!((last.what, last.tenant.is_some()), (What::RedeemRefused { reason: Refusal::Paused }, true));

    let stranger = Caller::new("operator", Role::Admin, Scope::Tenants(["else".parse().unwrap()].into()));
    for refused in [node(), stranger] {
        assert_eq!(scene.sidecar.release(&refused, &scene.tenant).err().unwrap().kind(), ErrorKind::Denied);
        assert_eq!(scene.sidecar.paused(&refused).err().unwrap().kind(), ErrorKind::Denied);
    }
    assert_eq!(scene.sidecar.paused(&admin()).unwrap().values().next().unwrap().cause, "token-replays");
    assert!(scene.sidecar.release(&admin(), &scene.tenant).unwrap());
    assert!(scene.redeem(&token, &records).is_ok());
    assert!(scene.sidecar.pause(&admin(), &scene.tenant).unwrap());
    assert!(scene.redeem(&token, &records).is_err());
    assert!(scene.sidecar.metrics().contains("tenants_paused"));
    drop(scene.audit.record(&scene.audit.events()[0]));
}

#[test]
fn the_command_line_trips_lists_and_releases() {
    let cli = Cli::with_collection("sealed", 2);
    let answer = |args: &[&str]| {
        let output = cli.run(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(answer(&["breaker", "list"]), json!([]));
    assert_eq!(answer(&["breaker", "trip", "-t", "acme"])["changed"], true);
    assert_eq!(answer(&["breaker", "list"])[0]["tenant"], "acme");
    let refused = cli.run(&["get", "-t", "acme", "docs", "1"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(i32::from(ErrorKind::Denied.exit_code())), "{said}");
    assert!(said.contains("strongroom breaker release"), "{said}");
    assert_eq!(answer(&["breaker", "release", "-t", "acme"])["changed"], true);
    assert_eq!(answer(&["breaker", "release", "-t", "acme"])["changed"], false);
    let log = crate::common::audit::lines(&cli.dir.join("keys"));
    assert!(log.contains("breaker-tripped") && log.contains("breaker-released") && !log.contains("acme"), "{log}");
}
