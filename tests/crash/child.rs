//! The process that is killed: it works without end, and says before and after every operation which one it is.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use strongroom::audit::log::SignatureChoice;
use strongroom::keys::keystore::file::KdfCost;
use strongroom::limits;
use strongroom::{
    Config, Error, ErrorKind, Passphrase, RotateOptions, SearchRequest, Store, StoreOptions, Tenant, TenantId,
};

use super::op::{self, Op};

/// What the child is told: directory, seed, number of its first operation and lanes, by semicolons.
pub const ENVIRONMENT: &str = "STRONGROOM_CRASH_CHILD";
/// Records of the collections that are optimized: in `large` enough for a search graph, in `bulk` enough to reclaim
/// space. The engine rebuilds a segment of which more than a fifth has gone.
const LARGE: u64 = 3000;
const BULK: u64 = 1600;

pub fn options(dir: &Path) -> StoreOptions {
    // As `common::config` has it: signing takes longer than what is killed here.
    let audit_signature = SignatureChoice::MlDsa;
    let config = Config { flush_interval_s: 1, min_free_mib: 16, audit_signature, ..Config::default() };
    StoreOptions::new(dir).config(config).kdf_cost(KdfCost::INSECURE_FAST)
}

pub fn passphrase() -> Passphrase {
    Passphrase::new(b"correct horse battery staple".to_vec()).unwrap()
}

pub fn tenant_id() -> TenantId {
    "acme".parse().unwrap()
}

/// Opens the store, and waits for the lock: a process that was forked at a bad moment may hold it a little longer.
pub async fn open(dir: &Path) -> Result<Store, Error> {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        match Store::open(options(dir), passphrase()).await {
            Err(e) if e.kind() == ErrorKind::Busy && Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            other => return other,
        }
    }
}

/// Works until it is killed.
pub fn run(told: &str) {
    let told: Vec<&str> = told.split(';').collect();
    let [dir, seed, first, lanes] = *told.as_slice() else { panic!("four things to be told") };
    let (seed, first) = (seed.parse().unwrap(), first.parse().unwrap());
    let lanes: Vec<String> = lanes.split(',').filter(|lane| !lane.is_empty()).map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(PathBuf::from(dir), seed, first, lanes));
}

