//! A tree reduced to the roots of its whole subtrees, as one counts in binary: what a verifier carries along.

use super::hash::{Sum, pair, plain};

/// The whole subtrees of a tree that grows, the largest first.
#[derive(Default, Clone)]
pub(super) struct Compact {
    size: u64,
    roots: Vec<Sum>,
}

impl Compact {
    pub(super) fn push(&mut self, leaf: Sum) {
        let mut carried = leaf;
        // Each trailing one of the size is a subtree as large as what is carried.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                carried = pair(&left, &carried);
            }
        }
        self.roots.push(carried);
        self.size += 1;
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn root(&self) -> Sum {
        let folded = self.roots.iter().rev().copied().reduce(|right, left| pair(&left, &right));
        folded.unwrap_or_else(|| plain(b""))
    }
}
