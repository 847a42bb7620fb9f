//! `bench`: each measured against its floor, the same work without Strongroom, in the same run.
//!
//! Floor and ours take turns, so that whatever else the machine does falls on both. Figures that were kept, with their
//! machine, are in `benches/runs/`.

mod audit;
mod data;
mod filtered;
mod floor;
mod ingest;
mod kms;
mod memory_get;
mod memory_put;
mod redeem;
mod report;
mod rotate;
mod rotate_beside;
mod seal;
mod search;
mod server;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tempfile::TempDir;

use super::output::Output;
use crate::error::Result;
use crate::keys::Passphrase;
use crate::keys::keystore::file::KdfCost;
use crate::store::{Store, StoreOptions, Tenant};
use crate::vectors::Mode;

use report::Report;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// What to measure
    bench: Bench,
    /// Records to work with; `search` takes several sizes: `-n 2000,20000`
    #[arg(long, short = 'n', value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(20..=10_000_000))]
    records: Vec<u32>,
    /// Dimensions of the vectors
    #[arg(long, default_value_t = 384, value_parser = clap::value_parser!(u16).range(2..))]
    dim: u16,
    /// Only this mode of `ingest`, `search` and `rotate`: `sealed`, `veiled` or `plain`; else the first and the last
    #[arg(long)]
    mode: Option<Mode>,
    /// Measure `search` also with a filter that so many percent of the chunks pass
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    filter: Option<u8>,
    /// How often floor and ours take turns
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// What the made-up data is made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Make the data of `search` by jittering these embeddings instead (`.npy`)
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Up to how many records `search` builds the engine's own graph to compare with, which takes the longest
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    floor_up_to: u32,
    /// Measure `kms` over a token too, by this PKCS#11 module; the passphrase is its user PIN
    #[arg(long, value_name = "FILE")]
    pkcs11_module: Option<PathBuf>,
    /// The label of that token
    #[arg(long, value_name = "LABEL", default_value = "strongroom")]
    pkcs11_token: String,
    #[command(flatten)]
    server: server::ServerArgs,
    /// Where to work; removed at the end [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// Seal and open a record of 2 KiB: against the bare AEAD
    Seal,
    /// Write chunks: against `qdrant-edge` alone; with `--engine server`, against a client of the same server
    Ingest,
    /// Find ten chunks with their texts: against the same
    Search,
    /// Read memories of 1 KiB: against RocksDB alone
    MemoryGet,
    /// Write memories of 1 KiB durably: against RocksDB alone
    MemoryPut,
    /// Rotate memories of 1 KiB: against copying the same rows in RocksDB; and chunks: against rewriting them in a bare
    /// `qdrant-edge`
    Rotate,
    /// Search, read and write while everything is rotated: against the same while nothing is
    RotateBeside,
    /// Encapsulate, decapsulate, sign, verify and derive through the key service: against the bare call
    Kms,
    /// Have a record of 2 KiB opened by a token: against verifying a signature, and opening the record
    Redeem,
    /// Append to the audit log, durably and not, verify it, and redeem and search with and without it: against synced writes into a
    /// bare RocksDB, hashing, and redeeming without
    Audit,
    /// Seal a context window of 8 KiB, mint a token for it and redeem that: against the sum of its primitives
    Hop,
}

pub(super) async fn run(args: BenchArgs, output: &Output) -> Result<()> {
    let scratch = scratch(&args)?;
    let mut report = Report::new(output);
    match args.bench {
        Bench::Audit => audit::run(&args, &scratch, &mut report).await?,
        Bench::Seal => seal::run(&args, &mut report).await?,
        Bench::Ingest if args.server.is_server() => server::ingest(&args, &scratch, &mut report).await?,
        Bench::Search if args.server.is_server() => server::search(&args, &scratch, &mut report).await?,
        Bench::Ingest => ingest::run(&args, &scratch, &mut report).await?,
        Bench::Search => search::run(&args, &scratch, &mut report).await?,
        Bench::MemoryGet => memory_get::run(&args, &scratch, &mut report).await?,
        Bench::Rotate => rotate::run(&args, &scratch, &mut report).await?,
        Bench::RotateBeside => rotate_beside::run(&args, &scratch, &mut report).await?,
        Bench::Kms => kms::run(&args, &scratch, &mut report).await?,
        Bench::Redeem => redeem::redeem(&args, &scratch, &mut report).await?,
        Bench::Hop => redeem::hop(&args, &scratch, &mut report).await?,
        Bench::MemoryPut => memory_put::run(&args, &scratch, &mut report).await?,
    }
    report.finish()?;
    Ok(scratch.close()?)
}

impl BenchArgs {
    fn sizes(&self, default: &[u32]) -> Vec<usize> {
        let sizes = if self.records.is_empty() { default } else { &self.records };
        sizes.iter().map(|n| *n as usize).collect()
    }

    fn modes(&self) -> Vec<Mode> {
        self.mode.map_or_else(|| vec![Mode::Sealed, Mode::Plain], |mode| vec![mode])
    }

    fn rounds(&self) -> usize {
        usize::from(self.rounds)
    }

    fn dim(&self) -> usize {
        usize::from(self.dim)
    }
}

fn scratch(args: &BenchArgs) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("strongroom-bench-");
    Ok(match &args.scratch {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    })
}

/// The tenant that everything is measured with.
const TENANT: &str = "bench";

/// A store of one tenant below `scratch`. It is open already where `again` says so.
async fn store(scratch: &TempDir, again: bool) -> Result<(Store, Tenant)> {
    opened(options(scratch), again).await
}

fn options(scratch: &TempDir) -> StoreOptions {
    StoreOptions::new(scratch.path().join("store")).kdf_cost(KdfCost::INSECURE_FAST)
}

async fn opened(options: StoreOptions, again: bool) -> Result<(Store, Tenant)> {
    let passphrase = || Passphrase::new(b"of a store that lives for one run".to_vec());
    let id = TENANT.parse()?;
    if again {
        let store = Store::open(options, passphrase()?).await?;
        let tenant = store.tenant(&id).await?;
        return Ok((store, tenant));
    }
    Store::init(&options, passphrase()?).await?;
    let store = Store::open(options, passphrase()?).await?;
    let tenant = store.create_tenant(&id).await?;
    Ok((store, tenant))
}
