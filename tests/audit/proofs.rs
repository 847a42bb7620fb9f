//! Proofs of the log and those of the definition are the same, and the verifier takes these and no others.

use std::collections::BTreeSet;
use std::slice::from_ref;

use proptest::prelude::*;
use strongroom::audit::verify::{consistency, inclusion};

use super::naive;
use super::scene::Scene;

fn bytes(hex: &str) -> Vec<u8> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The leaves that the reference implementations of Certificate Transparency test with.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// The roots of the trees of the first one to eight of them.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// Index, size, proof.
const INCLUSION: [(u64, u64, &[&str]); 4] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
];

/// Earlier size, later size, proof.
const CONSISTENCY: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

#[test]
fn the_known_proofs_are_taken() {
    let root = |size: u64| bytes(ROOTS[size as usize - 1]);
    let leaves: Vec<_> = LEAVES.iter().map(|leaf| naive::leaf(&bytes(leaf))).collect();
    for (size, expected) in (1..).zip(ROOTS) {
        assert_eq!(naive::root(&leaves[..size]).to_vec(), bytes(expected));
    }
    for (index, size, proof) in INCLUSION {
        let proof: Vec<_> = proof.iter().map(|hash| bytes(hash)).collect();
        inclusion(index, size, &root(size), &leaves[index as usize], &proof).unwrap();
    }
    for (old, new, proof) in CONSISTENCY {
        let proof: Vec<_> = proof.iter().map(|hash| bytes(hash)).collect();
        consistency(old, new, &root(old), &root(new), &proof).unwrap();
    }
}

/// The ways in which the reference vectors of transparency-dev/merkle spoil a proof (`wantErr`), on each of the proofs
/// above: another place, another size, another root or leaf, and hashes too many, too few or changed in one bit.
#[test]
fn the_known_proofs_spoilt_in_the_known_ways_are_refused() {
    let root = |size: u64| bytes(ROOTS[size as usize - 1]);
    let leaves: Vec<_> = LEAVES.iter().map(|leaf| naive::leaf(&bytes(leaf))).collect();
    let hashes = |proof: &[&str]| proof.iter().map(|hash| bytes(hash)).collect::<Vec<_>>();
    for (index, size, proof) in INCLUSION {
        let (proof, root, leaf) = (hashes(proof), root(size), leaves[index as usize].to_vec());
        let taken = |index, size, root: &[u8], leaf: &[u8], proof: &[Vec<u8>]| {
            inclusion(index, size, root, leaf, proof).is_ok()
        };
        for (index, size) in [
            (index.wrapping_sub(1), size),
            (index + 1, size),
            (index ^ 2, size),
            (index, size * 2),
            (index, size / 2),
            (index, 0),
        ] {
            // The proof is that of this place only; where the tree has no second leaf, of every place in it.
            assert!(!taken(index, size, &root, &leaf, &proof), "{index} of {size}");
        }
        for (wrong_root, wrong_leaf) in [
            (&leaf[..], &root[..]),
            (&[][..], &leaf[..]),
            (&[0; 32][..], &leaf[..]),
            (&root[..], &[0; 32][..]),
            (&root[..], &[][..]),
        ] {
            let same = wrong_root == root && wrong_leaf == leaf;
            assert!(same || !taken(index, size, wrong_root, wrong_leaf, &proof), "{index} of {size}");
        }
        for proof in spoilt(&proof, &[&root, &leaf]) {
            assert!(!taken(index, size, &root, &leaf, &proof), "{index} of {size}");
        }
    }
    for (old, new, proof) in CONSISTENCY {
        let (proof, before, after) = (hashes(proof), root(old), root(new));
        let taken = |old, new, before: &[u8], after: &[u8], proof: &[Vec<u8>]| {
            consistency(old, new, before, after, proof).is_ok()
        };
        for (old, new) in [(old - 1, new), (old + 1, new), (old ^ 2, new), (old, new * 2), (old, new / 2)] {
            assert!(!taken(old, new, &before, &after, &proof), "{old} to {new}");
        }
        for (wrong_before, wrong_after) in
            [(&[0; 32][..], &after[..]), (&before[..], &[0; 32][..]), (&after[..], &before[..])]
        {
            let same = wrong_before == before && wrong_after == after;
            assert!(same || !taken(old, new, wrong_before, wrong_after, &proof), "{old} to {new}");
        }
        for proof in spoilt(&proof, &[&before, &after]) {
            assert!(!taken(old, new, &before, &after, &proof), "{old} to {new}");
        }
    }
}

