//! Hostile content: a pack of file data and an entry stream, valid unless told otherwise.

use std::collections::BTreeMap;

use snapkit::digest::{Digests, TreeDigester};
use snapkit::entry::{
    Child, ChunkList, ChunkRef, Entry, Kind, LocalPacks, OwnerNames, PackSet, encode_child, encode_entry_of_any_length,
    encode_header, group_of,
};
use snapkit::id::{ChunkId, ContentHash, PackId};
use snapkit::pack::{Codec, Frame, FrameEncoder, PackInfo, PackWriter};

/// Changes bytes before they are hashed and named.
type Edit = Box<dyn FnOnce(&mut Vec<u8>)>;

/// A tree being forged, with the pack that holds the data of its files.
///
/// Chunk references name that pack by number 0.
pub struct Content {
    /// The entries, in the order they are written.
    pub entries: Vec<Entry>,
    /// Where the first leaf ends, in entries; one leaf holds all if it is not set.
    pub first_leaf: Option<usize>,
    /// Further map fields of entries by number: how many, and their CBOR.
    extra: BTreeMap<usize, (u8, Vec<u8>)>,
    /// The path that the index states for the last leaf.
    pub claimed_first: Option<Vec<u8>>,
    /// The number of entries that index and record state.
    pub claimed_entries: Option<u64>,
    edit_leaf: Option<Edit>,
    edit_table: Option<Edit>,
    data: PackWriter,
    encoder: FrameEncoder,
}

/// What of a content goes into the store and into the record.
pub(super) struct Written {
    /// Name and bytes of every pack, the one with the top index last.
    pub packs: Vec<(PackInfo, Vec<u8>)>,
    pub index: ChunkRef,
    pub digests: Digests,
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
}

impl Default for Content {
    fn default() -> Self {
        Self::new()
    }
}

impl Content {
    /// A tree with its own directory and nothing in it.
    pub fn new() -> Self {
        let mut content = Self::without_root();
        content.directory("");
        content
    }

    /// A tree that lacks even its own directory.
    pub fn without_root() -> Self {
        Self {
            entries: Vec::new(),
            first_leaf: None,
            extra: BTreeMap::new(),
            claimed_first: None,
            claimed_entries: None,
            edit_leaf: None,
            edit_table: None,
            data: PackWriter::new(0),
            encoder: FrameEncoder::new(3),
        }
    }

    /// Adds an entry and gives it back for changes.
    pub fn push(&mut self, path: impl AsRef<[u8]>, kind: Kind) -> &mut Entry {
        let mode = match kind {
            Kind::Symlink { .. } => 0,
            Kind::Directory => 0o755,
            _ => 0o644,
        };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let path = path.as_ref().to_vec();
        let (xattrs, group, torn) = (Vec::new(), None, false);
        self.entries.push(Entry { path, kind, mode, uid, gid, mtime_s: 1_000_000, mtime_ns: 0, xattrs, group, torn });
        self.entries.last_mut().unwrap()
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: impl AsRef<[u8]>) -> &mut Entry {
        self.push(path, Kind::Directory)
    }

