//! References that stand alone: a chunk with the pack it lies in, as records write them.
//!
//! Documented in `docs/format/record.md`. Layer: formats; joins the engine's types with those of signed documents.

use manifests::digest::Digest;
use manifests::document::snapshot as document;

use crate::entry::{ChunkRef, PackSet};
use crate::id::{ChunkId, PackId};
use crate::pack::PackInfo;

/// A chunk and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Name of the chunk.
    pub chunk: ChunkId,
    /// Its length in bytes.
    pub bytes: u32,
    /// The pack it lies in.
    pub pack: PackInfo,
    /// Index of the frame in the pack.
    pub frame: u16,
    /// First byte of the chunk in the decoded frame.
    pub offset: u32,
}

impl Located {
    /// Puts the pack of a reference beside it.
    pub fn new(r: &ChunkRef, packs: &PackSet) -> Self {
        Self { chunk: r.chunk, bytes: r.bytes, pack: packs.get(r.pack), frame: r.frame, offset: r.offset }
    }

    /// The reference with its pack taken into `packs`.
    pub fn within(&self, packs: &mut PackSet) -> ChunkRef {
        let pack = packs.index(self.pack);
        ChunkRef { chunk: self.chunk, bytes: self.bytes, pack, frame: self.frame, offset: self.offset }
    }

    /// As a record writes it.
    pub fn to_document(&self) -> document::ChunkRef {
        document::ChunkRef {
            chunk: Digest(self.chunk.0),
            bytes: self.bytes.into(),
            pack: Digest(self.pack.id.0),
            pack_bytes: self.pack.pack_bytes,
            table_bytes: self.pack.table_bytes.into(),
            frame: self.frame.into(),
            offset: self.offset.into(),
        }
    }

    /// From a verified record; `None` when a number is out of the range of its format.
    pub fn from_document(r: &document::ChunkRef) -> Option<Self> {
        let pack = pack_from(&r.pack, r.pack_bytes, r.table_bytes)?;
        let (bytes, offset) = (u32::try_from(r.bytes).ok()?, u32::try_from(r.offset).ok()?);
        Some(Self { chunk: ChunkId(r.chunk.0), bytes, pack, frame: u16::try_from(r.frame).ok()?, offset })
    }
}

fn pack_from(id: &Digest, pack_bytes: u64, table_bytes: u64) -> Option<PackInfo> {
    let table_bytes = u32::try_from(table_bytes).ok()?;
    let fits = u64::from(table_bytes) < pack_bytes && pack_bytes <= crate::pack::MAX_PACK_BYTES;
    fits.then_some(PackInfo { id: PackId(id.0), pack_bytes, table_bytes })
}

/// A pack as a record writes it.
pub fn pack_to_document(pack: &PackInfo) -> document::PackRef {
    document::PackRef { id: Digest(pack.id.0), bytes: pack.pack_bytes, table_bytes: pack.table_bytes.into() }
}

/// A pack from a verified record; `None` when a number is out of the range of its format.
pub fn pack_from_document(pack: &document::PackRef) -> Option<PackInfo> {
    pack_from(&pack.id, pack.bytes, pack.table_bytes)
}
