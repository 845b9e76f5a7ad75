//! Encoding entries, tree chunks and chunk lists. Encoding to memory cannot fail.

use std::collections::HashMap;

use minicbor::Encoder;

use super::codec::{Child, CodecError};
use super::{ChunkList, ChunkRef, Entry, Kind, MAX_ENTRY_BYTES, OwnerNames, PackSet, path};
use crate::id::ContentHash;

/// Packs of one tree chunk, numbered in the order of first use.
#[derive(Debug, Default)]
pub struct LocalPacks {
    order: Vec<u32>,
    numbers: HashMap<u32, u32>,
}

impl LocalPacks {
    /// Number of the pack with this index in the [`PackSet`].
    pub fn number(&mut self, index: u32) -> u32 {
        let next = self.order.len() as u32;
        *self.numbers.entry(index).or_insert_with(|| {
            self.order.push(index);
            next
        })
    }

    /// Number of packs.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True when no reference was encoded.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

type Cbor<'a> = Encoder<&'a mut Vec<u8>>;

/// Encodes a header. Encoding to memory cannot fail.
pub fn encode_header(out: &mut Vec<u8>, local: &LocalPacks, packs: &PackSet, names: &OwnerNames, level: u32) {
    let mut e = Encoder::new(out);
    let fields = 1 + u64::from(!names.users.is_empty()) + u64::from(!names.groups.is_empty()) + u64::from(level > 0);
    header_fields(&mut e, local, packs, names, level, fields).expect("memory takes every byte");
}

/// How references number packs: the index in a [`PackSet`] to the number written.
pub type Number<'a> = &'a mut dyn FnMut(u32) -> u32;

type EncodeResult = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn header_fields(
    e: &mut Cbor<'_>,
    local: &LocalPacks,
    packs: &PackSet,
    names: &OwnerNames,
    level: u32,
    fields: u64,
) -> EncodeResult {
    e.map(fields)?.u8(0)?.array(local.order.len() as u64)?;
    for index in &local.order {
        let pack = packs.get(*index);
        e.array(3)?.bytes(&pack.id.0)?.u64(pack.pack_bytes)?.u32(pack.table_bytes)?;
    }
    for (key, table) in [(1, &names.users), (2, &names.groups)] {
        if !table.is_empty() {
            e.u8(key)?.array(table.len() as u64)?;
            for (id, name) in table {
                e.array(2)?.u32(*id)?.bytes(name)?;
            }
        }
    }
    if level > 0 {
        e.u8(3)?.u32(level)?;
    }
    Ok(())
}

fn push_ref(e: &mut Cbor<'_>, number: Number<'_>, r: &ChunkRef, content: Option<&ContentHash>) -> EncodeResult {
    e.array(5)?;
    if content.is_some_and(|content| content.0 == r.chunk.0) {
        e.null()?;
    } else {
        e.bytes(&r.chunk.0)?;
    }
    e.u32(r.bytes)?.u32(number(r.pack))?.u16(r.frame)?.u32(r.offset)?;
    Ok(())
}

/// Appends one reference of a stored chunk list.
pub fn encode_ref(out: &mut Vec<u8>, number: Number<'_>, r: &ChunkRef) {
    push_ref(&mut Encoder::new(out), number, r, None).expect("memory takes every byte");
}

/// Appends one child of an index chunk.
pub fn encode_child(out: &mut Vec<u8>, number: Number<'_>, child: &Child) {
    let mut e = Encoder::new(out);
    let mut push = |number: Number<'_>| -> EncodeResult {
        e.array(3)?.bytes(&child.first)?;
        push_ref(&mut e, number, &child.chunk, None)?;
        e.u64(child.entries)?;
        Ok(())
    };
    push(number).expect("memory takes every byte");
}

/// Appends one entry.
///
/// # Errors
/// [`CodecError::Lengths`] when it is longer than the format allows; `out` is as before then.
pub fn encode_entry(out: &mut Vec<u8>, number: Number<'_>, entry: &Entry) -> Result<(), CodecError> {
    let start = out.len();
    encode_entry_of_any_length(out, number, entry);
    if out.len() - start > MAX_ENTRY_BYTES {
        let why = format!("its entry has {} bytes, at most {MAX_ENTRY_BYTES} can be stored", out.len() - start);
        out.truncate(start);
        return Err(CodecError::Lengths { path: path::printable(&entry.path), why });
    }
    Ok(())
}

/// Appends one entry for this run's own use, where no limit holds.
pub fn encode_entry_of_any_length(out: &mut Vec<u8>, number: Number<'_>, entry: &Entry) {
    push_entry(&mut Encoder::new(out), number, entry).expect("memory takes every byte");
}

fn push_entry(e: &mut Cbor<'_>, number: Number<'_>, entry: &Entry) -> EncodeResult {
    let is_link = matches!(entry.kind, Kind::Symlink { .. });
    let mut fields = 5 + u64::from(!is_link) + u64::from(entry.mtime_ns > 0);
    fields += u64::from(!entry.xattrs.is_empty()) + u64::from(entry.group.is_some()) + u64::from(entry.torn);
    fields += match &entry.kind {
        Kind::File { size: 0, .. } | Kind::Directory | Kind::Fifo => 0,
        Kind::File { holes, chunks, .. } => {
            let has_list = !matches!(chunks, ChunkList::Inline(list) if list.is_empty());
            2 + u64::from(has_list) + u64::from(!holes.is_empty())
        }
        Kind::Symlink { .. } | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => 1,
    };
    e.map(fields)?.u8(0)?.bytes(&entry.path)?.u8(1)?.u8(entry.kind.code())?;
    if !is_link {
        e.u8(2)?.u32(entry.mode)?;
    }
    e.u8(3)?.u32(entry.uid)?.u8(4)?.u32(entry.gid)?.u8(5)?.i64(entry.mtime_s)?;
    if entry.mtime_ns > 0 {
        e.u8(6)?.u32(entry.mtime_ns)?;
    }
    match &entry.kind {
        Kind::File { size, content, chunks, holes } if *size > 0 => {
            e.u8(7)?.u64(*size)?.u8(8)?.bytes(&content.0)?;
            match chunks {
                ChunkList::Inline(list) if list.is_empty() => {}
                ChunkList::Inline(list) => {
                    e.u8(9)?.array(list.len() as u64)?;
                    list.iter().try_for_each(|r| push_ref(e, number, r, Some(content)))?;
                }
                ChunkList::Stored(list) => {
                    e.u8(10)?.array(list.len() as u64)?;
                    list.iter().try_for_each(|r| push_ref(e, number, r, None))?;
                }
            }
            if !holes.is_empty() {
                e.u8(11)?.array(holes.len() as u64)?;
                for hole in holes {
                    e.array(2)?.u64(hole.offset)?.u64(hole.bytes)?;
                }
            }
        }
        Kind::Symlink { target } => {
            e.u8(12)?.bytes(target)?;
        }
        Kind::CharDevice { rdev } | Kind::BlockDevice { rdev } => {
            e.u8(13)?.array(2)?.u32(rdev.0)?.u32(rdev.1)?;
        }
        Kind::File { .. } | Kind::Directory | Kind::Fifo => {}
    }
    if !entry.xattrs.is_empty() {
        e.u8(14)?.array(entry.xattrs.len() as u64)?;
        for (name, value) in &entry.xattrs {
            e.array(2)?.bytes(name)?.bytes(value)?;
        }
    }
    if let Some(group) = &entry.group {
        e.u8(15)?.bytes(group)?;
    }
    if entry.torn {
        e.u8(16)?.bool(true)?;
    }
    Ok(())
}
