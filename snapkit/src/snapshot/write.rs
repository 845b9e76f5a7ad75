//! Writing what was captured: leaves, indexes, the list of packs and the segment.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use bytes::Bytes;
use manifests::refusal::{Class, Refusal};

use super::SnapshotError;
use super::capture::{Assembled, Counts};
use super::sink::PackSink;
use crate::digest::Digests;
use crate::entry::{ChunkList, ChunkRef, Kind, LocalPacks, MAX_INLINE, OwnerNames, encode_header};
use crate::id::SegmentId;
use crate::located::Located;
use crate::pack::PackInfo;
use crate::scan::cache::{CacheWriter, CachedTree, Seen, packs_of};
use crate::segment::{Segment, SegmentError};
use crate::store::{Store, StoreError};
use crate::tree::{ChunkSink, Leaves, TreeBuilder, store_refs, write_indexes};

/// Packs listed in one chunk of the list of packs.
const PACKS_PER_LIST: usize = 4096;

/// A tree of the new snapshot.
pub(super) struct Written {
    pub(super) index: Located,
    pub(super) digests: Digests,
    pub(super) counts: Counts,
    /// The cache of a tree that changed, not in place yet.
    pub(super) cache: Option<(CacheWriter, CachedTree)>,
}

/// A tree whose leaves are written.
pub(super) struct Leafed {
    leaves: Leaves,
    digests: Digests,
    counts: Counts,
    cache: CacheWriter,
    packs: BTreeSet<u32>,
}

fn local(error: io::Error) -> SnapshotError {
    SnapshotError::LocalTable(error)
}

/// Writes the leaves of one tree. The packs of its data must be closed.
pub(super) fn write_leaves(
    mut tree: Assembled,
    cache: &Path,
    sink: &mut PackSink<'_>,
) -> Result<Leafed, SnapshotError> {
    let mut long_lists = if tree.has_long_lists { store_long_lists(&mut tree, sink)? } else { Vec::new() }.into_iter();
    let mut cache = CacheWriter::create(cache).map_err(local)?;
    let mut builder = TreeBuilder::default();
    let mut packs = BTreeSet::new();
    let mut seen_of_leaf: Vec<Seen> = Vec::new();
    let mut cached = Ok(());
    for row in tree.spool.read().map_err(local)? {
        let (mut entry, seen) = row.map_err(local)?;
        if let Kind::File { chunks, .. } = &mut entry.kind {
            if let ChunkList::Inline(list) = chunks {
                packs.extend(list.iter().map(|r| r.pack));
                if list.len() > MAX_INLINE {
                    *chunks = ChunkList::Stored(long_lists.next().expect("every long list was stored"));
                }
            }
            packs.extend(packs_of(&entry));
        }
        seen_of_leaf.push(seen);
        builder.push(&entry, &tree.names, sink, &mut |leaf| {
            let seen = std::mem::take(&mut seen_of_leaf);
            if cached.is_ok() {
                cached = cache.push(leaf, &seen);
            }
        })?;
    }
    let leaves = builder.finish(sink, &mut |leaf| {
        if cached.is_ok() {
            cached = cache.push(leaf, &seen_of_leaf);
        }
    })?;
    cached.map_err(local)?;
    Ok(Leafed { leaves, digests: tree.digests, counts: tree.counts, cache, packs })
}

/// Stores the chunk lists that no entry can hold, in the order of their entries.
fn store_long_lists(tree: &mut Assembled, sink: &mut PackSink<'_>) -> Result<Vec<Vec<ChunkRef>>, SnapshotError> {
    let mut stored = Vec::new();
    for row in tree.spool.read().map_err(local)? {
        if let Kind::File { chunks: ChunkList::Inline(list), .. } = row.map_err(local)?.0.kind
            && list.len() > MAX_INLINE
        {
            stored.push(store_refs(&list, sink)?);
        }
    }
    // Leaves refer to these, so they need names first.
    sink.close()?;
    Ok(stored)
}

/// Writes the indexes of all changed trees.
pub(super) fn index_trees(
    trees: Vec<Leafed>,
    sink: &mut PackSink<'_>,
) -> Result<(Vec<PendingTree>, BTreeSet<u32>), SnapshotError> {
    let mut shared = BTreeSet::new();
    let (leaves, rest): (Vec<Leaves>, Vec<_>) =
        trees.into_iter().map(|t| (t.leaves, (t.digests, t.counts, t.cache, t.packs))).unzip();
    let roots = write_indexes(leaves, sink, &mut |pack| {
        shared.insert(pack);
    })?;
    let pending = roots
        .into_iter()
        .zip(rest)
        .map(|(root, (digests, counts, cache, packs))| PendingTree { index: root.index, digests, counts, cache, packs })
        .collect();
    Ok((pending, shared))
}

