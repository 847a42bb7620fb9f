//! Guards against a search that misses: whatever was done to the index, results equal a brute force written separately.

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

type Model = BTreeMap<RecordId, Vec<f32>>;

/// An index with the slots of its records.
struct Table {
    records: Slots,
    index: Resident,
}

impl Table {
    fn new(keep: Keep, dimension: usize, metric: Metric, policy: LockPolicy) -> Self {
        let shape = Shape::new(dimension, metric).unwrap();
        Self { records: Slots::new(), index: Resident::keeping(keep, shape, policy) }
    }

    fn upsert(&mut self, id: &RecordId, vector: &[f32]) -> Result<()> {
        let slot = self.records.add(id)?;
        self.index.upsert(slot, vector)
    }

    fn remove(&mut self, id: &RecordId) -> bool {
        self.records.remove(id).is_some_and(|slot| self.index.remove(slot).unwrap())
    }

    /// What `ask` gets for the question that is put to the index, with a filter by ids.
    fn asked<T>(
        &self,
        (vector, k): (&[f32], usize),
        keep: &(dyn Fn(&RecordId) -> bool + Sync),
        (pass, source): (Option<Pass>, Option<Source<'_>>),
        ask: impl Fn(&Question<'_>) -> T,
    ) -> T {
        let filter = |slot: Slot| self.records.id(slot).is_some_and(keep);
        ask(&Question { vector, k, records: &self.records, filter: Some(&filter), pass, source })
    }

    fn search(&self, vector: &[f32], k: usize) -> Result<Vec<Hit>> {
        let question = Question { vector, k, records: &self.records, filter: None, pass: None, source: None };
        self.index.answer(&question)
    }

    fn search_kept(&self, vector: &[f32], k: usize, keep: &(dyn Fn(&RecordId) -> bool + Sync)) -> Result<Vec<Hit>> {
        self.asked((vector, k), keep, (None, None), |question| self.index.answer(question))
    }
}

/// The score by the textbook, without any code of the index.
fn textbook(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum = |term: fn(f64, f64) -> f64| {
        a.iter().zip(b).map(|(x, y)| term((*x).into(), (*y).into())).fold(0.0_f64, |s, t| s + t)
    };
    match metric {
        Metric::Dot => sum(|x, y| x * y),
        Metric::Euclid => sum(|x, y| (x - y) * (x - y)).sqrt(),
        Metric::Cosine => sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt(),
    }
}

fn brute_force(model: &Model, metric: Metric, query: &[f32], k: usize, keep: impl Fn(&RecordId) -> bool) -> Vec<Hit> {
    let kept = model.iter().filter(|(id, _)| keep(id));
    let mut all: Vec<(f64, &RecordId)> = kept.map(|(id, v)| (textbook(metric, query, v), id)).collect();
    all.sort_by(|a, b| {
        if metric == Metric::Euclid { a.0.total_cmp(&b.0) } else { b.0.total_cmp(&a.0) }.then(a.1.cmp(b.1))
    });
    all.into_iter().take(k).map(|(score, id)| Hit { id: id.clone(), score: score as f32 }).collect()
}

/// The vectors of records, as one who keeps them would give them.
fn fetch(model: &Model, ids: &[&RecordId]) -> Result<Vec<Option<Zeroizing<Vec<f32>>>>> {
    Ok(ids.iter().map(|id| model.get(*id).map(|vector| Zeroizing::new(vector.clone()))).collect())
}

fn assert_same(found: &[Hit], expected: &[Hit]) {
    let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(found), ids(expected));
    for (f, e) in found.iter().zip(expected) {
        assert!((f.score - e.score).abs() <= 1e-6 * e.score.abs().max(1.0), "{} instead of {}", f.score, e.score);
    }
}

/// Numbers, UUIDs and texts.
fn id(n: u64) -> RecordId {
    match n % 3 {
        0 => RecordId::Number(n),
        1 => RecordId::Uuid(uuid::Uuid::from_u128(n.into())),
        _ => RecordId::text(&format!("chunk {n}")).unwrap(),
    }
}

/// Four kinds of data: free, on a coarse grid (ties), around few centres (near ties), exact copies and doubles.
fn vector(dimension: usize) -> impl Strategy<Value = Vec<f32>> {
    let free = proptest::collection::vec(-1.0_f32..1.0, dimension);
    let grid = proptest::collection::vec((-2_i8..=2).prop_map(f32::from), dimension);
    let near = (0_usize..3, proptest::collection::vec(-1e-3_f32..1e-3, dimension))
        .prop_map(|(c, noise)| noise.iter().enumerate().map(|(i, x)| ((i * 7 + c) as f32).sin() + x).collect());
    let copy = (0_usize..3, proptest::sample::select(vec![1.0_f32, 2.0, 0.5]))
        .prop_map(move |(c, factor)| (0..dimension).map(|i| ((i * 7 + c) as f32).sin() * factor).collect());
    prop_oneof![free, grid, near, copy]
        .prop_map(|v: Vec<f32>| if v.iter().all(|x| *x == 0.0) { vec![1.0; v.len()] } else { v })
}

#[derive(Debug, Clone)]
enum Change {
    Upsert(u64, Vec<f32>),
    Remove(u64),
    Reserve(usize),
}

fn changes(dimension: usize) -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        12 => (0_u64..260, vector(dimension)).prop_map(|(n, v)| Change::Upsert(n, v)),
        3 => (0_u64..260).prop_map(Change::Remove),
        1 => (0_usize..100).prop_map(Change::Reserve),
    ];
    proptest::collection::vec(change, 0..500)
}

