//! Building a tree: entries in order become leaves, leaves become an index.
//!
//! A chunk that refers to packs can only be encoded when those packs are closed, for a pack is
//! named by its table. So leaves are closed before the index is written, level by level.

use crate::entry::{
    Child, ChunkRef, CodecError, Entry, LocalPacks, MAX_TREE_CHUNK_BYTES, OwnerNames, PackSet, encode_child,
    encode_entry, encode_header, encode_ref,
};

/// A leaf shorter than this in bytes is not ended.
const LEAF_MIN_BYTES: usize = 16 << 10;
/// A leaf of this length in bytes is ended after any entry.
const LEAF_MAX_BYTES: usize = 128 << 10;
/// An index chunk or chunk list of this length in bytes is ended.
const INDEX_BYTES: usize = 256 << 10;

/// Where tree chunks go.
pub trait ChunkSink {
    /// Why a chunk cannot be stored.
    type Error;

    /// Stores a chunk of a tree, or finds it stored already.
    fn store(&mut self, bytes: &[u8]) -> Result<ChunkRef, Self::Error>;

    /// Closes the pack at hand and waits until every pack so far has its name.
    fn close(&mut self) -> Result<(), Self::Error>;

    /// The packs that references point to; all closed ones are resolved.
    fn packs(&self) -> std::sync::MutexGuard<'_, PackSet>;
}

/// The top index chunk of a finished tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeRoot {
    /// The chunk.
    pub index: ChunkRef,
    /// Entries in the tree.
    pub entries: u64,
}

/// Turns entries, in order, into leaves.
#[derive(Default)]
pub struct TreeBuilder {
    body: Vec<u8>,
    local: LocalPacks,
    names: OwnerNames,
    first: Vec<u8>,
    count: u64,
    leaves: Vec<Child>,
}

impl TreeBuilder {
    /// Adds the next entry. `names` must know the names of its owners that have any; `on_leaf` gets the bytes of each
    /// leaf that ends.
    ///
    /// # Errors
    /// What the sink reports, or [`CodecError`] for an entry that is too long to store.
    pub fn push<S: ChunkSink>(
        &mut self,
        entry: &Entry,
        names: &OwnerNames,
        sink: &mut S,
        on_leaf: &mut dyn FnMut(&[u8]),
    ) -> Result<(), S::Error>
    where
        S::Error: From<CodecError>,
    {
        if self.count == 0 {
            self.first.clone_from(&entry.path);
        }
        encode_entry(&mut self.body, &mut |pack| self.local.number(pack), entry)?;
        self.count += 1;
        if let Some(name) = names.users.get(&entry.uid) {
            self.names.users.entry(entry.uid).or_insert_with(|| name.clone());
        }
        if let Some(name) = names.groups.get(&entry.gid) {
            self.names.groups.entry(entry.gid).or_insert_with(|| name.clone());
        }
        if self.body.len() >= LEAF_MAX_BYTES || (self.body.len() >= LEAF_MIN_BYTES && ends_leaf(&entry.path)) {
            self.end_leaf(sink, on_leaf)?;
        }
        Ok(())
    }

    fn end_leaf<S: ChunkSink>(&mut self, sink: &mut S, on_leaf: &mut dyn FnMut(&[u8])) -> Result<(), S::Error> {
        let mut leaf = Vec::with_capacity(self.body.len() + 1024);
        encode_header(&mut leaf, &self.local, &sink.packs(), &self.names, 0);
        leaf.append(&mut self.body);
        assert!(leaf.len() <= MAX_TREE_CHUNK_BYTES, "a leaf ends long before 1 MiB");
        on_leaf(&leaf);
        let chunk = sink.store(&leaf)?;
        self.leaves.push(Child { first: std::mem::take(&mut self.first), chunk, entries: self.count });
        self.local = LocalPacks::default();
        self.names = OwnerNames::default();
        self.count = 0;
        Ok(())
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn finish<S: ChunkSink>(mut self, sink: &mut S, on_leaf: &mut dyn FnMut(&[u8])) -> Result<Leaves, S::Error> {
        if self.count > 0 {
            self.end_leaf(sink, on_leaf)?;
        }
        Ok(Leaves(self.leaves))
    }
}

/// The leaves of a tree, ready to be indexed.
pub struct Leaves(Vec<Child>);

/// Writes the indexes of all trees, level by level, so that a level of all of them shares packs.
///
/// The packs of the last level stay open: who has more to store beside the top index chunks can, and closes then.
/// `on_pack` gets the number of every pack that leaves and index chunks refer to.
///
/// # Errors
/// What the sink reports.
pub fn write_indexes<S: ChunkSink>(
    trees: Vec<Leaves>,
    sink: &mut S,
    on_pack: &mut dyn FnMut(u32),
) -> Result<Vec<TreeRoot>, S::Error> {
    let mut levels: Vec<Vec<Child>> = trees.into_iter().map(|leaves| leaves.0).collect();
    let mut level = 1;
    // An index has at least one level, also over a single leaf.
    while level == 1 || levels.iter().any(|children| children.len() > 1) {
        sink.close()?;
        for children in &mut levels {
            if level == 1 || children.len() > 1 {
                children.iter().for_each(|child| on_pack(child.chunk.pack));
                *children = index_level(children, level, sink)?;
            }
        }
        level += 1;
    }
    let root = |children: Vec<Child>| TreeRoot { index: children[0].chunk, entries: children[0].entries };
    Ok(levels.into_iter().map(root).collect())
}

/// Whether a leaf may end after the entry with this path: one in about 256.
fn ends_leaf(path: &[u8]) -> bool {
    blake3::hash(path).as_bytes()[1] == 0
}

fn index_level<S: ChunkSink>(children: &[Child], level: u32, sink: &mut S) -> Result<Vec<Child>, S::Error> {
    let mut above = Vec::new();
    let mut rest = children;
    while let Some(first) = rest.first() {
        let (mut body, mut local, mut taken, mut entries) = (Vec::new(), LocalPacks::default(), 0, 0);
        while taken < rest.len() && body.len() < INDEX_BYTES {
            encode_child(&mut body, &mut |pack| local.number(pack), &rest[taken]);
            entries += rest[taken].entries;
            taken += 1;
        }
        let mut chunk = Vec::with_capacity(body.len() + 1024);
        encode_header(&mut chunk, &local, &sink.packs(), &OwnerNames::default(), level);
        chunk.append(&mut body);
        above.push(Child { first: first.first.clone(), chunk: sink.store(&chunk)?, entries });
        rest = &rest[taken..];
    }
    Ok(above)
}

/// Stores a long list of chunks as chunks of its own; the packs in it must be closed.
///
/// # Errors
/// What the sink reports.
pub fn store_refs<S: ChunkSink>(refs: &[ChunkRef], sink: &mut S) -> Result<Vec<ChunkRef>, S::Error> {
    let mut stored = Vec::new();
    let mut rest = refs;
    while !rest.is_empty() {
        let (mut body, mut local, mut taken) = (Vec::new(), LocalPacks::default(), 0);
        while taken < rest.len() && body.len() < INDEX_BYTES {
            encode_ref(&mut body, &mut |pack| local.number(pack), &rest[taken]);
            taken += 1;
        }
        let mut chunk = Vec::new();
        encode_header(&mut chunk, &local, &sink.packs(), &OwnerNames::default(), 0);
        chunk.append(&mut body);
        stored.push(sink.store(&chunk)?);
        rest = &rest[taken..];
    }
    Ok(stored)
}
