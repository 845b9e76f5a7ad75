//! Packs, segments and trees: hashes are made right first, as a hostile writer would.

use std::cell::RefCell;
use std::io::Cursor;

use snapkit::digest::TreeDigester;
use snapkit::entry::{
    ChunkList, ChunkRef, Entry, Kind, LocalPacks, OwnerNames, PackSet, check_path, decode_children,
    decode_entry_of_any_length, decode_leaf, decode_refs, encode_entry_of_any_length, encode_header,
};
use snapkit::id::{ChunkId, PackId};
use snapkit::pack::{FrameDecoder, MAX_RAW_BYTES, PackInfo, Table, open_whole};
use snapkit::segment::{self, Segment};
use snapkit::tree::{ChunkSource, TreeError, TreeReader};

const HEADER: usize = 16;
const ROW: usize = 72;
const FOOTER: usize = 48;
/// More chunks than that no input can lead to in any useful way.
const READS: usize = 2000;

/// A pack as it is, and with the lengths and hashes it should have; every frame is decoded.
pub(super) fn pack(bytes: &[u8]) {
    let Some(footer) = bytes.len().checked_sub(FOOTER) else { return };
    let frames = u32_at(bytes, footer) as usize;
    let table_bytes = (frames.saturating_mul(ROW)).saturating_add(FOOTER).min(bytes.len());
    let table_at = bytes.len() - table_bytes;
    read_pack(bytes, table_at);
    let mut fixed = bytes.to_vec();
    fixed[footer + 8..footer + 16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    let mut offset = HEADER;
    for row in (table_at..footer).step_by(ROW).take_while(|row| row + ROW <= footer) {
        let end = offset.saturating_add(u32_at(&fixed, row) as usize);
        let Some(stored) = fixed.get(offset..end.min(table_at)) else { break };
        let hash = blake3::hash(stored);
        fixed[row + 40..row + 72].copy_from_slice(hash.as_bytes());
        offset = end;
    }
    read_pack(&fixed, table_at);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn read_pack(bytes: &[u8], table_at: usize) {
    let id = PackId::of(&bytes[table_at..]);
    let info = PackInfo { id, pack_bytes: bytes.len() as u64, table_bytes: (bytes.len() - table_at) as u32 };
    let Ok(Table { rows }) = open_whole(&info, bytes) else { return };
    let mut offset = HEADER as u64;
    let (mut decoder, mut raw) = (FrameDecoder::default(), Vec::new());
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row.offset, offset, "frames lie one after the other");
        offset = row.range().end;
        assert!(offset <= table_at as u64, "frames lie before the table");
        let stored = &bytes[row.offset as usize..offset as usize];
        if decoder.decode(&id, index as u32, row, stored, &mut raw).is_ok() {
            assert_eq!(raw.len(), row.raw_len as usize);
        }
        assert!(raw.capacity() <= MAX_RAW_BYTES as usize, "no more room than the longest frame");
    }
    assert_eq!(offset, table_at as u64);
}

/// A segment in a file; whatever passes its checks is found row by row, and written again byte for byte.
pub(super) fn segment(bytes: &[u8]) {
    let Ok(opened) = Segment::open(super::in_memory(bytes)) else { return };
    assert!((opened.packs().len() as u64 + opened.rows()) * 48 < bytes.len() as u64);
    let rows: Vec<_> = opened.scan().collect();
    let _ = opened.find(&ChunkId([0x80; 32]));
    if opened.check_rows().is_err() {
        return;
    }
    let rows: Vec<_> = rows.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows.len() as u64, opened.rows());
    for row in &rows {
        assert_eq!(opened.find(&row.chunk).unwrap(), Some(row.place));
    }
    let mut written = Cursor::new(Vec::new());
    segment::write(opened.packs(), rows.len() as u64, rows.iter().copied().map(Ok), &mut written).unwrap();
    let again = Segment::open(super::in_memory(written.get_ref())).unwrap();
    again.check_rows().unwrap();
    assert!(again.scan().map(Result::unwrap).eq(rows), "written again it holds the same");
}

/// One chunk, read as everything that a tree chunk can be.
pub(super) fn entries(bytes: &[u8]) {
    let (mut packs, mut names, mut found) = (PackSet::default(), OwnerNames::default(), Vec::new());
    let whole = decode_leaf(bytes, &mut packs, &mut names, |entry| found.push(entry));
    found.iter().for_each(check_entry);
    if whole.is_ok() {
        written_again(&found, &packs, &names);
    }
    let mut packs = PackSet::default();
    if let Ok((level, children)) = decode_children(bytes, None, &mut packs) {
        assert!((1..=4).contains(&level) && !children.is_empty());
        assert!(children.iter().all(|child| check_path(&child.first).is_ok()));
        children.iter().for_each(|child| check_ref(&child.chunk, &packs));
    }
    let mut packs = PackSet::default();
    if let Ok(refs) = decode_refs(bytes, &mut packs) {
        refs.iter().for_each(|r| check_ref(r, &packs));
    }
    if let Ok(entry) = decode_entry_of_any_length(bytes) {
        check_entry(&entry);
        let mut out = Vec::new();
        encode_entry_of_any_length(&mut out, &mut |pack| pack, &entry);
        assert_eq!(decode_entry_of_any_length(&out), Ok(entry));
    }
}