fn case() -> impl Strategy<Value = (usize, Vec<Change>, Vec<Vec<f32>>)> {
    prop_oneof![9 => 1_usize..70, 1 => Just(384_usize)]
        .prop_flat_map(|d| (Just(d), changes(d), proptest::collection::vec(vector(d), 3)))
}

fn apply(index: &mut Table, model: &mut Model, change: Change) {
    match change {
        Change::Upsert(n, v) => {
            index.upsert(&id(n), &v).unwrap();
            model.insert(id(n), v);
        }
        Change::Remove(n) => assert_eq!(index.remove(&id(n)), model.remove(&id(n)).is_some()),
        Change::Reserve(n) => index.index.reserve(n).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]
    #[test]
    fn after_any_changes_a_search_equals_brute_force(
        (dimension, changes, queries) in case(),
        metric in proptest::sample::select(&Metric::ALL[..]),
        k in prop_oneof![Just(0_usize), Just(1), Just(10), 0_usize..400],
        modulus in 2_usize..7,
    ) {
        let mut index = Table::new(Keep::Vectors, dimension, metric, LockPolicy::Prefer);
        let mut model = Model::new();
        let history = changes.clone();
        changes.into_iter().for_each(|change| apply(&mut index, &mut model, change));
        prop_assert_eq!(index.index.len(), model.len());
        let there = |id| index.records.slot(id).is_some_and(|slot| index.index.contains(slot));
        prop_assert!(model.keys().all(there));
        let short: Vec<Table> = [Keep::Codes, Keep::Signs].map(|keep| {
            let mut short = Table::new(keep, dimension, metric, LockPolicy::Prefer);
            let mut again = Model::new();
            history.iter().cloned().for_each(|change| apply(&mut short, &mut again, change));
            short
        }).into();
        let source = |ids: &[&RecordId]| fetch(&model, ids);
        let keep = |id: &RecordId| id.to_bytes().iter().map(|b| usize::from(*b)).sum::<usize>() % modulus == 0;
        for query in &queries {
            assert_same(&index.search(query, k).unwrap(), &brute_force(&model, metric, query, k, |_| true));
            let filtered = brute_force(&model, metric, query, k, keep);
            assert_same(&index.search_kept(query, k, &keep).unwrap(), &filtered);
            // The signs leave more than there are here, so that they miss nothing either.
            for table in short.iter().chain([&index]) {
                for pass in [None, Some(Pass::Codes), Some(Pass::Odds), Some(Pass::Signs), Some(Pass::All)] {
                    table.asked((query, k), &keep, (pass, Some(&source)), |question| {
                        assert_same(&table.index.answer(question).unwrap(), &filtered);
                        let all = table.records.iter().map(|(_, slot)| slot);
                        assert_same(&table.index.answer_among(question, all).unwrap(), &filtered);
                    });
                }
            }
        }
    }
}

/// A few thousand rows in clusters, without a random number generator.
fn clustered(n: usize, dimension: usize, metric: Metric) -> (Table, Model) {
    let mut index = Table::new(Keep::Vectors, dimension, metric, LockPolicy::Prefer);
    index.index.reserve(n).unwrap();
    let mut model = Model::new();
    for i in 0..n {
        let at = |j: usize| ((i % 50 * 31 + j * 17) as f32).sin() + 0.05 * ((i * 7 + j * j) as f32 * 0.37).sin();
        let v: Vec<f32> = (0..dimension).map(at).collect();
        index.upsert(&id(i as u64), &v).unwrap();
        model.insert(id(i as u64), v);
    }
    (index, model)
}

