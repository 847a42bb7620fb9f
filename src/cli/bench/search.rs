//! `search`: the ten nearest chunks with their texts, against the HNSW of a bare `qdrant-edge` shard on plain vectors:
//! how long one takes, how many all cores answer, and how many of the true ten are found; and of the index in memory, how
//! fast it is there and what it takes.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use tempfile::TempDir;

use super::data::Corpus;
use super::floor::BareShard;
use super::ingest::{BATCH, starts};
use super::report::{Case, Pair, Report, take_turns};
use super::{BenchArgs, filtered};
use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::store::{Collection, Tenant};
use crate::vectors::blind::{FieldIndexSpec, IndexKind};
use crate::vectors::{CollectionSpec, Metric, Mode, SearchRequest};

pub(super) const K: usize = 10;
/// Questions of a round, and of the comparison with brute force.
pub(super) const QUERIES: usize = 200;
/// The bars of `sealed` hold up to here.
const SEALED_UP_TO: usize = 50_000;
/// Of so many rounds with all cores busy the best one counts.
const THROUGHPUT_ROUNDS: usize = 3;
/// How long the engine may take to build its graph.
const OPTIMIZE_FOR: Duration = Duration::from_secs(3600);

pub(super) async fn run(args: &BenchArgs, scratch: &TempDir, report: &mut Report<'_>) -> Result<()> {
    let (store, tenant) = super::store(scratch, false).await?;
    for n in args.sizes(&[2_000, 20_000]) {
        let corpus = match &args.vectors {
            Some(file) => Corpus::around_embeddings(file, n, QUERIES, args.seed)?,
            None => Corpus::made_up(n, args.dim(), QUERIES, args.seed),
        };
        let dir = scratch.path().join("bare");
        let (floor, indexed, floor_linked) = if n <= args.floor_up_to as usize {
            let (shard, indexed, took) = load_floor(&dir, &corpus)?;
            if args.filter.is_some() {
                shard.index_integers(&format!("metadata.{}", filtered::FIELD))?;
            }
            report.remark(&format!("{n} vectors, {indexed} of the floor's in its search graph"));
            (Some(shard), indexed, took)
        } else {
            report.remark(&format!("{n} vectors, without a floor: it is built up to {}", args.floor_up_to));
            (None, 0, Duration::ZERO)
        };
        let truth = truth(&corpus);
        for mode in args.modes() {
            let collection = load_ours(&tenant, mode, &corpus, indexed, args.filter.is_some()).await?;
            let run = Run { args, mode, corpus: &corpus, floor: floor.as_ref(), collection: &collection };
            run.open(report).await?;
            run.link(report, floor_linked).await?;
            run.recall(report, &truth).await?;
            run.times(report).await?;
            run.throughput(report).await?;
            if let Some(percent) = args.filter {
                filtered::measure(args, report, mode, &corpus, floor.as_ref(), &collection, percent).await?;
            }
            drop(collection);
            tenant.drop_collection("search").await?;
        }
        drop(floor);
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
    }
    store.close().await
}

/// A collection of one size and mode, and its floor if it has one.
struct Run<'a> {
    args: &'a BenchArgs,
    mode: Mode,
    corpus: &'a Corpus,
    floor: Option<&'a BareShard>,
    collection: &'a Collection,
}

