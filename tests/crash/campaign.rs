//! Starts the child, kills it at a chosen point, checks what it left, and again.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use strongroom::{Chunk, Collection, Store};

use super::check::check;
use super::child;
use super::model::Model;
use super::op::{self, Kind, Op, Stamp, spec};

/// A child that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbers of operations that one child may use.
const STAMPS: u64 = 1_000_000;
/// Records of which a veiled collection makes three parts.
const PARTED: u64 = 5100;

/// Where and how often to kill.
pub struct Campaign {
    pub name: &'static str,
    pub seed: u64,
    pub collections: &'static [&'static str],
    pub lanes: &'static str,
    /// Inside operations of this kind.
    pub target: Kind,
    /// The latest such operation of one child to be killed in.
    pub occurrences: u32,
    /// Whether to kill what opens the store afterwards as well, a few times.
    pub reopenings: bool,
    /// Kills that have to fall inside the operation they were meant for.
    pub kills: u32,
}

/// What came of a campaign.
#[derive(Default)]
pub struct Outcome {
    /// Kills by what was under way, of those that were aimed at.
    pub inside: BTreeMap<Kind, u32>,
    /// Kills that came after the operation they were meant for.
    pub between: u32,
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Optimisations that were acknowledged and did something.
    pub optimized: u32,
    /// The most vectors that were seen in search graphs.
    pub indexed: usize,
    /// Kills that left an optimisation half made.
    pub half_optimized: u32,
    /// Of the nearest in veiled collections, how many there were and how many were found.
    pub nearest: [usize; 2],
}

/// A point to kill at: inside the `occurrence`th operation of a kind, after `fraction` of the time that one takes.
#[derive(Debug)]
struct Point {
    kind: Kind,
    occurrence: u32,
    fraction: f64,
}

struct Run<'a> {
    campaign: &'a Campaign,
    dir: &'a Path,
    rng: StdRng,
    model: Model,
    in_flight: BTreeMap<Stamp, Op>,
    /// How long an operation of a kind takes, in microseconds.
    takes_us: HashMap<Kind, f64>,
    sessions: u64,
    outcome: Outcome,
}

impl Campaign {
    pub fn run(&self) -> Outcome {
        let dir = tempfile::Builder::new().prefix("strongroom-crash-").tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut model = Model::default();
        runtime.block_on(async {
            Store::init(&child::options(dir.path()), child::passphrase()).await.unwrap();
            let store = child::open(dir.path()).await.unwrap();
            let tenant = store.create_tenant(&child::tenant_id()).await.unwrap();
            for name in self.collections {
                let collection = tenant.create_collection(name, spec(name)).await.unwrap();
                if *name == "veiled" {
                    grow(&collection).await;
                }
                model.chunks.insert((*name).to_owned(), BTreeMap::new());
            }
            drop(tenant);
            store.close().await.unwrap();
        });
        let mut run = Run {
            campaign: self,
            dir: dir.path(),
            rng: StdRng::seed_from_u64(self.seed),
            model,
            in_flight: BTreeMap::new(),
            takes_us: HashMap::new(),
            sessions: 0,
            outcome: Outcome::default(),
        };
        while run.outcome.inside.get(&self.target).copied().unwrap_or(0) < self.kills {
            assert!(run.sessions < u64::from(self.kills) * 4, "kills miss their operations");
            run.round(&runtime);
        }
        let outcome = run.outcome;
        if std::env::var_os("STRONGROOM_CRASH_KEEP").is_some() {
            let _ = dir.keep();
        }
        outcome
    }
}

