//! Sides: a tree of a snapshot or a directory, as a sorted stream of entries and as bytes of files.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use manifests::document::snapshot as document;
use rustix::fs::{Mode, OFlags};

use super::{DiffError, Options};
use crate::entry::{ChunkList, Entry, Kind, OwnerNames, PackSet, group_of};
use crate::fetch::{FetchError, Fetcher};
use crate::id::ContentHash;
use crate::located::Located;
use crate::scan::inspect::{Contents as Inspected, inspect};
use crate::scan::walk::{Walk, WalkError, WalkOptions};
use crate::tree::{Ahead, TreeError, TreeReader};

/// Where one side of a pair of trees comes from.
pub enum Source<'a> {
    /// A tree of a snapshot.
    Snapshot {
        /// Fetches from the snapshot's store.
        fetcher: &'a Fetcher<'a>,
        /// The tree, from a verified record.
        tree: &'a document::Tree,
    },
    /// A directory.
    Directory(PathBuf),
    /// There is no such tree on this side.
    Nothing,
}

/// Two trees that are compared.
pub struct TreePair<'a> {
    /// Their name; paths begin with it when several pairs are compared.
    pub name: String,
    /// The one side.
    pub a: Source<'a>,
    /// The other side.
    pub b: Source<'a>,
}

/// The entries of one side, in order.
pub(super) struct Stream<'a> {
    origin: Origin<'a>,
    /// The directory that is left out at the moment.
    skipped: Option<Vec<u8>>,
}

enum Origin<'a> {
    Snapshot { reader: TreeReader, fetcher: &'a Fetcher<'a>, packs: PackSet, ready: VecDeque<Entry> },
    Directory { walk: Walk, root: Arc<OwnedFd>, groups: HashMap<(u64, u64), [u8; 16]> },
    Nothing,
}

impl<'a> Stream<'a> {
    pub(super) fn open(source: &Source<'a>) -> Result<Self, DiffError> {
        let origin = match source {
            Source::Snapshot { fetcher, tree } => {
                let index = Located::from_document(&tree.index).ok_or_else(|| {
                    let what = format!("the reference to the tree {} is out of range", tree.name);
                    FetchError::Tree(TreeError::Codec(crate::entry::CodecError::Malformed(what)))
                })?;
                let mut packs = PackSet::default();
                let reader = TreeReader::new(index.within(&mut packs), tree.entries);
                Origin::Snapshot { reader, fetcher, packs, ready: VecDeque::new() }
            }
            Source::Directory(path) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let open = || -> io::Result<(Walk, Arc<OwnedFd>)> {
                    let root = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
                    Ok((Walk::of_handle(root.clone(), WalkOptions::default())?, root))
                };
                let (walk, root) =
                    open().map_err(|source| DiffError::Read { path: path.display().to_string(), source })?;
                Origin::Directory { walk, root, groups: HashMap::new() }
            }
            Source::Nothing => Origin::Nothing,
        };
        Ok(Self { origin, skipped: None })
    }

    /// The next entry that counts.
    pub(super) fn next(&mut self, options: &Options) -> Result<Option<Entry>, DiffError> {
        while let Some(entry) = self.origin.next()? {
            if let Some(above) = &self.skipped {
                if entry.path.starts_with(above) && entry.path.get(above.len()) == Some(&b'/') {
                    continue;
                }
                self.skipped = None;
            }
            let is_directory = matches!(entry.kind, Kind::Directory);
            let is_left_out = !entry.path.is_empty()
                && options.excludes.as_ref().is_some_and(|excludes| excludes.leaves_out(&entry.path, is_directory));
            if is_left_out {
                self.skipped = is_directory.then_some(entry.path);
                continue;
            }
            if options.devices || !matches!(entry.kind.code(), 3..=5) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// What comes next in a tree whose entries were all given so far.
    pub(super) fn ahead(&self) -> Option<Ahead<'_>> {
        match &self.origin {
            Origin::Snapshot { reader, ready, .. } if ready.is_empty() => reader.ahead(),
            _ => None,
        }
    }

    /// Leaves out what comes next in the tree, and says how many entries that are.
    pub(super) fn pass_over(&mut self) -> u64 {
        match &mut self.origin {
            Origin::Snapshot { reader, .. } => reader.pass_over(),
            _ => 0,
        }
    }

    /// Reads the index that comes next in the tree.
    pub(super) fn open_index(&mut self) -> Result<(), DiffError> {
        if let Origin::Snapshot { reader, fetcher, packs, .. } = &mut self.origin {
            let mut fetcher = *fetcher;
            reader.open_index(&mut fetcher, packs)?;
        }
        Ok(())
    }

    /// What reads the bytes of its files once all entries were seen.
    pub(super) fn into_contents(self) -> Contents<'a> {
        match self.origin {
            Origin::Snapshot { fetcher, packs, .. } => Contents::Stored { fetcher, packs: RefCell::new(packs) },
            Origin::Directory { root, .. } => Contents::Directory(root),
            Origin::Nothing => Contents::Nothing,
        }
    }

    /// The open directory, if it is one.
    pub(super) fn root(&self) -> Option<Arc<OwnedFd>> {
        match &self.origin {
            Origin::Directory { root, .. } => Some(root.clone()),
            _ => None,
        }
    }
}

