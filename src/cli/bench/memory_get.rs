//! `memory-get`: one memory of 1 KiB by its key, against a bare RocksDB get of as many bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::BenchArgs;
use super::floor::BareRocks;
use super::report::{Case, Pair, Report, take_turns};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::Namespace;
use crate::memory::{Memory, MemoryOp};
use crate::store::Tenant;

/// Bytes of a value as JSON.
pub(super) const VALUE_BYTES: usize = 1024;
pub(super) const NAMESPACE: &str = "users/ada";
/// Memories written at a time while loading.
const LOAD: usize = 512;
/// Reads of one round.
const READS: usize = 2_000;

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    for n in args.sizes(&[20_000]) {
        let dir = tempfile::tempdir_in(scratch.path())?;
        load(&dir, args, n).await?;
        // Opened again, so that both read from their tables and not from what was just written.
        let bare = BareRocks::open(&dir.path().join("bare"), Config::default().cache_mib)?;
        let (store, tenant) = super::store(&dir, true).await?;
        let times = measure(args, n, &bare, &tenant).await?;
        for percent in [50, 99] {
            let case = Case { bench: "memory-get", case: format!("p{percent}"), unit: "µs", n, bar: Some(1.3) };
            report.add(case, times.percentile(percent, Duration::from_micros(1)))?;
        }
        drop(tenant);
        store.close().await?;
    }
    Ok(())
}

async fn measure(args: &BenchArgs, n: usize, bare: &BareRocks, tenant: &Tenant) -> Result<Pair<Vec<Duration>>> {
    let namespace: Namespace = NAMESPACE.parse()?;
    let missing = || Error::internal("a value that was written is not there");
    for i in 0..n {
        bare.get(&bare_key(i))?.ok_or_else(missing)?;
        tenant.memory(&namespace, &key(i))?.ok_or_else(missing)?;
    }
    let mut times = Pair::<Vec<Duration>>::default();
    let wanted = |round: usize| {
        let mut rng = StdRng::seed_from_u64(args.seed + round as u64);
        (0..READS).map(|_| rng.random_range(0..n)).collect::<Vec<_>>()
    };
    take_turns(
        args.rounds(),
        async |round| {
            for key in wanted(round).into_iter().map(bare_key) {
                let start = Instant::now();
                black_box(bare.get(&key)?.ok_or_else(missing)?);
                times.floor.push(start.elapsed());
            }
            Ok(Duration::ZERO)
        },
        async |round| {
            for key in wanted(round).into_iter().map(key) {
                let start = Instant::now();
                black_box(tenant.memory(&namespace, &key)?.ok_or_else(missing)?);
                times.ours.push(start.elapsed());
            }
            Ok(Duration::ZERO)
        },
    )
    .await?;
    Ok(times)
}

/// Fills both with `n` values.
async fn load(dir: &TempDir, args: &BenchArgs, n: usize) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(args.seed);
    let bare = BareRocks::open(&dir.path().join("bare"), Config::default().cache_mib)?;
    let (store, tenant) = super::store(dir, false).await?;
    (0..n).try_for_each(|i| bare.put(&bare_key(i), &bare_value(&mut rng)))?;
    remember(&tenant, n, &mut rng).await?;
    drop(tenant);
    store.close().await
}

/// Writes `n` memories.
pub(super) async fn remember(tenant: &Tenant, n: usize, rng: &mut StdRng) -> Result<()> {
    for start in (0..n).step_by(LOAD) {
        let puts = (start..n.min(start + LOAD)).map(|i| Ok(MemoryOp::Put(memory(i, rng)?)));
        tenant.memory_batch(puts.collect::<Result<_>>()?).await?;
    }
    Ok(())
}

pub(super) fn key(i: usize) -> String {
    format!("memory-{i:07}")
}

/// A value of [`VALUE_BYTES`] bytes, quotes included.
pub(super) fn memory(i: usize, rng: &mut StdRng) -> Result<Memory> {
    Memory::new(NAMESPACE.parse()?, key(i), &super::data::text(VALUE_BYTES - 2, rng))
}

/// A key as long as ours and as scattered: tenant, epoch, kind, two labels, the record.
pub(super) fn bare_key(i: usize) -> Vec<u8> {
    let scattered = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    [&[1; 16 + 4 + 1 + 2 * 16][..], &scattered, &(i as u64).to_be_bytes()].concat()
}

/// A value as long as what we store: expiry, sealing, and with the value its namespace, key, times and flags.
pub(super) fn bare_value(rng: &mut StdRng) -> Vec<u8> {
    let plain = 1 + NAMESPACE.len() + 1 + 1 + key(0).len() + 2 + VALUE_BYTES + 6 + 6 + 1 + 2;
    let mut value = vec![0; 8 + crate::record::OVERHEAD + plain];
    rng.fill(&mut value[..]);
    value
}
