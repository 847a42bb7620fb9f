//! Nothing of the old form is left on disk.

use std::collections::BTreeSet;
use std::path::Path;

use aho_corasick::AhoCorasick;
use strongroom::{Chunk, CollectionSpec, Metric, Mode};

use crate::common::{self, cli::walk, vector};
use crate::is_clean;

const SIZE: usize = 64;
const RECORDS: u64 = 400;

/// Windows of `vector`, as it is and scaled to length 1, as files have them.
fn windows(vector: &[f32]) -> Vec<Vec<u8>> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let unit: Vec<f32> = vector.iter().map(|x| (f64::from(*x) / length) as f32).collect();
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    vector.chunks_exact(4).chain(unit.chunks_exact(4)).map(bytes).collect()
}

/// In which files below `dir` how many of `vectors` are.
fn shown(dir: &Path, vectors: &[Vec<f32>]) -> Vec<(String, usize)> {
    let (mut needles, mut of) = (Vec::new(), Vec::new());
    for (at, vector) in vectors.iter().enumerate() {
        for window in windows(vector) {
            needles.push(window);
            of.push(at);
        }
    }
    let all = AhoCorasick::new(needles).unwrap();
    let mut found = Vec::new();
    for path in walk(dir).into_iter().filter(|path| path.is_file()) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let who: BTreeSet<usize> = all.find_iter(&bytes).map(|hit| of[hit.pattern().as_usize()]).collect();
        if !who.is_empty() {
            found.push((path.display().to_string(), who.len()));
        }
    }
    found
}

/// The vectors that files of the engine have, as the engine has them: of a veiled collection these are not the exact ones.
fn held(dir: &Path) -> Vec<Vec<u8>> {
    let files = walk(&dir.join("data/shards")).into_iter().filter(|path| {
        let is_large = || path.metadata().unwrap().len() > 20_000;
        path.is_file() && path.to_str().is_some_and(|path| path.contains("vector_storage")) && is_large()
    });
    let bytes = files.flat_map(|path| std::fs::read(path).unwrap());
    let bytes: Vec<u8> = bytes.collect();
    let windows = bytes.chunks_exact(16).filter(|window| window.iter().filter(|byte| **byte == 0).count() < 4);
    windows.map(<[u8]>::to_vec).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_has_the_vectors_that_were_plain() {
    let vectors: Vec<Vec<f32>> = (0..RECORDS).map(|id| vector(id, SIZE)).collect();
    let chunks = || (0..RECORDS).map(|id| Chunk::new(id, "text", vector(id, SIZE)));
    for (flushed, to) in [(true, Mode::Sealed), (false, Mode::Sealed), (false, Mode::Veiled)] {
        let test = common::store().await;
        let tenant = test.tenant("acme").await;
        let spec = CollectionSpec::new(SIZE, Metric::Cosine).mode(Mode::Plain);
        let docs = tenant.create_collection("docs", spec).await.unwrap();
        docs.ingest(chunks().take(300).collect()).await.unwrap();
        if flushed {
            docs.flush().await.unwrap();
        }
        docs.ingest(chunks().skip(300).collect()).await.unwrap();
        let before: usize = shown(test.dir.path(), &vectors).iter().map(|(_, count)| count).sum();
        assert!(before >= vectors.len(), "the search finds nothing: {before}");
        tenant.change_mode("docs", to, |_| ()).await.unwrap();
        // At once, with the store still open, and after it was closed.
        assert_eq!(shown(test.dir.path(), &vectors), [], "{to}");
        is_clean(&tenant).await;
        drop((docs, tenant));
        let dir = test.close().await;
        assert_eq!(shown(dir.path(), &vectors), [], "{to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_has_the_vectors_that_were_veiled() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let spec = CollectionSpec::new(SIZE, Metric::Cosine).mode(Mode::Veiled);
    let docs = tenant.create_collection("docs", spec).await.unwrap();
    docs.ingest((0..RECORDS).map(|id| Chunk::new(id, "text", vector(id, SIZE))).collect()).await.unwrap();
    docs.flush().await.unwrap();
    let held = held(test.dir.path());
    assert!(held.len() as u64 > RECORDS, "the engine's vectors were not found: {}", held.len());
    let all = AhoCorasick::new(&held[..200]).unwrap();
    tenant.change_mode("docs", Mode::Sealed, |_| ()).await.unwrap();
    for path in walk(test.dir.path()).into_iter().filter(|path| path.is_file()) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        assert!(all.find(&bytes[..]).is_none(), "{}", path.display());
    }
}

/// Guards against noise that is drawn anew whenever a collection becomes veiled: it would average out.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_vectors_are_veiled_the_same_way_again() {
    let test = common::store().await;
    let tenant = test.tenant("acme").await;
    let docs = tenant.create_collection("docs", CollectionSpec::new(SIZE, Metric::Cosine)).await.unwrap();
    docs.ingest((0..50).map(|id| Chunk::new(id, "text", vector(id, SIZE))).collect()).await.unwrap();
    let mut seen: Vec<BTreeSet<Vec<u8>>> = Vec::new();
    for _ in 0..2 {
        tenant.change_mode("docs", Mode::Veiled, |_| ()).await.unwrap();
        docs.flush().await.unwrap();
        seen.push(held(test.dir.path()).into_iter().collect());
        tenant.change_mode("docs", Mode::Sealed, |_| ()).await.unwrap();
    }
    let same = seen[0].intersection(&seen[1]).count();
    // 16 windows a vector.
    assert!(same > 700 && same == seen[0].len() && same == seen[1].len(), "{same} of {}", seen[0].len());
}
