//! The commands, with the store here and with the store in another process.

use rustix::process::getuid;
use serde_json::{Value, json};
use strongroom::ErrorKind;

use crate::common::cli::{Cli, refused};
use crate::common::service::Service;

fn store() -> Cli {
    let cli = Cli::new();
    cli.ok(&["tenant", "create", "acme"]);
    cli.ok(&["remember", "-t", "acme", "notes", "k", "v"]);
    cli
}

fn keys(cli: &Cli) -> Value {
    cli.json(&["tenant", "show", "acme"])["keys"].clone()
}

#[test]
fn it_is_shown_which_root_key_is_kept_for_what() {
    let cli = store();
    let before = keys(&cli);
    let dry = cli.run(&["rotate", "--tenant", "acme", "--root-key", "--dry-run"]);
    assert!(String::from_utf8_lossy(&dry.stderr).contains("another root key"));
    assert_eq!(keys(&cli), before, "nothing is done");
    refused(&cli.run(&["rotate", "--root-key"]), ErrorKind::InvalidInput);

    let rotated = cli.json(&["rotate", "--tenant", "acme", "--root-key", "--suite", "gcm"]);
    assert_eq!(rotated[0]["active"]["suite"], "aes-256-gcm+hkdf-sha3-512");
    let after = keys(&cli);
    let roots = json!([
        { "fingerprint": before["root_fingerprint"], "state": "deactivated", "epochs": [1] },
        { "fingerprint": after["root_fingerprint"], "state": "active", "epochs": [2] },
    ]);
    for shown in
        [&rotated[0]["root_keys"], &after["root_keys"], &cli.json(&["epoch", "list", "-t", "acme"])["root_keys"]]
    {
        let shown = shown.as_array().unwrap().iter();
        let brief = |r: &Value| json!({"fingerprint": r["fingerprint"], "state": r["state"], "epochs": r["epochs"]});
        assert_eq!(shown.map(brief).collect::<Vec<_>>(), *roots.as_array().unwrap());
    }
    let old = before["root_fingerprint"].as_str().unwrap();
    for args in [&["tenant", "show", "acme"][..], &["rotate", "status"], &["epoch", "list", "-t", "acme"]] {
        let said = cli.ok(args);
        assert!(said.contains(&format!("root key {old} (deactivated")) && said.contains("kept for epochs 1"), "{said}");
    }
    // The certificate that is handed out is the new one.
    let exported = cli.file("acme.pem", cli.ok(&["cert", "export", "acme"]));
    let shown = cli.json(&["cert", "show", &exported]);
    assert!(shown.to_string().contains(after["root_fingerprint"].as_str().unwrap()), "{shown}");
    let authority = cli.file("authority.pem", cli.ok(&["cert", "export", "acme", "--authority"]));
    cli.ok(&["cert", "verify", "--root", &authority, &exported]);

    cli.ok(&["epoch", "destroy", "-t", "acme", "1", "--yes"]);
    assert_eq!(keys(&cli)["root_keys"][0]["state"], "destroyed", "it goes with its last epoch");
    assert_eq!(cli.json(&["recall", "-t", "acme", "notes", "v"])[0]["value"], "v");
    cli.ok(&["verify"]);
}

#[test]
fn a_service_does_it_for_an_admin() {
    let mut cli = store();
    let before = keys(&cli);
    let uid = getuid().as_raw();
    let serve = |cli: &Cli, role: &str| {
        let services = format!("[[service]]\nname = \"who\"\nrole = \"{role}\"\ntenants = \"*\"\nuid = {uid}\n");
        let services = services.replace("tenants = \"*\"", "tenants = [\"*\"]");
        let services = cli.file("services.toml", services);
        Service::start(cli, &["serve", "--services", &services])
    };
    let service = serve(&cli, "reader");
    refused(&cli.run(&["rotate", "--tenant", "acme", "--root-key"]), ErrorKind::Denied);
    service.stop();
    let service = serve(&cli, "admin");
    let passphrase = std::mem::replace(&mut cli.passphrase, "none of this store".into());
    let rotated = cli.json(&["rotate", "--tenant", "acme", "--root-key", "--compromised"]);
    let roots = rotated[0]["root_keys"].as_array().unwrap();
    let states: Vec<_> = roots.iter().map(|root| root["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["destroyed", "active"]);
    assert_eq!(roots[0]["fingerprint"], before["root_fingerprint"]);
    service.stop();
    cli.passphrase = passphrase;
    assert_eq!(cli.json(&["recall", "-t", "acme", "notes", "v"])[0]["value"], "v");
    cli.ok(&["verify"]);
}
