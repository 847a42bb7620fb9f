//! `backup create|list|verify|prune` and `restore`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;

use super::Global;
use super::output::{Output, bytes, time};
use crate::backup::{Archive, Listed, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::server::{Address, RemoteOptions};
use crate::store::service::{BackupState, RemoteStore};
use crate::store::{BackupReport, RestoreReport, Store};

/// How often another process is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Subcommand)]
pub(super) enum BackupCommand {
    /// Back the data up; what earlier backups in the directory have is not written again. The keys are not in it. Where
    /// `serve` runs, that does it, for who is an admin of all tenants in its file of services; Ctrl-C then only stops
    /// looking
    Create {
        /// The directory of backups, on another disk; where `serve` runs, of the machine that it runs on
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// List the backups of a directory
    List {
        #[command(flatten)]
        from: FromArg,
    },
    /// Read backups, and compare every part with its hash; this needs no keys
    Verify {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Remove all but the latest backups
    Prune {
        #[command(flatten)]
        from: FromArg,
        /// How many stay
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep: u32,
    },
}

#[derive(Args)]
pub(super) struct FromArg {
    /// The directory of backups
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

/// A backup of a directory.
#[derive(Args)]
pub(super) struct WhichArgs {
    #[command(flatten)]
    from: FromArg,
    /// Its number [default: for `restore` the latest, for `verify` all]
    #[arg(long, value_name = "N")]
    backup: Option<u32>,
}

pub(super) async fn run(global: &Global, command: BackupCommand, output: &Output) -> Result<()> {
    match command {
        BackupCommand::Create { to } => create(global, to, output).await,
        BackupCommand::List { from } => list(&Archive::open(&from.from)?, output),
        BackupCommand::Verify { which } => {
            let (bar, progress) = progress(output, "verifying");
            let verified = Archive::open(&which.from.from)?.verify(which.backup, progress);
            bar.finish_and_clear();
            output.answer(&verified?, |v| {
                format!("sound: {} in {}, {}", counted(v.backups, "backup"), counted(v.parts, "part"), bytes(v.bytes))
            })
        }
        BackupCommand::Prune { from, keep } => {
            Archive::open(&from.from)?;
            let removed = Archive::create(&from.from)?.prune(usize::try_from(keep).unwrap_or(usize::MAX))?;
            output.answer(&json!({ "removed": removed }), |_| match removed.as_slice() {
                [] => "nothing to remove".into(),
                _ => format!("removed {}", counted(removed.len() as u64, "backup")),
            })
        }
    }
}

async fn create(global: &Global, to: PathBuf, output: &Output) -> Result<()> {
    let made = match global.options()?.running_store()? {
        Some(remote) => there(remote, &to, output).await?,
        None => here(global, to, output).await?,
    };
    output.answer(&made, |made| {
        format!(
            "backup {} of {}: {} ({} unchanged), {}, {}; {} of that written",
            made.number,
            time(made.at_ms),
            counted(made.collections as u64, "collection"),
            made.unchanged,
            counted(made.points, "point"),
            bytes(made.bytes),
            bytes(made.written_bytes)
        )
    })?;
    output.remark("the keys are not in it: `strongroom keystore backup` copies them, for another place");
    Ok(())
}

async fn here(global: &Global, to: PathBuf, output: &Output) -> Result<BackupReport> {
    let store = global.open().await.map_err(|e| match e.kind() {
        ErrorKind::Busy => Error::new(ErrorKind::Busy, e.to_string())
            .with_remedy("whoever has the store open makes its backups: ask the running service, or stop it first"),
        _ => e,
    })?;
    let (bar, progress) = progress(output, "backing up");
    let made = store.backup(to, progress).await;
    bar.finish_and_clear();
    let closed = store.close().await;
    let made = made?;
    closed.map(|()| made)
}

/// Has the process make it that serves the store. It goes on there when this one is ended.
async fn there(remote: RemoteOptions, to: &Path, output: &Output) -> Result<BackupReport> {
    // On this machine its directories are ours.
    let to = if matches!(remote.address, Address::Unix(_)) { std::path::absolute(to)? } else { to.to_owned() };
    let named = to
        .to_str()
        .ok_or_else(|| Error::invalid("the path is not UTF-8").with_remedy("name another directory for backups"))?;
    let store = RemoteStore::new(remote)?;
    let run = store.backup(named).await?;
    let (bar, mut progress) = progress(output, "backing up");
    let mut interval = tokio::time::interval(LOOK);
    let made = loop {
        interval.tick().await;
        match store.backup_state(run).await {
            Ok(BackupState { ended: Some(ended), .. }) => break ended,
            Ok(BackupState { progress: at, .. }) => progress(at),
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                break Err(Error::new(ErrorKind::Unavailable, "the store's service is away, and the backup with it")
                    .with_remedy("`strongroom backup list` shows whether it was made; make another when it is back")
                    .with_source(e));
            }
            Err(e) => break Err(e),
        }
    };
    bar.finish_and_clear();
    made
}

fn list(archive: &Archive, output: &Output) -> Result<()> {
    let (mut sound, mut damaged) = (Vec::new(), Vec::new());
    for (number, listed) in archive.list()? {
        match listed {
            Ok(listed) => sound.push(listed),
            Err(e) if e.kind() == ErrorKind::Integrity => damaged.push(number),
            Err(e) => return Err(e),
        }
    }
    let line = |b: &Listed| {
        let (collections, points) = (counted(b.collections as u64, "collection"), counted(b.points, "point"));
        format!(
            "{}: {}, {collections}, {points}, {} (strongroom {})\n",
            b.number,
            time(b.at_ms),
            bytes(b.bytes),
            b.program
        )
    };
    output.answer(&json!({ "backups": sound, "damaged": damaged }), |_| {
        let damaged = damaged.iter().map(|number| format!("{number}: DAMAGED\n"));
        sound.iter().map(line).chain(damaged).collect()
    })
}

pub(super) async fn restore(global: &Global, which: WhichArgs, output: &Output) -> Result<()> {
    let options = global.options()?;
    let passphrase = if options.has_remote_keys() { None } else { Some(global.passphrase(false)?) };
    let (bar, progress) = progress(output, "restoring");
    let restored = Store::restore(options, passphrase, which.from.from, which.backup, progress).await;
    bar.finish_and_clear();
    let report = restored?;
    output.answer(&json!({ "restored": report, "clean": report.is_clean() }), |_| describe(&report))?;
    if !report.is_clean() {
        return Err(Error::new(ErrorKind::Integrity, "what was restored is damaged, and was when it was backed up")
            .with_remedy("`strongroom verify` says what; restore an older backup elsewhere and compare"));
    }
    if report.unreadable.iter().any(|lost| lost.why.is_unknown()) {
        return Err(Error::new(ErrorKind::Partial, "the keystore is older than the backup")
            .with_remedy("move the data away, bring the newer keystore, and restore again"));
    }
    if !report.unreadable.is_empty() {
        return Err(Error::new(
            ErrorKind::Partial,
            "some records can never be opened, since their keys were destroyed",
        )
        .with_remedy("nothing is to be done: that is what destroying keys is for; all others are restored"));
    }
    Ok(())
}

fn describe(report: &RestoreReport) -> String {
    let verified = counted(report.tenants.len() as u64, "tenant");
    let clean = if report.is_clean() { "clean" } else { "DAMAGED" };
    let points = counted(report.points, "point");
    let lost: String = report.unreadable.iter().map(|lost| format!("{lost}\n")).collect();
    format!("restored backup {} of {}: {points}\n{lost}verified {verified}: {clean}", report.number, time(report.at_ms))
}

/// A bar for what happens in steps, and what moves it.
fn progress(output: &Output, doing: &str) -> (ProgressBar, impl FnMut(Progress) + Send + 'static) {
    let bar = output.progress(Some(1), &format!("{{bar:30}} {doing}: {{pos}}/{{len}}, {{msg}} ({{elapsed}})"));
    let moved = bar.clone();
    let progress = move |at: Progress| {
        moved.set_length(at.of);
        moved.set_position(at.done);
        moved.set_message(bytes(at.bytes));
    };
    (bar, progress)
}

fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
