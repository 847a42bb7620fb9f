//! `envelope show`: what an envelope says of itself, without a store and without keys.

use std::path::PathBuf;

use clap::Subcommand;

use super::file::read;
use super::output::Output;
use crate::crypto::default_provider;
use crate::envelope::EnvelopeView;
use crate::error::Result;
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
    let view = EnvelopeView::of(default_provider(), &read(&file, limits::ENVELOPE_BYTES as u64 + 1)?)?;
    output.remark("shown as it is: only its receiver can verify it");
    output.answer(&view, ToString::to_string)
}
