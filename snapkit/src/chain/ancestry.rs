//! Ancestry: whether a log holds a record, shown by a handful of tiles.
//!
//! Tiles are hashed up to a peak of a signed log, so a wrong tile proves nothing and harms nothing: the caller then walks.
//! Source: RFC 6962, section 2.1.1, with whole tiles in the place of single hashes. Layer: part of `chain`.

use std::thread;

use manifests::digest::Digest;
use manifests::log::{Frontier, TILE_WIDTH, Tile, leaf_hash, subtree_root};

use super::Chain;
use super::edge::WIDTH;

impl Chain<'_> {
    /// Whether tiles prove that slot `seq` of `log` holds the record `digest`. At most one request for each tile level,
    /// all at the same time.
    pub(super) fn proves(&self, log: &Frontier, seq: u64, digest: &Digest) -> bool {
        self.leaf_in(log, seq) == Some(leaf_hash(digest))
    }

    /// The hash of leaf `seq`, from tiles that lead up to a peak.
    fn leaf_in(&self, log: &Frontier, seq: u64) -> Option<Digest> {
        let (peak, bit, start) = peak_over(log, seq)?;
        let top = bit / 8;
        // A peak is the root of 1 to 128 neighbouring hashes of one tile.
        let count = 1usize << (bit % 8);
        let first = start >> (8 * top);
        let mut wanted = Vec::new();
        if count > 1 {
            let hashes_there = log.size() >> (8 * top);
            let width = (hashes_there - first / WIDTH * WIDTH).min(WIDTH) as u16;
            wanted.push(Tile { level: top as u8, index: first / WIDTH, width });
        }
        wanted.extend((0..top).rev().map(|level| {
            let index = seq >> (8 * (level + 1));
            Tile { level: level as u8, index, width: TILE_WIDTH }
        }));
        let mut tiles = self.stored_tiles(&wanted).into_iter();
        let mut hash = peak;
        if count > 1 {
            let tile = tiles.next()??;
            let run = tile.get((first % WIDTH) as usize..)?.get(..count)?;
            if subtree_root(run)? != peak {
                return None;
            }
            hash = run[((seq >> (8 * top)) - first) as usize];
        }
        for (level, tile) in (0..top).rev().zip(tiles) {
            let tile = tile?;
            if subtree_root(&tile)? != hash {
                return None;
            }
            hash = tile[((seq >> (8 * level)) % WIDTH) as usize];
        }
        Some(hash)
    }

    /// The hashes of each tile as the store has it, fetched side by side; nothing for one that cannot be had.
    fn stored_tiles(&self, wanted: &[Tile]) -> Vec<Option<Vec<Digest>>> {
        thread::scope(|scope| {
            let fetchers: Vec<_> =
                wanted.iter().map(|tile| scope.spawn(|| self.stored_tile(*tile).ok().flatten())).collect();
            fetchers.into_iter().map(|fetcher| fetcher.join().expect("reading a tile does not panic")).collect()
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::edge::{Edge, bytes_of};
    use crate::chain::fixture::{World, memory};
    use crate::store::Store;
    use crate::store::counting::CountingStore;

    fn leaf(seq: u64) -> Digest {
        Digest::sha256(&seq.to_le_bytes())
    }

    /// From a hundred to a million records, a proof takes one to three small objects, asked for at the same time.
    #[test]
    fn a_proof_takes_about_as_many_reads_whatever_the_length_of_the_chain() {
        let world = World::new();
        let tiles = memory();
        let (mut edge, mut log) = (Edge::default(), Frontier::default());
        let mut reads = Vec::new();
        for size in [100u64, 10_000, 1_000_000] {
            for seq in log.size()..size {
                log.push(&leaf(seq));
                for (tile, hashes) in edge.push(&leaf(seq)) {
                    tiles.put(&tile.path(), bytes_of(&hashes).into()).unwrap();
                }
            }
            for (tile, hashes) in edge.partials() {
                tiles.put(&tile.path(), bytes_of(&hashes).into()).unwrap();
            }
            let counting = CountingStore::new(&tiles);
            let chain = Chain { store: &counting, ..world.open_on(&world.store) };
            let asked = [0, 1, size / 3, size / 2, size - 97, size - 1];
            let mut most = 0;
            for seq in asked {
                let before = counting.counts();
                assert!(chain.proves(&log, seq, &leaf(seq)), "record {seq} of {size}");
                most = most.max(counting.counts().requests() - before.requests());
                assert!(!chain.proves(&log, seq, &leaf(seq + 1)), "another record in slot {seq} of {size}");
            }
            reads.push(most);
        }
        assert_eq!(reads, [1, 2, 3]);
        // A bit anywhere in a tile proves nothing.
        let chain = Chain { store: &tiles, ..world.open_on(&world.store) };
        for path in ["tile/0/000", "tile/1/000", "tile/2/000.p/15"] {
            let good = tiles.get(path, 1 << 20).unwrap();
            let mut bad = good.to_vec();
            bad[40] ^= 1;
            tiles.put(path, bad.into()).unwrap();
            assert!(!chain.proves(&log, 3, &leaf(3)), "{path}");
            for cut in [0, 31, good.len() - 32] {
                tiles.put(path, good.slice(..cut)).unwrap();
                assert!(!chain.proves(&log, 3, &leaf(3)), "{path} of {cut} bytes");
            }
            tiles.put(path, good).unwrap();
        }
        assert!(chain.proves(&log, 3, &leaf(3)));
    }
}
