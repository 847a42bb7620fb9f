//! Proofs checked as RFC 9162 writes it: sections 2.1.3.2 and 2.1.4.2, step by step.

use super::hash::pair;
use crate::error::{Error, ErrorKind, Result};

/// Checks that the leaf with hash `leaf_hash` is number `leaf_index` of the tree of `tree_size` leaves with this `root`.
///
/// Hashes are SHA-256, 32 bytes each; `proof` begins beside the leaf.
///
/// # Errors
///
/// [`Integrity`](ErrorKind::Integrity) when the proof does not show that.
pub fn inclusion<H: AsRef<[u8]>>(
    leaf_index: u64,
    tree_size: u64,
    root: &[u8],
    leaf_hash: &[u8],
    proof: &[H],
) -> Result<()> {
    if leaf_index >= tree_size {
        return Err(wrong("the leaf lies outside the tree"));
    }
    let (mut fn_, mut sn) = (leaf_index, tree_size - 1);
    let mut hash = sum(leaf_hash)?;
    for part in proof {
        let part = sum(part.as_ref())?;
        if sn == 0 {
            return Err(wrong("the proof is too long"));
        }
        if fn_ & 1 == 1 || fn_ == sn {
            hash = pair(&part, &hash);
            while fn_ & 1 == 0 && fn_ != 0 {
                (fn_, sn) = (fn_ >> 1, sn >> 1);
            }
        } else {
            hash = pair(&hash, &part);
        }
        (fn_, sn) = (fn_ >> 1, sn >> 1);
    }
    if sn != 0 {
        return Err(wrong("the proof is too short"));
    }
    if hash == *root { Ok(()) } else { Err(wrong("the proof leads to another root")) }
}

/// Checks that the tree of `new_size` leaves with `new_root` begins with the tree of `old_size` leaves with `old_root`.
///
/// Hashes are SHA-256, 32 bytes each. About an empty tree there is nothing to prove: `old_size` is 1 at least, unless
/// both sizes are the same.
///
/// # Errors
///
/// [`Integrity`](ErrorKind::Integrity) when the proof does not show that.
pub fn consistency<H: AsRef<[u8]>>(
    old_size: u64,
    new_size: u64,
    old_root: &[u8],
    new_root: &[u8],
    proof: &[H],
) -> Result<()> {
    if old_size > new_size {
        return Err(wrong("the later tree is the smaller one"));
    }
    if old_size == new_size {
        let same = proof.is_empty() && sum(old_root)? == sum(new_root)?;
        return if same { Ok(()) } else { Err(wrong("two trees of one size have two roots, or a proof")) };
    }
    if old_size == 0 {
        return Err(wrong("an empty tree proves nothing"));
    }
    let mut parts = proof.iter().map(|part| sum(part.as_ref()));
    let first = if old_size.is_power_of_two() { Some(sum(old_root)) } else { parts.next() };
    let first = first.ok_or_else(|| wrong("the proof is too short"))??;
    let (mut fn_, mut sn) = (old_size - 1, new_size - 1);
    while fn_ & 1 == 1 {
        (fn_, sn) = (fn_ >> 1, sn >> 1);
    }
    let (mut old, mut new) = (first, first);
    for part in parts {
        let part = part?;
        if sn == 0 {
            return Err(wrong("the proof is too long"));
        }
        if fn_ & 1 == 1 || fn_ == sn {
            old = pair(&part, &old);
            new = pair(&part, &new);
            while fn_ & 1 == 0 && fn_ != 0 {
                (fn_, sn) = (fn_ >> 1, sn >> 1);
            }
        } else {
            new = pair(&new, &part);
        }
        (fn_, sn) = (fn_ >> 1, sn >> 1);
    }
    if sn != 0 {
        return Err(wrong("the proof is too short"));
    }
    if old != *old_root {
        return Err(wrong("the proof leads to another earlier root"));
    }
    if new == *new_root { Ok(()) } else { Err(wrong("the proof leads to another later root")) }
}

fn sum(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| wrong("a hash does not have 32 bytes"))
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::Integrity, format!("the proof is refused: {why}"))
        .with_remedy("get the proof and the checkpoint again; if it is refused again, the log was tampered with")
}
