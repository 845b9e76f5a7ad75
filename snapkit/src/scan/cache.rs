//! The scan cache: what the last run read, so that this one reads only what changed.
//!
//! A row is trusted when its file is *settled* (`docs/capture.md`): its change time lay more than a minute before it was
//! read. A rewrite within a clock tick, or a store through `mmap` to a page that is already dirty, leaves no trace in
//! the times; after a minute the kernel has written such a page back and the next store leaves one.
//!
//! The file is private to this program and may be deleted at any time; that costs time, never correctness. It is
//! replaced as a whole, and each block carries a checksum: what does not match ends the cache there.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use manifests::digest::Digest;
use manifests::document::snapshot as document;
use serde::{Deserialize, Serialize};

use super::metadata::Identity;
use crate::digest::Digests;
use crate::entry::{ChunkRef, Entry, OwnerNames, PackSet, decode_leaf};
use crate::id::ContentHash;
use crate::located::{Located, pack_from_document, pack_to_document};
use crate::pack::PackInfo;

/// How long before a read the last change must lie, in seconds, for the file to count as settled.
pub const SETTLE_SECONDS: i64 = 60;
const MAGIC: &[u8; 16] = b"snapkit cache 1\n";
pub(crate) const SEEN_BYTES: usize = 40;
const MAX_BLOCK_BYTES: usize = 4 << 20;

/// What the cache knows of a path besides its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Change time, seconds and nanoseconds.
    pub ctime: (i64, u32),
    /// When the content was read last, seconds since 1970.
    pub read_at: i64,
    /// Whether the row may be trusted.
    pub settled: bool,
}

impl Seen {
    /// What to remember of a path that was read at `read_at` on a file system whose clock is ours.
    pub fn new(identity: &Identity, read_at: i64, clock_is_ours: bool) -> Self {
        let settled = clock_is_ours && identity.ctime.0 < read_at.saturating_sub(SETTLE_SECONDS);
        Self { dev: identity.dev, ino: identity.ino, ctime: identity.ctime, read_at, settled }
    }

    /// Whether `identity` is that of the path as it was when this was remembered, and may be trusted to be.
    pub fn matches(&self, entry: &Entry, identity: &Identity) -> bool {
        self.settled
            && (self.dev, self.ino, self.ctime) == (identity.dev, identity.ino, identity.ctime)
            && (entry.mtime_s, entry.mtime_ns) == identity.mtime
            && entry.size() == identity.size
    }

    pub(crate) fn encode(&self) -> [u8; SEEN_BYTES] {
        let mut bytes = [0; SEEN_BYTES];
        bytes[..8].copy_from_slice(&self.dev.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ino.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.ctime.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.ctime.1.to_le_bytes());
        bytes[28] = u8::from(self.settled);
        bytes[32..].copy_from_slice(&self.read_at.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let eight = |at: usize| bytes[at..at + 8].try_into().expect("eight bytes");
        Self {
            dev: u64::from_le_bytes(eight(0)),
            ino: u64::from_le_bytes(eight(8)),
            ctime: (i64::from_le_bytes(eight(16)), u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes"))),
            settled: bytes[28] == 1,
            read_at: i64::from_le_bytes(eight(32)),
        }
    }
}

/// The tree that a cache describes, so that an unchanged one is not written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedTree {
    /// The top index chunk.
    pub index: Located,
    /// The digests of the tree.
    pub digests: Digests,
    /// Paths of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Length of the regular files in bytes.
    pub bytes: u64,
    /// All packs that hold something of the tree.
    pub packs: Vec<PackInfo>,
}

/// How the end of a cache is written.
#[derive(Serialize, Deserialize)]
struct Summary {
    index: document::ChunkRef,
    content: Digest,
    full: Digest,
    entries: u64,
    files: u64,
    bytes: u64,
    packs: Vec<document::PackRef>,
}

impl CachedTree {
    fn encode(&self) -> io::Result<Vec<u8>> {
        let summary = Summary {
            index: self.index.to_document(),
            content: Digest(self.digests.content.0),
            full: Digest(self.digests.full.0),
            entries: self.entries,
            files: self.files,
            bytes: self.bytes,
            packs: self.packs.iter().map(pack_to_document).collect(),
        };
        Ok(serde_json::to_vec(&summary)?)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let summary: Summary = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            index: Located::from_document(&summary.index)?,
            digests: Digests { content: ContentHash(summary.content.0), full: ContentHash(summary.full.0) },
            entries: summary.entries,
            files: summary.files,
            bytes: summary.bytes,
            packs: summary.packs.iter().map(pack_from_document).collect::<Option<_>>()?,
        })
    }
}

