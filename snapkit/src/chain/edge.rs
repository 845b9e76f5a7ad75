//! The right edge of the tile tree: the hashes of every level's last, partial tile.
//!
//! With it a writer makes the next tiles without reading any. It is believed only when it gives the peaks of a signed
//! log. Documented in `docs/format/record.md`, "Log". Layer: pure.

use manifests::digest::Digest;
use manifests::log::{Frontier, TILE_WIDTH, Tile, leaf_hash, subtree_root};

/// Hashes of a full tile.
pub const WIDTH: u64 = TILE_WIDTH as u64;

/// A tile with its hashes.
pub type Filled = (Tile, Vec<Digest>);

/// The hashes to the right of all full tiles, for a log of some size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// By level; level n has `size / 256^n % 256` hashes.
    levels: Vec<Vec<Digest>>,
}

impl Edge {
    /// An edge of these levels, if it is the one of `log`.
    pub fn of(levels: Vec<Vec<Digest>>, log: &Frontier) -> Option<Self> {
        let widths = widths(log.size());
        let fits = levels.len() == widths.len()
            && levels.iter().zip(&widths).all(|(level, width)| level.len() as u64 == *width);
        if !fits {
            return None;
        }
        let mut peaks = Vec::new();
        for level in levels.iter().rev() {
            let mut rest = level.as_slice();
            while !rest.is_empty() {
                let (run, after) = rest.split_at(1 << rest.len().ilog2());
                peaks.extend(subtree_root(run));
                rest = after;
            }
        }
        (peaks == log.peaks()).then_some(Self { size: log.size(), levels })
    }

    /// The number of slots.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a slot by its leaf data and returns the tiles that it fills.
    pub fn push(&mut self, data: &Digest) -> Vec<Filled> {
        let mut filled = Vec::new();
        let mut hash = leaf_hash(data);
        self.size += 1;
        for level in 0..u8::MAX {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            self.levels[at].push(hash);
            if self.levels[at].len() as u64 != WIDTH {
                break;
            }
            let hashes = std::mem::take(&mut self.levels[at]);
            hash = subtree_root(&hashes).expect("a full tile has 256 hashes");
            let index = (self.size >> (8 * u32::from(level + 1))) - 1;
            filled.push((Tile { level, index, width: TILE_WIDTH }, hashes));
        }
        filled
    }

    /// Every partial tile.
    pub fn partials(&self) -> Vec<Filled> {
        let tiles = partial_tiles(self.size);
        let hashes = self.levels.iter().filter(|level| !level.is_empty());
        tiles.into_iter().zip(hashes.cloned()).collect()
    }

    /// The form in a cache file: the size as eight bytes, little-endian, then all hashes by level.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_le_bytes().to_vec();
        self.levels.iter().flatten().for_each(|hash| bytes.extend(hash.as_bytes()));
        bytes
    }

    /// Size and levels from a cache file, in which nothing is verified yet.
    pub fn parse(bytes: &[u8]) -> Option<(u64, Vec<Vec<Digest>>)> {
        let (size, hashes) = bytes.split_first_chunk::<8>()?;
        let size = u64::from_le_bytes(*size);
        let mut hashes = hashes_of(hashes)?.into_iter();
        let levels: Vec<Vec<Digest>> =
            widths(size).into_iter().map(|width| hashes.by_ref().take(width as usize).collect()).collect();
        let whole = levels.iter().zip(widths(size)).all(|(level, width)| level.len() as u64 == width);
        (whole && hashes.next().is_none()).then_some((size, levels))
    }

    /// Takes levels that a cache file claims, to be checked with [`Edge::of`] after slots were added.
    pub fn unverified(size: u64, levels: Vec<Vec<Digest>>) -> Self {
        Self { size, levels }
    }

    /// Whether this is the edge of `log`.
    pub fn verified(self, log: &Frontier) -> Option<Self> {
        let size = self.size;
        Self::of(self.levels, log).filter(|_| size == log.size())
    }
}

/// The number of hashes in the partial tile of each level, for a log of this size.
pub fn widths(size: u64) -> Vec<u64> {
    let mut widths = Vec::new();
    let mut rest = size;
    while rest > 0 {
        widths.push(rest % WIDTH);
        rest /= WIDTH;
    }
    widths
}

/// The partial tiles of a log of this size.
pub fn partial_tiles(size: u64) -> Vec<Tile> {
    let tile = |(level, width): (usize, u64)| Tile {
        level: level as u8,
        index: size >> (8 * (level as u32 + 1)).min(63),
        width: width as u16,
    };
    widths(size).into_iter().enumerate().filter(|(_, width)| *width > 0).map(tile).collect()
}

/// The hashes in the bytes of a tile, or nothing if they do not come out even.
pub fn hashes_of(bytes: &[u8]) -> Option<Vec<Digest>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Digest(*hash)).collect())
}

/// The bytes of a tile.
pub fn bytes_of(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_has_the_peaks_of_the_log_at_every_size_and_none_when_changed() {
        let (mut edge, mut log) = (Edge::default(), Frontier::default());
        let mut tiles = Vec::new();
        for slot in 0..66_000u64 {
            let data = Digest::sha256(&slot.to_le_bytes());
            log.push(&data);
            let filled = edge.push(&data);
            let sizes: Vec<Tile> = Tile::added(slot, slot + 1);
            let mut made: Vec<Tile> = filled.iter().map(|(tile, _)| *tile).collect();
            made.extend(
                sizes
                    .iter()
                    .filter(|tile| tile.width < TILE_WIDTH && edge.partials().iter().any(|(at, _)| at == *tile)),
            );
            if slot % 251 == 0 || slot > 65_530 {
                assert_eq!(made, sizes, "slot {slot}");
                let (size, levels) = Edge::parse(&edge.to_bytes()).unwrap();
                assert_eq!(size, slot + 1);
                assert_eq!(Edge::of(levels.clone(), &log).as_ref(), Some(&edge));
                let mut changed = levels;
                let level = changed.iter_mut().find(|level| !level.is_empty()).unwrap();
                level[0].0[0] ^= 1;
                assert_eq!(Edge::of(changed, &log), None);
            }
            tiles.extend(filled);
        }
        assert_eq!(tiles.iter().filter(|(tile, _)| tile.level == 1).count(), 1);
    }

    #[test]
    fn bytes_that_are_no_edge_are_none() {
        for bytes in [&[][..], &[1; 7], &[1, 0, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(Edge::parse(bytes), None);
        }
        assert_eq!(Edge::parse(&[0; 8]), Some((0, Vec::new())));
    }
}
