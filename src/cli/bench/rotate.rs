//! `rotate`: all memories and all chunks to another epoch, checked by a scan, against the same bytes copied by RocksDB
//! and rewritten by `qdrant-edge`. Nothing is opened or sealed there, and nothing checked.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::BenchArgs;
use super::data::Corpus;
use super::floor::{BareRocks, BareShard};
use super::ingest::{BATCH, starts};
use super::memory_get::{bare_key, bare_value, remember};
use super::report::{Case, Pair, Report, take_turns};
use crate::config::Config;
use crate::error::Result;
use crate::id::TenantId;
use crate::limits;
use crate::rotation::RotateOptions;
use crate::store::Store;
use crate::vectors::{CollectionSpec, Metric, Mode};

/// Bytes of a registry row.
const REGISTRY_BYTES: usize = 52;
/// Rows of one write: as many as a rotation makes of its records, which have two each.
const ROWS: usize = 2 * limits::ROTATION_ROWS;
/// What keys of the bare database begin with: memories and their registry rows, before and after.
const MEMORIES: [u8; 2] = [1, 2];
const REGISTRY: [u8; 2] = [3, 4];

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    for n in args.sizes(&[100_000]) {
        let dir = tempfile::tempdir_in(scratch.path())?;
        let times = memories(args, n, &dir).await?;
        report.add(case("memories".to_owned(), n, Some(0.8)), times.rate(n))?;
        for mode in args.modes() {
            let dir = tempfile::tempdir_in(scratch.path())?;
            let times = chunks(args, n / 10, mode, &dir).await?;
            report.add(case(format!("chunks {mode}"), n / 10, None), times.rate(n / 10))?;
        }
    }
    Ok(())
}

fn case(case: String, n: usize, bar: Option<f64>) -> Case {
    Case { bench: "rotate", case, unit: "records/s", n, bar }
}

/// Medians, in seconds.
async fn memories(args: &BenchArgs, n: usize, dir: &TempDir) -> Result<Pair<f64>> {
    let mut rng = StdRng::seed_from_u64(args.seed);
    let bare = BareRocks::open(&dir.path().join("bare"), Config::default().cache_mib)?;
    for i in 0..n {
        let mut registry = [0; REGISTRY_BYTES];
        rng.fill(&mut registry[..]);
        for (first, value) in [(MEMORIES[0], &bare_value(&mut rng)[..]), (REGISTRY[0], &registry)] {
            let key: Vec<u8> = bare_key(i).into_iter().skip(1).collect();
            bare.put(&[&[first], &key[..]].concat(), value)?;
        }
    }
    let (store, tenant) = super::store(dir, false).await?;
    remember(&tenant, n, &mut rng).await?;
    drop(tenant);
    let times = take_turns(
        args.rounds(),
        async |round| {
            let turned = |[a, b]: [u8; 2]| if round % 2 == 0 { (a, b) } else { (b, a) };
            let tables = [turned(MEMORIES), turned(REGISTRY)];
            let start = Instant::now();
            tables.iter().try_for_each(|(from, to)| bare.copy(*from, *to, ROWS))?;
            let took = start.elapsed();
            tables.iter().try_for_each(|(from, _)| bare.remove(*from))?;
            Ok(took)
        },
        async |_| rotate(&store).await,
    )
    .await?;
    store.close().await?;
    Ok(times.percentile(50, Duration::from_secs(1)))
}

async fn chunks(args: &BenchArgs, n: usize, mode: Mode, dir: &TempDir) -> Result<Pair<f64>> {
    let corpus = Corpus::made_up(n, args.dim(), 0, args.seed);
    let shard = BareShard::new(&dir.path().join("bare"), args.dim())?;
    let (store, tenant) = super::store(dir, false).await?;
    let collection =
        tenant.create_collection("rotate", CollectionSpec::new(args.dim(), Metric::Cosine).mode(mode)).await?;
    for from in starts(&corpus) {
        shard.upsert(BareShard::points(corpus.chunks(from, BATCH)))?;
        collection.ingest(corpus.chunks(from, BATCH)).await?;
    }
    shard.flush();
    collection.flush().await?;
    drop((collection, tenant));
    let times = take_turns(
        args.rounds(),
        async |round| {
            let base = |round: usize| (round * n) as u64;
            let start = Instant::now();
            shard.rewrite(base(round), base(round + 1), n, limits::ROTATION_ROWS)?;
            Ok(start.elapsed())
        },
        async |_| rotate(&store).await,
    )
    .await?;
    store.close().await?;
    Ok(times.percentile(50, Duration::from_secs(1)))
}

/// From planning to the destruction of the old epoch, at full speed.
async fn rotate(store: &Store) -> Result<Duration> {
    let tenant: TenantId = super::TENANT.parse()?;
    let start = Instant::now();
    store.rotate(&tenant, RotateOptions { compromised: true, ..RotateOptions::default() }, |_| ()).await?;
    Ok(start.elapsed())
}
