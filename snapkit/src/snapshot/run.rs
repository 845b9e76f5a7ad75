//! One run: from the chain's newest record to everything a new record refers to.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::record::SegmentRef;
use manifests::document::snapshot as document;

use super::capture::{Captured, Context, Counts, capture};
use super::index::{ChunkIndex, Reusable};
use super::journal::Journal;
use super::sink::{PackSink, SinkState};
use super::write::{
    Leafed, Written, index_trees, local_segment, segment_file, store_pack_list, store_segment, write_leaves,
};
use super::{Options, Problem, ProblemKind, SnapshotError, Source};
use crate::cancel::Cancel;
use crate::digest::{Digests, of_state};
use crate::entry::{PackSet, printable};
use crate::id::{ContentHash, PackId, SegmentId};
use crate::located::{pack_from_document, pack_to_document};
use crate::pack::PackInfo;
use crate::progress::Progress;
use crate::scan::cache::{CacheWriter, CachedTree};
use crate::store::Store;
use crate::tree::ChunkSink;

/// What the chain holds already.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// Segments of the newest record, oldest first.
    pub segments: Vec<SegmentRef>,
    /// The newest snapshot.
    pub snapshot: Option<document::Snapshot>,
}

/// Where a chain's local files lie. All of them may be deleted at any time.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Cache of this chain.
    pub cache: PathBuf,
}

impl Directories {
    fn segments(&self) -> PathBuf {
        self.cache.join("segments")
    }

    fn journal(&self) -> PathBuf {
        self.cache.join("journal")
    }

    fn scratch(&self) -> PathBuf {
        self.cache.join("scratch")
    }

    /// Packs that `verify` found damaged, one name a line.
    pub fn damaged(&self) -> PathBuf {
        self.cache.join("damaged-packs")
    }

    fn scan(&self, source: &Source) -> PathBuf {
        let directory = std::fs::canonicalize(&source.directory).unwrap_or_else(|_| source.directory.clone());
        let name = format!("{}\0{}", source.name, directory.display());
        self.cache.join("scan").join(&ContentHash::of(name.as_bytes()).to_string()[..32])
    }
}

/// What a run has stored, ready to be committed.
pub struct Outcome {
    /// Body of the record.
    pub body: document::Snapshot,
    /// The record's segments, when they changed.
    pub segments: Option<Vec<SegmentRef>>,
    /// Paths that were not captured as they should be.
    pub problems: Vec<Problem>,
    /// Whether the state differs from that of the newest snapshot.
    pub changed: bool,
    /// Packs and segments written.
    pub new_objects: u64,
    /// Their length in bytes.
    pub stored_bytes: u64,
    /// Raw bytes that were not in the chain before.
    pub new_bytes: u64,
    /// What to do once the record is committed.
    pub pending: Pending,
}

/// Local files that become true with the commit.
pub struct Pending {
    caches: Vec<(CacheWriter, CachedTree)>,
    journal: Journal,
}

impl Pending {
    /// Puts the scan caches in place and forgets the journal: the record was committed.
    ///
    /// # Errors
    /// When the cache directory cannot be written; the snapshot is safe all the same.
    pub fn committed(self) -> Result<(), SnapshotError> {
        for (cache, tree) in self.caches {
            cache.finish(&tree).map_err(SnapshotError::LocalTable)?;
        }
        self.journal.clear().map_err(SnapshotError::LocalTable)
    }

    /// As [`Pending::committed`], where the directories will not be there at the next run.
    ///
    /// # Errors
    /// As [`Pending::committed`].
    pub fn committed_without_caches(self) -> Result<(), SnapshotError> {
        Self { caches: Vec::new(), ..self }.committed()
    }
}

