//! `keystore passphrase|backup|restore`: what opens the keystore, and its backups.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Global;
use super::output::{Output, bytes};
use crate::audit::log::{KEY_FILE, KeyKeeper};
use crate::audit::{AuditSink as _, Event, Outcome, What};
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::default_provider;
use crate::disk::DirLock;
use crate::error::{Error, Result};
use crate::keys::keystore::copy::{self, KeystoreCopy};
use crate::keys::keystore::custody::CustodyKind;
use crate::keys::keystore::file::KdfCost;
use crate::keys::{Keystore, Passphrase};
use crate::store::{LogOf, StoreOptions};

#[derive(Subcommand)]
pub(super) enum KeystoreCommand {
    /// Change the passphrase; nobody may have the store open
    Passphrase(PassphraseArgs),
    /// Copy the keys into one file, sealed under a passphrase of its own; a key service may run meanwhile
    Backup {
        /// The file; it must not be there yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        passphrase: BackupPassphrase,
    },
    /// Make the keystore of such a file, where there is none
    Restore {
        /// The file
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        passphrase: BackupPassphrase,
    },
}

#[derive(Args)]
pub(super) struct BackupPassphrase {
    /// A file with the passphrase of the backup; otherwise a prompt
    #[arg(long, value_name = "FILE")]
    backup_passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct PassphraseArgs {
    /// A file with the new passphrase; otherwise a prompt
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Memory that opening takes from now on (Argon2id), in MiB [default: as before]
    #[arg(long, requires = "kdf_passes", value_parser = clap::value_parser!(u32).range(1..=4096))]
    kdf_memory_mib: Option<u32>,
    /// Passes that opening takes from now on (Argon2id) [default: as before]
    #[arg(long, requires = "kdf_memory_mib", value_parser = clap::value_parser!(u32).range(1..=100))]
    kdf_passes: Option<u32>,
}

pub(super) fn run(global: &Global, command: KeystoreCommand, output: &Output) -> Result<()> {
    let options = global.options()?;
    if options.has_remote_keys() {
        return Err(Error::invalid("the keys of this store are with a key service")
            .with_remedy("run the command where the key service has its keystore"));
    }
    let dir = options.keystore_dir();
    match command {
        KeystoreCommand::Passphrase(args) => change_passphrase(global, &options, &args, output),
        KeystoreCommand::Backup { to, passphrase } => {
            let passphrase = passphrase.read(Passphrase::ask_new)?;
            // While a key service runs, the log is that service's, and does not say it.
            let held = DirLock::hold(&dir, "keystore").ok();
            let noted = |outcome| held.as_ref().map_or(Ok(()), |_| note(&options, "backup", outcome));
            noted(Outcome::Begun)?;
            let made = copy::back_up(&dir, &to, default_provider(), &passphrase, KdfCost::default());
            noted(Outcome::of(&made))?;
            let made = made?;
            output.answer(&json!({ "file": to, "copied": made }), |_| {
                format!("copied the keys of {} entries to {}, {}", made.tenants, to.display(), bytes(made.bytes))
            })?;
            warn(output, made);
            Ok(())
        }
        KeystoreCommand::Restore { from, passphrase } => {
            let passphrase = passphrase.read(Passphrase::ask_known)?;
            let made = copy::restore(&from, &dir, default_provider(), &passphrase)?;
            output.answer(&json!({ "dir": dir, "restored": made }), |_| {
                format!("restored the keys of {} entries to {}", made.tenants, dir.display())
            })?;
            output.remark("it opens with the passphrase that it had then; epochs destroyed since then open again");
            warn(output, made);
            Ok(())
        }
    }
}

impl BackupPassphrase {
    fn read(&self, ask: fn() -> Result<Passphrase>) -> Result<Passphrase> {
        self.backup_passphrase_file.as_deref().map_or_else(ask, Passphrase::from_file)
    }
}

/// What whoever has such a file must know.
fn warn(output: &Output, copy: KeystoreCopy) {
    output.remark("warning: this file brings destroyed epochs back: destroy it when an epoch or a tenant is destroyed");
    if copy.custody != CustodyKind::File {
        output.remark("warning: the token is not in it: back it up with its own tools");
    }
}

/// Writes a change of the keystore into its log, if that was begun: the first who opens the keystore begins it. To be
/// called while nobody else works with it: a log has one writer. Whoever opens it next signs this too.
fn note(options: &StoreOptions, change: &'static str, outcome: Outcome) -> Result<()> {
    if !options.log_dir(LogOf::Keystore).join(KEY_FILE).exists() {
        return Ok(());
    }
    let event = Event::new(SystemClock.now_ms(), "keystore", What::KeystoreChanged { change }, outcome);
    options.open_log(LogOf::Keystore, KeyKeeper::Nobody, None)?.record(&event)
}

fn change_passphrase(global: &Global, options: &StoreOptions, args: &PassphraseArgs, output: &Output) -> Result<()> {
    let old = global.passphrase(false)?;
    let new = match &args.new_passphrase_file {
        Some(file) => Passphrase::from_file(file)?,
        None => Passphrase::ask_new()?,
    };
    let cost = args.kdf_memory_mib.zip(args.kdf_passes);
    let cost = cost.map(|(mib, passes)| KdfCost { memory_kib: mib << 10, passes, ..KdfCost::default() });
    let (dir, note) = (options.keystore_dir(), |outcome| note(options, "passphrase", outcome));
    Keystore::change_passphrase_noted(&dir, default_provider(), old, new, cost, note)?;
    output.answer(&json!({ "changed": dir }), |_| {
        "the passphrase is changed; copies of keystore.json made before still open with the old one".into()
    })
}
