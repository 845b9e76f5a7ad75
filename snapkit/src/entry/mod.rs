//! Entries: one path of a tree with its metadata and the chunks of its content.
//!
//! Documented in `docs/format/tree.md`. Layer: formats; bytes in and out, no store, no file system.

mod codec;
mod decode;
mod encode;
mod path;

pub use codec::{Child, CodecError, Header};
pub use decode::{decode_children, decode_entry_of_any_length, decode_leaf, decode_refs};
pub use encode::{
    LocalPacks, Number, encode_child, encode_entry, encode_entry_of_any_length, encode_header, encode_ref,
};
pub use path::{PathError, check as check_path, compare as compare_paths, join, parent, printable};

use std::collections::{BTreeMap, HashMap};

use crate::id::{ChunkId, ContentHash, PackId};
use crate::pack::PackInfo;

/// Longest entry in bytes.
pub const MAX_ENTRY_BYTES: usize = 128 << 10;
/// Most chunk references or holes that an entry holds itself.
pub const MAX_INLINE: usize = 1024;
/// Longest leaf or index chunk in bytes.
pub const MAX_TREE_CHUNK_BYTES: usize = 1 << 20;

/// A chunk and where it lies. `pack` is an index into a [`PackSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// Name of the chunk.
    pub chunk: ChunkId,
    /// Its length in bytes.
    pub bytes: u32,
    /// Index of the pack in the [`PackSet`] at hand.
    pub pack: u32,
    /// Index of the frame in the pack.
    pub frame: u16,
    /// First byte of the chunk in the decoded frame.
    pub offset: u32,
}

/// The chunks of a file, or the chunks that hold the list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkList {
    /// The chunks themselves, in file order.
    Inline(Vec<ChunkRef>),
    /// Chunks that hold the list, in order.
    Stored(Vec<ChunkRef>),
}

/// A run of bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub bytes: u64,
}

/// What kind of thing a path is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// BLAKE3 of the whole file.
        content: ContentHash,
        /// Its data, holes left out.
        chunks: ChunkList,
        /// Its holes, ascending.
        holes: Vec<Extent>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points to, as it was found.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major and minor number.
        rdev: (u32, u32),
    },
    /// A block device.
    BlockDevice {
        /// Major and minor number.
        rdev: (u32, u32),
    },
}

impl Kind {
    /// The number that stands for the kind in trees and digests.
    pub fn code(&self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Directory => 1,
            Self::Symlink { .. } => 2,
            Self::Fifo => 3,
            Self::CharDevice { .. } => 4,
            Self::BlockDevice { .. } => 5,
        }
    }

    /// The word for people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Directory => "directory",
            Self::Symlink { .. } => "symlink",
            Self::Fifo => "fifo",
            Self::CharDevice { .. } => "character device",
            Self::BlockDevice { .. } => "block device",
        }
    }

    /// A file without content.
    pub fn empty_file() -> Self {
        Self::File { size: 0, content: ContentHash::of(b""), chunks: ChunkList::Inline(Vec::new()), holes: Vec::new() }
    }
}

/// Names and values of extended attributes, ascending by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative path, `/` between components; empty for the directory itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky; 0 for symlinks.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of last modification, seconds since 1970, rounded down.
    pub mtime_s: i64,
    /// Nanoseconds to add.
    pub mtime_ns: u32,
    /// Extended attributes, POSIX ACLs among them.
    pub xattrs: Xattrs,
    /// Set on what has more than one link, directories aside: all members of the group are one file, symlink or device.
    pub group: Option<[u8; 16]>,
    /// The file changed while it was read, and would not hold still.
    pub torn: bool,
}

impl Entry {
    /// Length of the content in bytes; 0 for all but regular files.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// True when an earlier entry of the tree belongs to the same hard-link group.
    pub fn links_back(&self) -> bool {
        self.group.is_some_and(|group| group != group_of(&self.path))
    }
}

/// The hard-link group whose first member has `path`.
pub fn group_of(path: &[u8]) -> [u8; 16] {
    blake3::hash(path).as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

/// The packs that references at hand point to; grows, never shrinks.
#[derive(Clone, Debug, Default)]
pub struct PackSet {
    infos: Vec<Option<PackInfo>>,
    by_id: HashMap<PackId, u32>,
}

impl PackSet {
    /// Index of `pack`, added if it is new.
    pub fn index(&mut self, pack: PackInfo) -> u32 {
        let next = self.next();
        let index = *self.by_id.entry(pack.id).or_insert(next);
        if index == next {
            self.infos.push(Some(pack));
        }
        index
    }

    fn next(&self) -> u32 {
        u32::try_from(self.infos.len()).expect("fewer than 2^32 packs")
    }

    /// Index for a pack that is still being written and has no name yet.
    pub fn reserve(&mut self) -> u32 {
        self.infos.push(None);
        self.next() - 1
    }

    /// Names a reserved pack.
    pub fn resolve(&mut self, index: u32, pack: PackInfo) {
        self.infos[index as usize] = Some(pack);
        self.by_id.insert(pack.id, index);
    }

    /// The pack with an index. Asking for one that is still being written is a bug and panics.
    pub fn get(&self, index: u32) -> PackInfo {
        self.infos[index as usize].expect("a pack is closed before it is referred to")
    }

    /// Number of packs, reserved ones included.
    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }
}

/// Names of owners by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerNames {
    /// User names by uid.
    pub users: BTreeMap<u32, Vec<u8>>,
    /// Group names by gid.
    pub groups: BTreeMap<u32, Vec<u8>>,
}