/// A tree whose top index chunk lies in a pack that is still open.
pub(super) struct PendingTree {
    pub(super) index: ChunkRef,
    digests: Digests,
    counts: Counts,
    cache: CacheWriter,
    packs: BTreeSet<u32>,
}

impl PendingTree {
    /// The packs that hold the files of the tree.
    pub(super) fn data_packs(&self) -> &BTreeSet<u32> {
        &self.packs
    }

    /// The tree, once all packs are closed. `shared` are the packs of leaves and indexes of the run.
    pub(super) fn finish(self, shared: &BTreeSet<u32>, sink: &PackSink<'_>) -> Written {
        let packs = sink.packs();
        let used: BTreeSet<u32> = self.packs.iter().chain(shared).copied().chain([self.index.pack]).collect();
        let infos: Vec<PackInfo> = used.into_iter().map(|pack| packs.get(pack)).collect();
        let index = Located::new(&self.index, &packs);
        let tree = CachedTree {
            index,
            digests: self.digests,
            entries: self.counts.entries,
            files: self.counts.files,
            bytes: self.counts.bytes,
            packs: infos,
        };
        Written { index, digests: self.digests, counts: self.counts, cache: Some((self.cache, tree)) }
    }
}

/// Stores the list of `packs` beside the top index chunks; not closed afterwards.
pub(super) fn store_pack_list(packs: &[u32], sink: &mut PackSink<'_>) -> Result<Vec<ChunkRef>, SnapshotError> {
    let mut refs = Vec::new();
    for part in packs.chunks(PACKS_PER_LIST) {
        let mut local = LocalPacks::default();
        part.iter().for_each(|pack| {
            local.number(*pack);
        });
        let mut chunk = Vec::new();
        encode_header(&mut chunk, &local, &sink.packs(), &OwnerNames::default(), 0);
        refs.push(sink.store(&chunk)?);
    }
    Ok(refs)
}

/// Puts a segment file into the store and into the cache; its name and length.
pub(super) fn store_segment(
    file: tempfile::NamedTempFile,
    store: &dyn Store,
    cache: &Path,
) -> Result<(SegmentId, u64), SnapshotError> {
    let bytes = Bytes::from(fs::read(file.path()).map_err(local)?);
    let id = SegmentId::of(&bytes);
    let len = bytes.len() as u64;
    store.put(&id.key(), bytes)?;
    file.persist(cache.join(id.to_string())).map_err(|error| local(error.error))?;
    Ok((id, len))
}

/// A new file for a segment in `directory`.
pub(super) fn segment_file(directory: &Path) -> Result<BufWriter<tempfile::NamedTempFile>, SnapshotError> {
    fs::create_dir_all(directory).map_err(local)?;
    Ok(BufWriter::new(tempfile::NamedTempFile::new_in(directory).map_err(local)?))
}

/// Opens the local copy of a segment; fetches it first if there is none. `None` when the store's copy is damaged or gone.
///
/// # Errors
/// When the store or the cache directory fails, or a newer snapkit wrote the segment.
pub fn local_segment(
    id: SegmentId,
    bytes: u64,
    store: &dyn Store,
    directory: &Path,
) -> Result<Option<Segment>, SnapshotError> {
    let path: PathBuf = directory.join(id.to_string());
    if let Some(segment) = File::open(&path).ok().and_then(|file| Segment::open(file).ok()) {
        return Ok(Some(segment));
    }
    let found = match store.get(&id.key(), bytes) {
        Ok(found) if SegmentId::of(&found) == id => found,
        Ok(_) | Err(StoreError::Missing { .. } | StoreError::Short { .. } | StoreError::TooBig { .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    fs::create_dir_all(directory).map_err(local)?;
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(local)?;
    io::Write::write_all(&mut file, &found).map_err(local)?;
    // Whoever signed its name may have written anything into it; what is probed and merged later is checked here once.
    match Segment::open(file.reopen().map_err(local)?).and_then(|segment| segment.check_rows().map(|()| segment)) {
        Ok(segment) => {
            file.persist(&path).map_err(|error| local(error.error))?;
            Ok(Some(segment))
        }
        Err(SegmentError::Damaged(_)) => Ok(None),
        Err(SegmentError::Read(error)) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(SegmentError::Newer(version)) => Err(SnapshotError::Newer(Box::new(Refusal::new(
            Class::Newer,
            id.key(),
            "segment version 0",
            format!("version {version}"),
        )))),
        Err(SegmentError::Read(error)) => Err(local(error)),
    }
}

/// The lock that a mutex of a finished thread leaves behind is of no interest.
pub(super) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
