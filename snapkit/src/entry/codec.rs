//! CBOR of leaves, index chunks and chunk lists, as in `docs/format/tree.md`.

use std::collections::HashMap;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::{
    ChunkList, ChunkRef, Entry, Extent, Kind, MAX_ENTRY_BYTES, MAX_INLINE, MAX_TREE_CHUNK_BYTES, OwnerNames, PackSet,
    Xattrs, path,
};
use crate::id::{ChunkId, ContentHash, PackId};
use crate::pack::PackInfo;

/// Why the bytes of a tree chunk are refused. The bytes hash to their name: they were written so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// Not the CBOR that the format asks for.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A path breaks the rules.
    #[error(transparent)]
    Path(#[from] path::PathError),
    /// Lengths of an entry do not add up.
    #[error("{path}: {why}")]
    Lengths {
        /// The entry, printable.
        path: String,
        /// What does not add up.
        why: String,
    },
    /// A key or type that this version does not know and must not ignore.
    #[error("written by a newer snapkit: {0}")]
    Newer(String),
}

impl From<minicbor::decode::Error> for CodecError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, CodecError> {
    Err(CodecError::Malformed(what.into()))
}

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

/// The first item of a leaf, index chunk or chunk list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Packs that references point to by position.
    pub packs: Vec<PackInfo>,
    /// Names of owners.
    pub names: OwnerNames,
    /// 0 in a leaf and a chunk list.
    pub level: u32,
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

/// One child of an index chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Path of the first entry below it.
    pub first: Vec<u8>,
    /// The leaf or index chunk.
    pub chunk: ChunkRef,
    /// Entries below it.
    pub entries: u64,
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

/// Decodes what [`encode_entry_of_any_length`] encoded with pack numbers as they are.
///
/// # Errors
/// [`CodecError`] when the bytes are not that.
pub fn decode_entry_of_any_length(bytes: &[u8]) -> Result<Entry, CodecError> {
    decode_entry(&mut Decoder::new(bytes), &Packs { number: &Some, most_chunks: u64::MAX })
}

/// What an entry is decoded with: the packs of its header, and how long its own list may be.
struct Packs<'a> {
    number: &'a dyn Fn(u32) -> Option<u32>,
    most_chunks: u64,
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

fn definite(n: Option<u64>) -> Result<u64, CodecError> {
    n.ok_or_else(|| CodecError::Malformed("an item of indefinite length".to_owned()))
}

fn array_of(d: &mut Decoder<'_>, len: u64) -> Result<(), CodecError> {
    match definite(d.array()?)? {
        n if n == len => Ok(()),
        n => malformed(format!("an array of {n} items where {len} are due")),
    }
}

fn fixed<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], CodecError> {
    let bytes = d.bytes()?;
    bytes.try_into().or_else(|_| malformed(format!("{} bytes where {N} are due", bytes.len())))
}

/// The next key of a map, strictly above the one before.
fn key(d: &mut Decoder<'_>, before: &mut Option<u64>) -> Result<u64, CodecError> {
    let key = d.u64()?;
    if before.is_some_and(|before| before >= key) {
        return malformed(format!("key {key} out of order"));
    }
    *before = Some(key);
    Ok(key)
}

fn decode_header(d: &mut Decoder<'_>) -> Result<Header, CodecError> {
    if d.input().len() > MAX_TREE_CHUNK_BYTES {
        return malformed(format!("a tree chunk of {} bytes", d.input().len()));
    }
    let mut header = Header::default();
    let mut has_packs = false;
    let mut before = None;
    for _ in 0..definite(d.map()?)? {
        match key(d, &mut before)? {
            0 => {
                has_packs = true;
                for _ in 0..definite(d.array()?)? {
                    array_of(d, 3)?;
                    let (id, pack_bytes, table_bytes) = (PackId(fixed(d)?), d.u64()?, d.u32()?);
                    if u64::from(table_bytes) >= pack_bytes || pack_bytes > crate::pack::MAX_PACK_BYTES {
                        return malformed(format!("pack {id} of {pack_bytes} bytes with a table of {table_bytes}"));
                    }
                    header.packs.push(PackInfo { id, pack_bytes, table_bytes });
                }
            }
            1 => header.names.users = decode_names(d)?,
            2 => header.names.groups = decode_names(d)?,
            3 => header.level = d.u32()?,
            64.. => d.skip()?,
            other => return Err(CodecError::Newer(format!("header key {other}"))),
        }
    }
    if !has_packs {
        return malformed("a header without packs");
    }
    Ok(header)
}

