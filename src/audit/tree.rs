//! The hashes of the tree (RFC 9162, section 2.1.1, with SHA-256), and its right edge, where it grows.

use super::path::{self, Node, Span, TILE_LEVELS, TILE_WIDTH};
use crate::crypto::default_provider;
use crate::error::{Error, Result};

/// The hash of a leaf, of a node, or of a tree.
pub type Hash = [u8; 32];

/// Where the hashes of whole subtrees are.
pub trait Nodes {
    /// The hashes of a tile, as many as there are.
    fn tile(&self, level: u8, number: u64) -> Result<Vec<Hash>>;

    /// The hash of a whole subtree.
    fn node(&self, node: Node) -> Result<Hash> {
        let place = node.place();
        let tile = self.tile(place.level, place.number)?;
        let hashes = tile.get(place.first..place.first + place.count);
        hashes.and_then(fold).ok_or_else(|| Error::integrity("the tree of the audit log"))
    }

    /// The hash of the subtree over `span`.
    fn span(&self, span: Span) -> Result<Hash> {
        let mut hash = None;
        for node in span.nodes().into_iter().rev() {
            let left = self.node(node)?;
            hash = Some(hash.map_or(left, |right| node_hash(&left, &right)));
        }
        Ok(hash.unwrap_or_else(empty))
    }

    /// The root of the tree of the first `size` leaves.
    fn root(&self, size: u64) -> Result<Hash> {
        self.span(Span { from: 0, to: size })
    }

    /// The hashes that prove that leaf `index` is in the tree of `size` leaves.
    fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>> {
        let path = path::inclusion(index, size).ok_or_else(|| {
            Error::invalid(format!("entry {index} is not among the {size} that are proved"))
                .with_remedy("ask for an earlier one, or for a newer checkpoint")
        })?;
        path.into_iter().map(|span| self.span(span)).collect()
    }

    /// The hashes that prove that the tree of `new` leaves begins with the one of `old` leaves.
    fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>> {
        let path = path::consistency(old, new).ok_or_else(|| {
            Error::invalid(format!("a log of {new} entries is no continuation of one of {old}"))
                .with_remedy("name the smaller size first, 1 at least")
        })?;
        path.into_iter().map(|span| self.span(span)).collect()
    }
}

/// The hash of an entry as a leaf.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    default_provider().sha256(&[&[0], entry])
}

/// The hash of a node with these children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    default_provider().sha256(&[&[1], left, right])
}

/// The root of a tree without leaves.
pub fn empty() -> Hash {
    default_provider().sha256(&[])
}

/// The root of the whole subtree over `hashes`, whose number is a power of two.
fn fold(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            Some(node_hash(&fold(left)?, &fold(right)?))
        }
    }
}

/// The right edge of a tree: of each level of tiles the one that is not whole yet.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    size: u64,
    unfinished: Vec<Vec<Hash>>,
}

/// A tile: level, number, hashes.
pub type Tile = (u8, u64, Vec<Hash>);

impl Edge {
    /// The edge of the tree of `size` leaves.
    pub fn read(nodes: &impl Nodes, size: u64) -> Result<Self> {
        let mut unfinished = Vec::new();
        let mut level = 0;
        while path::hashes_at(level, size) > 0 {
            let hashes = path::hashes_at(level, size);
            let width = (hashes % TILE_WIDTH) as usize;
            let mut tile = if width == 0 { Vec::new() } else { nodes.tile(level, hashes / TILE_WIDTH)? };
            if tile.len() < width {
                return Err(Error::integrity("the tree of the audit log"));
            }
            tile.truncate(width);
            unfinished.push(tile);
            level += 1;
        }
        Ok(Self { size, unfinished })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. Tiles that become whole are added to `whole`.
    pub fn push(&mut self, leaf: Hash, whole: &mut Vec<Tile>) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0_u8.. {
            let at = usize::from(level);
            if self.unfinished.len() == at {
                self.unfinished.push(Vec::new());
            }
            let Some(tile) = self.unfinished.get_mut(at) else { return };
            tile.push(hash);
            if tile.len() as u64 != TILE_WIDTH {
                return;
            }
            let tile = std::mem::take(tile);
            let Some(root) = fold(&tile) else { return };
            let number = (self.size >> (TILE_LEVELS * (u32::from(level) + 1))) - 1;
            whole.push((level, number, tile));
            hash = root;
        }
    }

    /// The tiles that are not whole.
    pub fn unfinished(&self) -> impl Iterator<Item = Tile> {
        (0_u8..).zip(&self.unfinished).filter(|(_, tile)| !tile.is_empty()).map(|(level, tile)| {
            let number = path::hashes_at(level, self.size) / TILE_WIDTH;
            (level, number, tile.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Tiles(HashMap<(u8, u64), Vec<Hash>>);

    impl Nodes for Tiles {
        fn tile(&self, level: u8, number: u64) -> Result<Vec<Hash>> {
            Ok(self.0.get(&(level, number)).cloned().unwrap_or_default())
        }
    }

    fn grow(edge: &mut Edge, tiles: &mut Tiles, leaves: std::ops::Range<u64>) {
        let mut whole = Vec::new();
        leaves.for_each(|n| edge.push(leaf_hash(&n.to_be_bytes()), &mut whole));
        for (level, number, hashes) in whole.into_iter().chain(edge.unfinished()) {
            tiles.0.insert((level, number), hashes);
        }
    }

    /// The definition, word by word.
    fn defined(leaves: std::ops::Range<u64>) -> Hash {
        match leaves.end - leaves.start {
            0 => empty(),
            1 => leaf_hash(&leaves.start.to_be_bytes()),
            n => {
                let k = 1 << (n - 1).ilog2();
                let middle = leaves.start + k;
                node_hash(&defined(leaves.start..middle), &defined(middle..leaves.end))
            }
        }
    }

    #[test]
    fn the_known_tree_has_its_root() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let (mut edge, mut whole) = (Edge::default(), Vec::new());
        leaves.iter().for_each(|leaf| edge.push(leaf_hash(leaf), &mut whole));
        let tiles = Tiles(edge.unfinished().map(|(level, number, hashes)| ((level, number), hashes)).collect());
        let hex: String = tiles.root(8).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        assert_eq!(empty()[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Guards against a tree that depends on where it was stored and read again.
        #[test]
        fn roots_are_the_defined_ones(cuts in proptest::collection::vec(0_u64..700, 1..4)) {
            let (mut edge, mut tiles) = (Edge::default(), Tiles::default());
            for cut in cuts {
                let from = edge.size();
                grow(&mut edge, &mut tiles, from..from + cut);
                edge = Edge::read(&tiles, from + cut).unwrap();
                for size in [edge.size() / 3, edge.size()] {
                    prop_assert_eq!(tiles.root(size).unwrap(), defined(0..size));
                }
            }
        }
    }

    #[test]
    fn a_large_tree_has_three_levels_of_tiles() {
        let (mut edge, mut tiles) = (Edge::default(), Tiles::default());
        grow(&mut edge, &mut tiles, 0..65_536 + 257);
        assert!(tiles.0.contains_key(&(2, 0)));
        let mut again = Edge::read(&tiles, edge.size()).unwrap();
        grow(&mut again, &mut tiles, edge.size()..edge.size() + 300);
        assert_eq!(tiles.root(again.size()).unwrap(), defined(0..again.size()));
    }
}
