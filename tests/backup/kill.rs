//! Killed at any point, a backup that is being made is none, and a restore leaves nothing that looks like a store.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use serde_json::json;
use strongroom::backup::Archive;

use crate::common::cli::{Cli, succeeded};
use crate::common::vector;

const SIZE: usize = 64;
const KILLS: u32 = 12;

fn fill(cli: &Cli, from: u64, to: u64) {
    let line = |id| format!("{}\n", json!({ "id": id, "text": "text ".repeat(200), "vector": vector(id, SIZE) }));
    let lines: String = (from..to).map(line).collect();
    succeeded(&cli.run_with_input(&["ingest", "-t", "acme", "docs", "-"], lines.as_bytes()));
}

/// Starts a command again and again, and kills it after more and more of the time that it takes. `undo` comes before
/// each run, `check` after each kill. Returns how many were killed before they ended.
fn campaign(cli: &Cli, args: &[&str], mut undo: impl FnMut(), mut check: impl FnMut()) -> u32 {
    undo();
    let start = Instant::now();
    succeeded(&cli.run(args));
    let takes = start.elapsed();
    let mut killed = 0;
    for point in 0..KILLS {
        undo();
        let mut child = cli.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Another part of the way each time: the points need not be exact, only many.
        std::thread::sleep(takes.mul_f64(f64::from(point) / f64::from(KILLS)));
        let _ = child.kill();
        killed += u32::from(!child.wait().unwrap().success());
        check();
    }
    killed
}

#[test]
fn while_backing_up() {
    let cli = Cli::with_collection("sealed", SIZE);
    fill(&cli, 0, 2000);
    let to = cli.root.path().join("backups");
    let text = to.to_str().unwrap().to_owned();
    let mut next = 2000;
    let killed = campaign(
        &cli,
        &["backup", "create", "--to", &text],
        || {
            fill(&cli, next, next + 200);
            next += 200;
        },
        || {
            // Whatever is listed is whole.
            if let Ok(archive) = Archive::open(&to) {
                archive.verify(None, |_| ()).unwrap();
            }
        },
    );
    assert!(killed > KILLS / 3, "only {killed} kills fell into a backup");
    cli.ok(&["backup", "create", "--to", &text]);
    // Nothing is left of what was killed: neither parts beside those that are needed, nor a copy of the database.
    let verified = Archive::open(&to).unwrap().verify(None, |_| ()).unwrap();
    let parts = crate::common::cli::walk(&to.join("parts"));
    assert_eq!(parts.iter().filter(|path| path.is_file()).count() as u64, verified.parts);
    let names = fs::read_dir(cli.dir.join("data")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with(".checkpoint")).count(), 0);
    fs::remove_dir_all(cli.dir.join("data")).unwrap();
    cli.ok(&["restore", "--from", &text]);
    let chunks = &cli.json(&["collection", "show", "-t", "acme", "docs"])["status"]["chunks"];
    assert_eq!(chunks.as_u64(), Some(next));
}

#[test]
fn while_restoring() {
    let cli = Cli::with_collection("plain", SIZE);
    fill(&cli, 0, 3000);
    let to = cli.root.path().join("backups");
    let text = to.to_str().unwrap().to_owned();
    cli.ok(&["backup", "create", "--to", &text]);
    let data = cli.dir.join("data");
    let whole = || {
        cli.ok(&["verify"]);
        let chunks = &cli.json(&["collection", "show", "-t", "acme", "docs"])["status"]["chunks"];
        assert_eq!(chunks.as_u64(), Some(3000));
    };
    let killed = campaign(
        &cli,
        &["restore", "--from", &text],
        || {
            let _ = fs::remove_dir_all(&data);
        },
        || {
            // There is nothing, or everything.
            if data.exists() {
                whole();
            }
        },
    );
    assert!(killed > KILLS / 3, "only {killed} kills fell into a restore");
    let _ = fs::remove_dir_all(&data);
    cli.ok(&["restore", "--from", &text]);
    whole();
    assert!(!cli.dir.join("data.restoring").exists());
}