/// Captures the sources and stores all but the record. `sources` ascend by name.
///
/// # Errors
/// [`SnapshotError`]; what was stored is reused by the next run.
pub fn take(
    store: &dyn Store,
    sources: &[Source],
    options: &Options,
    base: &Base,
    directories: &Directories,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Outcome, SnapshotError> {
    let started = Timestamp::now();
    std::fs::create_dir_all(directories.scratch()).map_err(SnapshotError::LocalTable)?;
    let journal = Journal::open(&directories.journal()).map_err(SnapshotError::LocalTable)?;
    let reusable = Reusable::new(list_packs(store)?, damaged_packs(&directories.damaged()));
    let mut packs = PackSet::default();
    let (segment_refs, segments) = open_segments(store, base, directories)?;
    let index = ChunkIndex::new(segments, &reusable, &mut packs, directories.scratch());
    let state = SinkState::new(packs, cancel.clone());
    let mut problems = Vec::new();

    std::thread::scope(|scope| {
        let mut sink = PackSink::start(scope, &state, store, &journal, index, options.level);
        for (pack, rows) in journal.leftovers() {
            if reusable.allows(&pack) {
                sink.adopt(pack, rows)?;
            }
        }
        let scratch = directories.scratch();
        let context =
            Context { options, reusable: &reusable, packs: state.packs(), cancel, progress, scratch: &scratch };
        progress.start_phase("reading");
        let mut captured = Vec::new();
        for source in sources {
            let cache = directories.scan(source);
            captured.push(capture(&context, &source.name, &source.directory, &cache, &mut sink, &mut problems)?);
        }
        progress.start_phase("writing");
        let trees = write_trees(captured, sources, directories, base, &mut sink)?;
        let stored = sink.stored();
        let new_bytes = sink.new_bytes;
        let mut index = sink.into_index();
        let mut new_objects = stored.packs.len() as u64;
        let mut stored_bytes = stored.bytes();
        let segments = if index.is_unchanged() && segment_refs.len() == base.segments.len() {
            None
        } else if index.is_unchanged() {
            Some(segment_refs)
        } else {
            let mut file = segment_file(&directories.segments())?;
            let kept = index
                .write_segment(&super::write::lock(state.packs()), &mut file)
                .map_err(SnapshotError::LocalTable)?;
            let file = file.into_inner().map_err(|error| SnapshotError::LocalTable(error.into_error()))?;
            let (id, bytes) = store_segment(file, store, &directories.segments())?;
            new_objects += 1;
            stored_bytes += bytes;
            let mut list = segment_refs[..kept].to_vec();
            list.push(SegmentRef { id: Digest(id.0), bytes });
            Some(list)
        };
        let body = body(sources, &trees, &problems, started);
        let changed = base.snapshot.as_ref().is_none_or(|b| b.private.full_digest != body.private.full_digest);
        let caches = trees.written.into_iter().filter_map(|tree| tree.cache).collect();
        let pending =
            Pending { caches, journal: Journal::open(&directories.journal()).map_err(SnapshotError::LocalTable)? };
        Ok(Outcome {
            body,
            segments,
            problems: std::mem::take(&mut problems),
            changed,
            new_objects,
            stored_bytes,
            new_bytes,
            pending,
        })
    })
}

fn list_packs(store: &dyn Store) -> Result<HashMap<PackId, u64>, SnapshotError> {
    let mut seen = HashMap::new();
    store.list("packs/", None, &mut |key, bytes| {
        if let Some(id) = key.rsplit('/').next().and_then(|name| PackId::from_str(name).ok()) {
            seen.insert(id, bytes);
        }
    })?;
    Ok(seen)
}

fn damaged_packs(path: &Path) -> HashSet<PackId> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

type Segments = (Vec<SegmentRef>, Vec<crate::segment::Segment>);

/// The segments of the base that can be had. One that is lost is left out: its chunks are stored again where needed.
fn open_segments(store: &dyn Store, base: &Base, directories: &Directories) -> Result<Segments, SnapshotError> {
    let mut all = (Vec::new(), Vec::new());
    for segment in &base.segments {
        if let Some(open) = local_segment(SegmentId(segment.id.0), segment.bytes, store, &directories.segments())? {
            all.0.push(segment.clone());
            all.1.push(open);
        }
    }
    Ok(all)
}

/// All trees of the snapshot, in the order of the sources, and the list of the packs they need.
struct Trees {
    written: Vec<Written>,
    packs: document::Packs,
}

fn write_trees(
    captured: Vec<Captured>,
    sources: &[Source],
    directories: &Directories,
    base: &Base,
    sink: &mut PackSink<'_>,
) -> Result<Trees, SnapshotError> {
    // Tree chunks go into packs of their own.
    sink.close()?;
    let mut unchanged: HashMap<usize, CachedTree> = HashMap::new();
    let mut changed: Vec<(usize, Leafed)> = Vec::new();
    for (i, tree) in captured.into_iter().enumerate() {
        match tree {
            Captured::Unchanged(tree) => {
                unchanged.insert(i, *tree);
            }
            Captured::Changed(tree) => changed.push((i, write_leaves(*tree, &directories.scan(&sources[i]), sink)?)),
        }
    }
    if changed.is_empty()
        && let Some(packs) = same_packs(base, sources, &unchanged)
    {
        return Ok(Trees { written: (0..sources.len()).map(|i| as_written(&unchanged[&i])).collect(), packs });
    }
    let (order, leafed): (Vec<usize>, Vec<Leafed>) = changed.into_iter().unzip();
    let (pending, shared) = if leafed.is_empty() { (Vec::new(), BTreeSet::new()) } else { index_trees(leafed, sink)? };
    let mut listed: BTreeSet<u32> = shared.clone();
    listed.extend(pending.iter().flat_map(|tree| tree.data_packs()));
    for tree in unchanged.values() {
        listed.extend(tree.packs.iter().map(|pack| sink.packs().index(*pack)));
    }
    // The packs with the top index chunks and this list are still open, or older ones where nothing was new.
    let mut last: BTreeSet<u32> = pending.iter().map(|tree| tree.index.pack).collect();
    let mut listed: Vec<u32> = listed.difference(&last).copied().collect();
    // By name, so that the same packs give the same list whatever numbers they have in this run.
    listed.sort_unstable_by_key(|pack| sink.packs().get(*pack).id);
    let list = store_pack_list(&listed, sink)?;
    last.extend(list.iter().map(|r| r.pack));
    sink.close()?;
    let mut written: HashMap<usize, Written> =
        order.into_iter().zip(pending).map(|(i, tree)| (i, tree.finish(&shared, sink))).collect();
    let written =
        (0..sources.len()).map(|i| written.remove(&i).unwrap_or_else(|| as_written(&unchanged[&i]))).collect();
    let packs = sink.packs();
    let last: Vec<PackInfo> = last.into_iter().map(|pack| packs.get(pack)).collect();
    let all: HashSet<PackInfo> = listed.iter().map(|pack| packs.get(*pack)).chain(last.iter().copied()).collect();
    let packs = document::Packs {
        count: all.len() as u64,
        bytes: all.iter().map(|pack| pack.pack_bytes).sum(),
        list: list.iter().map(|r| crate::located::Located::new(r, &packs).to_document()).collect(),
        last: last.iter().map(pack_to_document).collect(),
    };
    Ok(Trees { written, packs })
}

fn as_written(tree: &CachedTree) -> Written {
    let counts = Counts { entries: tree.entries, files: tree.files, bytes: tree.bytes, torn: 0 };
    Written { index: tree.index, digests: tree.digests, counts, cache: None }
}

/// The base's list of packs, if its trees are the very same.
fn same_packs(base: &Base, sources: &[Source], trees: &HashMap<usize, CachedTree>) -> Option<document::Packs> {
    let snapshot = base.snapshot.as_ref()?;
    let same = snapshot.private.trees.len() == sources.len()
        && snapshot.private.trees.iter().enumerate().all(|(i, tree)| {
            tree.name == sources[i].name && trees.get(&i).is_some_and(|known| known.index.to_document() == tree.index)
        })
        && snapshot.public.packs.last.iter().all(|pack| pack_from_document(pack).is_some());
    same.then(|| snapshot.public.packs.clone())
}

fn body(sources: &[Source], trees: &Trees, problems: &[Problem], started: Timestamp) -> document::Snapshot {
    let digest = |hash: ContentHash| Digest(hash.0);
    let state: Digests =
        of_state(sources.iter().zip(&trees.written).map(|(source, tree)| (source.name.as_str(), tree.digests)));
    let sum = |number: fn(&Counts) -> u64| trees.written.iter().map(|tree| number(&tree.counts)).sum();
    let unreadable = problems.iter().filter(|problem| problem.kind == ProblemKind::Unreadable).count() as u64;
    document::Snapshot {
        public: document::Public {
            complete: unreadable == 0,
            trees: trees.written.len() as u64,
            entries: sum(|counts| counts.entries),
            files: sum(|counts| counts.files),
            bytes: sum(|counts| counts.bytes),
            torn: sum(|counts| counts.torn),
            unreadable,
            packs: trees.packs.clone(),
        },
        private: document::Private {
            started,
            finished: Timestamp::now(),
            content_digest: digest(state.content),
            full_digest: digest(state.full),
            trees: sources
                .iter()
                .zip(&trees.written)
                .map(|(source, tree)| document::Tree {
                    name: source.name.clone(),
                    path: printable(std::os::unix::ffi::OsStrExt::as_bytes(source.directory.as_os_str())),
                    content_digest: digest(tree.digests.content),
                    full_digest: digest(tree.digests.full),
                    entries: tree.counts.entries,
                    files: tree.counts.files,
                    bytes: tree.counts.bytes,
                    index: tree.index.to_document(),
                })
                .collect(),
        },
    }
}
