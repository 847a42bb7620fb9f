//! Guards against a write that was acknowledged and is gone, or that was not and is half there, after `kill -9`.
//!
//! Each campaign kills a child process inside one kind of operation, at points chosen from a seed, again and again on
//! the same directory. The child says which operation begins and which was acknowledged; after each kill the store is
//! opened and compared with a model of what was acknowledged. A failure shows the seed and the point.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

#[path = "crash/campaign.rs"]
mod campaign;
#[path = "crash/check.rs"]
mod check;
#[path = "crash/child.rs"]
mod child;
#[path = "crash/model.rs"]
mod model;
#[path = "crash/op.rs"]
mod op;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;

use campaign::{Campaign, Outcome};
use op::Kind;

/// Kills that all campaigns together make at least.
const KILLS: u32 = 200;
const CAMPAIGNS: usize = 8;
static OUTCOMES: Mutex<BTreeMap<&str, Outcome>> = Mutex::new(BTreeMap::new());

/// Not a test: what the campaigns start and kill.
#[test]
fn child_entry() {
    if let Ok(told) = std::env::var(child::ENVIRONMENT) {
        child::run(&told);
    }
}

#[test]
fn killed_while_ingesting() {
    run(Campaign {
        name: "ingest",
        seed: 1,
        collections: &["sealed", "veiled", "plain"],
        lanes: "s0,s1,w0,w1,p0,p1,f,q",
        target: Kind::Ingest,
        occurrences: 80,
        reopenings: false,
        kills: 50,
    });
}

#[test]
fn killed_while_remembering() {
    run(Campaign {
        name: "memory",
        seed: 2,
        collections: &["sealed"],
        lanes: "m0,m1,m2,s0,c",
        target: Kind::Memory,
        occurrences: 100,
        reopenings: false,
        kills: 52,
    });
}

#[test]
fn killed_while_rotating() {
    run(Campaign {
        name: "rotate",
        seed: 8,
        collections: &["sealed", "veiled", "plain"],
        lanes: "r,s0,w0,p0,m0,m1,q",
        target: Kind::Rotate,
        occurrences: 4,
        reopenings: false,
        kills: 200,
    });
}

#[test]
fn killed_while_flushing() {
    run(Campaign {
        name: "flush",
        seed: 3,
        collections: &["sealed", "plain"],
        lanes: "f,s0,p0,m0",
        target: Kind::Flush,
        occurrences: 12,
        reopenings: false,
        kills: 35,
    });
}

#[test]
fn killed_while_reclaiming_space() {
    let outcome = run(Campaign {
        name: "vacuum",
        seed: 7,
        collections: &["bulk"],
        lanes: "v,b0,q",
        target: Kind::Optimize,
        occurrences: 3,
        reopenings: false,
        kills: 30,
    });
    assert!(outcome.0 > 0 && outcome.2 > 0, "the engine had nothing to reclaim: {outcome:?}");
}

#[test]
fn killed_while_building_search_graphs() {
    let outcome = run(Campaign {
        name: "optimize",
        seed: 4,
        collections: &["large"],
        lanes: "o,l0,q",
        target: Kind::Optimize,
        occurrences: 2,
        reopenings: false,
        kills: 7,
    });
    assert!(outcome.0 > 0 && outcome.1 > 0 && outcome.2 > 0, "the engine had nothing to optimize: {outcome:?}");
}

#[test]
fn killed_while_opening_and_replaying() {
    run(Campaign {
        name: "open",
        seed: 5,
        collections: &["sealed", "plain"],
        lanes: "s0,s1,p0,m0",
        target: Kind::Open,
        occurrences: 100,
        reopenings: true,
        kills: 30,
    });
}

#[test]
fn killed_while_making_and_dropping_collections() {
    run(Campaign {
        name: "catalog",
        seed: 6,
        collections: &["sealed"],
        lanes: "d0,d1,c,q,s0",
        target: Kind::Catalog,
        occurrences: 25,
        reopenings: false,
        kills: 22,
    });
}

/// Environment: how many percent of the kills to make, for who has less time.
const PERCENT: &str = "STRONGROOM_TEST_KILLS";

fn share_of(kills: u32) -> u32 {
    let percent = std::env::var(PERCENT).map_or(100, |percent| percent.parse().unwrap());
    (kills * percent).div_ceil(100)
}

/// Returns what was optimized, how many vectors were indexed, and how many optimisations were left half made.
fn run(campaign: Campaign) -> (u32, usize, u32) {
    // Of few kills, none might come where something is to be seen.
    let kills = if campaign.kills > 30 { share_of(campaign.kills) } else { campaign.kills };
    let campaign = Campaign { kills, ..campaign };
    let outcome = campaign.run();
    let [there, found] = outcome.nearest;
    println!("{}: {found} of the {there} nearest in a veiled collection were found", campaign.name);
    assert!(found * 100 >= there * 95, "{found} of {there}");
    if campaign.collections.contains(&"veiled") {
        assert!(there > 0, "the veiled collection was always empty");
    }
    let result = (outcome.optimized, outcome.indexed, outcome.half_optimized);
    let mut outcomes = OUTCOMES.lock().unwrap();
    outcomes.insert(campaign.name, outcome);
    if outcomes.len() == CAMPAIGNS {
        summarize(&outcomes);
    }
    result
}

/// Prints the table, past the test harness, which shows nothing of tests that pass.
fn summarize(outcomes: &BTreeMap<&str, Outcome>) {
    let mut inside: BTreeMap<Kind, u32> = BTreeMap::new();
    let mut table = String::from("\ncampaign   kills inside (between)   acknowledged   half optimized\n");
    for (name, outcome) in outcomes {
        let kills = format!("{:?} ({})", outcome.inside, outcome.between);
        let _ = writeln!(table, "{name:10} {kills:24} {:12}   {:14}", outcome.acknowledged, outcome.half_optimized);
        outcome.inside.iter().for_each(|(kind, kills)| *inside.entry(*kind).or_default() += kills);
    }
    let total: u32 = inside.values().sum();
    let _ = writeln!(table, "kills inside an operation: {total}, {inside:?}");
    let _ = std::io::stderr().write_all(table.as_bytes());
    for (kind, least) in
        [(Kind::Ingest, 50), (Kind::Memory, 50), (Kind::Flush, 30), (Kind::Optimize, 30), (Kind::Rotate, 200)]
    {
        let least = share_of(least);
        assert!(inside.get(&kind).is_some_and(|kills| *kills >= least), "fewer than {least} kills inside {kind:?}");
    }
    assert!(total >= share_of(KILLS), "only {total} kills");
}
