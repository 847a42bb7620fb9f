//! `rotate-beside`: what those who search, read and write notice of a rotation: their times while it runs, against those
//! before. Every answer is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::BenchArgs;
use super::data::Corpus;
use super::ingest::{BATCH, starts};
use super::memory_get::{NAMESPACE, key, memory, remember};
use super::report::{Case, Pair, Report};
use crate::error::{Error, Result};
use crate::id::{Namespace, TenantId};
use crate::rotation::RotateOptions;
use crate::store::{Collection, Store, Tenant};
use crate::vectors::{CollectionSpec, Metric, SearchRequest};

/// What is asked, one after the other.
const KINDS: [&str; 4] = ["search", "memory-get", "ingest", "memory-put"];
/// How often somebody asks for something.
const INTERVAL: Duration = Duration::from_millis(5);
/// How long nothing is rotated, before and after.
const QUIET: Duration = Duration::from_secs(20);
/// Different questions.
const QUERIES: usize = 256;

/// How long each call of a kind took.
type Times = [Vec<Duration>; KINDS.len()];

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    for n in args.sizes(&[200_000]) {
        let dir = tempfile::tempdir_in(scratch.path())?;
        let (store, tenant) = super::store(&dir, false).await?;
        let asks = Asks::load(args, n, &tenant).await?;
        drop(tenant);
        let (mut quiet, mut rotating) = (Times::default(), Times::default());
        for _ in 0..args.rounds().min(3) {
            let stop = AtomicBool::new(false);
            let wait = async {
                tokio::time::sleep(QUIET).await;
                stop.store(true, Ordering::Relaxed);
                Ok(())
            };
            tokio::try_join!(asks.ask(&stop, &mut quiet), wait)?;
            let stop = AtomicBool::new(false);
            tokio::try_join!(asks.ask(&stop, &mut rotating), rotate(&store, report, &stop))?;
        }
        drop(asks);
        store.close().await?;
        for ((kind, quiet), rotating) in KINDS.iter().zip(quiet).zip(rotating) {
            let times = Pair { floor: quiet, ours: rotating };
            for percent in [50, 99] {
                let bar = (percent == 99).then_some(1.5);
                let case = Case { bench: "rotate-beside", case: format!("{kind} p{percent}"), unit: "µs", n, bar };
                report.add(case, times.percentile(percent, Duration::from_micros(1)))?;
            }
        }
    }
    Ok(())
}

async fn rotate(store: &Store, report: &Report<'_>, stop: &AtomicBool) -> Result<()> {
    let (tenant, start): (TenantId, _) = (super::TENANT.parse()?, Instant::now());
    let status = store.rotate(&tenant, RotateOptions::default(), |_| ()).await;
    stop.store(true, Ordering::Relaxed);
    let status = status?;
    report.remark(&format!("{} records were rotated in {:.1} s", status.records, start.elapsed().as_secs_f64()));
    Ok(())
}

/// What is asked for.
struct Asks {
    tenant: Tenant,
    collection: Collection,
    corpus: Arc<Corpus>,
    memories: usize,
    seed: u64,
}

impl Asks {
    /// Half of `n` as chunks, half as memories.
    async fn load(args: &BenchArgs, n: usize, tenant: &Tenant) -> Result<Self> {
        let corpus = Corpus::made_up(n / 2, args.dim(), QUERIES, args.seed);
        let spec = CollectionSpec::new(args.dim(), Metric::Cosine);
        let collection = tenant.create_collection("rotate", spec).await?;
        for from in starts(&corpus) {
            collection.ingest(corpus.chunks(from, BATCH)).await?;
        }
        collection.flush().await?;
        let memories = n - n / 2;
        remember(tenant, memories, &mut StdRng::seed_from_u64(args.seed)).await?;
        Ok(Self { tenant: tenant.clone(), collection, corpus: Arc::new(corpus), memories, seed: args.seed })
    }

    /// Asks for one thing after the other until it is told to stop. Who is late asks at once.
    async fn ask(&self, stop: &AtomicBool, times: &mut Times) -> Result<()> {
        let mut due = tokio::time::interval(INTERVAL);
        for nth in 0.. {
            for (kind, times) in times.iter_mut().enumerate() {
                due.tick().await;
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                times.push(self.one(kind, nth).await?);
            }
        }
        Ok(())
    }

    async fn one(&self, kind: usize, nth: usize) -> Result<Duration> {
        let namespace: Namespace = NAMESPACE.parse()?;
        let missing = || Error::internal("something that was written is not there");
        // Scattered, and the same every time.
        let scattered = |of: usize| nth.wrapping_mul(0x9e37_79b9) % of.max(1);
        let start;
        match kind {
            0 => {
                let query = self.corpus.queries.get(nth % QUERIES).cloned().unwrap_or_default();
                start = Instant::now();
                let hits = self.collection.search(SearchRequest::new(query, 10)).await?;
                if hits.len() != 10 {
                    return Err(missing());
                }
            }
            1 => {
                let key = key(scattered(self.memories));
                start = Instant::now();
                self.tenant.memory(&namespace, &key)?.ok_or_else(missing)?;
            }
            2 => {
                let chunks = self.corpus.chunks(scattered(self.corpus.vectors.len()), 1);
                start = Instant::now();
                self.collection.ingest(chunks).await?;
            }
            _ => {
                let at = scattered(self.memories);
                let memory = memory(at, &mut StdRng::seed_from_u64(self.seed ^ nth as u64))?;
                start = Instant::now();
                self.tenant.remember(memory).await?;
            }
        }
        Ok(start.elapsed())
    }
}
