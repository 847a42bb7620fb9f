//! Which records a token is for: a list of digests, or the root of a Merkle tree (RFC 6962, section 2.1) over more.

use super::ids::Digest;
use super::refusal::Refusal;
use crate::crypto::Provider;
use crate::error::{Error, Result};
use crate::limits;

/// What a token says of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// Their digests.
    List(Vec<Digest>),
    /// The root of the tree over their digests, and how many there are.
    Tree {
        /// The root.
        root: [u8; 32],
        /// How many leaves.
        count: u32,
    },
}

/// Where a record stands in a token's tree: the audit path of RFC 6962, section 2.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The index of the leaf.
    pub index: u32,
    /// The siblings, from the leaf up.
    pub path: Vec<[u8; 32]>,
}

impl Records {
    /// Up to [`limits::TOKEN_LISTED`] digests are listed; of more, there is only the root of their tree.
    pub fn of(provider: &dyn Provider, digests: &[Digest]) -> Result<Self> {
        if digests.is_empty() || digests.len() > limits::TOKEN_RECORDS {
            return Err(Error::invalid(format!("a token is for 1 to {} records", limits::TOKEN_RECORDS)));
        }
        if digests.len() <= limits::TOKEN_LISTED {
            return Ok(Self::List(digests.to_vec()));
        }
        let count = u32::try_from(digests.len()).map_err(|_| Error::invalid("too many records"))?;
        Ok(Self::Tree { root: root(provider, digests), count })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Records::List(digests) => digests.len(),
            Records::Tree { count, .. } => *count as usize,
        }
    }

    /// Whether there are none, which no token has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses a record that is not one of them.
    pub(super) fn check(
        &self,
        provider: &dyn Provider,
        digest: &Digest,
        membership: Option<&Membership>,
    ) -> Result<(), Refusal> {
        let is_one = match (self, membership) {
            (Records::List(digests), None) => digests.contains(digest),
            (Records::Tree { root, count }, Some(membership)) => {
                membership.root(provider, digest, *count).is_some_and(|computed| computed == *root)
            }
            _ => false,
        };
        if is_one { Ok(()) } else { Err(Refusal::Record) }
    }
}

impl Membership {
    /// Of the record at `index`, or `None` when they are listed and need none.
    pub fn of(provider: &dyn Provider, digests: &[Digest], index: usize) -> Option<Self> {
        if digests.len() <= limits::TOKEN_LISTED || index >= digests.len() {
            return None;
        }
        let mut path = Vec::new();
        audit_path(provider, digests, index, &mut path);
        Some(Self { index: u32::try_from(index).ok()?, path })
    }

    /// The root that the path leads to (RFC 9162, section 2.1.3.2); `None` when it does not fit a tree of `count`.
    fn root(&self, provider: &dyn Provider, digest: &Digest, count: u32) -> Option<[u8; 32]> {
        if self.index >= count || self.path.len() > limits::TOKEN_PATH {
            return None;
        }
        let (mut at, mut last) = (self.index, count - 1);
        let mut hash = leaf(provider, digest);
        for sibling in &self.path {
            if last == 0 {
                return None;
            }
            if at & 1 == 1 || at == last {
                hash = node(provider, sibling, &hash);
                while at & 1 == 0 && at != 0 {
                    (at, last) = (at >> 1, last >> 1);
                }
            } else {
                hash = node(provider, &hash, sibling);
            }
            (at, last) = (at >> 1, last >> 1);
        }
        (last == 0).then_some(hash)
    }
}

fn leaf(provider: &dyn Provider, digest: &Digest) -> [u8; 32] {
    provider.sha256(&[&[0], digest.as_bytes()])
}

fn node(provider: &dyn Provider, left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    provider.sha256(&[&[1], left, right])
}

/// The largest power of two that is smaller than `n`, which is at least 2.
fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

fn root(provider: &dyn Provider, digests: &[Digest]) -> [u8; 32] {
    match digests {
        [] => provider.sha256(&[]),
        [one] => leaf(provider, one),
        more => {
            let (left, right) = more.split_at(split(more.len()));
            node(provider, &root(provider, left), &root(provider, right))
        }
    }
}

fn audit_path(provider: &dyn Provider, digests: &[Digest], index: usize, path: &mut Vec<[u8; 32]>) {
    if digests.len() < 2 {
        return;
    }
    let middle = split(digests.len());
    let (left, right) = digests.split_at(middle);
    if index < middle {
        audit_path(provider, left, index, path);
        path.push(root(provider, right));
    } else {
        audit_path(provider, right, index - middle, path);
        path.push(root(provider, left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::default_provider;

    fn digests(n: usize) -> Vec<Digest> {
        (0..n).map(|i| Digest::from(default_provider().sha256(&[&i.to_be_bytes()]))).collect()
    }

    /// Guards against a tree that lets a record in which is not there, or keeps one out which is.
    #[test]
    fn just_the_records_of_a_tree_are_in_it() {
        let provider = default_provider();
        for n in [33, 34, 63, 64, 65, 100, 127, 129] {
            let all = digests(n);
            let records = Records::of(provider, &all).unwrap();
            assert_eq!(records.len(), n);
            for (index, digest) in all.iter().enumerate() {
                let place = Membership::of(provider, &all, index).unwrap();
                records.check(provider, digest, Some(&place)).unwrap();
                let other = all[(index + 1) % n];
                let mut longer = place.clone();
                longer.path.push([0; 32]);
                let mut shorter = place.clone();
                shorter.path.pop();
                let moved = Membership { index: place.index ^ 1, ..place.clone() };
                for (digest, place) in [
                    (&other, Some(&place)),
                    (digest, Some(&longer)),
                    (digest, Some(&shorter)),
                    (digest, Some(&moved)),
                    (digest, None),
                ] {
                    assert_eq!(records.check(provider, digest, place), Err(Refusal::Record), "{index} of {n}");
                }
            }
        }
    }

    #[test]
    fn listed_records_need_no_path() {
        let provider = default_provider();
        let all = digests(32);
        let records = Records::of(provider, &all).unwrap();
        assert!(matches!(&records, Records::List(listed) if *listed == all));
        assert_eq!(Membership::of(provider, &all, 0), None);
        records.check(provider, &all[31], None).unwrap();
        assert_eq!(records.check(provider, &digests(33)[32], None), Err(Refusal::Record));
        let some = Membership { index: 0, path: Vec::new() };
        assert_eq!(records.check(provider, &all[0], Some(&some)), Err(Refusal::Record));
        assert!(Records::of(provider, &[]).is_err());
    }
}
