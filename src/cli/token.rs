//! `token inspect`: what a capability token says.

use std::io::Read as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;

use super::output::Output;
use crate::error::{Error, Result};
use crate::limits;
use crate::token::{Bundle, TokenView};

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Show what a token says, without verifying it
    Inspect {
        /// The token, in bytes or base64, or what a sealed search prints; `-` for standard input
        file: PathBuf,
    },
}

pub(super) fn run(command: TokenCommand, output: &Output) -> Result<()> {
    let TokenCommand::Inspect { file } = command;
    let bytes = token_in(&read(&file)?);
    let view = TokenView::of(&bytes).map_err(|_| {
        Error::invalid("this is not a capability token")
            .with_remedy("give the token itself, its base64, or the output of `strongroom search --seal-for … --json`")
    })?;
    output.answer(&view, ToString::to_string)
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    // A bundle has its records besides.
    let most = 2 * (limits::REDEEM_BYTES as u64);
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        let about = |e: std::io::Error| {
            let e = Error::from(e);
            Error::new(e.kind(), format!("`{}` cannot be read: {e}", file.display())).with_remedy("name another file")
        };
        std::fs::File::open(file).map_err(about)?.take(most).read_to_end(&mut bytes).map_err(about)?;
    }
    Ok(bytes)
}

/// The token in what was given.
fn token_in(bytes: &[u8]) -> Vec<u8> {
    if let Ok(bundle) = Bundle::from_json(bytes) {
        return bundle.token.0;
    }
    STANDARD.decode(bytes.trim_ascii()).unwrap_or_else(|_| bytes.to_vec())
}
