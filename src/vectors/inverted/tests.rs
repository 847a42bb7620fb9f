//! Guards against a search in memory that leaves out a record, finds one that is gone, or scores one wrong.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::vectors::{Modifier, SparseVector};

/// What a test did to an index.
#[derive(Debug, Clone)]
enum Op {
    Upsert(u64, BTreeMap<u32, f32>),
    Remove(u64),
}

fn pairs() -> impl Strategy<Value = BTreeMap<u32, f32>> {
    // Few indices and few values, so that ties and shared indices are common.
    prop::collection::btree_map(0_u32..12, prop_oneof![Just(0.0_f32), Just(1.0), Just(-1.0), -4.0_f32..4.0], 0..8)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0_u64..40, pairs()).prop_map(|(id, pairs)| Op::Upsert(id, pairs)),
        1 => (0_u64..40).prop_map(Op::Remove),
    ];
    prop::collection::vec(op, 0..120)
}

fn sparse(pairs: &BTreeMap<u32, f32>) -> SparseVector {
    SparseVector::new(pairs.keys().copied().collect(), pairs.values().copied().collect()).unwrap()
}

/// Every record that shares an index, by the definition.
fn by_definition(
    records: &BTreeMap<u64, BTreeMap<u32, f32>>,
    query: &BTreeMap<u32, f32>,
    modifier: Modifier,
    k: usize,
    pass: impl Fn(u64) -> bool,
) -> Vec<(RecordId, f32)> {
    let n = records.len() as f64;
    let weight = |index: &u32| match modifier {
        Modifier::None => 1.0,
        Modifier::Idf => {
            let df = records.values().filter(|pairs| pairs.contains_key(index)).count() as f64;
            (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
        }
    };
    let mut found = Vec::new();
    for (id, pairs) in records.iter().filter(|(id, _)| pass(**id)) {
        let shared: Vec<_> = query.iter().filter_map(|(i, q)| Some((i, q, pairs.get(i)?))).collect();
        if !shared.is_empty() {
            let score: f64 = shared.iter().map(|(i, q, v)| f64::from(**q) * weight(i) * f64::from(**v)).sum();
            found.push((RecordId::from(*id), score));
        }
    }
    found.sort_by(|a, b| Metric::Dot.best_first(a.1, b.1).then_with(|| a.0.cmp(&b.0)));
    found.into_iter().take(k).map(|(id, score)| (id, score as f32)).collect()
}

fn close(a: &[(RecordId, f32)], b: &[(RecordId, f32)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-5 * b.1.abs().max(1.0))
}

fn after(ops: &[Op], modifier: Modifier) -> (SparseIndex, BTreeMap<u64, BTreeMap<u32, f32>>) {
    let (mut index, mut records) = (SparseIndex::new(modifier), BTreeMap::new());
    for op in ops {
        match op {
            Op::Upsert(id, pairs) => {
                index.upsert(RecordId::from(*id), &sparse(pairs)).unwrap();
                records.insert(*id, pairs.clone());
            }
            Op::Remove(id) => assert_eq!(index.remove(&RecordId::from(*id)), records.remove(id).is_some()),
        }
    }
    (index, records)
}

proptest! {
    #[test]
    fn sparse_search_is_exact(ops in ops(), query in pairs(), k in 0_usize..20, odd: bool) {
        let (index, records) = after(&ops, Modifier::None);
        prop_assert_eq!(index.len(), records.len());
        let pass = |id: &RecordId| !odd || matches!(id, RecordId::Number(n) if n % 2 == 1);
        let found = index.search(&sparse(&query), k, Some(&pass));
        prop_assert!(found == by_definition(&records, &query, Modifier::None, k, |id| !odd || id % 2 == 1));
    }

    #[test]
    fn rare_indices_weigh_more(ops in ops(), query in pairs()) {
        let (index, records) = after(&ops, Modifier::Idf);
        let found = index.search(&sparse(&query), 100, None);
        let right = by_definition(&records, &query, Modifier::Idf, 100, |_| true);
        // Scores that differ by less than rounding may change places.
        let sorted = |mut hits: Vec<(RecordId, f32)>| { hits.sort_by(|a, b| a.0.cmp(&b.0)); hits };
        prop_assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
        prop_assert!(close(&sorted(found), &sorted(right)));
    }

    #[test]
    fn a_scan_gives_every_record(ops in ops(), examples in prop::collection::vec(pairs(), 1..4)) {
        let (index, records) = after(&ops, Modifier::None);
        let examples: Vec<SparseVector> = examples.iter().map(sparse).collect();
        let found = index.scan(&examples, usize::MAX, |dots| dots.iter().sum(), None);
        prop_assert_eq!(found.len(), records.len());
        for (id, score) in found {
            let RecordId::Number(n) = id else { unreachable!() };
            let right: f64 = examples
                .iter()
                .map(|e| e.iter().map(|(i, q)| f64::from(q) * f64::from(records[&n].get(&i).copied().unwrap_or(0.0))).sum::<f64>())
                .sum();
            prop_assert!((f64::from(score) - right).abs() < 1e-4);
        }
    }

    #[test]
    fn keyword_search_is_bm25(
        texts in prop::collection::vec((0_u64..20, prop::collection::vec(0_usize..9, 0..12)), 0..40),
        query in prop::collection::vec(0_usize..9, 0..4),
        gone in prop::collection::vec(0_u64..20, 0..5),
    ) {
        const WORDS: [&str; 9] = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis"];
        let text = |words: &[usize]| words.iter().map(|w| WORDS[*w]).collect::<Vec<_>>().join(" ");
        let mut index = KeywordIndex::new(Language::English);
        let mut records = BTreeMap::new();
        for (id, words) in &texts {
            index.upsert(vec![(&RecordId::from(*id), text(words).as_str())]).unwrap();
            records.insert(*id, words.clone());
        }
        for id in gone {
            prop_assert_eq!(index.remove(&RecordId::from(id)), records.remove(&id).is_some());
        }
        let found = index.search(&text(&query).to_uppercase(), 50, None);
        let right = bm25(&records, &query);
        prop_assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
        prop_assert_eq!(found.len(), right.len());
        for (id, score) in found {
            let RecordId::Number(n) = id else { unreachable!() };
            prop_assert!((f64::from(score) - right[&n]).abs() < 1e-5, "{}: {} instead of {}", n, score, right[&n]);
        }
    }
}

/// BM25 as Robertson and Zaragoza write it, with the idf that is never negative.
fn bm25(records: &BTreeMap<u64, Vec<usize>>, query: &[usize]) -> HashMap<u64, f64> {
    let n = records.len() as f64;
    let average = records.values().map(Vec::len).sum::<usize>() as f64 / n;
    let mut scores = HashMap::new();
    for word in query.iter().collect::<HashSet<_>>() {
        let df = records.values().filter(|words| words.contains(word)).count() as f64;
        for (id, words) in records {
            let tf = words.iter().filter(|w| *w == word).count() as f64;
            if tf > 0.0 {
                let norm = 1.0 - 0.75 + 0.75 * words.len() as f64 / average;
                *scores.entry(*id).or_default() +=
                    (1.0 + (n - df + 0.5) / (df + 0.5)).ln() * tf * 2.2 / (tf + 1.2 * norm);
            }
        }
    }
    scores
}

#[test]
fn many_records_are_searched_in_blocks_and_rebuilt_when_most_are_gone() {
    let mut index = SparseIndex::new(Modifier::None);
    let mut records = BTreeMap::new();
    let n = 3 * BLOCK as u64;
    for id in 0..n {
        let value = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32;
        let pairs = BTreeMap::from([((id % 7) as u32, value), (100, value / 2.0)]);
        index.upsert(RecordId::from(id), &sparse(&pairs)).unwrap();
        records.insert(id, pairs);
    }
    let query = BTreeMap::from([(3, 2.0), (100, -1.0)]);
    let same = |index: &SparseIndex, records: &BTreeMap<u64, BTreeMap<u32, f32>>| {
        assert!(
            index.search(&sparse(&query), 100, None) == by_definition(records, &query, Modifier::None, 100, |_| true)
        );
    };
    same(&index, &records);
    let full = index.bytes();
    for id in (0..n).filter(|id| id % 5 != 0) {
        assert!(index.remove(&RecordId::from(id)));
        records.remove(&id);
    }
    same(&index, &records);
    assert!(index.records.rows.len() < n as usize / 2 && index.bytes() < full / 2, "what was removed is given back");
    for id in 0..n {
        index.remove(&RecordId::from(id));
    }
    assert!(index.is_empty() && index.records.lists.is_empty() && index.records.entries == 0);
}

#[test]
fn values_of_what_was_removed_are_erased() {
    let mut index = SparseIndex::new(Modifier::None);
    index.upsert(RecordId::from(1), &sparse(&BTreeMap::from([(5, 0.75)]))).unwrap();
    index.upsert(RecordId::from(2), &sparse(&BTreeMap::from([(5, 0.5)]))).unwrap();
    index.remove(&RecordId::from(1));
    let values: Vec<f32> = index.records.lists[&5].entries.iter().map(|entry| entry.value).collect();
    assert_eq!(values, [0.0, 0.5]);
}

#[test]
fn long_ids_count() {
    let id = RecordId::text(&"x".repeat(100)).unwrap();
    let mut index = Inverted::<u32>::new();
    for _ in 0..2 {
        index.upsert(id.clone(), [1].into(), [1.0].into()).unwrap();
        assert!(index.bytes() >= 200 && index.text_bytes == 100);
    }
    assert!(index.remove(&id) && index.text_bytes == 0);
}
