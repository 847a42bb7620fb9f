//! Killed at any point, with writers at work, the collection is in one mode, has every acknowledged write, and the same
//! change goes on.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use strongroom::{Chunk, Collection, CollectionSpec, Metric, Mode, RecordId, SearchRequest, Store};

use crate::common::{self, options, passphrase, vector};
use crate::{WALK, is_clean, shards};

const SIZE: usize = 16;
const RECORDS: u64 = 600;
/// Lines that a child says of how far it is: a page is 128 points, and each is looked at twice.
const PAGES: u64 = 10;
/// How many points in time there are after the last of them, and how far apart.
const LATE: u64 = 14;
const LATE_STEP: Duration = Duration::from_millis(8);
/// Of these, how many are after it said that the mode was changed.
const AFTER: u64 = 4;
/// Where a child finds its store, and what it is to do.
const STORE: &str = "STRONGROOM_TEST_MODE_STORE";
const MODE: &str = "STRONGROOM_TEST_MODE";

fn chunk(id: u64, round: u64) -> Chunk {
    Chunk::new(id, format!("{id} {round}"), vector(id, SIZE))
}

/// One call, so that a line that ends with the process is not taken for another.
fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The child: nothing, unless a parent started it.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let (Ok(dir), Ok(mode)) = (std::env::var(STORE), std::env::var(MODE)) else { return };
    let store = Store::open(options(Path::new(&dir)), passphrase()).await.unwrap();
    let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
    let docs = tenant.collection("docs").unwrap();
    let writer = {
        let docs = docs.clone();
        tokio::spawn(async move {
            let first = docs.get((0..RECORDS).map(RecordId::from).collect()).await.unwrap();
            let first = first.iter().map(|chunk| chunk.version).max().unwrap();
            for round in first.. {
                let id = round * 131 % RECORDS;
                docs.ingest(vec![chunk(id, round)]).await.unwrap();
                say(&format!("wrote {id} {round}"));
            }
        })
    };
    tenant.change_mode("docs", mode.parse().unwrap(), |_| say("page")).await.unwrap();
    say("changed");
    writer.abort();
    drop((docs, tenant));
    store.close().await.unwrap();
}

fn start(dir: &Path, mode: Mode) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::child", "--nocapture", "--test-threads", "1"]);
    command.env(STORE, dir).env(MODE, mode.to_string());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

/// Runs a child until so many pages, or all and then for so long. Returns whether it said that it was done.
fn run(dir: &Path, mode: Mode, point: u64, written: &mut BTreeMap<u64, u64>) -> bool {
    let (mut child, mut lines) = start(dir, mode);
    let (mut pages, mut changed, mut line) = (0, false, String::new());
    let mut take = |line: &str, pages: &mut u64| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["wrote", id, round] => _ = written.insert(id.parse().unwrap(), round.parse().unwrap()),
            // The harness may have begun the line.
            [.., "page"] => *pages += 1,
            [.., "changed"] => changed = true,
            _ => {}
        }
    };
    while pages < point.min(PAGES) && lines.read_line(&mut line).unwrap() > 0 {
        take(&line, &mut pages);
        line.clear();
    }
    let mut late = point.saturating_sub(PAGES);
    if late > LATE - AFTER {
        while lines.read_line(&mut line).unwrap() > 0 {
            take(&line, &mut pages);
            if line.contains("changed") {
                break;
            }
            line.clear();
        }
        line.clear();
        late -= LATE - AFTER;
    }
    std::thread::sleep(LATE_STEP * u32::try_from(late).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had acknowledged and was not read yet.
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.ends_with('\n') {
            take(&line, &mut pages);
        }
        line.clear();
    }
    changed
}

async fn check(docs: &Collection, written: &BTreeMap<u64, u64>) {
    let found = docs.get((0..RECORDS).map(RecordId::from).collect()).await.unwrap();
    assert_eq!((found.len() as u64, docs.count().await.unwrap() as u64), (RECORDS, RECORDS));
    for (id, chunk) in (0..).zip(found) {
        let (of, round) = chunk.text.split_once(' ').unwrap();
        // A write that was not acknowledged may be there too.
        let least = written.get(&id).copied().unwrap_or_default();
        assert!(of == id.to_string() && round.parse::<u64>().unwrap() >= least, "{id}: {} before {least}", chunk.text);
    }
    for id in (0..RECORDS).step_by(61) {
        let hits = docs.search(SearchRequest::new(vector(id, SIZE), 3)).await.unwrap();
        assert!(hits[0].id == RecordId::from(id) && hits.len() == 3, "{id} is not found in {}", docs.mode());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_it_goes_on() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", CollectionSpec::new(SIZE, Metric::Cosine)).await.unwrap();
    docs.ingest((0..RECORDS).map(|id| chunk(id, 0)).collect()).await.unwrap();
    drop((docs, tenant));
    let dir = test.close().await;
    let (mut written, mut half_way, mut done) = (BTreeMap::new(), 0, 0);
    let mut walk = WALK.into_iter().cycle();
    let mut mode = walk.next().unwrap();
    let mut before = Mode::Sealed;
    // Another stride each time, so that every pair of modes sees early and late ones.
    for kill in 0..PAGES + LATE {
        let point = 1 + kill * 7 % (PAGES + LATE);
        let changed = run(dir.path(), mode, point, &mut written);
        let store = Store::open(options(dir.path()), passphrase()).await.unwrap();
        let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
        let docs = tenant.collection("docs").unwrap();
        let now = docs.mode();
        assert!(now == mode || now == before && !changed, "from {before} to {mode}: {now}");
        check(&docs, &written).await;
        is_clean(&tenant).await;
        if now == mode {
            done += 1;
            assert_eq!(shards(dir.path()), 1, "what was left is removed at the next start");
            (before, mode) = (mode, walk.next().unwrap());
        } else {
            half_way += 1;
        }
        drop((docs, tenant));
        store.close().await.unwrap();
    }
    println!("killed {half_way} times half-way and {done} times after the change");
    assert!(half_way > 5 && done >= AFTER, "{half_way} {done}");
    let store = Store::open(options(dir.path()), passphrase()).await.unwrap();
    let tenant = store.tenant(&"acme".parse().unwrap()).await.unwrap();
    let docs = tenant.collection("docs").unwrap();
    // To the mode that it has: what was half made goes.
    tenant.change_mode("docs", before, |_| ()).await.unwrap();
    assert_eq!((docs.mode(), shards(dir.path())), (before, 1));
    tenant.change_mode("docs", mode, |_| ()).await.unwrap();
    check(&docs, &written).await;
    is_clean(&tenant).await;
    drop((docs, tenant));
    store.close().await.unwrap();
}