/// Numbers from −1 to 1 that look like no other seed's.
fn scattered(seed: u64, dimension: usize) -> Vec<f32> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    // The first draws are alike for seeds that are.
    for _ in 0..16 {
        next();
    }
    (0..dimension).map(|_| next()).collect()
}

/// `n` vectors of 96 around so many centres that look like no others, all shifted by as much.
fn around_centres(n: u64, centres: u64, shift: f32, metric: Metric) -> (Table, Model) {
    let mut index = Table::new(Keep::Vectors, 96, metric, LockPolicy::Prefer);
    let mut model = Model::new();
    for i in 0..n {
        let (centre, own) = (scattered(i % centres, 96), scattered(1000 + i, 96));
        let vector: Vec<f32> = centre.iter().zip(own).map(|(c, o)| c + 0.3 * o + shift).collect();
        index.upsert(&id(i), &vector).unwrap();
        model.insert(id(i), vector);
    }
    (index, model)
}

/// How many of the best ten are found, and of how many, by a pass.
fn found(table: &Table, model: &Model, metric: Metric, pass: Pass) -> (usize, usize) {
    let step = model.len() / 19;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let (mut found, mut all) = (0, 0);
    for n in (0..model.len() as u64).step_by(step) {
        let query = &model[&id(n)];
        let hits = pool.install(|| {
            let pass = Some(pass);
            let records = &table.records;
            table.index.answer(&Question { vector: query, k: 10, records, filter: None, pass, source: None })
        });
        let (hits, expected) = (hits.unwrap(), brute_force(model, metric, query, 10, |_| true));
        all += expected.len();
        found += hits.iter().filter(|hit| expected.iter().any(|e| e.id == hit.id)).count();
    }
    (found, all)
}

#[test]
fn signs_leave_the_best_of_many() {
    for metric in Metric::ALL {
        let (index, model) = around_centres(25_000, 250, 0.0, metric);
        let (left, all) = found(&index, &model, metric, Pass::Signs);
        assert!(left * 100 >= all * 99, "{metric}: {left} of {all}");
    }
}

#[test]
fn what_strays_further_than_the_odds_is_next_to_nothing_whatever_the_vectors_are() {
    // With a shift all values are positive: before they are turned, signs say nothing.
    for (metric, shift) in Metric::ALL.into_iter().flat_map(|metric| [(metric, 0.0), (metric, 4.0)]) {
        let (index, model) = around_centres(33_000, 250, shift, metric);
        let (left, all) = found(&index, &model, metric, Pass::Odds);
        assert!(left * 1000 >= all * 999, "{metric} {shift}: {left} of {all}");
    }
}

impl Table {
    /// What is read for `k` results, of all or of what a filter leaves.
    fn pass(&self, k: usize, filter: bool, pass: Option<Pass>) -> Pass {
        let filter = filter.then_some(&(|_| true) as &(dyn Fn(Slot) -> bool + Sync));
        self.index.pass(&Question { vector: &[], k, records: &self.records, filter, pass, source: None })
    }

    /// Links all that waits.
    fn link(&mut self) {
        self.index.begin_graph().unwrap();
        while self.index.link(64).unwrap() > 0 {}
    }
}

#[test]
fn what_is_read_depends_on_the_size_and_on_what_is_asked() {
    let (mut index, _) = around_centres(SIGNS_FROM as u64, 50, 0.0, Metric::Cosine);
    assert_eq!((index.pass(10, false, None), index.pass(10, true, Some(Pass::Codes))), (Pass::Odds, Pass::Codes));
    index.index.link_from(SIGNS_FROM);
    assert!(index.index.wants_graph());
    index.link();
    assert!(!index.index.wants_graph() && index.index.linked() == SIGNS_FROM);
    assert_eq!((index.pass(10, false, None), index.pass(10, true, None)), (Pass::Graph, Pass::Odds));
    assert_eq!(index.pass(GRAPH_RESULTS + 1, false, None), Pass::Odds);
    assert_eq!(index.pass(10, false, Some(Pass::Codes)), Pass::Codes);
    index.index.drop_graph();
    assert_eq!(index.pass(10, false, None), Pass::Odds);
    index.remove(&id(0));
    assert_eq!((index.pass(10, false, None), index.index.wants_graph()), (Pass::Codes, false));
    for metric in [Metric::Dot, Metric::Euclid] {
        let (mut index, _) = around_centres(SIGNS_FROM as u64, 50, 0.0, metric);
        index.index.link_from(SIGNS_FROM);
        assert!(!index.index.wants_graph());
    }
}

