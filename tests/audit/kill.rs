//! `kill -9`, again and again, of a process that appends and of one that is opening its log: what was acknowledged is there,
//! at the index that was named, and the tree continues every checkpoint that was ever seen.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use strongroom::ErrorKind;
use strongroom::audit::log::{KeyKeeper, Log, LogOptions};
use strongroom::audit::tree::{Hash, Nodes as _};
use strongroom::audit::verify::Signed;
use strongroom::audit::{Event, Outcome, Reason, What};
use strongroom::clock::SystemClock;

use super::scene::{Scene, quick};

/// What the child is told: the log's directory.
const ENVIRONMENT: &str = "STRONGROOM_AUDIT_CHILD";
const KILLS: usize = 220;
const WRITERS: usize = 3;

/// Not a test: what is started and killed.
#[test]
fn child_entry() {
    if let Ok(dir) = std::env::var(ENVIRONMENT) {
        child(dir.as_ref());
    }
}

fn options() -> LogOptions {
    LogOptions { checkpoint_ms: 2, service: Some("child".into()), ..quick() }
}

/// Appends without end, and says of each event that it was acknowledged, by one `write`.
fn child(dir: &std::path::Path) {
    say("\n@ opening\n");
    let log = loop {
        match Log::open(dir, KeyKeeper::File, options(), Arc::new(SystemClock)) {
            // The one before has not quite gone.
            Err(e) if e.kind() == ErrorKind::Busy => std::thread::sleep(Duration::from_millis(1)),
            other => break other.unwrap(),
        }
    };
    say("@ opened\n");
    let run = std::process::id();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let log = &log;
            scope.spawn(move || {
                for n in 0.. {
                    let label = format!("{run}-{writer}-{n}");
                    let index = log.append(&event(&label, writer == 0)).unwrap().index();
                    say(&format!("@ ack {index} {label}\n"));
                }
            });
        }
    });
}

fn event(label: &str, durable: bool) -> Event {
    let what = match durable {
        true => What::SessionRevoked { session: "0".repeat(32) },
        false => What::Refused { reason: Reason::Scope },
    };
    Event::new(1, label, what, Outcome::Done)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// When a child is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// So long after it was started: while it opens the log, or soon after.
    After(Duration),
    /// After so many acknowledgements.
    Acknowledged(usize),
}

/// Runs a child until it is killed, and returns what it had acknowledged.
fn killed(scene: &Scene, point: Point) -> Vec<(u64, String)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::child_entry", "--nocapture"]).env(ENVIRONMENT, scene.log_dir());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let reading = {
        let count = count.clone();
        std::thread::spawn(move || {
            let mut acks = Vec::new();
            for line in out.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let words: Vec<_> = line.split(' ').collect();
                if let ["@", "ack", index, label] = words.as_slice() {
                    acks.push((index.parse().unwrap(), (*label).to_owned()));
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
            acks
        })
    };
    match point {
        Point::After(time) => std::thread::sleep(time),
        Point::Acknowledged(n) => {
            while count.load(Ordering::SeqCst) < n && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
    assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

#[test]
fn nothing_that_was_acknowledged_is_lost_whenever_it_is_killed() {
    let scene = Scene::with(options());
    let mut rng = StdRng::seed_from_u64(27);
    let (mut seen, mut acknowledged, mut while_opening): (Vec<(u64, Hash)>, _, _) = (Vec::new(), 0, 0);
    let mut earlier: Vec<Signed> = Vec::new();
    for kill in 0..KILLS {
        let point = match kill % 2 {
            0 => Point::After(Duration::from_micros(rng.random_range(1_000..60_000))),
            _ => Point::Acknowledged(rng.random_range(1..400)),
        };
        let acks = killed(&scene, point);
        while_opening += usize::from(acks.is_empty());
        acknowledged += acks.len();
        if !scene.log_dir().join("log.pub").exists() {
            continue;
        }
        // As it is found, before anybody mends it.
        let note = std::fs::read_to_string(scene.log_dir().join("checkpoint")).ok();
        drop(scene.try_open().unwrap_or_else(|e| panic!("kill {kill}, {point:?}: {e}")));
        let reader = scene.reader();
        for (index, label) in &acks {
            let entry = reader.entry(*index).unwrap_or_else(|e| panic!("kill {kill}, {point:?}: {label} is lost: {e}"));
            let entry = String::from_utf8(entry).unwrap();
            assert!(
                entry.contains(&format!("\"service\":\"{label}\"")),
                "kill {kill}: {index} is {entry}, not {label}"
            );
        }
        let signed = Signed::verify(&reader.checkpoint().unwrap().to_string(), &scene.key()).unwrap();
        if let Some(note) = note {
            let then = Signed::verify(&note, &scene.key()).unwrap();
            assert!(then.size() <= signed.size(), "kill {kill}, {point:?}: a checkpoint went back");
            seen.push((then.size(), *then.root()));
            if kill % 20 == 0 {
                earlier.push(then);
            }
        }
        for (size, root) in &seen {
            assert_eq!(reader.root(*size).unwrap(), *root, "kill {kill}, {point:?}: another tree at {size}");
        }
    }
    let report = scene.export("export").verify(&earlier).unwrap();
    println!(
        "{KILLS} kills, {while_opening} before the first acknowledgement, {acknowledged} acknowledged, {report:?}"
    );
    assert!(report.size >= acknowledged as u64 && while_opening >= 20 && seen.len() >= 100);
}
