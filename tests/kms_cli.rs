//! Guards against a key service that stores of other processes cannot use, or that gives them more than their part.

mod common;

use common::cli::{Cli, refused};
use common::service::Service;
use rustix::process::getuid;
use strongroom::ErrorKind;

#[test]
fn a_store_works_with_keys_of_another_process_and_only_those_of_its_scope() {
    let keys = Cli::new();
    for tenant in ["acme", "globex"] {
        keys.ok(&["tenant", "create", tenant]);
    }
    let uid = getuid().as_raw();
    let services = format!("[[service]]\nname = \"store-1\"\nrole = \"store\"\ntenants = [\"acme\"]\nuid = {uid}\n");
    let services = keys.file("services.toml", services);
    let socket = keys.root.path().join("kms.sock");
    let listen = format!("unix:{}", socket.display());
    let serve = ["kms", "serve", "--listen", &listen, "--services", &services];
    let service = Service::start(&keys, &serve);

    // No passphrase, no keystore, no `init`: the kernel vouches for the process.
    let store = Cli { passphrase: String::new(), ..Cli::bare() };
    std::fs::create_dir(&store.dir).unwrap();
    let setting = format!("kms = \"unix:{}\"\n", socket.display());
    std::fs::write(store.dir.join("strongroom.toml"), setting).unwrap();
    store.ok(&["collection", "create", "-t", "acme", "docs", "--size", "2"]);
    let lines = store.file("docs.jsonl", "{\"id\": 1, \"text\": \"tea and toast\", \"vector\": [1, 0]}\n");
    store.ok(&["ingest", "-t", "acme", "docs", &lines]);
    assert!(store.ok(&["search", "-t", "acme", "docs", "--vector", "[1, 0.1]"]).contains("tea and toast"));
    store.ok(&["remember", "-t", "acme", "users/ada", "drink", "tea"]);
    refused(&store.run(&["recall", "-t", "globex", "users/ada", "tea"]), ErrorKind::Denied);
    refused(&store.run(&["tenant", "create", "another"]), ErrorKind::Denied);
    assert!(!store.dir.join("keys").exists());
    // The keystore is the service's alone while that runs.
    refused(&keys.run(&["tenant", "list"]), ErrorKind::Busy);

    service.kill();
    refused(&store.run(&["recall", "-t", "acme", "users/ada", "tea"]), ErrorKind::Unavailable);
    let service = Service::start(&keys, &serve);
    assert!(store.ok(&["recall", "-t", "acme", "users/ada", "tea"]).contains("tea"));
    store.ok(&["verify", "-t", "acme"]);
    service.stop();

    let audit = common::audit::lines(&keys.dir.join("keys"));
    let cross_tenant = audit.lines().filter(|line| line.contains("store-1") && line.contains("scope"));
    assert!(cross_tenant.count() >= 1, "{audit}");
    assert!(!audit.contains("acme") && !audit.contains("globex"));
    // The keys are still those of the keystore: with the passphrase and the data, anybody has them.
    keys.ok(&["tenant", "show", "acme"]);
}
