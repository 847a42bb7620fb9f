//! `keystore passphrase`: what opens the keystore.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Global;
use super::output::Output;
use crate::crypto::default_provider;
use crate::error::Result;
use crate::keys::keystore::file::KdfCost;
use crate::keys::{Keystore, Passphrase};

#[derive(Subcommand)]
pub(super) enum KeystoreCommand {
    /// Change the passphrase; nobody may have the store open
    Passphrase(PassphraseArgs),
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
    let KeystoreCommand::Passphrase(args) = command;
    let dir = global.options()?.keystore_dir();
    let old = global.passphrase(false)?;
    let new = match &args.new_passphrase_file {
        Some(file) => Passphrase::from_file(file)?,
        None => Passphrase::ask_new()?,
    };
    let cost = args.kdf_memory_mib.zip(args.kdf_passes);
    let cost = cost.map(|(mib, passes)| KdfCost { memory_kib: mib << 10, passes, ..KdfCost::default() });
    Keystore::change_passphrase(&dir, default_provider(), old, new, cost)?;
    output.answer(&json!({ "changed": dir }), |_| {
        "the passphrase is changed; copies of keystore.json made before still open with the old one".into()
    })
}