fn decode_names(d: &mut Decoder<'_>) -> Result<std::collections::BTreeMap<u32, Vec<u8>>, CodecError> {
    (0..definite(d.array()?)?)
        .map(|_| {
            array_of(d, 2)?;
            Ok((d.u32()?, d.bytes()?.to_vec()))
        })
        .collect()
}

fn decode_ref(d: &mut Decoder<'_>, packs: &Packs<'_>, content: Option<&ContentHash>) -> Result<ChunkRef, CodecError> {
    array_of(d, 5)?;
    let chunk = match (d.datatype()?, content) {
        (Type::Null, Some(content)) => {
            d.null()?;
            ChunkId(content.0)
        }
        _ => ChunkId(fixed(d)?),
    };
    let (bytes, pack, frame, offset) = (d.u32()?, d.u32()?, d.u16()?, d.u32()?);
    let Some(pack) = (packs.number)(pack) else {
        return malformed(format!("chunk {chunk} in pack number {pack}, which the header does not list"));
    };
    if bytes == 0 || u64::from(offset) + u64::from(bytes) > u64::from(crate::pack::MAX_RAW_BYTES) {
        return malformed(format!("chunk {chunk} of {bytes} bytes at offset {offset} of a frame"));
    }
    Ok(ChunkRef { chunk, bytes, pack, frame, offset })
}

/// A decoder of a leaf, index chunk or chunk list.
fn decoder(bytes: &[u8]) -> Result<Decoder<'_>, CodecError> {
    if bytes.len() > MAX_TREE_CHUNK_BYTES {
        return malformed(format!("a chunk of {} bytes, at most {MAX_TREE_CHUNK_BYTES} are due", bytes.len()));
    }
    Ok(Decoder::new(bytes))
}

/// Adds the packs of a header to `packs` and gives their indexes by position.
fn adopt(header: &Header, packs: &mut PackSet) -> Vec<u32> {
    header.packs.iter().map(|pack| packs.index(*pack)).collect()
}

/// Decodes a leaf; each entry goes to `visit`. Order across leaves is the caller's to check.
///
/// # Errors
/// [`CodecError`]; entries before the bad one were visited.
pub fn decode_leaf(
    bytes: &[u8],
    packs: &mut PackSet,
    names: &mut OwnerNames,
    mut visit: impl FnMut(Entry),
) -> Result<(), CodecError> {
    let mut d = decoder(bytes)?;
    let mut header = decode_header(&mut d)?;
    if header.level != 0 {
        return malformed(format!("an index of level {} where a leaf is due", header.level));
    }
    let map = adopt(&header, packs);
    let local = Packs { number: &|n| map.get(n as usize).copied(), most_chunks: MAX_INLINE as u64 };
    names.users.append(&mut header.names.users);
    names.groups.append(&mut header.names.groups);
    while d.position() < bytes.len() {
        let start = d.position();
        let entry = decode_entry(&mut d, &local)?;
        if d.position() - start > MAX_ENTRY_BYTES {
            return malformed(format!("an entry of {} bytes", d.position() - start));
        }
        visit(entry);
    }
    Ok(())
}

/// Decodes an index chunk of the given level.
///
/// # Errors
/// [`CodecError`].
pub fn decode_children(bytes: &[u8], level: Option<u32>, packs: &mut PackSet) -> Result<(u32, Vec<Child>), CodecError> {
    let mut d = decoder(bytes)?;
    let header = decode_header(&mut d)?;
    if header.level == 0 || header.level > 4 || level.is_some_and(|level| level != header.level) {
        return malformed(format!("an index of level {} where {level:?} is due", header.level));
    }
    let map = adopt(&header, packs);
    let local = Packs { number: &|n| map.get(n as usize).copied(), most_chunks: 0 };
    let mut children: Vec<Child> = Vec::new();
    while d.position() < bytes.len() {
        array_of(&mut d, 3)?;
        let first = d.bytes()?.to_vec();
        path::check(&first)?;
        if children.last().is_some_and(|last| path::compare(&last.first, &first).is_ge()) {
            return malformed(format!("index entries out of order at {}", path::printable(&first)));
        }
        let chunk = decode_ref(&mut d, &local, None)?;
        children.push(Child { first, chunk, entries: d.u64()? });
    }
    if children.is_empty() {
        return malformed("an index without children");
    }
    Ok((header.level, children))
}

