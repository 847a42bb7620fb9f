//! `search --filter`: the ten nearest of the chunks that pass, against a bare `qdrant-edge` shard with the same filter and
//! an index of the field.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde_json::json;

use super::BenchArgs;
use super::data::{Corpus, PAGES};
use super::floor::BareShard;
use super::report::{Case, Pair, Report, take_turns};
use crate::error::Result;
use crate::filter::Filter;
use crate::id::RecordId;
use crate::store::Collection;
use crate::vectors::{Metric, Mode, SearchRequest};

const K: usize = 10;

/// The field of the filter, as Strongroom has it.
pub(super) const FIELD: &str = "page";

/// The first pages, so that `percent` of the chunks pass.
fn below(percent: u8) -> u64 {
    PAGES * u64::from(percent) / 100
}

pub(super) async fn measure(
    args: &BenchArgs,
    report: &mut Report<'_>,
    mode: Mode,
    corpus: &Corpus,
    shard: Option<&BareShard>,
    collection: &Collection,
    percent: u8,
) -> Result<()> {
    let bound = below(percent);
    let ours = Filter::from_value(&json!({"must": {"key": FIELD, "range": {"lt": bound}}}))?;
    let floor = BareShard::filter_below(&format!("metadata.{FIELD}"), bound)?;
    let request = |query: &Vec<f32>| SearchRequest::new(query.clone(), K).filter(ours.clone());
    let truth = truth(corpus, bound);
    let mut found = Pair { floor: 0, ours: 0 };
    // The first round warms up, opens the payloads, and is where recall is taken.
    for (query, truth) in corpus.queries.iter().zip(&truth) {
        if let Some(shard) = shard {
            found.floor += shard.search_filtered(query, K, &floor)?.iter().filter(|(id, _)| truth.contains(id)).count();
        }
        let hits = collection.search(request(query)).await?;
        found.ours += hits.iter().filter(|hit| matches!(hit.id, RecordId::Number(id) if truth.contains(&id))).count();
    }
    let (mut floor_times, mut our_times) = (Vec::new(), Vec::new());
    take_turns(
        args.rounds(),
        async |_| {
            let Some(shard) = shard else { return Ok(Duration::ZERO) };
            for query in &corpus.queries {
                let start = Instant::now();
                std::hint::black_box(shard.search_filtered(query, K, &floor)?);
                floor_times.push(start.elapsed());
            }
            Ok(Duration::ZERO)
        },
        async |_| {
            for query in &corpus.queries {
                let start = Instant::now();
                std::hint::black_box(collection.search(request(query)).await?);
                our_times.push(start.elapsed());
            }
            Ok(Duration::ZERO)
        },
    )
    .await?;
    let all = Pair { floor: floor_times, ours: our_times };
    let n = corpus.vectors.len();
    for at in [50, 99] {
        let case = format!("{mode} filtered {percent} % p{at}");
        let case = Case { bench: "search", case, unit: "ms", n, bar: None };
        let mut pair = all.percentile(at, Duration::from_millis(1));
        if shard.is_none() {
            pair.floor = f64::NAN;
        }
        report.add(case, pair)?;
    }
    let of = |found: usize| found as f64 / truth.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    let case =
        Case { bench: "search", case: format!("recall {mode} filtered {percent} %"), unit: "recall", n, bar: None };
    let floor = shard.map_or(f64::NAN, |_| of(found.floor));
    report.add(case, Pair { floor, ours: of(found.ours) })
}

/// The true nearest of every question among the chunks that pass.
fn truth(corpus: &Corpus, bound: u64) -> Vec<Vec<u64>> {
    let nearest = |query: &Vec<f32>| {
        let passing = (0_u64..).zip(&corpus.vectors).filter(|(id, _)| id % PAGES < bound);
        let mut scores: Vec<_> = passing.map(|(id, v)| (Metric::Cosine.score_f64(query, v), id)).collect();
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.into_iter().take(K).map(|(_, id)| id).collect()
    };
    corpus.queries.par_iter().map(nearest).collect()
}