/// What every entry that was accepted keeps.
fn check_entry(entry: &Entry) {
    assert!(check_path(&entry.path).is_ok());
    assert!(entry.mode <= 0o7777 && entry.mtime_ns < 1_000_000_000);
    assert!(entry.xattrs.is_sorted_by(|a, b| a.0 < b.0));
    if let Kind::File { size, chunks, holes, .. } = &entry.kind {
        let hollow: u128 = holes.iter().map(|hole| u128::from(hole.bytes)).sum();
        if let ChunkList::Inline(list) = chunks {
            let data: u128 = list.iter().map(|r| u128::from(r.bytes)).sum();
            assert_eq!(data + hollow, u128::from(*size), "chunks and holes make the size");
        }
        assert!(hollow <= u128::from(*size));
    }
    // Whatever passes has a digest.
    let mut digester = TreeDigester::default();
    digester.push(entry);
    digester.finish();
}

fn check_ref(r: &ChunkRef, packs: &PackSet) {
    let pack = packs.get(r.pack);
    assert!(u64::from(pack.table_bytes) < pack.pack_bytes);
    assert!(r.bytes > 0 && u64::from(r.offset) + u64::from(r.bytes) <= u64::from(MAX_RAW_BYTES));
}

/// Entries written into a leaf read back as they are.
fn written_again(entries: &[Entry], packs: &PackSet, names: &OwnerNames) {
    let (mut body, mut local) = (Vec::new(), LocalPacks::default());
    for entry in entries {
        encode_entry_of_any_length(&mut body, &mut |pack| local.number(pack), entry);
    }
    let mut leaf = Vec::new();
    encode_header(&mut leaf, &local, packs, names, 0);
    leaf.extend(body);
    // Its packs come in the order of their use then, and another leaf may have had fewer bytes for the same.
    let (mut packs_again, mut names_again, mut found) = (PackSet::default(), OwnerNames::default(), Vec::new());
    if decode_leaf(&leaf, &mut packs_again, &mut names_again, |entry| found.push(entry)).is_err() {
        assert!(leaf.len() > 64 << 10, "only length can be in the way");
        return;
    }
    assert_eq!((found.len(), &names_again), (entries.len(), names));
    for (one, other) in found.iter().zip(entries) {
        assert_eq!((&one.path, one.kind.code(), one.size()), (&other.path, other.kind.code(), other.size()));
    }
}

/// Chunks of a tree one after the other, each with its length in four bytes; a reference names one by its offset.
pub(super) fn tree(bytes: &[u8]) {
    let chunks = chunks_of(bytes);
    let Some(first) = chunks.first() else { return };
    let top = ChunkRef { chunk: ChunkId([0; 32]), bytes: first.len() as u32, pack: 0, frame: 0, offset: 0 };
    let mut source = Chunks { chunks: &chunks, reads: RefCell::new(0) };
    let mut counted = 0;
    // What the record states is not known here: the index says it itself.
    if let Ok((_, children)) = decode_children(first, None, &mut PackSet::default()) {
        counted = children.iter().fold(0, |sum: u64, child| sum.saturating_add(child.entries));
    }
    let (mut packs, mut names, mut paths) = (PackSet::default(), OwnerNames::default(), Vec::new());
    let mut reader = TreeReader::new(top, counted);
    let whole = loop {
        match reader.next_leaf(&mut source, &mut packs, &mut names, |entry| paths.push(entry.path)) {
            Ok(true) => {}
            Ok(false) => break true,
            Err(_) => break false,
        }
    };
    assert!(paths.is_sorted_by(|a, b| snapkit::entry::compare_paths(a, b).is_lt()), "paths ascend");
    if whole {
        assert_eq!(paths.len() as u64, counted);
        assert_eq!(paths.first().map(Vec::as_slice), Some(&b""[..]));
    }
    for path in paths.iter().take(3).map(Vec::as_slice).chain([&b"a/b"[..]]) {
        let (mut packs, mut names, mut found) = (PackSet::default(), OwnerNames::default(), Vec::new());
        *source.reads.borrow_mut() = 0;
        let read = TreeReader::find(top, path, &mut source, &mut packs, &mut names, |entry| found.push(entry.path));
        if whole && read.is_ok() {
            assert_eq!(found.iter().any(|at| at == path), paths.iter().any(|at| at == path), "found as listed");
        }
    }
}

/// The chunks in the input of the target `tree`.
fn chunks_of(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (chunk, rest) = rest.split_at((u32::from_le_bytes(*len) as usize).min(rest.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

struct Chunks<'a> {
    chunks: &'a [&'a [u8]],
    reads: RefCell<usize>,
}

impl ChunkSource for Chunks<'_> {
    type Error = TreeError;

    fn chunk(&mut self, r: &ChunkRef, _: &PackSet) -> Result<Vec<u8>, TreeError> {
        let mut reads = self.reads.borrow_mut();
        *reads += 1;
        match self.chunks.get(r.offset as usize) {
            Some(chunk) if *reads < READS => Ok(chunk.to_vec()),
            _ => Err(TreeError::Count { expected: 0, found: 0 }),
        }
    }
}
