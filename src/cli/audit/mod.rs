//! `audit tail|show|prove|export|verify|checkpoint|key|status|prune`: the audit log of a process on this machine.
//!
//! All but `checkpoint --now` and `prune` read along while a service writes.

mod check;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::Global;
use super::output::Output;
use crate::audit::Log;
use crate::audit::export::{Exported, export, export_view};
use crate::audit::log::{KeyKeeper, Reader};
use crate::crypto::default_provider;
use crate::disk::DataDir;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::keys::Keystore;
use crate::store::{LogOf, StoreOptions};
use crate::token::Ledger;

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// Print the newest entries
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 10)]
        lines: u64,
        /// Go on as entries are added, until told to stop
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        whose: WhoseArgs,
        #[command(flatten)]
        which: WhichArg,
    },
    /// Show one entry, or all of a tenant, each with the proof that it is in the log
    Show {
        /// The entry's index
        #[arg(required_unless_present_any = ["tenant", "pseudonym"], conflicts_with_all = ["tenant", "pseudonym"])]
        index: Option<u64>,
        #[command(flatten)]
        whose: WhoseArgs,
        #[command(flatten)]
        which: WhichArg,
    },
    /// Prove what can be verified with the log's public key alone
    #[command(subcommand)]
    Prove(show::ProveCommand),
    /// Write the log as files (C2SP tlog-tiles), or a tenant's entries with their proofs as one file
    Export {
        /// The directory, or with a tenant the file: it must not be there yet
        #[arg(long, value_name = "PATH")]
        to: PathBuf,
        #[command(flatten)]
        whose: WhoseArgs,
        #[command(flatten)]
        which: WhichArg,
    },
    /// Verify an export, or a tenant's view; exit code 7 and the name of the attack when it is not to be believed
    Verify(check::VerifyArgs),
    /// Print the newest checkpoint
    Checkpoint {
        /// Sign everything first; no service may be running with the log
        #[arg(long)]
        now: bool,
        /// Keep the signatures of witnesses in this file under it
        #[arg(long, value_name = "FILE", conflicts_with = "now")]
        add_cosignature: Option<PathBuf>,
        #[command(flatten)]
        which: WhichArg,
    },
    /// Print the log's public key: keep it where the log's operator cannot change it
    Key {
        #[command(flatten)]
        which: WhichArg,
    },
    /// Show how many entries are assigned, integrated, published and pruned
    Status {
        #[command(flatten)]
        which: WhichArg,
    },
    /// Remove old entries; their hashes stay, and so does every proof
    Prune {
        /// How old: `400d`, `36h`
        #[arg(long, value_name = "AGE", value_parser = parse_age)]
        older_than: u64,
        #[command(flatten)]
        which: WhichArg,
    },
}

/// Which log.
#[derive(Args)]
pub(super) struct WhichArg {
    /// Whose log [default: the keystore's if there is one here, otherwise the sidecar's, otherwise the store's]
    #[arg(long, value_name = "PROCESS")]
    of: Option<Of>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Of {
    /// Of who holds the keystore: the key service, or a store with its own
    Keystore,
    /// Of a store that serves others
    Store,
    /// Of a sidecar
    Sidecar,
}

/// Whose entries.
#[derive(Args)]
pub(super) struct WhoseArgs {
    /// Only those of a tenant; of the keystore's log this takes its passphrase
    #[arg(long, short, value_name = "TENANT", conflicts_with = "pseudonym")]
    tenant: Option<TenantId>,
    /// Only those of the tenant that the log calls this
    #[arg(long, value_name = "HEX", value_parser = parse_pseudonym)]
    pseudonym: Option<String>,
}

pub(super) async fn run(global: &Global, command: AuditCommand, output: &Output) -> Result<()> {
    match command {
        AuditCommand::Tail { lines, follow, whose, which } => {
            let options = global.options()?;
            let (log, whose) = (which.reader(&options)?, whose.pseudonym(global, &options, &which)?);
            show::tail(&log, lines, follow, whose.as_deref(), output).await
        }
        AuditCommand::Show { index, whose, which } => {
            let options = global.options()?;
            let (log, whose) = (which.reader(&options)?, whose.pseudonym(global, &options, &which)?);
            show::show(&log, index, whose.as_deref(), output)
        }
        AuditCommand::Prove(command) => show::prove(&global.options()?, command, output),
        AuditCommand::Export { to, whose, which } => {
            let options = global.options()?;
            let (log, whose) = (which.reader(&options)?, whose.pseudonym(global, &options, &which)?);
            write(&log, &to, whose.as_deref(), output)
        }
        AuditCommand::Verify(args) => check::verify(args, output),
        AuditCommand::Checkpoint { now, add_cosignature, which } => {
            let options = global.options()?;
            if now {
                which.writer(global, &options)?.publish()?;
            }
            let log = which.reader(&options)?;
            let signed = match add_cosignature {
                Some(file) => log.add_cosignatures(&std::fs::read_to_string(file)?)?,
                None => log.checkpoint()?,
            };
            remark_unsigned(&log, output)?;
            let checkpoint = &signed.checkpoint;
            let value = json!({ "origin": checkpoint.origin, "size": checkpoint.size, "note": signed.to_string() });
            output.answer(&value, |_| signed.to_string())
        }
        AuditCommand::Key { which } => {
            let key = which.reader(&global.options()?)?.key().text(default_provider());
            output.answer(&json!({ "key": key }), |_| key.clone())
        }
        AuditCommand::Status { which } => {
            let log = which.reader(&global.options()?)?;
            let (progress, pruned) = (log.progress()?, log.pruned()?);
            let value = json!({
                "origin": log.key().name(), "assigned": progress.assigned, "integrated": progress.integrated,
                "published": progress.published, "pruned": pruned,
            });
            output.answer(&value, |_| {
                format!(
                    "{}\nassigned    {}\nintegrated  {}\npublished   {}\npruned      {pruned}",
                    log.key().name(),
                    progress.assigned,
                    progress.integrated,
                    progress.published
                )
            })
        }
        AuditCommand::Prune { older_than, which } => {
            let pruned = which.writer(global, &global.options()?)?.prune(older_than)?;
            output.answer(&pruned, |pruned| match pruned.to - pruned.from {
                0 => "nothing to remove: entries go in bundles of 256, once a checkpoint is of them".into(),
                n => format!("removed {n} entries, {} to {}; their hashes stay", pruned.from, pruned.to - 1),
            })
        }
    }
}

fn write(log: &Reader, to: &std::path::Path, whose: Option<&str>, output: &Output) -> Result<()> {
    let bar = output.progress(Some(log.checkpoint()?.checkpoint.size), "exporting {bar:30} {pos}/{len} entries");
    let exported = match whose {
        Some(tenant) => export_view(log, tenant, to, |done| bar.set_position(done)),
        None => export(log, to, |done| bar.set_position(done)),
    };
    bar.finish_and_clear();
    let Exported { size, entries, pruned } = exported?;
    remark_unsigned(log, output)?;
    let value = json!({ "to": to, "size": size, "entries": entries, "pruned": pruned, "tenant": whose });
    output.answer(&value, |_| {
        let gone = if pruned > 0 { format!(", {pruned} pruned") } else { String::new() };
        format!("{}: {entries} of {size} entries{gone}", to.display())
    })
}

/// What the newest checkpoint does not cover cannot be proved yet.
fn remark_unsigned(log: &Reader, output: &Output) -> Result<()> {
    let progress = log.progress()?;
    let unsigned = progress.assigned.saturating_sub(progress.published);
    if unsigned > 0 {
        output.remark(&format!(
            "{unsigned} entries are newer than the checkpoint: a service signs them within ten seconds, otherwise \
             `strongroom audit checkpoint --now` does"
        ));
    }
    Ok(())
}

impl WhichArg {
    fn log(&self, options: &StoreOptions) -> LogOf {
        match self.of {
            Some(Of::Keystore) => LogOf::Keystore,
            Some(Of::Store) => LogOf::Store,
            Some(Of::Sidecar) => LogOf::Sidecar,
            None => {
                let all = [LogOf::Keystore, LogOf::Sidecar, LogOf::Store];
                all.into_iter().find(|of| options.log_dir(*of).exists()).unwrap_or(LogOf::Keystore)
            }
        }
    }

