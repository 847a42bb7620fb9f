//! `search`: the ten nearest chunks with their texts, against the HNSW of a bare `qdrant-edge` shard on plain vectors;
//! and how many of the true ten each finds.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use tempfile::TempDir;

use super::BenchArgs;
use super::data::Corpus;
use super::floor::BareShard;
use super::ingest::{BATCH, starts};
use super::report::{Case, Pair, Report, take_turns};
use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::store::{Collection, Tenant};
use crate::vectors::{CollectionSpec, Metric, Mode, SearchRequest};

const K: usize = 10;
/// Questions of a round, and of the comparison with brute force.
const QUERIES: usize = 200;
/// The bars of `sealed` hold up to here.
const SEALED_UP_TO: usize = 50_000;
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
        let (shard, indexed) = load_floor(&dir, &corpus)?;
        report.remark(&format!("{n} vectors, {indexed} of the floor's in its search graph"));
        let truth = truth(&corpus);
        for mode in args.modes() {
            let collection = load_ours(&tenant, mode, &corpus, indexed).await?;
            measure(args, report, mode, &corpus, &shard, &collection, &truth).await?;
            drop(collection);
            tenant.drop_collection("search").await?;
        }
        drop(shard);
        std::fs::remove_dir_all(dir)?;
    }
    store.close().await
}

async fn measure(
    args: &BenchArgs,
    report: &mut Report<'_>,
    mode: Mode,
    corpus: &Corpus,
    shard: &BareShard,
    collection: &Collection,
    truth: &[Vec<u64>],
) -> Result<()> {
    let n = corpus.vectors.len();
    let mut all = Pair::<Vec<Duration>>::default();
    let mut found = Pair { floor: 0, ours: 0 };
    // The first round warms up, and is where recall is taken.
    for (query, truth) in corpus.queries.iter().zip(truth) {
        let floor = shard.search(query, K)?;
        found.floor += floor.iter().filter(|(id, _)| truth.contains(id)).count();
        let ours = collection.search(SearchRequest::new(query.clone(), K)).await?;
        found.ours += ours.iter().filter(|hit| matches!(hit.id, RecordId::Number(id) if truth.contains(&id))).count();
    }
    let (mut floor_times, mut our_times) = (Vec::new(), Vec::new());
    take_turns(
        args.rounds(),
        async |_| {
            for query in &corpus.queries {
                let start = Instant::now();
                std::hint::black_box(shard.search(query, K)?);
                floor_times.push(start.elapsed());
            }
            Ok(Duration::ZERO)
        },
        async |_| {
            for query in &corpus.queries {
                let start = Instant::now();
                std::hint::black_box(collection.search(SearchRequest::new(query.clone(), K)).await?);
                our_times.push(start.elapsed());
            }
            Ok(Duration::ZERO)
        },
    )
    .await?;
    all.floor.append(&mut floor_times);
    all.ours.append(&mut our_times);
    let bar = match mode {
        Mode::Sealed => (n <= SEALED_UP_TO).then_some(1.0),
        Mode::Veiled => Some(1.5),
        Mode::Plain => Some(1.15),
    };
    for percent in [50, 99] {
        let case = Case { bench: "search", case: format!("{mode} p{percent}"), unit: "ms", n, bar };
        report.add(case, all.percentile(percent, Duration::from_millis(1)))?;
    }
    let of = |found: usize| found as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64;
    let case = Case { bench: "search", case: format!("recall {mode}"), unit: "recall", n, bar: None };
    report.add(case, Pair { floor: of(found.floor), ours: of(found.ours) })
}

fn load_floor(dir: &std::path::Path, corpus: &Corpus) -> Result<(BareShard, usize)> {
    let shard = BareShard::new(dir, corpus.vectors.first().map_or(0, Vec::len))?;
    for from in starts(corpus) {
        shard.upsert(BareShard::points(corpus.chunks(from, BATCH)))?;
    }
    shard.flush();
    let indexed = shard.optimize()?;
    Ok((shard, indexed))
}

/// A collection with as many vectors in the engine's graph as the floor has.
async fn load_ours(tenant: &Tenant, mode: Mode, corpus: &Corpus, indexed: usize) -> Result<Collection> {
    let dim = corpus.vectors.first().map_or(0, Vec::len);
    let collection = tenant.create_collection("search", CollectionSpec::new(dim, Metric::Cosine).mode(mode)).await?;
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
fn truth(corpus: &Corpus) -> Vec<Vec<u64>> {
    let nearest = |query: &Vec<f32>| {
        let scores = (0_u64..).zip(&corpus.vectors).map(|(id, v)| (Metric::Cosine.score_f64(query, v), id));
        let mut scores: Vec<_> = scores.collect();
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.into_iter().take(K).map(|(_, id)| id).collect()
    };
    corpus.queries.par_iter().map(nearest).collect()
}
