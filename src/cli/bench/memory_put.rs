//! `memory-put`: one durable memory of 1 KiB at a time, and eight writers at once, against synced puts of as many bytes
//! into a bare RocksDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::BenchArgs;
use super::floor::BareRocks;
use super::memory_get::{bare_key, bare_value, memory};
use super::report::{Case, Report, take_turns};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::Tenant;

const WRITERS: [usize; 2] = [1, 8];

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let bare = BareRocks::open(&scratch.path().join("bare"), Config::default().cache_mib)?;
    let (store, tenant) = super::store(scratch, false).await?;
    // Every write is of another key, on both sides.
    let (bare_next, next) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for n in args.sizes(&[200]) {
        for writers in WRITERS {
            let each = n.div_ceil(writers);
            let times = take_turns(
                args.rounds(),
                async |_| floor(&bare, writers, each, bare_next.fetch_add(writers * each, Ordering::Relaxed)),
                async |_| ours(&tenant, writers, each, next.fetch_add(writers * each, Ordering::Relaxed)).await,
            );
            let case = match writers {
                1 => "1 writer".to_owned(),
                _ => format!("{writers} writers"),
            };
            let per_put = times.await?.percentile(50, Duration::from_micros((writers * each) as u64));
            report.add(Case { bench: "memory-put", case, unit: "µs", n, bar: Some(1.3) }, per_put)?;
        }
    }
    drop(tenant);
    store.close().await
}

/// How long `writers` take for `each` puts of keys from `first` on.
fn floor(bare: &BareRocks, writers: usize, each: usize, first: usize) -> Result<Duration> {
    let rows: Vec<Vec<_>> = ranges(writers, each, first)
        .map(|keys| {
            let mut rng = StdRng::seed_from_u64(keys.start as u64);
            keys.map(|i| (bare_key(i), bare_value(&mut rng))).collect()
        })
        .collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let put_all = |rows: &Vec<(Vec<u8>, Vec<u8>)>| rows.iter().try_for_each(|(k, v)| bare.put_synced(k, v));
        let threads: Vec<_> = rows.iter().map(|rows| scope.spawn(move || put_all(rows))).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| Error::internal("a writer panicked"))?)
    })?;
    Ok(start.elapsed())
}

async fn ours(tenant: &Tenant, writers: usize, each: usize, first: usize) -> Result<Duration> {
    let memories: Vec<Vec<_>> = ranges(writers, each, first)
        .map(|keys| {
            let mut rng = StdRng::seed_from_u64(keys.start as u64);
            keys.map(|i| memory(i, &mut rng)).collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    let tenant = Arc::new(tenant.clone());
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for memories in memories {
        let tenant = tenant.clone();
        tasks.spawn(async move {
            for memory in memories {
                tenant.remember(memory).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap_or_else(|e| Err(Error::internal("a writer failed").with_source(e)))?;
    }
    Ok(start.elapsed())
}

/// The keys of each writer.
fn ranges(writers: usize, each: usize, first: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..writers).map(move |w| first + w * each..first + (w + 1) * each)
}