/// Writes a cache beside the one it will replace.
pub struct CacheWriter {
    out: BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
}

impl CacheWriter {
    /// Begins a cache that will lie at `path`.
    ///
    /// # Errors
    /// When the directory cannot be made or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let directory = path.parent().ok_or_else(|| io::Error::other("a cache lies in a directory"))?;
        std::fs::create_dir_all(directory)?;
        let mut out = BufWriter::with_capacity(256 << 10, tempfile::NamedTempFile::new_in(directory)?);
        out.write_all(MAGIC)?;
        Ok(Self { out, path: path.to_owned() })
    }

    /// Adds a leaf of the tree with what was seen of each of its entries.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, leaf: &[u8], seen: &[Seen]) -> io::Result<()> {
        let stats: Vec<u8> = seen.iter().flat_map(Seen::encode).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(leaf).update(&stats);
        self.out.write_all(&(leaf.len() as u32).to_le_bytes())?;
        self.out.write_all(&(stats.len() as u32).to_le_bytes())?;
        self.out.write_all(&hasher.finalize().as_bytes()[..8])?;
        self.out.write_all(leaf)?;
        self.out.write_all(&stats)
    }

    /// Ends the cache and puts it in place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, tree: &CachedTree) -> io::Result<()> {
        let summary = tree.encode()?;
        self.out.write_all(&[0; 4])?;
        self.out.write_all(&blake3::hash(&summary).as_bytes()[..8])?;
        self.out.write_all(&summary)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.path).map(|_| ()).map_err(|error| error.error)
    }
}

/// Reads a cache in order, one block at a time.
pub struct CacheReader<'run> {
    input: Option<BufReader<File>>,
    rows: VecDeque<(Entry, Seen)>,
    tree: Option<CachedTree>,
    packs: &'run Mutex<PackSet>,
}

impl<'run> CacheReader<'run> {
    /// Opens the cache at `path`; a missing or foreign one is empty. Entries refer to `packs`, which grows.
    pub fn open(path: &Path, packs: &'run Mutex<PackSet>) -> Self {
        let mut input = File::open(path).ok().map(|file| BufReader::with_capacity(256 << 10, file));
        let mut magic = [0; MAGIC.len()];
        if input.as_mut().is_some_and(|input| input.read_exact(&mut magic).is_err() || &magic != MAGIC) {
            input = None;
        }
        Self { input, rows: VecDeque::new(), tree: None, packs }
    }

    /// The next row, which stays the next.
    pub fn peek(&mut self) -> Option<&(Entry, Seen)> {
        while self.rows.is_empty() {
            match self.block() {
                Ok(Some(rows)) => self.rows = rows,
                Ok(None) | Err(_) => {
                    self.input = None;
                    return None;
                }
            }
        }
        self.rows.front()
    }

    /// The tree the cache describes; known once there are no more rows, if the cache is whole.
    pub fn tree(&self) -> Option<&CachedTree> {
        self.tree.as_ref()
    }

    fn block(&mut self) -> io::Result<Option<VecDeque<(Entry, Seen)>>> {
        let Some(input) = &mut self.input else { return Ok(None) };
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let mut word = [0; 4];
        let mut check = [0; 8];
        input.read_exact(&mut word)?;
        let leaf_len = u32::from_le_bytes(word) as usize;
        if leaf_len == 0 {
            input.read_exact(&mut check)?;
            let mut summary = Vec::new();
            input.read_to_end(&mut summary)?;
            if blake3::hash(&summary).as_bytes()[..8] == check {
                self.tree = CachedTree::decode(&summary);
            }
            return Ok(None);
        }
        input.read_exact(&mut word)?;
        let stats_len = u32::from_le_bytes(word) as usize;
        input.read_exact(&mut check)?;
        if leaf_len.max(stats_len) > MAX_BLOCK_BYTES {
            return Err(damaged());
        }
        let mut bytes = vec![0; leaf_len + stats_len];
        input.read_exact(&mut bytes)?;
        if blake3::hash(&bytes).as_bytes()[..8] != check {
            return Err(damaged());
        }
        let (leaf, stats) = bytes.split_at(leaf_len);
        let mut seen = stats.chunks_exact(SEEN_BYTES).map(Seen::decode);
        let mut rows = VecDeque::new();
        let mut packs = self.packs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        decode_leaf(leaf, &mut packs, &mut OwnerNames::default(), |entry| {
            rows.extend(seen.next().map(|seen| (entry, seen)));
        })
        .map_err(|_| damaged())?;
        Ok(Some(rows))
    }
}

