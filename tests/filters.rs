//! Guards against filters that mean something else than Qdrant's: a record that passes and should not, or one that is
//! missing from a search, from a count or from a deletion.
//!
//! `STRONGROOM_FILTER_CASES` says on how many pairs of a record and a filter each campaign looks (default 120 000), and
//! `STRONGROOM_FILTER_SEED` with which it starts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "filters/collections.rs"]
mod collections;
mod common;
#[path = "filters/engine.rs"]
mod engine;
#[path = "filters/generate.rs"]
mod generate;
#[path = "filters/naive.rs"]
mod naive;

use serde_json::Value;
use strongroom::Filter;
use strongroom::filter::Record;

use generate::{Document, Language, Random};

/// How many pairs of a record and a filter a campaign looks at.
fn cases() -> usize {
    std::env::var("STRONGROOM_FILTER_CASES").map_or(120_000, |n| n.parse().expect("a number of cases"))
}

fn random(campaign: u64) -> Random {
    let seed: u64 = std::env::var("STRONGROOM_FILTER_SEED").map_or(0, |n| n.parse().expect("a seed"));
    println!("seed {seed}");
    Random::new(seed ^ (campaign << 56))
}

fn passes(filter: &Filter, document: &Document) -> bool {
    let vectors: Vec<&str> = document.vectors.iter().map(String::as_str).collect();
    filter.matches(&Record { id: &document.id, metadata: &document.metadata, text: &document.text, vectors: &vectors })
}

/// Every part of the language against an evaluator that shares nothing with it but the JSON.
#[test]
fn a_filter_means_what_a_naive_reading_of_it_means() {
    const DOCUMENTS: usize = 24;
    let mut random = random(1);
    let (mut all, mut passed) = (0_usize, 0_usize);
    while all < cases() {
        let documents: Vec<_> = (0..DOCUMENTS).map(|_| random.document()).collect();
        for _ in 0..DOCUMENTS {
            let json = random.filter(Language::Whole).to_string();
            let filter = Filter::from_json(json.as_bytes()).unwrap_or_else(|e| panic!("{e}: {json}"));
            let canonical = filter.to_json();
            assert!(Filter::from_json(canonical.as_bytes()).unwrap() == filter, "{json} became {canonical}");
            let written: Value = serde_json::from_str(&canonical).unwrap();
            for document in &documents {
                let expected = naive::passes(&written, document);
                assert_eq!(passes(&filter, document), expected, "{json}\non {document:?}");
                (all, passed) = (all + 1, passed + usize::from(expected));
            }
        }
    }
    println!("{all} cases, {passed} passed");
    assert!((all / 10..all - all / 10).contains(&passed), "{passed} of {all}: the cases say little");
}

/// What the engine in this process knows of the language, against the engine itself on the plain payloads.
#[test]
fn a_filter_means_what_the_engine_makes_of_it() {
    const DOCUMENTS: usize = 400;
    let mut random = random(2);
    let (mut all, mut passed) = (0_usize, 0_usize);
    while all < cases() {
        let documents: Vec<_> = (0..DOCUMENTS as u64).map(|id| random.document_for_engine(id)).collect();
        let shard = engine::Plain::new(&documents);
        for _ in 0..150 {
            let json = random.filter(Language::Engine).to_string();
            let filter = Filter::from_json(json.as_bytes()).unwrap_or_else(|e| panic!("{e}: {json}"));
            let expected = shard.passing(&filter.to_json());
            for document in &documents {
                let engine = expected.contains(&document.id);
                assert_eq!(passes(&filter, document), engine, "{json}\non {document:?}");
            }
            (all, passed) = (all + DOCUMENTS, passed + expected.len());
        }
    }
    println!("{all} cases, {passed} passed");
    assert!((all / 10..all - all / 10).contains(&passed), "{passed} of {all}: the cases say little");
}
