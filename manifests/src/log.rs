//! The log: the RFC 6962 tree over all slots of a chain, kept as its right edge alone.
//!
//! A [`Frontier`] holds the roots of the perfect subtrees, largest first, one for each bit of the size.
//! It is all that a writer needs to add the next slot, and it gives the root. Tiles hold the same hashes
//! for readers that want proofs. Documented in `docs/format/record.md`. Layer: pure.
//! Source: RFC 6962, section 2.1; C2SP tlog-tiles.

use crate::digest::Digest;

/// Hashes in a full tile.
pub const TILE_WIDTH: u16 = 256;

/// SHA-256 of nothing: the leaf data of a void slot, and the root of the empty log.
pub const EMPTY: Digest = Digest([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// The hash of a leaf whose data is the digest of a record's payload, or [`EMPTY`] for a void slot.
pub fn leaf_hash(data: &Digest) -> Digest {
    Digest::sha256_of(&[&[0], data.as_bytes()])
}

/// The hash of two subtrees side by side.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::sha256_of(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The right edge of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// The frontier of `size` slots with these subtree roots, or nothing if their number does not fit.
    pub fn from_parts(size: u64, peaks: Vec<Digest>) -> Option<Frontier> {
        (size.count_ones() as usize == peaks.len()).then_some(Frontier { size, peaks })
    }

    /// The number of slots.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Adds a slot by its leaf data.
    pub fn push(&mut self, data: &Digest) {
        let mut hash = leaf_hash(data);
        // Each trailing one bit of the size is a subtree that the new leaf completes to twice its width.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("there is one peak for each bit of the size");
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree over all slots.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return EMPTY;
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The root of a perfect subtree: what a full tile becomes in the tile above it.
///
/// Nothing if the number of hashes is not a power of two.
pub fn subtree_root(hashes: &[Digest]) -> Option<Digest> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    level.pop()
}

/// One tile: `width` hashes that start at hash `index * 256` of tile level `level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// The tile level; a hash on level n covers 256^n slots.
    pub level: u8,
    /// The number of the tile on its level.
    pub index: u64,
    /// How many hashes it has: 1 to 256, less than 256 for a partial tile.
    pub width: u16,
}

impl Tile {
    /// The store key: `tile/<level>/<index>`, and `.p/<width>` for a partial tile.
    pub fn path(&self) -> String {
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.insert(0, format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        let partial = if self.width < TILE_WIDTH { format!(".p/{}", self.width) } else { String::new() };
        format!("tile/{}/{}{partial}", self.level, groups.join("/"))
    }

    /// The tiles of a log of `size` slots that hold a hash which a log of `before` slots did not have.
    ///
    /// From level 0 upwards, each level by index; the last of a level may be partial.
    pub fn added(before: u64, size: u64) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let width = u64::from(TILE_WIDTH);
        let (mut old, mut new, mut level) = (before, size, 0);
        while new > old {
            for index in old / width..new.div_ceil(width) {
                let hashes = (new - index * width).min(width) as u16;
                tiles.push(Tile { level, index, width: hashes });
            }
            (old, new, level) = (old / width, new / width, level + 1);
        }
        tiles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962, section 2.1, word for word.
    fn naive_root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::sha256(b""),
            [leaf] => leaf_hash(leaf),
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|number| Digest::sha256(&number.to_le_bytes())).collect()
    }

    #[test]
    fn the_frontier_gives_the_root_of_rfc_6962_for_every_size() {
        let leaves = leaves(300);
        let mut frontier = Frontier::default();
        for size in 0..=300 {
            assert_eq!(frontier.size(), size as u64);
            assert_eq!(frontier.root(), naive_root(&leaves[..size]), "size {size}");
            let parts = Frontier::from_parts(frontier.size(), frontier.peaks().to_vec());
            assert_eq!(parts.as_ref(), Some(&frontier));
            if size < 300 {
                frontier.push(&leaves[size]);
            }
        }
    }

    /// The two constants that every RFC 6962 implementation shares.
    #[test]
    fn the_roots_of_the_empty_tree_and_of_one_empty_leaf_are_the_published_ones() {
        assert_eq!(EMPTY, Digest::sha256(b""));
        assert_eq!(Frontier::default().root(), EMPTY);
        assert_eq!(
            Digest::sha256_of(&[&[0], b""]).to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    #[test]
    fn a_frontier_has_one_peak_for_each_bit_of_its_size() {
        assert!(Frontier::from_parts(5, leaves(2)).is_some());
        assert!(Frontier::from_parts(5, leaves(1)).is_none());
        assert!(Frontier::from_parts(0, leaves(1)).is_none());
    }

    #[test]
    fn tile_names_are_those_of_tlog_tiles() {
        let path = |level, index, width| Tile { level, index, width }.path();
        assert_eq!(path(0, 0, 256), "tile/0/000");
        assert_eq!(path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(1, 1000, 7), "tile/1/x001/000.p/7");
    }

    #[test]
    fn growing_by_one_slot_adds_one_tile_and_the_parents_it_completes() {
        let tile = |level, index, width| Tile { level, index, width };
        assert_eq!(Tile::added(0, 1), [tile(0, 0, 1)]);
        assert_eq!(Tile::added(255, 256), [tile(0, 0, 256), tile(1, 0, 1)]);
        assert_eq!(Tile::added(256, 257), [tile(0, 1, 1)]);
        assert_eq!(Tile::added(250, 520), [tile(0, 0, 256), tile(0, 1, 256), tile(0, 2, 8), tile(1, 0, 2)]);
        assert_eq!(Tile::added(65_535, 65_536), [tile(0, 255, 256), tile(1, 0, 256), tile(2, 0, 1)]);
        assert_eq!(Tile::added(9, 9), []);
    }

    #[test]
    fn a_full_tile_becomes_its_subtree_root_above() {
        let leaves = leaves(256);
        let hashes: Vec<Digest> = leaves.iter().map(leaf_hash).collect();
        assert_eq!(subtree_root(&hashes), Some(naive_root(&leaves)));
        assert_eq!(subtree_root(&hashes[..3]), None);
        assert_eq!(subtree_root(&[]), None);
    }
}
