//! `audit`: what the log costs: durable appends against synced puts of as many bytes into a bare RocksDB, redeems with it
//! against redeems without, searches likewise, and a log of many events verified against hashing them.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::BenchArgs;
use super::data::Corpus;
use super::floor::BareRocks;
use super::ingest::{BATCH, starts};
use super::redeem::{World, log};
use super::report::{Case, Pair, Report, take_turns, timed};
use crate::audit::export::export;
use crate::audit::log::{LOG_DIR, Log, Reader};
use crate::audit::tree::{leaf_hash, node_hash};
use crate::audit::verify::{self, PublicKey};
use crate::audit::{AuditSink, Discard, Event, Outcome, What};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::crypto::default_provider;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Profile;
use crate::keys::kms::Role;
use crate::store::{Collection, Store, Tenant};
use crate::vectors::{CollectionSpec, Metric, SearchRequest};

const WRITERS: [usize; 3] = [1, 8, 64];
/// Durable appends of each writer in a round.
const EACH: usize = 100;
const US: Duration = Duration::from_micros(1);
/// Chunks that are searched, results of a search, and searches of a turn.
const CHUNKS: usize = 2000;
const K: usize = 10;
const SEARCHES: usize = 100;

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    appends(args, scratch.path(), report).await?;
    redeems(args, scratch, report).await?;
    searches(args, scratch, report).await?;
    for n in args.sizes(&[100_000]) {
        whole(scratch.path(), report, n)?;
    }
    Ok(())
}

/// A redeem, or a revocation, which is durable: both about 400 bytes long.
fn event(durable: bool) -> Event {
    let what = if durable {
        What::TokensRevoked { kind: "holder", id: "5".repeat(224) }
    } else {
        let (token, holder, digest) = ("7".repeat(32), "5".repeat(64), "3".repeat(64));
        What::Redeemed { token, holder, records: 1, digest }
    };
    let mut event = Event::new(SystemClock.now_ms(), "node", what, Outcome::Done).tenant("9".repeat(32));
    event.role = Some(Role::Node);
    event
}

async fn appends(args: &BenchArgs, dir: &Path, report: &mut Report<'_>) -> Result<()> {
    let bare = BareRocks::open(&dir.join("bare"), Config::default().cache_mib)?;
    let log = log(&dir.join("appends"))?;
    let next = AtomicU64::new(0);
    let value = serde_json::to_vec(&event(true)).map_err(|e| Error::internal("encoding").with_source(e))?;
    let put = || bare.put_synced(&next.fetch_add(1, Ordering::Relaxed).to_be_bytes(), &value);
    let append = || log.record(&event(true));
    for writers in WRITERS {
        let n = writers * EACH;
        let times =
            take_turns(args.rounds(), async |_| at_once(writers, put), async |_| at_once(writers, append)).await?;
        let rate = times.percentile(50, Duration::from_secs(1)).rate(n);
        let case = format!("durable, {writers} writers");
        report.add(Case { bench: "audit", case, unit: "events/s", n, bar: Some(0.8) }, rate)?;
    }
    let n = 10_000;
    let times = take_turns(
        args.rounds(),
        async |_| timed(n, || bare.put(&next.fetch_add(1, Ordering::Relaxed).to_be_bytes(), &value)),
        async |_| timed(n, || log.record(&event(false))),
    );
    let times = times.await?.percentile(50, US);
    report.add(Case { bench: "audit", case: "not waited for".into(), unit: "µs", n, bar: None }, times)
}

/// How long it takes until each of `writers` has done `work` [`EACH`] times.
fn at_once(writers: usize, work: impl Fn() -> Result<()> + Sync) -> Result<Duration> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(|| (0..EACH).try_for_each(|_| work()))).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| Error::internal("a writer panicked"))?)
    })?;
    Ok(start.elapsed())
}

/// The same redeems without a log and with it.
async fn redeems(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let dirs = [tempfile::tempdir_in(scratch.path())?, tempfile::tempdir_in(scratch.path())?];
    let without = World::with(&dirs[0], Profile::Hybrid, "without", false)?;
    let with = World::with(&dirs[1], Profile::Hybrid, "with", true)?;
    let n = 400 * args.rounds();
    let times = without.over_unix_beside(&with, [&dirs[0], &dirs[1]], n).await?;
    for percent in [50, 99] {
        let (case, bar) = (format!("redeem over unix p{percent}"), (percent == 50).then_some(1.05));
        report.add(Case { bench: "audit", case, unit: "µs", n, bar }, times.percentile(percent, US))?;
    }
    // Short turns, and many of them: whatever else the machine does falls on both.
    let (n, turns) = (100, 5 * args.rounds());
    let times = take_turns(turns, async |_| without.redeem_new(n), async |_| with.redeem_new(n)).await?;
    let case = Case { bench: "audit", case: "redeem first, in process".into(), unit: "µs", n, bar: Some(1.05) };
    report.add(case, times.percentile(50, US))?;
    let times = take_turns(turns, async |_| without.redeem_again(n), async |_| with.redeem_again(n)).await?;
    let case = Case { bench: "audit", case: "redeem cached, in process".into(), unit: "µs", n, bar: Some(1.05) };
    report.add(case, times.percentile(50, US))
}