impl Run<'_> {
    /// How fast the index is there: by the first search, which loads it, against reading all vectors of the floor. And
    /// what it takes of memory for each vector, against the vector itself.
    async fn open(&self, report: &mut Report<'_>) -> Result<()> {
        let n = self.corpus.vectors.len();
        if self.mode != Mode::Sealed {
            return Ok(());
        }
        let query = self.corpus.queries.first().cloned().unwrap_or_default();
        let start = Instant::now();
        std::hint::black_box(self.collection.search(SearchRequest::new(query, K)).await?);
        let ours = start.elapsed().as_secs_f64();
        let floor = self.floor.map(|shard| {
            let start = Instant::now();
            shard.read_all().map(|_| start.elapsed().as_secs_f64())
        });
        let pair = Pair { floor: floor.transpose()?.unwrap_or(f64::NAN), ours }.rate(n);
        report.add(self.case("cold open", "vectors/s", None), pair)?;
        let bytes = self.collection.status().await?.resident_bytes as f64 / n as f64;
        let plain = self.corpus.vectors.first().map_or(0, |vector| size_of_val(&vector[..])) as f64;
        report.add(self.case("resident", "B/vector", None), Pair { floor: plain, ours: bytes })
    }

    /// How fast the index in memory links its vectors, where there are so many that it does, against the floor's.
    async fn link(&self, report: &mut Report<'_>, floor: Duration) -> Result<()> {
        if self.mode != Mode::Sealed {
            return Ok(());
        }
        let n = self.corpus.vectors.len();
        let start = Instant::now();
        self.collection.optimize().await?;
        if self.collection.status().await?.indexed_vectors == 0 {
            // It is searched without a graph.
            return Ok(());
        }
        let floor = if floor.is_zero() { f64::NAN } else { floor.as_secs_f64() };
        let pair = Pair { floor, ours: start.elapsed().as_secs_f64() }.rate(n);
        report.add(self.case("link", "vectors/s", None), pair)
    }

    async fn recall(&self, report: &mut Report<'_>, truth: &[Vec<u64>]) -> Result<()> {
        let mut found = Pair { floor: 0, ours: 0 };
        for (query, truth) in self.corpus.queries.iter().zip(truth) {
            if let Some(shard) = self.floor {
                found.floor += shard.search(query, K)?.iter().filter(|(id, _)| truth.contains(id)).count();
            }
            let ours = self.collection.search(SearchRequest::new(query.clone(), K)).await?;
            let is_true = |id: &RecordId| matches!(id, RecordId::Number(id) if truth.contains(id));
            found.ours += ours.iter().filter(|hit| is_true(&hit.id)).count();
        }
        let of = |found: usize| found as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64;
        let floor = self.floor.map_or(f64::NAN, |_| of(found.floor));
        let case = Case { case: format!("recall {}", self.mode), ..self.case("", "recall", None) };
        report.add(case, Pair { floor, ours: of(found.ours) })
    }

    async fn times(&self, report: &mut Report<'_>) -> Result<()> {
        let mut all = Pair::<Vec<Duration>>::default();
        let Pair { floor: floor_times, ours: our_times } = &mut all;
        take_turns(
            self.args.rounds(),
            async |_| {
                let Some(shard) = self.floor else { return Ok(Duration::ZERO) };
                for query in &self.corpus.queries {
                    let start = Instant::now();
                    std::hint::black_box(shard.search(query, K)?);
                    floor_times.push(start.elapsed());
                }
                Ok(Duration::ZERO)
            },
            async |_| {
                for query in &self.corpus.queries {
                    let start = Instant::now();
                    std::hint::black_box(self.collection.search(SearchRequest::new(query.clone(), K)).await?);
                    our_times.push(start.elapsed());
                }
                Ok(Duration::ZERO)
            },
        )
        .await?;
        let bar = match self.mode {
            Mode::Sealed => (self.corpus.vectors.len() <= SEALED_UP_TO).then_some(1.0),
            Mode::Veiled => Some(1.5),
            Mode::Plain => Some(1.15),
        };
        for percent in [50, 99] {
            let mut pair = all.percentile(percent, Duration::from_millis(1));
            if self.floor.is_none() {
                pair.floor = f64::NAN;
            }
            report.add(self.case(&format!("p{percent}"), "ms", bar), pair)?;
        }
        Ok(())
    }

    /// How many questions all cores together answer, each asking on as soon as it was answered.
    async fn throughput(&self, report: &mut Report<'_>) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let questions = cores * self.corpus.queries.len();
        let mut best = Pair { floor: f64::NAN, ours: f64::NAN };
        for _ in 0..self.args.rounds().min(THROUGHPUT_ROUNDS) {
            if let Some(shard) = self.floor {
                let start = Instant::now();
                (0..cores).into_par_iter().try_for_each(|core| {
                    // Not all the same question at once.
                    let (after, before) = self.corpus.queries.split_at(core * self.corpus.queries.len() / cores);
                    before.iter().chain(after).try_for_each(|query| shard.search(query, K).map(|_| ()))
                })?;
                best.floor = best.floor.min(start.elapsed().as_secs_f64());
            }
            let start = Instant::now();
            let asking: Vec<tokio::task::JoinHandle<Result<()>>> = (0..cores)
                .map(|core| {
                    let (collection, mut queries) = (self.collection.clone(), self.corpus.queries.clone());
                    queries.rotate_left(core * self.corpus.queries.len() / cores);
                    tokio::spawn(async move {
                        for query in queries {
                            std::hint::black_box(collection.search(SearchRequest::new(query, K)).await?);
                        }
                        Ok::<(), Error>(())
                    })
                })
                .collect();
            for asked in asking {
                asked.await.map_err(|e| Error::internal("a task ended unexpectedly").with_source(e))??;
            }
            best.ours = best.ours.min(start.elapsed().as_secs_f64());
        }
        report.add(self.case(&format!("{cores} at once"), "queries/s", None), best.rate(questions))
    }

    fn case(&self, what: &str, unit: &'static str, bar: Option<f64>) -> Case {
        Case { bench: "search", case: format!("{} {what}", self.mode), unit, n: self.corpus.vectors.len(), bar }
    }
}