/// Has a veiled collection have several parts, and nothing in them.
async fn grow(collection: &Collection) {
    let ids: Vec<u64> = (1_000_000..1_000_000 + PARTED).collect();
    for some in ids.chunks(1000) {
        let chunks = some.iter().map(|id| Chunk::new(*id, "goes again", op::vector("veiled", *id, 0)));
        collection.ingest(chunks.collect()).await.unwrap();
    }
    for some in ids.chunks(1000) {
        collection.delete(some.iter().map(|id| (*id).into()).collect()).await.unwrap();
    }
    // Else the store would at some time, and keep the directory of one that was dropped.
    while collection.optimize().await.unwrap() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Run<'_> {
    fn round(&mut self, runtime: &tokio::runtime::Runtime) {
        let (lanes, reopenings) = (self.campaign.lanes, self.campaign.reopenings);
        let occurrence = self.rng.random_range(1..=self.campaign.occurrences);
        let kind = if reopenings { Kind::Ingest } else { self.campaign.target };
        let fraction = self.rng.random_range(0.0..1.0);
        self.session(lanes, &Point { kind, occurrence, fraction });
        if reopenings {
            for _ in 0..self.rng.random_range(1..=3) {
                let fraction = self.rng.random_range(0.0..1.0);
                self.session("", &Point { kind: Kind::Open, occurrence: 1, fraction });
            }
        }
        let shards = std::fs::read_dir(self.dir.join("data/shards")).unwrap();
        let half = shards.filter(|s| {
            let temporary = s.as_ref().unwrap().path().join("temp_segments");
            std::fs::read_dir(temporary).is_ok_and(|mut left| left.next().is_some())
        });
        self.outcome.half_optimized += u32::from(half.count() > 0);
        let in_flight: Vec<_> = std::mem::take(&mut self.in_flight).into_iter().collect();
        let (query, close) = (self.rng.random(), self.rng.random_bool(0.5));
        // A store that is dropped while it optimises has its directory until that is done.
        let close = close || self.campaign.target == Kind::Optimize;
        let seen = runtime.block_on(check(self.dir, &mut self.model, &in_flight, query, close));
        self.outcome.indexed = self.outcome.indexed.max(seen.indexed);
        self.outcome.nearest = [0, 1].map(|at| self.outcome.nearest[at] + seen.nearest[at]);
    }

    /// One child, from its start to its death at `point`.
    fn session(&mut self, lanes: &str, point: &Point) {
        self.sessions += 1;
        let name = self.campaign.name;
        // Shown when an assertion fails: with it the same points are tried again.
        println!("{name}: seed {}, session {}, {point:?}", self.campaign.seed, self.sessions);
        let first = self.sessions * STAMPS;
        let told = format!("{};{};{first};{lanes}", self.dir.display(), self.rng.random::<u64>());
        let (mut child, lines) = spawn(&told);
        let (mut seen, mut target) = (0, None);
        let mut kill_at: Option<Instant> = None;
        loop {
            let patience = kill_at.map_or(PATIENCE, |at| at.saturating_duration_since(Instant::now()));
            let line = match lines.recv_timeout(patience) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) if kill_at.is_some() => {
                    child.kill().unwrap();
                    break;
                }
                Err(e) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("the child hangs or ended ({e}), with {:?} under way", self.in_flight);
                }
            };
            if let Some((stamp, op)) = self.hear(&line)
                && kill_at.is_none()
                && op == point.kind
            {
                seen += 1;
                if seen == point.occurrence {
                    target = Some(stamp);
                    let takes_us = self.takes_us.get(&point.kind).copied().unwrap_or(1000.0);
                    kill_at = Some(Instant::now() + Duration::from_secs_f64(takes_us * point.fraction / 1e6));
                }
            }
        }
        // What it had said before it died.
        lines.iter().for_each(|line| _ = self.hear(&line));
        let status = child.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "the child ended by itself: {status}");
        if target.is_some_and(|stamp| self.in_flight.contains_key(&stamp)) {
            *self.outcome.inside.entry(point.kind).or_default() += 1;
        } else {
            self.outcome.between += 1;
        }
        // Opening changes nothing that the model knows.
        self.in_flight.retain(|_, op| *op != Op::Open);
    }

    /// Takes in a line of the child; returns what begins with it.
    fn hear(&mut self, line: &str) -> Option<(Stamp, Kind)> {
        let words: Vec<&str> = line.strip_prefix("@ ")?.splitn(3, ' ').collect();
        let [what, stamp, rest] = *words.as_slice() else { panic!("`{line}`") };
        let stamp = stamp.parse().unwrap();
        match what {
            "begin" => {
                let op: Op = rest.parse().unwrap();
                let kind = op.kind();
                self.in_flight.insert(stamp, op);
                return Some((stamp, kind));
            }
            "ack" => {
                let op = self.in_flight.remove(&stamp).unwrap();
                let (answer, took_us) = rest.split_once(' ').unwrap();
                if let Some(expected) = self.model.apply(stamp, &op) {
                    assert_eq!(answer, expected, "the answer to {stamp}: {op}");
                }
                let took_us: f64 = took_us.parse().unwrap();
                let takes_us = self.takes_us.entry(op.kind()).or_insert(took_us);
                // Drifts to the median: a few operations wait long for the disk.
                *takes_us *= if took_us > *takes_us { 1.1 } else { 1.0 / 1.1 };
                self.outcome.acknowledged += 1;
                self.outcome.optimized += u32::from(op.kind() == Kind::Optimize && answer == "true");
            }
            _ => panic!("the child failed: {line}: {:?}", self.in_flight.get(&stamp)),
        }
        None
    }
}

/// Starts this test binary again as the child; its lines arrive through the channel, which ends when it does.
fn spawn(told: &str) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
        .env(child::ENVIRONMENT, told)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    (child, lines)
}