impl Origin<'_> {
    fn next(&mut self) -> Result<Option<Entry>, DiffError> {
        match self {
            Self::Snapshot { reader, fetcher, packs, ready } => {
                let mut fetcher = *fetcher;
                let mut names = OwnerNames::default();
                while ready.is_empty() {
                    if !reader.next_leaf(&mut fetcher, packs, &mut names, |entry| ready.push_back(entry))? {
                        return Ok(None);
                    }
                }
                Ok(ready.pop_front())
            }
            Self::Directory { walk, groups, .. } => next_of_walk(walk, groups),
            Self::Nothing => Ok(None),
        }
    }
}

fn next_of_walk(walk: &mut Walk, groups: &mut HashMap<(u64, u64), [u8; 16]>) -> Result<Option<Entry>, DiffError> {
    for found in walk {
        let found = match found {
            Ok(found) => found,
            // A directory that was deleted since it was found: it was listed, and holds nothing now.
            Err(WalkError { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(WalkError { path, source }) => return Err(DiffError::read(&path, source)),
        };
        let mut entry = match inspect(&found, Inspected::Skip) {
            Ok(Some(entry)) => entry,
            Ok(None) => continue,
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(DiffError::read(&found.path, source)),
        };
        if let Kind::File { chunks, .. } = &mut entry.kind {
            // It lies in no store; an empty list of lists may stand for any length.
            *chunks = ChunkList::Stored(Vec::new());
        } else if matches!(entry.kind, Kind::Directory) {
            return Ok(Some(entry));
        }
        if found.stat.st_nlink > 1 {
            let inode = (found.stat.st_dev, found.stat.st_ino);
            entry.group = Some(*groups.entry(inode).or_insert_with(|| group_of(&entry.path)));
        }
        return Ok(Some(entry));
    }
    Ok(None)
}

/// What reads the bytes of the files of one side.
pub(super) enum Contents<'a> {
    Stored { fetcher: &'a Fetcher<'a>, packs: RefCell<PackSet> },
    Directory(Arc<OwnedFd>),
    Nothing,
}

/// Both sides of a pair of trees.
pub(super) struct Sides<'a> {
    pub(super) a: Contents<'a>,
    pub(super) b: Contents<'a>,
}

/// Whether the hash of a file is known: that of nothing stands for one that was not read.
pub(super) fn is_known(entry: &Entry) -> bool {
    match &entry.kind {
        Kind::File { size, content, .. } => *size == 0 || *content != ContentHash::of(b""),
        _ => true,
    }
}

/// Opens a file below a directory, links not followed on any step.
pub(super) fn open_below(root: &OwnedFd, path: &[u8]) -> io::Result<File> {
    let mut components = path.split(|byte| *byte == b'/').peekable();
    let mut above: Option<OwnedFd> = None;
    while let Some(name) = components.next() {
        let at = above.as_ref().unwrap_or(root);
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if components.peek().is_none() {
            let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK;
            return Ok(File::from(rustix::fs::openat(at, name, flags, Mode::empty())?));
        }
        above = Some(rustix::fs::openat(at, name, flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?);
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Reads and hashes a file of a directory into its entry. `false` when it is no longer there.
pub(super) fn hash(root: &OwnedFd, entry: &mut Entry) -> Result<bool, DiffError> {
    let Kind::File { size, content, .. } = &mut entry.kind else { return Ok(true) };
    let mut read = || -> io::Result<()> {
        let file = open_below(root, &entry.path)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file)?;
        *size = hasher.count();
        *content = ContentHash(*hasher.finalize().as_bytes());
        Ok(())
    };
    match read() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(DiffError::read(&entry.path, source)),
    }
}