    /// Adds a symlink.
    pub fn symlink(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> &mut Entry {
        self.push(path, Kind::Symlink { target: target.as_ref().to_vec() })
    }

    /// Adds a file of one chunk.
    pub fn file(&mut self, path: impl AsRef<[u8]>, bytes: &[u8]) -> &mut Entry {
        let chunk = self.chunk(bytes);
        self.file_of(path, bytes, vec![chunk])
    }

    /// Adds a file that states the content `bytes` and these chunks.
    pub fn file_of(&mut self, path: impl AsRef<[u8]>, bytes: &[u8], chunks: Vec<ChunkRef>) -> &mut Entry {
        let (size, content) = (bytes.len() as u64, ContentHash::of(bytes));
        self.push(path, Kind::File { size, content, chunks: ChunkList::Inline(chunks), holes: Vec::new() })
    }

    /// Makes the last entry a member of the hard-link group whose first member has this path.
    pub fn linked_to(&mut self, first: &str) -> &mut Self {
        self.entries.last_mut().unwrap().group = Some(group_of(first.as_bytes()));
        self
    }

    /// Puts bytes into the data pack, in a frame of their own.
    pub fn chunk(&mut self, bytes: &[u8]) -> ChunkRef {
        let frame = self.encoder.encode(bytes, 1);
        self.frame(&frame, bytes)
    }

    /// Puts a frame into the data pack, and a reference that states these bytes as what it holds.
    pub fn frame(&mut self, frame: &Frame, bytes: &[u8]) -> ChunkRef {
        let number = self.data.push(frame);
        ChunkRef { chunk: ChunkId::of(bytes), bytes: bytes.len() as u32, pack: 0, frame: number, offset: 0 }
    }

    /// Adds a map field to the last entry.
    pub fn field(&mut self, key: u8, value_cbor: &[u8]) -> &mut Self {
        let (count, cbor) = self.extra.entry(self.entries.len() - 1).or_default();
        *count += 1;
        match key {
            0..24 => cbor.push(key),
            _ => cbor.extend([0x18, key]),
        }
        cbor.extend(value_cbor);
        self
    }

    /// Changes the bytes of the last leaf.
    pub fn edit_leaf(&mut self, edit: impl FnOnce(&mut Vec<u8>) + 'static) {
        self.edit_leaf = Some(Box::new(edit));
    }

    /// Changes the table of the data pack, whose name follows from it.
    pub fn edit_table(&mut self, edit: impl FnOnce(&mut Vec<u8>) + 'static) {
        self.edit_table = Some(Box::new(edit));
    }

    /// Everything hashed and named.
    pub(super) fn write(mut self, salt: &[u8; 16]) -> Written {
        if self.data.frames() == 0 {
            self.chunk(b"a pack has at least one frame");
        }
        let mut digester = TreeDigester::default();
        self.entries.iter().for_each(|entry| digester.push(entry));
        let (info, bytes) = self.data.finish(salt);
        let data = renamed(info, bytes.to_vec(), self.edit_table);
        let mut packs = PackSet::default();
        packs.index(data.0);

        let cut = self.first_leaf.unwrap_or(self.entries.len());
        let (first, second) = self.entries.split_at(cut);
        let mut leaves = vec![(0, first)];
        if !second.is_empty() {
            leaves.push((cut, second));
        }
        let mut tree = PackWriter::new(0);
        let mut children = Vec::new();
        for (at, entries) in leaves {
            let (mut body, mut local) = (Vec::new(), LocalPacks::default());
            for (i, entry) in entries.iter().enumerate() {
                let start = body.len();
                encode_entry_of_any_length(&mut body, &mut |pack| local.number(pack), entry);
                if let Some((fields, cbor)) = self.extra.get(&(at + i)) {
                    body[start] += fields;
                    body.extend(cbor);
                }
            }
            let mut leaf = Vec::new();
            encode_header(&mut leaf, &local, &packs, &OwnerNames::default(), 0);
            leaf.append(&mut body);
            if at + entries.len() == self.entries.len()
                && let Some(edit) = self.edit_leaf.take()
            {
                edit(&mut leaf);
            }
            let first = entries.first().map_or(Vec::new(), |entry| entry.path.clone());
            children.push((first, leaf, entries.len() as u64));
        }
        let stored: Vec<_> =
            children.iter().map(|(_, leaf, _)| (tree.push(&frame_of(&mut self.encoder, leaf)), leaf)).collect();
        let (info, bytes) = tree.finish(salt);
        let leaf_pack = (info, bytes.to_vec());
        let number = packs.index(leaf_pack.0);

        let (mut body, mut local) = (Vec::new(), LocalPacks::default());
        let last = children.len() - 1;
        for (i, ((first, _, entries), (frame, leaf))) in children.iter().zip(&stored).enumerate() {
            let claimed = self.claimed_first.as_ref().filter(|_| i == last);
            let child = Child {
                first: claimed.unwrap_or(first).clone(),
                chunk: whole(leaf, number, *frame),
                entries: self.claimed_entries.unwrap_or(*entries),
            };
            encode_child(&mut body, &mut |pack| local.number(pack), &child);
        }
        let mut index = Vec::new();
        encode_header(&mut index, &local, &packs, &OwnerNames::default(), 1);
        index.append(&mut body);
        let mut top = PackWriter::new(0);
        let frame = top.push(&frame_of(&mut self.encoder, &index));
        let (info, bytes) = top.finish(salt);
        let number = packs.index(info);

        let files = self.entries.iter().filter(|entry| entry.kind.code() == 0).count() as u64;
        Written {
            packs: vec![data, leaf_pack, (info, bytes.to_vec())],
            index: whole(&index, number, frame),
            digests: digester.finish(),
            entries: self.claimed_entries.unwrap_or(self.entries.len() as u64),
            files,
            bytes: self.entries.iter().map(Entry::size).sum(),
        }
    }
}

/// A frame of one chunk, whatever its length.
fn frame_of(encoder: &mut FrameEncoder, bytes: &[u8]) -> Frame {
    encoder.encode(bytes, 1)
}

fn whole(bytes: &[u8], pack: u32, frame: u16) -> ChunkRef {
    ChunkRef { chunk: ChunkId::of(bytes), bytes: bytes.len() as u32, pack, frame, offset: 0 }
}

/// The pack with its table changed, named anew.
fn renamed(mut info: PackInfo, mut bytes: Vec<u8>, edit: Option<Edit>) -> (PackInfo, Vec<u8>) {
    if let Some(edit) = edit {
        let at = info.table_range().start as usize;
        let mut table = bytes.split_off(at);
        edit(&mut table);
        info.id = PackId::of(&table);
        bytes.append(&mut table);
    }
    (info, bytes)
}

/// A frame with these stored bytes that claims to decode to `raw_len` bytes.
pub fn forged_frame(stored: Vec<u8>, raw_len: u32) -> Frame {
    let hash = *blake3::hash(&stored).as_bytes();
    Frame { stored, codec: Codec::Zstd, raw_len, chunks: 1, hash }
}