async fn work(dir: PathBuf, seed: u64, first: u64, lanes: Vec<String>) {
    let out = Arc::new(Speaker::new(first));
    let number = out.begin(&Op::Open);
    let opening = Instant::now();
    let store = match open(&dir).await {
        Ok(store) => store,
        Err(e) => out.fail(number, &e),
    };
    let opened = async {
        // The engine opens a collection and replays its journal at the first use.
        for collection in store.tenant(&tenant_id()).await?.collections() {
            collection.count().await?;
        }
        Ok(())
    };
    if let Err(e) = opened.await {
        out.fail(number, &e);
    }
    out.acknowledge(number, "done", opening);
    let tasks: Vec<_> = (0_u64..)
        .zip(lanes)
        .map(|(nth, lane)| {
            let rng = StdRng::seed_from_u64(seed ^ (nth << 48));
            let worker = Worker { store: store.clone(), out: out.clone(), rng, lane };
            tokio::spawn(worker.run())
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // Without lanes there is nothing to do but to be killed.
    std::future::pending().await
}

/// Says what begins and what was acknowledged, each by one `write` to standard output.
struct Speaker {
    next: AtomicU64,
}

impl Speaker {
    fn new(first: u64) -> Self {
        // The test harness has begun a line.
        say("\n");
        Self { next: AtomicU64::new(first) }
    }

    fn begin(&self, op: &Op) -> u64 {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        say(&format!("@ begin {number} {op}\n"));
        number
    }

    fn acknowledge(&self, number: u64, answer: &str, since: Instant) {
        say(&format!("@ ack {number} {answer} {}\n", since.elapsed().as_micros()));
    }

    fn fail(&self, number: u64, e: &Error) -> ! {
        let source = std::error::Error::source(e).map(|s| format!(" ({s})")).unwrap_or_default();
        say(&format!("@ fail {number} {}: {e}{source}\n", e.kind().as_str()));
        std::process::exit(1)
    }
}

fn say(line: &str) {
    let written = rustix::io::write(std::io::stdout().as_fd(), line.as_bytes());
    if written != Ok(line.len()) {
        // Nobody listens any more.
        std::process::exit(2);
    }
}

/// One task with records of its own, so that the order of what happens to each of them is known.
struct Worker {
    store: Store,
    out: Arc<Speaker>,
    rng: StdRng,
    lane: String,
}

impl Worker {
    async fn run(mut self) {
        let (kind, lane) = self.lane.split_at(1);
        let lane = lane.to_owned();
        match kind {
            "s" => self.chunks("sealed", 10_000 * (1 + number(&lane)), 150, 64).await,
            "p" => self.chunks("plain", 10_000 * (1 + number(&lane)), 150, 64).await,
            "w" => self.chunks("veiled", 10_000 * (1 + number(&lane)), 150, 64).await,
            "b" => self.chunks("bulk", 10_000 * (1 + number(&lane)), 150, 8).await,
            "l" => self.chunks("large", 10_000 * (1 + number(&lane)), 150, 8).await,
            "m" => self.memories(&lane).await,
            "f" => self.flushes().await,
            "o" => self.optimizations().await,
            "v" => self.vacuums().await,
            "c" => self.closes().await,
            "q" => self.searches().await,
            "r" => self.rotations().await,
            "d" => self.catalog(&lane).await,
            _ => {}
        }
    }

    async fn chunks(&mut self, collection: &str, from: u64, records: u64, most: usize) {
        loop {
            let few = if self.rng.random_bool(0.5) { 1..=4 } else { 1..=most };
            let ids = self.ids(from, records, few);
            let op = if self.rng.random_bool(0.25) {
                Op::Delete(collection.into(), ids)
            } else {
                Op::Upsert(collection.into(), ids)
            };
            self.perform(op).await;
        }
    }

    async fn memories(&mut self, lane: &str) {
        loop {
            let key = |rng: &mut StdRng| format!("m{lane}.k{}", rng.random_range(0..30));
            let embedded = self.rng.random_bool(0.4);
            let op = match self.rng.random_range(0..10) {
                0..4 => Op::Put(key(&mut self.rng), embedded),
                4..6 => Op::Update(key(&mut self.rng), embedded),
                6 => Op::Forget(key(&mut self.rng), false),
                7 => Op::Forget(key(&mut self.rng), self.rng.random_bool(0.3)),
                _ => {
                    let keys: BTreeSet<String> =
                        (0..self.rng.random_range(1..20)).map(|_| key(&mut self.rng)).collect();
                    let ops = keys.into_iter().map(|key| (key, *['p', 'e', 'e', 'd'].choose(&mut self.rng).unwrap()));
                    Op::Batch(ops.collect())
                }
            };
            self.perform(op).await;
        }
    }

    async fn flushes(&mut self) {
        loop {
            self.rest(0..30).await;
            let collection = *["sealed", "plain"].choose(&mut self.rng).unwrap();
            self.perform(Op::Flush(collection.into())).await;
        }
    }

    /// What is written again leaves the segment that has a search graph.
    async fn optimizations(&mut self) {
        if count(&self.store, "large").await < LARGE {
            self.fill("large", LARGE).await;
        }
        loop {
            for _ in 0..3 {
                let ids = self.ids(0, LARGE, 250..=250);
                self.perform(Op::Upsert("large".into(), ids)).await;
            }
            self.optimize("large").await;
        }
    }

    async fn vacuums(&mut self) {
        loop {
            self.fill("bulk", BULK).await;
            for _ in 0..2 {
                let ids = self.ids(0, BULK, 300..=300);
                self.perform(Op::Delete("bulk".into(), ids)).await;
            }
            self.optimize("bulk").await;
        }
    }

    async fn fill(&mut self, collection: &str, records: u64) {
        let all: Vec<u64> = (0..records).collect();
        for ids in all.chunks(400) {
            self.perform(Op::Upsert(collection.into(), ids.to_vec())).await;
        }
    }

    async fn optimize(&mut self, collection: &str) {
        if self.rng.random_bool(0.5) {
            self.perform(Op::Flush(collection.into())).await;
        }
        self.perform(Op::Optimize(collection.into())).await;
    }

    async fn closes(&mut self) {
        loop {
            self.rest(0..60).await;
            self.perform(Op::Close).await;
        }
    }

    async fn rotations(&mut self) {
        loop {
            self.rest(0..20).await;
            let compromised = self.rng.random_bool(0.5);
            // A tenant gets so many within a day, which is longer than the campaign.
            let roots = self.store.tenant_keys(&tenant_id()).await.unwrap().root_keys.len();
            let root_key = self.rng.random_bool(0.1) && roots < limits::ROOT_KEYS_A_DAY - 4;
            self.perform(Op::Rotate(compromised, root_key)).await;
        }
    }

    async fn searches(&mut self) {
        loop {
            self.rest(0..20).await;
            let known = self.store.tenant(&tenant_id()).await.unwrap().collections();
            let collection = known.choose(&mut self.rng).map(|c| c.name().to_owned());
            self.perform(Op::Search(collection.unwrap_or_else(|| "none".into()))).await;
        }
    }

    /// Collections come, are written to and go.
    async fn catalog(&mut self, lane: &str) {
        loop {
            let name = format!("c{lane}-{}", self.rng.random_range(0..4));
            self.perform(Op::Create(name.clone())).await;
            for _ in 0..self.rng.random_range(0..4) {
                let ids = self.ids(0, 40, 1..=20);
                self.perform(Op::Upsert(name.clone(), ids)).await;
            }
            if self.rng.random_bool(0.7) {
                self.perform(Op::Drop(name)).await;
            }
        }
    }

    async fn rest(&mut self, ms: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(ms))).await;
    }

    fn ids(&mut self, from: u64, records: u64, count: std::ops::RangeInclusive<usize>) -> Vec<u64> {
        let count = self.rng.random_range(count);
        let mut ids = BTreeSet::new();
        while ids.len() < count {
            ids.insert(from + self.rng.random_range(0..records));
        }
        ids.into_iter().collect()
    }

    async fn perform(&mut self, op: Op) {
        let number = self.out.begin(&op);
        let since = Instant::now();
        match self.attempt(number, &op).await {
            Ok(answer) => self.out.acknowledge(number, &answer, since),
            Err(e) => self.out.fail(number, &e),
        }
    }

    async fn attempt(&mut self, stamp: u64, op: &Op) -> Result<String, Error> {
        let tenant = self.store.tenant(&tenant_id()).await?;
        match op {
            Op::Upsert(name, ids) => {
                let Some(collection) = named(tenant.collection(name))? else { return Ok("none".into()) };
                let chunks = ids.iter().map(|id| op::chunk(name, *id, stamp)).collect();
                Ok(collection.ingest(chunks).await?.to_string())
            }
            Op::Delete(name, ids) => {
                let Some(collection) = named(tenant.collection(name))? else { return Ok("none".into()) };
                Ok(collection.delete(ids.iter().map(|id| (*id).into()).collect()).await?.to_string())
            }
            Op::Flush(name) => tenant.collection(name)?.flush().await.map(|()| "done".into()),
            Op::Optimize(name) => Ok(tenant.collection(name)?.optimize().await?.to_string()),
            Op::Search(name) => self.search(&tenant, name, stamp).await,
            Op::Close => {
                drop(tenant);
                match self.store.close_tenant(&tenant_id()).await {
                    Err(e) if e.kind() == ErrorKind::Busy => Ok("busy".into()),
                    other => other.map(|()| "done".into()),
                }
            }
            Op::Rotate(compromised, root_key) => {
                let options =
                    RotateOptions { compromised: *compromised, root_key: *root_key, ..RotateOptions::default() };
                match self.store.rotate(&tenant_id(), options, |_| ()).await {
                    // A tenant gets so many root keys a day.
                    Err(e) if e.kind() == ErrorKind::Conflict && *root_key => Ok("enough".into()),
                    other => other.map(|_| "done".into()),
                }
            }
            Op::Create(name) => match tenant.create_collection(name, op::spec(name)).await {
                Err(e) if e.kind() == ErrorKind::Conflict => Ok("conflict".into()),
                other => other.map(|_| "done".into()),
            },
            Op::Drop(name) => loop {
                match tenant.drop_collection(name).await {
                    Err(e) if e.kind() == ErrorKind::Busy => tokio::time::sleep(Duration::from_millis(1)).await,
                    other => return Ok(named(other)?.map_or("none", |()| "done").into()),
                }
            },
            op => remember(&tenant, stamp, op).await,
        }
    }

    async fn search(&mut self, tenant: &Tenant, name: &str, stamp: u64) -> Result<String, Error> {
        let Some(collection) = named(tenant.collection(name))? else { return Ok("none".into()) };
        // It may be dropped meanwhile.
        let hits = named(collection.search(SearchRequest::new(op::vector(name, 0, stamp), 10)).await)?;
        Ok(hits.map_or(0, |hits| hits.len()).to_string())
    }
}