/// Decodes a stored chunk list.
///
/// # Errors
/// [`CodecError`].
pub fn decode_refs(bytes: &[u8], packs: &mut PackSet) -> Result<Vec<ChunkRef>, CodecError> {
    let mut d = decoder(bytes)?;
    let header = decode_header(&mut d)?;
    if header.level != 0 {
        return malformed("an index where a chunk list is due");
    }
    let map = adopt(&header, packs);
    let local = Packs { number: &|n| map.get(n as usize).copied(), most_chunks: 0 };
    let mut refs = Vec::new();
    while d.position() < bytes.len() {
        refs.push(decode_ref(&mut d, &local, None)?);
    }
    Ok(refs)
}

/// What the keys of an entry held, before its kind is known.
#[derive(Default)]
struct Fields {
    path: Option<Vec<u8>>,
    kind: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime_s: Option<i64>,
    mtime_ns: u32,
    size: u64,
    content: Option<ContentHash>,
    chunks: Option<ChunkList>,
    holes: Vec<Extent>,
    target: Option<Vec<u8>>,
    rdev: Option<(u32, u32)>,
    xattrs: Xattrs,
    group: Option<[u8; 16]>,
    torn: bool,
}

fn decode_entry(d: &mut Decoder<'_>, packs: &Packs<'_>) -> Result<Entry, CodecError> {
    let mut f = Fields::default();
    let mut before = None;
    for _ in 0..definite(d.map()?)? {
        match key(d, &mut before)? {
            0 => f.path = Some(d.bytes()?.to_vec()),
            1 => f.kind = Some(d.u64()?),
            2 => f.mode = Some(d.u32()?),
            3 => f.uid = Some(d.u32()?),
            4 => f.gid = Some(d.u32()?),
            5 => f.mtime_s = Some(d.i64()?),
            6 => f.mtime_ns = d.u32()?,
            7 => f.size = d.u64()?,
            8 => f.content = Some(ContentHash(fixed(d)?)),
            9 => {
                let n = definite(d.array()?)?;
                if n > packs.most_chunks {
                    return malformed(format!("{n} chunks in one entry"));
                }
                let content = f.content;
                let list = (0..n).map(|_| decode_ref(d, packs, content.as_ref())).collect::<Result<_, _>>()?;
                f.chunks = Some(ChunkList::Inline(list));
            }
            10 => {
                let list = (0..definite(d.array()?)?).map(|_| decode_ref(d, packs, None)).collect::<Result<_, _>>()?;
                if f.chunks.replace(ChunkList::Stored(list)).is_some() {
                    return malformed("an entry with both lists of chunks");
                }
            }
            11 => {
                for _ in 0..definite(d.array()?)?.min(MAX_INLINE as u64 + 1) {
                    array_of(d, 2)?;
                    f.holes.push(Extent { offset: d.u64()?, bytes: d.u64()? });
                }
            }
            12 => f.target = Some(d.bytes()?.to_vec()),
            13 => {
                array_of(d, 2)?;
                f.rdev = Some((d.u32()?, d.u32()?));
            }
            14 => {
                for _ in 0..definite(d.array()?)? {
                    array_of(d, 2)?;
                    f.xattrs.push((d.bytes()?.to_vec(), d.bytes()?.to_vec()));
                }
            }
            15 => f.group = Some(fixed(d)?),
            16 => f.torn = d.bool()?,
            64.. => d.skip()?,
            other => return Err(CodecError::Newer(format!("entry key {other}"))),
        }
    }
    build(f)
}