    pub(super) fn reader(&self, options: &StoreOptions) -> Result<Reader> {
        Reader::open(&options.log_dir(self.log(options)))
    }

    /// The log to write: whoever else would has to have ended.
    fn writer(&self, global: &Global, options: &StoreOptions) -> Result<Writer> {
        let of = self.log(options);
        // To see whether there is one: none is begun here.
        self.reader(options)?;
        let (keeper, held) = match of {
            LogOf::Keystore => {
                let unlock = options.unlock(global.passphrase(false)?);
                let keystore = Keystore::open(&options.keystore_dir(), default_provider(), unlock)?;
                (KeyKeeper::Keystore(keystore.into()), None)
            }
            LogOf::Store => (KeyKeeper::File, Some(DataDir::hold(&options.data_dir(), 0)?)),
            LogOf::Sidecar => (KeyKeeper::File, Some(DataDir::hold(&options.sidecar_dir(), 0)?)),
        };
        Ok(Writer { log: options.open_log(of, keeper, None)?, _held: held })
    }
}

/// A log, and the directory of the process whose it is.
struct Writer {
    log: Log,
    _held: Option<DataDir>,
}

impl std::ops::Deref for Writer {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl WhoseArgs {
    /// What the log calls the tenant.
    fn pseudonym(&self, global: &Global, options: &StoreOptions, which: &WhichArg) -> Result<Option<String>> {
        let Some(tenant) = &self.tenant else { return Ok(self.pseudonym.clone()) };
        match which.log(options) {
            LogOf::Keystore => {
                let unlock = options.unlock(global.passphrase(false)?);
                Keystore::pseudonym_in(&options.keystore_dir(), default_provider(), unlock, tenant).map(Some)
            }
            LogOf::Sidecar => Ledger::pseudonym_in(&options.sidecar_dir().join("db"), tenant).map(Some),
            LogOf::Store => Err(Error::invalid("the log of a store has nothing of tenants")
                .with_remedy("`--of keystore` and `--of sidecar` name logs that do")),
        }
    }
}

fn parse_pseudonym(typed: &str) -> Result<String> {
    if typed.len() == 32 && typed.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(typed.to_owned());
    }
    Err(Error::invalid("this is no pseudonym of a tenant").with_remedy("it is 32 lower-case hexadecimal digits"))
}

/// An age in milliseconds.
fn parse_age(typed: &str) -> Result<u64> {
    let bad = || Error::invalid("this is no age").with_remedy("write a number and `d`, `h`, `m` or `s`: `400d`");
    let (number, unit) = typed.split_at_checked(typed.len().saturating_sub(1)).ok_or_else(bad)?;
    let unit_ms = match unit {
        "d" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1000,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(unit_ms).ok_or_else(bad)
}
