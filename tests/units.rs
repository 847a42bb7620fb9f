//! Guards against unit files that ask for what the command does not have, or that lost a part of their confinement.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::cli::Cli;

const SERVICE: &str = include_str!("../tools/rotation/strongroom-rotate.service");
const TIMER: &str = include_str!("../tools/rotation/strongroom-rotate.timer");
const CRONTAB: &str = include_str!("../tools/rotation/crontab");
const CRONJOB: &str = include_str!("../tools/rotation/cronjob.yaml");
const README: &str = include_str!("../tools/rotation/README.md");

/// Runs what a unit file has after the program's name, in a directory of its own, with a store and its passphrase.
fn runs(cli: &Cli, args: &str) {
    let args = args.split_whitespace().map(|arg| match arg {
        arg if arg.ends_with("passphrase") => cli.file("passphrase", &cli.passphrase),
        "/backup/strongroom" => cli.root.path().join("backups").to_str().unwrap().to_owned(),
        arg => arg.to_owned(),
    });
    let mut command = cli.command(&args.collect::<Vec<_>>());
    let output = command.env_remove("STRONGROOM_PASSPHRASE").output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_the_units_run_is_what_the_command_has() {
    let mut cli = Cli::new();
    cli.ok(&["tenant", "create", "acme"]);
    let service = SERVICE.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/strongroom ")).unwrap();
    let cron = CRONTAB.lines().filter_map(|line| line.split_once("strongroom --")).map(|(_, rest)| format!("--{rest}"));
    let args = CRONJOB.lines().find_map(|line| line.trim().strip_prefix("args: [")).unwrap();
    let job = args.trim_end_matches(']').replace(',', " ");
    let all: Vec<String> = cron.chain([service.to_owned(), job]).collect();
    assert_eq!(all.len(), 4, "{all:?}");
    all.iter().for_each(|args| runs(&cli, args));
    // They do not get by with the passphrase of the environment.
    cli.passphrase = "another".into();
    let wrong = cli.file("passphrase", "another");
    let refused = cli.run(&["--passphrase-file", &wrong, "rotate", "--all-due"]);
    assert_eq!(refused.status.code(), Some(5));
}

/// Sections and keys, as systemd reads them.
fn has(unit: &str, section: &str, line: &str) -> bool {
    let mut at = "";
    unit.lines().any(|this| {
        at = this.strip_prefix('[').and_then(|this| this.strip_suffix(']')).unwrap_or(at);
        at == section && this == line
    })
}

#[test]
fn the_units_are_confined_and_try_again_what_may_succeed() {
    for line in [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "CapabilityBoundingSet=",
        "LimitCORE=0",
        "SystemCallFilter=@system-service",
        "RestartPreventExitStatus=1 2 3 4 5 7 8",
    ] {
        assert!(has(SERVICE, "Service", line), "{line}");
    }
    assert!(has(TIMER, "Timer", "Persistent=true") && has(TIMER, "Install", "WantedBy=timers.target"));
    for line in [
        "concurrencyPolicy: Forbid",
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
        "type: RuntimeDefault",
        "values: [1, 2, 3, 4, 5, 7, 8]",
    ] {
        assert!(CRONJOB.lines().any(|this| this.trim() == line), "{line}");
    }
    assert!(!CRONJOB.contains('\t'), "YAML is not indented by tabs");
    // Each code is tried again in all of them or in none.
    for (code, again) in [(5, "no"), (6, "yes"), (7, "no"), (9, "yes"), (10, "yes")] {
        let row = README.lines().find(|line| line.starts_with(&format!("| {code} |"))).unwrap();
        assert!(row.split('|').nth(3).unwrap().trim().starts_with(again), "{row}");
    }
}