#[test]
fn a_graph_finds_the_best_while_vectors_come_and_go() {
    let metric = Metric::Cosine;
    let (mut index, mut model) = around_centres(6000, 60, 0.0, metric);
    index.index.link_from(1000);
    index.link();
    let (hits, all) = found(&index, &model, metric, Pass::Graph);
    assert!(hits * 100 >= all * 99, "{metric}: {hits} of {all}");
    // Some go, some become others, some come: what is not linked yet is found all the same.
    for n in 0..300 {
        assert!(index.remove(&id(n)));
        model.remove(&id(n));
    }
    for n in (300..600).chain(6000..6100) {
        let vector: Vec<f32> =
            scattered(n % 60, 96).iter().zip(scattered(n + 9, 96)).map(|(c, o)| c + 0.3 * o).collect();
        index.upsert(&id(n), &vector).unwrap();
        model.insert(id(n), vector);
    }
    assert_eq!((index.pass(10, false, None), index.index.linked()), (Pass::Odds, 5400), "too many wait");
    for linked in [false, true] {
        if linked {
            index.link();
            assert_eq!(index.index.linked(), 5800);
        }
        let (mut hits, mut all) = (0, 0);
        for (id, vector) in model.iter().step_by(97) {
            let question = Question {
                vector,
                k: 10,
                records: &index.records,
                filter: None,
                pass: Some(Pass::Graph),
                source: None,
            };
            let best = index.index.answer(&question).unwrap();
            assert!(best.iter().any(|hit| hit.id == *id) && best.iter().all(|hit| model.contains_key(&hit.id)));
            let expected = brute_force(&model, metric, vector, 10, |_| true);
            all += expected.len();
            hits += best.iter().filter(|hit| expected.iter().any(|e| e.id == hit.id)).count();
        }
        assert!(hits * 100 >= all * 99, "{metric}: {hits} of {all}");
    }
}

#[test]
fn a_graph_that_lost_too_much_is_made_anew() {
    let (mut index, _) = around_centres(2000, 50, 0.0, Metric::Cosine);
    index.index.link_from(100);
    index.link();
    (0..220).for_each(|n| assert!(index.remove(&id(n))));
    assert!(!index.index.wants_graph());
    (220..240).for_each(|n| assert!(index.remove(&id(n))));
    assert!(index.index.wants_graph());
    index.link();
    assert!(!index.index.wants_graph() && index.index.linked() == 1760);
}

