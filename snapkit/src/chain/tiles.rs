//! Tiles: writing those that a commit adds, and making them again when they are gone.
//!
//! Tiles are derived: whatever is read of them is compared with a signed log before it is used, and what is wrong is
//! written again. Documented in `docs/format/record.md`, "Log". Layer: part of `chain`.

use std::path::PathBuf;

use bytes::Bytes;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::log::{EMPTY, TILE_WIDTH, Tile, subtree_root};
use manifests::refusal::{Class, Refusal};

use super::edge::{self, Edge, Filled, WIDTH};
use super::{Chain, ChainError, slots};
use crate::store::StoreError;
use crate::trust::file;

/// The most slots a writer reads to make lost tiles again.
const REBUILD_SLOTS: u64 = 4096;
/// The largest cached edge in bytes: eight full levels.
const EDGE_CAP: usize = 8 + 8 * 256 * 32;

/// What is needed to extend the tiles of a log.
struct Start {
    edge: Edge,
    /// Tiles that are missing in the store or wrong there.
    lost: Vec<Filled>,
    /// The log's size up to which all other tiles are in the store.
    written: u64,
}

impl Chain<'_> {
    /// Writes the tiles that the slots `added` after `base` bring, and those found missing on the way; gives their number.
    ///
    /// # Errors
    /// Tiles are left as they are then; the next writer makes up for it.
    pub(super) fn write_tiles(&self, base: &Head, added: impl Iterator<Item = Digest>) -> Result<usize, ChainError> {
        let Start { mut edge, lost, written } = self.edge_of(base)?;
        let mut tiles = lost;
        for data in added {
            tiles.extend(edge.push(&data));
        }
        let wanted = Tile::added(written, edge.size());
        let partials = edge.partials();
        tiles.extend(partials.into_iter().filter(|(tile, _)| wanted.contains(tile)));
        for (tile, hashes) in &tiles {
            self.store.put(&tile.path(), edge::bytes_of(hashes).into())?;
        }
        // Only after all tiles are in the store: a run that stopped before has the older edge, and writes them.
        let _ = file::write(&self.edge_cache(), &edge.to_bytes());
        Ok(tiles.len())
    }

    fn edge_cache(&self) -> PathBuf {
        self.trust.cache_of(&self.pin.root).join("edge")
    }

    /// The edge of the log with `head`: from the cache, else from partial tiles, else from the slots.
    fn edge_of(&self, head: &Head) -> Result<Start, ChainError> {
        if let Some(start) = self.cached_edge(head)? {
            return Ok(start);
        }
        let mut read = 0;
        for stored in [true, false] {
            let mut lost = Vec::new();
            let mut levels = vec![Vec::new(); edge::widths(head.log.size()).len()];
            for tile in edge::partial_tiles(head.log.size()) {
                levels[usize::from(tile.level)] = self.tile(tile, stored, &mut lost, &mut read)?;
            }
            if let Some(edge) = Edge::of(levels, &head.log) {
                return Ok(Start { edge, lost, written: head.log.size() });
            }
        }
        let expected = format!("the log root {} from slots 0 to {}", head.log.root(), head.seq);
        Err(Refusal::new(Class::Inconsistent, "the slots of the chain", expected, "another").into())
    }

    /// The cached edge, brought forward over the slots that came since.
    fn cached_edge(&self, head: &Head) -> Result<Option<Start>, ChainError> {
        let cached = file::read(&self.edge_cache(), EDGE_CAP).ok().flatten();
        let Some((written, levels)) = cached.and_then(|bytes| Edge::parse(&bytes)) else {
            return Ok(None);
        };
        let size = head.log.size();
        if written > size || size - written > WIDTH {
            return Ok(None);
        }
        let mut edge = Edge::unverified(written, levels);
        let mut lost = Vec::new();
        if written < size {
            for data in self.leaves(written, size - 1)? {
                lost.extend(edge.push(&data));
            }
        }
        Ok(edge.verified(&head.log).map(|edge| Start { edge, lost, written }))
    }

    /// The hashes of a tile: as stored, or made from what is below, in which case it is added to `lost`.
    fn tile(
        &self,
        tile: Tile,
        stored: bool,
        lost: &mut Vec<Filled>,
        read: &mut u64,
    ) -> Result<Vec<Digest>, ChainError> {
        if stored && let Some(hashes) = self.stored_tile(tile)? {
            return Ok(hashes);
        }
        let first = tile.index * WIDTH;
        let end = first + u64::from(tile.width);
        let hashes = if tile.level == 0 {
            *read += end - first;
            if *read > REBUILD_SLOTS {
                let expected = format!("tiles to be missing for at most {REBUILD_SLOTS} slots");
                return Err(Refusal::new(Class::TooMany, tile.path(), expected, "more")
                    .with_hint("run `snapkit verify`, which makes all tiles again")
                    .into());
            }
            self.leaves(first, end - 1)?.iter().map(manifests::log::leaf_hash).collect()
        } else {
            let below = |index| Tile { level: tile.level - 1, index, width: TILE_WIDTH };
            let mut hashes = Vec::new();
            for index in first..end {
                let full = self.tile(below(index), stored, lost, read)?;
                hashes.push(subtree_root(&full).expect("a full tile has 256 hashes"));
            }
            hashes
        };
        lost.push((tile, hashes.clone()));
        Ok(hashes)
    }

    /// The hashes of a tile as the store has them, if there are as many as there should be.
    pub(super) fn stored_tile(&self, tile: Tile) -> Result<Option<Vec<Digest>>, ChainError> {
        match self.store.get(&tile.path(), u64::from(tile.width) * 32) {
            Ok(bytes) => Ok(edge::hashes_of(&bytes).filter(|hashes| hashes.len() == usize::from(tile.width))),
            Err(StoreError::Missing { .. } | StoreError::TooBig { .. } | StoreError::Short { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The leaf data of the slots from `first` to `last`.
    fn leaves(&self, first: u64, last: u64) -> Result<Vec<Digest>, ChainError> {
        let mut leaves = Vec::new();
        let mut from = first;
        while from <= last {
            let to = self.batch_end(from, last);
            for (seq, bytes) in self.read_slots(from, to)? {
                leaves.push(self.leaf(seq, bytes)?);
            }
            from = to + 1;
        }
        Ok(leaves)
    }

    fn leaf(&self, seq: u64, bytes: Option<Bytes>) -> Result<Digest, ChainError> {
        let Some(bytes) = bytes else {
            return Err(Refusal::new(Class::Missing, slots::key(seq), "a slot", "no such object").into());
        };
        if chain::is_void(&bytes, &self.id, seq, &self.root)?.is_some() {
            return Ok(EMPTY);
        }
        Ok(chain::trusted(&bytes, &self.id, seq, &self.root)?.0.digest)
    }
}
