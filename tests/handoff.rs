//! Guards against a handoff that works only within one process, or that leaves a key or a text where none may be: store,
//! sidecar, orchestrator and inference node as processes of their own, searched, and killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "handoff/kill.rs"]
mod kill;
#[path = "handoff/orchestrator.rs"]
mod orchestrator;
#[path = "handoff/platform.rs"]
mod platform;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "plaintext_hunt/prey.rs"]
mod prey;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "plaintext_hunt/secrets.rs"]
mod secrets;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::cli::PASSPHRASE;
use common::dump::dump;
use orchestrator::Orchestrator;
use platform::{Platform, TENANT};
use prey::Prey;
use strongroom::audit::actions::{Action, Actions, ActionsOptions};
use strongroom::clock::SystemClock;
use strongroom::crypto::default_provider;
use strongroom::keys::Signers;
use strongroom::keys::certificate::SignerUse;
use strongroom::server::{Own, RemoteKms, RemoteOptions};
use strongroom::store::Terms;
use strongroom::store::service::RemoteStore;
use strongroom::token::Digest;
use strongroom::{SearchRequest, TenantId};

/// As in the program itself: what is freed is erased.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// The whole path: retrieve sealed, pass on, redeem, read. What only keys open is nowhere but in store and sidecar.
#[test]
fn context_is_passed_on_by_who_cannot_read_it_and_read_by_who_has_no_key() {
    let platform = Platform::start();
    let keys = secrets::of_epoch(&platform.keys_copy, &platform.data(), PASSPHRASE, TENANT).hunter();
    let mut text = Prey::default();
    text.text("the text", &platform.mark);
    let text = text.hunter();

    for named in [false, true] {
        let mut node = platform.node(named);
        let mut orchestrator = Orchestrator::start(&platform, &node.holder);
        let bundle = orchestrator.bundle();
        let answer = node.redeem(&bundle);
        assert_eq!(answer["records"].as_array().unwrap().len(), 3, "{answer}");
        assert!(answer["records"][0]["content"].as_str().unwrap().contains(&platform.mark), "{answer}");
        assert_eq!(answer["records"][0]["metadata"]["page"], 1, "{answer}");
        let again = node.redeem(&bundle);
        assert_eq!(again["error"], "denied", "a token for one use: {again}");

        let orchestrators = dump(orchestrator.id(), &platform.root.path().join("orchestrator"));
        let nodes = dump(node.id(), &platform.root.path().join("node"));
        assert!(orchestrators.len() > 1 << 20 && nodes.len() > 1 << 20);
        assert_eq!(keys.hunt(&orchestrators), prey::Found::new(), "keys at the orchestrator");
        assert_eq!(keys.hunt(&nodes), prey::Found::new(), "keys at the inference node");
        assert_eq!(text.hunt(&orchestrators), prey::Found::new(), "the text at the orchestrator");
        orchestrator.finish();
        node.finish();
    }
    // The hunt is real: where the keys must be, they are found.
    let sidecars = dump(platform.sidecar(), &platform.root.path().join("sidecar"));
    assert!(keys.hunt(&sidecars).keys().any(|found| found.starts_with("a DEK")), "no key at the sidecar");

    let audit = platform.audit();
    assert_eq!(audit.matches("\"type\":\"redeemed\"").count(), 2, "{audit}");
    // A client that is refused tries once more, in a new contact.
    assert_eq!(audit.matches("\"reason\":\"used-up\"").count(), 4, "{audit}");
    assert!(!audit.contains(TENANT) && !audit.contains(&platform.mark), "{audit}");
}

/// Guards against a store with its keys elsewhere that takes no actions in, pauses nobody, or keeps no log of its own.
#[test]
fn a_store_with_its_keys_elsewhere_takes_actions_in_and_pauses() {
    let platform = Platform::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (kms, store) = runtime.block_on(async {
        let own = || Own::load(Path::new(&platform.orchestrator.cert), Path::new(&platform.orchestrator.key)).unwrap();
        let remote = |address: &str, sha256: &str| {
            let pin: Digest = sha256.parse().unwrap();
            RemoteOptions::new(address.parse().unwrap()).tls(own(), [*pin.as_bytes()])
        };
        let kms = RemoteKms::new(remote(&platform.kms_address, &platform.kms_sha256)).unwrap();
        (kms, RemoteStore::new(remote(&platform.store_address, &platform.store_sha256)).unwrap())
    });
    let (tenant, clock): (TenantId, _) = (TENANT.parse().unwrap(), Arc::new(SystemClock));
    let provider = default_provider();
    let agent = "planner".parse().unwrap();
    let signers = Signers::new(Arc::new(kms), provider, clock.clone(), agent, SignerUse::Actions);
    let taker = Arc::new(store.clone());
    let actions = Actions::start(tenant, signers, provider, clock, taker, ActionsOptions::default()).unwrap();
    (0..10)
        .for_each(|n| _ = actions.note(Action::new("tool.call", format!("{} {n}", platform.mark)).unwrap()).unwrap());
    assert_eq!(actions.close().unwrap().taken, 10);

    assert_eq!(platform.operate(&["breaker", "trip", "-t", TENANT])["changed"], true);
    let terms = Terms::once("sidecar".parse().unwrap(), [7; 32].into());
    let search = || SearchRequest::new(vec![1.0, 0.0], 3);
    let tenant = TENANT.parse().unwrap();
    let refused = runtime.block_on(store.search_sealed(&tenant, platform::COLLECTION, search(), &terms));
    assert_eq!(refused.err().unwrap().kind(), strongroom::ErrorKind::Denied);
    let listed = platform.operate(&["breaker", "list"]);
    assert_eq!((&listed[0]["tenant"], &listed[0]["cause"]), (&TENANT.into(), &"operator".into()), "{listed}");
    assert_eq!(platform.operate(&["breaker", "release", "-t", TENANT])["changed"], true);
    runtime.block_on(store.search_sealed(&tenant, platform::COLLECTION, search(), &terms)).unwrap();
    assert!(runtime.block_on(store.breakers()).is_err(), "an agent is no admin");

    let audit = platform.store_audit();
    let count = |what: &str| audit.matches(what).count();
    assert_eq!(count("\"type\":\"agent-action\""), 10, "{audit}");
    assert_eq!((count("\"type\":\"breaker-tripped\""), count("\"type\":\"breaker-released\"")), (2, 2), "{audit}");
    // Who asked stands there, not just that somebody did.
    assert!(audit.contains("\"service\":\"operator\",\"role\":\"admin\""), "{audit}");
    assert!(audit.contains("\"service\":\"planner\",\"role\":\"agent\",\"tenant\""), "{audit}");
    assert!(audit.contains("\"reason\":\"role\""), "{audit}");
    assert!(!audit.contains(TENANT) && !audit.contains(&platform.mark) && !audit.contains("tool.call"), "{audit}");
}

