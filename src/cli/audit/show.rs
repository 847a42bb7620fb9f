//! Entries and proofs, printed.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::WhichArg;
use crate::audit::export::is_of;
use crate::audit::log::Reader;
use crate::audit::proof::Inclusion;
use crate::cli::output::{Output, one_line, time};
use crate::cli::serving::told_to_stop;
use crate::error::{Error, Result};
use crate::store::StoreOptions;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Longest line that people are shown of an entry.
const SHOWN: usize = 200;

#[derive(Subcommand)]
pub(in crate::cli) enum ProveCommand {
    /// Prove that an entry is in the log that the newest checkpoint is of
    Inclusion {
        /// The entry's index
        index: u64,
        #[command(flatten)]
        which: WhichArg,
    },
    /// Prove that the log begins with what it was
    Consistency {
        /// How many entries it had
        old: u64,
        /// How many it had later [default: those of the newest checkpoint]
        new: Option<u64>,
        #[command(flatten)]
        which: WhichArg,
    },
}

/// An entry as machines read it: its bytes as they were hashed are the text of `entry`.
#[derive(Serialize)]
struct Shown<'a> {
    index: u64,
    entry: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Inclusion>,
}

pub(super) async fn tail(log: &Reader, lines: u64, follow: bool, whose: Option<&str>, output: &Output) -> Result<()> {
    let end = log.progress()?.assigned;
    let mut next = match whose {
        None => end.saturating_sub(lines),
        Some(tenant) => first_of_last(log, lines, tenant)?,
    };
    let mut stop = std::pin::pin!(told_to_stop()?);
    loop {
        for row in log.entries(next, u64::MAX)? {
            let (index, entry) = row?;
            next = index + 1;
            if whose.is_none_or(|tenant| is_of(&entry, tenant)) {
                print(index, &entry, None, output)?;
            }
        }
        if !follow {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => log.catch_up()?,
            () = &mut stop => return Ok(()),
        }
    }
}

/// Where the last `lines` entries of a tenant begin.
fn first_of_last(log: &Reader, lines: u64, tenant: &str) -> Result<u64> {
    let mut last = std::collections::VecDeque::new();
    for row in log.entries(0, u64::MAX)? {
        let (index, entry) = row?;
        if is_of(&entry, tenant) {
            last.push_back(index);
            if last.len() as u64 > lines {
                last.pop_front();
            }
        }
    }
    Ok(last.front().copied().unwrap_or(u64::MAX))
}

pub(super) fn show(log: &Reader, index: Option<u64>, whose: Option<&str>, output: &Output) -> Result<()> {
    let size = log.checkpoint()?.checkpoint.size;
    if let Some(index) = index {
        let entry = log.entry(index)?;
        let proof = (index < size).then(|| log.inclusion(index, size)).transpose()?;
        return print(index, &entry, proof, output);
    }
    let Some(tenant) = whose else { return Ok(()) };
    for row in log.entries(0, size)? {
        let (index, entry) = row?;
        if is_of(&entry, tenant) {
            print(index, &entry, Some(log.inclusion(index, size)?), output)?;
        }
    }
    Ok(())
}

pub(super) fn prove(options: &StoreOptions, command: ProveCommand, output: &Output) -> Result<()> {
    match command {
        ProveCommand::Inclusion { index, which } => {
            let log = which.reader(options)?;
            let proof = log.inclusion(index, log.checkpoint()?.checkpoint.size)?;
            output.answer(&proof, |proof| {
                let head = format!("entry {} is in the log of {} entries", proof.leaf_idx, proof.tree_size);
                format!("{head}\nroot  {}\nleaf  {}{}", b64(&proof.root), b64(&proof.leaf_hash), hashes(&proof.proof))
            })
        }
        ProveCommand::Consistency { old, new, which } => {
            let log = which.reader(options)?;
            let new = match new {
                Some(new) => new,
                None => log.checkpoint()?.checkpoint.size,
            };
            if new > log.progress()?.integrated {
                return Err(Error::not_found(format!("the log has no {new} entries yet"))
                    .with_remedy("`strongroom audit status` shows how many it has"));
            }
            let proof = log.consistency(old, new)?;
            output.answer(&proof, |proof| {
                let head = format!("the log of {} entries begins with the one of {}", proof.size2, proof.size1);
                format!("{head}\nold   {}\nnew   {}{}", b64(&proof.root1), b64(&proof.root2), hashes(&proof.proof))
            })
        }
    }
}

fn print(index: u64, entry: &[u8], proof: Option<Inclusion>, output: &Output) -> Result<()> {
    let bad = || Error::integrity("an entry of the audit log");
    let text = std::str::from_utf8(entry).map_err(|_| bad())?;
    let shown = Shown { index, entry: serde_json::from_str(text).map_err(|_| bad())?, proof };
    output.answer(&shown, |shown| {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let at = event["at_ms"].as_u64().map(time).unwrap_or_default();
        let word = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
        let line = format!("{index:>8}  {at}  {}  {}  {}", word("type"), word("outcome"), word("service"));
        let Some(proof) = &shown.proof else { return one_line(&line, SHOWN) };
        format!(
            "{}\n{}\nin the log of {}: root {}{}",
            line,
            text,
            proof.tree_size,
            b64(&proof.root),
            hashes(&proof.proof)
        )
    })
}

fn hashes(proof: &[[u8; 32]]) -> String {
    proof.iter().map(|hash| format!("\n      {}", b64(hash))).collect()
}

fn b64(hash: &[u8; 32]) -> String {
    BASE64_STANDARD.encode(hash)
}
