//! `audit verify`: an export or a view, with the public key alone.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::audit::verify::{self, PublicKey, Signed};
use crate::cli::output::Output;
use crate::error::{Error, Result};
use crate::limits;

#[derive(Args)]
pub(in crate::cli) struct VerifyArgs {
    /// The directory of an export, or the file of a tenant's view
    path: PathBuf,
    /// The log's public key, or a file with it, from a source that you trust
    #[arg(long, value_name = "KEY")]
    key: String,
    /// An earlier checkpoint that the log must continue; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The pseudonym that a view must be of
    #[arg(long, value_name = "HEX", value_parser = super::parse_pseudonym)]
    pseudonym: Option<String>,
}

pub(super) fn verify(args: VerifyArgs, output: &Output) -> Result<()> {
    let key = key(&args.key)?;
    let earlier: Vec<_> = args.checkpoint.iter().map(|file| signed(file, &key)).collect::<Result<_>>()?;
    if args.path.is_file() {
        return view(&args, &key, &earlier, output);
    }
    let bar = output.progress(None, "verifying {pos} entries");
    let report = verify::directory(&args.path, &key, &earlier, |done| bar.set_position(done));
    bar.finish_and_clear();
    let report = report.map_err(Error::from)?;
    output.answer(&json!({ "verified": true, "report": &report }), |_| {
        let mut text = format!("sound: {} entries of `{}`\nroot  {}", report.size, report.origin, report.root);
        if report.pruned > 0 {
            text += &format!("\n{} of them were pruned, and the log says so: their hashes are there", report.pruned);
        }
        for size in &report.continues {
            text += &format!("\nit continues the log of {size} entries");
        }
        for witness in &report.witnesses {
            text += &format!("\nalso signed by `{witness}`, not verified");
        }
        text
    })
}

fn view(args: &VerifyArgs, key: &PublicKey, earlier: &[Signed], output: &Output) -> Result<()> {
    if !earlier.is_empty() {
        return Err(Error::invalid("a view does not show what the log was before")
            .with_remedy("verify an export against earlier checkpoints, or a proof of `audit prove consistency`"));
    }
    let report = verify::view(BufReader::new(File::open(&args.path)?), key, args.pseudonym.as_deref());
    let report = report.map_err(Error::from)?;
    output.answer(&json!({ "verified": true, "report": &report }), |_| {
        let what = format!("sound: {} entries of the tenant {}", report.entries, report.tenant);
        format!("{what}, in the log `{}` of {} entries", report.origin, report.size)
    })
}

/// The key itself, or a file with it.
fn key(typed: &str) -> Result<PublicKey> {
    let path = Path::new(typed);
    if path.is_file() { PublicKey::parse(&short(path)?) } else { PublicKey::parse(typed) }
}

fn signed(file: &Path, key: &PublicKey) -> Result<Signed> {
    Ok(Signed::verify(&short(file)?, key)?)
}

fn short(path: &Path) -> Result<String> {
    if std::fs::metadata(path)?.len() > limits::AUDIT_NOTE_BYTES as u64 {
        return Err(Error::invalid(format!("`{}` is too long for a key or a checkpoint", path.display())));
    }
    Ok(std::fs::read_to_string(path)?)
}