async fn remember(tenant: &Tenant, stamp: u64, op: &Op) -> Result<String, Error> {
    match op {
        Op::Put(key, embedded) => Ok(tenant.remember(op::memory(key, *embedded, stamp)).await?.to_string()),
        Op::Update(key, embedded) => {
            let version = named(tenant.update_memory(op::memory(key, *embedded, stamp)).await)?;
            Ok(version.map_or_else(|| "none".into(), |version| version.to_string()))
        }
        Op::Forget(key, purge) => {
            let (namespace, key) = op::place(key);
            Ok(tenant.forget(&namespace, key, *purge).await?.to_string())
        }
        Op::Batch(ops) => {
            let ops = ops.iter().map(|(key, op)| match op {
                'd' => {
                    let (namespace, key) = op::place(key);
                    strongroom::MemoryOp::Delete(namespace, key.to_owned())
                }
                op => strongroom::MemoryOp::Put(op::memory(key, *op == 'e', stamp)),
            });
            tenant.memory_batch(ops.collect()).await.map(|()| "done".into())
        }
        op => panic!("`{op}` is not about memories"),
    }
}

/// `None` for something that is not there.
fn named<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

async fn count(store: &Store, name: &str) -> u64 {
    let tenant = store.tenant(&tenant_id()).await.unwrap();
    tenant.collection(name).unwrap().count().await.unwrap() as u64
}

fn number(lane: &str) -> u64 {
    lane.parse().unwrap()
}
