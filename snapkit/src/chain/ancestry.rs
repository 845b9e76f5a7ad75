//! Ancestry: whether a log holds a record, shown by a handful of tiles.
//!
//! Tiles are hashed up to a peak of a signed log, so a wrong tile proves nothing and harms nothing: the caller then walks.
//! Source: RFC 6962, section 2.1.1, with whole tiles in the place of single hashes. Layer: part of `chain`.

use manifests::digest::Digest;
use manifests::log::{Frontier, TILE_WIDTH, Tile, leaf_hash, subtree_root};

use super::Chain;
use super::edge::WIDTH;

impl Chain<'_> {
    /// Whether tiles prove that slot `seq` of `log` holds the record `digest`. At most one request per tile level.
    pub(super) fn proves(&self, log: &Frontier, seq: u64, digest: &Digest) -> bool {
        self.leaf_in(log, seq) == Some(leaf_hash(digest))
    }

    /// The hash of leaf `seq`, from tiles that lead up to a peak.
    fn leaf_in(&self, log: &Frontier, seq: u64) -> Option<Digest> {
        let (peak, bit, start) = peak_over(log, seq)?;
        let top = bit / 8;
        // A peak is the root of 1 to 128 neighbouring hashes of one tile.
        let count = 1usize << (bit % 8);
        let mut hash = peak;
        if count > 1 {
            let (first, hashes_there) = (start >> (8 * top), log.size() >> (8 * top));
            let width = (hashes_there - first / WIDTH * WIDTH).min(WIDTH) as u16;
            let tile = self.stored_tile(Tile { level: top as u8, index: first / WIDTH, width }).ok()??;
            let run = tile.get((first % WIDTH) as usize..)?.get(..count)?;
            if subtree_root(run)? != peak {
                return None;
            }
            hash = run[((seq >> (8 * top)) - first) as usize];
        }
        for level in (0..top).rev() {
            let index = seq >> (8 * (level + 1));
            let tile = self.stored_tile(Tile { level: level as u8, index, width: TILE_WIDTH }).ok()??;
            if subtree_root(&tile)? != hash {
                return None;
            }
            hash = tile[((seq >> (8 * level)) % WIDTH) as usize];
        }
        Some(hash)
    }
}

/// The peak above leaf `seq`: its hash, the exponent of its width, and its first leaf.
fn peak_over(log: &Frontier, seq: u64) -> Option<(Digest, u32, u64)> {
    let mut start = 0;
    let bits = (0..u64::BITS).rev().filter(|bit| log.size() >> bit & 1 == 1);
    for (peak, bit) in log.peaks().iter().zip(bits) {
        let end = start + (1u64 << bit);
        if seq < end {
            return Some((*peak, bit, start));
        }
        start = end;
    }
    None
}
