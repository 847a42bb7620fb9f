//! Guards against tenants that exist by halves, share keys, or survive their shredding.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use strongroom::crypto::Signature;
use strongroom::keys::{EpochState, Profile};
use strongroom::{
    Chunk, CollectionSpec, Epoch, ErrorKind, Memory, Metric, Namespace, SearchRequest, Store, Tenant, TenantId,
};

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn epoch(number: u32) -> Epoch {
    Epoch::try_from(number).unwrap()
}

fn chunk(n: u64) -> Chunk {
    Chunk::new(n, "some text", vec![1.0, n as f32])
}

fn notes() -> Namespace {
    Namespace::new(["notes"]).unwrap()
}

/// Puts one chunk and one memory.
async fn fill(tenant: &Tenant) {
    let docs = tenant.create_collection("docs", CollectionSpec::new(2, Metric::Dot)).await.unwrap();
    docs.ingest(vec![chunk(1)]).await.unwrap();
    tenant.remember(Memory::new(notes(), "k", &json!({"a": 1})).unwrap()).await.unwrap();
}

/// Takes both out again.
async fn empty(tenant: &Tenant) {
    tenant.drop_collection("docs").await.unwrap();
    tenant.forget(&notes(), "k", true).await.unwrap();
}

async fn reads(tenant: &Tenant) {
    let hits = tenant.collection("docs").unwrap().search(SearchRequest::new(vec![1.0, 1.0], 1)).await.unwrap();
    assert_eq!(hits[0].text, "some text");
    assert!(tenant.memory(&notes(), "k").unwrap().is_some());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Replaces the store's data, but not its keys, by what `work` finds when it is called, after `work` is done.
async fn with_old_data(test: common::TestStore, work: impl AsyncFnOnce(&Store)) -> common::TestStore {
    test.store.close().await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    let data = test.dir.path().join("data");
    copy(&data, backup.path());
    let store = Store::open(common::options(test.dir.path()), common::passphrase()).await.unwrap();
    work(&store).await;
    store.close().await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy(backup.path(), &data);
    let store = Store::open(common::options(test.dir.path()), common::passphrase()).await.unwrap();
    common::TestStore { store, dir: test.dir }
}

#[tokio::test]
async fn tenants_of_every_profile_work_side_by_side_and_after_reopening() {
    let mut test = common::store().await;
    for (profile, suite, signature) in [
        (Profile::Hybrid, "aes-256-gcm-siv+hkdf-sha3-512", Signature::MlDsa65EcdsaP384),
        (Profile::Pure, "aes-256-gcm-siv+hkdf-sha3-512", Signature::MlDsa65),
        (Profile::Cnsa2, "aes-256-gcm+hkdf-sha-384", Signature::MlDsa87),
        (Profile::Fips, "aes-256-gcm+hkdf-sha3-512", Signature::MlDsa65),
    ] {
        let id = id(&profile.to_string());
        let made = test.store.onboard_tenant(&id, profile, None).await.unwrap();
        assert_eq!((made.record.epochs[0].suite.as_str(), profile.signature()), (suite, signature));
        assert_eq!(made.record.profile, profile);
        fill(&test.store.tenant(&id).await.unwrap()).await;
    }
    for _ in 0..2 {
        for id in test.store.tenants().await.unwrap() {
            reads(&test.store.tenant(&id).await.unwrap()).await;
            let report = test.store.tenant(&id).await.unwrap().verify(|_| ()).await.unwrap();
            assert!(report.is_clean());
        }
        test = test.reopen().await;
    }
}

#[tokio::test]
async fn a_tenant_reads_and_writes_across_epochs() {
    let test = common::store().await;
    let acme = id("acme");
    fill(&test.store.create_tenant(&acme).await.unwrap()).await;
    assert_eq!(test.store.create_epoch(&acme, None).await.unwrap().state, EpochState::PreActive);
    test.store.activate_epoch(&acme, epoch(2)).await.unwrap();
    reads(&test.store.tenant(&acme).await.unwrap()).await;
    empty(&test.store.tenant(&acme).await.unwrap()).await;
    fill(&test.store.tenant(&acme).await.unwrap()).await;
    let test = test.reopen().await;
    reads(&test.store.tenant(&acme).await.unwrap()).await;
    let keys = test.store.tenant_keys(&acme).await.unwrap();
    assert_eq!(keys.active().unwrap().epoch, epoch(2));
}

#[tokio::test]
async fn old_data_of_a_destroyed_epoch_answers_that_it_is_destroyed() {
    let test = common::store().await;
    let acme = id("acme");
    fill(&test.store.create_tenant(&acme).await.unwrap()).await;
    let test = with_old_data(test, async |store| {
        empty(&store.tenant(&acme).await.unwrap()).await;
        store.create_epoch(&acme, None).await.unwrap();
        store.activate_epoch(&acme, epoch(2)).await.unwrap();
        store.destroy_epoch(&acme, Epoch::FIRST).await.unwrap();
    })
    .await;
    let gone = test.store.tenant(&acme).await.err().unwrap();
    assert_eq!((gone.kind(), gone.to_string()), (ErrorKind::NotFound, "epoch 1 is destroyed".into()));
}

#[tokio::test]
async fn a_shredded_tenant_is_gone_from_the_store_and_from_its_backups() {
    let test = common::store().await;
    let (acme, globex) = (id("acme"), id("globex"));
    fill(&test.store.create_tenant(&acme).await.unwrap()).await;
    fill(&test.store.create_tenant(&globex).await.unwrap()).await;
    let in_use = test.store.tenant(&acme).await.unwrap();
    assert_eq!(test.store.shred_tenant(&acme).await.err().unwrap().kind(), ErrorKind::Busy);
    drop(in_use);
    let test = with_old_data(test, async |store| {
        store.shred_tenant(&acme).await.unwrap();
        assert_eq!(store.tenant(&acme).await.err().unwrap().kind(), ErrorKind::NotFound);
        assert_eq!(store.tenants().await.unwrap(), std::slice::from_ref(&globex));
        reads(&store.tenant(&globex).await.unwrap()).await;
    })
    .await;
    let gone = test.store.tenant(&acme).await.err().unwrap();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.to_string().contains("shredded"), "{gone}");
    assert_eq!(test.store.create_tenant(&acme).await.err().unwrap().kind(), ErrorKind::Conflict);
    reads(&test.store.tenant(&globex).await.unwrap()).await;
    // What came back with the backup goes again.
    assert_eq!(test.store.shred_tenant(&acme).await.err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(test.dir.path().join("data/shards")).unwrap().count(), 1);
}

