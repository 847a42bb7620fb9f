//! `bench`: each measured against its floor in the same run.

use clap::Args;

use super::output::Output;
use crate::error::Result;

#[derive(Args)]
pub(super) struct BenchArgs {}

pub(super) async fn run(_args: BenchArgs, _output: &Output) -> Result<()> {
    Ok(())
}