#[test]
fn a_graph_is_taken_over_as_far_as_it_fits() {
    let (mut index, model) = around_centres(3000, 50, 0.0, Metric::Cosine);
    index.index.link_from(100);
    index.link();
    let links: SlotLinks = index.index.links(0, index.index.slots_end()).collect();
    assert_eq!((links.len(), index.index.graph_changes()), (3000, 3000));
    index.index.graph_saved(3000);
    index.index.set_graph(&links).unwrap();
    assert_eq!((index.index.linked(), index.index.graph_changes()), (3000, 0));
    let (hits, all) = found(&index, &model, Metric::Cosine, Pass::Graph);
    assert!(hits * 100 >= all * 99, "{hits} of {all}");
    (0..100).for_each(|n| assert!(index.remove(&id(n))));
    let known: SlotLinks = links.into_iter().filter(|(slot, _)| !slot.is_multiple_of(20)).collect();
    index.index.set_graph(&known).unwrap();
    let there = (100_u32..3000).filter(|slot| !slot.is_multiple_of(20)).count();
    assert_eq!(index.index.linked(), there);
    while index.index.link(64).unwrap() > 0 {}
    assert_eq!(index.index.linked(), 2900);
    let beyond = SlotLinks::from([(107, vec![u32::MAX])]);
    assert_eq!(index.index.set_graph(&beyond).unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn a_source_is_asked_for_few_and_its_failure_is_the_searches() {
    let (full, model) = clustered(5000, 24, Metric::Cosine);
    let mut codes = Table::new(Keep::Codes, 24, Metric::Cosine, LockPolicy::Prefer);
    model.iter().for_each(|(id, v)| codes.upsert(id, v).unwrap());
    assert!(codes.index.bytes() < full.index.bytes());
    let asked = Mutex::new(0);
    let source = |ids: &[&RecordId]| {
        *asked.lock().unwrap() += ids.len();
        fetch(&model, ids)
    };
    let query = &model[&id(5)];
    let records = &codes.records;
    let question = Question { vector: query, k: 10, records, filter: None, pass: None, source: Some(&source) };
    assert_same(&codes.index.answer(&question).unwrap(), &full.search(query, 10).unwrap());
    assert!(*asked.lock().unwrap() < 500, "asked for {}", asked.lock().unwrap());
    let failing = |_: &[&RecordId]| Err(Error::integrity("a record"));
    let question = Question { source: Some(&failing), ..question };
    assert_eq!(codes.index.answer(&question).err().unwrap().kind(), ErrorKind::Integrity);
    assert_eq!(codes.search(query, 10).err().unwrap().kind(), ErrorKind::Internal);
}

#[test]
fn threads_find_what_one_thread_finds() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for metric in Metric::ALL {
        let (index, model) = clustered(25_000, 24, metric);
        for (query, k) in [(0, 1), (77, 10), (4321, 100), (999, 5000)] {
            let query = &model[&id(query)];
            let keep = |id: &RecordId| matches!(id, RecordId::Number(n) if n % 2 == 1);
            let found = pool.install(|| (index.search(query, k), index.search_kept(query, k, &keep)));
            assert_same(&found.0.unwrap(), &brute_force(&model, metric, query, k, |_| true));
            assert_same(&found.1.unwrap(), &brute_force(&model, metric, query, k, keep));
        }
    }
}

#[test]
fn the_filter_is_asked_once_and_only_about_candidates() {
    let (index, model) = clustered(4000, 24, Metric::Cosine);
    let asked = Mutex::new(BTreeMap::<RecordId, usize>::new());
    let filter = |id: &RecordId| {
        *asked.lock().unwrap().entry(id.clone()).or_default() += 1;
        true
    };
    assert_eq!(index.search_kept(&model[&id(5)], 10, &filter).unwrap().len(), 10);
    let asked = asked.into_inner().unwrap();
    assert!(asked.values().all(|times| *times == 1));
    assert!(asked.len() < 500, "asked about {} of 4000", asked.len());
}

#[test]
fn unusable_vectors_change_nothing() {
    let mut index = Table::new(Keep::Vectors, 2, Metric::Cosine, LockPolicy::Prefer);
    index.upsert(&id(1), &[3.0, 4.0]).unwrap();
    for bad in [&[f32::NAN, 0.0][..], &[f32::NEG_INFINITY, 1.0], &[0.0, 0.0], &[1.0], &[1.0, 2.0, 3.0], &[]] {
        for error in [index.upsert(&id(1), bad).err(), index.upsert(&id(2), bad).err(), index.search(bad, 1).err()] {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.remedy().is_some());
        }
    }
    assert_eq!(index.index.len(), 1);
    assert_eq!(index.search(&[3.0, 4.0], 5).unwrap()[0].score, 1.0);
    assert_eq!(Shape::new(0, Metric::Dot).err().unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn too_large_a_reservation_is_an_error_and_not_an_abort() {
    let mut index = Resident::new(Shape::new(4, Metric::Dot).unwrap(), LockPolicy::Never);
    index.reserve(usize::MAX).unwrap();
    assert_eq!(index.upsert(1, &[1.0; 4]).unwrap_err().kind(), ErrorKind::Unavailable);
    index.reserve(10).unwrap();
    index.upsert(1, &[1.0; 4]).unwrap();
}

#[test]
fn reserved_rows_take_one_block_and_removed_ones_give_it_back() {
    let mut index = Resident::new(Shape::new(8, Metric::Dot).unwrap(), LockPolicy::Never);
    let empty = index.bytes();
    index.reserve(1000).unwrap();
    (0..1000).for_each(|n| index.upsert(n, &[n as f32; 8]).unwrap());
    assert_eq!((index.table.blocks.len(), index.table.capacity()), (1, 1000));
    (1000..1100).for_each(|n| index.upsert(n, &[n as f32; 8]).unwrap());
    assert_eq!(index.table.blocks.len(), 2);
    assert!(index.bytes() > empty + 1100 * 8 * 5);
    (0..1100).for_each(|n| assert!(index.remove(n).unwrap() && !index.remove(n).unwrap()));
    assert!(index.is_empty() && index.table.blocks.is_empty());
}

#[test]
fn a_removed_row_leaves_nothing_behind() {
    let mut index = Resident::new(Shape::new(3, Metric::Euclid).unwrap(), LockPolicy::Never);
    (1..=3).for_each(|n| index.upsert(n, &[n as f32; 3]).unwrap());
    index.remove(1).unwrap();
    let block = &index.table.blocks[0];
    assert_eq!((block.vector(0), block.vector(2)), (&[3.0_f32; 3][..], &[0.0_f32; 3][..]));
    assert!(block.codes(2, 1).iter().all(|c| *c == 0) && block.signs(2, 1).iter().all(|s| *s == 0));
    assert_eq!(block.squared(2), 0.0);
}