/// A store with chunks to search.
struct Searched {
    store: Store,
    tenant: Tenant,
    collection: Collection,
}

impl Searched {
    /// With an audit log of its own, unless `audit` is given.
    async fn load(scratch: &TempDir, audit: Option<Arc<dyn AuditSink>>, corpus: &Corpus) -> Result<Self> {
        let options = super::options(scratch);
        let options = match audit {
            Some(audit) => options.audit(audit),
            None => options,
        };
        let (store, tenant) = super::opened(options, false).await?;
        let size = corpus.vectors.first().map_or(0, Vec::len);
        let collection = tenant.create_collection("searched", CollectionSpec::new(size, Metric::Cosine)).await?;
        for from in starts(corpus) {
            collection.ingest(corpus.chunks(from, BATCH)).await?;
        }
        collection.flush().await?;
        Ok(Self { store, tenant, collection })
    }

    /// How long one search takes.
    async fn ask(&self, corpus: &Corpus) -> Result<Duration> {
        let start = Instant::now();
        for query in &corpus.queries {
            black_box(self.collection.search(SearchRequest::new(query.clone(), K)).await?);
        }
        Ok(start.elapsed() / u32::try_from(corpus.queries.len().max(1)).unwrap_or(u32::MAX))
    }

    async fn close(self) -> Result<()> {
        drop((self.collection, self.tenant));
        self.store.close().await
    }
}

/// The same searches without a log and with it.
async fn searches(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let corpus = Corpus::made_up(CHUNKS, args.dim(), SEARCHES, args.seed);
    let dirs = [tempfile::tempdir_in(scratch.path())?, tempfile::tempdir_in(scratch.path())?];
    let without = Searched::load(&dirs[0], Some(Arc::new(Discard)), &corpus).await?;
    let with = Searched::load(&dirs[1], None, &corpus).await?;
    // What is loaded and what is cached on the way is no part of it.
    without.ask(&corpus).await?;
    with.ask(&corpus).await?;
    let turns = 5 * args.rounds();
    let times = take_turns(turns, async |_| without.ask(&corpus).await, async |_| with.ask(&corpus).await).await?;
    without.close().await?;
    with.close().await?;
    let case = Case { bench: "audit", case: "search".into(), unit: "µs", n: CHUNKS, bar: Some(1.05) };
    report.add(case, times.percentile(50, US))
}

/// A log of `n` events: appended, exported, verified, and proofs of it.
fn whole(dir: &Path, report: &mut Report<'_>, n: usize) -> Result<()> {
    let mut row = |case: &str, unit, floor, ours| {
        report.add(Case { bench: "audit", case: case.into(), unit, n, bar: None }, Pair { floor, ours })
    };
    let log = log(&dir.join(format!("whole-{n}")))?;
    let start = Instant::now();
    append_all(&log, n)?;
    let appended = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let size = log.publish()?.published;
    row("append all, then publish", "s", appended, appended + start.elapsed().as_secs_f64())?;
    let key = log.key().text(default_provider());
    drop(log);
    let reader = Reader::open(&dir.join(format!("whole-{n}")).join(LOG_DIR))?;
    let to = dir.join(format!("export-{n}"));
    export(&reader, &to, |_| ())?;
    let start = Instant::now();
    for entry in reader.entries(0, size)? {
        black_box(leaf_hash(&entry?.1));
    }
    let hashed = start.elapsed().as_secs_f64();
    let before = resident_mib("VmRSS:");
    // From here on the peak counts anew.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let start = Instant::now();
    let verified = verify::directory(&to, &PublicKey::parse(&key)?, &[], |_| ()).map_err(Error::from)?;
    row("verify all", "s", hashed, start.elapsed().as_secs_f64())?;
    if verified.entries != size {
        return Err(Error::new(ErrorKind::Internal, "not all entries were verified"));
    }
    row("peak memory while verifying", "MiB", before, resident_mib("VmHWM:"))?;
    let step = (size / 1000).max(1);
    let proofs: Vec<_> = (0..size).step_by(usize::try_from(step).unwrap_or(1)).collect();
    let mut next = proofs.iter().cycle();
    let made = timed(proofs.len(), || reader.inclusion(*next.next().unwrap_or(&0), size))?;
    let hash = timed(proofs.len(), || Ok(node_hash(&[1; 32], &[2; 32])))?.as_secs_f64() * 1e6;
    let levels = f64::from(size.max(2).ilog2() + 1);
    row("make an inclusion proof", "µs", levels * hash, made.as_secs_f64() * 1e6)?;
    let proof = reader.inclusion(size / 3, size)?;
    let check = timed(1000, || {
        verify::inclusion(proof.leaf_idx, proof.tree_size, &proof.root, &proof.leaf_hash, black_box(&proof.proof))
    })?;
    row("verify an inclusion proof", "µs", levels * hash, check.as_secs_f64() * 1e6)?;
    row("size of an inclusion proof", "B", levels * 32.0, proof.proof.len() as f64 * 32.0)
}

fn append_all(log: &Log, n: usize) -> Result<()> {
    let event = event(false);
    (0..n).try_for_each(|_| log.record(&event))
}

/// What the kernel says of this process's memory, in MiB.
fn resident_mib(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}
