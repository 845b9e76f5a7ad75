//! Decoding entries, tree chunks and chunk lists. Every rule of `docs/format/tree.md` about a single chunk is checked here.

use minicbor::Decoder;
use minicbor::data::Type;

use super::codec::{Child, CodecError, Header};
use super::{
    ChunkList, ChunkRef, Entry, Extent, Kind, MAX_ENTRY_BYTES, MAX_INLINE, MAX_TREE_CHUNK_BYTES, OwnerNames, PackSet,
    Xattrs, path,
};
use crate::id::{ChunkId, ContentHash, PackId};
use crate::pack::PackInfo;

fn malformed<T>(what: impl Into<String>) -> Result<T, CodecError> {
    Err(CodecError::Malformed(what.into()))
}

/// Decodes what [`super::encode_entry_of_any_length`] encoded with pack numbers as they are.
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
        return malformed(format!("a tree chunk of {} bytes, at most {MAX_TREE_CHUNK_BYTES} are due", bytes.len()));
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
        // A hole may reach to 2^64, and then the sum would not fit.
        if data.checked_add(hollow) != Some(size) {
            return wrong(format!("{data} bytes of chunks and {hollow} of holes, its size is {size}"));
        }
    }
    Ok(Kind::File { size, content, chunks, holes })
}
