//! Making packs: compress runs of chunks into frames, append frames, close with the table.

use bytes::Bytes;

use super::format::{self, Codec, FrameRow, PackInfo};
use crate::id::PackId;

/// A compressed frame that has no place in a pack yet.
#[derive(Debug)]
pub struct Frame {
    /// The bytes that go into the pack.
    pub stored: Vec<u8>,
    /// How they are stored.
    pub codec: Codec,
    /// Bytes after decoding.
    pub raw_len: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// BLAKE3 of `stored`.
    pub hash: [u8; 32],
}

/// Compresses frames, one after the other, with one reused context.
pub struct FrameEncoder {
    context: zstd::zstd_safe::CCtx<'static>,
}

impl FrameEncoder {
    /// An encoder with a zstd level, 1 to 19.
    pub fn new(level: i32) -> Self {
        use zstd::zstd_safe::{CCtx, CParameter};
        let mut context = CCtx::create();
        let set = |c: &mut CCtx<'static>, p| c.set_parameter(p).map(|_| ()).expect("a parameter zstd knows");
        set(&mut context, CParameter::CompressionLevel(level.clamp(1, 19)));
        set(&mut context, CParameter::ContentSizeFlag(true));
        set(&mut context, CParameter::ChecksumFlag(false));
        Self { context }
    }

    /// Compresses `raw`, or keeps it as it is where that would not save 2 %.
    pub fn encode(&mut self, raw: &[u8], chunks: u32) -> Frame {
        let raw_len = u32::try_from(raw.len()).expect("a frame is at most 8 MiB");
        let mut stored = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
        let packed = self.context.compress2(&mut stored, raw).is_ok();
        let codec = if packed && stored.len() + raw.len() / 50 < raw.len() {
            stored.shrink_to_fit();
            Codec::Zstd
        } else {
            stored.clear();
            stored.extend_from_slice(raw);
            Codec::Stored
        };
        let hash = *blake3::hash(&stored).as_bytes();
        Frame { stored, codec, raw_len, chunks, hash }
    }
}

/// A pack being written, in memory.
pub struct PackWriter {
    bytes: Vec<u8>,
    rows: Vec<FrameRow>,
}

impl PackWriter {
    /// An empty pack with room for `capacity_bytes`.
    pub fn new(capacity_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity_bytes);
        bytes.extend(format::header());
        Self { bytes, rows: Vec::new() }
    }

    /// Appends a frame and returns its index.
    pub fn push(&mut self, frame: &Frame) -> u16 {
        let index = u16::try_from(self.rows.len()).expect("a pack is closed before it has 65,535 frames");
        self.rows.push(FrameRow {
            offset: self.bytes.len() as u64,
            stored_len: u32::try_from(frame.stored.len()).expect("a frame is at most 8 MiB"),
            raw_len: frame.raw_len,
            codec: frame.codec,
            chunks: frame.chunks,
            hash: frame.hash,
        });
        self.bytes.extend_from_slice(&frame.stored);
        index
    }

    /// Number of frames so far.
    pub fn frames(&self) -> usize {
        self.rows.len()
    }

    /// Closes the pack. `salt` is random: it keeps a name that was deleted from ever coming back.
    pub fn finish(mut self, salt: &[u8; 16]) -> (PackInfo, Bytes) {
        let table_len = self.rows.len() * format::ROW_BYTES + format::FOOTER_BYTES;
        let pack_bytes = (self.bytes.len() + table_len) as u64;
        let mut table = Vec::with_capacity(table_len);
        for row in &self.rows {
            format::push_row(&mut table, row);
        }
        let frames = u32::try_from(self.rows.len()).expect("at most 65,535 frames");
        format::push_footer(&mut table, frames, pack_bytes, salt);
        let id = PackId::of(&table);
        self.bytes.extend_from_slice(&table);
        let table_bytes = u32::try_from(table_len).expect("at most 65,535 rows");
        (PackInfo { id, pack_bytes, table_bytes }, Bytes::from(self.bytes))
    }
}
