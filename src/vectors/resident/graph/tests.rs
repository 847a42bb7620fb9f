//! Guards against a graph that misses what is near, or finds what was taken out.

use std::collections::{BTreeMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const DIM: usize = 24;

/// Rows as a caller has them.
struct Table(Vec<[f32; DIM]>);

impl Table {
    fn nearest(&self, query: &[f32; DIM], k: usize, among: impl Fn(Slot) -> bool) -> Vec<Slot> {
        let mut all: Vec<Slot> = self.slots().into_iter().filter(|slot| among(*slot)).collect();
        all.sort_by(|a, b| apart(query, self.row(*a)).total_cmp(&apart(query, self.row(*b))));
        all.truncate(k);
        all
    }

    fn row(&self, slot: Slot) -> &[f32; DIM] {
        &self.0[slot as usize]
    }

    fn slots(&self) -> Vec<Slot> {
        (0..self.0.len() as u32).collect()
    }
}

impl Space for Table {
    fn between(&self, a: Slot, b: Slot) -> f32 {
        apart(self.row(a), self.row(b))
    }
}

struct Asked<'a>(&'a Table, [f32; DIM]);

impl Near for Asked<'_> {
    fn to(&self, slot: Slot) -> f32 {
        apart(self.0.row(slot), &self.1)
    }
}

fn apart(a: &[f32; DIM], b: &[f32; DIM]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn around(centre: &[f32; DIM], spread: f32, rng: &mut StdRng) -> [f32; DIM] {
    std::array::from_fn(|i| centre[i] + rng.random_range(-spread..spread))
}

/// `n` rows around 40 centres.
fn table(n: usize, seed: u64) -> Arc<Table> {
    let mut rng = StdRng::seed_from_u64(seed);
    let centres: Vec<_> = (0..40).map(|_| around(&[0.0; DIM], 1.0, &mut rng)).collect();
    Arc::new(Table((0..n).map(|i| around(&centres[i % 40], 0.4, &mut rng)).collect()))
}

fn built(table: &Arc<Table>) -> Graph {
    let mut graph = Graph::new().unwrap();
    graph.reserve(table.0.len());
    graph.build(table, &table.slots()).unwrap();
    graph
}

/// The part of the true ten that searches find.
fn recall(graph: &Graph, table: &Table) -> f64 {
    let mut rng = StdRng::seed_from_u64(99);
    let (mut hits, mut of) = (0, 0);
    for i in 0..100 {
        let query = around(table.row(i * 37 % table.0.len() as u32), 0.3, &mut rng);
        let found = graph.search(&Asked(table, query), 64).unwrap();
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), found.len());
        let truth = table.nearest(&query, 10, |slot| graph.contains(slot));
        hits += truth.iter().filter(|slot| found.iter().take(10).any(|found| found == *slot)).count();
        of += truth.len();
    }
    hits as f64 / of as f64
}

fn exported(graph: &Graph) -> BTreeMap<Slot, Vec<Slot>> {
    graph.export(0, usize::MAX).collect()
}

#[test]
fn finds_what_brute_force_finds() {
    for n in [1, 2, 3, 30, 600, 3000] {
        let table = table(n, 1);
        let graph = built(&table);
        assert_eq!((graph.len(), graph.contains(0), graph.contains(n as u32)), (n, true, false));
        let found = recall(&graph, &table);
        assert!(found > 0.99, "{n}: {found}");
    }
}

#[test]
fn an_empty_graph_finds_nothing() {
    let table = table(3, 1);
    let mut graph = Graph::new().unwrap();
    let search = |graph: &Graph| graph.search(&Asked(&table, [0.0; DIM]), 10).unwrap();
    assert!(search(&graph).is_empty());
    assert!(graph.build(&table, &[0]).is_err(), "no room yet");
    graph.reserve(3);
    graph.build(&table, &[0, 1, 2]).unwrap();
    assert_eq!(search(&graph).len(), 3);
    assert!((0..3).all(|slot| graph.forget(slot) && !graph.forget(slot)) && !graph.forget(u32::MAX));
    assert!(graph.len() == 0 && search(&graph).is_empty());
    graph.build(&table, &[1]).unwrap();
    assert_eq!(search(&graph), [1]);
}