/// Puts the fields together; each kind has its own and no others.
fn build(f: Fields) -> Result<Entry, CodecError> {
    let (Some(path), Some(kind), Some(uid), Some(gid), Some(mtime_s)) = (f.path, f.kind, f.uid, f.gid, f.mtime_s)
    else {
        return malformed("an entry without path, type, owner or time");
    };
    path::check(&path)?;
    let name = path::printable(&path);
    let odd = |what: &str| malformed(format!("{name}: {what}"));
    // First: what other fields a type has that is not known here, nobody can say.
    if kind > 5 {
        return Err(CodecError::Newer(format!("{name}: type {kind}")));
    }
    let has_content = f.size > 0 || f.content.is_some() || f.chunks.is_some() || !f.holes.is_empty();
    if kind != 0 && (has_content || f.torn) || kind == 1 && f.group.is_some() {
        return odd("content on what is not a file, or a link on a directory");
    }
    if (kind == 2) != f.target.is_some() || matches!(kind, 4 | 5) != f.rdev.is_some() || (kind == 2) == f.mode.is_some()
    {
        return odd("fields of another type");
    }
    if f.mode.is_some_and(|mode| mode > 0o7777) || f.mtime_ns >= 1_000_000_000 {
        return odd("mode or time out of range");
    }
    if !f.xattrs.is_sorted_by(|a, b| a.0 < b.0) || f.xattrs.iter().any(|(n, _)| n.is_empty() || n.contains(&0)) {
        return odd("extended attributes out of order or with a bad name");
    }
    let kind = match (kind, f.target, f.rdev) {
        (0, _, _) if f.size == 0 && !has_content => Kind::empty_file(),
        (0, _, _) => file_kind(&name, f.size, f.content, f.chunks, f.holes)?,
        (1, _, _) => Kind::Directory,
        (2, Some(target), _) if !target.is_empty() && !target.contains(&0) => Kind::Symlink { target },
        (2, _, _) => return odd("an empty link target, or one with a NUL byte"),
        (3, _, _) => Kind::Fifo,
        (4, _, Some(rdev)) => Kind::CharDevice { rdev },
        (_, _, Some(rdev)) => Kind::BlockDevice { rdev },
        (_, _, None) => return odd("a device without numbers"),
    };
    Ok(Entry {
        path,
        kind,
        mode: f.mode.unwrap_or(0),
        uid,
        gid,
        mtime_s,
        mtime_ns: f.mtime_ns,
        xattrs: f.xattrs,
        group: f.group,
        torn: f.torn,
    })
}

