//! Byte layout of a pack: header, frame rows and footer, as in `docs/format/pack.md`.

use std::ops::Range;

use crate::id::PackId;

pub(super) const MAGIC: &[u8; 8] = b"SNAPPACK";
pub(super) const VERSION: u32 = 0;
pub(super) const HEADER_BYTES: u64 = 16;
pub(super) const ROW_BYTES: usize = 72;
pub(super) const FOOTER_BYTES: usize = 48;
pub(super) const MAX_FRAMES: usize = 65_535;

/// Longest decoded frame in bytes that a reader accepts.
pub const MAX_RAW_BYTES: u32 = 8 << 20;
/// Longest pack in bytes that a reader accepts.
pub const MAX_PACK_BYTES: u64 = 1 << 30;

/// A pack as references name it: enough to fetch its table with one ranged read and verify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackInfo {
    /// Name of the pack.
    pub id: PackId,
    /// Length of the pack in bytes.
    pub pack_bytes: u64,
    /// Length of its table and footer in bytes.
    pub table_bytes: u32,
}

impl PackInfo {
    /// Where the table and footer lie in the pack; empty when the lengths cannot be right.
    pub fn table_range(&self) -> Range<u64> {
        self.pack_bytes.saturating_sub(u64::from(self.table_bytes))..self.pack_bytes
    }
}

/// How the bytes of a frame are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Stored,
    /// One zstd frame that declares its content size.
    Zstd,
}

/// One row of the table: a frame, where it lies and what it hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRow {
    /// First byte of the frame in the pack.
    pub offset: u64,
    /// Bytes in the pack.
    pub stored_len: u32,
    /// Bytes after decoding.
    pub raw_len: u32,
    /// How it is stored.
    pub codec: Codec,
    /// Number of chunks in it.
    pub chunks: u32,
    /// BLAKE3 of the stored bytes.
    pub hash: [u8; 32],
}

impl FrameRow {
    /// Where the frame lies in the pack.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.stored_len)
    }
}

/// The verified table of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The frames, in order.
    pub rows: Vec<FrameRow>,
}

pub(super) fn header() -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header
}

pub(super) fn push_row(table: &mut Vec<u8>, row: &FrameRow) {
    table.extend(row.stored_len.to_le_bytes());
    table.extend(row.raw_len.to_le_bytes());
    table.push(match row.codec {
        Codec::Stored => 0,
        Codec::Zstd => 1,
    });
    table.extend([0; 3]); // cipher, zero
    table.extend(row.chunks.to_le_bytes());
    table.extend([0; 24]); // nonce
    table.extend(row.hash);
}

pub(super) fn push_footer(table: &mut Vec<u8>, frames: u32, pack_bytes: u64, salt: &[u8; 16]) {
    table.extend(frames.to_le_bytes());
    table.extend(VERSION.to_le_bytes());
    table.extend(pack_bytes.to_le_bytes());
    table.extend(salt);
    table.extend([0; 8]);
    table.extend(MAGIC);
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