#[test]
fn never_finds_what_was_taken_out_and_still_finds_the_rest() {
    let table = table(3000, 2);
    let graph = built(&table);
    // Every sixth, and whatever searches began at.
    let began: Vec<Slot> = graph.links().entries().collect();
    let kept = |slot: Slot| !slot.is_multiple_of(6) && !began.contains(&slot);
    table.slots().into_iter().filter(|slot| !kept(*slot)).for_each(|slot| assert!(graph.forget(slot)));
    for slot in table.slots() {
        let found = graph.search(&Asked(&table, *table.row(slot)), 20).unwrap();
        assert!(found.iter().all(|slot| kept(*slot)) && !found.is_empty());
    }
    let found = recall(&graph, &table);
    assert!(found > 0.98, "{found}");
    assert!(exported(&graph).iter().all(|(slot, links)| kept(*slot) && links.iter().all(|link| kept(*link))));
}

#[test]
fn a_slot_may_be_used_again_for_another_row() {
    let old = table(3000, 4);
    let graph = built(&old);
    let again: Vec<Slot> = (0..3000).step_by(3).collect();
    again.iter().for_each(|slot| assert!(graph.forget(*slot)));
    let mut rows = table(3000, 5).0.clone();
    (0..3000).filter(|i| i % 3 != 0).for_each(|i| rows[i] = old.0[i]);
    let new = Arc::new(Table(rows));
    graph.build(&new, &again).unwrap();
    assert_eq!(graph.len(), 3000);
    let found = recall(&graph, &new);
    assert!(found > 0.98, "{found}");
}

#[test]
fn is_the_same_after_export_and_import() {
    let table = table(3000, 7);
    let graph = built(&table);
    let links = exported(&graph);
    let mut same = Graph::new().unwrap();
    same.reserve(3000);
    same.import(links.iter()).unwrap();
    assert!(exported(&same) == links && same.len() == 3000);
    assert!(recall(&same, &table) > 0.99);
    // What links to a slot that is not there any more links to nothing.
    let fewer: BTreeMap<_, _> = links.into_iter().filter(|(slot, _)| !slot.is_multiple_of(10)).collect();
    let mut rest = Graph::new().unwrap();
    rest.reserve(3000);
    rest.import(fewer.iter()).unwrap();
    assert_eq!(rest.len(), 2700);
    assert!(exported(&rest).values().flatten().all(|link| !link.is_multiple_of(10)));
    assert!(recall(&rest, &table) > 0.98);
}

#[test]
fn links_that_cannot_be_are_rejected() {
    let import = |rows: &[(Slot, Vec<Slot>)]| {
        let mut graph = Graph::new().unwrap();
        graph.reserve(10);
        graph.import(rows.iter().map(|(slot, links)| (slot, links))).map(|()| exported(&graph).into_iter().collect())
    };
    // Room comes in pieces.
    let outside = 1_000_000;
    for (rows, why) in [
        (&[(outside, vec![])][..], "a slot outside"),
        (&[(u32::MAX, vec![])], "the slot that stands for none"),
        (&[(0, vec![outside])], "a link outside"),
        (&[(1, vec![]), (1, vec![])], "a slot twice"),
        (&[(0, (1..=MAX_DEGREE as u32 + 1).collect())], "more links than there may be"),
    ] {
        assert!(import(rows).is_err(), "{why}");
    }
    let found: Vec<_> = import(&[(0, vec![1, 1, 0, 2]), (2, vec![0])]).unwrap();
    assert_eq!(found, [(0, vec![2]), (2, vec![0])]);
}

#[test]
fn many_threads_search_while_others_link_and_forget() {
    let table = table(4000, 8);
    let mut graph = Graph::new().unwrap();
    graph.reserve(4000);
    graph.build(&table, &(0..2000).collect::<Vec<_>>()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for slot in table.slots() {
                    assert!(!graph.search(&Asked(&table, *table.row(slot)), 20).unwrap().is_empty());
                }
            });
        }
        scope.spawn(|| (2000..4000).for_each(|slot| graph.build(&table, &[slot]).unwrap()));
        scope.spawn(|| (0..500).for_each(|slot| assert!(graph.forget(slot))));
    });
    assert_eq!(graph.len(), 3500);
    let found = recall(&graph, &table);
    assert!(found > 0.98, "{found}");
}

#[test]
fn equal_rows_and_distances_that_are_no_numbers_do_no_harm() {
    let mut rows = vec![[0.5; DIM]; 500];
    rows.extend(vec![[f32::NAN; DIM]; 50]);
    rows.extend(&table(500, 9).0);
    let table = Arc::new(Table(rows));
    let graph = built(&table);
    let found = graph.search(&Asked(&table, [0.5; DIM]), 64).unwrap();
    assert!(found.iter().filter(|slot| **slot < 500).count() >= 10, "{found:?}");
}