impl Iterator for CacheReader<'_> {
    type Item = (Entry, Seen);

    fn next(&mut self) -> Option<(Entry, Seen)> {
        self.peek()?;
        self.rows.pop_front()
    }
}

/// The packs that hold the data of an entry.
pub fn packs_of(entry: &Entry) -> impl Iterator<Item = u32> + '_ {
    use crate::entry::{ChunkList, Kind};
    let list: &[ChunkRef] = match &entry.kind {
        Kind::File { chunks: ChunkList::Inline(list) | ChunkList::Stored(list), .. } => list,
        _ => &[],
    };
    list.iter().map(|r| r.pack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Kind, LocalPacks, encode_entry, encode_header};
    use crate::id::{ChunkId, PackId};

    fn entry(path: &[u8]) -> Entry {
        Entry {
            path: path.to_vec(),
            kind: Kind::Fifo,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_s: 5,
            mtime_ns: 6,
            xattrs: vec![],
            group: None,
            torn: false,
        }
    }

    fn leaf(path: &[u8]) -> Vec<u8> {
        let (mut out, mut local) = (Vec::new(), LocalPacks::default());
        encode_header(&mut out, &local, &PackSet::default(), &OwnerNames::default(), 0);
        encode_entry(&mut out, &mut |p| local.number(p), &entry(path)).unwrap();
        out
    }

    const IDENTITY: Identity = Identity { dev: 1, ino: 2, size: 0, mtime: (5, 6), ctime: (1000, 0) };

    fn tree() -> CachedTree {
        let pack = PackInfo { id: PackId([8; 32]), pack_bytes: 900, table_bytes: 120 };
        let index = Located { chunk: ChunkId([9; 32]), bytes: 5, pack, frame: 1, offset: 2 };
        let digest = ContentHash([7; 32]);
        let digests = Digests { content: digest, full: digest };
        CachedTree { index, digests, entries: 2, files: 0, bytes: 0, packs: vec![pack] }
    }

    fn written(dir: &Path) -> PathBuf {
        let path = dir.join("sub/cache");
        let mut writer = CacheWriter::create(&path).unwrap();
        writer.push(&leaf(b"a"), &[Seen::new(&IDENTITY, 2000, true)]).unwrap();
        writer.push(&leaf(b"b"), &[Seen::new(&IDENTITY, 2000, true)]).unwrap();
        writer.finish(&tree()).unwrap();
        path
    }

    #[test]
    fn rows_come_back_in_order_with_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Mutex::default();
        let mut reader = CacheReader::open(&written(dir.path()), &packs);
        let rows: Vec<_> = reader.by_ref().collect();
        assert_eq!(rows.iter().map(|(e, _)| e.path.clone()).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(rows[0].1, Seen::new(&IDENTITY, 2000, true));
        assert_eq!(reader.tree(), Some(&tree()));
    }

    #[test]
    fn damaged_and_truncated_caches_end_early_and_name_no_tree() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let packs = Mutex::default();
        for at in 16..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let mut reader = CacheReader::open(&path, &packs);
            let rows = reader.by_ref().count();
            assert!(rows < 2 || reader.tree().is_none(), "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut reader = CacheReader::open(&path, &packs);
        assert_eq!(reader.by_ref().count(), 2);
        assert_eq!(reader.tree(), None);
    }

    #[test]
    fn file_changed_within_a_minute_of_the_read_is_not_settled() {
        let matches = |read_at, ours| Seen::new(&IDENTITY, read_at, ours).matches(&entry(b"a"), &IDENTITY);
        assert!(matches(1061, true));
        assert!(!matches(1060, true), "a store to a dirty page may have left no trace");
        assert!(!matches(1000, true), "a rewrite within the clock tick leaves no trace");
        assert!(!matches(500, true), "the file system's clock is ahead");
        assert!(!matches(1061, false), "a clock that is not ours proves nothing");
    }

    #[test]
    fn any_other_identity_does_not_match() {
        let seen = Seen::new(&IDENTITY, 2000, true);
        let edits: [fn(&mut Identity); 5] =
            [|i| i.dev = 9, |i| i.ino = 9, |i| i.size = 9, |i| i.mtime.1 = 9, |i| i.ctime.1 = 9];
        for edit in edits {
            let mut other = IDENTITY;
            edit(&mut other);
            assert!(!seen.matches(&entry(b"a"), &other), "{other:?}");
        }
    }
}