/// Guards against a rotation that makes what was handed out useless, whether the records came along or are only named.
#[test]
fn what_was_handed_out_before_a_rotation_opens_after_it() {
    let platform = Platform::start();
    let mut handed: Vec<_> = [false, true]
        .into_iter()
        .map(|named| {
            let node = platform.node(named);
            let mut orchestrator = Orchestrator::start(&platform, &node.holder);
            let bundle = orchestrator.bundle();
            orchestrator.finish();
            (node, bundle)
        })
        .collect();
    // Twice: what has moved may move again.
    for epoch in [2, 3] {
        let rotated = platform.rotate(&[]);
        assert_eq!(
            (&rotated[0]["active"]["epoch"], &rotated[0]["phase"]),
            (&epoch.into(), &"idle".into()),
            "{rotated}"
        );
        assert_eq!(rotated[0]["last"]["records"], 20, "{rotated}");
    }
    for (node, bundle) in &mut handed {
        let answer = node.redeem(bundle);
        assert_eq!(answer["records"].as_array().map(Vec::len), Some(3), "{answer}");
        assert!(answer["records"][0]["content"].as_str().unwrap().contains(&platform.mark), "{answer}");
        let mut orchestrator = Orchestrator::start(&platform, &node.holder);
        assert_eq!(node.redeem(&orchestrator.bundle())["records"].as_array().map(Vec::len), Some(3));
        orchestrator.finish();
    }
    handed.into_iter().for_each(|(node, _)| node.finish());
}

/// Guards against keys of a destroyed epoch that live on in a process or on a disk, and with them what they opened.
#[test]
fn nothing_opens_and_no_key_is_left_after_a_compromised_epoch_was_rotated_out() {
    let platform = Platform::start();
    let keys = secrets::of_epoch(&platform.keys_copy, &platform.data(), PASSPHRASE, TENANT).hunter();
    let mut node = platform.node(false);
    let mut orchestrators = [(); 2].map(|()| Orchestrator::start(&platform, &node.holder));
    let [first, second] = orchestrators.each_mut().map(Orchestrator::bundle);
    assert_eq!(node.redeem(&first)["records"].as_array().map(Vec::len), Some(3));
    orchestrators.into_iter().for_each(Orchestrator::finish);
    let rotated = platform.rotate(&["--compromised"]);
    assert_eq!(
        (&rotated[0]["active"]["epoch"], &rotated[0]["retained"]),
        (&2.into(), &serde_json::json!([])),
        "{rotated}"
    );
    // The sidecar lets go of what is a minute old, asked or not.
    let held = || platform.sidecar_metric("strongroom_sidecar_tenants_held") > 0.0;
    let deadline = Instant::now() + Duration::from_secs(90);
    while held() {
        assert!(Instant::now() < deadline, "the sidecar does not let go");
        std::thread::sleep(Duration::from_millis(100));
    }
    for (id, name) in platform.ids().into_iter().zip(["sidecar", "store", "kms"]) {
        let dumped = dump(id, &platform.root.path().join(format!("after-{name}")));
        assert!(dumped.len() > 1 << 20);
        assert_eq!(keys.hunt(&dumped), prey::Found::new(), "keys of the epoch at the {name}");
    }
    for dir in platform.dirs() {
        assert_eq!(prey::hunt_tree(&keys, dir), prey::Found::new(), "{}", dir.display());
    }
    // A node that said nothing for a minute has lost its connection, and finds that out first.
    let answers = (0..3).map(|_| node.redeem(&second)).find(|answer| answer["error"] != "unavailable");
    let answer = answers.unwrap();
    assert_eq!(answer["error"], "denied", "{answer}: {}", platform.audit());
    let mut orchestrator = Orchestrator::start(&platform, &node.holder);
    assert_eq!(node.redeem(&orchestrator.bundle())["records"].as_array().map(Vec::len), Some(3));
    orchestrator.finish();
    node.finish();
}
