//! What the engine holds, written down for the attacks: little-endian numbers, and a description of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use strongroom::{Error, Mode, Result};

use super::engine::{Corpus, Held, Stored, Way};

/// The ways of storing that are attacked.
pub const WAYS: [Way; 4] = [
    Way { name: "sealed", mode: Mode::Sealed, pad: false },
    Way { name: "sealed-pad", mode: Mode::Sealed, pad: true },
    Way { name: "veiled", mode: Mode::Veiled, pad: false },
    Way { name: "plain", mode: Mode::Plain, pad: false },
];

/// Writes `corpus` and what is held of it in each of [`WAYS`] below `dir`.
pub async fn write(dir: &Path, corpus: &Corpus) -> Result<()> {
    let mut ways = Vec::new();
    for way in WAYS {
        let stored = corpus.stored(way).await?;
        let Stored { first, other_tenant, next_epoch, asked, recall } = &stored;
        for (when, held) in [("first", first), ("tenant", other_tenant), ("epoch", next_epoch)] {
            write_held(dir, &format!("{}.{when}", way.name), held)?;
        }
        write_floats(&dir.join(format!("{}.asked.f32", way.name)), asked.iter().flatten().map(Vec::as_slice))?;
        let parts = first.iter().map(|held| held.part + 1).max().unwrap_or_default();
        ways.push(json!({ "name": way.name, "recall": recall, "parts": parts }));
    }
    write_floats(&dir.join("texts.f32"), corpus.vectors())?;
    write_floats(&dir.join("queries.f32"), corpus.queries.iter().map(Vec::as_slice))?;
    let dimensions = corpus.queries.first().map_or(0, Vec::len);
    let description: Value = json!({ "dimensions": dimensions, "ways": ways });
    Ok(std::fs::write(dir.join("dump.json"), description.to_string())?)
}

fn write_held(dir: &Path, name: &str, held: &[Held]) -> Result<()> {
    write_floats(&dir.join(format!("{name}.vectors.f32")), held.iter().filter_map(|held| held.vector.as_deref()))?;
    for (what, of) in
        [("text", (|held| held.text) as fn(&Held) -> usize), ("part", |held| held.part), ("size", |held| held.size)]
    {
        let numbers = held.iter().map(|held| u32::try_from(of(held)).unwrap_or(u32::MAX));
        let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        std::fs::write(dir.join(format!("{name}.{what}.u32")), bytes)?;
    }
    Ok(())
}

fn write_floats<'a>(file: &Path, rows: impl Iterator<Item = &'a [f32]>) -> Result<()> {
    let bytes: Vec<u8> = rows.flatten().flat_map(|x| x.to_le_bytes()).collect();
    Ok(std::fs::write(file, bytes)?)
}

/// The attacks on what was written to `dir`: a program that prints what they recover.
pub fn attacks(dir: &Path) -> Result<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = here.join("target/clients/venv/bin/python");
    if !python.exists() {
        return Err(Error::not_found("Python with numpy is not installed").with_remedy("run `tools/clients/install`"));
    }
    let mut command = Command::new(python);
    command.arg(here.join("tools/leakage/attacks.py")).arg(dir).env("PYTHONDONTWRITEBYTECODE", "1");
    // Several threads gain little here, and lose much where other programs want the cores.
    command.env("OPENBLAS_NUM_THREADS", "1");
    Ok(command)
}