#[test]
fn an_exported_certificate_verifies_offline_against_the_exported_authority_and_no_other() {
    let (cli, other) = (common::cli::Cli::new(), common::cli::Cli::new());
    let mut roots = Vec::new();
    for cli in [&cli, &other] {
        cli.ok(&["tenant", "create", "acme"]);
        roots.push(cli.file("root.pem", cli.ok(&["cert", "export", "acme", "--authority"])));
    }
    let chain = cli.file("acme.pem", cli.ok(&["cert", "export", "acme"]));
    let verdict = cli.json(&["cert", "verify", "--root", &roots[0], &chain, "--tenant", "acme"]);
    assert_eq!((&verdict["verified"], &verdict["tenant"]), (&true.into(), &"acme".into()));
    common::cli::refused(&cli.run(&["cert", "verify", "--root", &roots[1], &chain]), ErrorKind::Denied);
    let shown = cli.ok(&["cert", "show", &chain]);
    let keys = cli.json(&["tenant", "show", "acme"]);
    for fingerprint in ["root_fingerprint", "signing_fingerprint"] {
        assert!(shown.contains(keys["keys"][fingerprint].as_str().unwrap()), "{shown}");
    }
}

#[test]
fn a_session_opened_on_the_command_line_has_a_credential_and_ends_when_it_is_revoked() {
    let cli = common::cli::Cli::new();
    cli.ok(&["tenant", "create", "acme"]);
    let root = cli.file("root.pem", cli.ok(&["cert", "export", "acme", "--authority"]));
    let chain = cli.file("session.pem", "");
    let session = cli.json(&["session", "open", "-t", "acme", "planner", "--lifetime", "10m", "--credential", &chain]);
    cli.ok(&["cert", "verify", "--root", &root, &chain, "--tenant", "acme", "--agent", "planner"]);
    let id = session["id"].as_str().unwrap();
    cli.ok(&["session", "revoke", "-t", "acme", id]);
    common::cli::refused(&cli.run(&["session", "revoke", "-t", "acme", id]), ErrorKind::NotFound);
    let too_long = ["session", "open", "-t", "acme", "planner", "--lifetime", "2d"];
    common::cli::refused(&cli.run(&too_long), ErrorKind::InvalidInput);
}

/// The signature of the certificate takes most of the time: a kill falls before it, into it and behind it.
#[test]
fn a_tenant_whose_creation_is_killed_is_there_whole_or_is_finished_by_doing_it_again() {
    let cli = common::cli::Cli::new();
    cli.ok(&["tenant", "create", "first"]);
    let (mut halves, mut wholes) = (0, 0);
    for round in 0..40_u64 {
        let name = format!("t{round}");
        let mut child = cli.command(&["tenant", "create", &name, "--quiet"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + round * 13));
        // The child is ours, and not waited for yet: its pid is still its own.
        child.kill().unwrap();
        child.wait().unwrap();
        let listed: Vec<String> = serde_json::from_value(cli.json(&["tenant", "list"])).unwrap();
        if listed.contains(&name) {
            wholes += 1;
            cli.ok(&["tenant", "show", &name]);
        } else {
            halves += 1;
            cli.ok(&["tenant", "create", &name]);
        }
    }
    assert!(halves > 0, "no kill came early");
    println!("{halves} kills before the tenant was there, {wholes} after");
}

#[tokio::test]
async fn data_without_its_keys_cannot_be_opened() {
    let test = common::store().await;
    let acme = test.tenant("acme").await;
    let spec = strongroom::CollectionSpec::new(1, strongroom::Metric::Dot);
    acme.create_collection("docs", spec).await.unwrap();
    drop(acme);
    test.store.close().await.unwrap();
    let dir = test.dir;
    // The same passphrase and the same tenant name, but other keys.
    fs::remove_dir_all(dir.path().join("keys")).unwrap();
    Store::init(&common::options(dir.path()), common::passphrase()).await.unwrap();
    let store = Store::open(common::options(dir.path()), common::passphrase()).await.unwrap();
    let acme = store.create_tenant(&id("acme")).await.unwrap();
    assert!(acme.collections().is_empty(), "the name of the old tenant cannot even be found");
}
