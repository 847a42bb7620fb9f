//! Where a node of the tree lies, and which nodes a proof needs: numbers alone, no hashes.
//!
//! Trees are those of RFC 9162, section 2.1; tiles are those of C2SP tlog-tiles, 256 hashes wide.

/// Levels of the tree that a tile covers.
pub const TILE_LEVELS: u32 = 8;
/// Hashes of a whole tile, and entries of a whole bundle.
pub const TILE_WIDTH: u64 = 1 << TILE_LEVELS;

/// The root of a whole subtree: of the leaves from `index << level` on, `1 << level` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// 0 for leaves.
    pub level: u32,
    /// From the left, among those of its level.
    pub index: u64,
}

/// Leaves from the first (inclusive) to the second (exclusive), whose subtree is part of a tree or of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first leaf.
    pub from: u64,
    /// The leaf after the last.
    pub to: u64,
}

/// Where the hashes lie that make a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The tile's level: 0 for the one with the hashes of leaves.
    pub level: u8,
    /// Its number, from the left.
    pub number: u64,
    /// The first of the hashes.
    pub first: usize,
    /// How many there are: a power of two.
    pub count: usize,
}

impl Node {
    /// The tile with the hashes that make this node.
    pub fn place(self) -> Place {
        let inside = self.level % TILE_LEVELS;
        let first = self.index << inside;
        Place {
            // The highest node has level 63.
            level: (self.level / TILE_LEVELS) as u8,
            number: first / TILE_WIDTH,
            first: (first % TILE_WIDTH) as usize,
            count: 1 << inside,
        }
    }
}

impl Span {
    /// The whole subtrees that it consists of, from the left, each larger than the next.
    pub fn nodes(self) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut from = self.from;
        while let Some(level) = self.to.saturating_sub(from).checked_ilog2() {
            nodes.push(Node { level, index: from >> level });
            from += 1 << level;
        }
        nodes
    }

    fn len(self) -> u64 {
        self.to - self.from
    }

    /// Its two children: the left one is the largest whole subtree that leaves something.
    fn split(self) -> (Self, Self) {
        let middle = self.from + (1 << (self.len() - 1).ilog2());
        (Self { from: self.from, to: middle }, Self { from: middle, to: self.to })
    }
}

/// The subtrees whose hashes prove that the leaf `index` is in the tree of `size` leaves (RFC 9162, section 2.1.3.1);
/// `None` when it cannot be.
pub fn inclusion(index: u64, size: u64) -> Option<Vec<Span>> {
    let mut span = Span { from: 0, to: size };
    if index >= size {
        return None;
    }
    let mut path = Vec::new();
    while span.len() > 1 {
        let (left, right) = span.split();
        let (inner, sibling) = if index < left.to { (left, right) } else { (right, left) };
        path.push(sibling);
        span = inner;
    }
    path.reverse();
    Some(path)
}

/// The subtrees whose hashes prove that the tree of `new` leaves begins with the one of `old` leaves (RFC 9162, section
/// 2.1.4.1); `None` when it cannot, or when there is nothing to prove anything about.
pub fn consistency(old: u64, new: u64) -> Option<Vec<Span>> {
    if old == 0 || old > new {
        return None;
    }
    let (mut span, mut is_old_root, mut path) = (Span { from: 0, to: new }, true, Vec::new());
    while old != span.to {
        let (left, right) = span.split();
        if old <= left.to {
            path.push(right);
            span = left;
        } else {
            path.push(left);
            span = right;
            is_old_root = false;
        }
    }
    if !is_old_root {
        path.push(span);
    }
    path.reverse();
    Some(path)
}

/// How many hashes the tiles of `level` have in a tree of `size` leaves.
pub fn hashes_at(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * TILE_LEVELS).unwrap_or(0)
}

/// The path of a tile: `tile/0/x001/067.p/8`. One of fewer than 256 hashes is partial.
pub fn tile_path(level: u8, number: u64, width: u64) -> String {
    format!("tile/{level}/{}", numbered(number, width))
}

/// The path of a bundle of entries: `tile/entries/x001/067`.
pub fn entries_path(number: u64, width: u64) -> String {
    format!("tile/entries/{}", numbered(number, width))
}

/// In groups of three digits, all but the last marked.
fn numbered(number: u64, width: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width < TILE_WIDTH {
        path += &format!(".p/{width}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(spans: &[(u64, u64)]) -> Option<Vec<Span>> {
        Some(spans.iter().map(|&(from, to)| Span { from, to }).collect())
    }

    /// RFC 9162, section 2.1.5: the tree of seven leaves.
    #[test]
    fn proofs_are_those_of_the_rfc() {
        assert_eq!(inclusion(0, 7), spans(&[(1, 2), (2, 4), (4, 7)]));
        assert_eq!(inclusion(3, 7), spans(&[(2, 3), (0, 2), (4, 7)]));
        assert_eq!(inclusion(4, 7), spans(&[(5, 6), (6, 7), (0, 4)]));
        assert_eq!(inclusion(6, 7), spans(&[(4, 6), (0, 4)]));
        assert_eq!(consistency(3, 7), spans(&[(2, 3), (3, 4), (0, 2), (4, 7)]));
        assert_eq!(consistency(4, 7), spans(&[(4, 7)]));
        assert_eq!(consistency(6, 7), spans(&[(4, 6), (6, 7), (0, 4)]));
        assert_eq!((inclusion(0, 1), consistency(7, 7)), (spans(&[]), spans(&[])));
        assert_eq!([inclusion(7, 7), inclusion(0, 0), consistency(0, 7), consistency(8, 7)], [const { None }; 4]);
    }

    #[test]
    fn spans_are_whole_subtrees() {
        let nodes = |from, to| Span { from, to }.nodes().iter().map(|n| (n.level, n.index)).collect::<Vec<_>>();
        assert_eq!(nodes(0, 7), [(2, 0), (1, 2), (0, 6)]);
        assert_eq!(nodes(4, 7), [(1, 2), (0, 6)]);
        assert_eq!(nodes(8, 16), [(3, 1)]);
        assert_eq!(nodes(0, 0), []);
        assert_eq!(nodes(0, u64::MAX).len(), 64);
    }

    #[test]
    fn nodes_lie_in_tiles() {
        let place = |level, index| {
            let Place { level, number, first, count } = Node { level, index }.place();
            (level, number, first, count)
        };
        assert_eq!(place(0, 0), (0, 0, 0, 1));
        assert_eq!(place(0, 256), (0, 1, 0, 1));
        assert_eq!(place(7, 3), (0, 1, 128, 128));
        assert_eq!(place(8, 255), (1, 0, 255, 1));
        assert_eq!(place(9, 128), (1, 1, 0, 2));
        assert_eq!(place(63, 1), (7, 0, 128, 128));
    }

    /// C2SP tlog-tiles gives these.
    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(entries_path(0, 256), "tile/entries/000");
        assert_eq!(entries_path(273, 112), "tile/entries/273.p/112");
        assert_eq!(tile_path(2, 0, 1), "tile/2/000.p/1");
        assert_eq!((hashes_at(0, 70_000), hashes_at(1, 70_000), hashes_at(2, 70_000)), (70_000, 273, 1));
        assert_eq!(hashes_at(8, u64::MAX), 0);
    }
}
