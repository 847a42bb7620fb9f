//! `ingest`: chunks in batches and a flush at the end, against the same points in a bare `qdrant-edge` shard.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::BenchArgs;
use super::data::Corpus;
use super::floor::BareShard;
use super::report::{Case, Report, take_turns};
use crate::error::Result;
use crate::store::Tenant;
use crate::vectors::{CollectionSpec, Metric, Mode};

/// Chunks of one write, on both sides.
pub(super) const BATCH: usize = 512;

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let (store, tenant) = super::store(scratch, false).await?;
    for n in args.sizes(&[4096]) {
        let corpus = Corpus::made_up(n, args.dim(), 0, args.seed);
        for mode in args.modes() {
            let times = take_turns(
                args.rounds(),
                async |_| floor(scratch, args, &corpus),
                async |_| ours(&tenant, args, mode, &corpus).await,
            );
            let case = Case { bench: "ingest", case: mode.to_string(), unit: "ms", n, bar: Some(1.5) };
            report.add(case, times.await?.percentile(50, Duration::from_millis(1)))?;
        }
    }
    store.close().await
}

fn floor(scratch: &TempDir, args: &BenchArgs, corpus: &Corpus) -> Result<Duration> {
    let dir = scratch.path().join("bare");
    let shard = BareShard::new(&dir, args.dim())?;
    let batches: Vec<_> = starts(corpus).map(|from| BareShard::points(corpus.chunks(from, BATCH))).collect();
    let start = Instant::now();
    batches.into_iter().try_for_each(|points| shard.upsert(points))?;
    shard.flush();
    let took = start.elapsed();
    drop(shard);
    std::fs::remove_dir_all(dir)?;
    Ok(took)
}

async fn ours(tenant: &Tenant, args: &BenchArgs, mode: Mode, corpus: &Corpus) -> Result<Duration> {
    let spec = CollectionSpec::new(args.dim(), Metric::Cosine).mode(mode);
    let collection = tenant.create_collection("ingest", spec).await?;
    // Opened before the clock starts, as the bare shard is.
    collection.count().await?;
    let batches: Vec<_> = starts(corpus).map(|from| corpus.chunks(from, BATCH)).collect();
    let start = Instant::now();
    for chunks in batches {
        collection.ingest(chunks).await?;
    }
    collection.flush().await?;
    let took = start.elapsed();
    drop(collection);
    tenant.drop_collection("ingest").await?;
    Ok(took)
}

/// Where each batch starts.
pub(super) fn starts(corpus: &Corpus) -> impl Iterator<Item = usize> {
    (0..corpus.vectors.len()).step_by(BATCH)
}
