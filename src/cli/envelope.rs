//! `envelope show`: what an envelope says of itself, without a store and without keys.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output::Output;
use crate::crypto::default_provider;
use crate::envelope::EnvelopeView;
use crate::error::{Error, Result};
use crate::limits;

#[derive(Subcommand)]
pub(super) enum EnvelopeCommand {
    /// Show what an envelope says of itself, without verifying it; its payload only by length and digest
    Show {
        /// A file with one envelope, or `-` for standard input
        file: PathBuf,
    },
}

pub(super) fn run(command: EnvelopeCommand, output: &Output) -> Result<()> {
    let EnvelopeCommand::Show { file } = command;
    let view = EnvelopeView::of(default_provider(), &read(&file)?)?;
    output.remark("shown as it is: only its receiver can verify it");
    output.answer(&view, ToString::to_string)
}

/// A whole file, if it is not longer than an envelope can be.
fn read(path: &Path) -> Result<Vec<u8>> {
    let named = |e: io::Error| {
        let e = Error::from(e);
        Error::new(e.kind(), format!("`{}`: {e}", path.display())).with_source(e)
    };
    let input: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(path).map_err(named)?) };
    let mut bytes = Vec::new();
    input.take(limits::ENVELOPE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(named)?;
    Ok(bytes)
}
