//! A Merkle tree as RFC 9162 defines it, word by word, and an export as C2SP lays it out: what the log is compared with,
//! and what an attacker writes.

use std::path::Path;

use sha2::{Digest as _, Sha256};

pub type Sum = [u8; 32];

pub fn leaf(entry: &[u8]) -> Sum {
    Sha256::digest([&[0], entry].concat()).into()
}

pub fn pair(left: &Sum, right: &Sum) -> Sum {
    Sha256::digest([&[1], &left[..], right].concat()).into()
}

/// MTH(D[n]), of the hashes of leaves.
pub fn root(leaves: &[Sum]) -> Sum {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            pair(&root(left), &root(right))
        }
    }
}

/// PATH(m, D[n]).
pub fn path(m: usize, leaves: &[Sum]) -> Vec<Sum> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    if m < k { [path(m, left), vec![root(right)]].concat() } else { [path(m - k, right), vec![root(left)]].concat() }
}

/// PROOF(m, D[n]).
pub fn consistency(m: usize, leaves: &[Sum]) -> Vec<Sum> {
    sub_proof(m, leaves, true)
}

fn sub_proof(m: usize, leaves: &[Sum], whole: bool) -> Vec<Sum> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    if m <= k {
        [sub_proof(m, left, whole), vec![root(right)]].concat()
    } else {
        [sub_proof(m - k, right, false), vec![root(left)]].concat()
    }
}

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// Writes entries and their tree into `dir`, as an export has them.
pub fn write_export(dir: &Path, entries: &[Vec<u8>]) {
    write_entries(dir, entries);
    write_tree(dir, &entries.iter().map(|entry| leaf(entry)).collect::<Vec<_>>());
}

pub fn write_entries(dir: &Path, entries: &[Vec<u8>]) {
    for (number, bundle) in entries.chunks(256).enumerate() {
        let framed =
            bundle.iter().map(|entry| [&u16::try_from(entry.len()).unwrap().to_be_bytes(), &entry[..]].concat());
        write(dir, &format!("tile/entries/{}", place(number, bundle.len())), &framed.collect::<Vec<_>>().concat());
    }
}

pub fn write_tree(dir: &Path, leaves: &[Sum]) {
    let mut hashes = leaves.to_vec();
    for level in 0.. {
        if hashes.is_empty() {
            return;
        }
        for (number, tile) in hashes.chunks(256).enumerate() {
            write(dir, &format!("tile/{level}/{}", place(number, tile.len())), &tile.concat());
        }
        hashes = hashes.chunks_exact(256).map(root).collect();
    }
}

/// Below a million.
pub fn place(number: usize, width: usize) -> String {
    let path =
        if number < 1000 { format!("{number:03}") } else { format!("x{:03}/{:03}", number / 1000, number % 1000) };
    if width == 256 { path } else { format!("{path}.p/{width}") }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
