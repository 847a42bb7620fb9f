//! Guards against a store over a token that the command line cannot make, open or use.

mod common;
#[path = "common/token.rs"]
mod token;

use common::cli::{Cli, refused};
use strongroom::ErrorKind;
use strongroom::keys::keystore::pkcs11::TokenConfig;
use token::{KRYOPTIC, SOFTHSM, in_own_process};

fn cli() -> Cli {
    Cli { passphrase: token::PIN.to_owned(), ..Cli::bare() }
}

fn init(cli: &Cli, keystore: &str, token: &TokenConfig) {
    let module = token.module.to_str().unwrap();
    cli.ok(&["init", "--keystore", keystore, "--pkcs11-module", module, "--pkcs11-token", &token.label]);
    // The commands below open the token in processes of their own.
    token::restart(token);
}

fn use_it(cli: &Cli) {
    for profile in ["hybrid", "pure", "cnsa2", "fips"] {
        let made = cli.json(&["tenant", "create", profile, "--profile", profile, "--agent", "planner"]);
        assert_eq!(made["keys"]["profile"], profile);
        assert_eq!(made["session"]["id"].as_str().unwrap().len(), 32);
        cli.ok(&["remember", "-t", profile, "users/ada", "drink", "tea"]);
        assert!(cli.ok(&["recall", "-t", profile, "users/ada", "tea"]).contains("tea"));
    }
    cli.ok(&["epoch", "create", "-t", "pure"]);
    let listed = cli.json(&["epoch", "list", "-t", "pure"]);
    assert_eq!(
        (&listed["epochs"][0]["state"], &listed["epochs"][1]["state"]),
        (&"active".into(), &"pre-active".into())
    );
    cli.ok(&["tenant", "shred", "pure", "--yes"]);
    refused(&cli.run(&["recall", "-t", "pure", "users/ada", "tea"]), ErrorKind::NotFound);
    assert!(cli.ok(&["recall", "-t", "fips", "users/ada", "tea"]).contains("tea"));
    let wrong = Cli {
        passphrase: "not the pin".into(),
        root: tempfile::tempdir().unwrap(),
        dir: cli.dir.clone(),
        wrapper: Vec::new(),
    };
    refused(&wrong.run(&["tenant", "list"]), ErrorKind::Denied);
    cli.ok(&["tenant", "list"]);
}

#[test]
fn a_store_over_a_token_that_does_everything() {
    in_own_process("a_store_over_a_token_that_does_everything", || {
        let (cli, token) = (cli(), token::kryoptic(KRYOPTIC));
        init(&cli, "pkcs11", &token);
        use_it(&cli);
    });
}

#[test]
fn a_store_over_a_token_that_wraps() {
    in_own_process("a_store_over_a_token_that_wraps", || {
        let (cli, token) = (cli(), token::softhsm(SOFTHSM));
        init(&cli, "pkcs11-wrapped", &token);
        use_it(&cli);
    });
}

#[test]
fn the_key_service_is_measured_over_a_token() {
    in_own_process("the_key_service_is_measured_over_a_token", || {
        let (cli, token) = (cli(), token::kryoptic(KRYOPTIC));
        token::restart(&token);
        let module = token.module.to_str().unwrap();
        let bench = ["bench", "kms", "--json", "-n", "20", "--rounds", "1", "--pkcs11-module", module];
        let lines = cli.ok(&[&bench[..], &["--pkcs11-token", &token.label]].concat());
        assert!(lines.contains("sign hybrid pkcs11 ×1") && lines.contains("derive pure pkcs11 ×64"), "{lines}");
    });
}
