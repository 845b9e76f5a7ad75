//! What stands beside the chain: the checkpoint line, tiles, and the cached edge of the log.

use manifests::digest::Digest;
use manifests::log::{Frontier, Tile};
use snapkit::chain::edge::{self, Edge};
use snapkit::chain::parse_checkpoint;

/// A checkpoint is one number and one digest, or nothing.
pub(super) fn checkpoint(bytes: &[u8]) {
    if let Some((seq, digest)) = parse_checkpoint(bytes) {
        assert!(bytes.starts_with(seq.to_string().trim_start_matches('0').as_bytes()) || bytes[0] == b'0');
        assert!(bytes.ends_with(format!(" {digest}\n").as_bytes()));
    }
}

/// A cached edge, brought forward and turned into tiles; and the same bytes as those of a tile.
pub(super) fn edge(bytes: &[u8]) {
    if let Some(hashes) = edge::hashes_of(bytes) {
        assert_eq!(edge::bytes_of(&hashes), bytes);
    }
    let Some((size, levels)) = Edge::parse(bytes) else { return };
    // The lengths of a log are those of records, whose numbers are below this.
    if size >= 1 << 53 {
        return;
    }
    let mut edge = Edge::unverified(size, levels.clone());
    assert_eq!(edge.to_bytes(), bytes, "written again it is the same");
    let peaks: Vec<Digest> = levels.iter().rev().flat_map(|level| peaks_of(level)).collect();
    let mut log = Frontier::from_parts(size, peaks).expect("one peak for each bit of the size");
    assert!(Edge::of(levels, &log).is_some(), "it is the edge of the log with its own peaks");
    for slot in 0..3_u64 {
        let data = Digest::sha256(&slot.to_le_bytes());
        log.push(&data);
        for (tile, hashes) in edge.push(&data) {
            assert_eq!(usize::from(tile.width), hashes.len());
        }
        let expected: Vec<Tile> = Tile::added(size + slot, size + slot + 1);
        for (tile, hashes) in edge.partials() {
            assert_eq!(usize::from(tile.width), hashes.len());
            assert!(!expected.iter().any(|other| other.path() == tile.path() && *other != tile));
        }
        assert!(edge.clone().verified(&log).is_some(), "it grows with the log");
    }
}

/// The peaks of one level: a run of hashes for each bit of its length, the longest first.
fn peaks_of(level: &[Digest]) -> Vec<Digest> {
    let mut rest = level;
    let mut peaks = Vec::new();
    while !rest.is_empty() {
        let (run, after) = rest.split_at(1 << rest.len().ilog2());
        peaks.extend(manifests::log::subtree_root(run));
        rest = after;
    }
    peaks
}