/// The floor, how many of its vectors are in its search graph, and how long building that took.
fn load_floor(dir: &std::path::Path, corpus: &Corpus) -> Result<(BareShard, usize, Duration)> {
    let shard = BareShard::new(dir, corpus.vectors.first().map_or(0, Vec::len))?;
    for from in starts(corpus) {
        shard.upsert(BareShard::points(corpus.chunks(from, BATCH)))?;
    }
    shard.flush();
    let start = Instant::now();
    let indexed = shard.optimize()?;
    Ok((shard, indexed, start.elapsed()))
}

/// A collection with as many vectors in the engine's graph as the floor has.
async fn load_ours(
    tenant: &Tenant,
    mode: Mode,
    corpus: &Corpus,
    indexed: usize,
    by_filter: bool,
) -> Result<Collection> {
    let dim = corpus.vectors.first().map_or(0, Vec::len);
    let mut spec = CollectionSpec::new(dim, Metric::Cosine).mode(mode);
    if by_filter {
        spec = spec.index(filtered::FIELD, FieldIndexSpec::new(IndexKind::Integer));
    }
    let collection = tenant.create_collection("search", spec).await?;
    for from in starts(corpus) {
        collection.ingest(corpus.chunks(from, BATCH)).await?;
    }
    collection.flush().await?;
    let start = Instant::now();
    loop {
        // While maintenance is at it by itself this returns at once.
        let busy = collection.optimize().await?;
        // A veiled collection has a graph for each part that is large enough, and none of the whole.
        let done = mode != Mode::Plain || collection.status().await?.indexed_vectors >= indexed;
        if done && !busy {
            return Ok(collection);
        }
        if start.elapsed() > OPTIMIZE_FOR {
            return Err(Error::internal("the engine did not build its search graph"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The true nearest of every question.
pub(super) fn truth(corpus: &Corpus) -> Vec<Vec<u64>> {
    let nearest = |query: &Vec<f32>| {
        let scores = (0_u64..).zip(&corpus.vectors).map(|(id, v)| (Metric::Cosine.score_f64(query, v), id));
        let mut scores: Vec<_> = scores.collect();
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.into_iter().take(K).map(|(_, id)| id).collect()
    };
    corpus.queries.par_iter().map(nearest).collect()
}
