//! What somebody who reads the engine's files recovers of the sample corpus, by mode: the attacks that the threat model
//! has the figures of, on what the engine really holds.
//!
//! The attacks themselves are in `attacks.py`; `README.md` says what the columns are.

mod dump;
mod engine;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use strongroom::{Error, Result};

#[derive(Parser)]
struct Args {
    /// How many of the corpus's texts to store
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    texts: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Keep what the engine holds in this directory, and do not attack it
    #[arg(long)]
    dump: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let corpus = engine::Corpus::sample(args.texts)?;
    if let Some(dir) = args.dump {
        std::fs::create_dir_all(&dir)?;
        return dump::write(&dir, &corpus).await;
    }
    let scratch = tempfile::tempdir()?;
    // Asked first: storing takes longer than finding out that it was in vain.
    let mut attacks = dump::attacks(scratch.path())?;
    dump::write(scratch.path(), &corpus).await?;
    if args.json {
        attacks.arg("--json");
    }
    if !attacks.status()?.success() {
        return Err(Error::internal("the attacks did not end well"));
    }
    Ok(())
}