fn file_kind(
    name: &str,
    size: u64,
    content: Option<ContentHash>,
    chunks: Option<ChunkList>,
    holes: Vec<Extent>,
) -> Result<Kind, CodecError> {
    let wrong = |why: String| Err(CodecError::Lengths { path: name.to_owned(), why });
    let Some(content) = content else {
        return malformed(format!("{name}: content without a hash"));
    };
    let mut end = 0;
    let mut hollow = 0u64;
    if holes.len() > MAX_INLINE {
        return malformed(format!("{name}: more than {MAX_INLINE} holes"));
    }
    for (i, hole) in holes.iter().enumerate() {
        let Some(next) = hole.offset.checked_add(hole.bytes) else { return wrong("a hole beyond 2^64".to_owned()) };
        if hole.bytes == 0 || next > size || (i > 0 && hole.offset <= end) {
            return wrong(format!("a hole of {} bytes at {} in {size} bytes", hole.bytes, hole.offset));
        }
        end = next;
        hollow += hole.bytes;
    }
    let chunks = chunks.unwrap_or(ChunkList::Inline(Vec::new()));
    if let ChunkList::Inline(list) = &chunks {
        let data: u64 = list.iter().map(|r| u64::from(r.bytes)).sum();
        if data + hollow != size {
            return wrong(format!("{data} bytes of chunks and {hollow} of holes, its size is {size}"));
        }
    }
    Ok(Kind::File { size, content, chunks, holes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packs() -> PackSet {
        let mut packs = PackSet::default();
        for n in 0..3 {
            packs.index(PackInfo { id: PackId([n; 32]), pack_bytes: 5000, table_bytes: 120 });
        }
        packs
    }

    pub(crate) fn file(path: &[u8], bytes: u32, pack: u32) -> Entry {
        let chunk = ChunkId::of(&bytes.to_le_bytes());
        let chunks = ChunkList::Inline(vec![ChunkRef { chunk, bytes, pack, frame: 1, offset: 7 }]);
        let kind = Kind::File { size: u64::from(bytes), content: ContentHash(chunk.0), chunks, holes: vec![] };
        Entry {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 5,
            mtime_s: -1,
            mtime_ns: 9,
            xattrs: vec![],
            group: None,
            torn: false,
        }
    }

    fn leaf(entries: &[Entry]) -> Vec<u8> {
        let mut local = LocalPacks::default();
        let mut body = Vec::new();
        entries.iter().for_each(|e| encode_entry(&mut body, &mut |p| local.number(p), e).unwrap());
        let mut out = Vec::new();
        encode_header(&mut out, &local, &packs(), &OwnerNames::default(), 0);
        out.extend(body);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, CodecError> {
        let mut entries = Vec::new();
        decode_leaf(bytes, &mut packs(), &mut OwnerNames::default(), |e| entries.push(e))?;
        Ok(entries)
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Directory),
            Just(Kind::Fifo),
            Just(Kind::empty_file()),
            (any::<u32>(), any::<u32>()).prop_map(|rdev| Kind::CharDevice { rdev }),
            proptest::collection::vec(1u8.., 1..40).prop_map(|target| Kind::Symlink { target }),
            (1u32..1000, 0u32..3, 1u64..99).prop_map(|(n, pack, hole)| {
                let chunk = ChunkRef { chunk: ChunkId([8; 32]), bytes: n, pack, frame: 3, offset: 4 };
                let holes = vec![Extent { offset: u64::from(n), bytes: hole }];
                Kind::File {
                    size: u64::from(n) + hole,
                    content: ContentHash([1; 32]),
                    chunks: ChunkList::Inline(vec![chunk]),
                    holes,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_entry_comes_back_as_it_was(
            kind in any_kind(), mode in 0u32..=0o7777, uid: u32, gid: u32, mtime_s: i64, mtime_ns in 0u32..1_000_000_000,
            xattr in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mode = if matches!(kind, Kind::Symlink { .. }) { 0 } else { mode };
            let entry = Entry { path: b"a/b\xff".to_vec(), kind, mode, uid, gid, mtime_s, mtime_ns, xattrs: vec![(b"user.x".to_vec(), xattr)], group: None, torn: false };
            prop_assert_eq!(read(&leaf(std::slice::from_ref(&entry))).unwrap(), [entry]);
        }

        #[test]
        fn damaged_bytes_never_panic(at: prop::sample::Index, value: u8) {
            let mut bytes = leaf(&[file(b"a", 10, 1), file(b"b", 20, 2)]);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = read(&bytes);
        }
    }

    /// A leaf of one entry with one more key.
    fn with_key(key: u64) -> Vec<u8> {
        let entry = file(b"a", 10, 0);
        let mut body = Vec::new();
        let mut local = LocalPacks::default();
        encode_entry(&mut body, &mut |p| local.number(p), &entry).unwrap();
        body[0] += 1; // one more field in the map
        Encoder::new(&mut body).u64(key).unwrap().bool(true).unwrap();
        let mut out = Vec::new();
        encode_header(&mut out, &local, &packs(), &OwnerNames::default(), 0);
        out.extend(body);
        out
    }

    #[test]
    fn unknown_key_below_64_is_newer_and_above_is_ignored() {
        assert!(matches!(read(&with_key(63)), Err(CodecError::Newer(_))));
        assert_eq!(read(&with_key(64)).unwrap(), [file(b"a", 10, 0)]);
    }

    #[test]
    fn unknown_type_is_newer_whatever_fields_it_has() {
        let mut entry = file(b"a", 10, 0);
        entry.torn = true;
        let mut bytes = leaf(&[entry]);
        // The entry begins after the header: a map, key 0 with the path `a`, key 1, the type.
        let at = bytes.windows(4).position(|w| w == [0x41, b'a', 1, 0]).unwrap() + 3;
        bytes[at] = 6;
        assert!(matches!(read(&bytes), Err(CodecError::Newer(_))));
    }

    #[test]
    fn header_without_packs_is_refused() {
        // A map with only key 3, the level.
        let bytes = [0xa1, 3, 1];
        assert!(
            matches!(decode_children(&bytes, None, &mut packs()), Err(CodecError::Malformed(w)) if w.contains("packs"))
        );
    }

    #[test]
    fn tree_chunk_longer_than_its_limit_is_refused() {
        let bytes = vec![0; MAX_TREE_CHUNK_BYTES + 1];
        assert!(matches!(read(&bytes), Err(CodecError::Malformed(w)) if w.contains("a tree chunk of")));
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let mut entry = file(b"a", 10, 0);
        if let Kind::File { size, .. } = &mut entry.kind {
            *size = 11;
        }
        assert!(matches!(read(&leaf(&[entry])), Err(CodecError::Lengths { .. })));
    }

    #[test]
    fn hostile_paths_are_refused() {
        for bad in [&b"../x"[..], b"/x", b"a/./b"] {
            assert!(matches!(read(&leaf(&[file(bad, 10, 0)])), Err(CodecError::Path(_))));
        }
    }

    #[test]
    fn entry_with_too_many_attributes_is_not_encoded() {
        let mut entry = file(b"a", 10, 0);
        entry.xattrs = vec![(b"user.a".to_vec(), vec![0; MAX_ENTRY_BYTES])];
        let mut out = vec![1];
        assert!(encode_entry(&mut out, &mut |p| p, &entry).is_err());
        assert_eq!(out, [1]);
    }
}