/// A proof with hashes before and after it, without one, without any, and each with one bit changed.
fn spoilt(proof: &[Vec<u8>], more: &[&Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let garbage = [vec![], vec![0; 32]];
    let added = garbage.iter().chain(more.iter().copied()).chain(proof.first());
    let mut all: Vec<_> =
        added.flat_map(|hash| [[from_ref(hash), proof].concat(), [proof, from_ref(hash)].concat()]).collect();
    if let Some((_, shorter)) = proof.split_last() {
        all.extend([shorter.to_vec(), Vec::new(), proof[1..].to_vec()]);
    }
    for at in 0..proof.len() {
        let mut changed = proof.to_vec();
        changed[at][0] ^= 1 << 4;
        all.push(changed);
    }
    all
}

#[test]
fn what_is_no_proof_is_refused() {
    let none: [&[u8]; 0] = [];
    let hash = [7; 32];
    for (index, size) in [(0, 0), (1, 1), (u64::MAX, u64::MAX), (0, 2)] {
        assert!(inclusion(index, size, &hash, &hash, &none).is_err());
    }
    for (old, new) in [(0, 1), (2, 1), (1, 2), (u64::MAX, 1)] {
        assert!(consistency(old, new, &hash, &hash, &none).is_err());
    }
    assert!(inclusion(0, 1, &hash, &hash[1..], &none).is_err());
    assert!(consistency(1, 1, &hash, &[8; 32], &none).is_err());
    assert!(consistency(1, 1, &hash, &hash, &[hash]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn proofs_by_the_definition_are_taken_and_changed_ones_are_not(
        size in 1_usize..200, one in any::<u64>(), flip in any::<u16>(),
    ) {
        let leaves: Vec<_> = (0..size).map(|n| naive::leaf(&n.to_be_bytes())).collect();
        let (index, root) = (one as usize % size, naive::root(&leaves));
        let proof = naive::path(index, &leaves);
        let n = size as u64;
        prop_assert!(inclusion(index as u64, n, &root, &leaves[index], &proof).is_ok());
        for wrong in wrong(&proof, flip) {
            prop_assert!(inclusion(index as u64, n, &root, &leaves[index], &wrong).is_err());
        }
        // At another place the path is another one, or leads elsewhere.
        prop_assert!(inclusion(index as u64 + 1, n, &root, &leaves[index], &proof).is_err());
        let old = index + 1;
        let (before, proof) = (naive::root(&leaves[..old]), naive::consistency(old, &leaves));
        prop_assert!(consistency(old as u64, n, &before, &root, &proof).is_ok());
        for wrong in wrong(&proof, flip) {
            prop_assert!(consistency(old as u64, n, &before, &root, &wrong).is_err());
        }
        if old < size {
            prop_assert!(consistency(old as u64, n, &root, &before, &proof).is_err());
        }
    }

    #[test]
    fn hostile_proofs_never_panic(
        a in any::<u64>(), b in any::<u64>(), root: [u8; 32], leaf: Vec<u8>, proof: Vec<Vec<u8>>,
    ) {
        prop_assert!(inclusion(a, b, &root, &leaf, &proof).is_err());
        prop_assert!(consistency(a, b, &root, &leaf, &proof).is_err());
    }
}

/// A bit more, a bit less, a bit different.
fn wrong(proof: &[naive::Sum], flip: u16) -> Vec<Vec<naive::Sum>> {
    let longer = [proof, &[[0; 32]]].concat();
    let mut all = vec![longer];
    if !proof.is_empty() {
        let mut changed = proof.to_vec();
        changed[usize::from(flip) % proof.len()][usize::from(flip) % 32] ^= 1;
        all.extend([changed, proof[1..].to_vec(), proof[..proof.len() - 1].to_vec()]);
    }
    all
}

/// Guards against a log whose proofs are those of another tree, at sizes around the ends of tiles.
#[test]
fn the_log_makes_the_proofs_of_the_definition() {
    let scene = Scene::filled(70_000);
    let (reader, leaves) = (scene.reader(), scene.entries());
    let leaves: Vec<_> = leaves.iter().map(|entry| naive::leaf(entry)).collect();
    for size in [1, 2, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 69_999, 70_000] {
        for index in [0, size / 3, size / 2, size - 1] {
            let made = reader.inclusion(index as u64, size as u64).unwrap();
            assert_eq!(made.proof, naive::path(index, &leaves[..size]), "{index} of {size}");
            assert_eq!((made.root, made.leaf_hash), (naive::root(&leaves[..size]), leaves[index]));
            inclusion(made.leaf_idx, made.tree_size, &made.root, &made.leaf_hash, &made.proof).unwrap();
            let made = reader.consistency(index as u64 + 1, size as u64).unwrap();
            assert_eq!(made.proof, naive::consistency(index + 1, &leaves[..size]), "{index} of {size}");
            consistency(made.size1, made.size2, &made.root1, &made.root2, &made.proof).unwrap();
        }
    }
    assert_eq!(reader.inclusion(70_000, 70_000).err().unwrap().kind(), strongroom::ErrorKind::NotFound);
    let form = serde_json::to_value(reader.inclusion(0, 2).unwrap()).unwrap();
    let keys: BTreeSet<_> = form.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = BTreeSet::from(["leafIdx", "treeSize", "root", "leafHash", "proof"]);
    assert_eq!(keys, expected);
}
